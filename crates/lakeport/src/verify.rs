//! What left compared with what arrived.
//!
//! A [`Fingerprint`] holds per table the rows and per column NULLs, least and greatest value and an order-free sum. It is
//! taken over the shaped batches while they stream by, and again by the format's own reader over the finished file; both
//! sides use the definitions of [`Measure`], so that they can be compared to the digit.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Kind, Result};
use crate::types::{Mapping, json};

/// How thoroughly a run looks at what arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// Not at all.
    None,
    /// Rows are counted.
    Counts,
    /// Rows, and per column NULLs, least, greatest and sum.
    #[default]
    Fingerprint,
    /// As `fingerprint`, and every value is read back and hashed.
    Full,
}

/// Longest piece of a text that is kept as least or greatest value, in characters.
pub const TEXT_PREFIX: usize = 64;
/// Digits up to which a decimal column is summed as it is; wider ones are summed modulo [`MODULUS`].
pub const SUMMED_DIGITS: u8 = 20;
/// The modulus for wide decimals, applied to the unscaled value.
pub const MODULUS: i128 = 1_000_000_007;

/// What is measured of a column, by its physical type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Sum: how many are true.
    Bool,
    /// Integers; least, greatest, sum.
    Int,
    /// Decimals by their unscaled value, digits and scale given; wide ones are summed modulo [`MODULUS`].
    Decimal(u8, i8),
    /// Floats: NaN counted apart; summed as integers scaled by powers of two, so that the order does not matter.
    Float,
    /// Texts by their bytes, decimals of more than 38 digits and nested values as the text they render to; the sum is of their lengths in bytes.
    Text,
    /// Bytes; only the sum of their lengths.
    Bytes,
    /// Days since 1970.
    Date,
    /// Units of the physical type since midnight.
    Time,
    /// Units of the physical type since 1970.
    Timestamp,
    /// A type the reader writes in other words than the writer; only NULLs are counted.
    Opaque,
}

impl Measure {
    /// What is measured of a physical Arrow type.
    #[must_use]
    pub fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Bool,
            _ if data_type.is_integer() || matches!(data_type, DataType::Duration(_)) => Self::Int,
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => Self::Decimal(*p, *s),
            _ if data_type.is_floating() => Self::Float,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Decimal256(..) => Self::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Self::Bytes,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(..) => Self::Timestamp,
            DataType::Dictionary(_, values) => Self::of(values),
            _ if data_type.is_nested() => Self::Text,
            _ => Self::Opaque,
        }
    }
}

/// What a table holds, independent of the order of its rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Number of rows.
    pub rows: u64,
    /// One entry per column; empty when only rows were counted.
    pub columns: Vec<ColumnPrint>,
}

/// What one column holds, independent of order; values as canonical text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ColumnPrint {
    /// The column's name.
    pub name: String,
    /// How many values are NULL.
    pub nulls: u64,
    /// How many are NaN.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nans: u64,
    /// The least value; `None` where there is none or the type has no order.
    pub min: Option<String>,
    /// The greatest value.
    pub max: Option<String>,
    /// An order-free sum over the values.
    pub sum: Option<String>,
    /// The wrapping sum of the 64-bit hashes of all values, for `--verify full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Fingerprint {
    /// Stops at the first difference to what was read back.
    ///
    /// # Errors
    /// `VerifyFailed` with table and column in the context and both values as the cause.
    pub fn ensure_same(&self, arrived: &Self, table: &str) -> Result<()> {
        let failed = |what: String, left: String, arrived: String| {
            Error::new(Kind::VerifyFailed, what)
                .at("table", table)
                .because(format!("left the source: {left}; arrived: {arrived}"))
        };
        if self.rows != arrived.rows {
            return Err(failed(
                format!("table `{table}` has another number of rows"),
                self.rows.to_string(),
                arrived.rows.to_string(),
            ));
        }
        // Either side may have counted only.
        for (left, right) in self.columns.iter().zip(&arrived.columns) {
            let text = |v: &Option<String>| v.clone().unwrap_or_else(|| "none".into());
            let pairs = [
                ("name", left.name.clone(), right.name.clone()),
                ("number of NULLs", left.nulls.to_string(), right.nulls.to_string()),
                ("number of NaNs", left.nans.to_string(), right.nans.to_string()),
                ("least value", text(&left.min), text(&right.min)),
                ("greatest value", text(&left.max), text(&right.max)),
                ("sum", text(&left.sum), text(&right.sum)),
            ];
            let hashes = left.hash.clone().zip(right.hash.clone()).map(|(l, r)| ("hash of all values", l, r));
            for (what, l, r) in pairs.into_iter().chain(hashes) {
                if l != r {
                    return Err(failed(format!("column `{}` of table `{table}` has another {what}", left.name), l, r)
                        .at("column", &left.name));
                }
            }
        }
        Ok(())
    }
}

/// The fingerprint of several parts of one table, from those of the parts.
#[must_use]
pub fn together(mapping: &Mapping, parts: impl IntoIterator<Item = Fingerprint>) -> Fingerprint {
    let mut parts = parts.into_iter();
    let Some(mut all) = parts.next() else { return Accumulator::new(mapping, Verify::Counts).finish() };
    for part in parts {
        all.rows += part.rows;
        for ((whole, column), measured) in all.columns.iter_mut().zip(part.columns).zip(&mapping.columns) {
            whole.take(column, measure(measured));
        }
    }
    all
}

impl ColumnPrint {
    /// Takes in what another part of the table holds of this column.
    fn take(&mut self, other: Self, measure: Measure) {
        self.nulls += other.nulls;
        self.nans += other.nans;
        let order = |a: &str, b: &str| match measure {
            Measure::Float => a.parse::<f64>().ok().partial_cmp(&b.parse::<f64>().ok()),
            Measure::Text => Some(a.cmp(b)),
            _ => a.parse::<i128>().ok().partial_cmp(&b.parse::<i128>().ok()),
        };
        let pick = |mine: &mut Option<String>, theirs: Option<String>, wanted: std::cmp::Ordering| {
            let better = match (mine.as_deref(), theirs.as_deref()) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(mine), Some(theirs)) => order(theirs, mine) == Some(wanted),
            };
            if better {
                *mine = theirs;
            }
        };
        pick(&mut self.min, other.min, std::cmp::Ordering::Less);
        pick(&mut self.max, other.max, std::cmp::Ordering::Greater);
        let sum = |a: &str, b: &str| Some((a.parse::<i128>().ok()? + b.parse::<i128>().ok()?).to_string());
        self.sum = self.sum.take().zip(other.sum).and_then(|(a, b)| sum(&a, &b));
        let hash = |a: &str, b: &str| {
            let of = |h: &str| u64::from_str_radix(h, 16).ok();
            Some(format!("{:016x}", of(a)?.wrapping_add(of(b)?)))
        };
        self.hash = self.hash.take().zip(other.hash).and_then(|(a, b)| hash(&a, &b));
    }
}

/// Takes a fingerprint of batches as they stream by.
#[derive(Debug, Clone)]
pub struct Accumulator {
    rows: u64,
    columns: Vec<Column>,
    hashing: bool,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    measure: Measure,
    nulls: u64,
    nans: u64,
    ints: Option<(i128, i128)>,
    floats: Option<(f64, f64)>,
    texts: Option<(String, String)>,
    sum: i128,
    hash: u64,
}

impl Accumulator {
    /// Prepares for the columns of a mapping.
    #[must_use]
    pub fn new(mapping: &Mapping, verify: Verify) -> Self {
        let columns = if verify < Verify::Fingerprint {
            Vec::new()
        } else {
            mapping.columns.iter().map(|c| Column::new(&c.name, measure(c))).collect()
        };
        Self { rows: 0, columns, hashing: verify == Verify::Full }
    }

    /// Takes a shaped batch in.
    pub fn add(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            let array = canonical(array);
            column.add(array.as_ref());
            if self.hashing {
                column.hash = column.hash.wrapping_add(hash(array.as_ref()));
            }
        }
    }

    /// The fingerprint so far.
    #[must_use]
    pub fn finish(self) -> Fingerprint {
        let hashing = self.hashing;
        Fingerprint { rows: self.rows, columns: self.columns.into_iter().map(|c| c.finish(hashing)).collect() }
    }
}

/// An array as one of the types measured: the hot ones as they are, the others cast without loss.
fn canonical(array: &ArrayRef) -> ArrayRef {
    let to = match array.data_type() {
        DataType::Int8
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::Duration(_)
        | DataType::Date64
        | DataType::Time64(TimeUnit::Nanosecond)
        | DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Nanosecond, _) => DataType::Int64,
        DataType::Time32(_) => DataType::Int32,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 | DataType::Float32 => DataType::Float64,
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Decimal256(..) => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        nested if nested.is_nested() => return json::render(array).unwrap_or_else(|_| Arc::clone(array)),
        _ => return Arc::clone(array),
    };
    // None of these casts can fail: each goes to a type that holds all values, and a piece is far below 2 GiB.
    let cast = arrow::compute::cast(array, &to).unwrap_or_else(|_| Arc::clone(array));
    if matches!(array.data_type(), DataType::Dictionary(..)) { canonical(&cast) } else { cast }
}

/// What is measured of a mapped column; geographies are rewritten by their reader.
#[must_use]
pub fn measure(column: &crate::types::ColumnMapping) -> Measure {
    if column.target_type == "GEOGRAPHY" { Measure::Opaque } else { Measure::of(&column.physical) }
}

impl Column {
    fn new(name: &str, measure: Measure) -> Self {
        Self { name: name.to_owned(), measure, nulls: 0, nans: 0, ints: None, floats: None, texts: None, sum: 0, hash: 0 }
    }

    fn add(&mut self, array: &dyn Array) {
        self.nulls += array.null_count() as u64;
        match (self.measure, array.data_type()) {
            (Measure::Bool, _) => self.sum += array.as_boolean().true_count() as i128,
            (_, DataType::Int16) => self.integers(array.as_primitive::<Int16Type>()),
            (_, DataType::Int32) => self.integers(array.as_primitive::<Int32Type>()),
            (_, DataType::Int64) => self.integers(array.as_primitive::<Int64Type>()),
            (Measure::Decimal(p, _), DataType::Decimal128(..)) => self.decimals(array.as_primitive::<Decimal128Type>(), p),
            (_, DataType::Date32) => self.integers(array.as_primitive::<Date32Type>()),
            (_, DataType::Time64(TimeUnit::Microsecond)) => self.integers(array.as_primitive::<Time64MicrosecondType>()),
            (_, DataType::Timestamp(TimeUnit::Microsecond, _)) => {
                self.integers(array.as_primitive::<TimestampMicrosecondType>());
            }
            (_, DataType::Decimal128(..)) => self.decimals(array.as_primitive::<Decimal128Type>(), 0),
            (_, DataType::Float64) => self.floats(array.as_primitive::<Float64Type>()),
            (Measure::Text, DataType::Utf8) => {
                let texts = array.as_string::<i32>();
                for value in texts.iter().flatten() {
                    self.sum += value.len() as i128;
                    self.text(value);
                }
            }
            (Measure::Bytes, DataType::Binary) => {
                self.sum += array.as_binary::<i32>().iter().flatten().map(|b| b.len() as i128).sum::<i128>()
            }
            _ => {}
        }
    }

    fn integers<T: ArrowPrimitiveType>(&mut self, array: &PrimitiveArray<T>)
    where
        i64: From<T::Native>,
    {
        // Sums of at most a batch of i64 fit i128 with ease; extremes stay in i64 for the inner loop.
        let (mut min, mut max, mut sum, mut any) = (i64::MAX, i64::MIN, 0i128, false);
        let mut one = |v: T::Native| {
            let v = i64::from(v);
            any = true;
            min = min.min(v);
            max = max.max(v);
            sum += i128::from(v);
        };
        if array.null_count() == 0 {
            array.values().iter().copied().for_each(&mut one);
        } else {
            array.iter().flatten().for_each(&mut one);
        }
        self.sum += sum;
        if any {
            self.widen(i128::from(min), i128::from(max));
        }
    }

    fn decimals(&mut self, array: &PrimitiveArray<Decimal128Type>, precision: u8) {
        let (mut min, mut max, mut sum, mut any) = (i128::MAX, i128::MIN, 0i128, false);
        for v in array.iter().flatten() {
            any = true;
            min = min.min(v);
            max = max.max(v);
            sum += if precision > SUMMED_DIGITS { v % MODULUS } else { v };
        }
        self.sum += sum;
        if any {
            self.widen(min, max);
        }
    }

    fn widen(&mut self, min: i128, max: i128) {
        self.ints = Some(self.ints.map_or((min, max), |(a, b)| (a.min(min), b.max(max))));
    }

    fn floats(&mut self, array: &PrimitiveArray<Float64Type>) {
        for v in array.iter().flatten() {
            if v.is_nan() {
                self.nans += 1;
                continue;
            }
            self.floats = Some(self.floats.map_or((v, v), |(a, b)| (a.min(v), b.max(v))));
            self.sum += scaled(v);
        }
    }

    fn text(&mut self, value: &str) {
        match &mut self.texts {
            None => self.texts = Some((prefix(value).to_owned(), prefix(value).to_owned())),
            Some((min, max)) => {
                // A value that only extends a kept prefix has the same prefix, so comparing prefixes is enough.
                if value < min.as_str() {
                    prefix(value).clone_into(min);
                } else if value > max.as_str() && prefix(value) > max.as_str() {
                    prefix(value).clone_into(max);
                }
            }
        }
    }

    fn finish(self, hashing: bool) -> ColumnPrint {
        let (min, max) = match self.measure {
            Measure::Float => self.floats.map(|(a, b)| (show_float(a), show_float(b))).unzip(),
            Measure::Text => self.texts.unzip(),
            _ => self.ints.map(|(a, b)| (a.to_string(), b.to_string())).unzip(),
        };
        ColumnPrint {
            name: self.name,
            nulls: self.nulls,
            nans: self.nans,
            min,
            max,
            sum: (self.measure != Measure::Opaque).then(|| self.sum.to_string()),
            hash: (hashing && self.measure != Measure::Opaque).then(|| format!("{:016x}", self.hash)),
        }
    }
}

/// The first characters of a text.
fn prefix(text: &str) -> &str {
    match text.char_indices().nth(TEXT_PREFIX) {
        Some((cut, _)) => &text[..cut],
        None => text,
    }
}

/// A float as text that is the same on both sides; the two zeros are one.
#[must_use]
pub fn show_float(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:?}") }
}

/// A float as an integer: the finer the smaller it is. Scaling by powers of two is exact, so both sides agree to the bit;
/// beyond 2^62 the value counts as 0 and is seen in the extremes only.
#[expect(clippy::cast_possible_truncation, reason = "each branch bounds the value below 2^62 before the cast")]
fn scaled(value: f64) -> i128 {
    const TWO_60: f64 = (1u64 << 60) as f64;
    const TWO_31: f64 = (1u64 << 31) as f64;
    const TWO_62: f64 = (1u64 << 62) as f64;
    let size = value.abs();
    if size < 1.0 {
        i128::from((value * TWO_60).trunc() as i64)
    } else if size < TWO_31 {
        i128::from((value * TWO_31).trunc() as i64)
    } else if size < TWO_62 {
        i128::from(value.trunc() as i64)
    } else {
        0
    }
}

/// The wrapping sum of the hashes of all values of an array, NULLs included as a constant.
fn hash(array: &dyn Array) -> u64 {
    const NULL: u64 = 0x9e37_79b9_7f4a_7c15;
    fn ints<T: ArrowPrimitiveType>(array: &dyn Array, bytes: impl Fn(T::Native) -> [u8; 16]) -> u64 {
        let array = array.as_primitive::<T>();
        array.iter().fold(0, |sum: u64, v| sum.wrapping_add(v.map_or(NULL, |v| xxh3_64(&bytes(v)))))
    }
    let wide = |v: i64| i128::from(v).to_le_bytes();
    match array.data_type() {
        DataType::Boolean => {
            array.as_boolean().iter().fold(0, |sum: u64, v| sum.wrapping_add(v.map_or(NULL, |v| xxh3_64(&[u8::from(v)]))))
        }
        DataType::Int16 => ints::<Int16Type>(array, |v| wide(v.into())),
        DataType::Int32 => ints::<Int32Type>(array, |v| wide(v.into())),
        DataType::Int64 => ints::<Int64Type>(array, wide),
        DataType::Decimal128(..) => ints::<Decimal128Type>(array, i128::to_le_bytes),
        DataType::Date32 => ints::<Date32Type>(array, |v| wide(v.into())),
        DataType::Time64(_) => ints::<Time64MicrosecondType>(array, wide),
        DataType::Timestamp(..) => ints::<TimestampMicrosecondType>(array, wide),
        DataType::Float64 => ints::<Float64Type>(array, |v| {
            // The sign of zero and the bits of a NaN are not promised.
            let bits = if v == 0.0 {
                0
            } else if v.is_nan() {
                f64::NAN.to_bits()
            } else {
                v.to_bits()
            };
            u128::from(bits).to_le_bytes()
        }),
        DataType::Utf8 => {
            array.as_string::<i32>().iter().fold(0, |sum: u64, v| sum.wrapping_add(v.map_or(NULL, |v| xxh3_64(v.as_bytes()))))
        }
        DataType::Binary => array.as_binary::<i32>().iter().fold(0, |sum: u64, v| sum.wrapping_add(v.map_or(NULL, xxh3_64))),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Wishes, hyper};
    use arrow::array::{Float64Array, Int64Array, StringArray};

    fn print(columns: Vec<(&str, ArrayRef)>) -> Fingerprint {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mapping = hyper::map("t", &batch.schema(), &Wishes::default()).unwrap();
        let mut all = Accumulator::new(&mapping, Verify::Full);
        // Piecewise and whole must agree: the fingerprint knows no order and no batches.
        all.add(&batch.slice(1, batch.num_rows() - 1));
        all.add(&batch.slice(0, 1));
        let mut whole = Accumulator::new(&mapping, Verify::Full);
        whole.add(&batch);
        let print = whole.finish();
        assert_eq!(all.finish(), print);
        let alone = |from| {
            let mut part = Accumulator::new(&mapping, Verify::Full);
            part.add(&batch.slice(from, 1));
            part.finish()
        };
        assert_eq!(together(&mapping, (0..batch.num_rows()).map(alone)), print);
        print
    }

    #[test]
    fn a_fingerprint_knows_no_order_and_sees_each_change() {
        let long = "é".repeat(100);
        let f = print(vec![
            ("i", Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(i64::MAX)])) as ArrayRef),
            ("f", Arc::new(Float64Array::from(vec![f64::NAN, 0.5, -1e300]))),
            ("t", Arc::new(StringArray::from(vec![Some("b"), Some(""), Some(long.as_str())]))),
        ]);
        assert_eq!((f.rows, f.columns[0].nulls), (3, 1));
        assert_eq!(f.columns[0].sum.as_deref(), Some("18446744073709551614"));
        assert_eq!((f.columns[1].nans, f.columns[1].min.as_deref()), (1, Some("-1e300")));
        assert_eq!(f.columns[2].max.as_deref(), Some("é".repeat(64).as_str()));
        let mut other = f.clone();
        f.ensure_same(&other, "t").unwrap();
        other.columns[2].sum = Some("1".into());
        let e = f.ensure_same(&other, "t").unwrap_err();
        assert_eq!((e.exit_code(), e.context_value("column")), (7, Some("t")));
    }

    #[test]
    fn a_text_that_extends_the_least_prefix_keeps_it() {
        let base = "a".repeat(64);
        let f = print(vec![(
            "t",
            Arc::new(StringArray::from(vec![format!("{base}z"), format!("{base}b"), base.clone()])) as ArrayRef,
        )]);
        assert_eq!((f.columns[0].min.as_deref(), f.columns[0].max.as_deref()), (Some(base.as_str()), Some(base.as_str())));
    }
}
