//! The mapping table of Parquet: what Arrow's own writer keeps, and what is brought into a type that every reader knows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};

use super::csv::decoded;
use super::walk::{self, Row, TypeTable};
use super::{Conversion, Mapping, Wishes};
use crate::error::Result;

/// The table, for a kind of reader.
#[derive(Debug, Clone, Copy)]
pub struct ParquetTypes {
    /// Whether nested columns are refused (`profile = "alteryx"`).
    pub flat: bool,
}

impl TypeTable for ParquetTypes {
    #[rustfmt::skip]
    fn row(&self, data_type: &DataType) -> Row {
        use DataType as A;
        let keep = |name: &str| Row::exact(name, data_type.clone(), Conversion::Keep);
        let cast = |name: &str, to: A| Row::exact(name, to, Conversion::Cast);
        match data_type {
            A::Null => keep("NULL"),
            A::Boolean => keep("BOOLEAN"),
            A::Int8 | A::Int16 | A::Int32 | A::Int64 | A::UInt8 | A::UInt16 | A::UInt32 | A::UInt64 => keep(&data_type.to_string().to_ascii_uppercase()),
            A::Float16 => Row::widened("FLOAT", A::Float32, Conversion::Cast, "32 bits; few readers know FLOAT16"),
            A::Float32 => keep("FLOAT"),
            A::Float64 => keep("DOUBLE"),
            A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) | A::Decimal256(p, s) if *s < 0 => {
                let digits = p.saturating_add(s.unsigned_abs());
                let to = if digits <= 38 { A::Decimal128(digits, 0) } else { A::Decimal256(digits.min(76), 0) };
                Row::widened(format!("DECIMAL({digits},0)"), to, Conversion::Cast, "the scale is 0")
            }
            A::Decimal32(p, s) | A::Decimal64(p, s) => cast(&format!("DECIMAL({p},{s})"), A::Decimal128(*p, *s)),
            A::Decimal128(p, s) | A::Decimal256(p, s) => keep(&format!("DECIMAL({p},{s})")),
            A::Utf8 | A::LargeUtf8 | A::Utf8View => keep("STRING"),
            A::Binary | A::LargeBinary | A::BinaryView => keep("BINARY"),
            A::FixedSizeBinary(n) => keep(&format!("FIXED({n})")),
            A::Date32 => keep("DATE"),
            A::Date64 => Row::checked("DATE", A::Date32, "whole days"),
            // Parquet counts no seconds.
            A::Time32(_) => cast("TIME(MILLIS)", A::Time32(TimeUnit::Millisecond)),
            A::Time64(TimeUnit::Nanosecond) => keep("TIME(NANOS)"),
            A::Time64(_) => keep("TIME(MICROS)"),
            A::Timestamp(TimeUnit::Second, zone) => cast(stamp(zone.is_some(), TimeUnit::Millisecond), A::Timestamp(TimeUnit::Millisecond, zone.clone())),
            A::Timestamp(unit, zone) => keep(stamp(zone.is_some(), *unit)),
            A::Duration(unit) => Row::widened("INT64", A::Int64, Conversion::Cast, format!("a number of {unit:?}s").to_lowercase()),
            A::Interval(_) => Row::widened("STRING", A::Utf8, Conversion::Iso8601, "ISO 8601 text, such as P1Y2M or P3DT4.5S"),
            A::Dictionary(_, values) => decoded(self.row(values)),
            A::RunEndEncoded(_, values) => decoded(self.row(values.data_type())),
            A::Union(..) => Row::refused("Parquet has no unions").note("set types.COLUMN = \"drop\""),
            _ if self.flat => Row::refused("Designer reads no nested columns").note("set types.COLUMN = \"json\", \"flatten\" or \"drop\""),
            nested => match storable(nested) {
                None => Row::refused("a type inside it has no place in Parquet").note("set types.COLUMN = \"json\" or \"drop\""),
                Some(to) if to == *nested => keep(kind(nested)),
                Some(to) => cast(kind(nested), to),
            },
        }
    }
    fn json(&self) -> Row {
        Row::widened("STRING", DataType::Utf8, Conversion::Json, "JSON text")
    }
}

fn kind(nested: &DataType) -> &'static str {
    match nested {
        DataType::Struct(_) => "STRUCT",
        DataType::Map(..) => "MAP",
        _ => "LIST",
    }
}

fn stamp(zoned: bool, unit: TimeUnit) -> &'static str {
    match (zoned, unit) {
        (true, TimeUnit::Nanosecond) => "TIMESTAMP(NANOS,UTC)",
        (true, TimeUnit::Microsecond) => "TIMESTAMP(MICROS,UTC)",
        (true, _) => "TIMESTAMP(MILLIS,UTC)",
        (false, TimeUnit::Nanosecond) => "TIMESTAMP(NANOS)",
        (false, TimeUnit::Microsecond) => "TIMESTAMP(MICROS)",
        (false, _) => "TIMESTAMP(MILLIS)",
    }
}

/// A nested type with everything inside it as Parquet stores it; `None` where something has no place.
fn storable(data_type: &DataType) -> Option<DataType> {
    use DataType as A;
    let inner = |f: &Arc<Field>| storable(f.data_type()).map(|t| Arc::new(f.as_ref().clone().with_data_type(t)));
    Some(match data_type {
        A::List(f) | A::ListView(f) => A::List(inner(f)?),
        A::LargeList(f) | A::LargeListView(f) => A::LargeList(inner(f)?),
        A::FixedSizeList(f, n) => A::FixedSizeList(inner(f)?, *n),
        A::Map(f, sorted) => A::Map(inner(f)?, *sorted),
        A::Struct(fields) => A::Struct(fields.iter().map(inner).collect::<Option<Fields>>()?),
        // Values inside cannot be checked one by one, so only what is kept as it is may stay.
        A::Union(..) | A::Interval(_) | A::Date64 | A::Duration(_) | A::RunEndEncoded(..) | A::Float16 => return None,
        A::Dictionary(_, values) => storable(values)?,
        A::Time32(_) => A::Time32(TimeUnit::Millisecond),
        A::Timestamp(TimeUnit::Second, zone) => A::Timestamp(TimeUnit::Millisecond, zone.clone()),
        other => other.clone(),
    })
}

/// Maps a whole schema; pure. Compression and profile become facts of the mapping.
///
/// # Errors
/// As [`walk::map`].
pub fn map(table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
    let options = &wishes.files.parquet;
    let mut mapping = walk::map(table, schema, wishes, &ParquetTypes { flat: options.is_flat() })?;
    options.add_facts(&mut mapping.facts)?;
    Ok(mapping)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::documentation::{ensure_page, page};

    #[test]
    fn the_docs_page_is_the_table() {
        ensure_page("types-parquet.md", &page(".parquet", "parquet.rs", &ParquetTypes { flat: false }));
    }
}
