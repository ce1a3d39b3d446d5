//! The mapping table of ORC: what the Rust writer (orc-rust 0.9) has encoders for.

use arrow::datatypes::{DataType, Schema, TimeUnit};

use super::csv::decoded;
use super::walk::{self, Row, TypeTable};
use super::{Conversion, Mapping, Wishes};
use crate::error::Result;

/// 1677-09-21 to 2262-04-11 in whole seconds, in microseconds: the writer counts nanoseconds in 64 bits.
const MICROS: (i64, i64) = (-9_223_372_036_000_000, 9_223_372_036_000_000);

/// The table.
#[derive(Debug, Clone, Copy)]
pub struct OrcTypes;

impl TypeTable for OrcTypes {
    #[rustfmt::skip]
    fn row(&self, data_type: &DataType) -> Row {
        use DataType as A;
        let keep = |name: &str| Row::exact(name, data_type.clone(), Conversion::Keep);
        match data_type {
            A::Null => Row::widened("string", A::Utf8, Conversion::Nulls, "has no type; every value is NULL"),
            A::Boolean => keep("boolean"),
            A::Int8 => keep("tinyint"),
            A::Int16 => keep("smallint"),
            A::Int32 => keep("int"),
            A::Int64 => keep("bigint"),
            A::UInt8 => Row::widened("smallint", A::Int16, Conversion::Cast, "16 bits"),
            A::UInt16 => Row::widened("int", A::Int32, Conversion::Cast, "32 bits"),
            A::UInt32 => Row::widened("bigint", A::Int64, Conversion::Cast, "64 bits"),
            A::UInt64 => Row::checked("bigint", A::Int64, "values up to 9223372036854775807"),
            A::Float16 => Row::widened("float", A::Float32, Conversion::Cast, "32 bits"),
            A::Float32 => keep("float"),
            A::Float64 => keep("double"),
            _ if data_type.is_decimal() => Row::widened("string", A::Utf8, Conversion::Cast, "text with all digits: the writer has no decimals"),
            A::Utf8 => keep("string"),
            A::LargeUtf8 | A::Utf8View => Row::exact("string", A::Utf8, Conversion::Cast),
            A::Binary => keep("binary"),
            A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => Row::exact("binary", A::Binary, Conversion::Cast),
            A::Date32 => keep("date"),
            A::Date64 => Row::checked("date", A::Date32, "whole days"),
            A::Time32(_) | A::Time64(_) => Row::widened("string", A::Utf8, Conversion::Cast, "as in 23:59:59.123456"),
            A::Timestamp(unit, zone) => {
                let name = if zone.is_some() { "timestamp with local time zone" } else { "timestamp" };
                let to = A::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| "UTC".into()));
                let row = match unit {
                    TimeUnit::Nanosecond => Row::checked(name, to, "whole microseconds"),
                    _ if to == *data_type => Row::exact(name, to, Conversion::Keep),
                    _ => Row::exact(name, to, Conversion::Cast),
                };
                row.range(MICROS).note("1677-09-21 to 2262-04-11; before 1970 whole seconds only, which is what the writer encodes")
            }
            A::Duration(_) => Row::widened("bigint", A::Int64, Conversion::Cast, "a whole number of its unit"),
            A::Interval(_) => Row::widened("string", A::Utf8, Conversion::Iso8601, "ISO 8601 text, such as P1Y2M or P3DT4.5S"),
            A::Dictionary(_, values) => decoded(self.row(values)),
            A::RunEndEncoded(_, values) => decoded(self.row(values.data_type())),
            A::Union(..) => Row::refused("a union has no one type").note("set types.COLUMN = \"drop\""),
            A::Struct(_) => Row::refused("the writer has no nested columns").note("set types.COLUMN = \"flatten\", \"json\" or \"drop\""),
            _ => Row::refused("the writer has no nested columns").note("set types.COLUMN = \"json\" or \"drop\""),
        }
    }
}

/// Maps a whole schema; pure.
///
/// # Errors
/// As [`walk::map`].
pub fn map(table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
    walk::map(table, schema, wishes, &OrcTypes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::documentation::{ensure_page, page};

    #[test]
    fn the_docs_page_is_the_table() {
        ensure_page("types-orc.md", &page(".orc", "orc.rs", &OrcTypes));
    }
}
