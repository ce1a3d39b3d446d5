//! `.txt`: one column of texts, one line a row.

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::output::{Encode, OneTable, Output, input};
use super::{Capability, FileDescription, Format, Opened, Writer, read_back};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::types::{Mapping, Wishes, text};
use crate::verify::{Fingerprint, Verify};

/// Lines of a batch read back.
const BATCH: usize = 8192;

/// The format.
#[derive(Debug)]
pub struct Text;

impl Format for Text {
    fn capability(&self) -> Capability {
        Capability {
            name: "text",
            extensions: &["txt", "txt.gz", "txt.zst"],
            write: true,
            read: false,
            lake: false,
            many_tables: false,
            max_rows: None,
            max_decimal: 0,
            summary: "one column of texts, one line a row; .gz and .zst compress",
        }
    }

    fn map(&self, table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
        text::map(table, schema, wishes)
    }

    fn create(&self, path: &Path, tables: &[&Mapping], _limits: &Limits) -> Result<Box<dyn Writer>> {
        let mapping = tables[0];
        let column = mapping.columns[0].name.clone();
        let encoder = Encoder { out: Output::create(path, &mapping.facts)?, column, rows: 0 };
        Ok(OneTable::writer(path, "text", Box::new(encoder)))
    }

    fn read_back(&self, path: &Path, tables: &[&Mapping], verify: Verify, _limits: &Limits) -> Result<Vec<Fingerprint>> {
        let mapping = tables[0];
        let schema = Arc::new(Schema::new(vec![Field::new(&mapping.columns[0].name, DataType::Utf8, true)]));
        let mut lines = input(path, &mapping.facts).at("file", path.display())?.lines();
        let of = Arc::clone(&schema);
        let batches = std::iter::from_fn(move || {
            let lines: std::result::Result<Vec<_>, _> = lines.by_ref().take(BATCH).collect();
            let batch = lines.wrap(Kind::VerifyFailed, || "the text file cannot be read back".into()).and_then(|lines| {
                let column = Arc::new(StringArray::from(lines));
                RecordBatch::try_new(Arc::clone(&of), vec![column]).wrap(Kind::Unexpected, || "lines are no column".into())
            });
            batch.map(|b| (b.num_rows() > 0).then_some(b)).transpose()
        });
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
    column: String,
    rows: u64,
}

impl Encode for Encoder {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let lines = batch.column(0).as_string::<i32>();
        for row in 0..lines.len() {
            self.rows += 1;
            let why = if lines.is_null(row) {
                Some("it is NULL, and an empty line would be the empty text")
            } else if lines.value(row).contains(['\n', '\r']) {
                Some("it holds a line break")
            } else {
                None
            };
            if let Some(why) = why {
                let what = format!("a value of column `{}` is no line", self.column);
                return Err(Error::new(Kind::ValueRefused, what)
                    .at("column", &self.column)
                    .because(format!("row {}: {why}", self.rows))
                    .help("filter the row with --where, replace it in SQL, or write .csv"));
            }
            self.out
                .write_all(lines.value(row).as_bytes())
                .and_then(|()| self.out.write_all(b"\n"))
                .wrap(Kind::WriteFailed, || "cannot write the text file".into())?;
        }
        Ok(())
    }

    fn size(&self) -> Option<u64> {
        Some(self.out.size())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.out.finish().wrap(Kind::WriteFailed, || "cannot complete the text file".into())
    }
}
