//! Types as users write them, for formats whose columns are Arrow's own: `double`, `decimal(38,10)`, `timestamptz`.

use arrow::datatypes::{DataType, TimeUnit};

use super::walk::{Row, TypeTable};
use super::{Conversion, Verdict};

/// The names, as a list in prose.
pub(super) const NAMES: &str =
    "bool, tinyint, smallint, integer, bigint, float, double, decimal(p,s), text, binary, date, time, timestamp and timestamptz";

/// Reads a type's name.
pub(super) fn parse(text: &str) -> Option<DataType> {
    let text = text.trim();
    if let Some(inside) = ["numeric(", "decimal("].iter().find_map(|p| text.strip_prefix(p)).and_then(|t| t.strip_suffix(')')) {
        let (p, s) = inside.split_once(',').unwrap_or((inside, "0"));
        let (p, s): (u8, i8) = (p.trim().parse().ok()?, s.trim().parse().ok()?);
        let fits = (1..=76).contains(&p) && s >= 0 && s.unsigned_abs() <= p;
        return fits.then_some(if p <= 38 { DataType::Decimal128(p, s) } else { DataType::Decimal256(p, s) });
    }
    Some(match text {
        "bool" | "boolean" => DataType::Boolean,
        "tinyint" | "byte" => DataType::Int8,
        "smallint" | "int2" | "int16" => DataType::Int16,
        "integer" | "int" | "int4" | "int32" => DataType::Int32,
        "bigint" | "int8" | "int64" | "long" => DataType::Int64,
        "float" | "real" | "float4" | "float32" => DataType::Float32,
        "double" | "double precision" | "float8" | "float64" => DataType::Float64,
        "text" | "string" | "varchar" => DataType::Utf8,
        "binary" | "bytes" | "bytea" => DataType::Binary,
        "date" => DataType::Date32,
        "time" => DataType::Time64(TimeUnit::Microsecond),
        "timestamp" | "timestamp without time zone" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "timestamptz" | "timestamp with time zone" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => return None,
    })
}

/// The row of a type asked for: as the table has it where that is the same, else every value is checked.
pub(super) fn wished<T: TypeTable + ?Sized>(table: &T, from: &DataType, to: &DataType) -> Row {
    let natural = table.row(from);
    let target = table.row(to);
    if natural.target == target.target && !matches!(natural.verdict, Verdict::Refused(_)) {
        return natural;
    }
    let physical = target.physical.clone();
    let refused = matches!(target.verdict, Verdict::Refused(_)) || from.is_nested();
    if refused || !arrow::compute::can_cast_types(from, &physical) {
        return Row::refused(format!("there is no conversion from {from} to {}", target.target));
    }
    let texts = matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let row = match (from, &physical) {
        (DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_), DataType::Utf8) => {
            Row::checked(&target.target, physical, "valid UTF-8")
        }
        (_, DataType::Utf8) => Row::widened(&target.target, physical, Conversion::Cast, "as text"),
        (_, DataType::Float32 | DataType::Float64) if from.is_decimal() => {
            Row::lossy(&target.target, physical, "binary floating point keeps 15 digits")
        }
        (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, None)) => {
            Row::checked(&target.target, physical, "the wall clock of UTC")
        }
        _ if texts => Row::checked(&target.target, physical, format!("texts that say no more than a {}", target.target)),
        _ => Row::checked(&target.target, physical, "values that convert back to themselves"),
    };
    Row { range: target.range, ..row }
}
