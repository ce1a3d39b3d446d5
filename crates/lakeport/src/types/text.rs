//! The mapping table of plain text: one column of texts, one line a row.

use arrow::datatypes::{DataType, Schema};

use super::walk::{self, Row, TypeTable};
use super::{Conversion, Mapping, Wishes};
use crate::error::{Error, Kind, Result};

const LINES: &str = "texts without line breaks, and no NULL";

/// The table.
#[derive(Debug, Clone, Copy)]
pub struct TextTypes;

impl TypeTable for TextTypes {
    fn row(&self, data_type: &DataType) -> Row {
        use DataType as A;
        match data_type {
            A::Utf8 | A::LargeUtf8 | A::Utf8View => Row { conversion: Conversion::Cast, ..Row::checked("line", A::Utf8, LINES) },
            A::Dictionary(_, values) => self.row(values),
            _ => Row::refused("a line is a text").note("set types.COLUMN = \"text\", or build the line in SQL"),
        }
    }
    fn wished(&self, from: &DataType, wish: &str) -> Option<Row> {
        matches!(wish, "text" | "string" | "varchar").then(|| {
            let row = super::csv::CsvTypes.row(from);
            if row.verdict.name() == "refused" { row } else { Row { target: "line".into(), ..row } }
        })
    }
    fn names(&self) -> &'static str {
        "text"
    }
    fn json(&self) -> Row {
        Row::widened("line", DataType::Utf8, Conversion::Json, "JSON text")
    }
}

/// Maps a schema of one column; pure.
///
/// # Errors
/// As [`walk::map`], and `Unsupported` for more than one column.
pub fn map(table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
    let mut mapping = walk::map(table, schema, wishes, &TextTypes)?;
    if mapping.columns.len() > 1 {
        let columns = mapping.columns.len();
        return Err(Error::new(Kind::Unsupported, format!("a text file holds one column, and there are {columns}"))
            .help("select one column, or build the line in SQL; .csv holds several"));
    }
    let options = &wishes.files.text;
    wishes.files.add_compression(options.compression, options.compression_level, &mut mapping.facts)?;
    Ok(mapping)
}
