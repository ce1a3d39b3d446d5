//! All engines of a configuration as one: a query goes to the cluster whose tables it names, every other to the embedded one.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lakeport::config::{Config, Env};
use lakeport::error::{Error, Kind, Result};
use lakeport::limits::Limits;
use lakeport::source::{Engine, Listed, Location, Query, Table};

use crate::embedded::Embedded;
use crate::spark::{self, Spark};

/// The embedded engine, and one for each Spark environment.
#[derive(Debug)]
pub struct Engines {
    embedded: Arc<Embedded>,
    clusters: BTreeMap<String, Spark>,
}

impl Engines {
    /// Makes them; nothing is connected before a query asks for it.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let embedded = Arc::new(Embedded::new());
        let clusters = config.env.iter().filter_map(|(name, env)| match env {
            Env::Spark(env) => Some((name.clone(), Spark::new(name, env, config.base.clone(), Arc::clone(&embedded)))),
            _ => None,
        });
        Self { clusters: clusters.collect(), embedded }
    }

    fn of(&self, query: &Query) -> Result<&dyn Engine> {
        let by_place = query.from.as_ref().and_then(|l| spark::path(&l.url)).map(|(name, _)| name);
        let by_text = || query.sql.as_deref().and_then(|text| spark::named(text, self.clusters.keys().map(String::as_str)));
        match by_place.or_else(by_text) {
            None => Ok(self.embedded.as_ref()),
            Some(name) => self.cluster(name),
        }
    }

    fn cluster(&self, name: &str) -> Result<&dyn Engine> {
        let cluster = self.clusters.get(name).map(|c| c as &dyn Engine);
        cluster.ok_or_else(|| Error::new(Kind::UnknownName, format!("there is no Spark environment `{name}`")))
    }
}

#[async_trait]
impl Engine for Engines {
    fn name(&self) -> &'static str {
        "embedded"
    }

    async fn open(&self, query: &Query, limits: &Limits) -> Result<Table> {
        self.of(query)?.open(query, limits).await
    }

    async fn list(&self, at: &Location) -> Result<Vec<Listed>> {
        match spark::path(&at.url) {
            Some((name, _)) => self.cluster(name)?.list(at).await,
            None => self.embedded.list(at).await,
        }
    }
}
