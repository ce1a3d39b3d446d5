//! Record batches as E1 records.

use arrow::array::{
    Array, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, RecordBatch, StringArray, Time32SecondArray, TimestampSecondArray, UInt8Array,
};
use chrono::{DateTime, Datelike, Timelike};

use super::layout::{Field, Kinds};
use crate::error::{Error, Kind, Result};

/// Most bytes of one value, and of one record.
const LARGEST: usize = 0x7fff_ffff;

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

/// Encodes the rows of batches one after another.
#[derive(Debug)]
pub(super) struct Encoder {
    fields: Vec<Field>,
    fixed: usize,
    variable: bool,
    rest: Vec<u8>,
    text: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(fields: Vec<Field>) -> Self {
        let fixed = fields.iter().map(|f| f.kind.fixed()).sum();
        let variable = fields.iter().any(|f| f.kind.variable());
        Self { fields, fixed, variable, rest: Vec::new(), text: Vec::new() }
    }

    /// Encodes each row of a batch into `record`, which holds that row alone when `each` is called.
    pub(super) fn rows(
        &mut self,
        batch: &RecordBatch,
        record: &mut Vec<u8>,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let columns = self.fields.iter().zip(batch.columns()).map(|(f, a)| column(f, a.as_ref())).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            record.clear();
            self.rest.clear();
            for (column, field) in columns.iter().zip(&self.fields) {
                let mut scratch = Scratch { fixed: self.fixed, rest: &mut self.rest, text: &mut self.text };
                scratch.value(column, field, row, record)?;
            }
            if self.variable {
                let length = u32::try_from(self.rest.len()).ok().filter(|_| self.rest.len() + self.fixed < LARGEST);
                let length = length
                    .ok_or_else(|| Error::new(Kind::ValueRefused, "a record has more than 2 GiB, which .yxdb does not hold"))?;
                record.extend_from_slice(&length.to_le_bytes());
                record.extend_from_slice(&self.rest);
            }
            each(record)?;
        }
        Ok(())
    }
}

/// What one record is put together in.
struct Scratch<'a> {
    fixed: usize,
    rest: &'a mut Vec<u8>,
    text: &'a mut Vec<u8>,
}

impl Scratch<'_> {
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
                let text = a.is_valid(row).then(|| decimal(a.value(row), *scale, self.text));
                fixed_text(text, *size, out);
            }
            Column::Date(a) => {
                let text = a.is_valid(row).then(|| date(i64::from(a.value(row)) * 86_400, self.text));
                fixed_text(text, 10, out);
            }
            Column::Time(a) => {
                let text = a.is_valid(row).then(|| {
                    self.text.clear();
                    let seconds = a.value(row);
                    clock(seconds / 3600, seconds / 60 % 60, seconds % 60, self.text);
                    self.text.as_slice()
                });
                fixed_text(text, 8, out);
            }
            Column::DateTime(a) => {
                let text = a.is_valid(row).then(|| date_time(a.value(row), self.text));
                fixed_text(text, 19, out);
            }
            Column::Text(a) => {
                self.text.clear();
                let value = a.is_valid(row).then(|| {
                    self.text.extend(a.value(row).encode_utf16().flat_map(u16::to_le_bytes));
                    self.text.as_slice()
                });
                slot(value, self.fixed, out, self.rest, field)?;
            }
            Column::Blob(a) => slot(a.is_valid(row).then(|| a.value(row)), self.fixed, out, self.rest, field)?,
        }
        Ok(())
    }
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

/// The slot of a variable value: empty, NULL, up to three bytes in place, else its distance to the variable part.
fn slot(value: Option<&[u8]>, fixed: usize, out: &mut Vec<u8>, rest: &mut Vec<u8>, field: &Field) -> Result<()> {
    const NULL: u32 = 1;
    const FAR: u32 = 0x8000_0000;
    let word = match value {
        None => NULL,
        Some([]) => 0,
        Some(bytes @ ([_] | [_, _] | [_, _, _])) => {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            u32::from_le_bytes(word) | (u32::from(bytes.len().to_le_bytes()[0]) << 28)
        }
        Some(bytes) => {
            // The variable part follows the fixed one and its own length.
            let distance = fixed + 4 + rest.len() - out.len();
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
    };
    out.extend_from_slice(&word.to_le_bytes());
    Ok(())
}

/// `-0.05`: all digits of the scale, a zero before the point.
fn decimal(value: i128, scale: usize, text: &mut Vec<u8>) -> &[u8] {
    text.clear();
    let mut digits = value.unsigned_abs();
    let mut written = 0;
    while digits > 0 || written <= scale {
        if scale > 0 && written == scale {
            text.push(b'.');
        }
        text.push(b'0' + u8::try_from(digits % 10).unwrap_or(0));
        digits /= 10;
        written += 1;
    }
    if value < 0 {
        text.push(b'-');
    }
    text.reverse();
    text
}

fn date(seconds: i64, text: &mut Vec<u8>) -> &[u8] {
    text.clear();
    if let Some(at) = DateTime::from_timestamp(seconds, 0) {
        calendar(at.year(), at.month(), at.day(), text);
    }
    text
}

fn date_time(seconds: i64, text: &mut Vec<u8>) -> &[u8] {
    text.clear();
    if let Some(at) = DateTime::from_timestamp(seconds, 0) {
        calendar(at.year(), at.month(), at.day(), text);
        text.push(b' ');
        let part = |n: u32| i32::try_from(n).unwrap_or(0);
        clock(part(at.hour()), part(at.minute()), part(at.second()), text);
    }
    text
}

fn calendar(year: i32, month: u32, day: u32, text: &mut Vec<u8>) {
    for power in [1000, 100, 10, 1] {
        text.push(digit(year / power));
    }
    for part in [month, day] {
        text.push(b'-');
        let part = i32::try_from(part).unwrap_or(0);
        text.extend([digit(part / 10), digit(part)]);
    }
}

fn clock(hour: i32, minute: i32, second: i32, text: &mut Vec<u8>) {
    text.extend([
        digit(hour / 10),
        digit(hour),
        b':',
        digit(minute / 10),
        digit(minute),
        b':',
        digit(second / 10),
        digit(second),
    ]);
}

fn digit(number: i32) -> u8 {
    b'0' + u8::try_from(number.rem_euclid(10)).unwrap_or(0)
}
