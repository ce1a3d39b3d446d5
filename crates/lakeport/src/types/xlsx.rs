//! The mapping table of Excel `.xlsx`: a cell holds a double, a truth value, or a text of up to 32,767 characters.
//!
//! Source of the limits: Microsoft's specifications and limits of Excel; dates are counted from 1900 with a day that never was,
//! so they begin on 1900-03-01.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{DataType, Schema, TimeUnit};

use super::csv::decoded;
use super::walk::{self, Row, TypeTable};
use super::{Conversion, Mapping, Wishes};
use crate::error::{Error, Kind, Result};

/// 1900-03-01 and 9999-12-31 in days since 1970.
const DAYS: (i64, i64) = (-25_508, 2_932_896);
const DAY: i64 = 86_400_000;
/// The same span in milliseconds.
const MILLIS: (i64, i64) = (DAYS.0 * DAY, (DAYS.1 + 1) * DAY - 1);
const SPAN: &str = "1900-03-01 to 9999-12-31";
/// Columns of a sheet.
const COLUMNS: usize = 16_384;
/// Characters of a sheet's name.
const NAME: usize = 31;
/// UTF-16 units of the name of a column of an Excel table.
const TABLE_NAME: usize = 255;
/// UTF-16 units of a cell. An empty text is a cell with a text in it, NULL is no cell.
const UNITS: (i64, i64) = (0, 32_767);
const TEXTS: &str = "texts of up to 32,767 characters";

/// The table.
#[derive(Debug, Clone, Copy)]
pub struct XlsxTypes;

impl TypeTable for XlsxTypes {
    #[rustfmt::skip]
    fn row(&self, data_type: &DataType) -> Row {
        use DataType as A;
        let text = |conversion| Row { conversion, ..Row::checked("text", A::Utf8, TEXTS) }.range(UNITS);
        let as_text = |conversion, why: &str| Row::widened("text", A::Utf8, conversion, why).range(UNITS);
        match data_type {
            A::Null => as_text(Conversion::Nulls, "has no type; every cell is empty"),
            A::Boolean => Row::exact("boolean", A::Boolean, Conversion::Keep),
            A::Int64 | A::UInt64 => Row::checked("number", A::Float64, "whole numbers of up to 53 bits").note("set types.COLUMN = \"text\" to keep all digits"),
            _ if data_type.is_integer() => Row::exact("number", A::Float64, Conversion::Cast),
            A::Float16 | A::Float32 | A::Float64 => Row { conversion: Conversion::Finite, ..Row::checked("number", A::Float64, "finite numbers") }.note("set types.COLUMN = \"text\" to keep NaN and infinities; accepted as lossy they become empty"),
            A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) | A::Decimal256(p, s) => {
                let name = format!("number({p},{s})");
                if *p <= 15 && *s >= 0 { Row::exact(name, A::Float64, Conversion::Cast) }
                else { Row::checked(name, A::Float64, "values of up to 15 digits").note("set types.COLUMN = \"text\" to keep all digits") }
            }
            A::Utf8 => text(Conversion::Keep),
            A::LargeUtf8 | A::Utf8View => text(Conversion::Cast),
            A::Binary | A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => as_text(Conversion::Hex, "two hexadecimal digits a byte"),
            A::Date32 => Row::exact("date", A::Date32, Conversion::Keep).range(DAYS).note(SPAN),
            A::Date64 => Row::checked("date", A::Date32, "whole days").range(DAYS).note(SPAN),
            A::Time32(TimeUnit::Millisecond) => Row::exact("time", data_type.clone(), Conversion::Keep),
            A::Time32(_) => Row::exact("time", A::Time32(TimeUnit::Millisecond), Conversion::Cast),
            A::Time64(_) => Row::checked("time", A::Time32(TimeUnit::Millisecond), "whole milliseconds").note("set types.COLUMN = \"text\" to keep finer times"),
            A::Timestamp(unit, zone) => {
                let to = A::Timestamp(TimeUnit::Millisecond, zone.as_ref().map(|_| "UTC".into()));
                let row = match (unit, zone) {
                    (TimeUnit::Second | TimeUnit::Millisecond, None) => Row::exact("date and time", to, Conversion::Cast),
                    (TimeUnit::Second | TimeUnit::Millisecond, Some(_)) => Row::widened("date and time", to, Conversion::Cast, "the wall clock of UTC; Excel has no zones"),
                    (_, None) => Row::checked("date and time", to, "whole milliseconds"),
                    (_, Some(_)) => Row::checked("date and time", to, "whole milliseconds, as the wall clock of UTC"),
                };
                row.range(MILLIS).note(format!("{SPAN}; set types.COLUMN = \"text\" to keep what is earlier or finer"))
            }
            A::Duration(_) => as_text(Conversion::Count, "a whole number of its unit"),
            A::Interval(_) => as_text(Conversion::Iso8601, "ISO 8601, such as P1Y2M or P3DT4.5S"),
            A::Dictionary(_, values) => decoded(self.row(values)),
            A::RunEndEncoded(_, values) => decoded(self.row(values.data_type())),
            A::Union(..) => Row::refused("a union has no one type").note("set types.COLUMN = \"drop\""),
            A::Struct(_) => Row::refused("a cell holds no nested values").note("set types.COLUMN = \"flatten\", \"json\" or \"drop\""),
            _ => Row::refused("a cell holds no nested values").note("set types.COLUMN = \"json\" or \"drop\""),
        }
    }

    fn wished(&self, from: &DataType, wish: &str) -> Option<Row> {
        match wish {
            "text" | "string" | "varchar" => {
                let row = super::csv::CsvTypes.row(from);
                let refused = matches!(row.verdict, super::Verdict::Refused(_));
                Some(if refused { row } else { Row { target: "text".into(), ..row }.range(UNITS) })
            }
            "number" | "date" | "time" | "datetime" => {
                let natural = self.row(from);
                let same = natural.target == wish
                    || wish == "number" && natural.target.starts_with("number")
                    || wish == "datetime" && natural.target == "date and time";
                Some(if same { natural } else { Row::refused(format!("{from} is no {wish}; convert it in SQL")) })
            }
            _ => None,
        }
    }
    fn names(&self) -> &'static str {
        "number, text, date, time and datetime"
    }
    fn json(&self) -> Row {
        Row::widened("text", DataType::Utf8, Conversion::Json, "JSON text").range(UNITS)
    }
}

/// Maps a whole schema; pure. The table's name becomes a sheet's.
///
/// # Errors
/// As [`walk::map`], and `Unsupported` for more columns than a sheet has.
pub fn map(table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
    let mut mapping = walk::map(table, schema, wishes, &XlsxTypes)?;
    let columns = mapping.columns.len();
    if columns > COLUMNS {
        return Err(Error::new(Kind::Unsupported, format!("a sheet has {COLUMNS} columns, and there are {columns}")));
    }
    for column in &mut mapping.columns {
        // Any cell may be empty.
        column.nullable = true;
    }
    if wishes.files.xlsx.table {
        ensure_column_names(&mapping)?;
    }
    wishes.files.xlsx.add_facts(&mut mapping.facts);
    Ok(mapping)
}

/// Stops on names that the columns of an Excel table cannot have.
fn ensure_column_names(mapping: &Mapping) -> Result<()> {
    let mut taken = BTreeMap::new();
    for column in &mapping.columns {
        let name = &column.name;
        let help = "rename the column in SQL, or leave out table = true";
        if name.is_empty() || name.encode_utf16().count() > TABLE_NAME || name.chars().any(char::is_control) {
            let what = format!("`{name}` cannot be the name of a column of an Excel table");
            return Err(Error::new(Kind::Unsupported, what).at("column", name).help(help));
        }
        if let Some(other) = taken.insert(name.to_lowercase(), name) {
            let what = format!("the columns `{other}` and `{name}` have one name in an Excel table, which knows no case");
            return Err(Error::new(Kind::DuplicateColumn, what).at("column", name).help(help));
        }
    }
    Ok(())
}

/// A sheet's name that Excel takes: no `[]:*?/\`, no apostrophe at its ends, 31 characters, taken by no other sheet whatever the case.
#[must_use]
pub fn sheet_name(table: &str, part: usize, taken: &BTreeSet<String>) -> String {
    let clean: String = table.chars().map(|c| if "[]:*?/\\".contains(c) || c.is_control() { '_' } else { c }).collect::<String>();
    let clean = match clean.trim_matches('\'').trim() {
        "" => "Table",
        // Excel keeps this one to itself.
        name if name.eq_ignore_ascii_case("history") => "History_",
        name => name,
    };
    for number in part.. {
        let suffix = if number <= 1 { String::new() } else { format!(" ({number})") };
        // Excel counts UTF-16 units.
        let mut room = NAME - suffix.len();
        let stem: String = clean
            .chars()
            .take_while(|c| {
                let fits = c.len_utf16() <= room;
                room = room.saturating_sub(c.len_utf16());
                fits
            })
            .collect();
        let name = format!("{}{suffix}", stem.trim_end_matches('\''));
        if !taken.contains(&name.to_lowercase()) {
            return name;
        }
    }
    clean.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::documentation::{ensure_page, page};

    #[test]
    fn the_docs_page_is_the_table() {
        ensure_page("types-xlsx.md", &page(".xlsx", "xlsx.rs", &XlsxTypes));
    }

    #[test]
    fn sheets_have_names_that_excel_takes() {
        let mut taken = BTreeSet::new();
        let long = "n".repeat(40);
        let names: Vec<_> = ["a/b", "A_B", "'x'", "", "History", &long]
            .iter()
            .map(|table| {
                let name = sheet_name(table, 1, &taken);
                taken.insert(name.to_lowercase());
                name
            })
            .collect();
        assert_eq!(names, ["a_b", "A_B (2)", "x", "Table", "History_", &long[..31]]);
        assert_eq!(sheet_name(&long, 2, &taken), format!("{} (2)", &long[..27]));
        assert_eq!(sheet_name("😀".repeat(20).as_str(), 1, &taken), "😀".repeat(15));
    }
}
