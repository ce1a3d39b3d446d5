//! What the footers of Parquet files say: columns, rows, sizes.
//!
//! Every footer is read before the first row, a bounded number at a time, so that a file that does not fit or is damaged
//! is found while nothing has been written yet.

mod int96;
mod reader;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::DefaultParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::{FutureExt, StreamExt, TryStreamExt};
use lakeport::error::{Error, Kind, Result, Wrap};
use object_store::ObjectStoreExt;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, parquet_to_arrow_schema};
use parquet::basic::{Compression, ConvertedType, LogicalType, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, ParquetMetaData};
use parquet::schema::types::Type;

pub(super) use self::reader::Files;

use super::layout::{DataFile, Layout};
use super::schema::{self, Merger};
use super::{delta, fault, hive};

/// Footers read side by side; more brings nothing on a disk and little on an object store.
const FOOTERS_AT_ONCE: usize = 16;

/// What all footers together say.
#[derive(Debug)]
pub(super) struct Footers {
    /// The merged schema, or that of the log, without partition columns.
    pub(super) schema: SchemaRef,
    /// The schema each file is read with, where it is not its own.
    pub(super) read_as: Vec<Option<SchemaRef>>,
    /// The columns of each file that its directories name too.
    pub(super) doubled: Vec<Vec<String>>,
    /// Rows of each file, in the order of the layout.
    pub(super) rows: Vec<u64>,
    /// Bytes of each file, unpacked.
    pub(super) bytes: Vec<u64>,
    /// Bytes of each column in all files together; none where the files' columns are not the table's.
    pub(super) columns: Vec<Precision<usize>>,
    /// Whether every file has the same columns of the same physical types, so that no merging takes place.
    pub(super) uniform: bool,
    /// What in the files only this engine reads, said as a reason; another loader refuses the whole file for it.
    pub(super) peculiar: Option<String>,
}

/// What is kept of one footer; the whole of a wide file's footer would be megabytes.
struct Footer {
    /// The columns as they are read.
    schema: SchemaRef,
    /// Whether that is not what the file itself says.
    retyped: bool,
    physical: Arc<Type>,
    rows: u64,
    bytes: u64,
    /// Bytes of each column.
    columns: Vec<Precision<usize>>,
    peculiar: Option<String>,
}

impl Footer {
    /// Drops what another footer says alike, which in most tables is all of the columns.
    fn share(&mut self, first: &Self) {
        if self.schema == first.schema {
            self.schema = Arc::clone(&first.schema);
        }
        if self.physical == first.physical {
            self.physical = Arc::clone(&first.physical);
        }
    }
}

/// Reads the footers of every file.
pub(super) async fn footers(layout: &Layout, runtime: &RuntimeEnv) -> Result<Footers> {
    let reads: Vec<_> = layout.files.iter().map(|file| footer(layout, file, runtime).boxed()).collect();
    let mut reads = futures::stream::iter(reads).buffered(FOOTERS_AT_ONCE);
    let mut found: Vec<Footer> = Vec::with_capacity(layout.files.len());
    let mut columns = Vec::new();
    while let Some(mut footer) = reads.try_next().await? {
        let own = std::mem::take(&mut footer.columns);
        columns = match found.first() {
            None => own,
            Some(first) => {
                footer.share(first);
                let alike = Arc::ptr_eq(&footer.schema, &first.schema);
                let sums = columns.iter().zip(own).map(|(sum, size): (&Precision<usize>, _)| sum.add(&size));
                if alike { sums.collect() } else { Vec::new() }
            }
        };
        found.push(footer);
    }
    let schema = schema_of(layout, &found)?;
    if !found.iter().all(|f| delta::agree(&f.schema, &schema)) {
        columns.clear();
    }
    let uniform = found.windows(2).all(|w| w[0].schema == w[1].schema && w[0].physical == w[1].physical);
    let rows = found.iter().map(|f| f.rows).collect();
    let mut peculiar = found.iter().find_map(|f| f.peculiar.clone());
    if layout.log.is_some() && (found.is_empty() || !found.iter().all(|f| delta::agree(&schema, &f.schema))) {
        peculiar = Some("the files of the Delta table do not all have its columns".to_owned());
    }
    let doubled =
        found.iter().map(|f| hive::doubled(&layout.partitions, |name| f.schema.field_with_name(name).is_ok())).collect();
    let read_as = found.iter().map(|f| f.retyped.then(|| Arc::clone(&f.schema))).collect();
    let bytes = found.iter().map(|f| f.bytes).collect();
    Ok(Footers { schema, read_as, doubled, rows, bytes, columns, uniform, peculiar })
}

/// The columns of the table: those of the log, which every file has to fit, or what the files say together.
fn schema_of(layout: &Layout, found: &[Footer]) -> Result<SchemaRef> {
    let mut merger = Merger::default();
    for (file, footer) in layout.files.iter().zip(found) {
        let shown = layout.show(file);
        match &layout.log {
            Some(log) => schema::ensure_kept(&footer.schema, &log.columns, &shown)?,
            None => merger.add(&footer.schema, &shown)?,
        }
    }
    Ok(layout.log.as_ref().map_or_else(|| merger.finish(), |log| Arc::clone(&log.columns)))
}

async fn footer(layout: &Layout, file: &DataFile, runtime: &RuntimeEnv) -> Result<Footer> {
    read_footer(layout, file, runtime).await.map_err(|e| e.at("file", layout.show(file)))
}

async fn read_footer(layout: &Layout, file: &DataFile, runtime: &RuntimeEnv) -> Result<Footer> {
    let damaged = || "the file is not whole Parquet".to_owned();
    if file.meta.size == 0 {
        return Err(Error::new(Kind::SourceUnreadable, "the file is empty, not even a Parquet footer is in it"));
    }
    ensure_footer(layout, file).await?;
    let cache = runtime.cache_manager.get_file_metadata_cache();
    let metadata = DFParquetMetadata::new(layout.place.store.as_ref(), &file.meta)
        .with_file_metadata_cache(Some(cache))
        .fetch_metadata()
        .await
        .map_err(|e| fault::reading(e, Kind::SourceUnreadable, damaged()))?;
    let about = metadata.file_metadata();
    let own = parquet_to_arrow_schema(about.schema_descr(), about.key_value_metadata()).wrap(Kind::SourceUnreadable, damaged)?;
    ensure_no_months(about)?;
    let read_as = int96::read_as(about, &own, layout.log.is_some());
    let (own, retyped) = (Arc::new(own), read_as.is_some());
    let rows = u64::try_from(about.num_rows()).wrap(Kind::SourceUnreadable, damaged)?;
    let bytes: i64 = metadata.row_groups().iter().map(|g| g.total_byte_size()).sum();
    let bytes = u64::try_from(bytes).unwrap_or(file.meta.size);
    let columns = column_bytes(&metadata, &own)?;
    let peculiar = peculiar(&metadata);
    let schema = read_as.map_or(own, Arc::new);
    Ok(Footer { schema, retyped, physical: about.schema_descr().root_schema_ptr(), rows, bytes, columns, peculiar })
}

/// Refuses columns of Parquet's own INTERVAL: of months, days and milliseconds the reader takes the last two. Arrow says of its intervals
/// which of them they are.
fn ensure_no_months(about: &FileMetaData) -> Result<()> {
    let tells = about.key_value_metadata().is_some_and(|pairs| pairs.iter().any(|pair| pair.key == ARROW_SCHEMA_META_KEY));
    let columns = about.schema_descr().columns().iter();
    match columns.into_iter().find(|c| !tells && c.converted_type() == ConvertedType::INTERVAL) {
        Some(column) => Err(Error::new(Kind::TypeRefused, "a Parquet INTERVAL cannot be read: its months would be lost")
            .help("have the column written as text, or as numbers of months and days")
            .at("column", column.path().string())),
        None => Ok(()),
    }
}

/// Refuses a footer whose length is a lie; the decoder trusts it and overflows.
async fn ensure_footer(layout: &Layout, file: &DataFile) -> Result<()> {
    /// Four bytes of length and the magic.
    const TAIL: u64 = 8;
    let size = file.meta.size;
    let damaged = |why: String| Error::new(Kind::SourceUnreadable, "the file is not whole Parquet").because(why);
    if size < 2 * TAIL {
        return Err(damaged(format!("{size} bytes are too few")));
    }
    let tail = layout.place.store.get_range(&file.meta.location, size - TAIL..size).await.map_err(fault::store)?;
    let length = tail.first_chunk::<4>().map_or(0, |b| u64::from(u32::from_le_bytes(*b)));
    match tail.get(4..) {
        Some(b"PAR1" | b"PARE") if length + TAIL <= size => Ok(()),
        Some(b"PAR1" | b"PARE") => Err(damaged(format!("its footer claims {length} bytes of a file of {size}"))),
        _ => Err(damaged("it does not end in PAR1".into())),
    }
}

/// Sizes of columns for the planner.
///
/// Minima and maxima are left out: the reader prunes row groups by them itself, and an answer must never come from a
/// statistic that some writer got wrong.
fn column_bytes(metadata: &ParquetMetaData, schema: &SchemaRef) -> Result<Vec<Precision<usize>>> {
    let known = DFParquetMetadata::statistics_from_parquet_metadata(metadata, schema)
        .wrap(Kind::SourceUnreadable, || "the statistics of the file cannot be read".to_owned())?;
    Ok(known.column_statistics.into_iter().map(|c| c.byte_size.to_inexact()).collect())
}

/// Finds what other readers of Parquet (hyperd, measured) refuse: rare packings, and types that are text only in name.
fn peculiar(metadata: &ParquetMetaData) -> Option<String> {
    let columns = metadata.file_metadata().schema_descr().columns();
    for column in columns {
        // Measured: hyperd takes every INT96 for an instant of UTC, and cuts nanoseconds.
        if column.physical_type() == PhysicalType::INT96 {
            return Some(format!("column `{}` is an INT96 timestamp, which the embedded engine reads", column.path()));
        }
        let odd = match (column.logical_type_ref(), column.converted_type()) {
            (Some(LogicalType::String | LogicalType::Decimal(_) | LogicalType::Date | LogicalType::Integer(_)), _)
            | (Some(LogicalType::Timestamp(_) | LogicalType::Time(_)), _) => false,
            (Some(_), _) => true,
            (None, ConvertedType::ENUM | ConvertedType::JSON | ConvertedType::BSON | ConvertedType::INTERVAL) => true,
            (None, _) => false,
        };
        if odd {
            let kind = column.logical_type_ref().map_or_else(|| format!("{}", column.converted_type()), |t| format!("{t:?}"));
            return Some(format!("column `{}` is of the Parquet type {kind}, which the embedded engine reads", column.path()));
        }
    }
    let packings = metadata.row_groups().iter().flat_map(|g| g.columns()).map(|c| c.compression());
    packings.into_iter().find_map(|packing| match packing {
        Compression::BROTLI(_) | Compression::LZO | Compression::LZ4 => {
            Some(format!("the files are packed with {}, which the embedded engine reads", packing.to_string().to_lowercase()))
        }
        _ => None,
    })
}

/// Finds the damaged file after a read failed; the reader itself does not say which one it was.
///
/// Costs a second read of the table, and only then.
pub(super) async fn culprit(layout: &Layout) -> Option<String> {
    for file in &layout.files {
        // What the store does not hand out is not damaged for that.
        if let Err(e) = whole(layout, file).await
            && fault::of_store(&e).is_none()
        {
            return Some(layout.show(file));
        }
    }
    None
}

async fn whole(layout: &Layout, file: &DataFile) -> parquet::errors::Result<()> {
    let factory = DefaultParquetFileReaderFactory::new(Arc::clone(&layout.place.store));
    let file = PartitionedFile::new_from_meta(file.meta.clone());
    let reader: Box<dyn AsyncFileReader> =
        factory.create_reader(0, file, None, &ExecutionPlanMetricsSet::new()).map_err(|e| ParquetError::External(Box::new(e)))?;
    let mut stream = ParquetRecordBatchStreamBuilder::new(reader).await?.build()?;
    while stream.try_next().await?.is_some() {}
    Ok(())
}
