//! The mapping table of Delta: the types of its protocol, stored in Parquet.
//!
//! Source of the types: the Delta transaction protocol, "Schema Serialization Format". Timestamps without a zone need the
//! table feature `timestampNtz` (reader 3, writer 7), which the target switches on where a column has one.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};

use super::csv::decoded;
use super::walk::{self, Row, TypeTable};
use super::{Conversion, Mapping, Wishes};
use crate::error::{Error, Kind, Result};

/// Characters that Spark takes in no column name of a table without column mapping.
const ODD: [char; 9] = [' ', ',', ';', '{', '}', '(', ')', '=', '\t'];

/// The table.
#[derive(Debug, Clone, Copy)]
pub struct DeltaTypes;

impl TypeTable for DeltaTypes {
    #[rustfmt::skip]
    fn row(&self, data_type: &DataType) -> Row {
        use DataType as A;
        let keep = |name: &str| Row::exact(name, data_type.clone(), Conversion::Keep);
        let cast = |name: &str, to: A| Row::exact(name, to, Conversion::Cast);
        let wider = |name: &str, to: A, why: &str| Row::widened(name, to, Conversion::Cast, why);
        match data_type {
            A::Null => Row::widened("string", A::Utf8, Conversion::Nulls, "has no type; every value is NULL"),
            A::Boolean => keep("boolean"),
            A::Int8 => keep("byte"),
            A::Int16 => keep("short"),
            A::Int32 => keep("integer"),
            A::Int64 => keep("long"),
            A::UInt8 => wider("short", A::Int16, "16 bits"),
            A::UInt16 => wider("integer", A::Int32, "32 bits"),
            A::UInt32 => wider("long", A::Int64, "64 bits"),
            A::UInt64 => wider("decimal(20,0)", A::Decimal128(20, 0), "20 digits"),
            A::Float16 => wider("float", A::Float32, "32 bits"),
            A::Float32 => keep("float"),
            A::Float64 => keep("double"),
            A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) | A::Decimal256(p, s) if *s < 0 => {
                let digits = p.saturating_add(s.unsigned_abs());
                if digits <= 38 {
                    wider(&format!("decimal({digits},0)"), A::Decimal128(digits, 0), "the scale is 0")
                } else {
                    Row::checked("decimal(38,0)", A::Decimal128(38, 0), "values of up to 38 digits")
                }
            }
            A::Decimal128(p, s) => keep(&format!("decimal({p},{s})")),
            A::Decimal256(p, s) if *p > 38 => {
                let scale = (*s).min(38);
                Row::checked(format!("decimal(38,{scale})"), A::Decimal128(38, scale), "values of up to 38 digits")
            }
            A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal256(p, s) => cast(&format!("decimal({p},{s})"), A::Decimal128(*p, *s)),
            A::Utf8 | A::LargeUtf8 | A::Utf8View => keep("string"),
            A::Binary | A::LargeBinary | A::BinaryView => keep("binary"),
            A::FixedSizeBinary(_) => cast("binary", A::Binary),
            A::Date32 => keep("date"),
            A::Date64 => Row::checked("date", A::Date32, "whole days"),
            A::Time32(_) | A::Time64(_) => wider("string", A::Utf8, "Delta has no time of day; as in 23:59:59.123456"),
            A::Timestamp(unit, zone) => {
                let (name, to) = stamp(zone.is_some());
                let row = match unit {
                    TimeUnit::Nanosecond => Row::checked(name, to, "whole microseconds"),
                    _ if to == *data_type => Row::exact(name, to, Conversion::Keep),
                    _ => Row::exact(name, to, Conversion::Cast),
                };
                if zone.is_some() { row } else { row.note("needs the table feature timestampNtz (reader 3, writer 7)") }
            }
            A::Duration(unit) => Row::widened("long", A::Int64, Conversion::Count, format!("a number of {unit:?}s").to_lowercase()),
            A::Interval(_) => Row::widened("string", A::Utf8, Conversion::Iso8601, "ISO 8601 text, such as P1Y2M or P3DT4.5S"),
            A::Dictionary(_, values) => decoded(self.row(values)),
            A::RunEndEncoded(_, values) => decoded(self.row(values.data_type())),
            A::Union(..) => Row::refused("Delta has no unions").note("set types.COLUMN = \"drop\""),
            nested => match storable(nested) {
                Some((name, to)) if to == *nested => keep(&name),
                Some((name, to)) => cast(&name, to),
                None => Row::refused("a type inside it has no place in Delta").note("set types.COLUMN = \"json\" or \"drop\""),
            },
        }
    }
}

fn stamp(zoned: bool) -> (&'static str, DataType) {
    let name = if zoned { "timestamp" } else { "timestamp_ntz" };
    (name, DataType::Timestamp(TimeUnit::Microsecond, zoned.then(|| "UTC".into())))
}

/// A type inside a nested one: its name and what Parquet holds, or `None` where a value could change on its way.
///
/// Values inside cannot be checked one by one, so only what casts without loss may stay. Lists and maps have their parts
/// called as Delta's own writers call them, and may hold NULL.
fn storable(data_type: &DataType) -> Option<(String, DataType)> {
    use DataType as A;
    let element = |field: &Field| {
        let (name, to) = storable(field.data_type())?;
        Some((format!("array<{name}>"), A::List(Arc::new(Field::new("element", to, true)))))
    };
    Some(match data_type {
        A::List(f) | A::LargeList(f) | A::ListView(f) | A::LargeListView(f) | A::FixedSizeList(f, _) => element(f)?,
        A::Struct(fields) if fields.is_empty() => return None,
        A::Struct(fields) => {
            let inner: Vec<(String, Field)> = fields
                .iter()
                .map(|f| storable(f.data_type()).map(|(name, to)| (name, Field::new(f.name(), to, true))))
                .collect::<Option<_>>()?;
            let names: Vec<_> = inner.iter().map(|(name, f)| format!("{}: {name}", f.name())).collect();
            let to: Fields = inner.into_iter().map(|(_, f)| f).collect();
            (format!("struct<{}>", names.join(", ")), A::Struct(to))
        }
        A::Map(entries, sorted) => {
            let A::Struct(pair) = entries.data_type() else { return None };
            let [key, value] = pair.as_ref() else { return None };
            let ((key_name, key), (value_name, value)) = (storable(key.data_type())?, storable(value.data_type())?);
            let pair = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
            let to = A::Map(Arc::new(Field::new("key_value", A::Struct(pair), false)), *sorted);
            (format!("map<{key_name}, {value_name}>"), to)
        }
        A::Dictionary(_, values) => storable(values)?,
        // Each of these counts, parses or may not fit.
        A::Null
        | A::Date64
        | A::Time32(_)
        | A::Time64(_)
        | A::Duration(_)
        | A::Interval(_)
        | A::Union(..)
        | A::RunEndEncoded(..)
        | A::Timestamp(TimeUnit::Nanosecond, _) => return None,
        A::Decimal256(p, _) if *p > 38 => return None,
        A::Decimal32(_, s) | A::Decimal64(_, s) | A::Decimal128(_, s) | A::Decimal256(_, s) if *s < 0 => return None,
        plain => {
            let row = DeltaTypes.row(plain);
            (row.target, row.physical)
        }
    })
}

/// Maps a whole schema; pure. What the table must be able to do becomes a fact of the mapping.
///
/// # Errors
/// As [`walk::map`], and `DuplicateColumn` for names that differ in case only.
pub fn map(table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
    let mut mapping = walk::map(table, schema, wishes, &DeltaTypes)?;
    let mut seen = BTreeMap::new();
    for column in &mut mapping.columns {
        if let Some(other) = seen.insert(column.name.to_lowercase(), column.name.clone()) {
            let message =
                format!("the columns `{other}` and `{}` have one name in a Delta table, which knows no case", column.name);
            return Err(Error::new(Kind::DuplicateColumn, message).at("column", &column.name));
        }
        if column.name.contains(ODD) && column.note.is_none() {
            column.note = Some("Spark is among the writers that take no column of this name; rename it in SQL for them".into());
        }
    }
    wishes.files.parquet.add_facts(&mut mapping.facts)?;
    let ntz = mapping.columns.iter().any(|c| holds_wall_clocks(&c.physical));
    mapping
        .facts
        .insert("protocol".into(), if ntz { "reader 3, writer 7 with timestampNtz" } else { "reader 1, writer 2" }.into());
    Ok(mapping)
}

/// Whether a type is, or holds, a timestamp without a zone.
#[must_use]
pub fn holds_wall_clocks(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, None) => true,
        DataType::Struct(fields) => fields.iter().any(|f| holds_wall_clocks(f.data_type())),
        DataType::List(f) | DataType::LargeList(f) | DataType::Map(f, _) => holds_wall_clocks(f.data_type()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::documentation::{ensure_page, page};

    #[test]
    fn the_docs_page_is_the_table() {
        // Readers of Markdown take what stands in angle brackets for a tag.
        ensure_page("types-delta.md", &page("a Delta table", "delta.rs", &DeltaTypes).replace('<', "&lt;"));
    }

    #[test]
    fn what_a_list_holds_is_widened_or_the_list_refused() {
        let list = |of: DataType| DataType::List(Arc::new(Field::new("item", of, false)));
        let row = DeltaTypes.row(&list(DataType::UInt8));
        assert_eq!((row.target.as_str(), row.conversion), ("array<short>", Conversion::Cast));
        assert_eq!(row.physical, DataType::List(Arc::new(Field::new("element", DataType::Int16, true))));
        let fine = DeltaTypes.row(&list(DataType::Timestamp(TimeUnit::Nanosecond, None)));
        assert!(matches!(fine.verdict, super::super::Verdict::Refused(_)), "{fine:?}");
    }

    #[test]
    fn names_that_differ_in_case_only_are_one_name() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int32, true), Field::new("A", DataType::Int32, true)]);
        let error = map("t", &schema, &Wishes::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::DuplicateColumn);
        assert!(error.to_string().contains("`a` and `A`"), "{error}");
    }
}
