//! One version of a table as a reader needs it: its columns, its files, and the partition that each file is of.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use chrono::{DateTime, Utc};
use deltalake_core::kernel::{EagerSnapshot, LogicalFileView};
use lakeport::error::{Context, Error, Kind, Result, Wrap};
use lakeport::source::Location;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::place::Place;
use crate::{fault, protocol};

/// A version, read from the log.
#[derive(Debug, Clone)]
pub struct Version {
    /// Its number.
    pub number: u64,
    /// All columns, in the order of the table.
    pub schema: SchemaRef,
    /// The names of the columns that the table is partitioned by.
    pub partitions: Vec<String>,
    /// Per partition column its value in each file, in the column's type.
    pub values: Vec<ArrayRef>,
    /// The files.
    pub files: Vec<DataFile>,
}

/// A file of a version.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// Its path below the table's root.
    pub path: Path,
    /// Bytes.
    pub size: u64,
    /// When it was made.
    pub modified: DateTime<Utc>,
}

impl Version {
    /// Reads the newest version of the table at a path of a store; `at` names it in errors.
    ///
    /// # Errors
    /// `Unsupported` for a table that needs more of its readers (deletion vectors, column mapping), `SourceUnreadable` for a
    /// log that is damaged, and what the store says.
    pub async fn newest(store: Arc<dyn ObjectStore>, path: &Path, at: &Location) -> Result<Self> {
        let place = Place::over(store, path.clone(), at, None)?;
        let snapshot = place.at_version(None).await?;
        protocol::ensure_readable(&snapshot)?;
        let schema = snapshot.arrow_schema();
        let partitions = snapshot.metadata().partition_columns().to_vec();
        let views: Vec<_> = snapshot.log_data().iter().collect();
        let files = views.iter().map(|v| data_file(v, &place)).collect::<Result<_>>()?;
        let values = partitions.iter().map(|name| values(&snapshot, name, &views)).collect::<Result<_>>()?;
        Ok(Self { number: snapshot.version(), schema, partitions, values, files })
    }
}

fn data_file(view: &LogicalFileView, place: &Place) -> Result<DataFile> {
    let no = |what: &str| {
        let e = Error::new(Kind::Unsupported, format!("the Delta table has {what}, which Lakeport does not read"));
        e.at("file", view.path())
    };
    if view.deletion_vector_descriptor().is_some() {
        return Err(no("rows deleted inside its files (deletion vectors)").help("rewrite them: REORG TABLE … APPLY (PURGE)"));
    }
    let path = view.path();
    if path.contains("://") || path.starts_with('/') {
        return Err(no("files that lie elsewhere (a shallow clone)").help("clone it deeply"));
    }
    let size = u64::try_from(view.size()).wrap(Kind::SourceUnreadable, || "the log gives a file no size".into())?;
    let modified = view.modification_datetime().map_err(|e| fault::of(&e, &place.at, "read the table's log"))?;
    let path = Path::parse(path.as_ref()).wrap(Kind::SourceUnreadable, || format!("`{path}` is no path of a file"))?;
    Ok(DataFile { path, size, modified })
}

/// The values of a partition column, which the log holds as text; an empty text is NULL.
fn values(snapshot: &EagerSnapshot, name: &str, files: &[LogicalFileView]) -> Result<ArrayRef> {
    let schema = snapshot.arrow_schema();
    let column = schema.field_with_name(name).wrap(Kind::SourceUnreadable, || format!("there is no column `{name}`"))?;
    let texts: StringArray =
        files.iter().map(|f| f.partition_values_map().remove(name).flatten().filter(|v| !v.is_empty())).collect();
    if matches!(column.data_type(), DataType::Binary) && texts.null_count() < texts.len() {
        return Err(Error::new(Kind::Unsupported, "the Delta table is partitioned by bytes").at("column", name));
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&texts, column.data_type(), &strict)
        .wrap(Kind::SourceUnreadable, || "a value of a partition cannot be read".into())
        .at("column", name)
}
