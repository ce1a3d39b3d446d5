//! The hand-off for large results: executors write Parquet to the stage in parallel, Lakeport reads it and removes it.
//!
//! Each query has a directory of its own, named by the time it began, so that leftovers of killed runs can be told by age.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use lakeport::error::{Error, Kind, Result, Wrap};
use lakeport::source::Location;
use object_store::{ObjectStore, ObjectStoreExt};
use spark_connect_proto as proto;

use super::query;
use super::results::Execution;
use super::session::Session;
use crate::embedded::Place;

/// What the directories of Lakeport are called: `lakeport-` and a UUID of version 7.
const PREFIX: &str = "lakeport-";
/// Bytes of a row group in the stage that is streamed from: what a reader holds of a file.
const ROW_GROUP: u64 = 4 * 1024 * 1024;
/// The same where hyperd reads it, which maps the file.
const LOADED_ROW_GROUP: u64 = 32 * 1024 * 1024;
/// Files that are read once, from beginning to end, and removed.
///
/// Measured on Spark 4.3, two cores, ten columns of random values: 4.8 s where the writer's defaults took 6.5, and 130 MiB where
/// they took 154 (ours without statistics). The dictionaries are the largest part of that, the second version's delta encodings the
/// next. The statistics have to stay: without them that version's pages say that they hold -1 NULLs, which Arrow's reader refuses.
const READ_ONCE: [(&str, &str); 4] = [
    ("parquet.writer.version", "v2"),
    ("parquet.enable.dictionary", "false"),
    ("parquet.size.statistics.enabled", "false"),
    ("parquet.page.write-checksum.enabled", "false"),
];
/// Leftovers older than this are removed by the next query that stages.
const LEFTOVER: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a directory is looked for again where tasks that were stopped may still have written.
const LOOKS: u32 = 6;
/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What reads the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Lakeport, batch by batch.
    Streamed,
    /// A loader, from the local disk.
    Loaded,
}

impl Use {
    /// What the writer is told; a writer that is not Spark's own leaves out what it does not know.
    fn options(self) -> HashMap<String, String> {
        let own: &[(&str, String)] = match self {
            Self::Streamed => &[("parquet.block.size", ROW_GROUP.to_string())],
            // Nothing travels, so nothing need be small.
            Self::Loaded => &[("parquet.block.size", LOADED_ROW_GROUP.to_string()), ("compression", "uncompressed".to_owned())],
        };
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        own.chain(READ_ONCE).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// A directory below the stage, removed at the session's end unless it is to be kept.
pub(super) struct Stage {
    pub(super) location: Location,
    session: Arc<Session>,
    keep: bool,
}

impl Stage {
    /// Names a directory below the environment's stage; nothing is written yet.
    pub(super) fn below(stage: &Location, session: Arc<Session>, keep: bool) -> Self {
        Self { session, location: stage.join(&format!("{PREFIX}{}", uuid::Uuid::now_v7())), keep }
    }

    /// Lets the executors write the result; returns the rows that the server counted.
    pub(super) async fn write(&self, input: proto::Relation, how: Use) -> Result<u64> {
        let mut execution = self.begin(query::counted(input.clone()), how);
        match execution.finish().await {
            Ok(()) => {
                if let Some(rows) = execution.observed.first().and_then(|n| u64::try_from(*n).ok()) {
                    return Ok(rows);
                }
            }
            // It was refused before anything was written.
            Err(e) if e.kind() == Kind::Unsupported => self.begin(input, how).finish().await?,
            Err(e) => return Err(e),
        }
        // A server that tells nothing on the way is asked what lies there; footers answer.
        self.count().await?.ok_or_else(|| {
            Error::new(Kind::SourceUnreadable, "Spark did not tell how many rows it wrote to the stage")
                .help("use handoff = \"stream\" with this server")
        })
    }

    fn begin(&self, input: proto::Relation, how: Use) -> Execution {
        use proto::write_operation::{SaveMode, SaveType};
        let write = proto::WriteOperation {
            input: Some(input),
            source: Some("parquet".into()),
            mode: SaveMode::ErrorIfExists.into(),
            save_type: Some(SaveType::Path(self.url())),
            options: how.options(),
            ..Default::default()
        };
        let plan = query::command(proto::command::CommandType::WriteOperation(write));
        Execution::new(Arc::clone(&self.session), plan)
    }

    /// The files of a local stage that hold rows, by name.
    pub(super) async fn files(&self) -> Result<Vec<PathBuf>> {
        let path = lakeport::source::local_path(&self.location.url).unwrap_or_default();
        let failed = || format!("cannot list the stage {}", self.location.url);
        let mut entries = tokio::fs::read_dir(&path).await.wrap(Kind::SourceUnreadable, failed)?;
        let mut files = Vec::new();
        while let Some(entry) = entries.next_entry().await.wrap(Kind::SourceUnreadable, failed)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            // `_SUCCESS` and checksums beside them are none.
            if name.ends_with(".parquet") && !name.starts_with(['_', '.']) {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }

    async fn count(&self) -> Result<Option<u64>> {
        let text = format!("select count(*) from parquet.`{}`", self.url());
        let mut execution = Execution::new(Arc::clone(&self.session), query::root(query::sql(&text)));
        let mut rows = None;
        while let Some(batches) = execution.next().await? {
            let counts = batches.iter().filter(|b| b.num_rows() > 0).filter_map(|b| b.column(0).as_primitive_opt::<Int64Type>());
            rows = counts.map(|c| c.value(0)).next_back().or(rows);
        }
        Ok(rows.and_then(|n| u64::try_from(n).ok()))
    }

    /// The directory as the executors know it.
    fn url(&self) -> String {
        if self.location.is_local() && !self.location.url.starts_with("file://") {
            format!("file://{}", self.location.url)
        } else {
            self.location.url.clone()
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.keep {
            tracing::info!(stage = %self.location.url, "the stage is kept, as asked");
            return;
        }
        self.session.remove_later(self.location.clone());
    }
}

/// Removes a directory of the stage; where tasks were stopped it is looked for until it stays away.
pub(super) async fn remove_for_good(location: &Location, stopped: bool) {
    let mut gone = 0;
    for _ in 0..if stopped { LOOKS } else { 1 } {
        match remove(location).await {
            Ok(0) => gone += 1,
            Ok(_) => gone = 0,
            Err(error) => tracing::warn!(%error, "the stage could not be removed; a later run will try again"),
        }
        if gone == 2 {
            return;
        }
        if stopped {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// Removes a directory and all below it, and counts what was there; one that is not there is as good.
async fn remove(location: &Location) -> Result<usize> {
    let failed = || format!("cannot remove the stage {}", location.url);
    if let Some(path) = lakeport::source::local_path(&location.url) {
        return match tokio::fs::remove_dir_all(&path).await {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(e).wrap(Kind::WriteFailed, failed),
            Ok(()) => Ok(1),
        };
    }
    let place = Place::of(location)?;
    let objects: Vec<_> =
        place.store.list(Some(&place.path)).map_ok(|o| o.location).try_collect().await.wrap(Kind::WriteFailed, failed)?;
    for object in &objects {
        place.store.delete(object).await.wrap(Kind::WriteFailed, failed)?;
    }
    Ok(objects.len())
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
