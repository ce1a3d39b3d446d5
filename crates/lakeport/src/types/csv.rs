//! The mapping table of CSV: everything is text, and every value can be read back from it.

use arrow::datatypes::{DataType, Schema};

use super::walk::{self, Row, TypeTable};
use super::{Conversion, Mapping, Wishes};
use crate::error::Result;

/// The table.
#[derive(Debug, Clone, Copy)]
pub struct CsvTypes;

impl TypeTable for CsvTypes {
    #[rustfmt::skip]
    fn row(&self, data_type: &DataType) -> Row {
        use DataType as A;
        let text = |conversion, why: &str| Row::widened("text", A::Utf8, conversion, why);
        match data_type {
            A::Utf8 => Row::exact("text", A::Utf8, Conversion::Keep),
            A::LargeUtf8 | A::Utf8View => Row::exact("text", A::Utf8, Conversion::Cast),
            A::Null => text(Conversion::Nulls, "has no type; every value is NULL"),
            A::Boolean => text(Conversion::Cast, "true or false"),
            A::Float16 | A::Float32 | A::Float64 => text(Conversion::Cast, "the shortest digits that read back the same; NaN, inf and -inf"),
            _ if data_type.is_numeric() => text(Conversion::Cast, "all digits"),
            A::Date32 => text(Conversion::Cast, "as in 2024-01-31"),
            A::Date64 => text(Conversion::Cast, "as in 2024-01-31T00:00:00"),
            A::Time32(_) | A::Time64(_) => text(Conversion::Cast, "as in 23:59:59.123456"),
            A::Timestamp(_, None) => text(Conversion::Cast, "as in 2024-01-31T23:59:59.123456"),
            A::Timestamp(_, Some(_)) => text(Conversion::Cast, "the instant in UTC, as in 2024-01-31T23:59:59.123456Z"),
            A::Duration(_) => text(Conversion::Count, "a whole number of its unit"),
            A::Interval(_) => text(Conversion::Iso8601, "ISO 8601, such as P1Y2M or P3DT4.5S"),
            A::Binary | A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => text(Conversion::Hex, "two hexadecimal digits a byte"),
            A::Dictionary(_, values) => decoded(self.row(values)),
            A::RunEndEncoded(_, values) => decoded(self.row(values.data_type())),
            A::Struct(_) => Row::refused("CSV holds no nested columns").note("set types.COLUMN = \"flatten\", \"json\" or \"drop\""),
            A::Union(..) => Row::refused("a union has no one type").note("set types.COLUMN = \"drop\""),
            _ => Row::refused("CSV holds no nested columns").note("set types.COLUMN = \"json\" or \"drop\""),
        }
    }
    fn wished(&self, from: &DataType, wish: &str) -> Option<Row> {
        matches!(wish, "text" | "string" | "varchar").then(|| self.row(from))
    }
    fn names(&self) -> &'static str {
        "text"
    }
    fn json(&self) -> Row {
        Row::widened("text", DataType::Utf8, Conversion::Json, "JSON text")
    }
}

/// An encoding's values, decoded first.
pub(super) fn decoded(row: Row) -> Row {
    match row.conversion {
        Conversion::Keep => Row { conversion: Conversion::Cast, ..row },
        _ => row,
    }
}

/// Maps a whole schema; pure. The dialect becomes facts of the mapping.
///
/// # Errors
/// As [`walk::map`].
pub fn map(table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
    let mut mapping = walk::map(table, schema, wishes, &CsvTypes)?;
    let options = &wishes.files.csv;
    options.ensure_readable()?;
    options.add_facts(&mut mapping.facts);
    wishes.files.add_compression(options.compression, options.compression_level, &mut mapping.facts)?;
    Ok(mapping)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::documentation::{ensure_page, page};

    #[test]
    fn the_docs_page_is_the_table() {
        ensure_page("types-csv.md", &page(".csv", "csv.rs", &CsvTypes));
    }
}
