//! Tableau Server and Tableau Cloud.
//!
//! The way of a publish: `session` asks for the version and signs in, `project` walks the path, `upload` sends the
//! blocks, `publish` commits, `job` waits, `datasource` looks at what came of it. Below them, `http` makes one call,
//! `fault` says what a failure means and `retry` when to try again; `xml` and `multipart` are the bodies.
//!
//! All of it was proven against recordings and stand-ins, never against a live server.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::convert::Written;
use crate::error::{Error, Kind, Result};
use crate::limits::{Limits, show_size};
use crate::source::Listed;
use crate::types::Mapping;

use super::care::Care;
use super::{Capability, Health, Mode, Observed, Progress, Publish, Receipt, Target, ensure_keys};

mod care;
mod change;
mod check;
mod datasource;
mod env;
mod fault;
pub(crate) mod fuzzing;
mod http;
mod job;
mod jwt;
mod multipart;
mod parts;
mod project;
mod publish;
mod resume;
mod retry;
mod session;
mod signin;
mod update;
mod upload;
mod upsert;
mod xml;

#[cfg(test)]
mod tests;

pub use change::{Action, Change, Cut, Match, TableName, Verb};
pub use check::Check;
pub use datasource::DataSource;
pub use env::{Auth, Network, Proxy, TableauEnv};
pub use job::{Job, JobState};

use project::{Place, Resolved};
use retry::{Repeat, Repeats};
use session::{Call, Server};

/// What this target can do.
pub const CAPABILITY: Capability = Capability {
    name: "tableau",
    formats: &["hyper", "tdsx", "tde", "parquet"],
    modes: &[Mode::Full, Mode::Create, Mode::Append, Mode::Upsert, Mode::Replace],
    observes: true,
    summary: "Tableau Server and Cloud: chunked upload, asynchronous publish, read back",
};

/// A Tableau server as a target; signs in when first needed and keeps that session until [`Target::close`].
#[derive(Debug)]
pub struct Tableau {
    server: Server,
    place: Place,
    /// The id the place leads to; locked while it is looked up, so that jobs side by side create a project once.
    found: Mutex<Option<Option<String>>>,
    buffer: usize,
    limits: Limits,
    job_deadline: Duration,
}

impl Tableau {
    /// Makes the target; reaches nothing yet.
    ///
    /// # Errors
    /// `ConfigInvalid` for an address, project path, version or certificate file that cannot be read.
    pub fn new(env: TableauEnv, limits: &Limits) -> Result<Self> {
        let name = env.name.clone();
        Self::build(env, limits).map_err(|e| e.at("environment", name))
    }

    fn build(env: TableauEnv, limits: &Limits) -> Result<Self> {
        let place = Place::parse(env.project.as_deref())?;
        let job_deadline = env.job_deadline.unwrap_or(limits.job_deadline);
        let server = Server::new(env, limits)?;
        Ok(Self { server, place, found: Mutex::default(), buffer: limits.upload_buffer, limits: limits.clone(), job_deadline })
    }

    /// Finds a data source by exact name in the environment's project.
    ///
    /// # Errors
    /// As [`Target::check`], and `TargetMissing` when the project does not exist.
    pub async fn find_datasource(&self, name: &str) -> Result<Option<DataSource>> {
        let mut repeats = Repeats::default();
        let found = match self.existing(&self.place, &mut repeats).await {
            Ok(project) => self.server.find(name, project.as_deref(), &mut repeats).await,
            Err(e) => Err(e),
        };
        found.map_err(|e| self.here(e))
    }

    /// Asks for a server-side job by its id.
    ///
    /// # Errors
    /// As [`Target::check`], and `TargetMissing` for an unknown job.
    pub async fn job(&self, id: &str) -> Result<Job> {
        self.server.job(id, &mut Repeats::default()).await.map_err(|e| self.here(e))
    }

    /// The id of the environment's project, created when that is wanted; `None` lets the server choose.
    async fn project(&self, repeats: &mut Repeats) -> Result<Option<String>> {
        let mut found = self.found.lock().await;
        if let Some(known) = &*found {
            return Ok(known.clone());
        }
        let project = self.server.project(&self.place, repeats).await?;
        *found = Some(project.clone());
        Ok(project)
    }

    async fn forget_project(&self) {
        *self.found.lock().await = None;
    }

    /// The id of a place, created never.
    async fn existing(&self, place: &Place, repeats: &mut Repeats) -> Result<Option<String>> {
        match (self.server.resolve(place, repeats).await?, place) {
            (Resolved::There(id), _) => Ok(id),
            (Resolved::Missing { found, siblings, .. }, Place::Path(levels)) => {
                Err(project::missing(levels, found, &siblings).during("find project"))
            }
            (Resolved::Missing { .. }, _) => Ok(None),
        }
    }

    fn here(&self, e: Error) -> Error {
        e.at("environment", &self.server.env.name)
    }

    async fn look_around(&self, repeats: &mut Repeats) -> Result<Health> {
        let mut health = Health::default();
        let mut fact = |what: &str, found: String| health.facts.push((what.to_owned(), found));
        fact("server", self.server.address());
        let info = self.server.info(repeats).await?;
        if !info.product.is_empty() {
            fact("product version", info.product.clone());
        }
        let offered = info.offered.filter(|o| *o != info.version).map(|o| format!(" (the server offers {o})"));
        fact("REST API version", format!("{}{}", info.version, offered.unwrap_or_default()));
        let session = self.server.session(repeats).await?;
        let site = if session.site_url.is_empty() { "the default site" } else { &session.site_url };
        fact("site", site.to_owned());
        let (user, role) = self.user(&session.user, repeats).await;
        fact("user", user);
        let (mut missing, mut denied) = (Vec::new(), Vec::new());
        match role {
            Some(role) if may_publish(&role) => {
                fact("right to publish", format!("site role {role}; the project's own rules decide"))
            }
            Some(role) => {
                denied.push(format!("the site role {role} may not publish; it takes Explorer (can publish) or Creator"))
            }
            None => fact("right to publish", "the server does not tell; a publish will".to_owned()),
        }
        match (self.server.resolve(&self.place, repeats).await?, &self.place) {
            (Resolved::There(_), place) => fact("project", place.show()),
            (Resolved::Missing { .. }, place) if self.server.env.create_project => {
                fact("project", format!("{} would be created", place.show()));
            }
            (Resolved::Missing { found, siblings, .. }, Place::Path(levels)) => {
                let error = project::missing(levels, found, &siblings);
                missing.push(format!("{}: {}", error.message(), error.help_line()));
            }
            (Resolved::Missing { .. }, place) => missing.push(format!("there is no {}", place.show())),
        }
        (health.missing, health.denied) = (missing, denied);
        Ok(health)
    }

    /// Name and site role of the signed-in user, as far as the server tells them.
    async fn user(&self, id: &str, repeats: &mut Repeats) -> (String, Option<String>) {
        let call = Call::get("ask for the user", format!("/users/{}", session::encode(id)));
        // Not every user may ask, and a check does not fail over it.
        let answer = self.server.call(&call, Repeat::OnlyIfNotTaken, repeats).await.ok();
        let user = answer.as_ref().and_then(|a| a.root.find("user"));
        let name = user.and_then(|u| u.told("name")).unwrap_or_else(|| id.to_owned());
        (name, user.and_then(|u| u.told("siteRole")))
    }

    async fn list_below(&self, path: &str, repeats: &mut Repeats) -> Result<Vec<Listed>> {
        let place = self.below(path)?;
        let project = self.existing(&place, repeats).await?;
        // The default project is a project among others: what is at the top stands beside what is in it.
        let parent = if place == Place::Default { None } else { project.as_deref() };
        let projects = self.server.children(parent, repeats).await?;
        let mut listed: Vec<Listed> = projects
            .into_iter()
            .map(|p| Listed {
                name: datasource::listed_project(path.trim_end_matches('/'), &p.name),
                kind: "project".to_owned(),
                details: [("id", Some(p.id)), ("description", p.description)]
                    .into_iter()
                    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
                    .collect(),
            })
            .collect();
        let mut sources = self.server.data_sources(None, repeats).await?;
        sources.retain(|d| project.is_none() || d.project_id == project);
        listed.extend(sources.into_iter().map(|d| Listed { details: d.details(), name: d.name, kind: "data source".to_owned() }));
        Ok(listed)
    }

    /// The place a path of a listing means: below the environment's project, or from the root when it begins with `/`.
    fn below(&self, path: &str) -> Result<Place> {
        if path.trim().is_empty() {
            return Ok(self.place.clone());
        }
        match (Place::parse(Some(path))?, &self.place) {
            (Place::Path(levels), Place::Path(above)) if !path.trim().starts_with('/') => {
                Ok(Place::Path(above.iter().cloned().chain(levels).collect()))
            }
            (place, _) => Ok(place),
        }
    }

    async fn look_at(&self, receipt: &Receipt, repeats: &mut Repeats) -> Result<Observed> {
        let gone = |what: String| Error::new(Kind::VerifyFailed, what).during("observe").at("data source", &receipt.name);
        // What tells of a data source may lag a little behind what was done to it.
        let begun = Instant::now();
        let found = loop {
            let Some(found) = self.server.data_source(&receipt.id, repeats).await? else {
                return Err(gone("the data source is no longer there".to_owned()));
            };
            if !found.untouched_by(receipt) {
                break found;
            }
            if begun.elapsed() >= self.server.pace.look / 20 {
                return Err(found.untouched().during("observe").at("data source", &receipt.name));
            }
            tokio::time::sleep(self.server.pace.look / 100).await;
        };
        if found.name != receipt.name {
            return Err(gone(format!("the data source is called `{}` there", found.name)));
        }
        if let (Some(there), Some(here)) = (&found.project_id, &receipt.place)
            && there != here
        {
            let project = found.project.as_deref().unwrap_or(there);
            return Err(gone(format!("the data source lies in another project, `{project}`")));
        }
        let mut observed = Observed { updated_at: found.updated_at.clone(), ..Observed::default() };
        observed.unknown.push("rows: the server does not tell them".to_owned());
        match found.size {
            // The unit is not documented, so only a size that cannot mean anything else is taken for one.
            Some(size) if size == receipt.bytes => observed.bytes = Some(size),
            Some(size) => observed
                .unknown
                .push(format!("size: the server says {size} without a unit, {} were sent", show_size(receipt.bytes))),
            None => observed.unknown.push("size: the server does not tell it".to_owned()),
        }
        if receipt.updated_before.is_some() && receipt.updated_before == found.updated_at {
            let read = datasource::read_time(&found.updated_at).is_some();
            let why = if read { "it counts in seconds" } else { "which cannot be read" };
            observed.unknown.push(format!("change: the server shows the same time as before; {why}"));
        } else if found.updated_at.is_none() {
            observed.unknown.push("change: the server does not tell when the data source changed".to_owned());
        }
        Ok(observed)
    }
}

/// Whether a site role can publish at all; unknown roles get the benefit of the doubt.
fn may_publish(role: &str) -> bool {
    !matches!(role, "Viewer" | "Explorer" | "Interactor" | "ReadOnly" | "Unlicensed" | "Guest" | "SupportUser")
}

#[async_trait]
impl Target for Tableau {
    fn capability(&self) -> Capability {
        CAPABILITY
    }

    async fn check(&self) -> Result<Health> {
        self.look_around(&mut Repeats::default()).await.map_err(|e| self.here(e))
    }

    async fn list(&self, path: &str) -> Result<Vec<Listed>> {
        self.list_below(path, &mut Repeats::default()).await.map_err(|e| self.here(e))
    }

    async fn publish(&self, file: &Written, how: &Publish, progress: Progress<'_>) -> Result<Receipt> {
        let published = match how.mode {
            Mode::Upsert => self.upsert(file, how, progress).await,
            _ => self.publish_file(file, how, progress).await,
        };
        published.map_err(|e| self.here(e))
    }

    async fn foresee(&self, how: &Publish, tables: &[&Mapping]) -> Result<()> {
        match tables {
            _ if how.mode != Mode::Upsert => Ok(()),
            [table] => ensure_keys(how.mode, &how.keys, &table.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>()),
            _ => Err(Error::new(Kind::Unsupported, "rows are upserted from one table").help("make a job of each table")),
        }
    }

    async fn see_to(&self, receipt: &Receipt, care: &Care) -> Result<Vec<String>> {
        if care.is_empty() {
            return Ok(Vec::new());
        }
        self.server
            .see_to(&receipt.id, care, &mut Repeats::default())
            .await
            .map_err(|e| self.here(e.at("data source", &receipt.name)))
    }

    async fn observe(&self, receipt: &Receipt) -> Result<Observed> {
        self.look_at(receipt, &mut Repeats::default()).await.map_err(|e| self.here(e))
    }

    async fn close(&self) {
        self.server.sign_out().await;
    }
}
