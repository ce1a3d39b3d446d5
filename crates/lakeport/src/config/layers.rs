//! Which file wins: where configuration is found and how its layers are merged.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::read;
use crate::error::{Error, Kind, Result};

/// The project's file.
pub const FILE: &str = "lakeport.toml";
/// The private file beside it.
pub const LOCAL_FILE: &str = "lakeport.local.toml";

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "${name}"),
        }
    }
}

/// One layer's values.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Where they come from.
    pub origin: Origin,
    /// The values.
    pub values: toml::Table,
    /// Whether this is the user's file, whose directory is nobody's project.
    pub user: bool,
}

/// All layers, the weakest first: user, project, local, variables.
pub(super) fn find(working_directory: &Path, explicit: Option<&Path>) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    let mut add = |path: PathBuf, user: bool| -> Result<()> {
        if path.is_file() {
            layers.push(Layer { values: read(&path)?, origin: Origin::File(path), user });
        }
        Ok(())
    };
    if let Some(path) = explicit {
        let path = working_directory.join(path);
        if !path.is_file() {
            return Err(Error::new(Kind::ConfigInvalid, format!("there is no file {}", path.display())));
        }
        let local = path.with_file_name(LOCAL_FILE);
        add(path, false)?;
        add(local, false)?;
    } else {
        if let Some(path) = user_file() {
            add(path, true)?;
        }
        if let Some(directory) = working_directory.ancestors().find(|d| d.join(FILE).is_file() || d.join(LOCAL_FILE).is_file()) {
            add(directory.join(FILE), false)?;
            add(directory.join(LOCAL_FILE), false)?;
        }
    }
    let named: Vec<String> = layers
        .iter()
        .filter_map(|l| l.values.get("env").and_then(toml::Value::as_table))
        .flat_map(|t| t.keys().cloned())
        .collect();
    layers.extend(variables(&named));
    Ok(layers)
}

fn user_file() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".config")))?;
    Some(base.join("lakeport").join("config.toml"))
}

/// `LAKEPORT_MEMORY`, `LAKEPORT_JOBS`, `LAKEPORT_VERIFY`, and `LAKEPORT_ENV_<NAME>_<KEY>` for the texts of an environment.
fn variables(environments: &[String]) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (key, numeric) in [("memory", false), ("jobs", true), ("verify", false)] {
        let name = format!("LAKEPORT_{}", key.to_uppercase());
        let Ok(value) = std::env::var(&name) else { continue };
        let value = match value.parse::<i64>() {
            Ok(n) if numeric => toml::Value::Integer(n),
            _ => toml::Value::String(value),
        };
        layers.push(layer(name, &["defaults", key], value));
    }
    for environment in environments {
        let prefix = format!("LAKEPORT_ENV_{}_", environment.to_uppercase().replace('-', "_"));
        for (name, value) in std::env::vars() {
            if let Some(key) = name.strip_prefix(&prefix) {
                let key = key.to_lowercase();
                layers.push(layer(name.clone(), &["env", environment, &key], toml::Value::String(value)));
            }
        }
    }
    layers
}

fn layer(variable: String, path: &[&str], value: toml::Value) -> Layer {
    let mut value = value;
    for key in path.iter().rev() {
        value = toml::Value::Table(toml::Table::from_iter([((*key).to_owned(), value)]));
    }
    let values = if let toml::Value::Table(table) = value { table } else { toml::Table::new() };
    Layer { origin: Origin::Variable(variable), values, user: false }
}

/// Lays `over` upon `under`, key by key; lists and references are replaced whole.
pub(super) fn merge(
    under: &mut toml::Table,
    over: &toml::Table,
    origin: &Origin,
    path: &str,
    origins: &mut BTreeMap<String, Origin>,
) {
    for (key, value) in over {
        let dotted = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (under.get_mut(key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) if !is_reference(above) => {
                merge(below, above, origin, &dotted, origins);
            }
            (None, toml::Value::Table(above)) if !is_reference(above) => {
                let mut fresh = toml::Table::new();
                merge(&mut fresh, above, origin, &dotted, origins);
                under.insert(key.clone(), toml::Value::Table(fresh));
            }
            _ => {
                origins.insert(dotted, origin.clone());
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

/// `{ env = "X" }` is one value: half of it from another layer would name something nobody wrote.
fn is_reference(table: &toml::Table) -> bool {
    table.len() == 1 && table.iter().all(|(k, v)| matches!(k.as_str(), "env" | "file" | "command") && !v.is_table())
}

/// The value under a dotted key, as TOML text.
pub(super) fn value(table: &toml::Table, dotted: &str) -> Option<String> {
    // Keys may hold dots themselves; the longest that fits is taken.
    table.iter().find_map(|(key, value)| {
        let rest = dotted.strip_prefix(key.as_str())?;
        match (rest.strip_prefix('.'), value) {
            (Some(rest), toml::Value::Table(below)) => self::value(below, rest),
            (None, value) if rest.is_empty() => Some(value.to_string()),
            _ => None,
        }
    })
}
