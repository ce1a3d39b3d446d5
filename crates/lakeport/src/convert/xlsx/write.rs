//! Writes a workbook: slices of batches become compressed XML on all cores and wait in a file of their own per sheet; at the end
//! they are put into the workbook that `rust_xlsxwriter` makes of everything around the rows.
//!
//! Memory is bounded by the slices under way.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use rust_xlsxwriter::{Color, Format as CellFormat, Workbook, XlsxError};

use super::package::{Package, Piece, Tally, piece};
use super::rows::{Columns, letters};
use super::table;
use crate::convert::crew::{Crew, slice_rows};
use crate::convert::{Writer, Written};
use crate::error::{Error, Kind, Result, Wrap};
use crate::types::{ColumnMapping, Mapping, xlsx};

/// Rows of a sheet below its header.
const ROWS: u32 = 1_048_575;
/// The number of the first of them.
const FIRST: u32 = 2;
/// Bytes of a slice as Arrow; some five times that as XML.
const SLICE: usize = 128 * 1024;
/// How hard to compress, of 9.
const LEVEL: u32 = 4;

/// Rows to become XML.
struct Slice {
    table: usize,
    columns: Arc<Columns>,
    batch: RecordBatch,
    /// The number of the first row in its sheet, and how many of the table are before it.
    first: u32,
    before: u64,
}

/// What became of them.
struct Packed {
    table: usize,
    first: u32,
    rows: u32,
    piece: Piece,
    plain: usize,
}

/// A sheet being written: its rows, compressed.
struct Sheet {
    rows: u32,
    tally: Tally,
    spool: BufWriter<File>,
}

/// One table on its way into sheets.
struct Table {
    mapping: Mapping,
    columns: Arc<Columns>,
    rows: u64,
    /// Rows given to be encoded for the sheet at work.
    given: u32,
    sheets: Vec<Sheet>,
}

/// The writer of one workbook.
pub(super) struct XlsxWriter {
    path: PathBuf,
    tables: Vec<Table>,
    crew: Crew<Slice, Result<Packed>>,
}

impl XlsxWriter {
    /// Learns the styles of the tables' cells and starts the threads.
    pub(super) fn create(path: &Path, mappings: &[&Mapping], cores: usize) -> Result<Self> {
        let sheets: Vec<_> = mappings.iter().map(|m| Plain { mapping: m, name: None, rows: 0 }).collect();
        let frames = Frames::of(&sheets, path)?;
        let tables = mappings.iter().zip(&frames.sheets).map(|(mapping, frame)| {
            let columns = Arc::new(frame.columns(mapping)?);
            Ok(Table { mapping: (*mapping).clone(), columns, rows: 0, given: ROWS, sheets: Vec::new() })
        });
        let crew = Crew::new(cores, || {
            |Slice { table, columns, batch, first, before }: Slice| {
                let xml = columns.rows(&batch, first, before)?;
                let piece = piece(&xml, LEVEL, false).wrap(Kind::WriteFailed, || "cannot compress the rows of a sheet".into())?;
                let rows = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
                Ok(Packed { table, first, rows, piece, plain: xml.len() })
            }
        });
        Ok(Self { path: path.to_owned(), tables: tables.collect::<Result<_>>()?, crew })
    }

    fn failed(&self) -> impl Fn() -> String + use<> {
        let message = format!("cannot write {}", self.path.display());
        move || message.clone()
    }

    /// Takes encoded rows to their sheet; those that begin one open it.
    fn keep(&mut self, packed: &Packed) -> Result<()> {
        let failed = self.failed();
        let table = &mut self.tables[packed.table];
        if packed.first == FIRST {
            let directory = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
            let spool = tempfile::tempfile_in(directory).wrap(Kind::WriteFailed, &failed)?;
            table.sheets.push(Sheet { rows: 0, tally: Tally::default(), spool: BufWriter::with_capacity(1 << 20, spool) });
        }
        let Some(sheet) = table.sheets.last_mut() else {
            return Err(Error::new(Kind::Unexpected, "rows came before their sheet"));
        };
        sheet.rows += packed.rows;
        sheet.tally.add(&packed.piece, packed.plain);
        sheet.spool.write_all(&packed.piece.packed).wrap(Kind::WriteFailed, failed)
    }

    /// Puts the workbook together.
    fn assemble(&mut self) -> Result<()> {
        let failed = self.failed();
        let mut taken = BTreeSet::new();
        let mut plain = Vec::new();
        for table in &self.tables {
            // A table without rows has a sheet with a header.
            let rows = if table.sheets.is_empty() { vec![0] } else { table.sheets.iter().map(|s| s.rows).collect() };
            for (part, rows) in (1..).zip(rows) {
                let name = xlsx::sheet_name(&table.mapping.table, part, &taken);
                taken.insert(name.to_lowercase());
                plain.push(Plain { mapping: &table.mapping, name: Some(name), rows });
            }
        }
        let frames = Frames::of(&plain, &self.path)?;
        let out = BufWriter::with_capacity(1 << 20, File::create(&self.path).wrap(Kind::WriteFailed, &failed)?);
        let mut package = Package::new(out);
        for (name, content) in &frames.others {
            let whole = piece(content, LEVEL, true).wrap(Kind::WriteFailed, &failed)?;
            let mut tally = Tally::default();
            tally.add(&whole, content.len());
            package.add(name, tally.sums(), &mut whole.packed.as_slice()).wrap(Kind::WriteFailed, &failed)?;
        }
        let mut frames = frames.sheets.iter();
        for table in &mut self.tables {
            let mut sheets: Vec<_> = table.sheets.iter_mut().map(Some).collect();
            if sheets.is_empty() {
                sheets.push(None);
            }
            for (sheet, frame) in sheets.into_iter().zip(&mut frames) {
                let head = piece(frame.head.as_bytes(), LEVEL, false).wrap(Kind::WriteFailed, &failed)?;
                let tail = piece(frame.tail.as_bytes(), LEVEL, true).wrap(Kind::WriteFailed, &failed)?;
                let mut tally = Tally::default();
                tally.add(&head, frame.head.len());
                let mut rows: Box<dyn Read + '_> = Box::new(std::io::empty());
                if let Some(sheet) = sheet {
                    tally.append(&sheet.tally);
                    sheet.spool.flush().wrap(Kind::WriteFailed, &failed)?;
                    let spool = sheet.spool.get_mut();
                    spool.seek(SeekFrom::Start(0)).wrap(Kind::WriteFailed, &failed)?;
                    rows = Box::new(spool);
                }
                tally.add(&tail, frame.tail.len());
                let mut content = head.packed.as_slice().chain(rows).chain(tail.packed.as_slice());
                package.add(&frame.name, tally.sums(), &mut content).wrap(Kind::WriteFailed, &failed)?;
            }
        }
        let out = package.finish().wrap(Kind::WriteFailed, &failed)?;
        let file = out.into_inner().map_err(std::io::IntoInnerError::into_error).wrap(Kind::WriteFailed, &failed)?;
        file.sync_all().wrap(Kind::WriteFailed, failed)
    }
}

impl Writer for XlsxWriter {
    fn write(&mut self, table: usize, batch: &RecordBatch) -> Result<()> {
        let step = slice_rows(batch, SLICE);
        let mut at = 0;
        while at < batch.num_rows() {
            let state = &mut self.tables[table];
            if state.given == ROWS {
                if state.rows > 0 && state.mapping.facts.contains_key("rows") {
                    return Err(Error::new(Kind::ValueRefused, "the table has more rows than a sheet")
                        .because("a sheet holds 1,048,575 rows below its header".to_owned())
                        .help("leave out rows = \"refuse\" in [job.NAME.xlsx] to continue on further sheets"));
                }
                state.given = 0;
            }
            let rows = u32::try_from(step.min(batch.num_rows() - at)).unwrap_or(u32::MAX).min(ROWS - state.given);
            let slice = Slice {
                table,
                columns: Arc::clone(&state.columns),
                batch: batch.slice(at, rows as usize),
                first: state.given + FIRST,
                before: state.rows,
            };
            state.given += rows;
            state.rows += u64::from(rows);
            at += rows as usize;
            if let Some(packed) = self.crew.give(slice)? {
                self.keep(&packed?)?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Written> {
        while let Some(packed) = self.crew.oldest()? {
            self.keep(&packed?)?;
        }
        self.assemble()?;
        let bytes = std::fs::metadata(&self.path).wrap(Kind::WriteFailed, self.failed())?.len();
        let rows = self.tables.iter().map(|t| t.rows).collect();
        Ok(Written { path: self.path, bytes, format: "xlsx".into(), rows })
    }
}

/// What the library is told of a sheet: everything but its rows.
struct Plain<'a> {
    mapping: &'a Mapping,
    name: Option<String>,
    rows: u32,
}

/// A sheet's XML before and behind its rows.
struct Frame {
    name: String,
    head: String,
    tail: String,
    /// What the library wrote for the model rows.
    model: String,
}

/// The files of a workbook without rows.
struct Frames {
    sheets: Vec<Frame>,
    others: Vec<(String, Vec<u8>)>,
}

impl Frames {
    /// Lets the library write the workbook, each sheet with two model rows that tell how it styles cells.
    fn of(sheets: &[Plain<'_>], path: &Path) -> Result<Self> {
        let bytes = workbook(sheets).map_err(|e| failed(e, path))?;
        let odd = |why: String| Error::new(Kind::Unexpected, "the workbook's frame is not as expected").because(why);
        let unreadable = || "the workbook's frame cannot be read".to_owned();
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).wrap(Kind::Unexpected, unreadable)?;
        let mut frames = Self { sheets: Vec::new(), others: Vec::new() };
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).wrap(Kind::Unexpected, unreadable)?;
            let name = entry.name().wrap(Kind::Unexpected, unreadable)?.into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).wrap(Kind::Unexpected, unreadable)?;
            if !name.starts_with("xl/worksheets/sheet") {
                frames.others.push((name, content));
                continue;
            }
            let Some(sheet) = sheets.get(frames.sheets.len()) else { return Err(odd(format!("{name} is one too many"))) };
            let xml = String::from_utf8(content).map_err(|e| odd(e.to_string()))?;
            // The model rows follow the header and lead to the end of the rows.
            let cut = xml.find("</row>").map(|at| at + "</row>".len()).zip(xml.find("</sheetData>"));
            let (from, to) = cut.filter(|(from, to)| from <= to).ok_or_else(|| odd(format!("{name} has no rows")))?;
            let (head, rest) = xml.split_at(from);
            let (model, tail) = rest.split_at(to - from);
            let last = letters(sheet.mapping.columns.len() - 1);
            let head =
                spanned(head, &format!("A1:{last}{}", sheet.rows + 1)).ok_or_else(|| odd(format!("{name} has no extent")))?;
            frames.sheets.push(Frame { name, head, tail: tail.to_owned(), model: model.to_owned() });
        }
        if frames.sheets.len() == sheets.len() { Ok(frames) } else { Err(odd("a sheet is missing".into())) }
    }
}

/// The head of a sheet with its extent exchanged.
fn spanned(head: &str, extent: &str) -> Option<String> {
    let (before, rest) = head.split_once("<dimension ref=\"")?;
    let (_, behind) = rest.split_once('"')?;
    Some(format!("{before}<dimension ref=\"{extent}\"{behind}"))
}

impl Frame {
    /// How the cells of a table begin, by its model rows.
    fn columns(&self, mapping: &Mapping) -> Result<Columns> {
        let style = |cell: String| {
            let (_, rest) = self.model.split_once(&format!("<c r=\"{cell}\" s=\""))?;
            rest.split_once('"').map(|(style, _)| style.to_owned())
        };
        let unknown = || Error::new(Kind::Unexpected, "the library has not told the style of a cell");
        let styles = mapping.columns.iter().enumerate().map(|(at, column)| match number_format(column) {
            Some(_) => style(format!("{}2", letters(at))).ok_or_else(unknown).map(Some),
            None => Ok(None),
        });
        Ok(Columns::new(mapping, &styles.collect::<Result<Vec<_>>>()?, &style("A3".into()).ok_or_else(unknown)?))
    }
}

/// The workbook without rows: names, headers, widths, frozen first rows, filters.
fn workbook(sheets: &[Plain<'_>]) -> std::result::Result<Vec<u8>, XlsxError> {
    let mut workbook = Workbook::new();
    let header = CellFormat::new().set_bold().set_background_color(Color::RGB(0x00DD_E7F0));
    let mut tables = BTreeSet::new();
    for Plain { mapping, name, rows } in sheets {
        let has = |fact: &str| mapping.facts.contains_key(fact);
        let sheet = workbook.add_worksheet();
        if let Some(name) = name {
            sheet.set_name(name)?;
        }
        if !has("freeze") {
            sheet.set_freeze_panes(1, 0)?;
        }
        for (at, column) in (0u16..).zip(&mapping.columns) {
            sheet.set_column_width(at, width(column))?;
            sheet.write_string_with_format(0, at, &column.name, &header)?;
            if let Some(format) = number_format(column) {
                sheet.write_blank(1, at, &CellFormat::new().set_num_format(format))?;
            }
        }
        // The first cell of a row stands for it, even if all are empty.
        sheet.write_blank(2, 0, &CellFormat::new().set_num_format("General;"))?;
        let last = u16::try_from(mapping.columns.len() - 1).unwrap_or(u16::MAX);
        if has("table") {
            // One without rows reaches over an empty one, as Excel itself has it.
            sheet.add_table(0, 0, (*rows).max(1), last, &table::of(mapping, &header, !has("autofilter"), &mut tables))?;
        } else if !has("autofilter") && *rows > 0 {
            sheet.autofilter(0, 0, *rows, last)?;
        }
    }
    workbook.save_to_buffer()
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

fn failed(error: XlsxError, path: &Path) -> Error {
    let message = format!("cannot write {}", path.display());
    // Through `wrap`, which tells a full disk from other failures.
    Err::<(), _>(error)
        .wrap(Kind::WriteFailed, || message.clone())
        .err()
        .unwrap_or_else(|| Error::new(Kind::WriteFailed, message))
}
