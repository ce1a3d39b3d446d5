//! A table of a database as a target, through its ADBC driver.
//!
//! Everything a publish does is one transaction: rows go into a table of their own first, which then takes the place of the old
//! (or is merged into it). A reader sees the old table or the new one; a connection that dies leaves the old.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;

use super::{Capability, Health, Mode, Observed, Progress, Publish, Receipt, Target, ensure_keys};
use crate::config::{DatabaseEnv, Secret};
use crate::convert::Written;
use crate::error::{Kind, Result, Wrap};
use crate::source::Listed;
use crate::types::Mapping;
use place::Place;
use session::Session;

mod driver;
mod modes;
mod once;
mod place;
mod session;

/// What this target can do.
pub const CAPABILITY: Capability = Capability {
    name: "database",
    formats: &["postgresql", "sqlite"],
    modes: &[Mode::Full, Mode::Create, Mode::Append, Mode::Upsert, Mode::DeleteInsert],
    observes: true,
    summary: "PostgreSQL, SQLite and others through ADBC: bulk ingest in one transaction",
};

/// A database as a target.
pub struct DatabaseTarget {
    place: Place,
}

impl fmt::Debug for DatabaseTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseTarget").field("driver", &self.place.driver).finish_non_exhaustive()
    }
}

impl DatabaseTarget {
    /// Makes a target, its secrets looked up; nothing is connected yet.
    #[must_use]
    pub fn new(env: &DatabaseEnv, password: Option<Secret>, options: BTreeMap<String, String>) -> Self {
        Self { place: Place::new(env, password, options) }
    }

    async fn on<T: Send + 'static>(&self, work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static) -> Result<T> {
        let place = self.place.clone();
        tokio::task::spawn_blocking(move || work(&mut Session::open(place)?))
            .await
            .wrap(Kind::Unexpected, || "a thread talking to the database panicked".into())?
    }
}

#[async_trait]
impl Target for DatabaseTarget {
    fn capability(&self) -> Capability {
        CAPABILITY
    }

    async fn check(&self) -> Result<Health> {
        let driver = self.place.driver.clone();
        self.on(move |session| {
            session.number("SELECT 1")?;
            let mut health = Health::default();
            health.facts.push(("driver".into(), driver));
            Ok(health)
        })
        .await
    }

    async fn list(&self, path: &str) -> Result<Vec<Listed>> {
        if !path.is_empty() {
            return Ok(Vec::new());
        }
        self.on(Session::list).await
    }

    async fn foresee(&self, how: &Publish, tables: &[&Mapping]) -> Result<()> {
        let keyed = matches!(how.mode, Mode::Upsert | Mode::DeleteInsert);
        match tables {
            [table] if keyed => {
                ensure_keys(how.mode, &how.keys, &table.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>())
            }
            _ => Ok(()),
        }
    }

    async fn publish(&self, file: &Written, how: &Publish, progress: Progress<'_>) -> Result<Receipt> {
        let (file, asked, bytes) = (file.clone(), how.clone(), file.bytes);
        let receipt = Receipt {
            id: how.name.clone(),
            name: how.name.clone(),
            bytes,
            way: "one transaction".into(),
            mode: how.mode,
            content: how.content.clone(),
            server: Some(self.place.identity()),
            ..Receipt::default()
        };
        progress(0, bytes);
        let receipt = self.on(move |session| once::publish(session, &file, &asked, receipt)).await?;
        progress(bytes, bytes);
        Ok(receipt)
    }

    async fn observe(&self, receipt: &Receipt) -> Result<Observed> {
        let name = receipt.name.clone();
        let rows = self.on(move |session| session.count(&name)).await?;
        let unknown = vec!["values: they were compared in the staged rows; the database counts rows".to_owned()];
        Ok(Observed { rows: Some(vec![rows]), unknown, ..Observed::default() })
    }
}
