//! The life of `hyperd`: found, started quietly, bounded, gone with its parent.
//!
//! Facts (measured with hyperd 0.0.26963): it writes `hyperd.log` into the working directory unless told where to log; two
//! spellings of one path are two databases to it; its RSS counts mapped file pages, `RssAnon` is what it really holds.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyperdb_api::{Connection, CreateMode};

use super::install;
use super::launch::Launched;
use crate::convert::scratch;
use crate::error::{Context, Error, Kind, Result, Wrap};

/// What the one database of a connection is called in SQL.
pub const DATABASE: &str = "file";

/// A running `hyperd`, shared by everything in this process that needs one; ends when the last user drops it.
#[derive(Debug)]
pub struct Hyperd {
    process: Mutex<Launched>,
    endpoint: String,
    /// Where it logs and spills; removed with it.
    _scratch: tempfile::TempDir,
    stop: Arc<AtomicBool>,
}

/// Those who want to know the most memory `hyperd` held since they joined.
#[derive(Debug, Default, Clone)]
pub struct Watchers(Arc<Mutex<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    last: u64,
    peaks: Vec<Weak<AtomicU64>>,
}

impl Watchers {
    /// Begins to watch: the value is what is held now, and rises as long as it is kept.
    #[must_use]
    pub fn join(&self) -> Arc<AtomicU64> {
        let mut watched = self.lock();
        let peak = Arc::new(AtomicU64::new(watched.last));
        watched.peaks.push(Arc::downgrade(&peak));
        peak
    }

    fn tell(&self, bytes: u64) {
        let mut watched = self.lock();
        watched.last = bytes;
        watched.peaks.retain(|peak| peak.upgrade().map(|peak| peak.fetch_max(bytes, Ordering::Relaxed)).is_some());
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        // Plain numbers: whoever panicked left them consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one that [`Hyperd::shared`] gave last, and those who watch it or the next.
static RUNNING: Mutex<Weak<Hyperd>> = Mutex::new(Weak::new());
static WATCHERS: LazyLock<Watchers> = LazyLock::new(Watchers::default);

impl Hyperd {
    /// The `hyperd` of this process: the one that somebody still uses, else a new one as by [`Hyperd::start`].
    ///
    /// # Errors
    /// `HyperdMissing`.
    pub fn shared(memory: u64, file_format: u8) -> Result<Arc<Self>> {
        // Held while it starts, so that two who ask at once get one.
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hyperd) = running.upgrade() {
            return Ok(hyperd);
        }
        let hyperd = Self::start(memory, file_format, WATCHERS.clone())?;
        *running = Arc::downgrade(&hyperd);
        Ok(hyperd)
    }

    /// Watches the memory of [`Hyperd::shared`], now and when another is started.
    #[must_use]
    pub fn watch_shared() -> Arc<AtomicU64> {
        WATCHERS.join()
    }

    /// Starts a `hyperd` that may allocate at most `memory` bytes itself.
    ///
    /// # Errors
    /// `HyperdMissing` when none is found or it does not come up.
    pub fn start(memory: u64, file_format: u8, watchers: Watchers) -> Result<Arc<Self>> {
        let path = install::find()?;
        let scratch = scratch(&std::env::temp_dir(), "lakeport-hyperd").during("make room for hyperd's log")?;
        let settings = [
            ("log-dir", scratch.path().to_string_lossy().into_owned()),
            ("log-config", "file,json,all,hyperd,0".into()),
            ("default-database-version", file_format.to_string()),
            // What it writes is synced when it gets its name; what is uploaded and removed need not be.
            ("disable-fsync", "true".into()),
            ("memory-limit", format!("{}m", (memory / (1024 * 1024)).max(256))),
        ];
        let (process, endpoint) = Launched::start(&path, &settings)?;
        let stop = Arc::new(AtomicBool::new(false));
        watch_memory(process.id(), watchers, Arc::clone(&stop));
        Ok(Arc::new(Self { process: Mutex::new(process), endpoint, _scratch: scratch, stop }))
    }

    /// Connects to a database of one's own making, in the client's usual way.
    ///
    /// # Errors
    /// `WriteFailed` with hyperd's own words as the cause.
    pub fn connect(&self, file: &Path, mode: CreateMode) -> Result<Connection> {
        let file = absolute(file)?;
        Connection::connect(&self.endpoint, &file.to_string_lossy(), mode)
            .wrap(Kind::WriteFailed, || format!("hyperd cannot open {}", file.display()))
    }

    /// Connects to a file for writing, as [`DATABASE`]; end with [`release`].
    ///
    /// # Errors
    /// `WriteFailed`, with hyperd's own words as the cause.
    pub fn write(&self, file: &Path) -> Result<Connection> {
        self.attach(file, "", Kind::WriteFailed)
    }

    /// Connects to a finished file for reading, as [`DATABASE`].
    ///
    /// Opened the usual way, hyperd rewrites parts of a file even when it is only queried (measured: its SHA-256 changes).
    ///
    /// # Errors
    /// `SourceUnreadable` when hyperd cannot open it.
    pub fn read(&self, file: &Path) -> Result<Connection> {
        self.attach(file, " WITH (access_mode=readonly)", Kind::SourceUnreadable)
    }

    fn attach(&self, file: &Path, with: &str, kind: Kind) -> Result<Connection> {
        let file = absolute(file)?;
        let connection = self.connect_bare()?;
        let path = super::sql::name(&file.to_string_lossy());
        connection
            .execute_command(&format!("ATTACH DATABASE {path} AS \"{DATABASE}\"{with}"))
            .wrap(kind, || format!("hyperd cannot open {}", file.display()))?;
        Ok(connection)
    }

    /// Connects without a database, for queries over other files.
    ///
    /// # Errors
    /// `HyperdMissing` when it no longer answers.
    pub fn connect_bare(&self) -> Result<Connection> {
        Connection::without_database(&self.endpoint).wrap(Kind::HyperdMissing, || "hyperd no longer answers".into())
    }

    /// How it ended, while somebody still used it: in words, or nothing while it runs.
    #[must_use]
    pub fn ended(&self) -> Option<String> {
        let status = self.process.lock().unwrap_or_else(PoisonError::into_inner).ended()?;
        Some(format!("it ended while it was in use: {status}"))
    }
}

impl Drop for Hyperd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Writes a file out and lets go of it before it returns; closing the connection alone lets hyperd take its time.
///
/// # Errors
/// `WriteFailed`, `OutOfSpace`.
pub fn release(connection: &Connection) -> Result<()> {
    let detached = connection.execute_command(&format!("DETACH DATABASE \"{DATABASE}\""));
    detached.map(|_| ()).wrap(Kind::WriteFailed, || "hyperd cannot complete the file".into())
}

/// The one spelling of a path that all users of one `hyperd` share: its directory resolved, its name kept.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| Error::new(Kind::Usage, format!("{} is no file name", path.display())))?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let parent =
        parent.canonicalize().wrap(Kind::WriteFailed, || format!("the directory {} does not exist", parent.display()))?;
    Ok(parent.join(name))
}

/// Samples `RssAnon` of a process until told to stop; Linux only, elsewhere the watchers see 0.
fn watch_memory(pid: u32, watchers: Watchers, stop: Arc<AtomicBool>) {
    let status = PathBuf::from(format!("/proc/{pid}/status"));
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let Ok(text) = std::fs::read_to_string(&status) else { return };
            if let Some(bytes) = anonymous_bytes(&text) {
                watchers.tell(bytes);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

/// Reads `RssAnon` out of `/proc/PID/status`.
fn anonymous_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
