//! The mapping table of NDJSON: one object a line, nested values as they are.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};

use super::csv::decoded;
use super::walk::{self, Row, TypeTable};
use super::{Conversion, Mapping, Wishes};
use crate::error::Result;

/// The table.
#[derive(Debug, Clone, Copy)]
pub struct NdjsonTypes;

impl TypeTable for NdjsonTypes {
    #[rustfmt::skip]
    fn row(&self, data_type: &DataType) -> Row {
        use DataType as A;
        let number = |to: A, conversion| Row::exact("number", to, conversion);
        let string = |to: A, conversion, why: &str| Row::widened("string", to, conversion, why);
        match data_type {
            A::Null => Row::widened("null", A::Utf8, Conversion::Nulls, "has no type; every value is null"),
            A::Boolean => Row::exact("boolean", A::Boolean, Conversion::Keep),
            A::Int64 | A::UInt64 => number(data_type.clone(), Conversion::Keep).note("all digits; readers that take numbers for doubles lose those past 2^53"),
            _ if data_type.is_integer() => number(data_type.clone(), Conversion::Keep),
            A::Float16 => number(A::Float32, Conversion::Cast).note("NaN and infinities are strings, as Spark writes them"),
            A::Float32 | A::Float64 => number(data_type.clone(), Conversion::Keep).note("NaN and infinities are strings, as Spark writes them"),
            A::Decimal32(p, s) | A::Decimal64(p, s) => number(A::Decimal128(*p, *s), Conversion::Cast).note("all digits"),
            A::Decimal128(..) | A::Decimal256(..) => number(data_type.clone(), Conversion::Keep).note("all digits"),
            A::Utf8 => Row::exact("string", A::Utf8, Conversion::Keep),
            A::LargeUtf8 | A::Utf8View => Row::exact("string", A::Utf8, Conversion::Cast),
            A::Date32 => string(A::Date32, Conversion::Keep, "as in 2024-01-31"),
            A::Date64 => Row::checked("string", A::Date32, "whole days"),
            A::Time32(_) | A::Time64(_) => string(data_type.clone(), Conversion::Keep, "as in 23:59:59.123456"),
            A::Timestamp(_, None) => string(data_type.clone(), Conversion::Keep, "as in 2024-01-31T23:59:59.123456"),
            A::Timestamp(unit, Some(_)) => string(A::Timestamp(*unit, Some("UTC".into())), Conversion::Cast, "the instant in UTC, as in 2024-01-31T23:59:59.123456Z"),
            A::Duration(_) => Row::widened("number", A::Int64, Conversion::Cast, "a whole number of its unit"),
            A::Interval(_) => string(A::Utf8, Conversion::Iso8601, "ISO 8601, such as P1Y2M or P3DT4.5S"),
            A::Binary | A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => string(A::Utf8, Conversion::Hex, "two hexadecimal digits a byte"),
            A::Dictionary(_, values) => decoded(self.row(values)),
            A::RunEndEncoded(_, values) => decoded(self.row(values.data_type())),
            A::Union(..) => Row::refused("a union has no one type").note("set types.COLUMN = \"drop\""),
            A::Map(entries, _) if !text_keys(entries) => Row::refused("the keys of a JSON object are strings").note("set types.COLUMN = \"drop\", or cast the keys in SQL"),
            A::Map(..) | A::Struct(_) => Row::exact("object", data_type.clone(), Conversion::Keep),
            _ => Row::exact("array", data_type.clone(), Conversion::Keep),
        }
    }
    fn json(&self) -> Row {
        Row::widened("string", DataType::Utf8, Conversion::Json, "JSON text in a string")
    }
}

fn text_keys(entries: &Arc<Field>) -> bool {
    match entries.data_type() {
        DataType::Struct(fields) => {
            matches!(fields[0].data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        }
        _ => false,
    }
}

/// Maps a whole schema; pure.
///
/// # Errors
/// As [`walk::map`].
pub fn map(table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
    let mut mapping = walk::map(table, schema, wishes, &NdjsonTypes)?;
    let options = &wishes.files.ndjson;
    wishes.files.add_compression(options.compression, options.compression_level, &mut mapping.facts)?;
    Ok(mapping)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::documentation::{ensure_page, page};

    #[test]
    fn the_docs_page_is_the_table() {
        ensure_page("types-ndjson.md", &page(".ndjson", "ndjson.rs", &NdjsonTypes));
    }
}
