//! `.avro` object container files, through arrow-avro.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use arrow_avro::compression::CompressionCodec;
use arrow_avro::reader::ReaderBuilder;
use arrow_avro::writer::format::AvroOcfFormat;
use arrow_avro::writer::{Writer as AvroWriter, WriterBuilder};

use super::output::{Counted, Encode, OneTable};
use super::{Capability, FileDescription, Format, Opened, Writer, read_back};
use crate::error::{Context, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::types::{Mapping, Wishes, avro as types};
use crate::verify::{Fingerprint, Verify};

/// The format.
#[derive(Debug)]
pub struct Avro;

impl Format for Avro {
    fn capability(&self) -> Capability {
        Capability {
            name: "avro",
            extensions: &["avro"],
            write: true,
            read: true,
            lake: false,
            many_tables: false,
            max_rows: None,
            max_decimal: 38,
            summary: "Avro object container files, deflate unless told otherwise",
        }
    }

    fn map(&self, table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
        types::map(table, schema, wishes)
    }

    fn create(&self, path: &Path, tables: &[&Mapping], _limits: &Limits) -> Result<Box<dyn Writer>> {
        let mapping = tables[0];
        let fields: Vec<_> = mapping.columns.iter().map(|c| Field::new(&c.name, c.physical.clone(), c.nullable)).collect();
        let failed = || format!("cannot write {}", path.display());
        let file = Counted::create(path)?;
        let bytes = file.bytes();
        let codec = match mapping.facts.get("codec").map(String::as_str) {
            Some("null") => None,
            Some("snappy") => Some(CompressionCodec::Snappy),
            Some("zstandard") => Some(CompressionCodec::ZStandard),
            _ => Some(CompressionCodec::Deflate),
        };
        let writer = WriterBuilder::new(Schema::new(fields))
            .with_compression(codec)
            .build::<_, AvroOcfFormat>(file)
            .wrap(Kind::WriteFailed, failed)?;
        Ok(OneTable::writer(path, "avro", Box::new(Encoder { writer, bytes })))
    }

    fn open(&self, path: &Path, _table: Option<&str>, limits: &Limits) -> Result<Opened> {
        let failed = || "the Avro file cannot be read".to_owned();
        let missing = || format!("there is no file {}", path.display());
        let file = BufReader::with_capacity(1024 * 1024, File::open(path).wrap(Kind::SourceMissing, missing)?);
        let reader = ReaderBuilder::new()
            .with_batch_size(limits.batch_rows)
            .build(file)
            .wrap(Kind::SourceUnreadable, failed)
            .at("file", path.display())?;
        let schema = reader.schema();
        let table = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        let batches = reader.map(move |batch| batch.wrap(Kind::SourceUnreadable, failed));
        Ok(Opened { tables: vec![table.clone()], table, schema, rows: None, batches: Box::new(batches) })
    }

    fn read_back(&self, path: &Path, tables: &[&Mapping], verify: Verify, limits: &Limits) -> Result<Vec<Fingerprint>> {
        Ok(vec![read_back::through(self.open(path, None, limits)?, tables[0], verify)?])
    }

    fn describe(&self, path: &Path, limits: &Limits) -> Result<FileDescription> {
        super::described(path, "avro", self.open(path, None, limits)?)
    }
}

struct Encoder {
    writer: AvroWriter<Counted, AvroOcfFormat>,
    bytes: Arc<AtomicU64>,
}

impl Encode for Encoder {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(batch).wrap(Kind::WriteFailed, || "cannot write the Avro file".into())
    }

    fn size(&self) -> Option<u64> {
        Some(self.bytes.load(Ordering::Relaxed))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let failed = || "cannot complete the Avro file".to_owned();
        let mut writer = self.writer;
        writer.finish().wrap(Kind::WriteFailed, failed)?;
        writer.into_inner().finish().wrap(Kind::WriteFailed, failed)
    }
}
