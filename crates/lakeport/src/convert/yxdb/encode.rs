//! Record batches as E1 records.

use arrow::array::{
    Array, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, RecordBatch, StringArray, Time32SecondArray, TimestampSecondArray, UInt8Array,
};
use chrono::{Datelike, NaiveDate};

use super::layout::{Field, Kinds};
use crate::error::{Error, Kind, Result};

/// Most bytes of one value, and of one record.
const LARGEST: usize = 0x7fff_ffff;

const DAY: i64 = 86_400;
/// 1970-01-01 in days since the year 1 began, counted from 1.
const CE: i64 = 719_163;

/// A column of a batch, by how it is written.
enum Column<'a> {
    Bool(&'a BooleanArray),
    Byte(&'a UInt8Array),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Float(&'a Float32Array),
    Double(&'a Float64Array),
    Decimal(&'a Decimal128Array, usize, usize),
    Text(&'a StringArray),
    Blob(&'a BinaryArray),
    Date(&'a Date32Array),
    Time(&'a Time32SecondArray),
    DateTime(&'a TimestampSecondArray),
}

/// Encodes batches; shared by the threads that do.
#[derive(Debug)]
pub(super) struct Encoder {
    fields: Vec<Field>,
    fixed: usize,
    variable: bool,
}

impl Encoder {
    pub(super) fn new(fields: Vec<Field>) -> Self {
        let fixed = fields.iter().map(|f| f.kind.fixed()).sum();
        let variable = fields.iter().any(|f| f.kind.variable());
        Self { fields, fixed, variable }
    }

    /// The records of a batch, one behind the other.
    pub(super) fn records(&self, batch: &RecordBatch) -> Result<Vec<u8>> {
        let columns = self.fields.iter().zip(batch.columns()).map(|(f, a)| column(f, a.as_ref())).collect::<Result<Vec<_>>>()?;
        let texts: usize = columns.iter().map(Column::variable_bytes).sum();
        let mut out = Vec::with_capacity(batch.num_rows() * (self.fixed + 4) + texts);
        let mut record = Record { begin: 0, fixed: self.fixed, rest: Vec::new(), scratch: Vec::new() };
        for row in 0..batch.num_rows() {
            record.begin = out.len();
            record.rest.clear();
            for (column, field) in columns.iter().zip(&self.fields) {
                record.value(column, field, row, &mut out)?;
            }
            if self.variable {
                let length = u32::try_from(record.rest.len()).ok().filter(|_| record.rest.len() + self.fixed < LARGEST);
                let length = length
                    .ok_or_else(|| Error::new(Kind::ValueRefused, "a record has more than 2 GiB, which .yxdb does not hold"))?;
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(&record.rest);
            }
        }
        Ok(out)
    }
}

/// The record being put together.
struct Record {
    /// Where it begins in the output, and how many bytes its fixed part has.
    begin: usize,
    fixed: usize,
    /// Its variable part so far.
    rest: Vec<u8>,
    scratch: Vec<u8>,
}

impl Record {
    fn value(&mut self, column: &Column<'_>, field: &Field, row: usize, out: &mut Vec<u8>) -> Result<()> {
        // Numbers keep their bytes beside the flag, zeros for NULL.
        macro_rules! number {
            ($array:expr) => {{
                let null = $array.is_null(row);
                let value = if null { Default::default() } else { $array.value(row) };
                out.extend_from_slice(&value.to_le_bytes());
                out.push(u8::from(null));
            }};
        }
        match column {
            Column::Bool(a) => out.push(if a.is_null(row) { 2 } else { u8::from(a.value(row)) }),
            Column::Byte(a) => number!(a),
            Column::Int16(a) => number!(a),
            Column::Int32(a) => number!(a),
            Column::Int64(a) => number!(a),
            Column::Float(a) => number!(a),
            Column::Double(a) => number!(a),
            Column::Decimal(a, size, scale) => {
                let text = a.is_valid(row).then(|| decimal(a.value(row), *scale, &mut self.scratch));
                fixed_text(text, *size, out);
            }
            Column::Date(a) => {
                let text = a.is_valid(row).then(|| date(i64::from(a.value(row))));
                fixed_text(text.as_ref().map(<[u8; 10]>::as_slice), 10, out);
            }
            Column::Time(a) => {
                let text = a.is_valid(row).then(|| clock(i64::from(a.value(row))));
                fixed_text(text.as_ref().map(<[u8; 8]>::as_slice), 8, out);
            }
            Column::DateTime(a) => {
                let text = a.is_valid(row).then(|| {
                    let mut text = [b' '; 19];
                    let seconds = a.value(row);
                    text[..10].copy_from_slice(&date(seconds.div_euclid(DAY)));
                    text[11..].copy_from_slice(&clock(seconds.rem_euclid(DAY)));
                    text
                });
                fixed_text(text.as_ref().map(<[u8; 19]>::as_slice), 19, out);
            }
            Column::Text(a) => {
                self.scratch.clear();
                let value = a.is_valid(row).then(|| utf16(a.value(row), &mut self.scratch));
                let word = slot(value, self.fixed, out.len() - self.begin, &mut self.rest, field)?;
                out.extend_from_slice(&word.to_le_bytes());
            }
            Column::Blob(a) => {
                let value = a.is_valid(row).then(|| a.value(row));
                let word = slot(value, self.fixed, out.len() - self.begin, &mut self.rest, field)?;
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        Ok(())
    }
}

impl Column<'_> {
    /// About how many bytes the variable parts of its records take.
    fn variable_bytes(&self) -> usize {
        match self {
            Self::Text(a) => 2 * (a.len() + spanned(a.value_offsets())),
            Self::Blob(a) => 4 * a.len() + spanned(a.value_offsets()),
            _ => 0,
        }
    }
}

/// Bytes between the first and the last offset.
fn spanned(offsets: &[i32]) -> usize {
    let (first, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
    usize::try_from(last - first).unwrap_or(0)
}

fn column<'a>(field: &Field, array: &'a dyn Array) -> Result<Column<'a>> {
    fn of<T: 'static>(array: &dyn Array) -> Option<&T> {
        array.as_any().downcast_ref::<T>()
    }
    let column = match field.kind {
        Kinds::Bool => of(array).map(Column::Bool),
        Kinds::Byte => of(array).map(Column::Byte),
        Kinds::Int16 => of(array).map(Column::Int16),
        Kinds::Int32 => of(array).map(Column::Int32),
        Kinds::Int64 => of(array).map(Column::Int64),
        Kinds::Float => of(array).map(Column::Float),
        Kinds::Double => of(array).map(Column::Double),
        Kinds::FixedDecimal(size, scale) => of(array).map(|a| Column::Decimal(a, size, usize::from(scale.unsigned_abs()))),
        Kinds::VWString => of(array).map(Column::Text),
        Kinds::Blob => of(array).map(Column::Blob),
        Kinds::Date => of(array).map(Column::Date),
        Kinds::Time => of(array).map(Column::Time),
        Kinds::DateTime => of(array).map(Column::DateTime),
        Kinds::String(_) | Kinds::WString(_) | Kinds::VString => None,
    };
    column.ok_or_else(|| {
        let what = format!("column `{}` came as {} instead of {}", field.name, array.data_type(), field.kind.show());
        Error::new(Kind::Unexpected, what)
    })
}

/// ASCII in a field of fixed size: ended by a NUL byte where it is shorter.
fn fixed_text(text: Option<&[u8]>, size: usize, out: &mut Vec<u8>) {
    let text_bytes = text.unwrap_or_default();
    let used = text_bytes.len().min(size);
    out.extend_from_slice(&text_bytes[..used]);
    out.resize(out.len() + size - used, 0);
    out.push(u8::from(text.is_none()));
}

/// The slot of a variable value: empty, NULL, up to three bytes in place, else its distance to the variable part, where it
/// is appended. The slot stands `at` bytes into the record.
fn slot(value: Option<&[u8]>, fixed: usize, at: usize, rest: &mut Vec<u8>, field: &Field) -> Result<u32> {
    const NULL: u32 = 1;
    const FAR: u32 = 0x8000_0000;
    Ok(match value {
        None => NULL,
        Some([]) => 0,
        Some(bytes @ ([_] | [_, _] | [_, _, _])) => {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            u32::from_le_bytes(word) | (u32::from(bytes.len().to_le_bytes()[0]) << 28)
        }
        Some(bytes) => {
            // The variable part follows the fixed one and its own length.
            let distance = fixed + 4 + rest.len() - at;
            let fits = (bytes.len() < LARGEST && distance < LARGEST).then(|| u32::try_from(distance).ok()).flatten();
            let distance = fits.ok_or_else(|| {
                let what = format!("a value of column `{}` makes its record larger than 2 GiB", field.name);
                Error::new(Kind::ValueRefused, what).at("column", &field.name)
            })?;
            if let Ok(short @ 0..=0x7f) = u8::try_from(bytes.len()) {
                rest.push((short << 1) | 1);
            } else {
                let length = u32::try_from(bytes.len()).unwrap_or(0);
                rest.extend_from_slice(&(length << 1).to_le_bytes());
            }
            rest.extend_from_slice(bytes);
            FAR | distance
        }
    })
}

/// A text as UTF-16; ASCII, which most are, without a look at each character.
fn utf16<'a>(text: &str, out: &'a mut Vec<u8>) -> &'a [u8] {
    if text.is_ascii() {
        out.resize(text.len() * 2, 0);
        for (pair, byte) in out.chunks_exact_mut(2).zip(text.bytes()) {
            pair[0] = byte;
        }
    } else {
        out.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    }
    out
}

/// `-0.05`: all digits of the scale, a zero before the point.
fn decimal(value: i128, scale: usize, text: &mut Vec<u8>) -> &[u8] {
    text.clear();
    let mut rest = value.unsigned_abs();
    let mut written = 0;
    while rest > 0 || written <= scale {
        if scale > 0 && written == scale {
            text.push(b'.');
        }
        // Divisions of 128 bits are slow, and most values need none.
        let last = match u64::try_from(rest) {
            Ok(small) => {
                rest = u128::from(small / 10);
                small % 10
            }
            Err(_) => {
                let last = rest % 10;
                rest /= 10;
                u64::try_from(last).unwrap_or(0)
            }
        };
        text.push(b'0' + last.to_le_bytes()[0]);
        written += 1;
    }
    if value < 0 {
        text.push(b'-');
    }
    text.reverse();
    text
}

/// `2026-11-25`, from days since 1970. The mapping's range has kept out what has no four digits for its year.
fn date(days: i64) -> [u8; 10] {
    let ce = i32::try_from(days + CE).ok().and_then(NaiveDate::from_num_days_from_ce_opt).unwrap_or_default();
    let (year, month, day) = (ce.year().unsigned_abs(), ce.month(), ce.day());
    let mut text = *b"0000-00-00";
    let digits =
        [(0, year / 1000), (1, year / 100), (2, year / 10), (3, year), (5, month / 10), (6, month), (8, day / 10), (9, day)];
    for (at, number) in digits {
        text[at] = digit(number);
    }
    text
}

/// `23:59:59`, from seconds since midnight.
fn clock(seconds: i64) -> [u8; 8] {
    let seconds = u32::try_from(seconds).unwrap_or(0);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    [digit(hour / 10), digit(hour), b':', digit(minute / 10), digit(minute), b':', digit(second / 10), digit(second)]
}

fn digit(number: u32) -> u8 {
    b'0' + (number % 10).to_le_bytes()[0]
}
