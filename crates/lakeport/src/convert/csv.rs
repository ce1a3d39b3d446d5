//! `.csv`, in the dialect the job asks for. NULL and the empty text stay two things: NULL is bare, a text that reads like it is quoted.

use std::io::{BufRead, Read, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::output::{Encode, OneTable, Output, input};
use super::{Batches, Capability, FileDescription, Format, Opened, Writer, read_back};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::types::files::{CsvOptions, LineEnding};
use crate::types::{Mapping, Wishes, csv};
use crate::verify::{Fingerprint, Verify};

/// Rows, and bytes of texts, of a batch read back.
const BATCH: (usize, usize) = (8192, 16 * 1024 * 1024);

/// The mark by which Excel on Windows knows UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The format.
#[derive(Debug)]
pub struct Csv;

impl Format for Csv {
    fn capability(&self) -> Capability {
        Capability {
            name: "csv",
            extensions: &["csv", "csv.gz", "csv.zst", "tsv"],
            write: true,
            read: true,
            lake: true,
            many_tables: false,
            max_rows: None,
            max_decimal: 76,
            summary: "text with delimiters; NULL bare, texts quoted where needed; .gz and .zst compress",
        }
    }

    fn map(&self, table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
        let mut wishes = wishes.clone();
        let tabs = wishes.files.name.to_ascii_lowercase().ends_with(".tsv");
        if tabs && wishes.files.csv.delimiter == CsvOptions::default().delimiter {
            wishes.files.csv.delimiter = '\t';
        }
        csv::map(table, schema, &wishes)
    }

    fn create(&self, path: &Path, tables: &[&Mapping], _limits: &Limits) -> Result<Box<dyn Writer>> {
        let mapping = tables[0];
        let options = CsvOptions::from_facts(&mapping.facts);
        let out = Output::create(path, &mapping.facts)?;
        let mut encoder = Encoder { dialect: Dialect::new(&options), out, line: Vec::new() };
        if options.bom {
            encoder.out.write_all(BOM).wrap(Kind::WriteFailed, || "cannot write the CSV file".into())?;
        }
        if options.header {
            let names: Vec<_> = mapping.columns.iter().map(|c| Some(c.name.as_str())).collect();
            encoder.row(&names)?;
        }
        Ok(OneTable::writer(path, "csv", Box::new(encoder)))
    }

    fn read_back(&self, path: &Path, tables: &[&Mapping], verify: Verify, _limits: &Limits) -> Result<Vec<Fingerprint>> {
        let opened = open(path, tables[0]).at("file", path.display())?;
        Ok(vec![read_back::through(opened, tables[0], verify)?])
    }

    fn describe(&self, path: &Path, _limits: &Limits) -> Result<FileDescription> {
        Err(super::by_the_engine(path))
    }
}

/// What the bytes between fields and lines are.
#[derive(Debug, Clone)]
struct Dialect {
    delimiter: u8,
    quote: u8,
    /// Before a quote, or itself, inside of quotes; the quote itself where quotes are doubled.
    escape: u8,
    null: Vec<u8>,
    quote_all: bool,
    line_end: &'static [u8],
}

impl Dialect {
    fn new(options: &CsvOptions) -> Self {
        let byte = |c: char, usual| u8::try_from(c).unwrap_or(usual);
        let quote = byte(options.quote, b'"');
        Self {
            delimiter: byte(options.delimiter, b','),
            quote,
            escape: options.escape.map_or(quote, |e| byte(e, quote)),
            null: options.null.clone().into_bytes(),
            quote_all: options.quote_all,
            line_end: if options.line_ending == LineEnding::Crlf { b"\r\n" } else { b"\n" },
        }
    }

    /// Whether a byte inside of quotes needs the escape before it.
    fn escaped(&self, byte: u8) -> bool {
        byte == self.quote || byte == self.escape
    }

    fn field(&self, value: Option<&str>, line: &mut Vec<u8>) {
        let Some(text) = value else {
            line.extend_from_slice(&self.null);
            return;
        };
        let bytes = text.as_bytes();
        let special = |b: &u8| *b == self.delimiter || self.escaped(*b) || matches!(*b, b'\n' | b'\r');
        // Blanks at the ends are quoted because readers differ on whether they belong to the value.
        let quoted = self.quote_all
            || bytes == self.null
            || bytes.is_empty()
            || bytes.first() == Some(&b' ')
            || bytes.last() == Some(&b' ')
            || bytes.iter().any(special);
        if !quoted {
            line.extend_from_slice(bytes);
            return;
        }
        line.push(self.quote);
        for byte in bytes {
            if self.escaped(*byte) {
                line.push(self.escape);
            }
            line.push(*byte);
        }
        line.push(self.quote);
    }

    /// Goes on through a piece of a record; says whether it ends inside of quotes.
    fn inside(&self, piece: &[u8], state: &mut Quotes) -> bool {
        for byte in piece {
            if state.escaped {
                state.escaped = false;
            } else if state.inside && self.escape != self.quote && *byte == self.escape {
                state.escaped = true;
            } else if *byte == self.quote {
                // A doubled quote leaves and enters again.
                state.inside = !state.inside;
            }
        }
        state.inside
    }
}

/// Where in a record a walk through it is.
#[derive(Debug, Default)]
struct Quotes {
    inside: bool,
    escaped: bool,
}

struct Encoder {
    dialect: Dialect,
    out: Output,
    line: Vec<u8>,
}

impl Encoder {
    fn row(&mut self, values: &[Option<&str>]) -> Result<()> {
        self.line.clear();
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                self.line.push(self.dialect.delimiter);
            }
            self.dialect.field(*value, &mut self.line);
        }
        // A single NULL would be an empty line, which readers skip; nothing but a quoted text can stand for it there.
        if values.len() == 1 && self.line.is_empty() {
            let what = "a table of one column cannot say NULL as an empty line";
            return Err(Error::new(Kind::ValueRefused, what).help("set `null = \"NULL\"` in [job.NAME.csv]"));
        }
        self.line.extend_from_slice(self.dialect.line_end);
        self.out.write_all(&self.line).wrap(Kind::WriteFailed, || "cannot write the CSV file".into())
    }
}

impl Encode for Encoder {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns: Vec<_> = batch.columns().iter().map(|c| c.as_string::<i32>()).collect();
        let mut values = vec![None; columns.len()];
        for row in 0..batch.num_rows() {
            for (value, column) in values.iter_mut().zip(&columns) {
                *value = column.is_valid(row).then(|| column.value(row));
            }
            self.row(&values)?;
        }
        Ok(())
    }

    fn size(&self) -> Option<u64> {
        Some(self.out.size())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.out.finish().wrap(Kind::WriteFailed, || "cannot complete the CSV file".into())
    }
}

/// Opens what was written, knowing its columns and dialect.
fn open(path: &Path, mapping: &Mapping) -> Result<Opened> {
    let options = CsvOptions::from_facts(&mapping.facts);
    let fields: Vec<_> = mapping.columns.iter().map(|c| Field::new(&c.name, DataType::Utf8, true)).collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let mut rows = Rows {
        input: input(path, &mapping.facts)?,
        dialect: Dialect::new(&options),
        record: Vec::new(),
        schema: Arc::clone(&schema),
        done: false,
    };
    if options.bom {
        let mut mark = [0; BOM.len()];
        rows.input.read_exact(&mut mark).wrap(Kind::VerifyFailed, || "cannot read the CSV file".into())?;
        if mark != *BOM {
            return Err(Error::new(Kind::VerifyFailed, "the CSV file does not begin with its mark"));
        }
    }
    let mut names = Vec::new();
    if options.header {
        let there = rows.next_record(&mut |_, value| names.push(value.map(str::to_owned).unwrap_or_default()))?;
        let same = there && names.len() == mapping.columns.len() && names.iter().zip(&mapping.columns).all(|(n, c)| *n == c.name);
        if !same {
            return Err(Error::new(Kind::VerifyFailed, "the header of the CSV file does not name its columns"));
        }
    }
    Ok(Opened {
        table: mapping.table.clone(),
        tables: vec![mapping.table.clone()],
        schema,
        rows: None,
        batches: Box::new(rows) as Batches,
    })
}

/// Reads records batch by batch; strict, because it reads what Lakeport wrote.
struct Rows<R> {
    input: R,
    dialect: Dialect,
    record: Vec<u8>,
    schema: SchemaRef,
    done: bool,
}

impl<R: BufRead> Rows<R> {
    /// Reads one record and hands out its fields; `false` at the end of the file.
    fn next_record(&mut self, each: &mut dyn FnMut(usize, Option<&str>)) -> Result<bool> {
        let torn = |why: &str| Error::new(Kind::VerifyFailed, format!("the CSV file is torn: {why}"));
        self.record.clear();
        // A line break inside quotes belongs to the value.
        let mut quotes = Quotes::default();
        loop {
            let from = self.record.len();
            let read =
                self.input.read_until(b'\n', &mut self.record).wrap(Kind::VerifyFailed, || "cannot read the CSV file".into())?;
            if read == 0 {
                return if from == 0 { Ok(false) } else { Err(torn("it ends inside a quoted value")) };
            }
            if !self.dialect.inside(&self.record[from..], &mut quotes) {
                break;
            }
        }
        if !self.record.ends_with(self.dialect.line_end) {
            return Err(torn("its last line does not end"));
        }
        self.record.truncate(self.record.len() - self.dialect.line_end.len());
        let (quote, escape) = (self.dialect.quote, self.dialect.escape);
        let (mut at, mut index) = (0, 0);
        let mut unquoted = Vec::new();
        loop {
            let rest = &self.record[at..];
            let (value, used) = if rest.first() == Some(&quote) {
                unquoted.clear();
                let mut used = 1;
                loop {
                    let byte = *rest.get(used).ok_or_else(|| torn("a quote does not end"))?;
                    let next = rest.get(used + 1);
                    if byte == escape && next.is_some_and(|n| *n == quote || *n == escape) {
                        unquoted.extend(next);
                        used += 2;
                    } else if byte == quote {
                        used += 1;
                        break;
                    } else {
                        unquoted.push(byte);
                        used += 1;
                    }
                }
                (Some(unquoted.as_slice()), used)
            } else {
                let used = rest.iter().position(|b| *b == self.dialect.delimiter).unwrap_or(rest.len());
                ((rest[..used] != self.dialect.null).then_some(&rest[..used]), used)
            };
            let text =
                value.map(std::str::from_utf8).transpose().wrap(Kind::VerifyFailed, || "the CSV file is no UTF-8".into())?;
            each(index, text);
            index += 1;
            at += used;
            match self.record.get(at) {
                None => return Ok(true),
                Some(b) if *b == self.dialect.delimiter => at += 1,
                Some(_) => return Err(torn("something follows a quoted value")),
            }
        }
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let schema = Arc::clone(&self.schema);
        let mut builders: Vec<_> = schema.fields().iter().map(|_| StringBuilder::new()).collect();
        let expected = builders.len();
        let (mut rows, mut bytes) = (0, 0);
        while rows < BATCH.0 && bytes < BATCH.1 {
            let mut fields = 0;
            let more = self.next_record(&mut |index, value| {
                fields += 1;
                if let Some(builder) = builders.get_mut(index) {
                    bytes += value.map_or(0, str::len);
                    builder.append_option(value);
                }
            })?;
            if !more {
                break;
            }
            if fields != expected {
                let what = format!("a row of the CSV file has {fields} values instead of {expected}");
                return Err(Error::new(Kind::VerifyFailed, what));
            }
            rows += 1;
        }
        if rows == 0 {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> = builders.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef).collect();
        RecordBatch::try_new(schema, columns).map(Some).wrap(Kind::Unexpected, || "CSV columns of unlike length".into())
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_batch().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;

    fn batch(values: Vec<Option<&str>>) -> RecordBatch {
        let column: ArrayRef = Arc::new(StringArray::from(values));
        RecordBatch::try_from_iter([("a", Arc::clone(&column)), ("b \"x\", y", column)]).unwrap()
    }

    fn written(options: CsvOptions, name: &str, batch: &RecordBatch) -> (tempfile::TempDir, Mapping, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        let mut wishes = Wishes::default();
        wishes.files.csv = options;
        wishes.files.name = name.into();
        let mapping = Csv.map("t", &batch.schema(), &wishes).unwrap();
        let mut writer = Csv.create(&path, &[&mapping], &Limits::default()).unwrap();
        writer.write(0, batch).unwrap();
        writer.finish().unwrap();
        (directory, mapping, path)
    }

    #[test]
    fn null_and_the_empty_text_stay_two_things() {
        let rows = batch(vec![Some(""), None, Some("a,b"), Some("say \"x\"\nand y"), Some(" "), Some("é\0")]);
        let (_keep, mapping, path) = written(CsvOptions::default(), "t.csv", &rows);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        assert_eq!(lines[..4], ["a,\"b \"\"x\"\", y\"\n", "\"\",\"\"\n", ",\n", "\"a,b\",\"a,b\"\n"]);
        let back: Vec<_> = open(&path, &mapping).unwrap().batches.collect::<Result<_>>().unwrap();
        assert_eq!(back[0].columns(), rows.columns());
    }

    #[test]
    fn dialects_and_compressions_read_back() {
        let rows = batch(vec![Some("\\N"), None, Some("x;y"), Some("")]);
        for name in ["t.csv", "t.csv.gz", "t.csv.zst"] {
            let options = CsvOptions { delimiter: ';', header: false, null: "\\N".into(), ..CsvOptions::default() };
            let (_keep, mapping, path) = written(options, name, &rows);
            let back: Vec<_> = open(&path, &mapping).unwrap().batches.collect::<Result<_>>().unwrap();
            assert_eq!(back[0].columns(), rows.columns(), "{name}");
        }
    }

    #[test]
    fn escapes_marks_and_line_ends_read_back() {
        let values = ["\\", "a\\", "\"", "\\\"", "a\\\n\"b", "x'y", "'", "\r\n", "é", ""];
        let rows = batch(values.iter().map(|v| Some(*v)).chain([None]).collect());
        for (quote, escape) in [('"', None), ('"', Some('\\')), ('\'', None), ('\'', Some('\\')), ('"', Some('"'))] {
            for (line_ending, bom, quote_all) in [(LineEnding::Lf, false, true), (LineEnding::Crlf, true, false)] {
                let options = CsvOptions { quote, escape, line_ending, bom, quote_all, ..CsvOptions::default() };
                let (_keep, mapping, path) = written(options, "t.csv", &rows);
                let back: Vec<_> = open(&path, &mapping).unwrap().batches.collect::<Result<_>>().unwrap();
                assert_eq!(back[0].columns(), rows.columns(), "{quote} {escape:?} {line_ending:?}");
            }
        }
    }

    #[test]
    fn a_torn_file_is_seen() {
        let rows = batch(vec![Some("a"), Some("b\"c")]);
        let (_keep, mapping, path) = written(CsvOptions::default(), "t.csv", &rows);
        let whole = std::fs::read(&path).unwrap();
        for cut in [1, 3, 5] {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let read = open(&path, &mapping).unwrap().batches.collect::<Result<Vec<_>>>();
            assert_eq!(read.unwrap_err().kind(), Kind::VerifyFailed, "cut {cut}");
        }
    }
}
