//! `.orc`, through orc-rust.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use orc_rust::arrow_reader::ArrowReaderBuilder;
use orc_rust::arrow_writer::ArrowWriterBuilder;

use super::output::{Counted, Encode, OneTable};
use super::{Capability, FileDescription, Format, Opened, Writer, read_back};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::types::{Mapping, Wishes, orc as types};
use crate::verify::{Fingerprint, Verify};

/// Bytes of a stripe.
const STRIPE: usize = 32 * 1024 * 1024;

/// The format.
#[derive(Debug)]
pub struct Orc;

impl Format for Orc {
    fn capability(&self) -> Capability {
        Capability {
            name: "orc",
            extensions: &["orc"],
            write: true,
            read: true,
            lake: false,
            many_tables: false,
            max_rows: None,
            max_decimal: 0,
            summary: "ORC; decimals as text and no nested columns, because the Rust writer has no encoders for them",
        }
    }

    fn map(&self, table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
        types::map(table, schema, wishes)
    }

    fn create(&self, path: &Path, tables: &[&Mapping], limits: &Limits) -> Result<Box<dyn Writer>> {
        let mapping = tables[0];
        let fields: Vec<_> = mapping.columns.iter().map(|c| Field::new(&c.name, c.physical.clone(), c.nullable)).collect();
        let file = Counted::create(path)?;
        let encoder = Encoder::start(file, Arc::new(Schema::new(fields)), limits.batch_rows);
        Ok(OneTable::writer(path, "orc", Box::new(encoder)))
    }

    fn open(&self, path: &Path, _table: Option<&str>, limits: &Limits) -> Result<Opened> {
        let failed = || "the ORC file cannot be read".to_owned();
        let file = File::open(path).wrap(Kind::SourceMissing, || format!("there is no file {}", path.display()))?;
        let builder = ArrowReaderBuilder::try_new(file).wrap(Kind::SourceUnreadable, failed).at("file", path.display())?;
        let schema = builder.schema();
        let reader = builder.with_batch_size(limits.batch_rows).build();
        let rows = Some(reader.total_row_count());
        let table = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        let batches = reader.map(move |batch| batch.wrap(Kind::SourceUnreadable, failed));
        Ok(Opened { tables: vec![table.clone()], table, schema, rows, batches: Box::new(batches) })
    }

    fn read_back(&self, path: &Path, tables: &[&Mapping], verify: Verify, limits: &Limits) -> Result<Vec<Fingerprint>> {
        Ok(vec![read_back::through(self.open(path, None, limits)?, tables[0], verify)?])
    }

    fn describe(&self, path: &Path, limits: &Limits) -> Result<FileDescription> {
        super::described(path, "orc", self.open(path, None, limits)?)
    }
}

/// Hands batches to the thread that owns the writer, which cannot change threads itself.
struct Encoder {
    batches: SyncSender<RecordBatch>,
    bytes: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

impl Encoder {
    fn start(mut file: Counted, schema: Arc<Schema>, batch_rows: usize) -> Self {
        let (batches, queue) = sync_channel::<RecordBatch>(1);
        let bytes = file.bytes();
        let thread = std::thread::spawn(move || {
            let failed = || "cannot write the ORC file".to_owned();
            let builder = ArrowWriterBuilder::new(&mut file, schema).with_batch_size(batch_rows).with_stripe_byte_size(STRIPE);
            let mut writer = builder.try_build().wrap(Kind::WriteFailed, failed)?;
            for batch in queue {
                writer.write(&batch).map_err(refused)?;
            }
            writer.close().wrap(Kind::WriteFailed, failed)?;
            file.finish().wrap(Kind::WriteFailed, failed)
        });
        Self { batches, bytes, thread }
    }
}

/// A value that the writer cannot encode is the data's, not the disk's.
fn refused(error: orc_rust::error::OrcError) -> Error {
    let text = error.to_string();
    if text.contains("Cannot encode timestamp") {
        return Error::new(Kind::ValueRefused, "a timestamp has no encoding in ORC: before 1970 only whole seconds do")
            .because(text)
            .help("keep the column as text with --types COLUMN=text");
    }
    Error::new(Kind::WriteFailed, "cannot write the ORC file").because(error)
}

fn joined(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| Err(Error::new(Kind::Unexpected, "the thread that writes the ORC file panicked")))
}

impl Encode for Encoder {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.batches.send(batch.clone()).is_ok() {
            return Ok(());
        }
        // Nobody listens any more: the thread knows why.
        let gone = std::mem::replace(&mut self.thread, std::thread::spawn(|| Ok(())));
        joined(gone).and_then(|()| Err(Error::new(Kind::Unexpected, "the thread that writes the ORC file ended early")))
    }

    fn size(&self) -> Option<u64> {
        Some(self.bytes.load(Ordering::Relaxed))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        drop(self.batches);
        joined(self.thread)
    }
}
