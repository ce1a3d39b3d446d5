//! The mapping table of Alteryx `.yxdb` (E1): what each Arrow type becomes.
//!
//! Source of the limits: Alteryx help (data types) and files written by Designer; dates from 1400-01-01, whole seconds, no zones.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, Schema, TimeUnit};

use super::csv::decoded;
use super::walk::{self, Row, TypeTable};
use super::{Conversion, Mapping, Wishes, named};
use crate::error::{Error, Kind, Result};

/// 1400-01-01 and 9999-12-31 in days since 1970.
const DAYS: (i64, i64) = (-208_188, 2_932_896);
/// The same span in seconds, the last one of 9999 included.
const SECONDS: (i64, i64) = (DAYS.0 * 86_400, (DAYS.1 + 1) * 86_400 - 1);
const SPAN: &str = "1400-01-01 to 9999-12-31";
/// Characters of a field's name.
const NAME: usize = 255;
/// Fields of a record.
const FIELDS: usize = 32_000;

/// The table.
#[derive(Debug, Clone, Copy)]
pub struct YxdbTypes;

impl TypeTable for YxdbTypes {
    #[rustfmt::skip]
    fn row(&self, data_type: &DataType) -> Row {
        use DataType as A;
        let keep = |name: &str| Row::exact(name, data_type.clone(), Conversion::Keep);
        match data_type {
            A::Null => Row::widened("V_WString", A::Utf8, Conversion::Nulls, "has no type; every value is NULL"),
            A::Boolean => keep("Bool"),
            A::UInt8 => keep("Byte"),
            A::Int8 => Row::widened("Int16", A::Int16, Conversion::Cast, "16 bits"),
            A::Int16 => keep("Int16"),
            A::UInt16 => Row::widened("Int32", A::Int32, Conversion::Cast, "32 bits"),
            A::Int32 => keep("Int32"),
            A::UInt32 => Row::widened("Int64", A::Int64, Conversion::Cast, "64 bits"),
            A::Int64 => keep("Int64"),
            A::UInt64 => Row::widened(fixed(20, 0), A::Decimal128(20, 0), Conversion::Cast, "20 digits"),
            A::Float16 => Row::widened("Float", A::Float32, Conversion::Cast, "32 bits"),
            A::Float32 => keep("Float"),
            A::Float64 => keep("Double"),
            A::Decimal256(p, s) if *p > 38 && *s >= 0 => Row::checked(fixed(38, *s), A::Decimal128(38, (*s).min(38)), "values of up to 38 digits"),
            A::Decimal128(p, s) if *s >= 0 => Row::exact(fixed(*p, *s), data_type.clone(), Conversion::Keep),
            A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) | A::Decimal256(p, s) if *s >= 0 => Row::exact(fixed(*p, *s), A::Decimal128(*p, *s), Conversion::Cast),
            A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) | A::Decimal256(p, s) => {
                let digits = p.saturating_add(s.unsigned_abs()).min(38);
                Row::widened(fixed(digits, 0), A::Decimal128(digits, 0), Conversion::Cast, "the scale is 0")
            }
            A::Utf8 => keep("V_WString"),
            A::LargeUtf8 | A::Utf8View => Row::exact("V_WString", A::Utf8, Conversion::Cast),
            A::Binary => keep("Blob"),
            A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => Row::exact("Blob", A::Binary, Conversion::Cast),
            A::Date32 => keep("Date").range(DAYS).note(SPAN),
            A::Date64 => Row::checked("Date", A::Date32, "whole days").range(DAYS).note(SPAN),
            A::Time32(TimeUnit::Second) => keep("Time"),
            A::Time32(_) | A::Time64(_) => Row::checked("Time", A::Time32(TimeUnit::Second), "whole seconds").note("set types.COLUMN = \"text\" to keep fractions of seconds"),
            A::Timestamp(unit, zone) => {
                // The zone stays in the physical type, so that an instant is written as the wall clock of UTC.
                let to = A::Timestamp(TimeUnit::Second, zone.as_ref().map(|_| "UTC".into()));
                let row = match (unit, zone) {
                    (TimeUnit::Second, None) => keep("DateTime"),
                    (TimeUnit::Second, Some(_)) => Row::widened("DateTime", to, Conversion::Cast, "the wall clock of UTC; DateTime has no zone"),
                    (_, None) => Row::checked("DateTime", to, "whole seconds"),
                    (_, Some(_)) => Row::checked("DateTime", to, "whole seconds, as the wall clock of UTC"),
                };
                let more = if *unit == TimeUnit::Second { String::new() } else { "; set types.COLUMN = \"text\" to keep fractions of seconds".into() };
                row.range(SECONDS).note(format!("{SPAN}{more}"))
            }
            A::Duration(_) => Row::widened("Int64", A::Int64, Conversion::Cast, "a whole number of its unit"),
            A::Interval(_) => Row::widened("V_WString", A::Utf8, Conversion::Iso8601, "ISO 8601 text, such as P1Y2M or P3DT4.5S"),
            A::Dictionary(_, values) => decoded(self.row(values)),
            A::RunEndEncoded(_, values) => decoded(self.row(values.data_type())),
            A::Union(..) => Row::refused("a union has no one type").note("set types.COLUMN = \"drop\""),
            A::Struct(_) => Row::refused("Designer shows no nested columns").note("set types.COLUMN = \"flatten\", \"json\" or \"drop\""),
            _ => Row::refused("Designer shows no nested columns").note("set types.COLUMN = \"json\" or \"drop\""),
        }
    }

    fn wished(&self, from: &DataType, wish: &str) -> Option<Row> {
        let to = match wish {
            "byte" => DataType::UInt8,
            "v_wstring" => DataType::Utf8,
            "blob" => DataType::Binary,
            "datetime" => DataType::Timestamp(TimeUnit::Second, None),
            "int64" => DataType::Int64,
            other => named::parse(other)?,
        };
        Some(named::wished(self, from, &to))
    }
    fn declared(&self, declared: &str) -> Option<Row> {
        // The length counts characters, each of at most two UTF-16 units.
        let units = declared.split_once('(')?.1.strip_suffix(')')?.parse::<u32>().ok()?.checked_mul(2)?;
        Some(Row::exact(format!("V_WString({units})"), DataType::Utf8, Conversion::Keep).range((0, i64::from(units))))
    }
    fn names(&self) -> &'static str {
        "bool, byte, int16, int32, int64, float, double, decimal(p,s), text, blob, date, time and datetime"
    }
    fn json(&self) -> Row {
        Row::widened("V_WString", DataType::Utf8, Conversion::Json, "JSON text")
    }
}

/// The size of a FixedDecimal counts its sign, its digits and its point; a fraction has a zero before the point.
#[must_use]
pub fn size(precision: u8, scale: i8) -> usize {
    let scale = usize::from(scale.unsigned_abs());
    usize::from(precision).max(scale + 1) + 1 + usize::from(scale > 0)
}

fn fixed(precision: u8, scale: i8) -> String {
    format!("FixedDecimal({},{scale})", size(precision, scale))
}

/// Maps a whole schema; pure. Names become unique whatever their case, as Designer makes them: `a`, `A2`.
///
/// # Errors
/// As [`walk::map`], and `Unsupported` for more fields than a record holds.
pub fn map(table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
    let mut mapping = walk::map(table, schema, wishes, &YxdbTypes)?;
    if mapping.columns.len() > FIELDS {
        let columns = mapping.columns.len();
        return Err(Error::new(Kind::Unsupported, format!("a .yxdb file holds {FIELDS} fields, and there are {columns}")));
    }
    let mut taken = BTreeSet::new();
    // A name that needs no change is not taken from its column by one that does.
    let mut reserved: BTreeSet<String> = BTreeSet::new();
    for column in &mapping.columns {
        if column.name.chars().count() <= NAME {
            reserved.insert(column.name.to_lowercase());
        }
    }
    for column in &mut mapping.columns {
        let short: String = column.name.chars().take(NAME).collect();
        if short == column.name && taken.insert(short.to_lowercase()) {
            continue;
        }
        let mut new = short.clone();
        for number in 2.. {
            let lower = new.to_lowercase();
            if !reserved.contains(&lower) && taken.insert(lower) {
                break;
            }
            let suffix = number.to_string();
            new = short.chars().take(NAME - suffix.len()).collect::<String>() + &suffix;
        }
        let was =
            format!("called `{}` in the source: names of .yxdb differ in more than case and have {NAME} characters", column.name);
        column.note = Some(column.note.take().map_or(was.clone(), |n| format!("{n}; {was}")));
        column.name = new;
    }
    Ok(mapping)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::documentation::{ensure_page, page};
    use arrow::datatypes::Field;

    #[test]
    fn the_docs_page_is_the_table() {
        ensure_page("types-yxdb.md", &page(".yxdb", "yxdb.rs", &YxdbTypes));
    }

    #[test]
    fn names_differ_in_more_than_case() {
        let long = "x".repeat(300);
        let fields: Vec<_> = ["a", "A", "a2", &long].iter().map(|n| Field::new(*n, DataType::Int32, true)).collect();
        let mapping = map("t", &Schema::new(fields), &Wishes::default()).unwrap();
        let names: Vec<_> = mapping.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["a", "A3", "a2", &long[..255]]);
    }
}
