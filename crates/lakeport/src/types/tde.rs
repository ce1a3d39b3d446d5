//! The mapping table of Tableau's old extract, `.tde`: what each Arrow type becomes.
//!
//! Source of the limits: files that Tableau's own reader (`tableauhyperapi` 0.0.19691) reads back. The least whole number of each
//! size means NULL, so each size takes the next smaller integers; instants have tenths of milliseconds and no zone.

use arrow::datatypes::{DataType, Schema, TimeUnit};

use super::csv::decoded;
use super::walk::{self, Row, TypeTable};
use super::{Conversion, Mapping, Verdict, Wishes, named};
use crate::error::Result;

/// What a plan and a run say of every file.
pub const LEGACY: &str =
    "no current Tableau opens a .tde: Desktop and Server did until 2022.4, Cloud and Public do not; prefer .hyper";

/// 0001-01-01 and 9999-12-31 in days since 1970.
const DAYS: (i64, i64) = (-719_162, 2_932_896);
const DAY: i64 = 86_400_000;
/// The same span in milliseconds.
const MILLIS: (i64, i64) = (DAYS.0 * DAY, (DAYS.1 + 1) * DAY - 1);
const SPAN: &str = "0001-01-01 to 9999-12-31, without the ten days after 1582-10-04";
const BIG: (i64, i64) = (i64::MIN + 1, i64::MAX);
const LEAST: &str = "the least number means NULL";
const TEXT: &str = "clob(2)";

/// The table.
#[derive(Debug, Clone, Copy)]
pub struct TdeTypes;

impl TypeTable for TdeTypes {
    #[rustfmt::skip]
    fn row(&self, data_type: &DataType) -> Row {
        use DataType as A;
        let keep = |name: &str| Row::exact(name, data_type.clone(), Conversion::Keep);
        let text = |conversion, why: &str| Row::widened(TEXT, A::Utf8, conversion, why);
        let wider = |name: &str, to| Row::widened(name, to, Conversion::Cast, "the next size, because the least number of each means NULL");
        match data_type {
            A::Null => text(Conversion::Nulls, "has no type; every value is NULL"),
            A::Boolean => keep("bit"),
            A::Int8 | A::UInt8 => wider("short", A::Int16),
            A::Int16 | A::UInt16 => wider("long", A::Int32),
            A::Int32 | A::UInt32 => wider("bigint", A::Int64),
            A::Int64 => keep("bigint").range(BIG).note(LEAST),
            A::UInt64 => Row::checked("bigint", A::Int64, "values up to 9223372036854775807").note("set types.COLUMN = \"text\" to keep larger ones"),
            A::Float16 => Row::widened("float", A::Float32, Conversion::Cast, "32 bits"),
            A::Float32 => keep("float"),
            A::Float64 => keep("double"),
            A::Decimal32(p, 0) | A::Decimal64(p, 0) | A::Decimal128(p, 0) | A::Decimal256(p, 0) if *p <= 18 => Row::widened("bigint", A::Int64, Conversion::Cast, "a whole number"),
            A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) | A::Decimal256(p, s) if *p <= 15 && *s >= 0 => Row::widened("double", A::Float64, Conversion::Cast, "binary floating point, which keeps 15 digits"),
            _ if data_type.is_decimal() => Row::checked("double", A::Float64, "values that binary floating point gives back").note("set types.COLUMN = \"text\" to keep all digits"),
            A::Utf8 => keep(TEXT),
            A::LargeUtf8 | A::Utf8View => Row::exact(TEXT, A::Utf8, Conversion::Cast),
            A::Binary | A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => text(Conversion::Hex, "two hexadecimal digits a byte"),
            A::Date32 => keep("date").range(DAYS).note(SPAN),
            A::Date64 => Row::checked("date", A::Date32, "whole days").range(DAYS).note(SPAN),
            A::Time32(_) | A::Time64(_) => text(Conversion::Cast, "as in 23:59:59.123456: there is no time of day"),
            A::Timestamp(unit, zone) => {
                // The zone stays in the physical type, so that an instant is written as the wall clock of UTC.
                let to = A::Timestamp(TimeUnit::Millisecond, zone.as_ref().map(|_| "UTC".into()));
                let row = match (unit, zone) {
                    (TimeUnit::Second | TimeUnit::Millisecond, None) => Row::exact("datetime", to, Conversion::Cast),
                    (TimeUnit::Second | TimeUnit::Millisecond, Some(_)) => Row::widened("datetime", to, Conversion::Cast, "the wall clock of UTC; datetime has no zone"),
                    (_, None) => Row::checked("datetime", to, "whole milliseconds"),
                    (_, Some(_)) => Row::checked("datetime", to, "whole milliseconds, as the wall clock of UTC"),
                };
                row.range(MILLIS).note(format!("{SPAN}; set types.COLUMN = \"text\" to keep what is finer"))
            }
            A::Duration(_) => Row::widened("bigint", A::Int64, Conversion::Count, "a whole number of its unit").range(BIG),
            A::Interval(_) => text(Conversion::Iso8601, "ISO 8601, such as P1Y2M or P3DT4.5S"),
            A::Dictionary(_, values) => decoded(self.row(values)),
            A::RunEndEncoded(_, values) => decoded(self.row(values.data_type())),
            A::Union(..) => Row::refused("a union has no one type").note("set types.COLUMN = \"drop\""),
            A::Struct(_) => Row::refused("an extract has no nested columns").note("set types.COLUMN = \"flatten\", \"json\" or \"drop\""),
            _ => Row::refused("an extract has no nested columns").note("set types.COLUMN = \"json\" or \"drop\""),
        }
    }

    fn wished(&self, from: &DataType, wish: &str) -> Option<Row> {
        let checked = |name: &str, to: DataType, greatest: i64| {
            if from.is_integer() {
                Row::checked(name, to, "values that fit").range((-greatest, greatest)).note(LEAST)
            } else {
                Row::refused(format!("{from} is no integer; convert it in SQL"))
            }
        };
        let to = match wish {
            "tiny" => return Some(checked("tiny", DataType::Int8, i8::MAX.into())),
            "short" => return Some(checked("short", DataType::Int16, i16::MAX.into())),
            "long" => return Some(checked("long", DataType::Int32, i32::MAX.into())),
            "bit" => DataType::Boolean,
            "clob" => DataType::Utf8,
            "datetime" => DataType::Timestamp(TimeUnit::Millisecond, None),
            other => named::parse(other)?,
        };
        // Texts have their own words for what is no text.
        let natural = super::csv::CsvTypes.row(from);
        if to == DataType::Utf8 && !matches!(natural.verdict, Verdict::Refused(_)) {
            return Some(Row { target: TEXT.into(), ..natural });
        }
        Some(named::wished(self, from, &to))
    }
    fn names(&self) -> &'static str {
        "bit, tiny, short, long, bigint, float, double, text, date and datetime"
    }
    fn json(&self) -> Row {
        Row::widened(TEXT, DataType::Utf8, Conversion::Json, "JSON text")
    }
}

/// Maps a whole schema; pure. In a column without NULLs, every number is a number.
///
/// # Errors
/// As [`walk::map`].
pub fn map(table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
    let mut mapping = walk::map(table, schema, wishes, &TdeTypes)?;
    for column in &mut mapping.columns {
        if !column.nullable && column.range == Some(BIG) {
            (column.range, column.note) = (None, None);
        }
    }
    mapping.facts.insert("legacy".into(), LEGACY.into());
    Ok(mapping)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::documentation::{ensure_page, page};
    use arrow::datatypes::Field;

    #[test]
    fn the_docs_page_is_the_table() {
        ensure_page("types-tde.md", &page(".tde", "tde.rs", &TdeTypes));
    }

    #[test]
    fn without_nulls_every_number_is_one() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Int64, false)]);
        let mapping = map("t", &schema, &Wishes::default()).unwrap();
        assert_eq!(mapping.columns.iter().map(|c| c.range).collect::<Vec<_>>(), [Some(BIG), None]);
    }
}
