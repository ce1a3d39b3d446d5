//! Files of the formats that Lakeport reads itself, as sources: `from = "old.yxdb"`, or `"old.tde#Orders"` for one table of several.
//!
//! Without SQL the file is streamed as it is. With SQL, a condition or a limit it is first spooled to Parquet, which the engine
//! reads like any other table and in bounded memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, IntervalUnit, SchemaRef};
use futures::{FutureExt, StreamExt};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::Lakeport;
use crate::convert::{Batches, Opened, scratch};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::run::blocking;
use crate::source::{BatchStream, Location, Partition, Query, Snapshot, Table, local_path};

/// Batches read ahead of the converter.
const AHEAD: usize = 2;
/// Bytes of a row group of the spool.
const ROW_GROUP: usize = 32 * 1024 * 1024;

/// A file with a format of its own.
#[derive(Debug, Clone)]
pub(super) struct FileSource {
    path: PathBuf,
    table: Option<String>,
    format: String,
}

impl Lakeport {
    /// Whether a query reads a local file of a format that Lakeport reads itself.
    pub(super) fn file_source(&self, query: &Query) -> Result<Option<FileSource>> {
        let Some(place) = query.from.as_ref().and_then(|l| local_path(&l.url)) else { return Ok(None) };
        let text = place.to_string_lossy().into_owned();
        let (path, table) = match text.rsplit_once('#') {
            Some((path, table)) if !place.exists() => (PathBuf::from(path), Some(table.to_owned())),
            _ => (place, None),
        };
        let Ok(format) = self.formats.by_extension(&path.to_string_lossy()) else { return Ok(None) };
        let capability = format.capability();
        if capability.lake || !capability.read || path.is_dir() {
            return Ok(None);
        }
        if !path.exists() {
            return Err(Error::new(Kind::SourceMissing, format!("there is no file {}", path.display())));
        }
        Ok(Some(FileSource { path, table, format: capability.name.to_owned() }))
    }

    /// Opens such a file, through the engine where the query asks for more than all of it.
    pub(super) async fn open_file(&self, file: FileSource, query: &Query, limits: &Limits) -> Result<Table> {
        let format = Arc::clone(self.formats.shared(&file.format)?);
        let (path, table, bounds) = (file.path.clone(), file.table.clone(), limits.clone());
        let opened = blocking(move || format.open(&path, table.as_deref(), &bounds)).await.at("file", file.path.display())?;
        let snapshot = snapshot(&file, opened.rows)?;
        if query.sql.is_none() && query.filter.is_none() && query.limit.is_none() {
            let schema = Arc::clone(&opened.schema);
            let partitions = vec![Partition { name: "0".into(), stream: stream(opened.batches) }];
            let plain = Err(format!("a .{} file is read batch by batch", file.format));
            return Ok(Table { schema, snapshot, partitions, plain, staging: None, work: None });
        }
        let work = self.home().join("work");
        let (spool, path) = blocking(move || spool(&work, opened)).await.during("spool the source")?;
        let from = Some(Location::new(path.to_string_lossy()));
        let table = self.engine.open(&Query { from, ..query.clone() }, limits).await?;
        // The spool lives as long as any stream over it.
        let spool = Arc::new(spool);
        let partitions = table.partitions.into_iter().map(|p| {
            let spool = Arc::clone(&spool);
            let stream = p.stream.inspect(move |_| {
                let _ = &spool;
            });
            Partition { name: p.name, stream: Box::pin(stream) }
        });
        let plain = Err(format!("the query reads a .{} file", file.format));
        Ok(Table { schema: table.schema, snapshot, partitions: partitions.collect(), plain, staging: None, work: None })
    }
}

fn snapshot(file: &FileSource, rows: Option<u64>) -> Result<Snapshot> {
    let meta = std::fs::metadata(&file.path).wrap(Kind::SourceMissing, || format!("there is no file {}", file.path.display()))?;
    let changed = meta.modified().ok().and_then(|m| m.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    let text = format!("{} {} {}", file.path.display(), meta.len(), changed.as_nanos());
    let id = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()));
    Ok(Snapshot { layout: file.format.clone(), id, files: 1, bytes: meta.len(), rows })
}

/// An iterator as a stream: a thread reads a little ahead and ends when nobody listens.
fn stream(batches: Batches) -> BatchStream {
    let (queue, mut read) = mpsc::channel::<Result<RecordBatch>>(AHEAD);
    let mut reading = Some(tokio::task::spawn_blocking(move || {
        for batch in batches {
            let failed = batch.is_err();
            if queue.blocking_send(batch).is_err() || failed {
                return;
            }
        }
    }));
    Box::pin(futures::stream::poll_fn(move |context| {
        match std::task::ready!(read.poll_recv(context)) {
            Some(batch) => std::task::Poll::Ready(Some(batch)),
            None => {
                // A reader that broke down closes the queue as one does that has come to the end.
                let Some(thread) = &mut reading else { return std::task::Poll::Ready(None) };
                let ended = std::task::ready!(thread.poll_unpin(context));
                reading = None;
                let broken = |e| Error::new(Kind::SourceUnreadable, "the reader of the file broke down").because(e);
                std::task::Poll::Ready(ended.err().map(|e| Err(broken(e))))
            }
        }
    }))
}

/// All of it as a Parquet file in a directory of its own, which the next run removes when this one is killed.
fn spool(directory: &Path, opened: Opened) -> Result<(TempDir, PathBuf)> {
    let failed = || format!("cannot spool to {}", directory.display());
    let scratch = scratch(directory, "spool")?;
    let path = scratch.path().join("spool.parquet");
    let file = std::fs::File::create(&path).wrap(Kind::WriteFailed, failed)?;
    let schema: SchemaRef = Arc::clone(&opened.schema);
    let held = |field: &Field| !matches!(field.data_type(), DataType::Union(..) | DataType::Interval(IntervalUnit::MonthDayNano));
    if let Some(field) = schema.fields().iter().find(|f| !held(f)) {
        let message = format!(
            "column `{}` is of type {}, which SQL, conditions and limits cannot have beside them",
            field.name(),
            field.data_type()
        );
        return Err(Error::new(Kind::TypeRefused, message)
            .help("read the file whole, without --sql, --where and --limit")
            .at("column", field.name()));
    }
    let mut writer = ArrowWriter::try_new(file, schema, None).wrap(Kind::TypeRefused, failed)?;
    for batch in opened.batches {
        writer.write(&batch?).wrap(Kind::WriteFailed, failed)?;
        if writer.in_progress_size() > ROW_GROUP {
            writer.flush().wrap(Kind::WriteFailed, failed)?;
        }
    }
    writer.close().wrap(Kind::WriteFailed, failed)?;
    Ok((scratch, path))
}
