//! Locks between processes: one session per token, one publish per data source, one per receipt.
//!
//! The system's own file locks, because they end with their process, however it ends. The file's content only tells who
//! holds it. Files are never removed: another process may have opened one and be waiting on it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};

/// The wait between two tries grows from here to [`SLOWEST`].
const FIRST: Duration = Duration::from_millis(20);
/// Nobody minds to get a token a second late.
const SLOWEST: Duration = Duration::from_secs(1);
/// Of a command line, this many words say what it does.
const WORDS: usize = 4;
/// A holder's note is short; more than this is not one.
const NOTE: u64 = 4096;

/// A lock; let go when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

/// Who holds a lock, as its file tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pid: u32,
    /// Distinguishes processes of one number: containers share a directory and each has a process 1.
    process: String,
    command: String,
    since: chrono::DateTime<chrono::Utc>,
}

/// What is locked, and where.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    /// The directory of locks; `None` is the user's.
    pub(crate) directory: Option<&'a Path>,
    /// What tells one lock from another.
    pub(crate) key: &'a [&'a str],
    /// The thing in words: ``token `x` ``.
    pub(crate) what: String,
    /// How long to wait.
    pub(crate) wait: Duration,
}

/// How a wait ended.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is ours.
    Ours(Lock),
    /// It cannot be had on this machine; the reason.
    NotHere(String),
}

impl Lock {
    /// Takes a lock, waiting for it as long as `wanted` says.
    ///
    /// `ours` decides what a lock means that this very process holds elsewhere: an error, or `None` to wait for it too.
    pub(crate) async fn take(wanted: &Wanted<'_>, ours: impl Fn() -> Option<Error> + Send) -> Result<Taken> {
        let path = match prepare(wanted) {
            Ok(path) => path,
            Err(e) => return Ok(Taken::NotHere(e.to_string())),
        };
        let begun = Instant::now();
        let (mut pause, mut told) = (FIRST, false);
        loop {
            match try_once(&path) {
                Ok(Some(lock)) => return Ok(Taken::Ours(lock)),
                Ok(None) => {}
                Err(e) => return Ok(Taken::NotHere(format!("{}: {e}", path.display()))),
            }
            let holder = holder(&path);
            if holder.as_ref().is_some_and(|h| h.process == this_process())
                && let Some(error) = ours()
            {
                return Err(error);
            }
            let left = wanted.wait.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(held(wanted, holder.as_ref()));
            }
            if !told {
                tracing::info!("waiting for the {}, held by {}", wanted.what, show(holder.as_ref()));
                told = true;
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 3 / 2).min(SLOWEST);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before it is let go, so that nobody reads a holder that is none.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

fn prepare(wanted: &Wanted<'_>) -> std::io::Result<PathBuf> {
    let directory = wanted.directory.map_or_else(directory, |d| Some(d.to_owned()));
    let directory = directory.ok_or_else(|| std::io::Error::other("there is no home directory"))?;
    std::fs::create_dir_all(&directory)?;
    let mut digest = Sha256::new();
    for part in wanted.key {
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    let name: String = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Ok(directory.join(format!("{name}.lock")))
}

/// `$XDG_STATE_HOME/lakeport/locks`, or what stands for it.
fn directory() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = of("XDG_STATE_HOME").or_else(|| Some(of("HOME")?.join(".local/state"))).or_else(|| of("LOCALAPPDATA"))?;
    Some(state.join("lakeport").join("locks"))
}

fn try_once(path: &Path) -> std::io::Result<Option<Lock>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(e)) => return Err(e),
    }
    let mut lock = Lock { file };
    // A note that cannot be written makes the lock no worse.
    if let Ok(note) = serde_json::to_vec(&this()) {
        let _ = lock.file.set_len(0);
        let _ = lock.file.seek(SeekFrom::Start(0));
        let _ = lock.file.write_all(&note);
    }
    Ok(Some(lock))
}

fn holder(path: &Path) -> Option<Holder> {
    let mut note = Vec::new();
    File::open(path).ok()?.take(NOTE).read_to_end(&mut note).ok()?;
    serde_json::from_slice(&note).ok()
}

fn this_process() -> &'static str {
    static THIS: OnceLock<String> = OnceLock::new();
    THIS.get_or_init(|| uuid::Uuid::new_v4().simple().to_string())
}

fn this() -> Holder {
    // Words with a value in them, and addresses, may tell more than what is running.
    let mut words = std::env::args().filter(|word| !word.contains(['=', '@']) && !word.contains("://"));
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let command = std::iter::once(program).chain(words.take(WORDS)).collect::<Vec<_>>().join(" ");
    Holder { pid: std::process::id(), process: this_process().to_owned(), command, since: chrono::Utc::now() }
}

fn show(holder: Option<&Holder>) -> String {
    match holder {
        Some(h) => format!("process {} (`{}`) since {}", h.pid, h.command, h.since.format("%Y-%m-%d %H:%M:%S UTC")),
        None => "another process".to_owned(),
    }
}

fn held(wanted: &Wanted<'_>, holder: Option<&Holder>) -> Error {
    let seconds = wanted.wait.as_secs();
    let message = format!("the {} is held by {} and was not let go within {seconds} s", wanted.what, show(holder));
    Error::new(Kind::Locked, message)
        .help("wait for that process or end it, then run again; `lock_timeout` in the environment says how long to wait")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted<'a>(directory: &'a Path, key: &'a [&'a str], wait: u64) -> Wanted<'a> {
        Wanted { directory: Some(directory), key, what: "token `x`".into(), wait: Duration::from_millis(wait) }
    }

    async fn take(wanted: &Wanted<'_>) -> Result<Lock> {
        match Lock::take(wanted, || None).await? {
            Taken::Ours(lock) => Ok(lock),
            Taken::NotHere(why) => panic!("{why}"),
        }
    }

    #[tokio::test]
    async fn a_held_lock_names_its_holder_and_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(&wanted(dir.path(), &["a", "b"], 0)).await.unwrap();
        let other = take(&wanted(dir.path(), &["ab", ""], 0)).await.unwrap();
        let error = take(&wanted(dir.path(), &["a", "b"], 30)).await.unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (Kind::Locked, 5));
        assert!(error.message().contains(&format!("process {} (`", std::process::id())), "{error:?}");
        let letting_go = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(60)).await;
            drop(first);
        });
        take(&wanted(dir.path(), &["a", "b"], 5_000)).await.unwrap();
        letting_go.await.unwrap();
        drop(other);
    }

    #[tokio::test]
    async fn a_lock_of_this_process_may_be_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = wanted(dir.path(), &["a"], 60_000);
        let _lock = take(&wanted).await.unwrap();
        let error = Lock::take(&wanted, || Some(Error::new(Kind::ConfigInvalid, "twice"))).await.unwrap_err();
        assert_eq!(error.kind(), Kind::ConfigInvalid);
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_made_is_told_and_no_failure() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Lock::take(&wanted(file.path(), &["a"], 0), || None).await, Ok(Taken::NotHere(_))));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_lock_ends_with_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = wanted(dir.path(), &["a"], 0);
        let path = prepare(&wanted).unwrap();
        // `-F` runs the command in the same process, so that killing it ends all that holds the file.
        let Ok(mut child) = std::process::Command::new("flock")
            .arg("-F")
            .arg(&path)
            .args(["sh", "-c", "echo held; exec sleep 60"])
            .stdout(std::process::Stdio::piped())
            .spawn()
        else {
            // Not every system has the command.
            return;
        };
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
        assert_eq!(take(&wanted).await.unwrap_err().kind(), Kind::Locked);
        child.kill().unwrap();
        child.wait().unwrap();
        let mut patient = wanted.clone();
        patient.wait = Duration::from_secs(5);
        take(&patient).await.unwrap();
    }
}
