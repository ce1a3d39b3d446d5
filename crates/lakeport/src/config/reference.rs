//! What `--from` and `--to` name: an environment and a path in it, or a path or URL.

use std::path::Path;

use super::{Config, Env, SPARK_SCHEME, secret};
use crate::error::{Error, Kind, Result};
use crate::source::Location;

/// A parsed reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `ENV:path`.
    Named {
        /// The environment.
        environment: String,
        /// What follows the colon.
        path: String,
    },
    /// A path or URL.
    Place(String),
}

impl Reference {
    /// Reads a reference. A word before the first colon is an environment, unless `//` follows or the word is no name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if let Some((environment, path)) = text.split_once(':')
            && !path.starts_with("//")
            && !environment.is_empty()
            && environment.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
        {
            return Self::Named { environment: environment.to_owned(), path: path.to_owned() };
        }
        Self::Place(text.to_owned())
    }

    /// Where a source reference points to.
    ///
    /// # Errors
    /// `UnknownName` for an unknown environment, `Unsupported` for one that is no source, `SecretMissing`.
    pub fn locate(&self, config: &Config, working_directory: &Path) -> Result<Location> {
        match self {
            Self::Place(place) => Ok(anchored(&Location::new(place.clone()), working_directory)),
            Self::Named { environment, path } => match config.environment(environment)? {
                Env::Lake(env) | Env::Store(env) => {
                    let root = Location { url: env.root.clone(), options: secret::resolve(&env.options, &config.base)? };
                    Ok(anchored(&root, &config.base).join(path))
                }
                Env::Spark(_) => Ok(Location::new(format!("{SPARK_SCHEME}{environment}/{path}"))),
                Env::Database(_) => Err(Error::new(
                    Kind::Unsupported,
                    format!("`{environment}` is a database, which Lakeport writes and does not read"),
                )
                .help("give a lake environment, a path or a URL in --from")),
                Env::Tableau(_) => {
                    Err(Error::new(Kind::Unsupported, format!("`{environment}` is a Tableau environment and no source of rows"))
                        .help("give a lake environment, a path or a URL in --from"))
                }
            },
        }
    }
}

/// Makes a relative local path absolute; URLs stay.
pub(crate) fn anchored(location: &Location, base: &Path) -> Location {
    if !location.is_local() || location.url.starts_with("file://") {
        return location.clone();
    }
    let home = |rest: &str| std::env::var_os("HOME").map(|h| Path::new(&h).join(rest.trim_start_matches('/')));
    let path = location.url.strip_prefix('~').and_then(home).unwrap_or_else(|| base.join(&location.url));
    Location { url: path.to_string_lossy().into_owned(), options: location.options.clone() }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named { environment, path } => write!(f, "{environment}:{path}"),
            Self::Place(place) => f.write_str(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_no_environments() {
        assert_eq!(Reference::parse("s3://b/x"), Reference::Place("s3://b/x".into()));
        assert_eq!(Reference::parse("./a:b"), Reference::Place("./a:b".into()));
        let named = Reference::Named { environment: "lake".into(), path: "sales/orders".into() };
        assert_eq!(Reference::parse("lake:sales/orders"), named);
        assert_eq!(named.to_string(), "lake:sales/orders");
    }
}
