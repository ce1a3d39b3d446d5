//! The mapping table of `.hyper`: what each Arrow type becomes.
//!
//! Source of the facts: measured with hyperd 0.0.26963. Its Arrow reader takes exactly one Hyper type per Arrow type and
//! refuses the rest, so every row below names the physical Arrow type that is sent. `REAL` is never used: infinities in a
//! `REAL` column read back as NULL. The sign of zero is not kept by hyperd, whatever is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, TimeUnit};

use super::{ColumnMapping, Conversion, Mapping, Verdict, Wish, Wishes};
use crate::error::{Error, Kind, Result};

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

/// What one Arrow type becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The column type.
    pub hyper: HyperType,
    /// How values get there.
    pub conversion: Conversion,
    /// How sure it is.
    pub verdict: Verdict,
    /// What else to know.
    pub note: Option<String>,
}

impl Row {
    fn new(hyper: HyperType, conversion: Conversion, verdict: Verdict) -> Self {
        Self { hyper, conversion, verdict, note: None }
    }
    fn exact(hyper: HyperType, conversion: Conversion) -> Self {
        Self::new(hyper, conversion, Verdict::Exact)
    }
    fn widened(hyper: HyperType, conversion: Conversion, why: &str) -> Self {
        Self::new(hyper, conversion, Verdict::Widened(why.into()))
    }
    fn checked(hyper: HyperType, why: impl Into<String>) -> Self {
        Self::new(hyper, Conversion::CheckedCast, Verdict::Checked(why.into()))
    }
    fn refused(why: impl Into<String>) -> Self {
        Self::new(HyperType::Text, Conversion::Nulls, Verdict::Refused(why.into()))
    }
    fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// The table: one row per Arrow type, without wishes, for files of at most this format version.
#[must_use]
#[rustfmt::skip]
pub fn row(data_type: &DataType, version: u8) -> Row {
    use DataType as A;
    use HyperType as H;
    match data_type {
        A::Null => Row::widened(H::Text, Conversion::Nulls, "has no type; every value is NULL"),
        A::Boolean => Row::exact(H::Bool, Conversion::Keep),
        A::Int8 => Row::widened(H::SmallInt, Conversion::Cast, "16 bits"),
        A::Int16 => Row::exact(H::SmallInt, Conversion::Keep),
        A::Int32 => Row::exact(H::Integer, Conversion::Keep),
        A::Int64 => Row::exact(H::BigInt, Conversion::Keep),
        A::UInt8 => Row::widened(H::SmallInt, Conversion::Cast, "16 bits"),
        A::UInt16 => Row::widened(H::Integer, Conversion::Cast, "32 bits"),
        A::UInt32 => Row::widened(H::BigInt, Conversion::Cast, "64 bits"),
        A::UInt64 if version >= 3 => Row::widened(H::Numeric(20, 0), Conversion::Cast, "20 digits"),
        A::UInt64 => Row::checked(H::BigInt, "values up to 9223372036854775807; above, NUMERIC(20,0) needs file format 3"),
        A::Float16 | A::Float32 => Row::widened(H::Double, Conversion::Cast, "64 bits; REAL would turn infinities into NULL").note(ZERO_SIGN),
        A::Float64 => Row::exact(H::Double, Conversion::Keep).note(ZERO_SIGN),
        A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) | A::Decimal256(p, s) => decimal(data_type, *p, *s, version),
        A::Utf8 => Row::exact(H::Text, Conversion::Keep),
        A::LargeUtf8 | A::Utf8View => Row::exact(H::Text, Conversion::Cast),
        A::Binary => Row::exact(H::Bytes, Conversion::Keep),
        A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => Row::exact(H::Bytes, Conversion::Cast),
        A::Date32 => Row::exact(H::Date, Conversion::Keep).note("0001-01-01 to 9999-12-31"),
        A::Date64 => Row::checked(H::Date, "whole days").note("0001-01-01 to 9999-12-31"),
        A::Time32(_) => Row::exact(H::Time, Conversion::Cast),
        A::Time64(TimeUnit::Nanosecond) => Row::checked(H::Time, "whole microseconds"),
        A::Time64(_) => Row::exact(H::Time, Conversion::Keep),
        A::Timestamp(unit, zone) => {
            let hyper = if zone.is_some() { H::TimestampTz } else { H::Timestamp };
            let row = match unit {
                TimeUnit::Nanosecond => Row::checked(hyper, "whole microseconds"),
                _ if hyper.physical() == *data_type => Row::exact(hyper, Conversion::Keep),
                _ => Row::exact(hyper, Conversion::Cast),
            };
            match zone {
                Some(zone) if &**zone != "UTC" => row.note(format!("the instant is kept, shown in UTC instead of {zone}")),
                _ => row.note("0001-01-01 to 9999-12-31"),
            }
        }
        A::Duration(unit) => Row::widened(H::BigInt, Conversion::Cast, match unit {
            TimeUnit::Second => "a number of seconds",
            TimeUnit::Millisecond => "a number of milliseconds",
            TimeUnit::Microsecond => "a number of microseconds",
            TimeUnit::Nanosecond => "a number of nanoseconds",
        }),
        A::Interval(IntervalUnit::YearMonth | IntervalUnit::DayTime | IntervalUnit::MonthDayNano) =>
            Row::widened(H::Text, Conversion::Iso8601, "ISO 8601 text, such as P1Y2M or P3DT4.5S"),
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
        return if scale < 0 { Row::widened(hyper, keep, "the scale is 0") } else { Row::exact(hyper, keep) };
    }
    if version < 3 && digits <= DIGITS {
        return Row::new(
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
    Row::checked(HyperType::Numeric(limit, fraction), format!("values of up to {limit} digits"))
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
    if schema.fields().is_empty() {
        return Err(Error::new(Kind::NoColumns, "the table has no columns"));
    }
    wishes.ensure_known(schema.fields().iter().map(|f| f.name().as_str()))?;
    let version = wishes.hyper_version.unwrap_or(NEWEST_VERSION);
    let mut walk = Walk { wishes, version, columns: Vec::new(), dropped: Vec::new() };
    for (index, field) in schema.fields().iter().enumerate() {
        walk.add(field, field.name().clone(), vec![index], field.is_nullable())?;
    }
    let Walk { mut columns, dropped, .. } = walk;
    let mut seen = BTreeSet::new();
    for column in &columns {
        if !seen.insert(column.name.as_str()) {
            return Err(
                Error::new(Kind::DuplicateColumn, format!("two columns are called `{}`", column.name)).at("column", &column.name)
            );
        }
    }
    if columns.is_empty() {
        return Err(Error::new(Kind::NoColumns, "every column is dropped"));
    }
    for key in wishes.keys.primary.iter().chain(wishes.keys.foreign.iter().flat_map(|k| &k.columns)) {
        if !seen.contains(key.as_str()) {
            return Err(
                Error::new(Kind::Usage, format!("a key names column `{key}`, which the table does not have")).at("column", key)
            );
        }
    }
    for column in &mut columns {
        // A key cannot be NULL, whatever the source says of it; a NULL in it stops the run.
        column.nullable &= !wishes.keys.primary.contains(&column.name);
    }
    let needed =
        columns.iter().filter_map(|c| HyperType::parse(&c.target_type)).map(HyperType::version).max().unwrap_or(OLDEST_VERSION);
    Ok(Mapping {
        table: table.to_owned(),
        columns,
        dropped,
        facts: BTreeMap::from([("hyper_version".to_owned(), needed.to_string())]),
        keys: wishes.keys.clone(),
    })
}

/// The way through a schema, into the structs that are flattened.
struct Walk<'a> {
    wishes: &'a Wishes,
    version: u8,
    columns: Vec<ColumnMapping>,
    dropped: Vec<String>,
}

impl Walk<'_> {
    fn add(&mut self, field: &Field, name: String, path: Vec<usize>, nullable: bool) -> Result<()> {
        let nested = field.data_type().is_nested() && !matches!(field.data_type(), DataType::RunEndEncoded(..));
        let row = match self.wishes.columns.get(&name) {
            Some(Wish::Drop) => {
                self.dropped.push(name);
                return Ok(());
            }
            Some(Wish::Flatten) => {
                let DataType::Struct(fields) = field.data_type() else {
                    return Err(Error::new(Kind::Usage, format!("column `{name}` is no struct and cannot be flattened"))
                        .at("column", &name));
                };
                return self.flatten(fields, &name, &path, nullable);
            }
            Some(Wish::Json) => match field.data_type() {
                DataType::Union(..) => self::row(field.data_type(), self.version),
                _ => Row::widened(HyperType::Text, Conversion::Json, "JSON text"),
            },
            Some(Wish::Type(wish)) => {
                let hyper = HyperType::parse(wish).ok_or_else(|| {
                    Error::new(Kind::Usage, format!("`{wish}` is no type of a .hyper column")).at("column", &name).help(
                    "the types are bool, smallint, integer, bigint, numeric(p,s), double, text, bytes, date, time, timestamp, \
                     timestamptz and geography; nested columns take json, flatten, drop or refuse",
                )
                })?;
                wished(field.data_type(), hyper, self.version)
            }
            Some(Wish::Refuse) if !nested => Row::refused("the configuration refuses it"),
            // A struct below a flattened one is flattened too: the user already said what becomes of this tree.
            None if path.len() > 1 && matches!(field.data_type(), DataType::Struct(_)) => {
                let DataType::Struct(fields) = field.data_type() else { return Ok(()) };
                return self.flatten(fields, &name, &path, nullable);
            }
            Some(Wish::Refuse) | None => self::row(field.data_type(), self.version),
        };
        let root = name.split('.').next().unwrap_or(&name);
        let accepted = self.wishes.lossy.allows(&name) || self.wishes.lossy.allows(root);
        let mut verdict = row.verdict;
        if name.is_empty() {
            verdict = Verdict::Refused("a column needs a name; select it `as` something".into());
        }
        self.columns.push(ColumnMapping {
            note: row.note.map(|n| n.replace("COLUMN", &name)),
            name,
            path,
            source_type: field.data_type().clone(),
            nullable: nullable || matches!(row.conversion, Conversion::Nulls),
            target_type: row.hyper.to_string(),
            physical: row.hyper.physical(),
            range: row.hyper.range(),
            conversion: row.conversion,
            verdict,
            accepted,
        });
        Ok(())
    }

    fn flatten(&mut self, fields: &Fields, name: &str, path: &[usize], nullable: bool) -> Result<()> {
        for (index, child) in fields.iter().enumerate() {
            let mut below = path.to_vec();
            below.push(index);
            let nullable = nullable || child.is_nullable();
            self.add(child, format!("{name}.{}", child.name()), below, nullable)?;
        }
        Ok(())
    }
}

/// A type the user asked for: exact where the table says so anyway, else every value is checked.
fn wished(from: &DataType, to: HyperType, version: u8) -> Row {
    use DataType as A;
    let natural = row(from, version);
    if natural.hyper == to && !matches!(natural.verdict, Verdict::Refused(_)) {
        return natural;
    }
    if to.version() > version {
        return Row::refused(format!("{to} needs hyper file format {}, the environment allows {version}", to.version()))
            .note("set `hyper_version = 3` in the environment");
    }
    let texts = matches!(from, A::Utf8 | A::LargeUtf8 | A::Utf8View);
    if to == HyperType::Geography {
        return match from {
            _ if texts => Row::widened(to, Conversion::Cast, "well-known text read by hyperd"),
            A::Binary | A::LargeBinary | A::BinaryView => {
                Row::widened(to, Conversion::WellKnownText, "well-known binary, read by hyperd as text")
            }
            _ => Row::refused("a geography is made from well-known text or binary").note("convert it in SQL to WKT text"),
        };
    }
    if matches!(natural.verdict, Verdict::Refused(_)) || !arrow::compute::can_cast_types(from, &to.physical()) {
        return Row::refused(format!("there is no conversion from {from} to {to}"));
    }
    match (from, to) {
        (A::Binary | A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_), HyperType::Text) => Row::checked(to, "valid UTF-8"),
        (_, HyperType::Text) => Row::widened(to, Conversion::Cast, "as text"),
        (A::Decimal32(p, _) | A::Decimal64(p, _) | A::Decimal128(p, _) | A::Decimal256(p, _), HyperType::Double) if *p > 15 => {
            Row::new(to, Conversion::CheckedCast, Verdict::Lossy("binary floating point keeps 15 digits".into()))
        }
        (A::Timestamp(_, Some(_)), HyperType::Timestamp) => Row::checked(to, "the wall clock of UTC"),
        (_, _) if texts => Row::new(to, Conversion::CheckedCast, Verdict::Checked(format!("each text must be a {to}"))),
        _ => Row::checked(to, "values that convert back to themselves"),
    }
}

/// The docs page made from the table, so that the two cannot differ.
#[must_use]
pub fn documentation() -> String {
    use DataType as A;
    use std::fmt::Write;
    let item = || std::sync::Arc::new(Field::new("item", A::Int32, true));
    let entries = std::sync::Arc::new(Field::new(
        "entries",
        A::Struct(Fields::from(vec![Field::new("key", A::Utf8, false), Field::new("value", A::Int32, true)])),
        false,
    ));
    let all = [
        A::Null,
        A::Boolean,
        A::Int8,
        A::Int16,
        A::Int32,
        A::Int64,
        A::UInt8,
        A::UInt16,
        A::UInt32,
        A::UInt64,
        A::Float16,
        A::Float32,
        A::Float64,
        A::Decimal32(9, 2),
        A::Decimal64(18, 4),
        A::Decimal128(18, 2),
        A::Decimal128(38, 10),
        A::Decimal128(5, -2),
        A::Decimal256(38, 10),
        A::Decimal256(76, 10),
        A::Utf8,
        A::LargeUtf8,
        A::Utf8View,
        A::Binary,
        A::LargeBinary,
        A::BinaryView,
        A::FixedSizeBinary(16),
        A::Date32,
        A::Date64,
        A::Time32(TimeUnit::Second),
        A::Time32(TimeUnit::Millisecond),
        A::Time64(TimeUnit::Microsecond),
        A::Time64(TimeUnit::Nanosecond),
        A::Timestamp(TimeUnit::Second, None),
        A::Timestamp(TimeUnit::Millisecond, None),
        A::Timestamp(TimeUnit::Microsecond, None),
        A::Timestamp(TimeUnit::Nanosecond, None),
        A::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        A::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into())),
        A::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        A::Duration(TimeUnit::Microsecond),
        A::Interval(IntervalUnit::YearMonth),
        A::Interval(IntervalUnit::DayTime),
        A::Interval(IntervalUnit::MonthDayNano),
        A::Dictionary(Box::new(A::Int32), Box::new(A::Utf8)),
        A::RunEndEncoded(
            std::sync::Arc::new(Field::new("run_ends", A::Int32, false)),
            std::sync::Arc::new(Field::new("values", A::Int64, true)),
        ),
        A::List(item()),
        A::LargeList(item()),
        A::ListView(item()),
        A::FixedSizeList(item(), 3),
        A::Struct(Fields::from(vec![Field::new("a", A::Int32, true)])),
        A::Map(entries, false),
    ];
    let mut page = String::from(
        "# What each Arrow type becomes in .hyper\n\nMade by `cargo test` from `types/hyper.rs`; do not edit. `LAKEPORT_BLESS=1 cargo test -p lakeport` writes it anew.\n\n\
         exact: every value arrives as it left. widened: every value arrives, in a wider or differently named type. checked: exact \
         while every value fits; the first that does not stops the run. lossy: needs consent. refused: needs a wish.\n\n\
         | Arrow | file format 3 | verdict | file format 2, where it differs | note |\n|---|---|---|---|---|\n",
    );
    for data_type in &all {
        let (three, two) = (row(data_type, 3), row(data_type, 2));
        let say = |row: &Row| match row.verdict.why() {
            Some(why) => format!("{}: {why}", row.verdict.name()),
            None => row.verdict.name().to_owned(),
        };
        let target =
            |row: &Row| if matches!(row.verdict, Verdict::Refused(_)) { "—".to_owned() } else { row.hyper.to_string() };
        let differs = if three == two { String::new() } else { format!("{}, {}", target(&two), say(&two)) };
        let note = three.note.clone().unwrap_or_default().replace("COLUMN", "x");
        let _ = writeln!(page, "| {data_type} | {} | {} | {differs} | {note} |", target(&three), say(&three));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Lossy;

    fn one(data_type: DataType) -> Schema {
        Schema::new(vec![Field::new("c", data_type, true)])
    }

    #[test]
    fn the_docs_page_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/types-hyper.md");
        let page = documentation();
        if std::env::var_os("LAKEPORT_BLESS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), page, "run LAKEPORT_BLESS=1 cargo test -p lakeport");
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
        let e = mapping.ensure_accepted().unwrap_err();
        assert_eq!(e.code(), "E206");
        assert_eq!(e.causes(), ["decimal(38,10) needs hyper file format 3, the environment allows 2"]);
        assert!(e.help_line().contains("hyper_version = 3") && e.help_line().contains("types.c"));
        wishes.lossy = Lossy::All;
        map("t", &one(DataType::Decimal128(38, 10)), &wishes).unwrap().ensure_accepted().unwrap();
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
