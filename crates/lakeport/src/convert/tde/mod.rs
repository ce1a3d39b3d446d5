//! Tableau's old extract, `.tde`, read and written by Lakeport itself.
//!
//! Reading is what helps: what made these files is gone, and no current Tableau opens them. Writing is for sites that stayed.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::output::{Encode, OneTable};
use super::{Capability, ColumnDescription, FileDescription, Format, Opened, TableDescription, Writer, read_back};
use crate::error::{Context, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::types::{Mapping, Wishes, tde};
use crate::verify::{Fingerprint, Verify};

mod calendar;
mod catalog;
mod column;
mod decode;
#[doc(hidden)]
pub mod fuzzing;
mod layout;
mod read;
mod store;
mod system;
#[cfg(test)]
mod tests;
mod write;

pub(super) use read::Extract;

use write::{NewColumn, TdeEncoder};

/// The format.
#[derive(Debug)]
pub struct Tde;

impl Format for Tde {
    fn capability(&self) -> Capability {
        Capability {
            name: "tde",
            extensions: &["tde"],
            write: true,
            read: true,
            lake: false,
            many_tables: false,
            max_rows: None,
            max_decimal: 15,
            summary: "Tableau's extract before .hyper: read to migrate; written only for Tableau before 2023",
        }
    }

    fn map(&self, table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
        tde::map(table, schema, wishes)
    }

    fn create(&self, path: &Path, tables: &[&Mapping], _limits: &Limits) -> Result<Box<dyn Writer>> {
        tracing::warn!("{}", tde::LEGACY);
        let columns = tables[0].columns.iter();
        let columns = columns.map(|c| NewColumn { name: c.name.clone(), physical: c.physical.clone(), nullable: c.nullable });
        Ok(OneTable::writer(path, "tde", Box::new(TdeEncoder::create(path, columns.collect())?)))
    }

    fn open(&self, path: &Path, table: Option<&str>, _limits: &Limits) -> Result<Opened> {
        opened(&extract(path)?, table).at("file", path.display())
    }

    fn read_back(&self, path: &Path, tables: &[&Mapping], verify: Verify, limits: &Limits) -> Result<Vec<Fingerprint>> {
        Ok(vec![read_back::through(self.open(path, None, limits)?, tables[0], verify)?])
    }

    fn describe(&self, path: &Path, _limits: &Limits) -> Result<FileDescription> {
        let bytes = std::fs::metadata(path).wrap(Kind::SourceMissing, || format!("there is no file {}", path.display()))?.len();
        let tables = described(&extract(path)?).at("file", path.display())?;
        Ok(FileDescription { format: "tde".into(), version: Some(layout::VERSION.to_string()), bytes, tables })
    }
}

fn extract(path: &Path) -> Result<Extract> {
    let file = File::open(path).wrap(Kind::SourceMissing, || format!("cannot open {}", path.display()))?;
    Extract::open(file).at("file", path.display())
}

/// Opens a table of an extract.
pub(super) fn opened(extract: &Extract, table: Option<&str>) -> Result<Opened> {
    let table = extract.table(table)?;
    let reader = extract.read(table).at("table", &table.name)?;
    Ok(Opened {
        table: table.name.clone(),
        tables: extract.tables().map(|t| t.name.clone()).collect(),
        schema: Arc::clone(reader.schema()),
        rows: Some(reader.left()),
        batches: Box::new(reader),
    })
}

/// Says what an extract holds; types that cannot be read are named too.
pub(super) fn described(extract: &Extract) -> Result<Vec<TableDescription>> {
    let tables = extract.tables().map(|table| {
        let columns = table.columns.iter().map(|c| ColumnDescription {
            name: c.name.clone(),
            data_type: c.shown(),
            nullable: c.nullable(),
        });
        let rows = extract.rows(table).at("table", &table.name)?;
        Ok(TableDescription { name: table.name.clone(), rows, columns: columns.collect() })
    });
    tables.collect()
}

impl Encode for TdeEncoder {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        self.append(batch)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.complete()
    }
}
