//! Secrets by reference: from a variable, a file or a command; never a literal, never shown.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::Error as _;

use crate::error::{Error, Kind, Result, Wrap};

/// A secret's value; prints `[redacted]` wherever it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one call that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Where a secret is to be found.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum SecretRef {
    /// In an environment variable.
    Env(String),
    /// In a file; one trailing line end is cut.
    File(PathBuf),
    /// What a command prints; one trailing line end is cut.
    Command(Vec<String>),
}

/// What is said of a value that is no reference; the value itself must not be.
pub(super) const LITERAL: &str = "a secret is given as a literal";

impl<'de> Deserialize<'de> for SecretRef {
    /// By hand, because serde's own errors quote the value they refuse.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer).map_err(|_| D::Error::custom(LITERAL))?;
        let Some((key, value)) = value.as_table().filter(|t| t.len() == 1).and_then(|t| t.iter().next()) else {
            return Err(D::Error::custom(LITERAL));
        };
        let words = || value.as_array()?.iter().map(|w| w.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
        match (key.as_str(), value.as_str(), words()) {
            ("env", Some(name), _) => Ok(Self::Env(name.to_owned())),
            ("file", Some(path), _) => Ok(Self::File(path.into())),
            ("command", _, Some(words)) => Ok(Self::Command(words)),
            _ => Err(D::Error::custom(LITERAL)),
        }
    }
}

impl SecretRef {
    /// Fetches the value. Relative file names are relative to `base`, the directory of the configuration file.
    ///
    /// # Errors
    /// `SecretMissing`, naming where it looked and never what it found.
    pub fn resolve(&self, base: &Path) -> Result<Secret> {
        let value = match self {
            Self::Env(name) => std::env::var(name).map_err(|_| {
                Error::new(Kind::SecretMissing, format!("the variable {name} is not set"))
                    .help(format!("export {name}=… and run again"))
            })?,
            Self::File(path) => {
                let path = base.join(path);
                std::fs::read_to_string(&path)
                    .wrap(Kind::SecretMissing, || format!("cannot read the secret file {}", path.display()))?
            }
            Self::Command(words) => {
                let (program, arguments) =
                    words.split_first().ok_or_else(|| Error::new(Kind::SecretMissing, "the secret's command is empty"))?;
                let output = Command::new(program)
                    .args(arguments)
                    .current_dir(base)
                    .stdin(Stdio::null())
                    .stderr(Stdio::inherit())
                    .output()
                    .wrap(Kind::SecretMissing, || format!("cannot run `{program}`"))?;
                if !output.status.success() {
                    return Err(Error::new(Kind::SecretMissing, format!("`{program}` ended with {}", output.status)));
                }
                String::from_utf8(output.stdout)
                    .map_err(|_| Error::new(Kind::SecretMissing, format!("`{program}` printed something that is no text")))?
            }
        };
        let value = value.strip_suffix('\n').map_or(value.as_str(), |v| v.strip_suffix('\r').unwrap_or(v));
        if value.is_empty() {
            return Err(Error::new(Kind::SecretMissing, format!("{self} is empty")));
        }
        Ok(Secret::new(value))
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "{{ env = \"{name}\" }}"),
            Self::File(path) => write!(f, "{{ file = \"{}\" }}", path.display()),
            Self::Command(words) => write!(f, "{{ command = [\"{}\", …] }}", words.first().map_or("", String::as_str)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_itself() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn a_missing_secret_names_where_it_looked() {
        let e = SecretRef::Env("LAKEPORT_NO_SUCH".into()).resolve(Path::new(".")).unwrap_err();
        assert_eq!(e.kind(), Kind::SecretMissing);
        assert!(e.message().contains("LAKEPORT_NO_SUCH"));
        let printed = SecretRef::Command(vec!["printf".into(), "x y\n".into()]).resolve(Path::new(".")).unwrap();
        assert_eq!(printed.reveal(), "x y");
    }
}
