//! The docs pages made from the mapping tables, so that the two cannot differ.

use std::fmt::Write;
use std::sync::Arc;

use arrow::datatypes::{DataType as A, Field, Fields, IntervalUnit, TimeUnit};

use super::Verdict;
use super::walk::{Row, TypeTable};

/// One of each Arrow type a source may hold.
#[must_use]
pub fn every_type() -> Vec<A> {
    let item = || Arc::new(Field::new("item", A::Int32, true));
    let entries = Arc::new(Field::new(
        "entries",
        A::Struct(Fields::from(vec![Field::new("key", A::Utf8, false), Field::new("value", A::Int32, true)])),
        false,
    ));
    vec![
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
        A::RunEndEncoded(Arc::new(Field::new("run_ends", A::Int32, false)), Arc::new(Field::new("values", A::Int64, true))),
        A::List(item()),
        A::LargeList(item()),
        A::ListView(item()),
        A::FixedSizeList(item(), 3),
        A::Struct(Fields::from(vec![Field::new("a", A::Int32, true)])),
        A::Map(entries, false),
    ]
}

/// The head of a page: what it is and what the words mean.
pub(super) fn head(extension: &str, source: &str) -> String {
    format!(
        "# What each Arrow type becomes in {extension}\n\nMade by `cargo test` from `types/{source}`; do not edit. `LAKEPORT_BLESS=1 cargo test -p lakeport` writes it anew.\n\n\
         exact: every value arrives as it left. widened: every value arrives, in a wider or differently named type. checked: exact \
         while every value fits; the first that does not stops the run. lossy: needs consent. refused: needs a wish.\n\n"
    )
}

/// A verdict with its reason.
pub(super) fn say(row: &Row) -> String {
    match row.verdict.why() {
        Some(why) => format!("{}: {why}", row.verdict.name()),
        None => row.verdict.name().to_owned(),
    }
}

/// The target's type, or a dash for what it cannot hold.
pub(super) fn target(row: &Row) -> &str {
    if matches!(row.verdict, Verdict::Refused(_)) { "—" } else { &row.target }
}

/// The page of a format whose table needs no more than one column.
#[must_use]
pub fn page(extension: &str, source: &str, types: &dyn TypeTable) -> String {
    let mut page = head(extension, source);
    page.push_str("| Arrow | type | verdict | note |\n|---|---|---|---|\n");
    for data_type in every_type() {
        let row = types.row(&data_type);
        let note = row.note.clone().unwrap_or_default().replace("COLUMN", "x");
        let _ = writeln!(page, "| {data_type} | {} | {} | {note} |", target(&row), say(&row));
    }
    let _ = writeln!(page, "\nTypes one may ask for: {}.", types.names());
    page
}

/// Compares a page with the file in `docs/`, or writes it when `LAKEPORT_BLESS` is set; for tests.
#[cfg(test)]
pub(crate) fn ensure_page(name: &str, page: &str) {
    let path = format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("LAKEPORT_BLESS").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), page, "run LAKEPORT_BLESS=1 cargo test -p lakeport");
}
