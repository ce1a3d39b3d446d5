//! The parts that tasks leave in the stage: written with their hash, fetched by the commit, read as the engine of a run.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, RecordBatchReader};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use lakeport::error::{Context, Error, Kind, Result, Wrap};
use lakeport::limits::Limits;
use lakeport::source::{BatchStream, Engine, Listed, Location, Partition, PlainScan, Query, Snapshot, Table};
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::Xxh3;

use crate::stage::{Place, Stage};

/// Bytes of a row group, so that a task's memory is bounded.
const ROW_GROUP: usize = 32 * 1024 * 1024;
/// Bytes of one part of an upload; a smaller file goes in one request.
const UPLOAD_PART: usize = 8 * 1024 * 1024;
/// Parts of an upload, and files of a stage, on their way at a time.
const IN_FLIGHT: usize = 3;
/// Batches read ahead of the converter.
const AHEAD: usize = 2;

/// A part as its task announced it.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Its file in the directory of the write.
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) hash: String,
}

/// Where a task's bytes go.
enum Sink {
    File(File),
    /// An upload in parts, none of which is seen before the last.
    Upload(Runtime, Box<BufWriter>),
}

/// A sink whose bytes are hashed on the way.
struct Hashed {
    sink: Sink,
    hash: Xxh3,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = match &mut self.sink {
            Sink::File(file) => file.write(bytes)?,
            Sink::Upload(runtime, upload) => {
                runtime.block_on(upload.put(Bytes::copy_from_slice(bytes)))?;
                bytes.len()
            }
        };
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes a part into the directory of its write; what fails leaves no file.
pub(crate) fn write(directory: &Stage, name: &str, schema: &SchemaRef, batches: impl RecordBatchReader) -> Result<Part> {
    let at = Stage { location: directory.location.join(name) };
    let place = at.place()?;
    let (sink, file) = match place {
        Place::Disk(path) => {
            // Not created with its directory: where that is gone the write was given up.
            let file = File::create(&path).wrap(Kind::WriteFailed, failed).at("file", path.display()).map_err(unshared)?;
            (Sink::File(file), Some(path))
        }
        Place::Objects(store, key) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .wrap(Kind::Unexpected, || "no thread can be started".into())?;
            let upload = BufWriter::with_capacity(store, key, UPLOAD_PART).with_max_concurrency(IN_FLIGHT);
            (Sink::Upload(runtime, Box::new(upload)), None)
        }
    };
    let mut hashed = Hashed { sink, hash: Xxh3::new(), bytes: 0 };
    let written = encode(&mut hashed, schema, batches).and_then(|rows| {
        if let Sink::Upload(runtime, upload) = &mut hashed.sink {
            runtime.block_on(upload.shutdown()).wrap(Kind::WriteFailed, failed)?;
        }
        Ok(rows)
    });
    match written.at("file", &at.location.url) {
        Ok(rows) => Ok(Part { name: name.to_owned(), rows, bytes: hashed.bytes, hash: digest(&hashed.hash) }),
        Err(error) => {
            if let Some(path) = file {
                let _ = std::fs::remove_file(path);
            }
            if let Sink::Upload(runtime, upload) = &mut hashed.sink {
                let _ = runtime.block_on(upload.abort());
            }
            Err(error)
        }
    }
}

fn failed() -> String {
    "cannot write a part to the stage".to_owned()
}

fn unshared(error: Error) -> Error {
    error.help("the stage must be one place that driver and all executors see: a shared directory, or an object store")
}

fn digest(hash: &Xxh3) -> String {
    format!("{:016x}", hash.digest())
}

fn encode(to: &mut Hashed, schema: &SchemaRef, batches: impl RecordBatchReader) -> Result<u64> {
    // Read once, by us: neither statistics nor compression earn what they cost, except where the bytes travel.
    let properties = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build();
    let mut writer = ArrowWriter::try_new(to, Arc::clone(schema), Some(properties)).wrap(Kind::WriteFailed, failed)?;
    let mut rows = 0;
    for batch in batches {
        let batch = batch.wrap(Kind::SourceUnreadable, || "the task's rows end with an error".into())?;
        rows += batch.num_rows() as u64;
        writer.write(&fitted(&batch, schema)?).wrap(Kind::WriteFailed, failed)?;
        if writer.in_progress_size() > ROW_GROUP {
            writer.flush().wrap(Kind::WriteFailed, failed)?;
        }
    }
    writer.close().wrap(Kind::WriteFailed, failed)?;
    Ok(rows)
}

/// A batch in the types of the plan: the zone of its instants is the session's, the instants are the same.
fn fitted(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        let what = format!("a batch has {} columns, the data frame {}", batch.num_columns(), schema.fields().len());
        return Err(Error::new(Kind::SourceUnreadable, what));
    }
    let columns = batch.columns().iter().zip(schema.fields()).map(|(array, field)| {
        if array.data_type() == field.data_type() {
            return Ok(Arc::clone(array));
        }
        cast(array, field.data_type()).wrap(Kind::SourceUnreadable, || format!("column `{}` changed its type", field.name()))
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .wrap(Kind::SourceUnreadable, || "a batch does not fit the schema of its data frame".into())
}

/// A part on the driver's disk, found to be what its task announced.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    path: PathBuf,
    rows: u64,
    bytes: u64,
}

/// Brings exactly the announced parts to the driver, each compared with what was announced, to the byte.
pub(crate) async fn fetch(directory: &Stage, spool: &Stage, parts: &[Part]) -> Result<Vec<Local>> {
    if matches!(directory.place()?, Place::Objects(..)) && !parts.is_empty() {
        spool.create()?;
    }
    let one = async |part: &Part| -> Result<Local> {
        let at = Stage { location: directory.location.join(&part.name) };
        let fetched = match at.place()? {
            Place::Disk(path) => {
                let part = part.clone();
                let compared = tokio::task::spawn_blocking(move || compare(&path, &part));
                compared.await.wrap(Kind::Unexpected, || "a thread that reads the stage panicked".into())?
            }
            Place::Objects(store, key) => {
                let Place::Disk(spool) = spool.place()? else {
                    return Err(Error::new(Kind::Unexpected, "the spool is no directory"));
                };
                download(store.as_ref(), &key, &spool.join(&part.name), part).await
            }
        };
        fetched.at("file", &at.location.url)
    };
    futures::stream::iter(parts).map(one).buffered(IN_FLIGHT).try_collect().await
}

fn unreadable() -> String {
    "a part of the stage cannot be read".to_owned()
}

fn compare(path: &Path, part: &Part) -> Result<Local> {
    let mut file = File::open(path).wrap(Kind::SourceMissing, unreadable).map_err(unshared)?;
    let (mut hash, mut bytes) = (Xxh3::new(), 0);
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        let read = std::io::Read::read(&mut file, &mut buffer).wrap(Kind::SourceUnreadable, unreadable)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
    ensure_announced(part, bytes, &hash)?;
    Ok(Local { path: path.to_owned(), rows: part.rows, bytes })
}

async fn download(
    store: &dyn object_store::ObjectStore,
    key: &object_store::path::Path,
    to: &Path,
    part: &Part,
) -> Result<Local> {
    let spooled = || format!("cannot write {}", to.display());
    let mut stream = store.get(key).await.wrap(Kind::SourceMissing, unreadable)?.into_stream();
    let mut file = tokio::fs::File::create(to).await.wrap(Kind::WriteFailed, spooled)?;
    let (mut hash, mut bytes) = (Xxh3::new(), 0);
    while let Some(piece) = stream.try_next().await.wrap(Kind::SourceUnreadable, unreadable)? {
        hash.update(&piece);
        bytes += piece.len() as u64;
        file.write_all(&piece).await.wrap(Kind::WriteFailed, spooled)?;
    }
    file.flush().await.wrap(Kind::WriteFailed, spooled)?;
    ensure_announced(part, bytes, &hash)?;
    Ok(Local { path: to.to_owned(), rows: part.rows, bytes })
}

fn ensure_announced(part: &Part, bytes: u64, hash: &Xxh3) -> Result<()> {
    if bytes == part.bytes && digest(hash) == part.hash {
        return Ok(());
    }
    let why = format!("its task wrote {} bytes of hash {}; there are {bytes} of hash {}", part.bytes, part.hash, digest(hash));
    Err(Error::new(Kind::SourceUnreadable, "a part of the stage is not what its task wrote").because(why))
}

/// The engine that hands out staged parts, one partition each.
#[derive(Debug)]
pub(crate) struct Parts {
    schema: SchemaRef,
    parts: Vec<Local>,
}

impl Parts {
    pub(crate) fn new(schema: SchemaRef, parts: Vec<Local>) -> Self {
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
        let files = self.parts.iter().map(|p| p.path.clone()).collect();
        let plain = if self.parts.is_empty() {
            Err("the data frame has no rows yet".to_owned())
        } else {
            PlainScan::of_files("data frame", files, &self.schema, rows)
        };
        Ok(Table {
            schema: Arc::clone(&self.schema),
            snapshot,
            partitions: partitions.collect(),
            plain,
            staging: None,
            work: None,
        })
    }

    async fn list(&self, _at: &Location) -> Result<Vec<Listed>> {
        Ok(Vec::new())
    }
}

fn stream(part: Local, schema: SchemaRef, batch_rows: usize) -> BatchStream {
    let (queue, mut read) = mpsc::channel::<Result<RecordBatch>>(AHEAD);
    let start = move || {
        tokio::task::spawn_blocking(move || {
            let send = |batch: RecordBatch| queue.blocking_send(Ok(batch)).is_ok();
            if let Err(error) = each(&part, &schema, batch_rows, &send) {
                let _ = queue.blocking_send(Err(error));
            }
        })
    };
    // Not before it is asked: where hyperd loads the files itself nobody asks.
    let mut start = Some(start);
    Box::pin(futures::stream::poll_fn(move |context| {
        if let Some(start) = start.take() {
            start();
        }
        read.poll_recv(context)
    }))
}

fn each(part: &Local, schema: &SchemaRef, batch_rows: usize, send: &dyn Fn(RecordBatch) -> bool) -> Result<()> {
    let file = File::open(&part.path).wrap(Kind::SourceMissing, unreadable).at("file", part.path.display())?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|b| b.with_batch_size(batch_rows).build())
        .wrap(Kind::SourceUnreadable, unreadable)?;
    let mut rows = 0;
    for batch in reader {
        let batch = batch.wrap(Kind::SourceUnreadable, unreadable)?;
        rows += batch.num_rows() as u64;
        if !send(fitted(&batch, schema)?) {
            return Ok(());
        }
    }
    if rows == part.rows {
        return Ok(());
    }
    Err(Error::new(Kind::SourceUnreadable, "a part of the stage holds another number of rows than its task wrote")
        .because(format!("written: {}; there: {rows}", part.rows)))
}
