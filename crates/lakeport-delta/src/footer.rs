//! What the footer of a finished Parquet file tells the table's log: columns, rows, and the statistics readers skip by.
//!
//! A bound that is wrong makes a reader leave out rows, so only types whose order and text are the same everywhere get one:
//! whole numbers, short decimals, dates, timestamps (rounded outwards to the milliseconds that the log holds) and text. Floats
//! get none, because readers differ on where NaN stands.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use chrono::{DateTime, Datelike, NaiveDate, TimeDelta};
use lakeport::error::{Kind, Result, Wrap};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use serde_json::{Map, Value, json};

/// Columns that get statistics: as many as Delta's own writers take unless told otherwise.
const INDEXED: usize = 32;
/// Bytes of a text that may stand in the log.
const LONG: usize = 256;
/// Digits, and those behind the point, of a decimal that every reader of JSON gets right.
const DIGITS: u8 = 15;
const FRACTION: i8 = 4;
/// Microseconds of a millisecond.
const MILLI: i64 = 1000;

/// A finished file, as its footer tells it.
#[derive(Debug)]
pub(crate) struct Footer {
    /// Its columns.
    pub(crate) schema: Schema,
    /// Its rows.
    pub(crate) rows: u64,
    /// The text for the log.
    pub(crate) statistics: String,
    /// How many NULLs each column holds that is not nested.
    pub(crate) nulls: BTreeMap<String, u64>,
}

/// The least and the greatest value of a column.
enum Bounds {
    Numbers(i64, i64),
    Texts(String, String),
}

impl Footer {
    /// Reads it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let failed = || format!("cannot read the footer of {}", path.display());
        let file = File::open(path).wrap(Kind::SourceMissing, failed)?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).wrap(Kind::SourceUnreadable, failed)?;
        let metadata = builder.metadata();
        let schema = builder.schema().as_ref().clone();
        let rows = u64::try_from(metadata.file_metadata().num_rows()).wrap(Kind::SourceUnreadable, failed)?;
        let mut nulls = BTreeMap::new();
        let (mut least, mut greatest) = (Map::new(), Map::new());
        let leaves = metadata.file_metadata().schema_descr();
        for (at, leaf) in leaves.columns().iter().enumerate() {
            let [name] = leaf.path().parts() else { continue };
            let Some((index, field)) = schema.column_with_name(name) else { continue };
            if let Some(count) = nulls_of(metadata, at) {
                nulls.insert(name.clone(), count);
            }
            if index >= INDEXED {
                continue;
            }
            if let Some((low, high)) = bounds_of(metadata, at).and_then(|b| shown(&b, field.data_type())) {
                least.insert(name.clone(), low);
                greatest.insert(name.clone(), high);
            }
        }
        let indexed: Map<String, Value> = schema
            .fields()
            .iter()
            .take(INDEXED)
            .filter_map(|f| nulls.get(f.name()).map(|n| (f.name().clone(), Value::from(*n))))
            .collect();
        let statistics = json!({ "numRecords": rows, "minValues": least, "maxValues": greatest, "nullCount": indexed });
        Ok(Self { schema, rows, statistics: statistics.to_string(), nulls })
    }
}

fn nulls_of(metadata: &ParquetMetaData, leaf: usize) -> Option<u64> {
    metadata.row_groups().iter().map(|g| g.column(leaf).statistics()?.null_count_opt()).sum()
}

/// The bounds over all row groups; none where one of them does not tell.
fn bounds_of(metadata: &ParquetMetaData, leaf: usize) -> Option<Bounds> {
    let mut all: Option<Bounds> = None;
    for group in metadata.row_groups() {
        let statistics = group.column(leaf).statistics()?;
        let rows = u64::try_from(group.num_rows()).ok()?;
        if statistics.null_count_opt() == Some(rows) {
            continue;
        }
        let here = match statistics {
            Statistics::Int32(v) => Bounds::Numbers(i64::from(*v.min_opt()?), i64::from(*v.max_opt()?)),
            Statistics::Int64(v) => Bounds::Numbers(*v.min_opt()?, *v.max_opt()?),
            Statistics::ByteArray(v) => {
                let text = |bytes: &[u8]| (bytes.len() <= LONG).then(|| String::from_utf8(bytes.to_vec()).ok()).flatten();
                Bounds::Texts(text(v.min_opt()?.data())?, text(v.max_opt()?.data())?)
            }
            _ => return None,
        };
        all = Some(match (all, here) {
            (None, here) => here,
            (Some(Bounds::Numbers(a, b)), Bounds::Numbers(c, d)) => Bounds::Numbers(a.min(c), b.max(d)),
            (Some(Bounds::Texts(a, b)), Bounds::Texts(c, d)) => Bounds::Texts(a.min(c), b.max(d)),
            _ => return None,
        });
    }
    all
}

/// The bounds as the log holds them.
fn shown(bounds: &Bounds, data_type: &DataType) -> Option<(Value, Value)> {
    match (bounds, data_type) {
        (Bounds::Numbers(low, high), DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            Some((json!(low), json!(high)))
        }
        (Bounds::Numbers(low, high), DataType::Decimal128(p, s)) if *p <= DIGITS && (0..=FRACTION).contains(s) => {
            Some((decimal(*low, *s)?, decimal(*high, *s)?))
        }
        (Bounds::Numbers(low, high), DataType::Date32) => Some((date(*low)?, date(*high)?)),
        (Bounds::Numbers(low, high), DataType::Timestamp(TimeUnit::Microsecond, zone)) => {
            let outward = high.checked_add(MILLI - 1)?;
            Some((stamp(low.div_euclid(MILLI), zone.is_some())?, stamp(outward.div_euclid(MILLI), zone.is_some())?))
        }
        (Bounds::Texts(low, high), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => Some((json!(low), json!(high))),
        _ => None,
    }
}

fn decimal(unscaled: i64, scale: i8) -> Option<Value> {
    if scale == 0 {
        return Some(json!(unscaled));
    }
    let scale = usize::from(scale.unsigned_abs());
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    // Fifteen digits are a float's own, and come out as they went in.
    format!("{sign}{whole}.{fraction}").parse::<f64>().ok().map(|n| json!(n))
}

fn date(days: i64) -> Option<Value> {
    let date = NaiveDate::default().checked_add_signed(TimeDelta::try_days(days)?)?;
    (1..=9999).contains(&date.year()).then(|| json!(date.format("%Y-%m-%d").to_string()))
}

fn stamp(millis: i64, zoned: bool) -> Option<Value> {
    let at = DateTime::from_timestamp_millis(millis)?;
    let text = at.format(if zoned { "%Y-%m-%dT%H:%M:%S%.3fZ" } else { "%Y-%m-%dT%H:%M:%S%.3f" }).to_string();
    (1..=9999).contains(&at.year()).then(|| json!(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_rounded_outwards_and_never_inwards() {
        let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let (low, high) = shown(&Bounds::Numbers(-1, 1), &zoned).unwrap();
        assert_eq!((low, high), (json!("1969-12-31T23:59:59.999Z"), json!("1970-01-01T00:00:00.001Z")));
        let plain = DataType::Timestamp(TimeUnit::Microsecond, None);
        let end = 253_402_300_799_999_999;
        assert!(shown(&Bounds::Numbers(0, end), &plain).is_none(), "a bound past the last year is none");
    }

    #[test]
    fn decimals_come_out_as_they_went_in() {
        let of = |n: i64, s: i8| shown(&Bounds::Numbers(n, n), &DataType::Decimal128(15, s)).map(|b| b.0.to_string());
        assert_eq!(of(-5, 2).unwrap(), "-0.05");
        assert_eq!(of(999_999_999_999_999, 4).unwrap(), "99999999999.9999");
        assert_eq!(of(7, 0).unwrap(), "7");
        assert!(of(7, 9).is_none());
        assert!(shown(&Bounds::Numbers(1, 1), &DataType::Float64).is_none());
    }
}
