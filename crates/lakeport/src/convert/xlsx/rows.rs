//! Rows of a batch as the XML of a sheet.
//!
//! The same cells that `rust_xlsxwriter` writes in constant memory (inline texts, a reference in each cell), written by several
//! threads at once; everything around the rows is the library's.

use std::io::Write;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Float64Type, Time32MillisecondType, TimestampMillisecondType};

use crate::error::{Error, Kind, Result};
use crate::types::Mapping;

/// Days from Excel's day zero to 1970, for dates from 1900-03-01 on.
pub(super) const EPOCH: i32 = 25_569;
/// Milliseconds of a day.
pub(super) const DAY: f64 = 86_400_000.0;

/// What the rows of a table have in common.
pub(super) struct Columns {
    /// Name, then how its cells begin, up to the row's number, and go on behind it.
    cells: Vec<(String, String, String)>,
    /// How an empty first cell goes on.
    empty: String,
}

impl Columns {
    /// Takes the styles of a table's columns, and of the empty cell that stands for a row without a first value.
    pub(super) fn new(mapping: &Mapping, styles: &[Option<String>], empty: &str) -> Self {
        let cells = mapping.columns.iter().zip(styles).enumerate().map(|(at, (column, style))| {
            let style = style.as_ref().map_or_else(String::new, |s| format!(" s=\"{s}\""));
            let rest = match column.physical {
                DataType::Boolean => format!("\"{style} t=\"b\"><v>"),
                DataType::Utf8 => format!("\"{style} t=\"inlineStr\"><is><t"),
                _ => format!("\"{style}><v>"),
            };
            (column.name.clone(), format!("<c r=\"{}", letters(at)), rest)
        });
        Self { cells: cells.collect(), empty: format!("\" s=\"{empty}\"/>") }
    }

    /// The rows of a batch; the first has the number `first` in its sheet, `before` rows of the table are before it.
    pub(super) fn rows(&self, batch: &RecordBatch, first: u32, before: u64) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(batch.num_rows() * (40 * self.cells.len() + 20));
        let mut digits = Vec::new();
        for (row, number) in (0..batch.num_rows()).zip(first..) {
            digits.clear();
            // Writing to memory does not fail.
            let _ = write!(digits, "{number}");
            out.extend_from_slice(b"<row r=\"");
            out.extend_from_slice(&digits);
            out.extend_from_slice(b"\">");
            for (at, (array, (name, begin, rest))) in batch.columns().iter().zip(&self.cells).enumerate() {
                let null = array.is_null(row);
                // The first cell of a row stands for it, even if all are empty.
                if null && at > 0 {
                    continue;
                }
                out.extend_from_slice(begin.as_bytes());
                out.extend_from_slice(&digits);
                if null {
                    out.extend_from_slice(self.empty.as_bytes());
                    continue;
                }
                out.extend_from_slice(rest.as_bytes());
                if array.data_type() == &DataType::Utf8 {
                    text(array.as_string::<i32>().value(row), &mut out).map_err(|c| refused(name, c, before + row as u64 + 1))?;
                    out.extend_from_slice(b"</t></is></c>");
                } else {
                    value(array.as_ref(), row, &mut out);
                    out.extend_from_slice(b"</v></c>");
                }
            }
            out.extend_from_slice(b"</row>");
        }
        Ok(out)
    }
}

/// A truth value, number, date or time as Excel counts it.
fn value(array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    let _ = match array.data_type() {
        DataType::Boolean => write!(out, "{}", u8::from(array.as_boolean().value(row))),
        DataType::Date32 => write!(out, "{}", i64::from(array.as_primitive::<Date32Type>().value(row)) + i64::from(EPOCH)),
        DataType::Time32(_) => {
            write!(out, "{}", f64::from(array.as_primitive::<Time32MillisecondType>().value(row)) / DAY)
        }
        DataType::Timestamp(..) => {
            let millis = array.as_primitive::<TimestampMillisecondType>().value(row);
            let (days, rest) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
            // Both parts are small whole numbers, which doubles hold exactly.
            let exact = |n: i64| i32::try_from(n).map_or(f64::NAN, f64::from);
            write!(out, "{}", exact(days) + f64::from(EPOCH) + exact(rest) / DAY)
        }
        _ => write!(out, "{}", array.as_primitive::<Float64Type>().value(row)),
    };
}

/// What is left of a cell's text from the attributes of `<t` on; fails with the character that XML has none for. Lengths are
/// checked when the batch is shaped.
fn text(text: &str, out: &mut Vec<u8>) -> std::result::Result<(), char> {
    let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t' | b'\n'));
    let bytes = text.as_bytes();
    let edge = blank(bytes.first()) || blank(bytes.last());
    out.extend_from_slice(if edge { b" xml:space=\"preserve\">" } else { b">" });
    let special = |b: u8| b < b' ' || matches!(b, b'&' | b'<' | b'>' | b'_' | 0xEF);
    if !bytes.iter().copied().any(special) {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    for (at, c) in text.char_indices() {
        match c {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            // Excel reads _x0041_ as a character, so that the text that looks like one has its first written as one.
            '_' if looks_escaped(&bytes[at..]) => out.extend_from_slice(b"_x005F_"),
            '\t' | '\n' => out.extend(u8::try_from(c)),
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => return Err(c),
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Ok(())
}

/// Whether a text begins like `_x0041_`.
fn looks_escaped(bytes: &[u8]) -> bool {
    matches!(bytes, [b'_', b'x', digits @ .., ] if digits.len() >= 5 && digits[4] == b'_' && digits[..4].iter().all(u8::is_ascii_hexdigit))
}

fn refused(column: &str, c: char, row: u64) -> Error {
    Error::new(Kind::ValueRefused, format!("a value of column `{column}` fits into no cell"))
        .at("column", column)
        .because(format!("row {row}: it holds the control character U+{:04X}", u32::from(c)))
        .help("replace it in SQL, or write the column as bytes")
}

/// The name of a column: A to Z, AA and so on.
pub(super) fn letters(at: usize) -> String {
    let last = char::from(b'A' + u8::try_from(at % 26).unwrap_or(0));
    if at < 26 { last.to_string() } else { letters(at / 26 - 1) + &last.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_letters() {
        assert_eq!([0, 25, 26, 701, 702, 16_383].map(letters), ["A", "Z", "AA", "ZZ", "AAA", "XFD"]);
    }

    #[test]
    fn texts_are_escaped() {
        let written = |t: &str| {
            let mut out = Vec::new();
            text(t, &mut out).map(|()| String::from_utf8(out).unwrap())
        };
        assert_eq!(written("a<b>&\"'").unwrap(), ">a&lt;b&gt;&amp;\"'");
        assert_eq!(written(" a").unwrap(), " xml:space=\"preserve\"> a");
        assert_eq!(written("_x0041_ _x00_ _").unwrap(), ">_x005F_x0041_ _x00_ _");
        assert_eq!(written("名\u{ffe0}\t").unwrap(), " xml:space=\"preserve\">名\u{ffe0}\t");
        assert_eq!(written("a\r"), Err('\r'));
        assert_eq!(written("\u{ffff}"), Err('\u{ffff}'));
    }
}
