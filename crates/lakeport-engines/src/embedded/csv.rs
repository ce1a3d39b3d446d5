//! CSV files: which columns they have and of which types, decided from every row.
//!
//! A file is comma-separated with a header line, quoted with `"`, in UTF-8. An empty field is NULL, a quoted empty field
//! (`""`) too: the reader does not tell them apart. Columns of several files are matched by name; one that a file lacks is
//! NULL there. A row with more or fewer fields than its header stops the run and is named by file and line.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use csv_core::{ReadRecordResult, Reader};
use futures::TryStreamExt;
use lakeport::error::{Error, Kind, Result};
use std::sync::Arc;

use super::bytes;
use super::evidence::Evidence;
use super::layout::{DataFile, Layout};

/// What all CSV files of a table say together.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) schema: SchemaRef,
    /// The header of each file, in the order of the layout; empty where the file is.
    pub(super) headers: Vec<Vec<String>>,
    /// Rows of each file.
    pub(super) rows: Vec<u64>,
}

/// Reads every file once, to the end.
pub(super) async fn look(layout: &Layout) -> Result<Found> {
    let mut columns = Columns::default();
    let (mut headers, mut rows) = (Vec::new(), Vec::new());
    for file in &layout.files {
        let shown = layout.show(file);
        let read = one(layout, file, &mut columns).await.map_err(|e| e.at("file", &shown))?;
        headers.push(read.header);
        rows.push(read.rows);
    }
    if columns.names.is_empty() {
        return Err(Error::new(Kind::SourceEmpty, "the files are empty: not even a header line is there"));
    }
    Ok(Found { schema: columns.schema(), headers, rows })
}

/// The columns of all files by name, in the order they were first met.
#[derive(Debug, Default)]
struct Columns {
    names: Vec<String>,
    evidence: Vec<Evidence>,
    places: HashMap<String, usize>,
}

impl Columns {
    fn place(&mut self, name: &str) -> usize {
        if let Some(at) = self.places.get(name) {
            return *at;
        }
        self.names.push(name.to_owned());
        self.evidence.push(Evidence::default());
        self.places.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    fn schema(&self) -> SchemaRef {
        let field = |(name, evidence): (&String, &Evidence)| Field::new(name, evidence.data_type(), true);
        Arc::new(Schema::new(self.names.iter().zip(&self.evidence).map(field).collect::<Vec<_>>()))
    }
}

async fn one(layout: &Layout, file: &DataFile, columns: &mut Columns) -> Result<Reading> {
    let mut reading = Reading::default();
    let mut stream = bytes::open(layout.place.store.as_ref(), &file.meta.location, file.packing, &layout.show(file)).await?;
    while let Some(chunk) = stream.try_next().await? {
        reading.digest(&chunk, columns)?;
    }
    // An empty input tells the reader that the last line is complete.
    reading.digest(&[], columns)?;
    Ok(reading)
}

/// One file while it is read.
struct Reading {
    reader: Reader,
    record: Vec<u8>,
    used: usize,
    ends: Vec<usize>,
    fields: usize,
    /// The line on which the record being read began.
    line: u64,
    /// The line reached.
    lines: u64,
    header: Vec<String>,
    places: Vec<usize>,
    rows: u64,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            reader: Reader::new(),
            record: vec![0; 4096],
            used: 0,
            ends: vec![0; 64],
            fields: 0,
            line: 1,
            lines: 1,
            header: Vec::new(),
            places: Vec::new(),
            rows: 0,
        }
    }
}

impl Reading {
    fn digest(&mut self, mut input: &[u8], columns: &mut Columns) -> Result<()> {
        let last = input.is_empty();
        loop {
            if self.used == 0 && self.fields == 0 {
                // Blank lines between rows are no rows; skipped here, they leave the next row its true line.
                while let [b'\r' | b'\n', rest @ ..] = input {
                    self.lines += u64::from(input[0] == b'\n');
                    input = rest;
                }
                self.line = self.lines;
                if input.is_empty() && !last {
                    return Ok(());
                }
            }
            let (result, read, wrote, ended) =
                self.reader.read_record(input, &mut self.record[self.used..], &mut self.ends[self.fields..]);
            self.lines += input[..read].iter().map(|b| u64::from(*b == b'\n')).sum::<u64>();
            input = &input[read..];
            self.used += wrote;
            self.fields += ended;
            match result {
                ReadRecordResult::OutputFull => self.record.resize(self.record.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => {
                    self.record_done(columns).map_err(|e| e.at("line", self.line))?;
                    (self.used, self.fields) = (0, 0);
                }
                ReadRecordResult::InputEmpty if !last => return Ok(()),
                ReadRecordResult::InputEmpty | ReadRecordResult::End => return Ok(()),
            }
        }
    }

    fn record_done(&mut self, columns: &mut Columns) -> Result<()> {
        let text = std::str::from_utf8(&self.record[..self.used]).map_err(|e| {
            Error::new(Kind::SourceUnreadable, "the file is not UTF-8").because(e).help("convert the file to UTF-8")
        })?;
        let ends = &self.ends[..self.fields];
        let starts = std::iter::once(0).chain(ends.iter().copied());
        if self.places.is_empty() {
            let names: Vec<&str> = starts.zip(ends).filter_map(|(from, to)| text.get(from..*to)).collect();
            self.header = header(&names)?;
            self.places = self.header.iter().map(|name| columns.place(name)).collect();
            return Ok(());
        }
        if ends.len() != self.places.len() {
            return Err(Error::new(
                Kind::SourceUnreadable,
                format!("a row has {} fields and the header {}", ends.len(), self.places.len()),
            )
            .help("correct the row, or quote fields that hold commas, quotes or line ends"));
        }
        for ((from, to), place) in starts.zip(ends).zip(&self.places) {
            // A cut inside a letter can only come from bytes that are no UTF-8 field by field.
            let field = text.get(from..*to).ok_or_else(|| Error::new(Kind::SourceUnreadable, "the file is not UTF-8"))?;
            columns.evidence[*place].field(field);
        }
        self.rows += 1;
        Ok(())
    }
}

/// Names the columns; one without a name is called by its number, as `column_1`.
fn header(names: &[&str]) -> Result<Vec<String>> {
    if let [only] = names
        && let Some(mark) = [';', '\t', '|'].iter().find(|mark| only.contains(**mark))
    {
        return Err(Error::new(Kind::SourceUnreadable, format!("the columns seem to be separated by {mark:?}"))
            .help("Lakeport reads comma-separated files"));
    }
    let mut header: Vec<String> = Vec::with_capacity(names.len());
    for (number, name) in names.iter().enumerate() {
        let name = if name.is_empty() { format!("column_{}", number + 1) } else { (*name).to_owned() };
        if header.contains(&name) {
            return Err(Error::new(Kind::DuplicateColumn, format!("two columns are called `{name}`"))
                .help("rename one of them in the header")
                .at("column", name));
        }
        header.push(name);
    }
    Ok(header)
}

/// The fields of one file in its own order, with the types of the table.
pub(super) fn file_fields(header: &[String], schema: &Schema) -> Vec<Field> {
    let known = |name: &String| schema.field_with_name(name).cloned();
    header.iter().map(|name| known(name).unwrap_or_else(|_| Field::new(name, DataType::Utf8, true))).collect()
}
