//! The hand-off for large results: executors write Parquet to the stage in parallel, Lakeport reads it and removes it.
//!
//! Each query has a directory of its own, named by the time it began, so that leftovers of killed runs can be told by age.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use lakeport::error::{Error, Kind, Result, Wrap};
use lakeport::source::Location;
use object_store::{ObjectStore, ObjectStoreExt};
use spark_connect_proto as proto;

use super::client::{Session, wait};
use super::query;
use super::results::Execution;
use crate::embedded::Place;

/// What the directories of Lakeport are called: `lakeport-` and a UUID of version 7.
const PREFIX: &str = "lakeport-";
/// Leftovers older than this are removed by the next query that stages.
const LEFTOVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A directory below the stage, removed when dropped unless it is to be kept.
pub(super) struct Stage {
    pub(super) location: Location,
    keep: bool,
}

impl Stage {
    /// Names a directory below the environment's stage; nothing is written yet.
    pub(super) fn below(stage: &Location, keep: bool) -> Self {
        Self { location: stage.join(&format!("{PREFIX}{}", uuid::Uuid::now_v7())), keep }
    }

    /// Lets the executors write the result; returns the rows they counted.
    pub(super) async fn write(&self, session: Arc<Session>, input: proto::Relation) -> Result<u64> {
        use proto::write_operation::{SaveMode, SaveType};
        let url = if self.location.is_local() && !self.location.url.starts_with("file://") {
            format!("file://{}", self.location.url)
        } else {
            self.location.url.clone()
        };
        let write = proto::WriteOperation {
            input: Some(query::counted(input)),
            source: Some("parquet".into()),
            mode: SaveMode::ErrorIfExists.into(),
            save_type: Some(SaveType::Path(url)),
            ..Default::default()
        };
        let mut execution = Execution::new(session, query::command(proto::command::CommandType::WriteOperation(write)));
        execution.finish().await?;
        let counted = execution.observed.first().copied().and_then(|n| u64::try_from(n).ok());
        counted.ok_or_else(|| {
            Error::new(Kind::SourceUnreadable, "Spark did not tell how many rows it wrote to the stage")
                .help("use handoff = \"stream\" with this server")
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.keep {
            tracing::info!(stage = %self.location.url, "the stage is kept, as asked");
            return;
        }
        let location = self.location.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if let Some(Err(error)) = wait(&runtime, remove(&location)) {
            tracing::warn!(%error, "the stage could not be removed; a later run will try again");
        }
    }
}

/// Removes a directory and all below it; one that is not there is as good.
async fn remove(location: &Location) -> Result<()> {
    let failed = || format!("cannot remove the stage {}", location.url);
    if let Some(path) = lakeport::source::local_path(&location.url) {
        return match tokio::fs::remove_dir_all(&path).await {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).wrap(Kind::WriteFailed, failed),
            _ => Ok(()),
        };
    }
    let place = Place::of(location)?;
    let objects: Vec<_> =
        place.store.list(Some(&place.path)).map_ok(|o| o.location).try_collect().await.wrap(Kind::WriteFailed, failed)?;
    for object in objects {
        place.store.delete(&object).await.wrap(Kind::WriteFailed, failed)?;
    }
    Ok(())
}

/// Removes what killed runs left below a stage; what cannot be removed is left to the next.
pub(super) async fn sweep(stage: &Location) {
    let names: Vec<String> = if let Some(path) = lakeport::source::local_path(&stage.url) {
        let Ok(entries) = std::fs::read_dir(path) else { return };
        entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect()
    } else {
        let Ok(place) = Place::of(stage) else { return };
        let Ok(listed) = place.store.list_with_delimiter(Some(&place.path)).await else { return };
        listed.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect()
    };
    for name in names.iter().filter(|n| is_leftover(n, SystemTime::now())) {
        tracing::info!(%name, "a leftover of an earlier run is removed from the stage");
        if let Err(error) = remove(&stage.join(name)).await {
            tracing::warn!(%error, "a leftover cannot be removed");
        }
    }
}

fn is_leftover(name: &str, now: SystemTime) -> bool {
    let began = name.strip_prefix(PREFIX).and_then(|id| uuid::Uuid::parse_str(id).ok()).and_then(|id| id.get_timestamp());
    let Some((seconds, _)) = began.map(|t| t.to_unix()) else { return false };
    let began = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    now.duration_since(began).is_ok_and(|age| age > LEFTOVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_directories_of_ours_are_leftovers() {
        let now = SystemTime::now();
        let fresh = format!("{PREFIX}{}", uuid::Uuid::now_v7());
        assert!(!is_leftover(&fresh, now) && is_leftover(&fresh, now + LEFTOVER + LEFTOVER));
        assert!(!is_leftover("orders", now + LEFTOVER + LEFTOVER));
        assert!(!is_leftover("lakeport-backup", now + LEFTOVER + LEFTOVER));
    }
}
