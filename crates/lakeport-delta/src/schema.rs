//! The columns of a table: from Arrow, and compared with those that are there.

use arrow::datatypes::{DataType as ArrowType, Field, Schema};
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{DataType, StructType};
use lakeport::error::{Error, Kind, Result, Wrap};
use lakeport::types::Mapping;

/// The Delta schema of Arrow columns.
pub(crate) fn of_arrow(schema: &Schema) -> Result<StructType> {
    schema.try_into_kernel().wrap(Kind::TypeRefused, || "the columns are none of a Delta table".into())
}

/// The Delta schema that rows of a mapping will have.
pub(crate) fn of_mapping(mapping: &Mapping) -> Result<StructType> {
    let fields: Vec<_> = mapping.columns.iter().map(|c| Field::new(&c.name, plain(&c.physical), c.nullable)).collect();
    of_arrow(&Schema::new(fields))
}

/// The type that Parquet tells of a column: offsets of 32 or 64 bits and views are one text there.
fn plain(data_type: &ArrowType) -> ArrowType {
    match data_type {
        ArrowType::LargeUtf8 | ArrowType::Utf8View => ArrowType::Utf8,
        ArrowType::LargeBinary | ArrowType::BinaryView => ArrowType::Binary,
        other => other.clone(),
    }
}

/// Whether two schemas are the same to a reader: names, types, NULLs, order.
pub(crate) fn equal(there: &StructType, ours: &StructType) -> bool {
    let of =
        |s: &StructType| -> Vec<_> { s.fields().map(|f| (f.name().clone(), f.data_type().clone(), f.is_nullable())).collect() };
    of(there) == of(ours)
}

/// Refuses rows whose columns are not those of the table; their order does not matter, since files are read by name.
///
/// Returns the columns of the table that take no NULL while ours may hold some: only the rows themselves can tell.
pub(crate) fn ensure_fits(there: &StructType, ours: &StructType) -> Result<Vec<String>> {
    let mut differs = Vec::new();
    let mut watched = Vec::new();
    for field in there.fields() {
        let name = field.name();
        let Some(own) = ours.field(name) else {
            let alike = ours.fields().find(|f| f.name().eq_ignore_ascii_case(name));
            differs.push(match alike {
                Some(other) => format!("`{name}` is called `{}` in the rows", other.name()),
                None => format!("`{name}` ({}) is missing in the rows", field.data_type()),
            });
            continue;
        };
        if !fits(field.data_type(), own.data_type()) {
            differs.push(format!("`{name}` is {} in the table and {} in the rows", field.data_type(), own.data_type()));
        } else if !field.is_nullable() && own.is_nullable() {
            watched.push(name.clone());
        }
    }
    for own in ours.fields() {
        if !there.fields().any(|f| f.name().eq_ignore_ascii_case(own.name())) {
            differs.push(format!("`{}` ({}) is not in the table", own.name(), own.data_type()));
        }
    }
    if differs.is_empty() {
        return Ok(watched);
    }
    let help =
        "cast or rename in --sql, choose types with --types COLUMN=…, or replace the table and its columns with --mode full";
    Err(Error::new(Kind::SchemaConflict, "the rows do not have the table's columns").because(differs.join("; ")).help(help))
}

/// Whether values of one type may stand where the table has another: the same, and inside no NULL where the table has none.
fn fits(there: &DataType, ours: &DataType) -> bool {
    match (there, ours) {
        (DataType::Array(a), DataType::Array(b)) => {
            (a.contains_null() || !b.contains_null()) && fits(a.element_type(), b.element_type())
        }
        (DataType::Map(a), DataType::Map(b)) => {
            (a.value_contains_null() || !b.value_contains_null())
                && fits(a.key_type(), b.key_type())
                && fits(a.value_type(), b.value_type())
        }
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.fields().count() == b.fields().count()
                && a.fields().all(|x| {
                    b.field(x.name()).is_some_and(|y| (x.is_nullable() || !y.is_nullable()) && fits(x.data_type(), y.data_type()))
                })
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, ArrowType, bool)]) -> StructType {
        let fields: Vec<_> = fields.iter().map(|(n, t, null)| Field::new(*n, t.clone(), *null)).collect();
        of_arrow(&Schema::new(fields)).unwrap()
    }

    #[test]
    fn what_differs_is_said_column_by_column() {
        let there = schema(&[("id", ArrowType::Int64, false), ("t", ArrowType::Utf8, true), ("d", ArrowType::Date32, true)]);
        let ours = schema(&[("T", ArrowType::Utf8, true), ("id", ArrowType::Int32, true), ("x", ArrowType::Boolean, true)]);
        let e = ensure_fits(&there, &ours).unwrap_err();
        let why = e.causes().join("; ");
        assert_eq!(e.kind(), Kind::SchemaConflict);
        for part in ["`id` is long in the table and integer in the rows", "`t` is called `T`", "`d` (date) is missing", "`x`"] {
            assert!(why.contains(part), "{part}: {why}");
        }
    }

    #[test]
    fn order_does_not_matter_and_nulls_are_watched() {
        let there = schema(&[("id", ArrowType::Int64, false), ("t", ArrowType::Utf8, true)]);
        let ours = schema(&[("t", ArrowType::Utf8, false), ("id", ArrowType::Int64, true)]);
        assert_eq!(ensure_fits(&there, &ours).unwrap(), ["id"]);
        assert!(!equal(&there, &ours));
    }
}
