//! Reads E1: block after block, record after record, into bounded batches. The file may come from strangers: every length is
//! checked against what is there before anything is allocated for it.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder, Float32Builder, Float64Builder,
    Int16Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder, Time32SecondBuilder, TimestampSecondBuilder,
    UInt8Builder,
};
use arrow::compute::kernels::cast_utils::parse_decimal;
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Field as ArrowField, Schema, SchemaRef};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime, Timelike};

use super::layout::{BLOCK, Field, HEADER, Header, Kinds, RAW, fields, header};
use super::lzf;
use crate::error::{Error, Kind, Result, Wrap};

/// Rows, and bytes of variable values, of a batch.
const BATCH: (u64, usize) = (8192, 16 * 1024 * 1024);
/// Most bytes of a record's variable part.
const LARGEST: u32 = 0x7fff_ffff;

/// An opened file.
pub(super) struct YxdbReader {
    records: Records<BufReader<File>>,
    fields: Vec<Field>,
    schema: SchemaRef,
    left: u64,
    failed: bool,
}

impl YxdbReader {
    /// Reads header and field list.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let missing = || format!("cannot open {}", path.display());
        let unreadable = || format!("cannot read {}", path.display());
        let file = File::open(path).wrap(Kind::SourceMissing, missing)?;
        let length = file.metadata().wrap(Kind::SourceUnreadable, unreadable)?.len();
        let mut input = BufReader::with_capacity(BLOCK, file);
        let mut bytes = [0; HEADER];
        input.read_exact(&mut bytes).wrap(Kind::SourceUnreadable, || "the file is shorter than a .yxdb header".into())?;
        let Header { meta_bytes, index, records } = header(&bytes, length)?;
        let mut meta = vec![0; meta_bytes];
        input.read_exact(&mut meta).wrap(Kind::SourceUnreadable, unreadable)?;
        let fields = fields(&meta)?;
        // Blocks begin right behind the field list.
        input.seek(SeekFrom::Start((HEADER + meta_bytes) as u64)).wrap(Kind::SourceUnreadable, unreadable)?;
        let left_bytes = index - (HEADER + meta_bytes) as u64;
        let arrow: Vec<_> = fields.iter().map(|f| ArrowField::new(&f.name, f.kind.arrow(), true)).collect();
        let records_reader = Records {
            blocks: Blocks { input, left: left_bytes, packed: Vec::new(), block: Vec::new(), at: 0 },
            fixed: vec![0; fields.iter().map(|f| f.kind.fixed()).sum()],
            rest: Vec::new(),
            variable: fields.iter().any(|f| f.kind.variable()),
        };
        Ok(Self { records: records_reader, schema: Arc::new(Schema::new(arrow)), fields, left: records, failed: false })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Records not read yet.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut builders: Vec<_> = self.fields.iter().map(|f| Builder::of(f.kind)).collect();
        let (mut rows, mut bytes) = (0, 0);
        while rows < BATCH.0 && bytes < BATCH.1 && self.left > 0 {
            self.records.next()?;
            let mut at = 0;
            for (field, builder) in self.fields.iter().zip(&mut builders) {
                let value = self.records.fixed.get(at..at + field.kind.fixed()).unwrap_or_default();
                let before_rest = self.records.fixed.len() - at;
                builder.append(field, value, before_rest, &self.records.rest)?;
                at += field.kind.fixed();
            }
            bytes += self.records.rest.len();
            rows += 1;
            self.left -= 1;
        }
        let columns: Vec<ArrayRef> = builders.iter_mut().map(Builder::finish).collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map(Some)
            .wrap(Kind::Unexpected, || "the columns of a .yxdb file are of unlike length".into())
    }
}

impl Iterator for YxdbReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.batch().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

fn torn(why: impl Into<String>) -> Error {
    Error::new(Kind::SourceUnreadable, "the .yxdb file is damaged").because(why.into())
}

/// Records, one at a time.
struct Records<R> {
    blocks: Blocks<R>,
    fixed: Vec<u8>,
    rest: Vec<u8>,
    variable: bool,
}

impl<R: Read> Records<R> {
    fn next(&mut self) -> Result<()> {
        self.blocks.fill(&mut self.fixed)?;
        self.rest.clear();
        if self.variable {
            let mut length = [0; 4];
            self.blocks.fill(&mut length)?;
            let length = u32::from_le_bytes(length);
            if length > LARGEST {
                return Err(torn(format!("a record claims {length} bytes")));
            }
            // Grows with what is really there, whatever the length claims.
            let mut left = usize::try_from(length).unwrap_or(usize::MAX);
            while left > 0 {
                let piece = self.blocks.piece(left)?;
                left -= piece.len();
                self.rest.extend_from_slice(piece);
            }
        }
        Ok(())
    }
}

/// The uncompressed bytes of all blocks.
struct Blocks<R> {
    input: R,
    /// Bytes of the file before the index.
    left: u64,
    packed: Vec<u8>,
    block: Vec<u8>,
    at: usize,
}

impl<R: Read> Blocks<R> {
    /// Up to `most` bytes of what comes next.
    fn piece(&mut self, most: usize) -> Result<&[u8]> {
        while self.at == self.block.len() {
            self.next_block()?;
        }
        let from = self.at;
        self.at += most.min(self.block.len() - self.at);
        Ok(&self.block[from..self.at])
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < out.len() {
            let piece = self.piece(out.len() - done)?;
            out[done..done + piece.len()].copy_from_slice(piece);
            done += piece.len();
        }
        Ok(())
    }

    fn next_block(&mut self) -> Result<()> {
        let ended = || torn("its records end before their number is reached");
        let mut word = [0; 4];
        self.left = self.left.checked_sub(4).ok_or_else(ended)?;
        self.input.read_exact(&mut word).wrap(Kind::SourceUnreadable, || "the .yxdb file ends early".into())?;
        let word = u32::from_le_bytes(word);
        let length = usize::try_from(word & !RAW).unwrap_or(usize::MAX);
        if length > BLOCK || length == 0 {
            return Err(torn(format!("a block claims {length} bytes")));
        }
        self.left = self.left.checked_sub(length as u64).ok_or_else(ended)?;
        self.at = 0;
        let target = if word & RAW == 0 { &mut self.packed } else { &mut self.block };
        target.resize(length, 0);
        self.input.read_exact(target).wrap(Kind::SourceUnreadable, || "the .yxdb file ends early".into())?;
        if word & RAW == 0 && lzf::decompress(&self.packed, &mut self.block, BLOCK).is_none() {
            self.block.clear();
            return Err(torn("a block cannot be decompressed"));
        }
        Ok(())
    }
}

/// Gathers the values of one field.
enum Builder {
    Bool(BooleanBuilder),
    Byte(UInt8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Decimal128(Decimal128Builder, u8, i8),
    Decimal256(Decimal256Builder, u8, i8),
    Text(StringBuilder),
    Blob(BinaryBuilder),
    Date(Date32Builder),
    Time(Time32SecondBuilder),
    DateTime(TimestampSecondBuilder),
}

impl Builder {
    fn of(kind: Kinds) -> Self {
        match kind.arrow() {
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::UInt8 => Self::Byte(UInt8Builder::new()),
            DataType::Int16 => Self::Int16(Int16Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::Float32 => Self::Float(Float32Builder::new()),
            DataType::Float64 => Self::Double(Float64Builder::new()),
            t @ DataType::Decimal128(p, s) => Self::Decimal128(Decimal128Builder::new().with_data_type(t), p, s),
            t @ DataType::Decimal256(p, s) => Self::Decimal256(Decimal256Builder::new().with_data_type(t), p, s),
            DataType::Binary => Self::Blob(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Time32(_) => Self::Time(Time32SecondBuilder::new()),
            DataType::Timestamp(..) => Self::DateTime(TimestampSecondBuilder::new()),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    /// Appends a value from its fixed bytes; `before_rest` is the distance from the field to the end of the fixed part.
    fn append(&mut self, field: &Field, bytes: &[u8], before_rest: usize, rest: &[u8]) -> Result<()> {
        let wrong = |what: &str| {
            let shown: String = String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(40).collect();
            torn(format!("field `{}` holds {shown:?}, which is no {what}", field.name))
        };
        macro_rules! number {
            ($builder:expr, $type:ty) => {{
                let (value, flag) = bytes.split_at(bytes.len() - 1);
                let value = <$type>::from_le_bytes(value.try_into().map_err(|_| wrong(field.kind.name()))?);
                $builder.append_option((flag != [1]).then_some(value));
            }};
        }
        match self {
            Self::Bool(b) => b.append_option(match bytes {
                [0] => Some(false),
                [1] => Some(true),
                _ => None,
            }),
            Self::Byte(b) => b.append_option((bytes[1] != 1).then_some(bytes[0])),
            Self::Int16(b) => number!(b, i16),
            Self::Int32(b) => number!(b, i32),
            Self::Int64(b) => number!(b, i64),
            Self::Float(b) => number!(b, f32),
            Self::Double(b) => number!(b, f64),
            Self::Decimal128(b, p, s) => {
                let text = ascii(bytes).map_err(|()| wrong("number"))?;
                let text = text.map(|t| plain_number(t, *s).ok_or_else(|| wrong("number"))).transpose()?;
                let value = text.map(|t| parse_decimal::<Decimal128Type>(t, *p, *s)).transpose();
                b.append_option(value.map_err(|_| wrong("number"))?);
            }
            Self::Decimal256(b, p, s) => {
                let text = ascii(bytes).map_err(|()| wrong("number"))?;
                let text = text.map(|t| plain_number(t, *s).ok_or_else(|| wrong("number"))).transpose()?;
                let value = text.map(|t| parse_decimal::<Decimal256Type>(t, *p, *s)).transpose();
                b.append_option(value.map_err(|_| wrong("number"))?);
            }
            Self::Date(b) => {
                let text = ascii(bytes).map_err(|()| wrong("date"))?;
                let date = text.map(|t| t.parse::<NaiveDate>()).transpose().map_err(|_| wrong("date"))?;
                b.append_option(date.map(arrow::datatypes::Date32Type::from_naive_date));
            }
            Self::Time(b) => {
                let text = ascii(bytes).map_err(|()| wrong("time"))?;
                let time = text.map(|t| NaiveTime::parse_from_str(t, "%H:%M:%S")).transpose().map_err(|_| wrong("time"))?;
                b.append_option(time.and_then(|t| i32::try_from(t.num_seconds_from_midnight()).ok()));
            }
            Self::DateTime(b) => {
                let text = ascii(bytes).map_err(|()| wrong("date and time"))?;
                let at = text.map(|t| NaiveDateTime::parse_from_str(t, "%Y-%m-%d %H:%M:%S")).transpose();
                b.append_option(at.map_err(|_| wrong("date and time"))?.map(|t| t.and_utc().timestamp()));
            }
            Self::Blob(b) => b.append_option(variable(bytes, before_rest, rest).map_err(|why| torn_in(field, why))?.as_deref()),
            Self::Text(b) => match field.kind {
                Kinds::FixedDecimal(..) => b.append_option(ascii(bytes).map_err(|()| wrong("number"))?),
                Kinds::String(_) => {
                    let (text, flag) = bytes.split_at(bytes.len() - 1);
                    let text = text.split(|c| *c == 0).next().unwrap_or_default();
                    b.append_option((flag != [1]).then(|| latin(text)));
                }
                Kinds::WString(_) => {
                    let (text, flag) = bytes.split_at(bytes.len() - 1);
                    let end = text.chunks_exact(2).position(|c| c == [0, 0]).map_or(text.len(), |n| n * 2);
                    let text = utf16(&text[..end]).ok_or_else(|| wrong("UTF-16"))?;
                    b.append_option((flag != [1]).then_some(text));
                }
                Kinds::VString => {
                    b.append_option(variable(bytes, before_rest, rest).map_err(|why| torn_in(field, why))?.map(|v| latin(&v)));
                }
                _ => match variable(bytes, before_rest, rest).map_err(|why| torn_in(field, why))? {
                    None => b.append_null(),
                    Some(value) => b.append_value(utf16(&value).ok_or_else(|| torn_in(field, "a text that is no UTF-16"))?),
                },
            },
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(b) => Arc::new(b.finish()),
            Self::Byte(b) => Arc::new(b.finish()),
            Self::Int16(b) => Arc::new(b.finish()),
            Self::Int32(b) => Arc::new(b.finish()),
            Self::Int64(b) => Arc::new(b.finish()),
            Self::Float(b) => Arc::new(b.finish()),
            Self::Double(b) => Arc::new(b.finish()),
            Self::Decimal128(b, ..) => Arc::new(b.finish()),
            Self::Decimal256(b, ..) => Arc::new(b.finish()),
            Self::Text(b) => Arc::new(b.finish()),
            Self::Blob(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
            Self::DateTime(b) => Arc::new(b.finish()),
        }
    }
}

fn torn_in(field: &Field, why: &str) -> Error {
    torn(format!("field `{}` holds {why}", field.name))
}

/// A number whose digits all fit the scale; the parser would take an exponent, and drop what does not fit.
fn plain_number(text: &str, scale: i8) -> Option<&str> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let fits = fraction.trim_end_matches('0').len() <= usize::from(scale.unsigned_abs());
    (all_digits(whole) && all_digits(fraction) && fits && whole.len() + fraction.len() > 0).then_some(text)
}

/// ASCII of fixed size with its NULL flag.
fn ascii(bytes: &[u8]) -> std::result::Result<Option<&str>, ()> {
    let (text, flag) = bytes.split_at(bytes.len() - 1);
    if flag == [1] {
        return Ok(None);
    }
    let text = text.split(|c| *c == 0).next().unwrap_or_default();
    std::str::from_utf8(text).map(|t| Some(t.trim())).map_err(|_| ())
}

/// Latin-1: each byte is the character of its number.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

fn utf16(bytes: &[u8]) -> Option<String> {
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    let units = bytes.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]]));
    char::decode_utf16(units).collect::<std::result::Result<_, _>>().ok()
}

/// The value behind a slot.
fn variable<'a>(
    slot: &[u8],
    before_rest: usize,
    rest: &'a [u8],
) -> std::result::Result<Option<std::borrow::Cow<'a, [u8]>>, &'static str> {
    use std::borrow::Cow;
    let word = u32::from_le_bytes(slot.try_into().map_err(|_| "a slot of the wrong size")?);
    let near = word & 0x8000_0000 == 0;
    match (word, usize::try_from((word >> 28) & 3).unwrap_or(0)) {
        (0, _) => return Ok(Some(Cow::Borrowed(&[]))),
        (1, _) => return Ok(None),
        (_, length @ 1..) if near => return Ok(Some(Cow::Owned(slot[..length].to_vec()))),
        _ => {}
    }
    // The distance is counted from the slot; the variable part begins behind the fixed one and its own length.
    let distance = usize::try_from(word & 0x7fff_ffff).unwrap_or(usize::MAX);
    let at = distance.checked_sub(before_rest + 4).ok_or("a place before the variable part")?;
    let first = *rest.get(at).ok_or("a place behind its record")?;
    let (from, length) = if first & 1 == 1 {
        (at + 1, usize::from(first >> 1))
    } else {
        let bytes = rest.get(at..at + 4).ok_or("a place behind its record")?;
        let length = u32::from_le_bytes(bytes.try_into().map_err(|_| "a length of the wrong size")?);
        (at + 4, usize::try_from(length >> 1).unwrap_or(usize::MAX))
    };
    let end = from.checked_add(length).ok_or("a length beyond its record")?;
    rest.get(from..end).map(|v| Some(Cow::Borrowed(v))).ok_or("a length beyond its record")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_that_fit() {
        for text in ["1", "-12.5", "+0.10", ".5", "1.", "1.2300"] {
            assert_eq!(plain_number(text, 2), Some(text));
        }
        for text in ["", "-", ".", "1e3", "1.234", "0x1", "1 ", "--1", "1.2.3"] {
            assert_eq!(plain_number(text, 2), None, "{text}");
        }
    }
}
