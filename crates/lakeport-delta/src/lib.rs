//! Delta tables as a target and as a source, through delta-rs.
//!
//! A publish puts one Parquet file into the table's directory and commits it: the table is at its old version or at the new
//! one, whatever happens between. Nothing here knows of lakes, engines or the command line; what delta-rs is made of is
//! linked by whoever links this crate, and by nobody else.
//!
//! Not done here: tables partitioned by columns, column mapping, deletion vectors of our own, and merging rows by key. A table
//! that has the first two is refused by name, never half understood.

use std::sync::Arc;

use async_trait::async_trait;
use lakeport::convert::{ColumnDescription, FileDescription, TableDescription};
use lakeport::error::Result;
use lakeport::export::{Capability, Places, Target};
use lakeport::source::Location;

mod commit;
mod fault;
mod footer;
mod place;
mod protocol;
mod schema;
mod sweep;
mod target;
mod version;

pub use version::{DataFile, Version};

use place::Place;

/// Opens Delta tables wherever files are.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeltaPlaces;

#[async_trait]
impl Places for DeltaPlaces {
    fn format(&self) -> &'static str {
        target::FORMAT
    }

    fn capability(&self) -> Capability {
        target::CAPABILITY
    }

    fn target(&self, root: Location) -> Arc<dyn Target> {
        Arc::new(target::DeltaTarget::new(root))
    }

    async fn describe(&self, at: &Location) -> Result<Option<FileDescription>> {
        if !place::may_hold(at) {
            return Ok(None);
        }
        let place = Place::open(at)?;
        // What keeps a place from being looked at is told by whoever reads it as something else.
        if !place.log.is_delta_table_location().await.unwrap_or(false) {
            return Ok(None);
        }
        let snapshot = place.at_version(None).await?;
        let (bytes, rows) = place::sums(&snapshot);
        let schema = snapshot.schema();
        let columns = schema.fields().map(|f| ColumnDescription {
            name: f.name().clone(),
            data_type: f.data_type().to_string(),
            nullable: f.is_nullable(),
        });
        let name = place.name();
        let table = TableDescription { name, rows: rows.unwrap_or_default(), columns: columns.collect() };
        let version = Some(snapshot.version().to_string());
        Ok(Some(FileDescription { format: target::FORMAT.to_owned(), version, bytes, tables: vec![table] }))
    }
}
