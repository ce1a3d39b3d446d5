//! `.ndjson`: one JSON object a line. NULLs are written out, so that every line names every column.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::output::{Encode, OneTable, Output, input};
use super::{Capability, FileDescription, Format, Opened, Writer, read_back};
use crate::error::{Context, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::types::json::Json;
use crate::types::{Mapping, Wishes, ndjson};
use crate::verify::{Fingerprint, Verify};

/// Rows of a batch read back.
const BATCH: usize = 4096;

/// The format.
#[derive(Debug)]
pub struct Ndjson;

impl Format for Ndjson {
    fn capability(&self) -> Capability {
        Capability {
            name: "ndjson",
            extensions: &["ndjson", "json", "jsonl", "ndjson.gz", "json.gz", "ndjson.zst", "json.zst"],
            write: true,
            read: true,
            lake: true,
            many_tables: false,
            max_rows: None,
            max_decimal: 76,
            summary: "one JSON object a line, nested values as they are; .gz and .zst compress",
        }
    }

    fn map(&self, table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
        ndjson::map(table, schema, wishes)
    }

    fn create(&self, path: &Path, tables: &[&Mapping], _limits: &Limits) -> Result<Box<dyn Writer>> {
        let encoder = Encoder { out: Output::create(path, &tables[0].facts)?, buffer: Vec::new() };
        Ok(OneTable::writer(path, "ndjson", Box::new(encoder)))
    }

    fn read_back(&self, path: &Path, tables: &[&Mapping], verify: Verify, _limits: &Limits) -> Result<Vec<Fingerprint>> {
        let mapping = tables[0];
        let fields: Vec<_> = mapping.columns.iter().map(|c| Field::new(&c.name, c.physical.clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let reader = arrow_json::ReaderBuilder::new(Arc::clone(&schema))
            .with_batch_size(BATCH)
            .with_strict_mode(true)
            .build(input(path, &mapping.facts)?)
            .wrap(Kind::VerifyFailed, || "the NDJSON file cannot be read back".into())
            .at("file", path.display())?;
        let batches = reader.map(|batch| batch.wrap(Kind::VerifyFailed, || "the NDJSON file cannot be read back".into()));
        let table = mapping.table.clone();
        let opened = Opened { tables: vec![table.clone()], table, schema, rows: None, batches: Box::new(batches) };
        Ok(vec![read_back::through(opened, mapping, verify)?])
    }

    fn describe(&self, path: &Path, _limits: &Limits) -> Result<FileDescription> {
        Err(super::by_the_engine(path))
    }
}

struct Encoder {
    out: Output,
    buffer: Vec<u8>,
}

impl Encode for Encoder {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows: ArrayRef = Arc::new(StructArray::from(batch.clone()));
        let json = Json::new();
        let field = Arc::new(Field::new("row", DataType::Struct(batch.schema().fields().clone()), false));
        let mut encoder = json.encoder(&field, rows.as_ref())?;
        for row in 0..rows.len() {
            encoder.encode(row, &mut self.buffer);
            self.buffer.push(b'\n');
            if self.buffer.len() > 64 * 1024 {
                self.out.write_all(&self.buffer).wrap(Kind::WriteFailed, || "cannot write the NDJSON file".into())?;
                self.buffer.clear();
            }
        }
        self.out.write_all(&self.buffer).wrap(Kind::WriteFailed, || "cannot write the NDJSON file".into())?;
        self.buffer.clear();
        json.ensure_kept()
    }

    fn size(&self) -> Option<u64> {
        Some(self.out.size())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.out.finish().wrap(Kind::WriteFailed, || "cannot complete the NDJSON file".into())
    }
}
