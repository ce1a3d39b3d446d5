//! Alteryx `.yxdb` in the E1 format, which every Designer reads; written and read by Lakeport itself.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::Schema;

use super::output::OneTable;
use super::{Capability, ColumnDescription, FileDescription, Format, Opened, TableDescription, Writer, read_back};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::types::{Mapping, Wishes, yxdb};
use crate::verify::{Fingerprint, Verify};

mod encode;
#[doc(hidden)]
pub mod fuzzing;
mod layout;
mod lzf;
mod read;
#[cfg(test)]
mod tests;
mod write;

use read::YxdbReader;

/// The format.
#[derive(Debug)]
pub struct Yxdb;

impl Format for Yxdb {
    fn capability(&self) -> Capability {
        Capability {
            name: "yxdb",
            extensions: &["yxdb"],
            write: true,
            read: true,
            lake: false,
            many_tables: false,
            max_rows: None,
            max_decimal: 38,
            summary: "Alteryx database (E1): texts as V_WString, whole seconds, dates from 1400; spatial objects read as bytes",
        }
    }

    fn map(&self, table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
        yxdb::map(table, schema, wishes)
    }

    fn create(&self, path: &Path, tables: &[&Mapping], limits: &Limits) -> Result<Box<dyn Writer>> {
        let encoder = write::YxdbEncoder::create(path, tables[0], limits.cores)?;
        Ok(OneTable::writer(path, "yxdb", Box::new(encoder)))
    }

    fn open(&self, path: &Path, table: Option<&str>, _limits: &Limits) -> Result<Opened> {
        let reader = YxdbReader::open(path).at("file", path.display())?;
        let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        if let Some(wanted) = table.filter(|t| *t != name) {
            return Err(Error::new(Kind::UnknownName, format!("a .yxdb file holds one table, and it is not called `{wanted}`")));
        }
        let (schema, rows) = (Arc::clone(reader.schema()), Some(reader.left()));
        Ok(Opened { tables: vec![name.clone()], table: name, schema, rows, batches: Box::new(reader) })
    }

    fn read_back(&self, path: &Path, tables: &[&Mapping], verify: Verify, limits: &Limits) -> Result<Vec<Fingerprint>> {
        Ok(vec![read_back::through(self.open(path, None, limits)?, tables[0], verify)?])
    }

    fn describe(&self, path: &Path, _limits: &Limits) -> Result<FileDescription> {
        let reader = YxdbReader::open(path).at("file", path.display())?;
        let bytes = std::fs::metadata(path).wrap(Kind::SourceMissing, || format!("there is no file {}", path.display()))?.len();
        let columns =
            reader.fields().iter().map(|f| ColumnDescription { name: f.name.clone(), data_type: f.kind.show(), nullable: true });
        let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        let table = TableDescription { name, rows: reader.left(), columns: columns.collect() };
        Ok(FileDescription { format: "yxdb".into(), version: Some("E1".into()), bytes, tables: vec![table] })
    }
}
