//! Where `hyperd` is found, and how it is installed: pinned and checksummed.
//!
//! Looked for in this order: `HYPERD_PATH`, an installed Python package `tableauhyperapi` (first of the Python that this
//! program was installed beside), Lakeport's cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::convert::output::sha256;
use crate::error::{Error, Kind, Result, Wrap};

/// The pinned version of the PyPI package that carries `hyperd` (Apache-2.0).
pub const VERSION: &str = "0.0.26963";
/// The wheel of that version for Linux x86-64 and its SHA-256.
const WHEEL: &str = "tableauhyperapi-0.0.26963-py3-none-manylinux2014_x86_64.whl";
const WHEEL_SHA256: &str = "35376f598c6fdfa52fe25769778f756e2daec1c124ff8f471b5e098cb9cf7863";
/// Where in the wheel the engine lies.
const IN_WHEEL: &str = "tableauhyperapi/bin/hyper/hyperd";

/// Finds `hyperd`.
///
/// # Errors
/// `HyperdMissing`, with every place that was looked at.
pub fn find() -> Result<PathBuf> {
    let mut looked = Vec::new();
    if let Some(path) = std::env::var_os("HYPERD_PATH") {
        let path = PathBuf::from(path);
        let candidate = if path.is_dir() { path.join("hyperd") } else { path };
        // Naming a place that is wrong should not be healed by another.
        return if candidate.is_file() {
            Ok(candidate)
        } else {
            Err(Error::new(Kind::HyperdMissing, format!("HYPERD_PATH names {}, where no hyperd lies", candidate.display())))
        };
    }
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("python3")).filter(|python| python.is_file());
    for python in beside.into_iter().chain(["python3".into(), "python".into()]) {
        match installed_with(&python) {
            Ok(Some(path)) => return Ok(path),
            Ok(None) => looked.push(format!("{}: no tableauhyperapi", python.display())),
            Err(_) => continue,
        }
        // Where there is a `python3`, `python` is another name for it, and a version manager takes 0.2 s to find out which.
        if python.as_os_str() == "python3" {
            break;
        }
    }
    let cached = cached()?;
    if cached.is_file() {
        return Ok(cached);
    }
    looked.push(cached.display().to_string());
    Err(Error::new(Kind::HyperdMissing, "hyperd, the engine that writes .hyper files, is not installed")
        .because(format!("looked at HYPERD_PATH; {}", looked.join("; "))))
}

/// The cache's place for the pinned version.
///
/// # Errors
/// `HyperdMissing` when neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cached() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache")))
        .ok_or_else(|| {
            Error::new(Kind::HyperdMissing, "neither XDG_CACHE_HOME nor HOME is set, so there is no cache to look in")
        })?;
    Ok(base.join("lakeport").join(format!("hyperd-{VERSION}")).join("hyperd"))
}

/// The `hyperd` of a Python's installed package, found without importing it.
///
/// # Errors
/// There is no such Python.
fn installed_with(python: &Path) -> std::io::Result<Option<PathBuf>> {
    const FIND: &str = "import importlib.util as u,os;s=u.find_spec('tableauhyperapi');\
                        print(os.path.join(os.path.dirname(s.origin),'bin','hyper','hyperd') if s and s.origin else '')";
    let output = Command::new(python).args(["-c", FIND]).current_dir("/").stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(path.is_file().then_some(path))
}

/// Fetches the pinned wheel with pip, checks its SHA-256 and unpacks `hyperd` into the cache.
///
/// # Errors
/// `HyperdMissing` when pip fails or the checksum differs; `Unsupported` on machines the vendor builds nothing for.
pub fn install() -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(Error::new(Kind::Unsupported, "the pinned hyperd is for Linux x86-64")
            .help("install the Python package tableauhyperapi for your system, or set HYPERD_PATH"));
    }
    let target = cached()?;
    if target.is_file() {
        return Ok(target);
    }
    let directory = target.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(directory).wrap(Kind::WriteFailed, || format!("cannot create {}", directory.display()))?;
    let download =
        tempfile::tempdir_in(directory).wrap(Kind::WriteFailed, || format!("cannot write to {}", directory.display()))?;
    let output = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--platform=manylinux2014_x86_64"])
        .arg("--dest")
        .arg(download.path())
        .arg(format!("tableauhyperapi=={VERSION}"))
        .stdin(Stdio::null())
        .output()
        .wrap(Kind::HyperdMissing, || "cannot run `python3 -m pip`".into())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::new(Kind::HyperdMissing, format!("pip cannot fetch tableauhyperapi {VERSION}")).because(said));
    }
    let wheel = download.path().join(WHEEL);
    let digest = sha256(&wheel)?;
    if digest != WHEEL_SHA256 {
        return Err(Error::new(Kind::HyperdMissing, format!("{WHEEL} is not the file that was pinned"))
            .because(format!("its SHA-256 is {digest}, expected {WHEEL_SHA256}"))
            .help("do not use it; look at where pip fetches from"));
    }
    let unpacked = download.path().join("hyperd");
    unpack(&wheel, &unpacked)?;
    // Renamed when whole, so that two installers never see half of it.
    std::fs::rename(&unpacked, &target).wrap(Kind::WriteFailed, || format!("cannot write {}", target.display()))?;
    Ok(target)
}

fn unpack(wheel: &Path, to: &Path) -> Result<()> {
    let broken = || format!("cannot unpack {}", wheel.display());
    let file = std::fs::File::open(wheel).wrap(Kind::HyperdMissing, broken)?;
    let mut archive = zip::ZipArchive::new(file).wrap(Kind::HyperdMissing, broken)?;
    let mut inside = archive.by_name(IN_WHEEL).wrap(Kind::HyperdMissing, broken)?;
    let mut out = std::fs::File::create(to).wrap(Kind::WriteFailed, || format!("cannot write {}", to.display()))?;
    std::io::copy(&mut inside, &mut out).wrap(Kind::WriteFailed, broken)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        out.set_permissions(std::fs::Permissions::from_mode(0o755)).wrap(Kind::WriteFailed, broken)?;
    }
    out.sync_all().wrap(Kind::WriteFailed, broken)
}
