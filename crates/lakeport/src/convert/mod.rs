//! Batches in, one finished file out. Knows nothing of servers.
//!
//! A format is a [`Format`] and one line in [`Formats`]. Everything else (plan, verify, `lakeport formats`, the batteries)
//! follows from its [`Capability`] and its mapping table.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use serde::Serialize;

use crate::error::{Error, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::source::PlainScan;
use crate::types::{Mapping, Wishes};
use crate::verify::{Fingerprint, Verify};

mod ahead;
pub(crate) mod archive;
pub mod avro;
mod crew;
pub mod csv;
pub mod delta;
pub mod hyper;
pub mod ingest;
pub mod manifest;
pub mod ndjson;
pub mod orc;
mod output;
pub mod package;
pub mod parquet;
pub mod parts;
pub mod read_back;
pub mod tde;
mod temporary;
pub mod text;
pub mod xlsx;
pub mod yxdb;

pub(crate) use temporary::dead_beside;
pub use temporary::{Staging, Temporary, scratch, sweep, sweep_scratch};

/// What a format can do, as data: planning refuses early and the tables of the docs are made from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// The format's name, as in `--format`.
    pub name: &'static str,
    /// File extensions it answers to, without the dot.
    pub extensions: &'static [&'static str],
    /// Whether Lakeport writes it.
    pub write: bool,
    /// Whether Lakeport reads existing files of it.
    pub read: bool,
    /// Whether it is the engine that reads them, as tables of a lake.
    pub lake: bool,
    /// Whether one file may hold several tables.
    pub many_tables: bool,
    /// Most rows of one table, if bounded.
    pub max_rows: Option<u64>,
    /// Most digits of a decimal.
    pub max_decimal: u8,
    /// One line for `lakeport formats`.
    pub summary: &'static str,
}

/// A file format: maps schemas, writes files, reads them back.
pub trait Format: Send + Sync + fmt::Debug {
    /// What it can do.
    fn capability(&self) -> Capability;

    /// Whether a finished file is only a part of something, which a target of its own puts together: a table with a log.
    fn has_a_place(&self) -> bool {
        false
    }

    /// Says what becomes of each column; pure.
    ///
    /// # Errors
    /// `NoColumns`, `DuplicateColumn`, or `Usage` for a wish that means nothing here. Verdicts are data, not errors.
    fn map(&self, table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping>;

    /// Whether the format has an engine of its own that can load a plain read.
    fn has_engine(&self) -> bool {
        false
    }

    /// How many partitions are worth reading side by side on so many cores; where writing is the slow part, more of them only
    /// hold memory.
    fn readers(&self, cores: usize) -> usize {
        cores
    }

    /// Says whether the format's own engine can load this plain read exactly as mapped, and if not, why not; may read the files' footers.
    fn direct(&self, _mapping: &Mapping, _scan: &PlainScan) -> std::result::Result<(), String> {
        Err(format!("a .{} file is written from record batches", self.capability().name))
    }

    /// Opens a new file at `path` (a temporary name) for these tables.
    ///
    /// # Errors
    /// `WriteFailed`, `OutOfSpace`, `HyperdMissing` for what the format needs and does not find.
    fn create(&self, path: &Path, tables: &[&Mapping], limits: &Limits) -> Result<Box<dyn Writer>>;

    /// Opens one table of an existing file as record batches; without a name its first.
    ///
    /// # Errors
    /// `SourceMissing`, `SourceUnreadable`, `UnknownName` for the table, `Unsupported` for formats that are only written.
    fn open(&self, path: &Path, _table: Option<&str>, _limits: &Limits) -> Result<Opened> {
        let name = self.capability().name;
        Err(Error::new(Kind::Unsupported, format!("{} cannot be read: Lakeport only writes .{name} files", path.display())))
    }

    /// Reads a finished file back: per table the fingerprint of what it really holds.
    ///
    /// # Errors
    /// `VerifyFailed` when the file cannot be read.
    fn read_back(&self, path: &Path, tables: &[&Mapping], verify: Verify, limits: &Limits) -> Result<Vec<Fingerprint>>;

    /// Says what an existing file holds.
    ///
    /// # Errors
    /// `SourceMissing`, `SourceUnreadable`.
    fn describe(&self, path: &Path, limits: &Limits) -> Result<FileDescription>;

    /// Begins to watch the format's helper process (hyperd), if it has one.
    ///
    /// The value is what the helper holds itself, in bytes and without mapped file pages, and rises to the most it is seen to
    /// hold while the value is kept. A helper is shared: jobs side by side see each other's share in it.
    fn watch_helper(&self) -> Option<Arc<AtomicU64>> {
        None
    }
}

/// Writes one file.
pub trait Writer: Send {
    /// Appends a batch whose columns are of the mapping's physical types to table number `table`.
    ///
    /// # Errors
    /// `WriteFailed`, `OutOfSpace`, `ValueRefused`.
    fn write(&mut self, table: usize, batch: &RecordBatch) -> Result<()>;

    /// Lets the format's own engine load one group of a plain read; returns the rows loaded.
    ///
    /// # Errors
    /// `Unsupported` for formats without one; else as `write`.
    fn load(&mut self, _table: usize, _scan: &PlainScan, _group: usize) -> Result<u64> {
        Err(Error::new(Kind::Unsupported, "this format has no engine of its own"))
    }

    /// Prepares the fingerprint of a plain read with a condition, taken by the format's own engine from the source files; may run
    /// beside `load`.
    ///
    /// # Errors
    /// `Unsupported` for formats without one; what is prepared fails with `SourceUnreadable` or `VerifyFailed`.
    fn measure_source(&self, _table: usize, _scan: &PlainScan, _verify: Verify) -> Result<Measuring> {
        Err(Error::new(Kind::Unsupported, "this format has no engine of its own"))
    }

    /// Bytes of the file so far, about; `None` where that is only known once it is finished.
    fn size(&self) -> Option<u64> {
        None
    }

    /// Completes and syncs the file.
    ///
    /// # Errors
    /// `WriteFailed`, `OutOfSpace`.
    fn finish(self: Box<Self>) -> Result<Written>;
}

/// A fingerprint about to be taken, on a thread of the caller's choice.
pub type Measuring = Box<dyn FnOnce() -> Result<Fingerprint> + Send>;

/// One table of an existing file, opened.
pub struct Opened {
    /// Its name.
    pub table: String,
    /// The names of all tables of the file.
    pub tables: Vec<String>,
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows, where known without reading them.
    pub rows: Option<u64>,
    /// The rows; each batch is bounded in bytes.
    pub batches: Batches,
}

/// Record batches read from a file, each or an error.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("table", &self.table).field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// A finished file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The format's name.
    pub format: String,
    /// Rows of each table, in order.
    pub rows: Vec<u64>,
}

/// What a file holds, for `lakeport describe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileDescription {
    /// The format's name.
    pub format: String,
    /// Its version, where the format has one.
    pub version: Option<String>,
    /// Size in bytes.
    pub bytes: u64,
    /// The tables.
    pub tables: Vec<TableDescription>,
}

/// One table of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableDescription {
    /// Its qualified name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Its columns.
    pub columns: Vec<ColumnDescription>,
}

impl TableDescription {
    /// Schema and name of a table in an extract; a name alone lies in `Extract`.
    #[must_use]
    pub fn qualified(&self) -> (&str, &str) {
        self.name.split_once('.').unwrap_or((hyper::sql::SCHEMA, &self.name))
    }
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnDescription {
    /// Its name.
    pub name: String,
    /// Its type, in the format's own words.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Whether it may hold NULL.
    pub nullable: bool,
}

/// What an opened file holds, its rows counted where the file does not tell them.
fn described(path: &Path, format: &str, opened: Opened) -> Result<FileDescription> {
    let bytes = std::fs::metadata(path).wrap(Kind::SourceMissing, || format!("there is no file {}", path.display()))?.len();
    let columns = opened.schema.fields().iter().map(|f| ColumnDescription {
        name: f.name().clone(),
        data_type: f.data_type().to_string(),
        nullable: f.is_nullable(),
    });
    let columns = columns.collect();
    let rows = match opened.rows {
        Some(rows) => rows,
        None => opened.batches.map(|b| b.map(|b| b.num_rows() as u64)).sum::<Result<u64>>()?,
    };
    let tables = vec![TableDescription { name: opened.table, rows, columns }];
    Ok(FileDescription { format: format.to_owned(), version: None, bytes, tables })
}

/// Files that are tables of a lake are described by the engine.
fn by_the_engine(path: &Path) -> Error {
    Error::new(Kind::Unsupported, format!("{} is read by the engine, as a table", path.display()))
}

/// The formats of this build; adding one is adding a line here.
#[derive(Debug)]
pub struct Formats {
    all: Vec<Arc<dyn Format>>,
}

impl Formats {
    /// Makes the registry. Helper processes start when first needed and end with it.
    #[must_use]
    pub fn new() -> Self {
        let all: Vec<Box<dyn Format>> = vec![
            Box::new(hyper::Hyper::new()),
            Box::new(xlsx::Xlsx),
            Box::new(csv::Csv),
            Box::new(ndjson::Ndjson),
            Box::new(parquet::Parquet),
            Box::new(delta::Delta),
            Box::new(avro::Avro),
            Box::new(orc::Orc),
            Box::new(text::Text),
            Box::new(ingest::Ingest { sqlite: false }),
            Box::new(ingest::Ingest { sqlite: true }),
            Box::new(yxdb::Yxdb),
            Box::new(tde::Tde),
            Box::new(package::Package::default()),
        ];
        Self { all: all.into_iter().map(Arc::from).collect() }
    }

    /// All formats, in the order of the docs.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Format> {
        self.all.iter().map(AsRef::as_ref)
    }

    /// Finds a format by name.
    ///
    /// # Errors
    /// `Usage` that lists the names.
    pub fn by_name(&self, name: &str) -> Result<&dyn Format> {
        self.shared(name).map(AsRef::as_ref)
    }

    /// Finds a format by name, to be shared with other threads.
    ///
    /// # Errors
    /// `Usage` that lists the names.
    pub fn shared(&self, name: &str) -> Result<&Arc<dyn Format>> {
        self.all.iter().find(|f| f.capability().name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names: Vec<_> = self.iter().map(|f| f.capability().name).collect();
            Error::new(Kind::Usage, format!("there is no format `{name}`")).help(format!("the formats are {}", names.join(", ")))
        })
    }

    /// Finds the format of a file name by its extension.
    ///
    /// # Errors
    /// `Usage` that lists the extensions.
    pub fn by_extension(&self, path: &str) -> Result<&dyn Format> {
        let name = path.rsplit(['/', '\\']).next().unwrap_or(path).to_ascii_lowercase();
        let ends = |e: &&str| name.strip_suffix(*e).is_some_and(|stem| stem.ends_with('.'));
        self.iter().find(|f| f.capability().extensions.iter().any(ends)).ok_or_else(|| {
            let known: Vec<_> = self.iter().flat_map(|f| f.capability().extensions).map(|e| format!(".{e}")).collect();
            Error::new(Kind::Usage, format!("`{path}` has no extension of a format Lakeport writes"))
                .help(format!("end the name in one of {}, or give --format", known.join(" ")))
        })
    }
}

impl Default for Formats {
    fn default() -> Self {
        Self::new()
    }
}
