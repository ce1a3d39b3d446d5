//! Writes the smallest `.tde` that Tableau's own reader takes: every value plain, texts in heaps, the catalog behind them.
//!
//! The file wants each column in one piece, and rows arrive with all of theirs, so columns are first spooled, in pieces, to one
//! unnamed file beside the target. Memory is bounded by the pieces and by the texts remembered to be written once.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMillisecondType,
};

use super::calendar;
use super::column::{NULL_DOUBLE, NULL_FLOAT, Properties, TICKS};
use super::layout::{ALIGNMENT, DIRECTORY, Directory, FOOTER, HEADER, MAGIC, PADDING, Span, TAIL, VERSION};
use super::system;
use crate::error::{Error, Kind, Result, Wrap};

/// Bytes of all columns that wait to be spooled, and what one of them waits for.
const WAITING: usize = 16 * 1024 * 1024;
const PIECE: (usize, usize) = (4096, 256 * 1024);
/// Bytes of texts remembered by all columns, so that what repeats is written once.
const REMEMBERED: usize = 32 * 1024 * 1024;
/// Ticks of a millisecond, and milliseconds of a day.
const MILLI: i64 = 10;
const DAY: i64 = 86_400_000;

/// A column to be written.
#[derive(Debug, Clone)]
pub(super) struct NewColumn {
    pub(super) name: String,
    pub(super) physical: DataType,
    pub(super) nullable: bool,
}

/// The type that a physical type is written as, and the bytes of its values; `None` for what is not written.
pub(super) fn written_as(physical: &DataType) -> Option<(&'static str, usize)> {
    Some(match physical {
        DataType::Boolean => ("bit", 1),
        DataType::Int8 => ("tiny", 1),
        DataType::Int16 => ("short", 2),
        DataType::Int32 => ("long", 4),
        DataType::Int64 => ("bigint", 8),
        DataType::Float32 => ("float", 4),
        DataType::Float64 => ("double", 8),
        DataType::Date32 => ("date", 4),
        DataType::Timestamp(TimeUnit::Millisecond, _) => ("datetime", 8),
        DataType::Utf8 => ("clob(2) collate binary", 4),
        _ => return None,
    })
}

/// A stream of bytes on its way to one file of the extract.
#[derive(Debug, Default)]
struct Stream {
    waiting: Vec<u8>,
    pieces: Vec<Span>,
    bytes: u64,
}

/// Where streams wait until the file is put together.
#[derive(Debug)]
struct Spool {
    file: File,
    at: u64,
    piece: usize,
}

impl Spool {
    fn add(&mut self, stream: &mut Stream, bytes: &[u8]) -> Result<()> {
        stream.waiting.extend_from_slice(bytes);
        stream.bytes += bytes.len() as u64;
        if stream.waiting.len() >= self.piece {
            self.file.write_all(&stream.waiting).wrap(Kind::WriteFailed, || "cannot spool the columns of the .tde".into())?;
            let start = self.at;
            self.at += stream.waiting.len() as u64;
            stream.pieces.push(Span { start, end: self.at });
            stream.waiting.clear();
        }
        Ok(())
    }
}

/// A column being written.
#[derive(Debug)]
struct ColumnWriter {
    column: NewColumn,
    data: Stream,
    heap: Stream,
    known: HashMap<Box<str>, u32>,
    remembered: usize,
}

/// Writes one table, `Extract.Extract`.
#[derive(Debug)]
pub(super) struct TdeEncoder {
    out: Out,
    spool: Spool,
    columns: Vec<ColumnWriter>,
    rows: u64,
}

impl TdeEncoder {
    /// Creates the file.
    pub(super) fn create(path: &Path, columns: Vec<NewColumn>) -> Result<Self> {
        let failed = || format!("cannot write {}", path.display());
        let out = Out::new(File::create(path).wrap(Kind::WriteFailed, failed)?)?;
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let file = tempfile::tempfile_in(directory).wrap(Kind::WriteFailed, failed)?;
        let piece = (WAITING / columns.len().max(1)).clamp(PIECE.0, PIECE.1);
        let columns = columns.into_iter().map(|column| ColumnWriter {
            column,
            data: Stream::default(),
            heap: Stream::default(),
            known: HashMap::new(),
            remembered: 0,
        });
        Ok(Self { out, spool: Spool { file, at: 0, piece }, columns: columns.collect(), rows: 0 })
    }

    /// Appends a batch of the columns' physical types.
    pub(super) fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        let most = REMEMBERED / self.columns.len().max(1);
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            column.append(array.as_ref(), &mut self.spool, most)?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Puts the columns and the catalog into the file and syncs it.
    pub(super) fn complete(mut self) -> Result<()> {
        let mut table = Directory::new();
        let mut described = Vec::new();
        for (ordinal, writer) in self.columns.iter_mut().enumerate() {
            let name = |extension: &str| format!("column{}.{extension}", ordinal + 1);
            table.insert(name("data"), self.out.streamed(&mut self.spool.file, &writer.data)?);
            if writer.column.physical == DataType::Utf8 {
                table.insert(name("dict"), self.out.streamed(&mut self.spool.file, &writer.heap)?);
            }
            // What is in the file need not be kept.
            (writer.data, writer.heap, writer.known) = (Stream::default(), Stream::default(), HashMap::new());
            described.push(system::describe(&writer.column, ordinal, &name("data"), &name("dict")));
        }
        self.out.complete(&[(system::TABLE, table, described)])
    }
}

impl ColumnWriter {
    fn append(&mut self, array: &dyn Array, spool: &mut Spool, most: usize) -> Result<()> {
        let mut bytes = Vec::with_capacity(array.len() * 8);
        macro_rules! numbers {
            ($type:ty, $null:expr, $value:expr) => {
                for value in array.as_primitive::<$type>() {
                    bytes.extend_from_slice(&value.map_or($null, $value).to_le_bytes());
                }
            };
        }
        match array.data_type() {
            DataType::Boolean => bytes.extend(array.as_boolean().iter().map(|v| v.map_or(0x80, u8::from))),
            DataType::Int8 => numbers!(Int8Type, i8::MIN, |v| v),
            DataType::Int16 => numbers!(Int16Type, i16::MIN, |v| v),
            DataType::Int32 => numbers!(Int32Type, i32::MIN, |v| v),
            DataType::Int64 => numbers!(Int64Type, i64::MIN, |v| v),
            // A NaN of the very bits that mean NULL becomes the usual one.
            DataType::Float32 => numbers!(Float32Type, f32::from_bits(NULL_FLOAT), |v| if v.is_nan() { f32::NAN } else { v }),
            DataType::Float64 => numbers!(Float64Type, f64::from_bits(NULL_DOUBLE), |v| if v.is_nan() { f64::NAN } else { v }),
            DataType::Date32 => {
                for value in array.as_primitive::<Date32Type>() {
                    let day =
                        value.map_or(Ok(u32::MAX), |v| self.day(i64::from(v)).map(|d| u32::try_from(d).unwrap_or(u32::MAX)))?;
                    bytes.extend_from_slice(&day.to_le_bytes());
                }
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                for value in array.as_primitive::<TimestampMillisecondType>() {
                    let ticks = |v: i64| self.day(v.div_euclid(DAY)).map(|d| d * TICKS + v.rem_euclid(DAY) * MILLI);
                    bytes.extend_from_slice(&value.map_or(Ok(-1), ticks)?.to_le_bytes());
                }
            }
            DataType::Utf8 => {
                for text in array.as_string::<i32>() {
                    let token = text.map_or(Ok(u32::MAX), |t| self.token(t, spool, most))?;
                    bytes.extend_from_slice(&token.to_le_bytes());
                }
            }
            other => return Err(Error::new(Kind::Unexpected, format!("{other} is no type of a .tde"))),
        }
        spool.add(&mut self.data, &bytes)
    }

    /// The number of a day.
    fn day(&self, unix: i64) -> Result<i64> {
        calendar::number(unix).ok_or_else(|| {
            let name = &self.column.name;
            Error::new(Kind::ValueRefused, format!("a value of column `{name}` is on a day that a .tde does not have"))
                .at("column", name)
                .because("its calendar goes from 1582-10-04 to 1582-10-15".to_owned())
                .help(format!("filter the row with --where, or keep it as text with --types {name}=text"))
        })
    }

    /// The place of a text in the heap, where it is put unless it is remembered to be there.
    fn token(&mut self, text: &str, spool: &mut Spool, most: usize) -> Result<u32> {
        if let Some(token) = self.known.get(text) {
            return Ok(*token);
        }
        let too_much = |what: String| {
            Error::new(Kind::Unsupported, format!("the texts of column `{}` {what}", self.column.name))
                .help("write a .hyper, or leave the column out with --types COLUMN=drop")
        };
        // The last number is NULL's.
        let token = u32::try_from(self.heap.bytes).ok().filter(|t| *t != u32::MAX);
        let token = token.ok_or_else(|| too_much("are more than the 4 GiB a .tde has room for".into()))?;
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let length = u32::try_from(units.len()).map_err(|_| too_much("are too long".into()))?;
        spool.add(&mut self.heap, &length.to_le_bytes())?;
        spool.add(&mut self.heap, &units)?;
        // An entry takes about as much again as its text.
        let cost = text.len() + 64;
        if self.remembered + cost <= most {
            self.remembered += cost;
            self.known.insert(text.into(), token);
        }
        Ok(token)
    }
}

/// The file, written from its start to its end.
#[derive(Debug)]
pub(super) struct Out {
    file: BufWriter<File>,
    at: u64,
}

impl Out {
    pub(super) fn new(file: File) -> Result<Self> {
        let mut out = Self { file: BufWriter::with_capacity(1024 * 1024, file), at: 0 };
        out.write(&[0; HEADER])?;
        Ok(out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.at += bytes.len() as u64;
        self.file.write_all(bytes).wrap(Kind::WriteFailed, || "cannot write the .tde".into())
    }

    fn align(&mut self) -> Result<u64> {
        let gap = usize::try_from(self.at.next_multiple_of(ALIGNMENT) - self.at).unwrap_or(0);
        self.write(&[0xFF; 16][..gap])?;
        Ok(self.at)
    }

    /// A file of its own; hands out where its footer is.
    pub(super) fn file(&mut self, bytes: &[u8]) -> Result<Span> {
        let start = self.align()?;
        self.write(bytes)?;
        self.footer(start)
    }

    /// A file that waits in the spool.
    fn streamed(&mut self, spool: &mut File, stream: &Stream) -> Result<Span> {
        let failed = || "cannot read the spooled columns of the .tde".to_owned();
        let start = self.align()?;
        let mut piece = Vec::new();
        for span in &stream.pieces {
            spool.seek(SeekFrom::Start(span.start)).wrap(Kind::WriteFailed, failed)?;
            piece.resize(usize::try_from(span.size()).unwrap_or(0), 0);
            spool.read_exact(&mut piece).wrap(Kind::WriteFailed, failed)?;
            self.write(&piece)?;
        }
        self.write(&stream.waiting)?;
        self.footer(start)
    }

    fn footer(&mut self, data: u64) -> Result<Span> {
        let end = self.at;
        let start = self.align()?;
        self.write(&FOOTER)?;
        self.write(&data.to_le_bytes())?;
        self.write(&end.to_le_bytes())?;
        self.write(&TAIL)?;
        Ok(Span { start, end: self.at })
    }

    fn directory(&mut self, entries: &Directory) -> Result<Span> {
        let start = self.align()?;
        self.write(&DIRECTORY)?;
        let too_many = |_| Error::new(Kind::Unsupported, "too many columns for a .tde");
        self.write(&u32::try_from(entries.len()).map_err(too_many)?.to_le_bytes())?;
        for (name, span) in entries {
            let units: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
            self.write(&u32::try_from(units.len() / 2).map_err(too_many)?.to_le_bytes())?;
            self.write(&units)?;
            self.write(&span.start.to_le_bytes())?;
            self.write(&span.end.to_le_bytes())?;
        }
        Ok(Span { start, end: self.at })
    }

    /// Puts directories and catalog behind the columns, and the header, whose places are known last, before them; syncs.
    pub(super) fn complete(mut self, tables: &[(&str, Directory, Vec<Properties>)]) -> Result<()> {
        let mut root = Directory::new();
        root.insert(".database.type".into(), self.file(b"version-fix:0\nversion-major:1\nversion-minor:0\n")?);
        let data = tables.iter().map(|(name, files, _)| Ok(((*name).to_owned(), self.directory(files)?)));
        let data = data.collect::<Result<Directory>>()?;
        root.insert(system::SCHEMA.into(), self.directory(&data)?);
        let described: Vec<_> = tables.iter().map(|(name, _, columns)| (*name, columns.as_slice())).collect();
        let mut sys = Directory::new();
        for (name, files) in system::tables(&described)? {
            let files = files.into_iter().map(|(name, bytes)| Ok((name, self.file(&bytes)?)));
            let files = files.collect::<Result<Directory>>()?;
            sys.insert(name, self.directory(&files)?);
        }
        root.insert(super::catalog::SYS.into(), self.directory(&sys)?);
        let root = self.directory(&root)?;
        let failed = || "cannot write the .tde".to_owned();
        self.file.seek(SeekFrom::Start(0)).wrap(Kind::WriteFailed, failed)?;
        self.write(&MAGIC)?;
        self.write(&VERSION.to_le_bytes())?;
        self.write(&root.start.to_le_bytes())?;
        self.write(&root.end.to_le_bytes())?;
        self.write(&PADDING)?;
        let file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error).wrap(Kind::WriteFailed, failed)?;
        file.sync_all().wrap(Kind::WriteFailed, failed)
    }
}
