//! A file under a temporary name beside its target: renamed when whole, removed when not.
//!
//! The name carries the process that writes it, so that after a `kill -9` the next run on the same target knows which
//! leftovers are dead: `.orders.hyper.lakeport-4711-98765-1f2e3d4c-0.tmp`. Process ids mean something only where they were given:
//! a directory may be shared with other machines and containers, whose files are none of ours to judge.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crate::error::{Error, Kind, Result, Wrap};

const MARK: &str = ".lakeport-";
const END: &str = ".tmp";

/// The targets that this process writes.
static WRITTEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A target that nobody else in this process writes; given up when dropped.
#[derive(Debug)]
struct Claim(PathBuf);

impl Claim {
    fn on(target: &Path) -> Result<Self> {
        if WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).insert(target.to_owned()) {
            return Ok(Self(target.to_owned()));
        }
        Err(Error::new(Kind::Locked, format!("another job of this run writes {}", target.display()))
            .help("give each job a target of its own, or run them one after the other with --jobs 1"))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// A temporary file that becomes `target`.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    target: PathBuf,
    kept: bool,
    _claim: Claim,
    /// The sync that was begun ahead.
    ahead: Option<JoinHandle<io::Result<()>>>,
}

impl Temporary {
    /// Reserves a temporary name beside `target`, whose directory is created, and removes dead leftovers of earlier runs.
    ///
    /// # Errors
    /// `WriteFailed` when the directory cannot be created or `target` is no file name; `Locked` while this process already writes
    /// it.
    pub fn beside(target: &Path) -> Result<Self> {
        let target = if target.is_absolute() {
            target.to_owned()
        } else {
            std::env::current_dir().wrap(Kind::WriteFailed, || "there is no working directory".into())?.join(target)
        };
        let name = target
            .file_name()
            .ok_or_else(|| Error::new(Kind::Usage, format!("{} is no file name", target.display())))?
            .to_string_lossy()
            .into_owned();
        if target.is_dir() {
            return Err(
                Error::new(Kind::WriteFailed, format!("{} is a directory", target.display())).help("name a file inside it")
            );
        }
        let directory = target.parent().unwrap_or_else(|| Path::new("/"));
        std::fs::create_dir_all(directory).wrap(Kind::WriteFailed, || format!("cannot create {}", directory.display()))?;
        let claim = Claim::on(&target)?;
        sweep(&target);
        Ok(Self { path: directory.join(unique(&name)), target, kept: false, _claim: claim, ahead: None })
    }

    /// The temporary name to write to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to bring the file to the disk while it is completed and read back, so that [`Temporary::keep`] finds little left
    /// to wait for; nothing is begun while there is no file, as some writers make theirs when they finish.
    pub fn sync_ahead(&mut self) {
        let Ok(file) = std::fs::File::open(&self.path) else { return };
        // Without a thread it is synced when it is kept.
        self.ahead = std::thread::Builder::new().name("sync".into()).spawn(move || file.sync_all()).ok();
    }

    /// Syncs the file, gives it its name and syncs the directory; from here on the new content is what a reader sees.
    ///
    /// # Errors
    /// `WriteFailed`; the old target is then still there.
    pub fn keep(mut self) -> Result<PathBuf> {
        self.sync()?;
        std::fs::rename(&self.path, &self.target).wrap(Kind::WriteFailed, || self.unwritable())?;
        self.kept = true;
        self.named()
    }

    /// As [`Temporary::keep`], where nothing is yet.
    ///
    /// # Errors
    /// `TargetExists` when the name was taken, be it in the meantime; `WriteFailed`.
    pub fn keep_new(mut self) -> Result<PathBuf> {
        self.sync()?;
        let taken = || Error::new(Kind::TargetExists, format!("{} is already there", self.target.display()));
        // A link, unlike a rename, fails where there is something; the temporary name goes when this is dropped.
        match std::fs::hard_link(&self.path, &self.target) {
            Ok(()) => self.named(),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(taken()),
            // Some file systems have no links; there a look before has to do.
            Err(_) if self.target.symlink_metadata().is_ok() => Err(taken()),
            Err(_) => self.keep(),
        }
    }

    fn unwritable(&self) -> String {
        format!("cannot write {}", self.target.display())
    }

    /// Brings the content to the disk.
    fn sync(&mut self) -> Result<()> {
        // The system tells of a block that it could not write once: whoever asks next hears that all is well.
        let ahead = self.ahead.take().map_or(Ok(()), |sync| sync.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())));
        ahead.and_then(|()| std::fs::File::open(&self.path)?.sync_all()).wrap(Kind::WriteFailed, || self.unwritable())
    }

    /// Brings the name to the disk.
    fn named(&self) -> Result<PathBuf> {
        if let Some(directory) = self.target.parent()
            && let Ok(handle) = std::fs::File::open(directory)
        {
            handle.sync_all().wrap(Kind::WriteFailed, || self.unwritable())?;
        }
        Ok(self.target.clone())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A hidden directory beside `target` in which its parts are written; removed with everything in it when dropped.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    _claim: Claim,
}

impl Staging {
    /// Creates it, and the directory it lies in.
    ///
    /// # Errors
    /// `WriteFailed`; `Locked` while this process already writes the target.
    pub fn beside(target: &Path) -> Result<Self> {
        let directory = target.parent().unwrap_or_else(|| Path::new("/"));
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let claim = Claim::on(target)?;
        let path = directory.join(unique(&name));
        std::fs::create_dir_all(&path).wrap(Kind::WriteFailed, || format!("cannot create {}", path.display()))?;
        Ok(Self { path, _claim: claim })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes temporary files beside `target` whose writers are dead; a living writer's file stays.
pub fn sweep(target: &Path) {
    for dead in dead_beside(target) {
        let _ = std::fs::remove_file(dead);
    }
}

/// Temporary files and directories beside `target` whose writers are dead.
pub(crate) fn dead_beside(target: &Path) -> Vec<PathBuf> {
    let mut dead = Vec::new();
    let (Some(directory), Some(name)) = (target.parent(), target.file_name()) else { return dead };
    let prefix = format!(".{}{MARK}", name.to_string_lossy());
    let Ok(entries) = std::fs::read_dir(directory) else { return dead };
    for entry in entries.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = file.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(END)) else { continue };
        // A writer may keep a second file beside its first: PID-START-HERE-NUMBER.1.
        let owner = owner.split('.').next().unwrap_or(owner);
        let (pid, start) = match owner.split('-').collect::<Vec<_>>()[..] {
            [pid, start, place, _] if place == here() => (pid, start),
            // As names were before they told the place.
            [pid, start] => (pid, start),
            _ => continue,
        };
        let (Ok(pid), Ok(start)) = (pid.parse::<u32>(), start.parse::<u64>()) else { continue };
        // A recycled process id has another start time.
        if start_of(pid) != Some(start) {
            dead.push(entry.path());
        }
    }
    dead
}

/// Removes what dead processes left of [`scratch`] directories for this purpose.
pub fn sweep_scratch(base: &Path, purpose: &str) {
    for dead in dead_beside(&base.join(purpose)) {
        // What is another user's stays, and is theirs to remove.
        let _ = std::fs::remove_dir_all(dead);
    }
}

/// A directory below `base` for what need not outlive this process; those of dead processes are removed.
///
/// # Errors
/// `WriteFailed`.
pub fn scratch(base: &Path, purpose: &str) -> Result<tempfile::TempDir> {
    let failed = || format!("cannot create a directory in {}", base.display());
    std::fs::create_dir_all(base).wrap(Kind::WriteFailed, failed)?;
    sweep_scratch(base, purpose);
    let name = unique(purpose);
    // A name that can be told ahead could be taken by somebody else.
    let prefix = format!("{}.", name.trim_end_matches(END));
    tempfile::Builder::new().prefix(&prefix).suffix(END).tempdir_in(base).wrap(Kind::WriteFailed, failed)
}

/// A name that no other temporary has, whoever else writes to the directory: `.NAME.lakeport-PID-START-HERE-NUMBER.tmp`.
fn unique(name: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let me = std::process::id();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!(".{name}{MARK}{me}-{}-{}-{number}{END}", start_of(me).unwrap_or(0), here())
}

/// Eight digits for the machine and the container in which process ids are what they are here; the same after a restart, for
/// what a machine that lost its power left is to be found.
fn here() -> &'static str {
    static HERE: OnceLock<String> = OnceLock::new();
    HERE.get_or_init(|| {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        // `pid:[4026531836]`, after its inode.
        let ids = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let place = format!("{}{}{}", read("/etc/machine-id"), read("/proc/sys/kernel/hostname"), ids.display());
        format!("{:08x}", xxhash_rust::xxh3::xxh3_64(place.as_bytes()) >> 32)
    })
}

/// When a living process started, in clock ticks since boot; `None` when there is none (field 22 of `/proc/PID/stat`).
fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_file_leaves_the_target_and_no_rubbish() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x.hyper");
        std::fs::write(&target, "old").unwrap();
        let temporary = Temporary::beside(&target).unwrap();
        std::fs::write(temporary.path(), "half").unwrap();
        drop(temporary);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_sync_that_failed_ahead_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x.hyper");
        std::fs::write(&target, "old").unwrap();
        let mut temporary = Temporary::beside(&target).unwrap();
        std::fs::write(temporary.path(), "new").unwrap();
        // The sync in `keep` itself succeeds.
        temporary.ahead = Some(std::thread::spawn(|| Err(io::ErrorKind::Other.into())));
        assert_eq!(temporary.keep().unwrap_err().kind(), Kind::WriteFailed);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
    }

    #[test]
    fn a_file_made_after_the_sync_was_asked_for_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut temporary = Temporary::beside(&dir.path().join("x.xlsx")).unwrap();
        temporary.sync_ahead();
        std::fs::write(temporary.path(), "new").unwrap();
        assert_eq!(std::fs::read_to_string(temporary.keep().unwrap()).unwrap(), "new");
    }

    #[test]
    fn a_name_that_was_taken_meanwhile_is_left_to_who_took_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x.hyper");
        let late = Temporary::beside(&target).unwrap();
        std::fs::write(late.path(), "late").unwrap();
        std::fs::write(&target, "first").unwrap();
        assert_eq!(late.keep_new().unwrap_err().kind(), Kind::TargetExists);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "first");
        std::fs::remove_file(&target).unwrap();
        let next = Temporary::beside(&target).unwrap();
        std::fs::write(next.path(), "next").unwrap();
        assert_eq!(std::fs::read_to_string(next.keep_new().unwrap()).unwrap(), "next");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn leftovers_of_the_dead_go_and_those_of_the_living_stay() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x.hyper");
        let dead = dir.path().join(".x.hyper.lakeport-999999999-1.tmp");
        let recycled = dir.path().join(format!(".x.hyper.lakeport-{}-1.tmp", std::process::id()));
        std::fs::write(&dead, "").unwrap();
        std::fs::write(&recycled, "").unwrap();
        let mine = Temporary::beside(&target).unwrap();
        std::fs::write(mine.path(), "new").unwrap();
        sweep(&target);
        assert!(!dead.exists() && !recycled.exists() && mine.path().exists());
        mine.keep().unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "new");
    }

    #[test]
    fn a_scratch_directory_of_a_dead_process_goes_with_the_next() {
        let base = tempfile::tempdir().unwrap();
        let mine = scratch(base.path(), "lakeport-test").unwrap();
        let name = mine.path().file_name().unwrap().to_string_lossy().into_owned();
        let me = format!("{MARK}{}-", std::process::id());
        assert!(name.starts_with(".lakeport-test") && name.contains(&me), "{name}");
        let dead = mine.path().with_file_name(name.replace(&me, &format!("{MARK}999999999-")));
        std::fs::create_dir_all(dead.join("spilled")).unwrap();
        let next = scratch(base.path(), "lakeport-test").unwrap();
        assert!(!dead.exists() && mine.path().is_dir() && next.path().is_dir());
    }

    #[test]
    fn leftovers_are_judged_only_where_their_process_ids_were_given() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x.hyper");
        let of = |place: &str, rest: &str| {
            let path = dir.path().join(format!(".x.hyper.lakeport-999999999-1-{place}-{rest}.tmp"));
            std::fs::write(&path, "").unwrap();
            path
        };
        let (dead, second) = (of(here(), "7"), of(here(), "7.1"));
        let elsewhere = ["00000000", "ffffffff", "12345678-1"].map(|place| of(place, "0"));
        assert_eq!(here().len(), 8);
        sweep(&target);
        assert!(!dead.exists() && !second.exists());
        assert!(elsewhere.iter().all(|path| path.exists()), "the file of another machine may be alive");
    }

    #[test]
    fn a_target_is_written_once_at_a_time_under_names_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x.hyper");
        let first = Temporary::beside(&target).unwrap();
        let error = Temporary::beside(&target).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("E155", Kind::Locked));
        assert!(error.message().contains("another job of this run writes"), "{error}");
        assert_eq!(Staging::beside(&target).unwrap_err().kind(), Kind::Locked);
        let path = first.path().to_owned();
        drop(first);
        let second = Temporary::beside(&target).unwrap();
        assert_ne!(second.path(), path);
        std::fs::write(second.path(), "new").unwrap();
        second.keep().unwrap();
        // The same place by another way is not seen as the same, and its temporary is another.
        let other = dir.path().join("other");
        std::os::unix::fs::symlink(dir.path(), &other).unwrap();
        let (a, b) = (Temporary::beside(&target).unwrap(), Temporary::beside(&other.join("x.hyper")).unwrap());
        assert_ne!(a.path().file_name(), b.path().file_name());
        let (a, b) = (Staging::beside(&dir.path().join("a")).unwrap(), Staging::beside(&other.join("a")).unwrap());
        assert_ne!(a.path().file_name(), b.path().file_name());
    }
}
