//! How `hyperd` is started and ended, and the allocator it runs with.
//!
//! It is told where to call back, connects there, says where it listens, and ends when that connection closes, however its
//! other end went. The flags are those that the vendor's clients give it. The client crate starts it too, but in the caller's
//! environment, which decides how fast it is, and without noticing that it has died.

use std::io::{ErrorKind, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result, Wrap};

/// How long it may take to call back: a cold disk has 261 MB to read.
const START: Duration = Duration::from_secs(60);
/// How long it may take to end by itself; it lets go of its files then.
const END: Duration = Duration::from_secs(5);
/// Between two looks at a process that is starting or ending.
const LOOK: Duration = Duration::from_millis(5);

/// A child process that ends with this value.
#[derive(Debug)]
pub(super) struct Launched {
    child: Child,
    /// Open as long as hyperd shall live.
    callback: TcpStream,
}

impl Launched {
    /// Starts `hyperd` with settings of its own, by the names of its command line (`log-dir`), and tells where it listens
    /// (`HOST:PORT`).
    ///
    /// # Errors
    /// `HyperdMissing` when it cannot be run, or ends, or says nothing, before it listens.
    pub(super) fn start(hyperd: &Path, settings: &[(&str, String)]) -> Result<(Self, String)> {
        let failed = || format!("hyperd does not start ({})", hyperd.display());
        let listener = TcpListener::bind("127.0.0.1:0").wrap(Kind::HyperdMissing, failed)?;
        listener.set_nonblocking(true).wrap(Kind::HyperdMissing, failed)?;
        let address = listener.local_addr().wrap(Kind::HyperdMissing, failed)?;
        let mut command = Command::new(hyperd);
        command.args(["run", "--listen-connection", "tab.tcp://localhost:0"]);
        command.arg("--callback-connection").arg(format!("tab.tcp://{address}"));
        command.args(["--init-user=tableau_internal_user", "--no-password", "--skip-license"]);
        command.args(["--language=en_US", "--date-style=MDY", "--date-style-lenient=false"]);
        command.args(settings.iter().map(|(name, value)| format!("--{name}={value}")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(tunables) = allocator() {
            command.env("GLIBC_TUNABLES", tunables);
        }
        // Ctrl-C at a terminal is for us, who end it in good order.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().wrap(Kind::HyperdMissing, failed)?;
        match called_back(&mut child, &listener) {
            Ok((callback, endpoint)) => Ok((Self { child, callback }, endpoint)),
            Err(why) => {
                // Either it is gone, or nobody will ever talk to it.
                let _ = child.kill();
                let _ = child.wait();
                Err(Error::new(Kind::HyperdMissing, failed()).because(why))
            }
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; nothing while it runs.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let _ = self.callback.shutdown(Shutdown::Both);
        let asked = Instant::now();
        while self.ended().is_none() {
            if asked.elapsed() > END {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            sleep(LOOK);
        }
    }
}

/// Waits for the call; its content is one byte, which tells how many follow, and `tab.tcp://HOST:PORT`, padded with NULs.
///
/// # Errors
/// Why there is none, in words.
fn called_back(child: &mut Child, listener: &TcpListener) -> std::result::Result<(TcpStream, String), String> {
    let started = Instant::now();
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(e.to_string()),
            Err(_) => {}
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("it ended before it listened: {status}"));
        }
        if started.elapsed() > START {
            return Err(format!("it did not listen within {} s", START.as_secs()));
        }
        sleep(LOOK);
    };
    let mut said = Vec::new();
    let read = (|| {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut length = [0];
        stream.read_exact(&mut length)?;
        said.resize(usize::from(length[0]), 0);
        stream.read_exact(&mut said)
    })();
    read.map_err(|e: std::io::Error| format!("it called back and said nothing: {e}"))?;
    let said = String::from_utf8_lossy(&said);
    let endpoint = said.trim_matches(['\0', ' ', '\n']).strip_prefix("tab.tcp://").filter(|e| e.contains(':'));
    let endpoint = endpoint.ok_or_else(|| format!("it listens where nobody can reach it: `{said}`"))?.to_owned();
    Ok((stream, endpoint))
}

/// Settings of glibc's allocator for `hyperd`; nothing where somebody has made their own.
///
/// Its loader takes and gives back memory all the time. By default glibc returns it to the system at once, in small pages and
/// from up to eight arenas per core, so that a good part of a load is page faults. Measured (SF1 `lineitem` from Parquet, two
/// cores): 0.82 to 0.94 x the wall time of hyperd's load, 110,000 page faults instead of 226,000 to 314,000, and no more memory.
fn allocator() -> Option<String> {
    let theirs = std::env::vars_os().any(|(name, _)| {
        let name = name.to_string_lossy();
        name == "GLIBC_TUNABLES" || name.starts_with("MALLOC_")
    });
    let arenas = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let settings = [
        ("hugetlb", 1),
        ("arena_max", arenas),
        // What stays with the process when it is free, and from where on a block is one of the system's.
        ("trim_threshold", 256 << 20),
        ("mmap_threshold", 32 << 20),
        ("top_pad", 16 << 20),
    ];
    (!theirs).then(|| settings.map(|(name, value)| format!("glibc.malloc.{name}={value}")).join(":"))
}
