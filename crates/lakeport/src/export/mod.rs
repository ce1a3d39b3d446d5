//! A finished file to a place people look at. Knows nothing of lakes.
//!
//! A target is a [`Target`] and one line where environments become targets ([`crate::Lakeport::target`]).

use std::fmt;
use std::path::Path;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::convert::manifest::FileSet;
use crate::convert::{FileDescription, Temporary, Written};
use crate::error::{Error, Kind, Result, Wrap};
use crate::source::{Listed, Location};
use crate::types::Mapping;

pub mod care;
pub mod database;
pub(crate) mod lock;
pub mod store;
pub mod tableau;

/// What a target can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// The environment type: `tableau`, `store`.
    pub name: &'static str,
    /// The formats it takes, the preferred one first; empty for any.
    pub formats: &'static [&'static str],
    /// The modes it knows.
    pub modes: &'static [Mode],
    /// Whether what was published can be counted afterwards.
    pub observes: bool,
    /// One line for `lakeport formats`.
    pub summary: &'static str,
}

impl Capability {
    /// Makes sure that it takes files of a format in a mode.
    ///
    /// # Errors
    /// `Unsupported`, naming the environment and what it takes.
    pub fn ensure_takes(&self, environment: &str, format: &str, mode: Mode) -> Result<()> {
        if !self.formats.is_empty() && !self.formats.contains(&format) {
            return Err(Error::new(Kind::Unsupported, format!("`{environment}` does not take .{format} files"))
                .help(format!("it takes {}", self.formats.join(", "))));
        }
        if !self.modes.contains(&mode) {
            let modes: Vec<_> = self.modes.iter().map(|m| m.name()).collect();
            return Err(Error::new(Kind::Unsupported, format!("`{environment}` does not know mode {}", mode.name()))
                .help(format!("it knows {}", modes.join(", "))));
        }
        Ok(())
    }
}

/// What each kind of target can do, in the order of the docs.
#[must_use]
pub fn capabilities() -> Vec<Capability> {
    vec![tableau::CAPABILITY, store::CAPABILITY, database::CAPABILITY]
}

/// What becomes of what is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The new table takes the place of the old, or is created.
    #[default]
    #[serde(alias = "overwrite")]
    Full,
    /// Fails when something of this name exists.
    Create,
    /// Rows are added to what exists.
    Append,
    /// Tableau's `replace=true`: the rows of an existing data source are exchanged, its metadata kept.
    Replace,
    /// Rows with a known key are updated, others inserted.
    Upsert,
    /// A window of rows is deleted and inserted anew.
    DeleteInsert,
}

impl Mode {
    /// The word used on the command line and in configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Create => "create",
            Self::Append => "append",
            Self::Replace => "replace",
            Self::Upsert => "upsert",
            Self::DeleteInsert => "delete-insert",
        }
    }
}

/// How to publish.
#[derive(Debug, Clone, Default)]
pub struct Publish {
    /// The name there: a data source's name, or a path below the store's root.
    pub name: String,
    /// What becomes of what exists.
    pub mode: Mode,
    /// Columns that identify a row, for the modes that need them.
    pub keys: Vec<String>,
    /// Where to keep the receipt while the publish is under way, so that the next one of the same content to the same name
    /// takes up what this one began.
    ///
    /// After a success it stays there as [`Stage::Published`], for the caller to remove when nothing that belongs to the publish
    /// can fail any more. Until then it tells the next append of the same content that the rows are there already; what does
    /// not double anything starts over.
    pub receipt_path: Option<std::path::PathBuf>,
    /// What tells these rows from others whatever their order, where that is known: a file that is converted anew has other
    /// bytes each time.
    pub content: Option<String>,
}

/// How far a publish has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The file is on the server and not yet under its name.
    Uploaded,
    /// The server was told to publish it and works on it.
    Committed,
    /// It is there, whole.
    #[default]
    Published,
}

/// What a publish left behind, enough to look at it again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The target's own id: a data source LUID, or the final path.
    pub id: String,
    /// Its name.
    pub name: String,
    /// A link a person can open.
    pub url: Option<String>,
    /// Bytes that went over the wire or to disk.
    pub bytes: u64,
    /// The way it went: `single request`, `12 blocks of 50 MiB`, `rename`.
    pub way: String,
    /// The server-side job, if there was one.
    pub job: Option<String>,
    /// Requests that were repeated, each with its reason.
    pub retries: Vec<String>,
    /// How far it came; anything but `Published` is found on disk only, after a run that was cut off.
    #[serde(default)]
    pub stage: Stage,
    /// The target's id of what it lies in: a project's LUID.
    #[serde(default)]
    pub place: Option<String>,
    /// When what was there before had last changed, as the target writes it.
    #[serde(default)]
    pub updated_before: Option<String>,
    /// What tells what was sent from other content, where a receipt is kept on disk: the rows where [`Publish::content`] was
    /// given, else size and hash of the file.
    #[serde(default)]
    pub content: Option<String>,
    /// A moment before the commit, by the target's clock: what last changed before it was not changed by this publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_after: Option<DateTime<Utc>>,
    /// What described the thing that an overwrite takes the place of, until it was given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub described: Option<Described>,
    /// What became of what was there.
    #[serde(default)]
    pub mode: Mode,
    /// Address and site, so that a receipt is not taken for one of another server.
    #[serde(default)]
    pub server: Option<String>,
    /// The target's id of a complete upload that waits to be committed.
    #[serde(default)]
    pub upload: Option<String>,
    /// What else there is to tell: what was restored after an overwrite, and what was lost by it.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What belongs to a published thing besides its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Described {
    /// Its description.
    pub description: Option<String>,
    /// Whether it is certified, if told.
    pub certified: Option<bool>,
    /// What was noted with the certification.
    pub certification_note: Option<String>,
    /// The target's id of its owner.
    pub owner: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
}

impl Receipt {
    /// Whether both are of the same rows, put in the same mode into the same thing; never where the rows are not known.
    #[must_use]
    pub fn repeats(&self, former: &Self) -> bool {
        let of = |r: &Self| (r.content.clone(), r.name.clone(), r.mode, r.place.clone(), r.server.clone());
        self.content.is_some() && of(self) == of(former)
    }

    /// Reads a receipt that a publish left on disk; `None` when there is none.
    ///
    /// # Errors
    /// `SourceUnreadable` when it cannot be read or is no receipt.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let failed = || format!("cannot read the receipt {}", path.display());
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).wrap(Kind::SourceUnreadable, failed),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).wrap(Kind::SourceUnreadable, failed),
        }
    }

    /// Keeps the receipt on disk, whole or not at all.
    ///
    /// # Errors
    /// `WriteFailed`, `OutOfSpace`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).wrap(Kind::Unexpected, || "cannot write the receipt".to_owned())?;
        let temporary = Temporary::beside(path)?;
        std::fs::write(temporary.path(), text).wrap(Kind::WriteFailed, || format!("cannot write {}", path.display()))?;
        temporary.keep().map(drop)
    }
}

/// What the target tells about what was published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// Size in bytes, if told.
    pub bytes: Option<u64>,
    /// Rows per table, if told.
    pub rows: Option<Vec<u64>>,
    /// When it last changed, as the target writes it.
    pub updated_at: Option<String>,
    /// What it could not tell, said plainly.
    pub unknown: Vec<String>,
}

/// The state of an environment, for `lakeport check`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Each thing looked at: what, and what was found.
    pub facts: Vec<(String, String)>,
    /// What is missing: a project, a directory.
    pub missing: Vec<String>,
    /// What the user has no right to; ready is what lacks neither.
    pub denied: Vec<String>,
}

/// How far an upload is, for progress lines.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Makes sure that keys are given, and are columns.
///
/// # Errors
/// `Usage`.
pub(crate) fn ensure_keys(mode: Mode, keys: &[String], columns: &[&str]) -> Result<()> {
    if keys.is_empty() {
        return Err(Error::new(Kind::Usage, format!("mode {} needs a key", mode.name()))
            .help("name the columns that identify a row with --key, or key = [\"…\"] in the job"));
    }
    match keys.iter().find(|k| !columns.contains(&k.as_str())) {
        Some(missing) => Err(Error::new(Kind::Usage, format!("the key names column `{missing}`, which the table does not have"))),
        None => Ok(()),
    }
}

/// A place where files go.
#[async_trait]
pub trait Target: Send + Sync + fmt::Debug {
    /// What it can do.
    fn capability(&self) -> Capability;

    /// Looks whether one could publish now: reach, sign-in, project, right; changes nothing.
    ///
    /// # Errors
    /// What keeps it from answering at all; what is merely missing stands in [`Health::missing`].
    async fn check(&self) -> Result<Health>;

    /// Lists what is there below a path.
    ///
    /// # Errors
    /// As `check`, and `TargetMissing`.
    async fn list(&self, path: &str) -> Result<Vec<Listed>>;

    /// Says, before any work, whether rows like these could be published under this name.
    ///
    /// # Errors
    /// As `publish` would give them; what only the work itself can tell is no error here.
    async fn foresee(&self, _how: &Publish, _tables: &[&Mapping]) -> Result<()> {
        Ok(())
    }

    /// Publishes a finished file; on success it is there whole, on failure what was there before still is.
    ///
    /// # Errors
    /// Kinds for exit codes 2, 4 and 5, and `FileRefused`.
    async fn publish(&self, file: &Written, how: &Publish, progress: Progress<'_>) -> Result<Receipt>;

    /// Where a name lies on the local disk, for a target that is nothing but a directory there.
    fn on_disk(&self, _name: &str) -> Option<std::path::PathBuf> {
        None
    }

    /// Publishes a set of files into a directory: the parts, and last the manifest that makes them one.
    ///
    /// # Errors
    /// As `publish`, and `Unsupported` for a target that takes one file.
    async fn publish_set(&self, _set: &FileSet, _how: &Publish, _progress: Progress<'_>) -> Result<Receipt> {
        let target = self.capability().name;
        Err(Error::new(Kind::Unsupported, format!("a {target} target takes one file, not several")).help("leave out --split"))
    }

    /// Asks the target what it now holds of a set.
    ///
    /// # Errors
    /// As `publish_set`; `VerifyFailed` where the set is not there.
    async fn observe_set(&self, _set: &FileSet, receipt: &Receipt) -> Result<Observed> {
        self.observe(receipt).await
    }

    /// Asks the target what it now holds.
    ///
    /// # Errors
    /// As `check`.
    async fn observe(&self, receipt: &Receipt) -> Result<Observed>;

    /// Sees to what a job declares about what was just published; returns what was changed.
    ///
    /// # Errors
    /// As `publish`, `VerifyFailed` where the target did not take it, and `Unsupported` for a target without such things.
    async fn see_to(&self, receipt: &Receipt, care: &care::Care) -> Result<Vec<String>> {
        if care.is_empty() {
            return Ok(Vec::new());
        }
        let (name, target) = (&receipt.name, self.capability().name);
        let message = format!("`{name}` has permissions or a warning declared, which a {target} target does not have");
        Err(Error::new(Kind::Unsupported, message).help("drop them from the job"))
    }

    /// Ends the session, if there is one; never fails a run.
    async fn close(&self) {}
}

/// A kind of table that has a place of its own wherever files are: a directory with a log.
///
/// The environment says where (a store, a path, a URL), the format says that it is such a table, and this opens it. Handed to
/// [`crate::Lakeport::with_places`], so that the library needs nothing of what it is made of.
#[async_trait]
pub trait Places: Send + Sync + fmt::Debug {
    /// The format whose files it takes: `delta`.
    fn format(&self) -> &'static str;

    /// What its targets can do, for `lakeport formats`.
    fn capability(&self) -> Capability;

    /// Makes a target of the tables below a location; reaches nothing yet.
    fn target(&self, root: Location) -> std::sync::Arc<dyn Target>;

    /// Describes the table at a location; `None` when none is there.
    ///
    /// # Errors
    /// What keeps it from being read, as of a source.
    async fn describe(&self, at: &Location) -> Result<Option<FileDescription>>;
}
