//! `.hyper`, written and read back by `hyperd`, the engine Tableau itself runs.
//!
//! Two routes. *Direct*: a plain read of local Parquet files is loaded by hyperd itself, which is the hardware's limit.
//! *Streamed*: everything else goes as Arrow IPC in COPYs of bounded size, so that hyperd's memory stays bounded too.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Schema, TimeUnit};

use super::{Capability, FileDescription, Format, Opened, Writer};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::source::{PlainScan, PlainSource};
use crate::types::{Conversion, Mapping, Verdict, Wishes, hyper};
use crate::verify::{Fingerprint, Verify};

pub mod compare;
pub mod cut;
pub mod install;
mod launch;
mod open;
pub mod process;
mod read_back;
pub(crate) mod sql;
mod within;
mod write;

use process::Hyperd;

/// The format, and the one `hyperd` all its users share.
#[derive(Debug, Default)]
pub struct Hyper {
    hyperd: Mutex<Option<Arc<Hyperd>>>,
}

impl Hyper {
    /// Makes it; `hyperd` starts when first needed and ends with this value.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn hyperd(&self, limits: &Limits) -> Result<Arc<Hyperd>> {
        let mut held = self.hyperd.lock().map_err(|_| Error::new(Kind::Unexpected, "a thread using hyperd panicked"))?;
        if let Some(hyperd) = &*held {
            return Ok(Arc::clone(hyperd));
        }
        let hyperd = Hyperd::shared(limits.hyperd_memory, hyper::OLDEST_VERSION)?;
        *held = Some(Arc::clone(&hyperd));
        Ok(hyperd)
    }
}

impl Format for Hyper {
    fn capability(&self) -> Capability {
        Capability {
            name: "hyper",
            extensions: &["hyper"],
            write: true,
            read: true,
            lake: false,
            many_tables: true,
            max_rows: None,
            max_decimal: 38,
            summary: "Tableau extract, written by hyperd; file format 2, or 3 where the schema needs it",
        }
    }

    fn has_engine(&self) -> bool {
        true
    }

    fn map(&self, table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
        hyper::map(table, schema, wishes)
    }

    fn direct(&self, mapping: &Mapping, scan: &PlainScan) -> std::result::Result<(), String> {
        if scan.groups.len() > 500 {
            return Err(format!("{} partitions are more than one statement should name", scan.groups.len()));
        }
        for column in &mapping.columns {
            let [index] = column.path[..] else { return Err(format!("column `{}` is flattened", column.name)) };
            let plain = scan.columns.get(index).ok_or_else(|| format!("column `{}` is not in the files", column.name))?;
            if matches!(plain.source, PlainSource::File(_)) && !loads(&plain.data_type) {
                return Err(format!(
                    "column `{}` is {}, which hyperd's loader reads differently or not at all",
                    column.name, plain.data_type
                ));
            }
            let natural = hyper::row(&plain.data_type, 3);
            let as_mapped = natural.target == column.target_type
                && matches!(column.conversion, Conversion::Keep | Conversion::Cast)
                && matches!(column.verdict, Verdict::Exact | Verdict::Widened(_));
            if !as_mapped {
                return Err(format!("column `{}` needs a conversion whose values are checked", column.name));
            }
        }
        within::ensure(mapping, scan)
    }

    fn create(&self, path: &Path, tables: &[&Mapping], limits: &Limits) -> Result<Box<dyn Writer>> {
        Ok(Box::new(write::HyperWriter::create(self.hyperd(limits)?, path, tables, limits).during("create the .hyper file")?))
    }

    fn open(&self, path: &Path, table: Option<&str>, limits: &Limits) -> Result<Opened> {
        open::open(self.hyperd(limits)?, path, table)
    }

    fn read_back(&self, path: &Path, tables: &[&Mapping], verify: Verify, limits: &Limits) -> Result<Vec<Fingerprint>> {
        let connection = self.hyperd(limits)?.read(path).during("read the file back")?;
        tables
            .iter()
            .map(|m| {
                read_back::fingerprint(&connection, &sql::table(m), m, verify).at("table", &m.table).during("read the file back")
            })
            .collect()
    }

    fn describe(&self, path: &Path, limits: &Limits) -> Result<FileDescription> {
        let bytes = std::fs::metadata(path).wrap(Kind::SourceMissing, || format!("there is no file {}", path.display()))?.len();
        let connection = self.hyperd(limits)?.read(path)?;
        let tables = read_back::tables(&connection, process::DATABASE, path)?;
        Ok(FileDescription { format: "hyper".into(), version: None, bytes, tables })
    }

    fn watch_helper(&self) -> Option<Arc<AtomicU64>> {
        Some(Hyperd::watch_shared())
    }
}

/// Arrow types, as read from Parquet, for which hyperd's own loader gives the same values in the same Hyper type (measured).
fn loads(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_)
        | DataType::Date32
        | DataType::Time64(TimeUnit::Microsecond)
        | DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, _) => true,
        DataType::Decimal128(_, scale) => *scale >= 0,
        _ => false,
    }
}
