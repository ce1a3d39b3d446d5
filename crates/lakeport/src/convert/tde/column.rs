//! One column: what its properties say it is, and its values as an Arrow array.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, DurationMicrosecondArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, StringBuilder, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, TimeUnit};

use super::calendar;
use super::decode::{Encoding, Numbers};
use super::layout::{Directory, Span, Volume, damaged, push_utf16};
use super::store::Store;
use crate::error::{Context, Error, Kind, Result};

/// Ticks of a tenth of a millisecond in a day.
pub(super) const TICKS: i64 = 864_000_000;
/// A NULL among floats; Tableau's reader takes every other NaN for one.
pub(super) const NULL_FLOAT: u32 = 0x7FC1_0000;
/// See [`NULL_FLOAT`].
pub(super) const NULL_DOUBLE: u64 = 0x7FF9_0000_0000_0000;
/// Microseconds of a tick.
const MICROS: i64 = 100;

/// The properties of a column by name.
pub(super) type Properties = BTreeMap<String, String>;

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Bit,
    Tiny,
    Short,
    Long,
    Big,
    Float,
    Double,
    Date,
    DateTime,
    Duration,
    Oid,
    /// Bytes of the length before each text, and whether it is UTF-16.
    Text(usize, bool),
}

impl Type {
    /// Reads the properties `type`, `size` and `scale`; `None` for a type that is not known.
    fn of(properties: &Properties) -> Option<Self> {
        let text = |key: &str| properties.get(key).map_or("", String::as_str);
        let name = text("type");
        Some(match name.split(['(', ' ']).next().unwrap_or(name) {
            "bit" => Self::Bit,
            "tiny" => Self::Tiny,
            "short" => Self::Short,
            "long" => Self::Long,
            "bigint" => Self::Big,
            "float" => Self::Float,
            "double" => Self::Double,
            "date" => Self::Date,
            "datetime" => Self::DateTime,
            "duration" => Self::Duration,
            "oid" => Self::Oid,
            "varchar" | "clob" if text("compression") == "heap" => {
                let prefix = match text("size").parse::<u64>().ok()? {
                    0..256 => 1,
                    256..65_536 => 2,
                    _ => 4,
                };
                match text("scale") {
                    "1" => Self::Text(prefix, false),
                    "2" => Self::Text(prefix, true),
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    /// Bytes of a value.
    fn size(self) -> usize {
        match self {
            Self::Bit | Self::Tiny => 1,
            Self::Short => 2,
            Self::Long | Self::Float | Self::Date => 4,
            Self::Big | Self::Double | Self::DateTime | Self::Duration | Self::Oid | Self::Text(..) => 8,
        }
    }

    /// The Arrow type it is read as.
    fn arrow(self) -> DataType {
        match self {
            Self::Bit => DataType::Boolean,
            Self::Tiny => DataType::Int8,
            Self::Short => DataType::Int16,
            Self::Long => DataType::Int32,
            Self::Big => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::DateTime => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Duration => DataType::Duration(TimeUnit::Microsecond),
            Self::Oid => DataType::UInt64,
            Self::Text(..) => DataType::Utf8,
        }
    }
}

/// A column as the catalog describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) properties: Properties,
}

impl Column {
    fn property(&self, key: &str) -> Option<&str> {
        self.properties.get(key).map(String::as_str)
    }

    /// Its type in the file's words.
    pub(super) fn shown(&self) -> String {
        self.property("type").unwrap_or("unknown").to_owned()
    }

    /// Whether it may hold NULL.
    pub(super) fn nullable(&self) -> bool {
        self.property("not-null").is_none()
    }

    /// How many values it has.
    pub(super) fn rows(&self, volume: &Arc<Volume>, directory: &Directory) -> Result<u64> {
        Ok(self.numbers(volume, directory, 0)?.rows())
    }

    fn kind(&self) -> Result<Type> {
        Type::of(&self.properties).ok_or_else(|| {
            Error::new(Kind::Unsupported, format!("column `{}` is of type {}, which cannot be read", self.name, self.shown()))
                .help("open the extract in the Tableau that made it and leave the column out")
        })
    }

    /// Bytes of a stored number: a value, or its place in the dictionary.
    fn width(&self) -> Result<usize> {
        let key = if self.property("dict-file").is_some() { "storagewidth" } else { "size" };
        let text = self.property(key).unwrap_or_default();
        text.parse().map_err(|_| damaged(format!("column `{}` has `{text}` as its {key}", self.name)))
    }

    fn numbers(&self, volume: &Arc<Volume>, directory: &Directory, ahead: usize) -> Result<Numbers> {
        let span = volume.data(self.file(directory, "data-file")?)?;
        Numbers::open(volume, span, Encoding::of(self.property("encoding"))?, self.width()?, ahead)
    }

    fn file(&self, directory: &Directory, key: &str) -> Result<Span> {
        let name = self.property(key).unwrap_or_default();
        directory.get(name).copied().ok_or_else(|| damaged(format!("there is no {key} `{name}` for column `{}`", self.name)))
    }
}

/// Where the numbers of a column lead.
#[derive(Debug)]
enum Meaning {
    /// They are the values.
    Values,
    /// To slots of a dictionary; the slot before the first is the last one's number.
    Slots(Store),
    /// To texts.
    Texts(Store),
}

/// Reads the values of one column, in order.
#[derive(Debug)]
pub(super) struct ColumnReader {
    name: String,
    kind: Type,
    nullable: bool,
    width: usize,
    numbers: Numbers,
    meaning: Meaning,
    /// Read and not handed out yet.
    pending: Vec<u64>,
    done: u64,
    bytes: Vec<u8>,
    text: String,
}

impl ColumnReader {
    /// Opens a column's files; `ahead` bytes are read at a time, `budget` bytes of a dictionary are kept.
    pub(super) fn open(column: &Column, volume: &Arc<Volume>, directory: &Directory, ahead: usize, budget: u64) -> Result<Self> {
        let opened = || {
            let (kind, width) = (column.kind()?, column.width()?);
            let numbers = column.numbers(volume, directory, ahead)?;
            let dictionary = || -> Result<Store> {
                Ok(Store::new(Arc::clone(volume), volume.data(column.file(directory, "dict-file")?)?, budget))
            };
            let meaning = match column.property("compression") {
                Some("heap") if matches!(kind, Type::Text(..)) => Meaning::Texts(dictionary()?),
                Some("array") if !matches!(kind, Type::Text(..)) => Meaning::Slots(dictionary()?),
                None | Some("" | "none") if width == kind.size() => Meaning::Values,
                other => {
                    let how = other.unwrap_or("no compression");
                    return Err(damaged(format!("values of type {} and {width} bytes with {how}", column.shown())));
                }
            };
            if let (Meaning::Slots(_), Some(size)) = (&meaning, column.property("size"))
                && size != kind.size().to_string()
            {
                return Err(damaged(format!("values of type {} have {size} bytes", column.shown())));
            }
            Ok(Self {
                name: column.name.clone(),
                kind,
                nullable: column.nullable(),
                width,
                numbers,
                meaning,
                pending: Vec::new(),
                done: 0,
                bytes: Vec::new(),
                text: String::new(),
            })
        };
        opened().at("column", &column.name)
    }

    pub(super) fn rows(&self) -> u64 {
        self.numbers.rows()
    }

    pub(super) fn arrow(&self) -> DataType {
        self.kind.arrow()
    }

    pub(super) fn nullable(&self) -> bool {
        self.nullable
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads until `rows` values wait.
    pub(super) fn fill(&mut self, rows: usize) -> Result<()> {
        let from = self.pending.len();
        if from < rows {
            self.numbers.take(rows - from, &mut self.pending)?;
        }
        if let Meaning::Slots(store) = &mut self.meaning {
            let (size, none) = (self.kind.size(), u64::MAX >> (64 - 8 * self.width));
            for place in &mut self.pending[from..] {
                let slot = if *place == none { 0 } else { *place + 1 };
                *place = store.number(slot.saturating_mul(size as u64), size)?;
            }
        }
        Ok(())
    }

    /// Leaves the first waiting value out.
    pub(super) fn skip(&mut self) {
        self.pending.drain(..1);
        self.done += 1;
    }

    /// Adds the bytes that each waiting value of variable size takes to those of its row.
    pub(super) fn weigh(&mut self, rows: &mut [u64]) -> Result<()> {
        let (Meaning::Texts(store), Type::Text(prefix, _)) = (&mut self.meaning, self.kind) else { return Ok(()) };
        let none = u64::MAX >> (64 - 8 * self.width);
        for (bytes, token) in rows.iter_mut().zip(&self.pending) {
            if *token != none {
                *bytes = bytes.saturating_add(length(store, *token, prefix)?);
            }
        }
        Ok(())
    }

    /// Hands the first `rows` waiting values out.
    pub(super) fn array(&mut self, rows: usize) -> Result<ArrayRef> {
        let values = &self.pending[..rows];
        let nullable = self.nullable;
        let some = |null: bool| !(nullable && null);
        macro_rules! array {
            ($array:ty, $value:expr) => {
                Arc::new(values.iter().map($value).collect::<$array>()) as ArrayRef
            };
        }
        let beyond = |row: usize| {
            let row = self.done + row as u64 + 1;
            damaged(format!(
                "row {row} of column `{}` holds no {}",
                self.name,
                if nullable { "value of its type" } else { "value, and none is declared to be NULL" }
            ))
        };
        macro_rules! checked {
            ($array:ty, $null:expr, $value:expr) => {{
                let mut all = Vec::with_capacity(rows);
                for (row, v) in values.iter().enumerate() {
                    all.push(if *v == $null && nullable { None } else { Some($value(*v).ok_or_else(|| beyond(row))?) });
                }
                Arc::new(<$array>::from(all)) as ArrayRef
            }};
        }
        let array = match self.kind {
            Type::Bit => checked!(BooleanArray, 0x80, |v| (v <= 1).then_some(v == 1)),
            Type::Tiny => array!(Int8Array, |v| Some(i8::from_le_bytes(low(*v))).filter(|v| some(*v == i8::MIN))),
            Type::Short => array!(Int16Array, |v| Some(i16::from_le_bytes(low(*v))).filter(|v| some(*v == i16::MIN))),
            Type::Long => array!(Int32Array, |v| Some(i32::from_le_bytes(low(*v))).filter(|v| some(*v == i32::MIN))),
            Type::Big => array!(Int64Array, |v| Some(i64::from_le_bytes(low(*v))).filter(|v| some(*v == i64::MIN))),
            Type::Float => {
                array!(Float32Array, |v| Some(f32::from_le_bytes(low(*v))).filter(|v| some(v.to_bits() == NULL_FLOAT)))
            }
            Type::Double => array!(Float64Array, |v| Some(f64::from_bits(*v)).filter(|_| some(*v == NULL_DOUBLE))),
            Type::Oid => array!(UInt64Array, |v| Some(*v)),
            Type::Date => checked!(Date32Array, u64::from(u32::MAX), |v| {
                i64::try_from(v).ok().and_then(calendar::unix_day).and_then(|day| i32::try_from(day).ok())
            }),
            Type::DateTime => checked!(TimestampMicrosecondArray, u64::MAX, |v| {
                let ticks = i64::try_from(v).ok()?;
                let day = calendar::unix_day(ticks / TICKS)?;
                day.checked_mul(TICKS)?.checked_add(ticks % TICKS)?.checked_mul(MICROS)
            }),
            Type::Duration => {
                checked!(DurationMicrosecondArray, u64::MAX, |v: u64| { i64::from_le_bytes(v.to_le_bytes()).checked_mul(MICROS) })
            }
            Type::Text(prefix, wide) => self.texts(rows, prefix, wide)?,
        };
        self.pending.drain(..rows);
        self.done += rows as u64;
        Ok(array)
    }

    fn texts(&mut self, rows: usize, prefix: usize, wide: bool) -> Result<ArrayRef> {
        let Meaning::Texts(store) = &mut self.meaning else { return Err(damaged("texts without a heap")) };
        let none = u64::MAX >> (64 - 8 * self.width);
        let mut texts = StringBuilder::new();
        for (row, token) in self.pending[..rows].iter().enumerate() {
            let wrong = |what: &str| damaged(format!("row {} of column `{}` {what}", self.done + row as u64 + 1, self.name));
            if *token == none {
                if !self.nullable {
                    return Err(wrong("is NULL, and none is declared to be"));
                }
                texts.append_null();
                continue;
            }
            let bytes = length(store, *token, prefix)?;
            self.bytes.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
            store.read(*token + prefix as u64, &mut self.bytes)?;
            if wide {
                self.text.clear();
                if !push_utf16(&self.bytes, &mut self.text) {
                    return Err(wrong("is not UTF-16"));
                }
                texts.append_value(&self.text);
            } else {
                texts.append_value(std::str::from_utf8(&self.bytes).map_err(|_| wrong("is not UTF-8"))?);
            }
        }
        Ok(Arc::new(texts.finish()))
    }
}

/// The low bytes of a number.
fn low<const N: usize>(value: u64) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&value.to_le_bytes()[..N]);
    bytes
}

/// The bytes of a text in a heap, which is as large as it has to be for them.
fn length(heap: &mut Store, token: u64, prefix: usize) -> Result<u64> {
    let bytes = heap.number(token, prefix)?;
    let end = token.checked_add(prefix as u64).and_then(|at| at.checked_add(bytes));
    if end.is_none_or(|end| end > heap.size()) {
        return Err(damaged(format!("a text of {bytes} bytes at {token} in a heap of {} bytes", heap.size())));
    }
    Ok(bytes)
}

/// Reads a whole column of the catalog as numbers.
pub(super) fn all_numbers(column: &Column, volume: &Arc<Volume>, directory: &Directory, most: u64) -> Result<Vec<u64>> {
    let mut reader = ColumnReader::open(column, volume, directory, 64 * 1024, 0)?;
    let rows = reader.rows();
    if rows > most {
        return Err(damaged(format!("the catalog claims {rows} rows in `{}`", column.name)));
    }
    reader.fill(usize::try_from(rows).unwrap_or(0))?;
    Ok(reader.pending)
}
