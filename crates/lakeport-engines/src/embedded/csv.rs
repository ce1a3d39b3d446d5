//! CSV files: which columns they have and of which types, decided from every row.
//!
//! A file is comma-separated with a header line, quoted with `"`, in UTF-8. An empty field is NULL, a quoted one (`""`) is the text
//! without letters in a column of text and NULL in others. Columns of several files are matched by name; one that a file lacks is
//! NULL there. A row with more or fewer fields than its header stops the run and is named by file and line; so does a
//! quote that is never closed, or closed in the middle of its field.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use csv_core::{ReadRecordResult, Reader};
use futures::TryStreamExt;
use lakeport::error::{Error, Kind, Result};
use memchr::memchr_iter;
use std::sync::Arc;

use super::bytes;
use super::evidence::Evidence;
use super::layout::{DataFile, Layout};

mod empties;

pub(super) use empties::{Empties, put};

/// The most bytes one row may have, and the places of its fields: far more than the longest text anybody puts into a table,
/// and little enough to be in memory where a quote was left open.
const ROW_BYTES: usize = 64 << 20;

/// What some programs put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What all CSV files of a table say together.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) schema: SchemaRef,
    /// The header of each file, in the order of the layout; empty where the file is.
    pub(super) headers: Vec<Vec<String>>,
    /// Whether a file holds quoted fields without letters.
    pub(super) empties: Vec<bool>,
    /// Rows of each file.
    pub(super) rows: Vec<u64>,
}

/// Reads every file once, to the end.
pub(super) async fn look(layout: &Layout) -> Result<Found> {
    let mut columns = Columns::default();
    let (mut headers, mut empties, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for file in &layout.files {
        let shown = layout.show(file);
        let read = one(layout, file, &mut columns).await.map_err(|e| e.at("file", &shown))?;
        headers.push(read.header);
        empties.push(read.quotes.empties);
        rows.push(read.rows);
    }
    if columns.names.is_empty() {
        return Err(Error::new(Kind::SourceEmpty, "the files are empty: not even a header line is there"));
    }
    Ok(Found { schema: columns.schema(), headers, empties, rows })
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
    quotes: Quotes,
    begun: bool,
    /// Whether a row has begun that has not ended.
    within: bool,
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
            quotes: Quotes::default(),
            begun: false,
            within: false,
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
        if last {
            self.quotes.end()?;
        } else {
            if !self.begun {
                self.begun = true;
                input = input.strip_prefix(BYTE_ORDER_MARK).unwrap_or(input);
            }
            self.quotes.follow(input, self.lines)?;
        }
        loop {
            if !self.within {
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
            self.lines += line_ends(&input[..read]);
            input = &input[read..];
            self.used += wrote;
            self.fields += ended;
            self.within = result != ReadRecordResult::Record;
            match result {
                ReadRecordResult::OutputFull if self.record.len() < ROW_BYTES => self.record.resize(self.record.len() * 2, 0),
                ReadRecordResult::OutputEndsFull if size_of_val(self.ends.as_slice()) < ROW_BYTES => {
                    self.ends.resize(self.ends.len() * 2, 0);
                }
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    let what = format!("a row is larger than {} MiB", ROW_BYTES >> 20);
                    return Err(Error::new(Kind::SourceUnreadable, what)
                        .help("look for a quote that this row opens and never closes")
                        .at("line", self.line));
                }
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

/// Follows the quotes through a file.
///
/// The reader takes any text for some CSV: a quote that is not closed makes one field of the rows behind it, and what stands
/// behind a closing quote is added to the field. This one goes from quote to quote, so a file without any costs one search.
#[derive(Debug)]
struct Quotes {
    state: Quoting,
    /// The line on which the quoted field began.
    line: u64,
    /// The byte before the next input.
    before: u8,
    /// Whether two quotes stood side by side, as they do in a quoted field without letters, and elsewhere.
    empties: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    /// Not in a quoted field; a quote anywhere but at a field's beginning is a letter like others.
    Outside,
    Inside,
    /// After a quote in a quoted field: the first of two that mean one, or its end.
    Half,
}

impl Default for Quotes {
    fn default() -> Self {
        Self { state: Quoting::Outside, line: 1, before: b'\n', empties: false }
    }
}

impl Quotes {
    /// Passes over more of the file; `line` is the one on which it begins.
    ///
    /// # Errors
    ///
    /// A quoted field that goes on after its closing quote, named by the line on which it began.
    fn follow(&mut self, input: &[u8], line: u64) -> Result<()> {
        let Some(last) = input.last() else { return Ok(()) };
        let mut quotes = memchr_iter(b'"', input);
        // Where in the input the quoted field began, unless it was before.
        let mut began = None;
        if self.state == Quoting::Half {
            // The first of the two may have opened the field.
            self.empties |= ends_field(input[0]);
            self.state = match input[0] {
                b'"' => quotes.next().map_or(Quoting::Outside, |_| Quoting::Inside),
                byte if ends_field(byte) => Quoting::Outside,
                byte => return Err(goes_on(self.line, line, byte)),
            };
        }
        while let Some(at) = quotes.next() {
            if self.state == Quoting::Outside {
                if ends_field(if at == 0 { self.before } else { input[at - 1] }) {
                    self.state = Quoting::Inside;
                    began = Some(at);
                }
                continue;
            }
            match input.get(at + 1) {
                None => self.state = Quoting::Half,
                Some(b'"') => {
                    quotes.next();
                }
                Some(byte) if ends_field(*byte) => {
                    self.empties |= at.checked_sub(1).is_none_or(|before| input[before] == b'"');
                    self.state = Quoting::Outside;
                }
                Some(byte) => {
                    let opened = began.map_or(self.line, |from| line + line_ends(&input[..from]));
                    return Err(goes_on(opened, line + line_ends(&input[..at]), *byte));
                }
            }
        }
        if let (Quoting::Inside | Quoting::Half, Some(from)) = (self.state, began) {
            self.line = line + line_ends(&input[..from]);
        }
        self.before = *last;
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    ///
    /// A quoted field that is still open.
    fn end(&mut self) -> Result<()> {
        self.empties |= self.state == Quoting::Half;
        if self.state != Quoting::Inside {
            return Ok(());
        }
        Err(Error::new(Kind::SourceUnreadable, "a quoted field is not closed before the file ends")
            .help("close the quote that this line opens, or write it twice inside of quotes if it is part of the text")
            .at("line", self.line))
    }
}

fn goes_on(opened: u64, closed: u64, byte: u8) -> Error {
    // A header in quotes with another separator looks like this too.
    if let (1, 1, b';' | b'\t' | b'|') = (opened, closed, byte) {
        return separated_by(char::from(byte)).at("line", opened);
    }
    Error::new(Kind::SourceUnreadable, format!("a quoted field goes on after its closing quote on line {closed}"))
        .help("close the quote that this line opens where its text ends, and write quotes that are part of the text twice (\"\")")
        .at("line", opened)
}

fn ends_field(byte: u8) -> bool {
    matches!(byte, b',' | b'\r' | b'\n')
}

fn line_ends(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

/// Names the columns; one without a name is called by its number, as `column_1`.
fn header(names: &[&str]) -> Result<Vec<String>> {
    if let [only] = names
        && let Some(mark) = [';', '\t', '|'].iter().find(|mark| only.contains(**mark))
    {
        return Err(separated_by(*mark));
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

fn separated_by(mark: char) -> Error {
    Error::new(Kind::SourceUnreadable, format!("the columns seem to be separated by {mark:?}"))
        .help("Lakeport reads comma-separated files")
}

/// The fields of one file in its own order, with the types of the table.
pub(super) fn file_fields(header: &[String], schema: &Schema) -> Vec<Field> {
    let known = |name: &String| schema.field_with_name(name).cloned();
    header.iter().map(|name| known(name).unwrap_or_else(|_| Field::new(name, DataType::Utf8, true))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a text in pieces of every size; the outcome must not depend on where it is cut.
    fn read(text: &[u8]) -> Result<(u64, String)> {
        let whole = in_pieces(text, text.len());
        for size in 1..text.len() {
            match (&whole, in_pieces(text, size)) {
                (Ok(expected), Ok(found)) => assert_eq!(*expected, found, "{size}"),
                (Err(expected), Err(found)) => {
                    assert_eq!((expected.message(), expected.context()), (found.message(), found.context()), "{size}");
                }
                (expected, found) => panic!("{expected:?} and {found:?} in pieces of {size}"),
            }
        }
        whole
    }

    fn in_pieces(text: &[u8], size: usize) -> Result<(u64, String)> {
        let mut columns = Columns::default();
        let mut reading = Reading::default();
        for piece in text.chunks(size.max(1)) {
            reading.digest(piece, &mut columns)?;
        }
        reading.digest(&[], &mut columns)?;
        let types = columns.schema().fields().iter().map(|f| format!("{}:{}", f.name(), f.data_type())).collect::<Vec<_>>();
        Ok((reading.rows, types.join(" ")))
    }

    fn refused(text: &[u8]) -> (String, String) {
        let error = read(text).unwrap_err();
        assert_eq!(error.kind(), Kind::SourceUnreadable);
        (error.message().to_owned(), error.context_value("line").unwrap_or_default().to_owned())
    }

    #[test]
    fn a_quote_that_is_not_closed_is_named_by_its_line() {
        let (message, line) = refused(b"id,name\n1,\"abc\n2,def\n3,ghi\n");
        assert!(message.contains("not closed"), "{message}");
        assert_eq!(line, "2");
        assert_eq!(refused(b"a,b\n1,2\n\"x\ny\",\"z\n").1, "4");
        assert_eq!(refused(b"a\n\"x\"\"").1, "2");
        assert_eq!(refused(b"a\n1\n\"").1, "3");
        assert_eq!(refused(b"\"a,b\n1,2\n").1, "1");
    }

    #[test]
    fn nothing_is_added_to_a_field_after_its_closing_quote() {
        let (message, line) = refused(b"a,b\r\n0,0\r\n1,\"abc\r\n2,d\r\n3,\"e\"\r\n");
        assert!(message.contains("closing quote on line 5"), "{message}");
        assert_eq!(line, "3");
        for text in ["\"x\"y", "\"x\" ", "\"\"x", "\"a \\\"b\\\" c\"", "1,\"x\"\"\" y"] {
            assert_eq!(refused(format!("a,b\n1,2\n{text},3\n").as_bytes()).1, "3", "{text}");
        }
        let (message, _) = refused(b"\"a\";\"b\"\n1;2\n");
        assert!(message.contains("separated by ';'"), "{message}");
    }

    #[test]
    fn quotes_that_mean_something_stay_what_they_were() {
        let one = |text: &str| read(format!("a,b\n{text}").as_bytes()).unwrap();
        for text in ["1,\"\"\n", "1,\"\"", "1,\"\"\r\n", "\"1\",2\n", "\"1\",\"2\"\r", "1,\r\n\r\n"] {
            assert_eq!(one(text).0, 1, "{text:?}");
        }
        for text in ["1,\"\"\"\"", "1,\"x\"\"\"\"y\"", "1,\"a\n,\r\nb\"", "1,\"\n2\"", "1,5\" pipe", "1,x\"\"", "1, \"x\""] {
            assert_eq!(one(text), (1, "a:Int64 b:Utf8".to_owned()), "{text:?}");
        }
        assert_eq!(one("1,x\"\n2,\"y\"\n3,\"\"\"z\"\n").0, 3);
        // The mark is told from what follows only where it comes in one piece.
        assert_eq!(in_pieces(b"\xef\xbb\xbf\"a\",\"b\"\n\"1\",\"2\"\n", 64).unwrap(), (1, "a:Int64 b:Int64".to_owned()));
        assert!(in_pieces(b"\xef\xbb\xbf\"a\"x,b\n", 64).is_err());
    }

    #[test]
    fn a_row_is_bounded_and_long_texts_fit() {
        let row = |letters: usize| [b"a,b\n1,2\n3,\"".as_slice(), &vec![b'x'; letters], b"\"\n"].concat();
        assert_eq!(in_pieces(&row(9 << 20), 1 << 18).unwrap().0, 2);
        let endless = |text: &[u8]| in_pieces(text, 1 << 18).unwrap_err();
        for text in [row(ROW_BYTES), [b"a,b\n1,2\n".as_slice(), &vec![b','; ROW_BYTES / 8]].concat()] {
            let error = endless(&text);
            assert!(error.message().contains("64 MiB"), "{error:?}");
            assert_eq!(error.context_value("line"), Some("3"));
        }
    }
}
