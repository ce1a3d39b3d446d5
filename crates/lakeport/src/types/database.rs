//! The mapping tables of databases: what each Arrow type becomes in PostgreSQL, and in SQLite.
//!
//! The physical types are those that the databases' ADBC drivers (1.13) ingest as the column type named here.

use arrow::datatypes::{DataType, Schema, TimeUnit};

use super::csv::{CsvTypes, decoded};
use super::walk::{self, Row, TypeTable};
use super::{Conversion, Mapping, Wishes, named};
use crate::error::Result;

/// PostgreSQL's table; also taken for databases that have none of their own.
#[derive(Debug, Clone, Copy)]
pub struct PostgresTypes;

impl TypeTable for PostgresTypes {
    #[rustfmt::skip]
    fn row(&self, data_type: &DataType) -> Row {
        use DataType as A;
        let keep = |name: &str| Row::exact(name, data_type.clone(), Conversion::Keep);
        let text = |conversion, why: &str| Row::widened("text", A::Utf8, conversion, why);
        match data_type {
            A::Null => text(Conversion::Nulls, "has no type; every value is NULL"),
            A::Boolean => keep("boolean"),
            A::Int8 | A::UInt8 => Row::widened("smallint", A::Int16, Conversion::Cast, "16 bits"),
            A::Int16 => keep("smallint"),
            A::UInt16 => Row::widened("integer", A::Int32, Conversion::Cast, "32 bits"),
            A::Int32 => keep("integer"),
            A::UInt32 => Row::widened("bigint", A::Int64, Conversion::Cast, "64 bits"),
            A::Int64 => keep("bigint"),
            A::UInt64 => Row::widened("numeric", A::Decimal128(20, 0), Conversion::Cast, "20 digits"),
            A::Float16 => Row::widened("real", A::Float32, Conversion::Cast, "32 bits"),
            A::Float32 => keep("real"),
            A::Float64 => keep("double precision"),
            A::Decimal128(_, s) if *s >= 0 => keep("numeric"),
            A::Decimal256(p, s) if *p > 38 => Row::checked("numeric", A::Decimal128(38, (*s).clamp(0, 38)), "values of up to 38 digits"),
            A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) | A::Decimal256(p, s) => {
                let digits = if *s < 0 { p.saturating_add(s.unsigned_abs()).min(38) } else { *p };
                Row::exact("numeric", A::Decimal128(digits, (*s).max(0)), Conversion::Cast)
            }
            A::Utf8 => keep("text").note("PostgreSQL holds no NUL characters; the first stops the run"),
            A::LargeUtf8 | A::Utf8View => Row::exact("text", A::Utf8, Conversion::Cast),
            A::Binary => keep("bytea"),
            A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => Row::exact("bytea", A::Binary, Conversion::Cast),
            A::Date32 => keep("date"),
            A::Date64 => Row::checked("date", A::Date32, "whole days"),
            A::Time64(TimeUnit::Microsecond) => keep("time"),
            A::Time32(_) => Row::exact("time", A::Time64(TimeUnit::Microsecond), Conversion::Cast),
            A::Time64(_) => Row::checked("time", A::Time64(TimeUnit::Microsecond), "whole microseconds"),
            A::Timestamp(unit, zone) => {
                let name = if zone.is_some() { "timestamp with time zone" } else { "timestamp" };
                let to = A::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| "UTC".into()));
                match unit {
                    TimeUnit::Nanosecond => Row::checked(name, to, "whole microseconds"),
                    _ if to == *data_type => Row::exact(name, to, Conversion::Keep),
                    _ => Row::exact(name, to, Conversion::Cast),
                }
            }
            A::Duration(_) => Row::widened("bigint", A::Int64, Conversion::Cast, "a whole number of its unit"),
            A::Interval(_) => text(Conversion::Iso8601, "ISO 8601, such as P1Y2M or P3DT4.5S"),
            A::Dictionary(_, values) => decoded(self.row(values)),
            A::RunEndEncoded(_, values) => decoded(self.row(values.data_type())),
            A::Union(..) => Row::refused("a union has no one type").note("set types.COLUMN = \"drop\""),
            A::Struct(_) => Row::refused("nested columns need a wish").note("set types.COLUMN = \"flatten\", \"json\" or \"drop\""),
            _ => Row::refused("nested columns need a wish").note("set types.COLUMN = \"json\" or \"drop\""),
        }
    }
    fn json(&self) -> Row {
        Row::widened("text", DataType::Utf8, Conversion::Json, "JSON text")
    }
}

/// SQLite's table: five kinds of values, everything else as text that sorts as the values do.
#[derive(Debug, Clone, Copy)]
pub struct SqliteTypes;

impl TypeTable for SqliteTypes {
    fn row(&self, data_type: &DataType) -> Row {
        use DataType as A;
        match data_type {
            A::Boolean => Row::widened("INTEGER", A::Int64, Conversion::Cast, "1 or 0"),
            A::Int64 => Row::exact("INTEGER", A::Int64, Conversion::Keep),
            A::UInt64 => Row::checked("INTEGER", A::Int64, "values up to 9223372036854775807"),
            A::Duration(_) => Row::widened("INTEGER", A::Int64, Conversion::Cast, "a whole number of its unit"),
            _ if data_type.is_integer() => Row::exact("INTEGER", A::Int64, Conversion::Cast),
            A::Float16 | A::Float32 | A::Float64 => {
                let row = Row::checked("REAL", A::Float64, "finite numbers");
                Row { conversion: Conversion::Finite, ..row }.note("SQLite turns NaN into NULL; types.COLUMN = \"text\" keeps it")
            }
            A::Binary => Row::exact("BLOB", A::Binary, Conversion::Keep),
            A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => Row::exact("BLOB", A::Binary, Conversion::Cast),
            A::Dictionary(_, values) => decoded(self.row(values)),
            A::RunEndEncoded(_, values) => decoded(self.row(values.data_type())),
            other => {
                let row = CsvTypes.row(other);
                if matches!(row.verdict, super::Verdict::Refused(_)) { row } else { Row { target: "TEXT".into(), ..row } }
            }
        }
    }
    fn wished(&self, from: &DataType, wish: &str) -> Option<Row> {
        match wish {
            "text" | "string" | "varchar" => {
                let row = CsvTypes.row(from);
                Some(if matches!(row.verdict, super::Verdict::Refused(_)) { row } else { Row { target: "TEXT".into(), ..row } })
            }
            other => named::parse(other).map(|to| named::wished(self, from, &to)),
        }
    }
    fn json(&self) -> Row {
        Row::widened("TEXT", DataType::Utf8, Conversion::Json, "JSON text")
    }
}

/// Maps a whole schema for a dialect; pure.
///
/// # Errors
/// As [`walk::map`].
pub fn map(table: &str, schema: &Schema, wishes: &Wishes, sqlite: bool) -> Result<Mapping> {
    if sqlite { walk::map(table, schema, wishes, &SqliteTypes) } else { walk::map(table, schema, wishes, &PostgresTypes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::documentation::{ensure_page, page};

    #[test]
    fn the_docs_pages_are_the_tables() {
        ensure_page("types-postgresql.md", &page("PostgreSQL", "database.rs", &PostgresTypes));
        ensure_page("types-sqlite.md", &page("SQLite", "database.rs", &SqliteTypes));
    }
}
