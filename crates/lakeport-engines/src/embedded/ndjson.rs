//! NDJSON files: one JSON object per line, its columns and types decided from every line.
//!
//! Text stays text, also where it looks like a date. A column of whole numbers is Int64, with fractions Float64; a mixture
//! of kinds, or numbers that neither holds exactly, is text as it stands in the file. Objects become structs, arrays lists;
//! an object in one row and a plain value in another is a conflict. A key that is missing is NULL.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use futures::TryStreamExt;
use lakeport::error::{Error, Kind, Result};
use memchr::memchr_iter;
use serde::de::IgnoredAny;

use super::bytes;
use super::evidence::Evidence;
use super::layout::{DataFile, Layout};

/// The most bytes one line may have; a longer one is a document of its own rather than a row, and would have to be in memory.
const LINE_BYTES: usize = 64 << 20;

/// How deep values may be nested: more overflows the stacks of those who walk through types.
const DEEPEST: usize = 64;
/// The most keys that objects of one place may have between them.
const MOST_KEYS: usize = 16_384;

/// What all NDJSON files of a table say together.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) schema: SchemaRef,
    /// Rows of each file.
    pub(super) rows: Vec<u64>,
}

/// Reads every file once, to the end.
pub(super) async fn look(layout: &Layout) -> Result<Found> {
    let mut shape = Shape::default();
    let mut rows = Vec::new();
    for file in &layout.files {
        rows.push(one(layout, file, &mut shape).await.map_err(|e| e.at("file", layout.show(file)))?);
    }
    let Some(fields) = shape.fields.filter(|f| !f.is_empty()) else {
        return Err(Error::new(Kind::SourceEmpty, "no object with a key stands in the files, so the columns are not known"));
    };
    Ok(Found { schema: Arc::new(Schema::new(fields_of(&fields))), rows })
}

async fn one(layout: &Layout, file: &DataFile, shape: &mut Shape) -> Result<u64> {
    let mut stream = bytes::open(layout.place.store.as_ref(), &file.meta.location, file.packing, &layout.show(file)).await?;
    let mut reading = Reading::default();
    while let Some(chunk) = stream.try_next().await? {
        reading.digest(&chunk, shape)?;
    }
    reading.end(shape)
}

/// One file while it is read.
#[derive(Default)]
struct Reading {
    /// The beginning of a line whose end is yet to come, from its first letter on.
    rest: Vec<u8>,
    /// Lines that are done.
    lines: u64,
    rows: u64,
}

impl Reading {
    fn digest(&mut self, chunk: &[u8], shape: &mut Shape) -> Result<()> {
        let mut start = 0;
        for end in memchr_iter(b'\n', chunk) {
            let piece = &chunk[start..end];
            start = end + 1;
            if self.rest.is_empty() {
                self.line(piece, shape)?;
                continue;
            }
            self.gather(piece)?;
            let mut whole = std::mem::take(&mut self.rest);
            self.line(&whole, shape)?;
            whole.clear();
            self.rest = whole;
        }
        self.gather(&chunk[start..])
    }

    fn end(mut self, shape: &mut Shape) -> Result<u64> {
        let last = std::mem::take(&mut self.rest);
        self.line(&last, shape)?;
        Ok(self.rows)
    }

    /// Keeps a piece of a line. What can be no object is refused by its first letter: an array may be as long as the file.
    fn gather(&mut self, piece: &[u8]) -> Result<()> {
        let piece = if self.rest.is_empty() { piece.trim_ascii_start() } else { piece };
        let length = self.rest.len() + piece.len();
        let begins = |line: &[u8]| ensure_no_array(line).and_then(|()| ensure_object(line));
        let fit = if self.rest.is_empty() { begins(piece) } else { Ok(()) }.and_then(|()| ensure_bounded(length));
        fit.map_err(|e| e.at("line", self.lines + 1))?;
        self.rest.extend_from_slice(piece);
        Ok(())
    }

    fn line(&mut self, text: &[u8], shape: &mut Shape) -> Result<()> {
        self.lines += 1;
        let row = ensure_bounded(text.len()).and_then(|()| object(text, shape)).map_err(|e| e.at("line", self.lines))?;
        self.rows += u64::from(row);
        Ok(())
    }
}

fn ensure_bounded(length: usize) -> Result<()> {
    if length <= LINE_BYTES {
        return Ok(());
    }
    let what = format!("a line is longer than {} MiB", LINE_BYTES >> 20);
    Err(Error::new(Kind::SourceUnreadable, what).help("write one object per line, for example with `jq -c .`"))
}

/// Takes in one line; blank ones are none.
fn object(line: &[u8], shape: &mut Shape) -> Result<bool> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(false);
    }
    ensure_no_array(line)?;
    // The grammar is checked here, so that the walk below may rely on it.
    serde_json::from_slice::<IgnoredAny>(line)
        .map_err(|e| Error::new(Kind::SourceUnreadable, "the line is not one whole JSON object").because(e))?;
    ensure_object(line)?;
    Walk { text: line, at: 0, depth: 0, met: Vec::new() }.value(shape, &mut Vec::new())?;
    Ok(true)
}

fn ensure_no_array(line: &[u8]) -> Result<()> {
    if line.first() != Some(&b'[') {
        return Ok(());
    }
    Err(Error::new(Kind::SourceUnreadable, "the file holds a JSON array, not one object per line")
        .help("write one object per line, for example with `jq -c '.[]'`"))
}

fn ensure_object(line: &[u8]) -> Result<()> {
    if matches!(line.first(), None | Some(b'{')) {
        return Ok(());
    }
    Err(Error::new(Kind::SourceUnreadable, "the line is not a JSON object"))
}

/// What the values of one column, field or element look like.
#[derive(Debug, Default)]
struct Shape {
    plain: Evidence,
    fields: Option<Vec<(String, Shape)>>,
    items: Option<Box<Shape>>,
}

impl Shape {
    fn data_type(&self) -> DataType {
        if let Some(fields) = &self.fields {
            DataType::Struct(fields_of(fields))
        } else if let Some(items) = &self.items {
            DataType::List(Arc::new(Field::new_list_field(items.data_type(), true)))
        } else {
            self.plain.data_type()
        }
    }

    fn kinds(&self) -> usize {
        usize::from(!self.plain.is_empty()) + usize::from(self.fields.is_some()) + usize::from(self.items.is_some())
    }
}

fn fields_of(fields: &[(String, Shape)]) -> Fields {
    fields.iter().map(|(name, shape)| Field::new(name, shape.data_type(), true)).collect()
}

/// A walk over text that is known to be JSON.
struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    /// The fields met in each object that is open, one object's behind the other's.
    met: Vec<usize>,
}

impl Walk<'_> {
    fn value(&mut self, shape: &mut Shape, path: &mut Vec<String>) -> Result<()> {
        let start = self.skip_space();
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Error::new(Kind::SourceUnreadable, format!("values are nested more than {DEEPEST} deep"))
                .help("write what lies so deep as text"));
        }
        match self.text.get(start) {
            Some(b'{') => {
                shape.fields.get_or_insert_with(Vec::new);
                mixed(shape, path)?;
                self.members(shape, path)?;
            }
            Some(b'[') => {
                shape.items.get_or_insert_with(Box::default);
                mixed(shape, path)?;
                self.elements(shape, path)?;
            }
            Some(b'"') => {
                self.string();
                shape.plain.text();
            }
            Some(b't' | b'f') => {
                self.word();
                shape.plain.truth();
            }
            Some(b'n') => {
                self.word();
            }
            _ => {
                self.word();
                let text = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
                shape.plain.number(text);
            }
        }
        self.depth -= 1;
        mixed(shape, path)
    }

    fn members(&mut self, shape: &mut Shape, path: &mut Vec<String>) -> Result<()> {
        self.at += 1;
        let fields = shape.fields.get_or_insert_with(Vec::new);
        let first = self.met.len();
        // Objects of one file mostly have their keys in one order, so the next is looked for where it was.
        let (mut guess, mut behind) = (0, 0);
        while self.text.get(self.skip_space()) != Some(&b'}') {
            let raw = self.string();
            let key: String =
                serde_json::from_slice(raw).map_err(|e| Error::new(Kind::SourceUnreadable, "a key cannot be read").because(e))?;
            self.skip_space();
            self.at += 1;
            let at = match fields.get(guess) {
                Some((name, _)) if *name == key => guess,
                _ => fields.iter().position(|(name, _)| *name == key).unwrap_or_else(|| {
                    fields.push((key.clone(), Shape::default()));
                    fields.len() - 1
                }),
            };
            if fields.len() > MOST_KEYS {
                return Err(Error::new(Kind::SourceUnreadable, format!("objects have more than {MOST_KEYS} different keys"))
                    .help("keys that are values make no columns: write them as an array of objects with a key and a value"));
            }
            // A field behind all that were met cannot have been there before.
            let again = at < behind && self.met[first..].contains(&at);
            if again {
                return Err(Error::new(Kind::DuplicateColumn, format!("the key `{key}` stands twice in one object"))
                    .help("leave one of the two"));
            }
            self.met.push(at);
            guess = at + 1;
            behind = behind.max(guess);
            path.push(key);
            self.value(&mut fields[at].1, path)?;
            path.pop();
            if self.text.get(self.skip_space()) == Some(&b',') {
                self.at += 1;
            }
        }
        self.met.truncate(first);
        self.at += 1;
        Ok(())
    }

    fn elements(&mut self, shape: &mut Shape, path: &mut Vec<String>) -> Result<()> {
        self.at += 1;
        let items = shape.items.get_or_insert_with(Box::default);
        while self.text.get(self.skip_space()) != Some(&b']') {
            self.value(items, path)?;
            if self.text.get(self.skip_space()) == Some(&b',') {
                self.at += 1;
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Passes over a string and gives it with its quotes.
    fn string(&mut self) -> &[u8] {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.text.get(self.at) {
            self.at += if *byte == b'\\' { 2 } else { 1 };
            if *byte == b'"' {
                break;
            }
        }
        &self.text[start..self.at]
    }

    /// Passes over a number, `true`, `false` or `null`.
    fn word(&mut self) {
        while self.text.get(self.at).is_some_and(|b| !matches!(b, b',' | b']' | b'}') && !b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn skip_space(&mut self) -> usize {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.at
    }
}

fn mixed(shape: &Shape, path: &[String]) -> Result<()> {
    if shape.kinds() < 2 {
        return Ok(());
    }
    let column = path.join(".");
    Err(Error::new(
        Kind::SchemaConflict,
        format!("`{column}` is nested in one row and a plain value, or nested differently, in another"),
    )
    .at("column", column))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(lines: &[&str]) -> Result<String> {
        let mut shape = Shape::default();
        for line in lines {
            object(line.as_bytes(), &mut shape)?;
        }
        Ok(fields_of(&shape.fields.unwrap_or_default())
            .iter()
            .map(|f| format!("{}:{}", f.name(), f.data_type()))
            .collect::<Vec<_>>()
            .join(" "))
    }

    #[test]
    fn every_line_has_its_say() {
        assert_eq!(
            types(&[r#"{"a": 1, "b": "x"}"#, "", r#"{"b": null, "a": 2.5, "c\n": true}"#]).unwrap(),
            "a:Float64 b:Utf8 c\n:Boolean"
        );
        assert_eq!(types(&[r#"{"a": 12345678901234567890}"#]).unwrap(), "a:Utf8");
        assert_eq!(types(&[r#"{"a": 1}"#, r#"{"a": "x"}"#]).unwrap(), "a:Utf8");
        assert!(types(&[r#"{"a": [{"b": [1]}, {"c": "]}\"{"}]}"#]).unwrap().contains("List"));
    }

    #[test]
    fn broken_and_mixed_lines_are_refused() {
        assert_eq!(types(&[r#"{"a": 1"#]).unwrap_err().kind(), Kind::SourceUnreadable);
        assert_eq!(types(&[r#"[{"a": 1}]"#]).unwrap_err().kind(), Kind::SourceUnreadable);
        assert_eq!(types(&[r#"{"a": 1} {"a": 2}"#]).unwrap_err().kind(), Kind::SourceUnreadable);
        assert_eq!(types(&[r#"{"a": 1}"#, r#"{"a": {"b": 1}}"#]).unwrap_err().kind(), Kind::SchemaConflict);
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(types(&[&nested(60)]).is_ok());
        assert_eq!(types(&[&nested(90)]).unwrap_err().kind(), Kind::SourceUnreadable);
        assert_eq!(types(&[&nested(100_000)]).unwrap_err().kind(), Kind::SourceUnreadable);
    }

    #[test]
    fn a_key_that_stands_twice_in_one_object_is_refused() {
        for line in
            [r#"{"a": 1, "a": "x"}"#, r#"{"a": 1, "b": 2, "a": 3}"#, r#"{"o": {"x": 1, "x": 1}}"#, r#"{"l": [{"x": 1, "x": 2}]}"#]
        {
            assert_eq!(types(&[r#"{"b": 1}"#, line]).unwrap_err().kind(), Kind::DuplicateColumn, "{line}");
        }
        // In any order, and in several objects, it is no double.
        types(&[r#"{"a": 1, "b": 2}"#, r#"{"b": 1, "a": {"a": 1, "b": 2}}"#]).unwrap_err();
        types(&[r#"{"a": 1, "b": [{"a": 1, "b": 2}, {"b": 1, "a": 2}]}"#, r#"{"b": null, "a": 1}"#]).unwrap();
    }

    #[test]
    fn lines_are_the_same_wherever_they_are_cut() {
        let text = b" {\"a\": 1}\r\n\n   \n{\"a\": 2.5,\n";
        for size in 1..text.len() {
            let (mut reading, mut shape) = (Reading::default(), Shape::default());
            let refused = text.chunks(size).find_map(|piece| reading.digest(piece, &mut shape).err()).unwrap();
            assert_eq!((refused.context_value("line"), reading.rows), (Some("4"), 1), "{size}");
        }
        let (mut reading, mut shape) = (Reading::default(), Shape::default());
        text[..14].chunks(3).for_each(|piece| reading.digest(piece, &mut shape).unwrap());
        assert_eq!(reading.end(&mut shape).unwrap(), 1);
    }

    #[test]
    fn a_file_on_one_line_is_not_gathered() {
        let begun = |pieces: &[&[u8]]| {
            let (mut reading, mut shape) = (Reading::default(), Shape::default());
            pieces.iter().find_map(|piece| reading.digest(piece, &mut shape).err())
        };
        let array = begun(&[b"\n ", b"\t[{\"a\": 1},"]).unwrap();
        assert!(array.message().contains("array"), "{array:?}");
        assert_eq!(array.context_value("line"), Some("2"));
        assert!(begun(&[b"{\"a\"", b": [1, "]).is_none());
        assert_eq!(begun(&[b"12"]).unwrap().kind(), Kind::SourceUnreadable);
        // Blanks are not kept, however many there are.
        let blank = vec![b' '; LINE_BYTES + 1];
        assert!(begun(&[&blank, b"{\"a\": 1}\n"]).is_none());
    }

    #[test]
    fn a_line_is_bounded_and_long_texts_fit() {
        let letters = vec![b'x'; 1 << 20];
        let mut reading = Reading::default();
        let mut shape = Shape::default();
        reading.digest(b"{}\n{\"a\": \"", &mut shape).unwrap();
        (0..9).for_each(|_| reading.digest(&letters, &mut shape).unwrap());
        reading.digest(b"\"}\n{\"a\": \"", &mut shape).unwrap();
        assert_eq!(reading.rows, 2);
        let refused = (0..65).find_map(|_| reading.digest(&letters, &mut shape).err()).unwrap();
        assert!(refused.message().contains("64 MiB"), "{refused:?}");
        assert_eq!(refused.context_value("line"), Some("3"));
    }
}
