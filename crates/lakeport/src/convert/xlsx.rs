//! Excel `.xlsx`, written on all cores in bounded memory and read back through `calamine`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Float64Builder, RecordBatch, StringBuilder, Time32MillisecondBuilder,
    TimestampMillisecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use calamine::{DataRef, Reader, Xlsx as Book, open_workbook};

use super::ahead::{Send, made_ahead};
use super::{Capability, FileDescription, Format, Opened, Writer, read_back};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::types::{Mapping, Wishes, xlsx};
use crate::verify::{Fingerprint, Verify};

mod package;
mod rows;
mod sheet;
mod table;
mod write;

use rows::{DAY, EPOCH};

/// Rows of a batch read back.
const BATCH: usize = 8192;

/// The format.
#[derive(Debug)]
pub struct Xlsx;

impl Format for Xlsx {
    fn capability(&self) -> Capability {
        Capability {
            name: "xlsx",
            extensions: &["xlsx"],
            write: true,
            read: true,
            lake: false,
            many_tables: true,
            max_rows: None,
            max_decimal: 15,
            summary: "Excel workbook, a sheet a table; continues on further sheets past 1,048,575 rows",
        }
    }

    fn map(&self, table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
        xlsx::map(table, schema, wishes)
    }

    fn readers(&self, cores: usize) -> usize {
        // One core reads twenty times the rows that another writes (measured).
        cores / 16
    }

    fn create(&self, path: &Path, tables: &[&Mapping], limits: &Limits) -> Result<Box<dyn Writer>> {
        Ok(Box::new(write::XlsxWriter::create(path, tables, limits.cores)?))
    }

    fn read_back(&self, path: &Path, tables: &[&Mapping], verify: Verify, _limits: &Limits) -> Result<Vec<Fingerprint>> {
        let mut sheets = sheets(path)?.into_iter().peekable();
        let mut prints = Vec::new();
        let mut taken = BTreeSet::new();
        for mapping in tables {
            // The sheets of a table are those the writer named, in order.
            let mut own = Vec::new();
            while let Some(sheet) = sheets.peek() {
                let expected = xlsx::sheet_name(&mapping.table, own.len() + 1, &taken);
                if *sheet != expected {
                    break;
                }
                taken.insert(expected.to_lowercase());
                own.extend(sheets.next());
            }
            let opened = opened(path, own, mapping)?;
            prints.push(read_back::through(opened, mapping, verify).at("table", &mapping.table)?);
        }
        Ok(prints)
    }

    fn open(&self, path: &Path, table: Option<&str>, _limits: &Limits) -> Result<Opened> {
        sheet::open(path, table)
    }

    fn describe(&self, path: &Path, _limits: &Limits) -> Result<FileDescription> {
        let bytes = std::fs::metadata(path).wrap(Kind::SourceMissing, || format!("there is no file {}", path.display()))?.len();
        let tables = sheets(path)?.into_iter().map(|name| sheet::describe(path, name)).collect::<Result<_>>()?;
        Ok(FileDescription { format: "xlsx".into(), version: None, bytes, tables })
    }
}

fn unreadable(path: &Path) -> impl Fn() -> String {
    let path = path.display().to_string();
    move || format!("{path} cannot be read as a workbook")
}

fn sheets(path: &Path) -> Result<Vec<String>> {
    let book: Book<BufReader<File>> = open_workbook(path).wrap(Kind::SourceUnreadable, unreadable(path))?;
    Ok(book.sheet_names())
}

/// Walks through the cells of a sheet in order: row, column, value.
fn cells(path: &Path, sheet: &str, each: &mut dyn FnMut(u32, u32, DataRef<'_>) -> Result<()>) -> Result<()> {
    let mut book: Book<BufReader<File>> = open_workbook(path).wrap(Kind::SourceUnreadable, unreadable(path))?;
    let mut reader = book.worksheet_cells_reader(sheet).wrap(Kind::SourceUnreadable, unreadable(path))?;
    while let Some(cell) = reader.next_cell().wrap(Kind::SourceUnreadable, unreadable(path))? {
        let (row, column) = cell.get_position();
        each(row, column, cell.get_value().clone())?;
    }
    Ok(())
}

/// The sheets of a table as batches of its mapping; a thread walks, a little ahead.
fn opened(path: &Path, sheets: Vec<String>, mapping: &Mapping) -> Result<Opened> {
    let fields: Vec<_> = mapping.columns.iter().map(|c| Field::new(&c.name, c.physical.clone(), true)).collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let (path, of) = (path.to_owned(), Arc::clone(&schema));
    let batches = made_ahead(move |send| {
        for sheet in sheets {
            let mut rows = Rows { schema: Arc::clone(&of), builders: builders(&of), row: 0, at: 0, rows: 0 };
            cells(&path, &sheet, &mut |row, column, value| rows.cell(row, column, &value, &mut *send))?;
            rows.end(&mut *send)?;
        }
        Ok(())
    });
    let table = mapping.table.clone();
    Ok(Opened { tables: vec![table.clone()], table, schema, rows: None, batches })
}

/// Gathers one column of cells.
enum Cells {
    Bool(BooleanBuilder),
    Number(Float64Builder),
    Text(StringBuilder),
    Date(Date32Builder),
    Time(Time32MillisecondBuilder),
    Stamp(TimestampMillisecondBuilder),
}

fn builders(schema: &SchemaRef) -> Vec<Cells> {
    let builder = |t: &DataType| match t {
        DataType::Boolean => Cells::Bool(BooleanBuilder::new()),
        DataType::Float64 => Cells::Number(Float64Builder::new()),
        DataType::Date32 => Cells::Date(Date32Builder::new()),
        DataType::Time32(_) => Cells::Time(Time32MillisecondBuilder::new()),
        DataType::Timestamp(..) => Cells::Stamp(TimestampMillisecondBuilder::new().with_data_type(t.clone())),
        _ => Cells::Text(StringBuilder::new()),
    };
    schema.fields().iter().map(|f| builder(f.data_type())).collect()
}

/// Puts the cells of one sheet together to rows; cells that are not there are NULL.
struct Rows {
    schema: SchemaRef,
    builders: Vec<Cells>,
    /// The row at work, and the next column in it.
    row: u32,
    at: usize,
    /// Whole rows in the builders.
    rows: usize,
}

impl Rows {
    fn cell(&mut self, row: u32, column: u32, value: &DataRef<'_>, send: Send<'_>) -> Result<()> {
        if row == 0 {
            return Ok(());
        }
        while self.row < row {
            self.complete(send)?;
            self.row += 1;
        }
        let column = usize::try_from(column).unwrap_or(usize::MAX);
        if column < self.at || column >= self.builders.len() {
            return Err(Error::new(Kind::VerifyFailed, format!("row {row} of a sheet has a cell where none was written")));
        }
        while self.at < column {
            self.builders[self.at].null();
            self.at += 1;
        }
        let ok = self.builders[column].push(value);
        self.at += 1;
        ok.ok_or_else(|| {
            let name = self.schema.field(column).name();
            Error::new(Kind::VerifyFailed, format!("a cell of column `{name}` holds {value:?}")).at("column", name)
        })
    }

    /// Fills the row at work with NULLs; hands out what is enough for a batch.
    fn complete(&mut self, send: Send<'_>) -> Result<()> {
        if self.row == 0 {
            return Ok(());
        }
        while self.at < self.builders.len() {
            self.builders[self.at].null();
            self.at += 1;
        }
        self.at = 0;
        self.rows += 1;
        if self.rows >= BATCH { self.flush(send) } else { Ok(()) }
    }

    fn flush(&mut self, send: Send<'_>) -> Result<()> {
        let columns: Vec<ArrayRef> = self.builders.iter_mut().map(Cells::finish).collect();
        self.rows = 0;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        send(batch.wrap(Kind::Unexpected, || "the columns of a sheet are of unlike length".into())?)
    }

    fn end(&mut self, send: Send<'_>) -> Result<()> {
        self.complete(send)?;
        if self.rows > 0 { self.flush(send) } else { Ok(()) }
    }
}

impl Cells {
    fn null(&mut self) {
        match self {
            Self::Bool(b) => b.append_null(),
            Self::Number(b) => b.append_null(),
            Self::Text(b) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Time(b) => b.append_null(),
            Self::Stamp(b) => b.append_null(),
        }
    }

    /// Appends a cell; `None` when it is of another kind.
    fn push(&mut self, value: &DataRef<'_>) -> Option<()> {
        if matches!(value, DataRef::Empty) {
            self.null();
            return Some(());
        }
        let number = match value {
            DataRef::Float(n) => Some(*n),
            DataRef::Int(n) => i32::try_from(*n).ok().map(f64::from),
            DataRef::DateTime(at) => Some(at.as_f64()),
            _ => None,
        };
        // Whole days and milliseconds, as they were counted.
        let whole = |n: f64| format!("{:.0}", n.round()).parse::<i64>().ok();
        match self {
            Self::Bool(b) => match value {
                DataRef::Bool(v) => b.append_value(*v),
                _ => return None,
            },
            Self::Number(b) => b.append_value(number?),
            Self::Text(b) => match value {
                DataRef::String(v) => b.append_value(v),
                DataRef::SharedString(v) => b.append_value(v),
                _ => return None,
            },
            Self::Date(b) => b.append_value(i32::try_from(whole(number? - f64::from(EPOCH))?).ok()?),
            Self::Time(b) => b.append_value(i32::try_from(whole(number? * DAY)?).ok()?),
            Self::Stamp(b) => {
                let (days, rest) = (number?.floor(), number?.rem_euclid(1.0));
                b.append_value(whole(days - f64::from(EPOCH))? * 86_400_000 + whole(rest * DAY)?);
            }
        }
        Some(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(b) => Arc::new(b.finish()),
            Self::Number(b) => Arc::new(b.finish()),
            Self::Text(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
            Self::Stamp(b) => Arc::new(b.finish()),
        }
    }
}
