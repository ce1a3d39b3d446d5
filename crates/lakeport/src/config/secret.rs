//! Secrets by reference: from a variable, a file or a command; never a literal, never shown.

use std::collections::BTreeMap;
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

/// A setting of a store, driver or cluster that has a name of its own there: a plain text, or a secret by reference.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum Setting {
    /// As it stands.
    Text(String),
    /// To be looked up.
    Secret(SecretRef),
}

/// Settings by name.
pub type Settings = BTreeMap<String, Setting>;

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer).map_err(|_| D::Error::custom(LITERAL))? {
            toml::Value::String(text) => Ok(Self::Text(text)),
            reference @ toml::Value::Table(_) => reference.try_into().map(Self::Secret).map_err(D::Error::custom),
            _ => Err(D::Error::custom("a setting is a text, or a secret by reference")),
        }
    }
}

/// Looks up all settings.
///
/// # Errors
/// `SecretMissing`.
pub fn resolve(settings: &Settings, base: &Path) -> Result<BTreeMap<String, String>> {
    let value = |setting: &Setting| match setting {
        Setting::Text(text) => Ok(text.clone()),
        Setting::Secret(reference) => reference.resolve(base).map(|secret| secret.reveal().to_owned()),
    };
    settings.iter().map(|(name, setting)| Ok((name.clone(), value(setting)?))).collect()
}

/// Whether what bears this name is a secret, as clouds, drivers and servers name theirs.
#[must_use]
pub fn names_a_secret(name: &str) -> bool {
    const PARTS: [&str; 13] = [
        "token",
        "secret",
        "password",
        "passwd",
        "passphrase",
        "access_key",
        "account_key",
        "api_key",
        "apikey",
        "private_key",
        "credential",
        "sas",
        "authorization",
    ];
    let name = name.to_ascii_lowercase().replace('-', "_");
    // Who one is, and where the secret lies, is none.
    let harmless = name.ends_with("key_id") || name.ends_with("_file") || name.ends_with("_path") || name.ends_with("_uri");
    !harmless && PARTS.iter().any(|part| name.contains(part))
}

/// Makes sure that no setting is a secret in plain sight.
///
/// # Errors
/// `ConfigInvalid`, naming the setting and never its value.
pub(super) fn ensure_by_reference(settings: &Settings) -> Result<()> {
    for (name, setting) in settings {
        if matches!(setting, Setting::Text(_)) && names_a_secret(name) {
            return Err(Error::new(Kind::ConfigInvalid, LITERAL).at("key", name).help(BY_REFERENCE));
        }
    }
    Ok(())
}

/// Makes sure that the address of an environment carries no secret, which is given `instead` in another way.
///
/// # Errors
/// `ConfigInvalid`, naming the key and never its value.
pub(super) fn ensure_bare(key: &str, address: &str, instead: &str) -> Result<()> {
    // Drivers have ways of their own: `host=db password=…`, `user:password@account/database`.
    let words = !address.contains("://");
    let signed_in =
        words && address.split('/').next().and_then(|a| a.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':'));
    let told = words && address.split_whitespace().any(|word| word.split_once('=').is_some_and(|(name, _)| is_secret(name)));
    if signed_in || told || carries_a_secret(address) {
        let message = format!("the address in `{key}` carries a password");
        return Err(Error::new(Kind::ConfigInvalid, message).at("key", key).help(instead));
    }
    Ok(())
}

/// Makes sure that what is to be read or written is named without a secret: its name stands in plans, reports and errors.
///
/// # Errors
/// `ConfigInvalid`, which does not repeat it.
pub fn ensure_bare_reference(reference: &str) -> Result<()> {
    if !carries_a_secret(reference) {
        return Ok(());
    }
    Err(Error::new(
        Kind::ConfigInvalid,
        "an address carries a password or a signature, and would be shown wherever the table is named",
    )
    .help("name an environment whose `options` hold it by reference: { env = \"NAME\" }"))
}

/// Whether a URL holds a password before the host, or a parameter whose name says that it is a secret.
fn carries_a_secret(address: &str) -> bool {
    let Some((_, rest)) = address.split_once("://") else { return false };
    let authority = rest.split(['/', '?', ';']).next().unwrap_or_default();
    let password =
        authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).is_some_and(|(_, word)| !word.is_empty());
    let parameters = rest.split_once(['?', ';']).map_or("", |(_, parameters)| parameters);
    let signed = parameters.split(['&', ';']).filter_map(|p| p.split_once('='));
    password || signed.into_iter().any(|(name, value)| !value.is_empty() && is_secret(name))
}

fn is_secret(name: &str) -> bool {
    names_a_secret(name) || ["sig", "pwd", "signature", "x-amz-signature"].contains(&name.to_ascii_lowercase().as_str())
}

/// What to do instead of a literal.
pub(super) const BY_REFERENCE: &str = "give it by reference: { env = \"NAME\" }, { file = \"…\" } or { command = [\"…\"] }";

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
