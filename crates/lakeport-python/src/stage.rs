//! The stage: a directory or a place in an object store that driver and executors share.
//!
//! Each write has a directory of its own in it, named by the time it began. What a write leaves is removed by its commit or
//! abort; what a dead driver leaves is removed by a later write, by its age.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt};
use lakeport::error::{Error, Kind, Result, Wrap};
use lakeport::export::store::object_store_for;
use lakeport::source::{Location, local_path};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

/// What the directories of writes are called, before the time and a unique id.
const PREFIX: &str = "lakeport-df-";
/// What reports are called, before the id they were asked under.
const REPORT: &str = "lakeport-report-";

/// The stage, or a directory in it.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) location: Location,
}

/// Where it is.
pub(crate) enum Place {
    /// A directory.
    Disk(PathBuf),
    /// A prefix in an object store.
    Objects(Arc<dyn ObjectStore>, Key),
}

impl Stage {
    pub(crate) fn at((url, options): crate::Place) -> Self {
        Self { location: Location { url, options } }
    }

    pub(crate) fn place(&self) -> Result<Place> {
        if let Some(path) = local_path(&self.location.url) {
            return Ok(Place::Disk(path));
        }
        let (store, key) = object_store_for(&self.location)?;
        Ok(Place::Objects(store, key))
    }

    /// Whether URL and options make sense; nothing is reached.
    pub(crate) fn ensure_reachable(&self) -> Result<()> {
        if local_path(&self.location.url).is_some() && !self.location.options.is_empty() {
            return Err(Error::new(Kind::Usage, "a stage that is a directory has no options")
                .help("leave the options stage.… out, or give an object store: .option(\"stage\", \"s3://bucket/stage\")"));
        }
        self.place().map(drop)
    }

    /// Names the directory of one write.
    pub(crate) fn fresh(&self) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { location: self.location.join(&format!("{PREFIX}{now}-{}", uuid::Uuid::new_v4())) }
    }

    /// Makes the directory; an object store needs none.
    pub(crate) fn create(&self) -> Result<()> {
        let Place::Disk(path) = self.place()? else { return Ok(()) };
        std::fs::create_dir_all(&path).wrap(Kind::WriteFailed, || format!("cannot create {} in the stage", path.display()))
    }

    /// Removes it and all below; what cannot be removed is left to the sweeper.
    pub(crate) async fn remove(&self) {
        if let Err(error) = self.try_remove().await {
            tracing::warn!(%error, stage = %self.location.url, "the stage cannot be removed; a later write will try again");
        }
    }

    async fn try_remove(&self) -> Result<()> {
        /// A task that is being killed may still write into the directory while it is removed.
        const TRIES: u32 = 20;
        let failed = || format!("cannot remove {}", self.location.url);
        match self.place()? {
            Place::Disk(path) => {
                for left in (0..TRIES).rev() {
                    match std::fs::remove_dir_all(&path) {
                        Ok(()) => break,
                        Err(e) if e.kind() == std::io::ErrorKind::NotFound => break,
                        Err(e) if left == 0 => return Err(e).wrap(Kind::WriteFailed, failed),
                        Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                    }
                }
            }
            Place::Objects(store, key) => {
                let keys = store.list(Some(&key)).map_ok(|object| object.location).boxed();
                store.delete_stream(keys).try_collect::<Vec<_>>().await.wrap(Kind::WriteFailed, failed)?;
            }
        }
        Ok(())
    }

    /// Removes what writes and reports left that nobody touched for longer than this; returns what was removed.
    pub(crate) async fn sweep(&self, ttl: Duration) -> Vec<String> {
        let entries = self.entries().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the stage cannot be listed for leftovers");
            Vec::new()
        });
        let mut removed = Vec::new();
        for (name, touched) in entries {
            let old = SystemTime::now().duration_since(touched).is_ok_and(|age| age >= ttl);
            if !old {
                continue;
            }
            tracing::info!(%name, "a leftover of an earlier write is removed from the stage");
            let entry = Self { location: self.location.join(&name) };
            let done = if name.starts_with(REPORT) { entry.remove_file().await } else { entry.try_remove().await };
            match done {
                Ok(()) => removed.push(name),
                Err(error) => tracing::warn!(%error, "a leftover cannot be removed"),
            }
        }
        removed
    }

    /// The directories of writes and the reports in the stage, each with when it was last touched.
    async fn entries(&self) -> Result<Vec<(String, SystemTime)>> {
        let failed = || format!("cannot list {}", self.location.url);
        let mut entries = Vec::new();
        match self.place()? {
            Place::Disk(path) => {
                let listed = match std::fs::read_dir(path) {
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(entries),
                    listed => listed.wrap(Kind::WriteFailed, failed)?,
                };
                for entry in listed.flatten() {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    let changed = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
                    if name.starts_with(REPORT) {
                        entries.extend(changed(&entry.path()).map(|at| (name, at)));
                    } else if let Some(began) = began(&name) {
                        let files = std::fs::read_dir(entry.path()).into_iter().flatten().flatten();
                        let newest = files.filter_map(|f| changed(&f.path())).max();
                        entries.push((name, newest.map_or(began, |at| at.max(began))));
                    }
                }
            }
            Place::Objects(store, key) => {
                let listed = store.list_with_delimiter(Some(&key)).await.wrap(Kind::WriteFailed, failed)?;
                for object in listed.objects {
                    if let Some(name) = object.location.filename().filter(|n| n.starts_with(REPORT)) {
                        entries.push((name.to_owned(), object.last_modified.into()));
                    }
                }
                for prefix in listed.common_prefixes {
                    let Some((name, began)) = prefix.filename().and_then(|n| Some((n.to_owned(), began(n)?))) else { continue };
                    let changed = store.list(Some(&prefix)).map_ok(|o| SystemTime::from(o.last_modified));
                    let newest: Vec<_> = changed.try_collect().await.wrap(Kind::WriteFailed, failed)?;
                    entries.push((name, newest.into_iter().max().map_or(began, |at| at.max(began))));
                }
            }
        }
        Ok(entries)
    }

    /// Leaves a report for whoever asked for it; a publish that is done does not fail for it.
    pub(crate) async fn leave_report(&self, id: &str, text: &str) {
        let at = Self { location: self.location.join(&format!("{REPORT}{id}.json")) };
        let left = match at.place() {
            Ok(Place::Disk(path)) => std::fs::write(path, text).map_err(|e| e.to_string()),
            Ok(Place::Objects(store, key)) => store.put(&key, text.to_owned().into()).await.map(drop).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = left {
            tracing::warn!(%error, "the report cannot be left in the stage");
        }
    }

    /// Takes a report away; none where it is not there.
    pub(crate) async fn take_report(&self, id: &str) -> Result<Option<String>> {
        let failed = || format!("the report cannot be read from {}", self.location.url);
        if !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(Error::new(Kind::Usage, format!("`{id}` is no id of a report")));
        }
        let at = Self { location: self.location.join(&format!("{REPORT}{id}.json")) };
        let text = match at.place()? {
            Place::Disk(path) => match std::fs::read(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                read => read.wrap(Kind::SourceUnreadable, failed)?,
            },
            Place::Objects(store, key) => match store.get(&key).await {
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                got => got.wrap(Kind::SourceUnreadable, failed)?.bytes().await.wrap(Kind::SourceUnreadable, failed)?.into(),
            },
        };
        at.remove_file().await?;
        String::from_utf8(text).map(Some).wrap(Kind::SourceUnreadable, failed)
    }

    async fn remove_file(&self) -> Result<()> {
        let failed = || format!("cannot remove {}", self.location.url);
        match self.place()? {
            Place::Disk(path) => std::fs::remove_file(path).wrap(Kind::WriteFailed, failed),
            Place::Objects(store, key) => store.delete(&key).await.wrap(Kind::WriteFailed, failed),
        }
    }
}

/// When the write of this name began; none where the name is not one of ours.
fn began(name: &str) -> Option<SystemTime> {
    let (seconds, id) = name.strip_prefix(PREFIX)?.split_once('-')?;
    uuid::Uuid::parse_str(id).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.parse().ok()?))
}
