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
    let given: Vec<_> = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    let over = variables(&layers, &given);
    layers.extend(over);
    Ok(layers)
}

fn user_file() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".config")))?;
    Some(base.join("lakeport").join("config.toml"))
}

/// `LAKEPORT_MEMORY`, `LAKEPORT_JOBS`, `LAKEPORT_VERIFY`, and `LAKEPORT_ENV_<NAME>_<KEY>` for the plain values of an environment.
fn variables(files: &[Layer], given: &[(String, String)]) -> Vec<Layer> {
    let tables = |of: &str| -> Vec<(&String, &toml::Value)> {
        files.iter().filter_map(|l| l.values.get(of).and_then(toml::Value::as_table)).flatten().collect()
    };
    let mut layers = Vec::new();
    for key in ["memory", "jobs", "verify"] {
        let name = format!("LAKEPORT_{}", key.to_uppercase());
        let Some((_, value)) = given.iter().find(|(n, _)| *n == name) else { continue };
        let value = read_as(if key == "jobs" { "integer" } else { "string" }, value);
        layers.push(layer(name.clone(), &["defaults", key], value.clone()));
        // A variable wins over files, so over what a job says for itself, too.
        for (job, _) in tables("job").into_iter().filter(|(_, job)| job.get(key).is_some()) {
            layers.push(layer(name.clone(), &["job", job, key], value.clone()));
        }
    }
    for (name, value) in given {
        let Some(rest) = name.strip_prefix("LAKEPORT_ENV_") else { continue };
        // `tableau` and `tableau-prod` both begin `LAKEPORT_ENV_TABLEAU_PROD_URL`; the longer name is meant.
        let spelt = |environment: &str| format!("{}_", environment.to_uppercase().replace('-', "_"));
        let begins = tables("env").into_iter().filter_map(|(e, _)| Some((e, rest.strip_prefix(&spelt(e))?.to_lowercase())));
        let Some((environment, key)) = begins.max_by_key(|(e, _)| e.len()) else { continue };
        let value = read_as(&wants(&key), value);
        layers.push(layer(name.clone(), &["env", environment, &key], value));
    }
    layers
}

/// The type of an environment's key, by the schema of the configuration: `integer`, `boolean`, else text.
fn wants(key: &str) -> String {
    let schema = super::Config::json_schema();
    let kinds = schema["$defs"]["Env"]["oneOf"].as_array().into_iter().flatten();
    kinds.filter_map(|kind| kind["properties"].get(key)).map(|property| property["type"].to_string()).collect()
}

/// A variable is text; a key that wants a number or a truth gets one where the text is one.
fn read_as(wanted: &str, value: &str) -> toml::Value {
    match (value.parse::<i64>(), value.parse::<bool>()) {
        (Ok(number), _) if wanted.contains("integer") => toml::Value::Integer(number),
        (_, Ok(truth)) if wanted.contains("boolean") => toml::Value::Boolean(truth),
        _ => toml::Value::String(value.to_owned()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn over(file: &str, given: &[(&str, &str)]) -> toml::Table {
        let file = Layer { origin: Origin::Variable("file".into()), values: file.parse().unwrap(), user: false };
        let given: Vec<_> = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let over = variables(std::slice::from_ref(&file), &given);
        let (mut merged, mut origins) = (toml::Table::new(), BTreeMap::new());
        for layer in [file].iter().chain(&over) {
            merge(&mut merged, &layer.values, &layer.origin, "", &mut origins);
        }
        merged
    }

    #[test]
    fn a_variable_wins_over_the_jobs_own_word() {
        let merged =
            over("[job.a]\nverify = \"none\"\n[job.b]\nto = \"x\"\n", &[("LAKEPORT_VERIFY", "full"), ("LAKEPORT_JOBS", "3")]);
        assert_eq!(merged["job"]["a"]["verify"].as_str(), Some("full"));
        assert!(merged["job"]["b"].get("verify").is_none());
        assert_eq!(merged["defaults"]["verify"].as_str(), Some("full"));
        assert_eq!(merged["defaults"]["jobs"].as_integer(), Some(3));
    }

    #[test]
    fn a_variable_names_the_longer_environment_and_the_type_of_its_key() {
        let file = "[env.tableau]\ntype = \"tableau\"\n[env.tableau-prod]\ntype = \"tableau\"\n";
        let given = [
            ("LAKEPORT_ENV_TABLEAU_PROD_URL", "http://x"),
            ("LAKEPORT_ENV_TABLEAU_PROD_TIMEOUT", "60"),
            ("LAKEPORT_ENV_TABLEAU_CREATE_PROJECT", "true"),
            ("LAKEPORT_ENV_TABLEAU_SITE", "2024"),
        ];
        let merged = over(file, &given);
        assert_eq!(merged["env"]["tableau-prod"]["url"].as_str(), Some("http://x"));
        assert_eq!(merged["env"]["tableau-prod"]["timeout"].as_integer(), Some(60));
        assert_eq!(merged["env"]["tableau"]["create_project"].as_bool(), Some(true));
        assert_eq!(merged["env"]["tableau"]["site"].as_str(), Some("2024"));
        assert!(merged["env"]["tableau"].get("prod_url").is_none());
    }
}
