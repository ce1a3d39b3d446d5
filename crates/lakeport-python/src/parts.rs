//! The parts that tasks leave in the stage: written with their hash, read back as the engine of a run.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, RecordBatchReader};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use lakeport::error::{Context, Error, Kind, Result, Wrap};
use lakeport::limits::Limits;
use lakeport::source::{BatchStream, Engine, Listed, Location, Partition, Query, Snapshot, Table};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::Xxh3;

/// Bytes of a row group, so that a task's memory is bounded.
const ROW_GROUP: usize = 32 * 1024 * 1024;
/// Batches read ahead of the converter.
const AHEAD: usize = 2;

/// A part as its task announced it.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) hash: String,
}

/// A file that is hashed while it is written.
struct Hashed {
    file: File,
    hash: Xxh3,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Writes a part; what fails leaves no file.
pub(crate) fn write(path: &Path, batches: impl RecordBatchReader) -> Result<Part> {
    let written = write_inner(path, batches);
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written.at("file", path.display())
}

fn write_inner(path: &Path, batches: impl RecordBatchReader) -> Result<Part> {
    let failed = || "cannot write a part to the stage".to_owned();
    let file = File::create(path).wrap(Kind::WriteFailed, failed)?;
    let hashed = Hashed { file, hash: Xxh3::new(), bytes: 0 };
    let mut writer = ArrowWriter::try_new(hashed, batches.schema(), None).wrap(Kind::WriteFailed, failed)?;
    let mut rows = 0;
    for batch in batches {
        let batch = batch.wrap(Kind::SourceUnreadable, || "the task's rows end with an error".into())?;
        rows += batch.num_rows() as u64;
        writer.write(&batch).wrap(Kind::WriteFailed, failed)?;
        if writer.in_progress_size() > ROW_GROUP {
            writer.flush().wrap(Kind::WriteFailed, failed)?;
        }
    }
    let hashed = writer.into_inner().wrap(Kind::WriteFailed, failed)?;
    hashed.file.sync_all().wrap(Kind::WriteFailed, failed)?;
    Ok(Part { path: path.to_owned(), rows, bytes: hashed.bytes, hash: format!("{:016x}", hashed.hash.digest()) })
}

/// The engine that hands out staged parts, one partition each.
#[derive(Debug)]
pub(crate) struct Parts {
    schema: SchemaRef,
    parts: Vec<Part>,
}

impl Parts {
    pub(crate) fn new(schema: SchemaRef, parts: Vec<Part>) -> Self {
        Self { schema, parts }
    }
}

#[async_trait]
impl Engine for Parts {
    fn name(&self) -> &'static str {
        "dataframe"
    }

    async fn open(&self, _query: &Query, limits: &Limits) -> Result<Table> {
        let rows = self.parts.iter().map(|p| p.rows).sum();
        let snapshot = Snapshot {
            layout: "data frame".into(),
            id: String::new(),
            files: self.parts.len() as u64,
            bytes: self.parts.iter().map(|p| p.bytes).sum(),
            rows: Some(rows),
        };
        let partitions = self.parts.iter().enumerate().map(|(number, part)| Partition {
            name: number.to_string(),
            stream: stream(part.clone(), Arc::clone(&self.schema), limits.batch_rows),
        });
        let plain = Err("the rows come from a data frame".to_owned());
        Ok(Table { schema: Arc::clone(&self.schema), snapshot, partitions: partitions.collect(), plain })
    }

    async fn list(&self, _at: &Location) -> Result<Vec<Listed>> {
        Ok(Vec::new())
    }
}

fn stream(part: Part, schema: SchemaRef, batch_rows: usize) -> BatchStream {
    let (queue, mut read) = mpsc::channel::<Result<RecordBatch>>(AHEAD);
    tokio::task::spawn_blocking(move || {
        let send = |batch: RecordBatch| queue.blocking_send(Ok(batch)).is_ok();
        if let Err(error) = each(&part, &schema, batch_rows, &send) {
            let _ = queue.blocking_send(Err(error));
        }
    });
    Box::pin(futures::stream::poll_fn(move |context| read.poll_recv(context)))
}

/// Reads a part that is what its task announced, to the byte.
fn each(part: &Part, schema: &SchemaRef, batch_rows: usize, send: &dyn Fn(RecordBatch) -> bool) -> Result<()> {
    let failed = || format!("a part of the stage cannot be read: {}", part.path.display());
    let changed = |what: &str| Err(Error::new(Kind::SourceUnreadable, failed()).because(what.to_owned()));
    let mut file = File::open(&part.path).wrap(Kind::SourceMissing, failed)?;
    let mut hash = Hashed { file: file.try_clone().wrap(Kind::SourceUnreadable, failed)?, hash: Xxh3::new(), bytes: 0 };
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        let read = std::io::Read::read(&mut file, &mut buffer).wrap(Kind::SourceUnreadable, failed)?;
        if read == 0 {
            break;
        }
        hash.hash.update(&buffer[..read]);
        hash.bytes += read as u64;
    }
    if hash.bytes != part.bytes || format!("{:016x}", hash.hash.digest()) != part.hash {
        return changed("it is not what its task announced");
    }
    let reader = ParquetRecordBatchReaderBuilder::try_new(hash.file)
        .and_then(|b| b.with_batch_size(batch_rows).build())
        .wrap(Kind::SourceUnreadable, failed)?;
    let mut rows = 0;
    for batch in reader {
        let batch = batch.wrap(Kind::SourceUnreadable, failed)?;
        rows += batch.num_rows() as u64;
        // The zone of instants is the session's in the batches; the instants are the same.
        let columns = batch.columns().iter().zip(schema.fields()).map(|(array, field)| {
            cast(array, field.data_type()).wrap(Kind::SourceUnreadable, || format!("column `{}` changed its type", field.name()))
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
            .wrap(Kind::SourceUnreadable, || "a part does not fit the schema of its data frame".into())?;
        if !send(batch) {
            return Ok(());
        }
    }
    if rows == part.rows { Ok(()) } else { changed("it holds another number of rows than its task wrote") }
}
