//! The one value that holds what every command needs: configuration, engine, formats, targets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::config::reference::anchored;
use crate::config::{Config, Env, LakeEnv, Reference, secret};
use crate::convert::Formats;
use crate::error::{Context, Error, Kind, Result};
use crate::export::database::DatabaseTarget;
use crate::export::store::Store;
use crate::export::tableau::{Tableau, TableauEnv};
use crate::export::{Places, Target};
use crate::limits::Limits;
use crate::plan::Destination;
use crate::source::{Engine, Location};

/// Lakeport, ready to plan and run jobs.
#[derive(Debug)]
pub struct Lakeport {
    /// What to do.
    pub config: Config,
    /// What runs queries.
    pub engine: Arc<dyn Engine>,
    /// The formats, and the helper processes they share.
    pub formats: Formats,
    /// The bounds.
    pub limits: Limits,
    /// The working directory, absolute.
    pub directory: PathBuf,
    /// The kinds of tables that have a place of their own.
    pub places: Vec<Arc<dyn Places>>,
    /// Opened targets, one per environment, so that all jobs of a run share one session per server.
    targets: Mutex<BTreeMap<String, Arc<dyn Target>>>,
    /// Those of them that are Tableau sites, for what only they can do.
    sites: Mutex<BTreeMap<String, Arc<Tableau>>>,
}

impl Lakeport {
    /// Puts it together.
    #[must_use]
    pub fn new(config: Config, engine: Arc<dyn Engine>, limits: Limits, directory: PathBuf) -> Self {
        let (formats, places) = (Formats::new(), Vec::new());
        Self { config, engine, formats, limits, directory, places, targets: Mutex::default(), sites: Mutex::default() }
    }

    /// Adds kinds of tables that have a place of their own.
    #[must_use]
    pub fn with_places(self, places: Vec<Arc<dyn Places>>) -> Self {
        Self { places, ..self }
    }

    /// Where Lakeport keeps runs and work files: `.lakeport` beside the project's file, else in the working directory.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        let base = if self.config.files.is_empty() { &self.directory } else { &self.config.base };
        base.join(".lakeport")
    }

    /// Opens the target of an environment; secrets are resolved here, before any work.
    ///
    /// # Errors
    /// `UnknownName`, `SecretMissing`, `ConfigInvalid`.
    pub fn target(&self, environment: &str) -> Result<Arc<dyn Target>> {
        let mut targets = self.targets.lock().map_err(|_| Error::new(Kind::Unexpected, "a thread opening a target panicked"))?;
        if let Some(target) = targets.get(environment) {
            return Ok(Arc::clone(target));
        }
        let target: Arc<dyn Target> = match self.config.environment(environment)? {
            Env::Tableau(_) => self.tableau(environment)?,
            Env::Lake(env) | Env::Store(env) => Arc::new(Store::new(self.root(env).at("environment", environment)?)),
            Env::Database(env) => {
                let password = env.password.as_ref().map(|p| p.resolve(&self.config.base)).transpose();
                let password = password.at("environment", environment)?;
                let options = secret::resolve(&env.options, &self.config.base).at("environment", environment)?;
                Arc::new(DatabaseTarget::new(env, password, options))
            }
            Env::Spark(_) => {
                let message = format!("`{environment}` is a Spark cluster, which Lakeport reads and does not write");
                return Err(
                    Error::new(Kind::Unsupported, message).help("give a Tableau or store environment, a path or a URL in --to")
                );
            }
        };
        targets.insert(environment.to_owned(), Arc::clone(&target));
        Ok(target)
    }

    /// Opens a Tableau environment, for what only Tableau can do.
    ///
    /// # Errors
    /// As [`Self::target`], and `Unsupported` for another kind of environment.
    pub fn tableau(&self, environment: &str) -> Result<Arc<Tableau>> {
        let mut sites = self.sites.lock().map_err(|_| Error::new(Kind::Unexpected, "a thread opening a target panicked"))?;
        if let Some(site) = sites.get(environment) {
            return Ok(Arc::clone(site));
        }
        let Env::Tableau(config) = self.config.environment(environment)? else {
            return Err(Error::new(Kind::Unsupported, format!("`{environment}` is no Tableau environment")));
        };
        let env = TableauEnv::from_config(environment, config, &self.config.base).at("environment", environment)?;
        let site = Arc::new(Tableau::new(env, &self.limits).at("environment", environment)?);
        sites.insert(environment.to_owned(), Arc::clone(&site));
        Ok(site)
    }

    fn root(&self, env: &LakeEnv) -> Result<Location> {
        let root = Location { url: env.root.clone(), options: secret::resolve(&env.options, &self.config.base)? };
        Ok(anchored(&root, &self.config.base))
    }

    /// What opens the tables of a format, where its files are only parts of them.
    fn place_of(&self, format: Option<&str>, name: &str) -> Result<Option<&Arc<dyn Places>>> {
        let found = match format {
            Some(format) => self.formats.by_name(format)?,
            None => match self.formats.by_extension(name.trim_end_matches('/')) {
                Ok(format) => format,
                Err(_) => return Ok(None),
            },
        };
        let name = found.capability().name;
        if !found.has_a_place() {
            return Ok(None);
        }
        let opens = self.places.iter().find(|p| p.format() == name);
        opens.map(Some).ok_or_else(|| Error::new(Kind::Unsupported, format!("{name} tables are not written here")))
    }

    /// The environment's name, the root and the table's name of a reference to files; `None` for other places.
    fn table_at(&self, to: &Reference) -> Result<Option<(String, Location, String)>> {
        let (environment, root, name) = match to {
            Reference::Named { environment, path } => match self.config.environment(environment)? {
                Env::Lake(env) | Env::Store(env) => (environment.clone(), self.root(env)?, path.trim_matches('/').to_owned()),
                _ => return Ok(None),
            },
            Reference::Place(_) => {
                let at = to.locate(&self.config, &self.directory)?;
                let absolute = crate::source::local_path(&at.url).and_then(|p| std::path::absolute(p).ok());
                let url = absolute.map_or(at.url, |p| p.to_string_lossy().into_owned());
                let (root, name) = url.trim_end_matches('/').rsplit_once('/').unwrap_or_default();
                let root = if root.is_empty() { "/" } else { root };
                (root.to_owned(), Location { url: root.to_owned(), options: at.options }, name.to_owned())
            }
        };
        if name.is_empty() {
            return Err(Error::new(Kind::Usage, "the table has no name").help("name its directory: ENV:orders or ./gold/orders"));
        }
        Ok(Some((environment, root, name)))
    }

    /// Where a `to` reference leads, with what its environment says about formats.
    pub(crate) fn destination(
        &self,
        to: &Reference,
        format: Option<&str>,
    ) -> Result<(Destination, Option<u8>, Option<&'static str>)> {
        let (Reference::Named { path: name, .. } | Reference::Place(name)) = to;
        if let Some(places) = self.place_of(format, name)?
            && let Some((environment, root, name)) = self.table_at(to)?
        {
            let target = places.target(root);
            return Ok((Destination::Target { environment, target, name }, None, Some(places.format())));
        }
        match to {
            Reference::Named { environment, path } => {
                let (version, preferred) = match self.config.environment(environment)? {
                    Env::Tableau(config) => (config.hyper_version, Some("hyper")),
                    Env::Lake(env) | Env::Store(env) => (env.hyper_version, None),
                    Env::Spark(_) => (None, None),
                    Env::Database(env) => (None, Some(if env.driver.contains("sqlite") { "sqlite" } else { "postgresql" })),
                };
                if let Some(version) = version
                    && !(2..=4).contains(&version)
                {
                    return Err(Error::new(Kind::ConfigInvalid, format!("hyper_version {version} does not exist"))
                        .at("environment", environment)
                        .help("the versions are 2, 3 and 4"));
                }
                let target = self.target(environment)?;
                let destination = Destination::Target { environment: environment.clone(), target, name: path.clone() };
                Ok((destination, version, preferred))
            }
            Reference::Place(place) => {
                let location = Reference::Place(place.clone()).locate(&self.config, &self.directory)?;
                if let Some(path) = crate::source::local_path(&location.url) {
                    return Ok((Destination::File(path), None, None));
                }
                let (root, name) = location.url.rsplit_once('/').unwrap_or((&location.url, ""));
                let target: Arc<dyn Target> = Arc::new(Store::new(Location::new(root)));
                Ok((Destination::Target { environment: root.to_owned(), target, name: name.to_owned() }, None, None))
            }
        }
    }

    /// Ends all sessions; never fails.
    pub async fn close(&self) {
        let targets: Vec<_> = self.targets.lock().map(|t| t.values().cloned().collect()).unwrap_or_default();
        for target in targets {
            target.close().await;
        }
        // A site that was only asked has a session, too; closing one twice does nothing.
        let sites: Vec<_> = self.sites.lock().map(|s| s.values().cloned().collect()).unwrap_or_default();
        for site in sites {
            site.close().await;
        }
    }
}
