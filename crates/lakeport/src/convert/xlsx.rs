//! Excel `.xlsx`, written row by row in constant memory and read back through `calamine`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Date32Builder, Float64Builder, RecordBatch, StringBuilder,
    Time32MillisecondBuilder, TimestampMillisecondBuilder,
};
use arrow::datatypes::{
    DataType, Date32Type, Field, Float64Type, Schema, SchemaRef, Time32MillisecondType, TimestampMillisecondType,
};
use calamine::{DataRef, Reader, Xlsx as Book, open_workbook};
use rust_xlsxwriter::{Color, Format as CellFormat, Workbook, Worksheet, XlsxError};

use super::{Capability, FileDescription, Format, Opened, Writer, Written, read_back};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::types::{ColumnMapping, Mapping, Wishes, xlsx};
use crate::verify::{Fingerprint, Verify};

mod sheet;

/// Rows of a sheet below its header.
const ROWS: u32 = 1_048_575;
/// Days from Excel's day zero to 1970, for dates from 1900-03-01 on.
const EPOCH: f64 = 25_569.0;
const DAY: f64 = 86_400_000.0;
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

    fn create(&self, path: &Path, tables: &[&Mapping], _limits: &Limits) -> Result<Box<dyn Writer>> {
        let mut workbook = Workbook::new();
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        workbook.set_tempdir(directory).map_err(|e| failed(e, path))?;
        let tables = tables.iter().map(|m| Table::new(m)).collect();
        Ok(Box::new(XlsxWriter { path: path.to_owned(), workbook, tables, taken: BTreeSet::new() }))
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

fn failed(error: XlsxError, path: &Path) -> Error {
    let message = format!("cannot write {}", path.display());
    // Through `wrap`, which tells a full disk from other failures.
    Err::<(), _>(error)
        .wrap(Kind::WriteFailed, || message.clone())
        .err()
        .unwrap_or_else(|| Error::new(Kind::WriteFailed, message))
}

/// One table on its way into sheets.
struct Table {
    mapping: Mapping,
    formats: Vec<Option<CellFormat>>,
    /// Sheets begun so far, and rows in the last.
    sheets: usize,
    sheet: usize,
    in_sheet: u32,
    rows: u64,
}

impl Table {
    fn new(mapping: &Mapping) -> Self {
        let formats = mapping.columns.iter().map(|c| number_format(c).map(|f| CellFormat::new().set_num_format(f))).collect();
        Self { mapping: mapping.clone(), formats, sheets: 0, sheet: 0, in_sheet: 0, rows: 0 }
    }

    fn has(&self, fact: &str) -> bool {
        self.mapping.facts.contains_key(fact)
    }
}

/// How Excel shows the cells of a column.
fn number_format(column: &ColumnMapping) -> Option<String> {
    match &column.physical {
        DataType::Date32 => Some("yyyy-mm-dd".into()),
        DataType::Time32(_) => Some("hh:mm:ss.000".into()),
        DataType::Timestamp(..) => Some("yyyy-mm-dd hh:mm:ss.000".into()),
        DataType::Float64 if column.source_type.is_integer() => Some("0".into()),
        DataType::Float64 => match column.source_type {
            DataType::Decimal32(_, s) | DataType::Decimal64(_, s) | DataType::Decimal128(_, s) | DataType::Decimal256(_, s)
                if s > 0 =>
            {
                Some(format!("0.{}", "0".repeat(usize::from(s.unsigned_abs()))))
            }
            _ => None,
        },
        _ => None,
    }
}

/// How wide a column is, in characters; from its type and name, never from the data.
fn width(column: &ColumnMapping) -> f64 {
    let by_type = match &column.physical {
        DataType::Boolean => 8,
        DataType::Date32 => 11,
        DataType::Time32(_) => 13,
        DataType::Timestamp(..) => 23,
        DataType::Float64 => 14,
        _ => 24,
    };
    let by_name = u32::try_from(column.name.chars().count().min(60)).unwrap_or(60) + 3;
    f64::from(by_name.max(by_type))
}

struct XlsxWriter {
    path: PathBuf,
    workbook: Workbook,
    tables: Vec<Table>,
    taken: BTreeSet<String>,
}

impl XlsxWriter {
    /// Begins the next sheet of a table: its name, header, widths and frozen first row.
    fn begin(&mut self, index: usize) -> Result<()> {
        let path = self.path.clone();
        let table = &mut self.tables[index];
        table.sheets += 1;
        table.in_sheet = 0;
        let name = xlsx::sheet_name(&table.mapping.table, table.sheets, &self.taken);
        self.taken.insert(name.to_lowercase());
        table.sheet = self.taken.len() - 1;
        let header = CellFormat::new().set_bold().set_background_color(Color::RGB(0x00DD_E7F0));
        let sheet = self.workbook.add_worksheet_with_constant_memory().map_err(|e| failed(e, &path))?;
        let result = (|| {
            sheet.set_name(&name)?;
            if !table.has("freeze") {
                sheet.set_freeze_panes(1, 0)?;
            }
            for (at, column) in (0u16..).zip(&table.mapping.columns) {
                sheet.set_column_width(at, width(column))?;
            }
            for (at, column) in (0u16..).zip(&table.mapping.columns) {
                sheet.write_string_with_format(0, at, &column.name, &header)?;
            }
            Ok(())
        })();
        result.map_err(|e| failed(e, &path))
    }

    /// Ends a sheet: its filter spans what was written.
    fn end(&mut self, index: usize) -> Result<()> {
        let table = &self.tables[index];
        let last = u16::try_from(table.mapping.columns.len() - 1).unwrap_or(u16::MAX);
        if table.has("autofilter") || table.in_sheet == 0 {
            return Ok(());
        }
        let rows = table.in_sheet;
        let sheet = self.workbook.worksheet_from_index(table.sheet);
        sheet.and_then(|s| s.autofilter(0, 0, rows, last).map(|_| ())).map_err(|e| failed(e, &self.path))
    }

    fn row(sheet: &mut Worksheet, table: &Table, at: u32, batch: &RecordBatch, row: usize, path: &Path) -> Result<()> {
        for (column, ((array, mapping), format)) in
            (0u16..).zip(batch.columns().iter().zip(&table.mapping.columns).zip(&table.formats))
        {
            let result = if array.is_null(row) {
                // The first cell of a row stands for it, even if all are empty.
                if column > 0 {
                    continue;
                }
                sheet.write_blank(at, column, &CellFormat::new().set_num_format("General;")).map(|_| ())
            } else {
                match array.data_type() {
                    DataType::Boolean => sheet.write_boolean(at, column, array.as_boolean().value(row)).map(|_| ()),
                    DataType::Utf8 => {
                        let text = array.as_string::<i32>().value(row);
                        check_text(text, mapping, table.rows + 1)?;
                        sheet.write_string(at, column, text).map(|_| ())
                    }
                    _ => {
                        let number = number(array.as_ref(), row);
                        match format {
                            Some(format) => sheet.write_number_with_format(at, column, number, format).map(|_| ()),
                            None => sheet.write_number(at, column, number).map(|_| ()),
                        }
                    }
                }
            };
            result.map_err(|e| failed(e, path))?;
        }
        Ok(())
    }
}

/// A number, date or time as Excel counts it.
fn number(array: &dyn Array, row: usize) -> f64 {
    match array.data_type() {
        DataType::Date32 => f64::from(array.as_primitive::<Date32Type>().value(row)) + EPOCH,
        DataType::Time32(_) => f64::from(array.as_primitive::<Time32MillisecondType>().value(row)) / DAY,
        DataType::Timestamp(..) => {
            let millis = array.as_primitive::<TimestampMillisecondType>().value(row);
            let (days, rest) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
            // Both parts are small whole numbers, which doubles hold exactly.
            let exact = |n: i64| i32::try_from(n).map_or(f64::NAN, f64::from);
            exact(days) + EPOCH + exact(rest) / DAY
        }
        _ => array.as_primitive::<Float64Type>().value(row),
    }
}

/// Stops on what XML has no character for; lengths are checked when the batch is shaped.
fn check_text(text: &str, column: &ColumnMapping, row: u64) -> Result<()> {
    let control = text.chars().find(|c| (*c < ' ' && !matches!(c, '\t' | '\n')) || matches!(c, '\u{fffe}' | '\u{ffff}'));
    let Some(c) = control else { return Ok(()) };
    Err(Error::new(Kind::ValueRefused, format!("a value of column `{}` fits into no cell", column.name))
        .at("column", &column.name)
        .because(format!("row {row}: it holds the control character U+{:04X}", u32::from(c)))
        .help("replace it in SQL, or write the column as bytes"))
}

impl Writer for XlsxWriter {
    fn write(&mut self, table: usize, batch: &RecordBatch) -> Result<()> {
        for row in 0..batch.num_rows() {
            let full = self.tables[table].in_sheet == ROWS;
            if self.tables[table].sheets == 0 || full {
                if self.tables[table].sheets > 0 && self.tables[table].has("rows") {
                    return Err(Error::new(Kind::ValueRefused, "the table has more rows than a sheet")
                        .because("a sheet holds 1,048,575 rows below its header".to_owned())
                        .help("leave out rows = \"refuse\" in [job.NAME.xlsx] to continue on further sheets"));
                }
                if full {
                    self.end(table)?;
                }
                self.begin(table)?;
            }
            let state = &self.tables[table];
            let (at, index) = (state.in_sheet + 1, state.sheet);
            let sheet = self.workbook.worksheet_from_index(index).map_err(|e| failed(e, &self.path))?;
            Self::row(sheet, state, at, batch, row, &self.path)?;
            self.tables[table].in_sheet += 1;
            self.tables[table].rows += 1;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Written> {
        for index in 0..self.tables.len() {
            if self.tables[index].sheets == 0 {
                self.begin(index)?;
            }
            self.end(index)?;
        }
        let path = self.path.clone();
        self.workbook.save(&path).map_err(|e| failed(e, &path))?;
        let failed = || format!("cannot write {}", path.display());
        let file = File::open(&path).wrap(Kind::WriteFailed, failed)?;
        file.sync_all().wrap(Kind::WriteFailed, failed)?;
        let bytes = file.metadata().wrap(Kind::WriteFailed, failed)?.len();
        let rows = self.tables.iter().map(|t| t.rows).collect();
        Ok(Written { path, bytes, format: "xlsx".into(), rows })
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
    let (queue, batches) = std::sync::mpsc::sync_channel(2);
    let (path, of) = (path.to_owned(), Arc::clone(&schema));
    std::thread::spawn(move || {
        for sheet in sheets {
            let mut rows = Rows { schema: Arc::clone(&of), builders: builders(&of), row: 0, at: 0, rows: 0 };
            let mut send = |batch| queue.send(Ok(batch)).map_err(|_| Error::new(Kind::Unexpected, "nobody reads"));
            let walked = cells(&path, &sheet, &mut |row, column, value| rows.cell(row, column, &value, &mut send));
            if let Err(e) = walked.and_then(|()| rows.end(&mut send)) {
                // A reader that is gone needs no reason.
                let _ = queue.send(Err(e));
                return;
            }
        }
    });
    let table = mapping.table.clone();
    Ok(Opened { tables: vec![table.clone()], table, schema, rows: None, batches: Box::new(batches.into_iter()) })
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

/// Takes a batch on.
type Send<'a> = &'a mut dyn FnMut(RecordBatch) -> Result<()>;

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
            Self::Date(b) => b.append_value(i32::try_from(whole(number? - EPOCH)?).ok()?),
            Self::Time(b) => b.append_value(i32::try_from(whole(number? * DAY)?).ok()?),
            Self::Stamp(b) => {
                let (days, rest) = (number?.floor(), number?.rem_euclid(1.0));
                b.append_value(whole(days - EPOCH)? * 86_400_000 + whole(rest * DAY)?);
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
