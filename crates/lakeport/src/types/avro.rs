//! The mapping table of Avro object container files.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, Schema, TimeUnit};

use super::csv::decoded;
use super::walk::{self, Row, TypeTable};
use super::{Conversion, Mapping, Wishes};
use crate::error::Result;

/// The table.
#[derive(Debug, Clone, Copy)]
pub struct AvroTypes;

impl TypeTable for AvroTypes {
    #[rustfmt::skip]
    fn row(&self, data_type: &DataType) -> Row {
        use DataType as A;
        let keep = |name: &str| Row::exact(name, data_type.clone(), Conversion::Keep);
        match data_type {
            A::Null => Row::widened("string", A::Utf8, Conversion::Nulls, "has no type; every value is null"),
            A::Boolean => keep("boolean"),
            A::Int8 | A::Int16 | A::UInt8 | A::UInt16 => Row::widened("int", A::Int32, Conversion::Cast, "32 bits"),
            A::Int32 => keep("int"),
            A::UInt32 => Row::widened("long", A::Int64, Conversion::Cast, "64 bits"),
            A::Int64 => keep("long"),
            A::UInt64 => Row::widened("decimal(20,0)", A::Decimal128(20, 0), Conversion::Cast, "20 digits"),
            A::Float16 => Row::widened("float", A::Float32, Conversion::Cast, "32 bits"),
            A::Float32 => keep("float"),
            A::Float64 => keep("double"),
            A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) if *s >= 0 => Row::exact(format!("decimal({p},{s})"), A::Decimal128(*p, *s), if matches!(data_type, A::Decimal128(..)) { Conversion::Keep } else { Conversion::Cast }),
            A::Decimal256(p, s) if *s >= 0 && *p > 38 => Row::checked(format!("decimal(38,{s})"), A::Decimal128(38, (*s).min(38)), "values of up to 38 digits"),
            A::Decimal256(p, s) if *s >= 0 => Row::exact(format!("decimal({p},{s})"), A::Decimal128(*p, *s), Conversion::Cast),
            A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) | A::Decimal256(p, s) => {
                let digits = p.saturating_add(s.unsigned_abs()).min(38);
                Row::widened(format!("decimal({digits},0)"), A::Decimal128(digits, 0), Conversion::Cast, "the scale is 0")
            }
            A::Utf8 => keep("string"),
            A::LargeUtf8 | A::Utf8View => Row::exact("string", A::Utf8, Conversion::Cast),
            A::Binary => keep("bytes"),
            A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => Row::exact("bytes", A::Binary, Conversion::Cast),
            A::Date32 => keep("date"),
            A::Date64 => Row::checked("date", A::Date32, "whole days"),
            A::Time32(TimeUnit::Millisecond) => keep("time-millis"),
            A::Time32(_) => Row::exact("time-millis", A::Time32(TimeUnit::Millisecond), Conversion::Cast),
            A::Time64(TimeUnit::Microsecond) => keep("time-micros"),
            A::Time64(_) => Row::checked("time-micros", A::Time64(TimeUnit::Microsecond), "whole microseconds"),
            A::Timestamp(unit, zone) => {
                let name = if zone.is_some() { "timestamp-micros" } else { "local-timestamp-micros" };
                // The Avro reader gives instants in UTC; the instant is what Avro holds.
                let to = A::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| "+00:00".into()));
                match unit {
                    TimeUnit::Nanosecond => Row::checked(name, to, "whole microseconds"),
                    _ if to == *data_type => Row::exact(name, to, Conversion::Keep),
                    _ => Row::exact(name, to, Conversion::Cast),
                }
            }
            A::Duration(_) => Row::widened("long", A::Int64, Conversion::Cast, "a whole number of its unit"),
            A::Interval(_) => Row::widened("string", A::Utf8, Conversion::Iso8601, "ISO 8601 text, such as P1Y2M or P3DT4.5S"),
            A::Dictionary(_, values) => decoded(self.row(values)),
            A::RunEndEncoded(_, values) => decoded(self.row(values.data_type())),
            A::Union(..) => Row::refused("a union has no one type").note("set types.COLUMN = \"drop\""),
            A::Struct(_) => Row::refused("nested columns are not written to Avro yet").note("set types.COLUMN = \"flatten\", \"json\" or \"drop\""),
            _ => Row::refused("nested columns are not written to Avro yet").note("set types.COLUMN = \"json\" or \"drop\""),
        }
    }
}

/// Maps a whole schema; pure. Avro's names are letters, digits and `_`: others are changed, the same way each time, and the
/// change is noted.
///
/// # Errors
/// As [`walk::map`].
pub fn map(table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
    let mut mapping = walk::map(table, schema, wishes, &AvroTypes)?;
    let mut taken: BTreeSet<String> = mapping.columns.iter().map(|c| c.name.clone()).filter(|n| name(n) == *n).collect();
    for column in &mut mapping.columns {
        let mut new = name(&column.name);
        if new == column.name {
            continue;
        }
        let base = new.clone();
        for number in 2.. {
            if taken.insert(new.clone()) {
                break;
            }
            new = format!("{base}_{number}");
        }
        let was = format!("called `{}` in the source: Avro names are letters, digits and _", column.name);
        column.note = Some(column.note.take().map_or(was.clone(), |n| format!("{n}; {was}")));
        column.name = new;
    }
    mapping.facts.insert("codec".into(), wishes.files.avro.codec().into());
    Ok(mapping)
}

/// A name with everything that Avro does not allow as `_`.
fn name(text: &str) -> String {
    let mut name: String = text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::documentation::{ensure_page, page};
    use arrow::datatypes::Field;

    #[test]
    fn the_docs_page_is_the_table() {
        ensure_page("types-avro.md", &page(".avro", "avro.rs", &AvroTypes));
    }

    #[test]
    fn names_are_made_fit_without_collision() {
        let fields: Vec<_> = ["a b", "a_b", "1x", "ok"].iter().map(|n| Field::new(*n, DataType::Int32, true)).collect();
        let mapping = map("t", &Schema::new(fields), &Wishes::default()).unwrap();
        let names: Vec<_> = mapping.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["a_b_2", "a_b", "_1x", "ok"]);
        assert!(mapping.columns[0].note.as_deref().unwrap().contains("`a b`"));
    }
}
