//! Opens Parquet files for DataFusion.
//!
//! DataFusion's own factory turns the failure of a store into text when it reads a footer; here it stays what it is.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::TimeUnit;
use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::error::Result as DfResult;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use lakeport::error::{Error, Kind};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::basic::{LogicalType, Type as PhysicalType};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;

use super::int96;
use crate::embedded::text::TextFile;

/// The files of one scan.
#[derive(Debug)]
pub(in crate::embedded) struct Files {
    pub(in crate::embedded) store: Arc<dyn ObjectStore>,
    pub(in crate::embedded) cache: Arc<FileMetadataCache>,
    /// The columns the query needs.
    pub(in crate::embedded) wanted: Arc<HashSet<String>>,
}

impl ParquetFileReaderFactory for Files {
    fn create_reader(
        &self,
        _partition: usize,
        file: PartitionedFile,
        hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> DfResult<Box<dyn AsyncFileReader + Send>> {
        let (store, cache, wanted) = (Arc::clone(&self.store), Arc::clone(&self.cache), Arc::clone(&self.wanted));
        Ok(Box::new(Reader { store, cache, wanted, file, hint, seen: false }))
    }
}

/// One file.
struct Reader {
    store: Arc<dyn ObjectStore>,
    cache: Arc<FileMetadataCache>,
    wanted: Arc<HashSet<String>>,
    file: PartitionedFile,
    /// Bytes at the end to read at once.
    hint: Option<usize>,
    /// Whether its INT96 values were looked at.
    seen: bool,
}

impl Reader {
    /// Refuses a file with timestamps that its schema would change.
    async fn ensure_kept(&mut self, metadata: &ParquetMetaData) -> Result<()> {
        let about = metadata.file_metadata();
        let descriptor = about.schema_descr();
        let groups: Vec<_> = metadata.row_groups().iter().filter(|g| self.is_mine(g)).collect();
        for (leaf, unit) in int96::doubtful(about, self.file.arrow_schema.as_deref())? {
            if !self.wanted.contains(descriptor.get_column_root(leaf).name()) {
                continue;
            }
            for group in &groups {
                let chunk = group.column(leaf);
                let (start, length) = chunk.byte_range();
                let bytes = self.get_bytes(start..start + length).await?;
                if !int96::fits(chunk, descriptor, leaf, bytes, unit)? {
                    let unit = if unit == TimeUnit::Nanosecond { "nanoseconds" } else { "microseconds" };
                    let error = Error::new(Kind::ValueRefused, format!("an INT96 timestamp cannot be kept in {unit}"))
                        .help("leave the column out, or have it written again as INT64 timestamps")
                        .at("column", descriptor.get_column_root(leaf).name());
                    let shown = self.file.extension::<TextFile>().map(|about| about.shown.clone());
                    return Err(outer(match shown {
                        Some(file) => error.at("file", file),
                        None => error,
                    }));
                }
            }
        }
        Ok(())
    }

    /// Whether a row group begins in the part of the file that is read here, as DataFusion cuts it.
    fn is_mine(&self, group: &RowGroupMetaData) -> bool {
        let (Some(range), Some(first)) = (&self.file.range, group.columns().first()) else { return true };
        range.contains(first.dictionary_page_offset().unwrap_or_else(|| first.data_page_offset()))
    }
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move { self.store.get_range(&self.file.object_meta.location, range).await.map_err(outer) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.file.object_meta.location, &ranges).await.map_err(outer) }.boxed()
    }

    fn get_metadata<'a>(&'a mut self, options: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let metadata = DFParquetMetadata::new(self.store.as_ref(), &self.file.object_meta)
                .with_file_metadata_cache(Some(Arc::clone(&self.cache)))
                .with_metadata_size_hint(self.hint)
                .with_page_index_policy(options.map(ArrowReaderOptions::column_index_policy))
                .fetch_metadata()
                .await
                .map_err(outer)?;
            if !std::mem::replace(&mut self.seen, true) {
                self.ensure_kept(&metadata).await?;
            }
            Ok(without_bounds_of_floats(metadata))
        }
        .boxed()
    }
}

/// Takes the least and greatest of floating-point columns from what a file says of itself: they leave NaN out, which is greater than
/// any number, so that rows would come or go with the row groups they lie in.
fn without_bounds_of_floats(metadata: Arc<ParquetMetaData>) -> Arc<ParquetMetaData> {
    let columns = metadata.file_metadata().schema_descr().columns();
    let is_float: Vec<bool> = columns
        .iter()
        .map(|c| {
            matches!(c.physical_type(), PhysicalType::FLOAT | PhysicalType::DOUBLE)
                || c.logical_type_ref() == Some(&LogicalType::Float16)
        })
        .collect();
    let bound =
        |group: &RowGroupMetaData| group.columns().iter().zip(&is_float).any(|(c, float)| *float && c.statistics().is_some());
    if !metadata.row_groups().iter().any(bound) && metadata.column_index().is_none_or(|_| !is_float.contains(&true)) {
        return metadata;
    }
    let groups = metadata.row_groups().iter().map(|group| {
        let chunks = group.columns().iter().zip(&is_float).map(|(chunk, float)| {
            if *float { chunk.clone().into_builder().clear_statistics().build() } else { Ok(chunk.clone()) }
        });
        group.clone().into_builder().set_column_metadata(chunks.collect::<Result<_>>()?).build()
    });
    let Ok(groups) = groups.collect::<Result<Vec<_>>>() else { return metadata };
    let pages = metadata.column_index().cloned().map(|mut groups| {
        for columns in &mut groups {
            for (column, _) in columns.iter_mut().zip(&is_float).filter(|(_, float)| **float) {
                *column = ColumnIndexMetaData::NONE;
            }
        }
        groups
    });
    let builder = metadata.as_ref().clone().into_builder();
    Arc::new(builder.set_row_groups(groups).set_column_index(pages).build())
}

fn outer(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}
