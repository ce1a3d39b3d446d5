//! The ADBC driver of a database: found where pip or the system put it, loaded, connected.

use std::path::{Path, PathBuf};

use adbc_core::options::{AdbcVersion, OptionConnection, OptionDatabase, OptionValue};
use adbc_core::{Database, Driver, Optionable};
use adbc_driver_manager::{ManagedConnection, ManagedDriver};

use super::place::Place;
use crate::error::{Error, Kind, Result};

/// Opens a connection in which nothing is visible to others before it is committed.
pub(super) fn connect(place: &Place) -> Result<ManagedConnection> {
    let mut driver = load(&place.driver)?;
    let mut options = vec![(OptionDatabase::Uri, OptionValue::String(place.address()))];
    options.extend(place.options.iter().map(|(k, v)| (OptionDatabase::Other(k.clone()), OptionValue::String(v.clone()))));
    let database = driver.new_database_with_opts(options).map_err(|e| place.error(&e, "connect to the database"))?;
    let mut connection = database.new_connection().map_err(|e| place.error(&e, "connect to the database"))?;
    connection
        .set_option(OptionConnection::AutoCommit, OptionValue::String("false".into()))
        .map_err(|e| place.error(&e, "begin a transaction"))?;
    Ok(connection)
}

fn load(name: &str) -> Result<ManagedDriver> {
    let missing = |why: String| {
        let package = format!("adbc-driver-{name}");
        let help = if is_path(name) {
            "correct `driver` in the environment".to_owned()
        } else {
            format!("run `pip install {package}`, or give the library's path as `driver`")
        };
        Error::new(Kind::ConfigInvalid, format!("the ADBC driver `{name}` cannot be loaded")).because(why).help(help)
    };
    let file = if is_path(name) { Some(PathBuf::from(name)) } else { installed(name) };
    match file {
        Some(file) => ManagedDriver::load_dynamic_from_filename(&file, None, AdbcVersion::V110)
            .map_err(|e| missing(format!("{}: {}", file.display(), e.message))),
        None => ManagedDriver::load_dynamic_from_name(format!("adbc_driver_{name}"), None, AdbcVersion::V110)
            .map_err(|e| missing(e.message)),
    }
}

fn is_path(name: &str) -> bool {
    name.contains(['/', '\\', '.'])
}

/// Where the Python package of a driver keeps its library.
fn installed(name: &str) -> Option<PathBuf> {
    let inside = |root: &Path| {
        let lib = std::fs::read_dir(root.join("lib")).ok()?;
        let pythons = lib.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("python"));
        let packages = pythons.flat_map(|e| [e.path().join("site-packages"), e.path().join("dist-packages")]);
        let library = Path::new(&format!("adbc_driver_{name}")).join(format!("libadbc_driver_{name}.so"));
        packages.map(|p| p.join(&library)).find(|p| p.is_file())
    };
    let environment = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    // The interpreter that Lakeport was told of, and the one that a command would start.
    let told = std::env::var_os("LAKEPORT_PYTHON").map(PathBuf::from).and_then(|p| Some(p.parent()?.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let started = std::env::split_paths(&path).find(|p| p.join("python3").is_file()).and_then(|p| Some(p.parent()?.to_owned()));
    let home = std::env::var_os("HOME").map(|h| Path::new(&h).join(".local"));
    [environment, told, started, home].into_iter().flatten().find_map(|root| inside(&root))
}
