//! Delta tables: the log says which files are read and what their columns are, never the directory.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use lakeport::error::Result;
use lakeport::source::Location;
use lakeport_delta::Version;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::fault;
use super::layout::{DataFile, FileKind, Layout, Packing, relative};
use super::store::Place;

/// The directory of the log.
const LOG: &str = "_delta_log";

/// What the log of a table says that its files do not.
#[derive(Debug, Clone)]
pub(super) struct Log {
    /// The version.
    pub(super) version: u64,
    /// The columns that are in the files, or NULL where a file lacks them.
    pub(super) columns: SchemaRef,
}

/// Whether a directory with these entries is a table's.
pub(super) fn is_table(base: &Path, entries: &[ObjectMeta]) -> bool {
    entries.iter().any(|m| relative(base, &m.location).is_some_and(|s| s.first().is_some_and(|first| first == LOG)))
}

/// The files of the newest version.
pub(super) async fn layout(place: &Place) -> Result<Layout> {
    let at = Location::new(place.show(&place.path));
    let Version { number, schema, partitions, values, files } =
        Version::newest(Arc::clone(&place.store), &place.path, &at).await?;
    let (by, inside): (Vec<FieldRef>, Vec<FieldRef>) =
        schema.fields().iter().map(bare).partition(|f| partitions.contains(f.name()));
    // The table's order of them is that of its columns, the log's that of its directories.
    let order: Vec<usize> = by.iter().filter_map(|f| partitions.iter().position(|p| p == f.name())).collect();
    let mut listed = Vec::with_capacity(files.len());
    for (index, file) in files.into_iter().enumerate() {
        let location = Path::parse(format!("{}/{}", place.path, file.path)).map_err(|e| fault::path(file.path.as_ref(), e))?;
        let of = order.iter().map(|column| ScalarValue::try_from_array(&values[*column], index).map_err(fault::sql));
        let of: Vec<ScalarValue> = of.collect::<Result<_>>()?;
        let partition = by.iter().zip(&of).map(|(f, v)| format!("{}={v}", f.name())).collect::<Vec<_>>().join("/");
        let meta = ObjectMeta { location, last_modified: file.modified, size: file.size, e_tag: None, version: None };
        listed.push(DataFile { meta, packing: Packing::Plain, values: of, partition });
    }
    let log = Log { version: number, columns: Arc::new(Schema::new(inside)) };
    Ok(Layout { place: place.clone(), kind: FileKind::Parquet, files: listed, partitions: by, log: Some(log) })
}

/// A column without what the log notes beside it.
fn bare(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), field.data_type().clone(), field.is_nullable()))
}

/// Whether the columns of all files are those of the log, so that whoever reads the files reads the table.
pub(super) fn agree(log: &Schema, files: &Schema) -> bool {
    let of = |s: &Schema| s.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect::<Vec<_>>();
    of(log) == of(files)
}
