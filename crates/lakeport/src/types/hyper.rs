//! The mapping table of `.hyper`: what each Arrow type becomes.
//!
//! Source of the facts: measured with hyperd 0.0.26963. Its Arrow reader takes exactly one Hyper type per Arrow type and
//! refuses the rest, so every row below names the physical Arrow type that is sent. `REAL` is never used: infinities in a
//! `REAL` column read back as NULL. The sign of zero is not kept by hyperd, whatever is sent.

use std::fmt;

use arrow::datatypes::{DataType, IntervalUnit, Schema, TimeUnit};

use super::walk::{self, Row, TypeTable};
use super::{Conversion, Mapping, Verdict, Wishes, documentation, geometry};
use crate::error::Result;

/// The newest file-format version Lakeport writes unless the environment allows less: 3 brings 128-bit numerics.
pub const NEWEST_VERSION: u8 = 3;
/// The version that every supported Tableau reads.
pub const OLDEST_VERSION: u8 = 2;
/// Digits a numeric may have in file-format version 2.
const DIGITS_IN_VERSION_2: u8 = 18;
/// Digits a numeric may have at all.
const DIGITS: u8 = 38;
/// 0001-01-01 and 9999-12-31 in days since 1970; what Tableau itself can show.
const DAYS: (i64, i64) = (-719_162, 2_932_896);
const MICROS_PER_DAY: i64 = 86_400_000_000;
/// The same span in microseconds, the last one of 9999 included.
const MICROS: (i64, i64) = (DAYS.0 * MICROS_PER_DAY, (DAYS.1 + 1) * MICROS_PER_DAY - 1);
const ZERO_SIGN: &str = "hyperd does not keep the sign of zero";

/// A column type of a Hyper table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HyperType {
    /// Truth values.
    Bool,
    /// 16-bit integers.
    SmallInt,
    /// 32-bit integers.
    Integer,
    /// 64-bit integers.
    BigInt,
    /// Decimals: digits, and digits after the point.
    Numeric(u8, u8),
    /// 64-bit floating point.
    Double,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// Days.
    Date,
    /// Times of day in microseconds.
    Time,
    /// Microseconds without a zone.
    Timestamp,
    /// Instants in microseconds.
    TimestampTz,
    /// Points, lines and areas on the globe; sent as well-known text.
    Geography,
}

impl fmt::Display for HyperType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("BOOL"),
            Self::SmallInt => f.write_str("SMALLINT"),
            Self::Integer => f.write_str("INTEGER"),
            Self::BigInt => f.write_str("BIGINT"),
            Self::Numeric(p, s) => write!(f, "NUMERIC({p},{s})"),
            Self::Double => f.write_str("DOUBLE PRECISION"),
            Self::Text => f.write_str("TEXT"),
            Self::Bytes => f.write_str("BYTES"),
            Self::Date => f.write_str("DATE"),
            Self::Time => f.write_str("TIME"),
            Self::Timestamp => f.write_str("TIMESTAMP"),
            Self::TimestampTz => f.write_str("TIMESTAMPTZ"),
            Self::Geography => f.write_str("GEOGRAPHY"),
        }
    }
}

impl HyperType {
    /// Reads a type as a user writes it: `double`, `numeric(38,10)`, `timestamp with time zone`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if let Some(inside) = ["numeric(", "decimal("].iter().find_map(|p| text.strip_prefix(p)).and_then(|t| t.strip_suffix(')'))
        {
            let (p, s) = inside.split_once(',').unwrap_or((inside, "0"));
            let (p, s) = (p.trim().parse().ok()?, s.trim().parse().ok()?);
            return (1..=DIGITS).contains(&p).then_some(Self::Numeric(p, s)).filter(|_| s <= p);
        }
        Some(match text.as_str() {
            "bool" | "boolean" => Self::Bool,
            "smallint" | "int2" | "int16" => Self::SmallInt,
            "integer" | "int" | "int4" | "int32" => Self::Integer,
            "bigint" | "int8" | "int64" | "long" => Self::BigInt,
            "double" | "double precision" | "float" | "float8" | "float64" => Self::Double,
            "text" | "string" | "varchar" => Self::Text,
            "bytes" | "binary" | "bytea" => Self::Bytes,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" | "timestamp without time zone" => Self::Timestamp,
            "timestamptz" | "timestamp with time zone" => Self::TimestampTz,
            "geography" | "geo" => Self::Geography,
            _ => return None,
        })
    }

    /// The Arrow type hyperd's reader takes for this column type.
    #[must_use]
    pub fn physical(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::SmallInt => DataType::Int16,
            Self::Integer => DataType::Int32,
            Self::BigInt => DataType::Int64,
            // Scales fit because 38 does.
            Self::Numeric(p, s) => DataType::Decimal128(p, i8::try_from(s).unwrap_or(i8::MAX)),
            Self::Double => DataType::Float64,
            Self::Text | Self::Geography => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// The lowest file-format version that has this type.
    #[must_use]
    pub fn version(self) -> u8 {
        match self {
            Self::Numeric(p, _) if p > DIGITS_IN_VERSION_2 => 3,
            _ => OLDEST_VERSION,
        }
    }

    fn range(self) -> Option<(i64, i64)> {
        match self {
            Self::Date => Some(DAYS),
            Self::Timestamp | Self::TimestampTz => Some(MICROS),
            _ => None,
        }
    }
}

/// The mapping table for files of at most one format version.
#[derive(Debug, Clone, Copy)]
pub struct HyperTypes {
    /// The highest file-format version allowed.
    pub version: u8,
}

impl TypeTable for HyperTypes {
    fn row(&self, data_type: &DataType) -> Row {
        row(data_type, self.version)
    }
    fn wished(&self, from: &DataType, wish: &str) -> Option<Row> {
        HyperType::parse(wish).map(|to| wished(from, to, self.version))
    }
    fn names(&self) -> &'static str {
        "bool, smallint, integer, bigint, numeric(p,s), double, text, bytes, date, time, timestamp, timestamptz and geography"
    }
    fn json(&self) -> Row {
        widened(HyperType::Text, Conversion::Json, "JSON text")
    }
}

fn new(hyper: HyperType, conversion: Conversion, verdict: Verdict) -> Row {
    Row { range: hyper.range(), ..Row::new(hyper.to_string(), hyper.physical(), conversion, verdict) }
}
fn exact(hyper: HyperType, conversion: Conversion) -> Row {
    new(hyper, conversion, Verdict::Exact)
}
fn widened(hyper: HyperType, conversion: Conversion, why: &str) -> Row {
    new(hyper, conversion, Verdict::Widened(why.into()))
}
fn checked(hyper: HyperType, why: impl Into<String>) -> Row {
    new(hyper, Conversion::CheckedCast, Verdict::Checked(why.into()))
}

/// The table: one row per Arrow type, without wishes, for files of at most this format version.
#[must_use]
#[rustfmt::skip]
pub fn row(data_type: &DataType, version: u8) -> Row {
    use DataType as A;
    use HyperType as H;
    match data_type {
        A::Null => widened(H::Text, Conversion::Nulls, "has no type; every value is NULL"),
        A::Boolean => exact(H::Bool, Conversion::Keep),
        A::Int8 => widened(H::SmallInt, Conversion::Cast, "16 bits"),
        A::Int16 => exact(H::SmallInt, Conversion::Keep),
        A::Int32 => exact(H::Integer, Conversion::Keep),
        A::Int64 => exact(H::BigInt, Conversion::Keep),
        A::UInt8 => widened(H::SmallInt, Conversion::Cast, "16 bits"),
        A::UInt16 => widened(H::Integer, Conversion::Cast, "32 bits"),
        A::UInt32 => widened(H::BigInt, Conversion::Cast, "64 bits"),
        A::UInt64 if version >= 3 => widened(H::Numeric(20, 0), Conversion::Cast, "20 digits"),
        A::UInt64 => checked(H::BigInt, "values up to 9223372036854775807; above, NUMERIC(20,0) needs file format 3"),
        A::Float16 | A::Float32 => widened(H::Double, Conversion::Cast, "64 bits; REAL would turn infinities into NULL").note(ZERO_SIGN),
        A::Float64 => exact(H::Double, Conversion::Keep).note(ZERO_SIGN),
        A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) | A::Decimal256(p, s) => decimal(data_type, *p, *s, version),
        A::Utf8 => exact(H::Text, Conversion::Keep),
        A::LargeUtf8 | A::Utf8View => exact(H::Text, Conversion::Cast),
        A::Binary => exact(H::Bytes, Conversion::Keep),
        A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => exact(H::Bytes, Conversion::Cast),
        A::Date32 => exact(H::Date, Conversion::Keep).note("0001-01-01 to 9999-12-31"),
        A::Date64 => checked(H::Date, "whole days").note("0001-01-01 to 9999-12-31"),
        A::Time32(_) => exact(H::Time, Conversion::Cast),
        A::Time64(TimeUnit::Nanosecond) => checked(H::Time, "whole microseconds"),
        A::Time64(_) => exact(H::Time, Conversion::Keep),
        A::Timestamp(unit, zone) => {
            let hyper = if zone.is_some() { H::TimestampTz } else { H::Timestamp };
            let row = match unit {
                TimeUnit::Nanosecond => checked(hyper, "whole microseconds"),
                _ if hyper.physical() == *data_type => exact(hyper, Conversion::Keep),
                _ => exact(hyper, Conversion::Cast),
            };
            match zone {
                Some(zone) if &**zone != "UTC" => row.note(format!("the instant is kept, shown in UTC instead of {zone}")),
                _ => row.note("0001-01-01 to 9999-12-31"),
            }
        }
        A::Duration(unit) => widened(H::BigInt, Conversion::Cast, match unit {
            TimeUnit::Second => "a number of seconds",
            TimeUnit::Millisecond => "a number of milliseconds",
            TimeUnit::Microsecond => "a number of microseconds",
            TimeUnit::Nanosecond => "a number of nanoseconds",
        }),
        A::Interval(IntervalUnit::YearMonth | IntervalUnit::DayTime | IntervalUnit::MonthDayNano) =>
            widened(H::Text, Conversion::Iso8601, "ISO 8601 text, such as P1Y2M or P3DT4.5S"),
        A::Dictionary(_, values) => encoded(values, version),
        A::RunEndEncoded(_, values) => encoded(values.data_type(), version),
        A::List(_) | A::LargeList(_) | A::ListView(_) | A::LargeListView(_) | A::FixedSizeList(..) | A::Map(..) =>
            Row::refused("Tableau shows no nested columns").note("set types.COLUMN = \"json\" or \"drop\""),
        A::Struct(_) => Row::refused("Tableau shows no nested columns").note("set types.COLUMN = \"flatten\", \"json\" or \"drop\""),
        A::Union(..) => Row::refused("a union has no one type").note("set types.COLUMN = \"drop\""),
    }
}

/// Decimals of any width: their digits decide the file-format version.
fn decimal(data_type: &DataType, precision: u8, scale: i8, version: u8) -> Row {
    // A negative scale means trailing zeros: decimal(5,-2) holds up to 7 digits before the point.
    let digits = if scale < 0 { precision.saturating_add(scale.unsigned_abs()) } else { precision };
    let fraction = u8::try_from(scale).unwrap_or(0);
    let limit = if version >= 3 { DIGITS } else { DIGITS_IN_VERSION_2 };
    let keep = if matches!(data_type, DataType::Decimal128(..)) && scale >= 0 { Conversion::Keep } else { Conversion::Cast };
    if digits <= limit {
        let hyper = HyperType::Numeric(digits, fraction);
        return if scale < 0 { widened(hyper, keep, "the scale is 0") } else { exact(hyper, keep) };
    }
    if version < 3 && digits <= DIGITS {
        return new(
            HyperType::Double,
            Conversion::CheckedCast,
            Verdict::Lossy(format!("decimal({precision},{scale}) needs hyper file format 3, the environment allows {version}")),
        )
        .note("set `hyper_version = 3` in the environment, or types.COLUMN = \"double\" with --lossy");
    }
    if fraction > limit {
        return Row::refused(format!("a scale of {fraction} is more than {limit} digits"))
            .note("set types.COLUMN = \"double\" with --lossy");
    }
    checked(HyperType::Numeric(limit, fraction), format!("values of up to {limit} digits"))
}

/// A dictionary or run-end encoding is the type of its values, decoded.
fn encoded(values: &DataType, version: u8) -> Row {
    let row = row(values, version);
    match row.conversion {
        Conversion::Keep => Row { conversion: Conversion::Cast, ..row },
        _ => row,
    }
}

/// Maps a whole schema; pure.
///
/// # Errors
/// `NoColumns`, `DuplicateColumn`, `Usage` for a wish that names no column or no type.
pub fn map(table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
    let mut mapping = walk::map(table, schema, wishes, &HyperTypes { version: wishes.hyper_version.unwrap_or(NEWEST_VERSION) })?;
    let types = mapping.columns.iter().filter_map(|c| HyperType::parse(&c.target_type));
    let needed = types.map(HyperType::version).max().unwrap_or(OLDEST_VERSION);
    mapping.facts.insert("hyper_version".to_owned(), needed.to_string());
    Ok(mapping)
}

/// A type the user asked for: exact where the table says so anyway, else every value is checked.
fn wished(from: &DataType, to: HyperType, version: u8) -> Row {
    use DataType as A;
    let natural = row(from, version);
    if natural.target == to.to_string() && !matches!(natural.verdict, Verdict::Refused(_)) {
        return natural;
    }
    if to.version() > version {
        // A wide decimal has another type to fall back on, which may be accepted.
        if matches!(natural.verdict, Verdict::Lossy(_)) {
            return natural;
        }
        return Row::refused(format!("{to} needs hyper file format {}, the environment allows {version}", to.version()))
            .note("set `hyper_version = 3` in the environment");
    }
    let texts = matches!(from, A::Utf8 | A::LargeUtf8 | A::Utf8View);
    if to == HyperType::Geography {
        return match from {
            A::Utf8 | A::LargeUtf8 | A::Utf8View | A::Binary | A::LargeBinary | A::BinaryView => {
                new(to, Conversion::WellKnownText, Verdict::Checked(geometry::KEPT.into()))
                    .note("read by hyperd as well-known text; it adds points along the edges of lines and polygons")
            }
            _ => Row::refused("a geography is made from well-known text or binary").note("convert it in SQL to WKT text"),
        };
    }
    if matches!(natural.verdict, Verdict::Refused(_)) || !arrow::compute::can_cast_types(from, &to.physical()) {
        return Row::refused(format!("there is no conversion from {from} to {to}"));
    }
    match (from, to) {
        (A::Binary | A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_), HyperType::Text) => checked(to, "valid UTF-8"),
        (_, HyperType::Text) => widened(to, Conversion::Cast, "as text"),
        (A::Decimal32(p, _) | A::Decimal64(p, _) | A::Decimal128(p, _) | A::Decimal256(p, _), HyperType::Double) if *p > 15 => {
            new(to, Conversion::CheckedCast, Verdict::Lossy("binary floating point keeps 15 digits".into()))
        }
        (A::Timestamp(_, Some(_)), HyperType::Timestamp) => checked(to, "the wall clock of UTC"),
        (_, _) if texts => new(to, Conversion::CheckedCast, Verdict::Checked(format!("texts that say no more than a {to}"))),
        // What cannot be taken back cannot be checked: a time has lost its day.
        _ if !arrow::compute::can_cast_types(&to.physical(), from) => {
            Row::refused(format!("a {to} is not all that a {from} holds")).note("choose another type, or compute it in --sql")
        }
        _ => checked(to, "values that convert back to themselves"),
    }
}

/// The docs page made from the table, so that the two cannot differ.
#[must_use]
pub fn documentation() -> String {
    use std::fmt::Write;
    let mut page = documentation::head(".hyper", "hyper.rs");
    page.push_str("| Arrow | file format 3 | verdict | file format 2, where it differs | note |\n|---|---|---|---|---|\n");
    for data_type in documentation::every_type() {
        let (three, two) = (row(&data_type, 3), row(&data_type, 2));
        let (target, say) = (documentation::target, documentation::say);
        let differs = if three == two { String::new() } else { format!("{}, {}", target(&two), say(&two)) };
        let note = three.note.clone().unwrap_or_default().replace("COLUMN", "x");
        let _ = writeln!(page, "| {data_type} | {} | {} | {differs} | {note} |", target(&three), say(&three));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Lossy, Wish};
    use arrow::datatypes::{Field, Fields};
    use std::collections::BTreeMap;

    fn one(data_type: DataType) -> Schema {
        Schema::new(vec![Field::new("c", data_type, true)])
    }

    #[test]
    fn a_wish_that_cannot_be_checked_is_refused() {
        let stamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        assert!(matches!(wished(&stamp, HyperType::Time, 3).verdict, Verdict::Refused(_)));
        assert!(matches!(wished(&stamp, HyperType::Date, 3).verdict, Verdict::Checked(_)));
        assert!(matches!(wished(&DataType::Decimal128(38, 10), HyperType::Numeric(38, 10), 2).verdict, Verdict::Lossy(_)));
    }

    #[test]
    fn the_docs_page_is_the_table() {
        documentation::ensure_page("types-hyper.md", &documentation());
    }

    #[test]
    fn the_lowest_version_the_schema_needs_is_taken() {
        let version = |t| map("t", &one(t), &Wishes::default()).unwrap().facts["hyper_version"].clone();
        assert_eq!(version(DataType::Int64), "2");
        assert_eq!(version(DataType::Decimal128(18, 2)), "2");
        assert_eq!(version(DataType::Decimal128(19, 2)), "3");
        assert_eq!(version(DataType::UInt64), "3");
    }

    #[test]
    fn a_wide_decimal_in_version_2_needs_consent() {
        let mut wishes = Wishes { hyper_version: Some(2), ..Wishes::default() };
        let mapping = map("t", &one(DataType::Decimal128(38, 10)), &wishes).unwrap();
        let e = mapping.ensure_accepted(None).unwrap_err();
        assert_eq!(e.code(), "E206");
        assert_eq!(e.causes(), ["decimal(38,10) needs hyper file format 3, the environment allows 2"]);
        assert!(e.help_line().contains("hyper_version = 3") && e.help_line().contains("types.c"));
        wishes.lossy = Lossy::All;
        map("t", &one(DataType::Decimal128(38, 10)), &wishes).unwrap().ensure_accepted(None).unwrap();
    }

    #[test]
    fn a_flattened_struct_becomes_dotted_columns() {
        let inner = DataType::Struct(Fields::from(vec![Field::new("y", DataType::Int32, false)]));
        let outer = DataType::Struct(Fields::from(vec![Field::new("x", inner, false), Field::new("z", DataType::Utf8, false)]));
        let wishes = Wishes { columns: BTreeMap::from([("c".to_owned(), Wish::Flatten)]), ..Wishes::default() };
        let mapping = map("t", &one(outer), &wishes).unwrap();
        let names: Vec<_> = mapping.columns.iter().map(|c| (c.name.as_str(), c.path.clone(), c.nullable)).collect();
        assert_eq!(names, [("c.x.y", vec![0, 0, 0], true), ("c.z", vec![0, 1], true)]);
    }

    #[test]
    fn unknown_wishes_name_the_nearest_column() {
        let schema = Schema::new(vec![Field::new("amount", DataType::Int32, true)]);
        let wishes = Wishes { columns: BTreeMap::from([("amuont".to_owned(), Wish::Drop)]), ..Wishes::default() };
        let e = map("t", &schema, &wishes).unwrap_err();
        assert_eq!(e.help_line(), "did you mean `amount`?");
    }
}
