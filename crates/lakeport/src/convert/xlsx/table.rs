//! Excel tables: a range with a name, a style, and filters of its own.

use std::collections::BTreeSet;

use rust_xlsxwriter::{Format as CellFormat, Table, TableColumn, TableStyle};

use crate::types::Mapping;

/// The table of a sheet, under a name that no other has.
pub(super) fn of(mapping: &Mapping, header: &CellFormat, filters: bool, taken: &mut BTreeSet<String>) -> Table {
    let columns = mapping.columns.iter().map(|c| TableColumn::new().set_header(&c.name).set_header_format(header));
    let columns: Vec<_> = columns.collect();
    let mut name = name(&mapping.table, 1);
    let mut part = 2;
    // Excel tells names by more than their case.
    while !taken.insert(name.to_lowercase()) {
        name = self::name(&mapping.table, part);
        part += 1;
    }
    Table::new().set_name(name).set_columns(&columns).set_autofilter(filters).set_style(TableStyle::Light9)
}

/// A name that formulas can use: letters, digits, `_` and `.`, not begun with a digit and no address of a cell.
fn name(table: &str, part: usize) -> String {
    let clean: String =
        table.chars().map(|c| if c.is_alphanumeric() || c == '_' || c == '.' { c } else { '_' }).take(200).collect();
    let begins = clean.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
    let letters = clean.bytes().take_while(u8::is_ascii_alphabetic).count();
    let digits = clean.bytes().skip(letters).all(|b| b.is_ascii_digit());
    // A1, XFD1048576, R, C, R1C1, and words of up to three letters, which Excel may come to take for columns.
    let address =
        digits && letters <= 3 || clean.to_ascii_uppercase().bytes().all(|b| b == b'R' || b == b'C' || b.is_ascii_digit());
    let clean = if begins && !address { clean } else { format!("_{clean}") };
    if part <= 1 { clean } else { format!("{clean}_{part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_none_of_cells() {
        let names: Vec<_> = ["Extract", "a b", "A1", "XFD10", "r1c1", "RC", "1st", "größe", "abcd1"].map(|t| name(t, 1)).to_vec();
        assert_eq!(names, ["Extract", "a_b", "_A1", "_XFD10", "_r1c1", "_RC", "_1st", "größe", "abcd1"]);
        assert_eq!((name("t", 2), name("sales", 2)), ("_t_2".to_owned(), "sales_2".to_owned()));
    }
}
