//! NDJSON files: one JSON object per line, its columns and types decided from every line.
//!
//! Text stays text, also where it looks like a date. A column of whole numbers is Int64, with fractions Float64; a mixture
//! of kinds, or numbers that neither holds exactly, is text as it stands in the file. Objects become structs, arrays lists;
//! an object in one row and a plain value in another is a conflict. A key that is missing is NULL.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use futures::TryStreamExt;
use lakeport::error::{Error, Kind, Result};
use serde::de::IgnoredAny;

use super::bytes;
use super::evidence::Evidence;
use super::layout::{DataFile, Layout};

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
    let (mut line, mut rows, mut rest) = (0u64, 0u64, Vec::new());
    let mut take = |text: &[u8]| -> Result<()> {
        line += 1;
        if object(text, shape).map_err(|e| e.at("line", line))? {
            rows += 1;
        }
        Ok(())
    };
    while let Some(chunk) = stream.try_next().await? {
        let mut start = 0;
        while let Some(length) = chunk[start..].iter().position(|b| *b == b'\n') {
            let end = start + length;
            if rest.is_empty() {
                take(&chunk[start..end])?;
            } else {
                rest.extend_from_slice(&chunk[start..end]);
                take(&rest)?;
                rest.clear();
            }
            start = end + 1;
        }
        rest.extend_from_slice(&chunk[start..]);
    }
    take(&rest)?;
    Ok(rows)
}

/// Takes in one line; blank ones are none.
fn object(line: &[u8], shape: &mut Shape) -> Result<bool> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(false);
    }
    if line[0] == b'[' {
        return Err(Error::new(Kind::SourceUnreadable, "the file holds a JSON array, not one object per line")
            .help("write one object per line, for example with `jq -c '.[]'`"));
    }
    // The grammar is checked here, so that the walk below may rely on it.
    serde_json::from_slice::<IgnoredAny>(line)
        .map_err(|e| Error::new(Kind::SourceUnreadable, "the line is not one whole JSON object").because(e))?;
    if line[0] != b'{' {
        return Err(Error::new(Kind::SourceUnreadable, "the line is not a JSON object"));
    }
    Walk { text: line, at: 0 }.value(shape, &mut Vec::new())?;
    Ok(true)
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
}

impl Walk<'_> {
    fn value(&mut self, shape: &mut Shape, path: &mut Vec<String>) -> Result<()> {
        let start = self.skip_space();
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
        mixed(shape, path)
    }

    fn members(&mut self, shape: &mut Shape, path: &mut Vec<String>) -> Result<()> {
        self.at += 1;
        let fields = shape.fields.get_or_insert_with(Vec::new);
        // Objects of one file mostly have their keys in one order, so the next is looked for where it was.
        let mut guess = 0;
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
            guess = at + 1;
            path.push(key);
            self.value(&mut fields[at].1, path)?;
            path.pop();
            if self.text.get(self.skip_space()) == Some(&b',') {
                self.at += 1;
            }
        }
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
    }
}
