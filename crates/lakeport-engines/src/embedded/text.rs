//! Reads CSV and NDJSON files for DataFusion, each by its own header and packing.
//!
//! DataFusion's own readers match CSV columns by position, stop after the first part of a zstd archive and do not name the
//! file in an error; this one matches by name, reads all parts and names it.

use std::fmt;
use std::sync::Arc;

use ::bytes::Bytes;
use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpenFuture, FileOpener, FileScanConfig, FileSource};
use datafusion::datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, PhysicalExpr, apply_expression_roots};
use futures::StreamExt;
use futures::stream::BoxStream;
use lakeport::error::{Error, Kind, Result};
use object_store::ObjectStore;

use super::csv::Empties;
use super::layout::{FileKind, Packing};
use super::{bytes, csv};

/// Rows per batch until DataFusion says how many.
const BATCH_ROWS: usize = 8192;

/// What reading one file needs beyond its name; travels with the file through the plan.
#[derive(Debug, Clone)]
pub(super) struct TextFile {
    pub(super) packing: Packing,
    /// The columns in the file's order; empty for NDJSON and for empty files.
    pub(super) header: Vec<String>,
    /// Whether a CSV file may hold quoted fields without letters.
    pub(super) empties: bool,
    /// The file's name in errors.
    pub(super) shown: String,
}

/// Text files as a source of DataFusion.
#[derive(Clone)]
pub(super) struct TextSource {
    kind: FileKind,
    table_schema: TableSchema,
    projection: SplitProjection,
    batch_rows: usize,
    metrics: ExecutionPlanMetricsSet,
}

impl TextSource {
    pub(super) fn new(kind: FileKind, table_schema: TableSchema) -> Self {
        Self {
            kind,
            projection: SplitProjection::unprojected(&table_schema),
            table_schema,
            batch_rows: BATCH_ROWS,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl FileSource for TextSource {
    fn create_file_opener(
        &self,
        object_store: Arc<dyn ObjectStore>,
        _base_config: &FileScanConfig,
        _partition: usize,
    ) -> DfResult<Arc<dyn FileOpener>> {
        let file_schema = self.table_schema.file_schema();
        let opener = TextOpener {
            kind: self.kind,
            store: object_store,
            file_schema: Arc::clone(file_schema),
            wanted: Arc::new(file_schema.project(&self.projection.file_indices)?),
            batch_rows: self.batch_rows,
        };
        ProjectionOpener::try_new(self.projection.clone(), Arc::new(opener), file_schema)
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table_schema
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_rows: batch_size, ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        self.kind.name()
    }

    fn fmt_extra(&self, _t: DisplayFormatType, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }

    /// A quoted field may hold line ends, so a file cannot be cut at one.
    fn supports_repartitioning(&self) -> bool {
        false
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> DfResult<Option<Arc<dyn FileSource>>> {
        let merged = self.projection.source.try_merge(projection)?;
        let projection = SplitProjection::new(self.table_schema.file_schema(), &merged);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        apply_expression_roots(self.projection.source.iter(), f)
    }
}

/// Opens one file after the other.
struct TextOpener {
    kind: FileKind,
    store: Arc<dyn ObjectStore>,
    file_schema: SchemaRef,
    /// The columns the query needs.
    wanted: SchemaRef,
    batch_rows: usize,
}

impl FileOpener for TextOpener {
    fn open(&self, file: PartitionedFile) -> DfResult<FileOpenFuture> {
        let about = file
            .extension::<TextFile>()
            .cloned()
            .ok_or_else(|| DataFusionError::Internal("a text file without its description".to_owned()))?;
        let decoder = match self.kind {
            FileKind::Csv => Decoder::csv(&about, &self.file_schema, &self.wanted, self.batch_rows),
            _ => Decoder::ndjson(&self.wanted, self.batch_rows),
        };
        let decoder = decoder.map_err(|e| broken(e, &about.shown))?;
        let (store, wanted) = (Arc::clone(&self.store), Arc::clone(&self.wanted));
        Ok(Box::pin(async move {
            let input = bytes::open(store.as_ref(), &file.object_meta.location, about.packing, &about.shown)
                .await
                .map_err(|e| DataFusionError::External(Box::new(e)))?;
            Ok(batches(Reading { input, chunk: Bytes::new(), ended: false, decoder, wanted, shown: about.shown }))
        }))
    }
}

/// One file while it is read.
struct Reading {
    input: BoxStream<'static, Result<Bytes>>,
    chunk: Bytes,
    ended: bool,
    decoder: Decoder,
    wanted: SchemaRef,
    shown: String,
}

fn batches(reading: Reading) -> BoxStream<'static, DfResult<RecordBatch>> {
    futures::stream::try_unfold(reading, |mut reading| async move { Ok(reading.next().await?.map(|batch| (batch, reading))) })
        .boxed()
}

impl Reading {
    async fn next(&mut self) -> DfResult<Option<RecordBatch>> {
        loop {
            if self.chunk.is_empty() && !self.ended {
                match self.input.next().await {
                    Some(chunk) => self.chunk = chunk.map_err(|e| DataFusionError::External(Box::new(e)))?,
                    None => self.ended = true,
                }
                self.decoder.look_ahead(&self.chunk, self.ended);
            }
            let taken = self.decoder.decode(&self.chunk).map_err(|e| broken(e, &self.shown))?;
            self.chunk = self.chunk.slice(taken..);
            // A decoder that takes nothing is full, or has all of the file; one may also stop after the header.
            if taken == 0 || self.ended {
                let batch = self.decoder.flush().map_err(|e| broken(e, &self.shown))?;
                let Some(batch) = batch else {
                    return self.decoder.ended().map(|()| None).map_err(|e| broken(e, &self.shown));
                };
                let batch = self.decoder.with_empties(batch).map_err(|e| broken(e, &self.shown))?;
                return self.decoder.shape(batch, &self.wanted).map(Some);
            }
        }
    }
}

/// A decoder of Arrow, with where each wanted column is found in what it gives.
struct Decoder {
    inner: Inner,
    /// For each wanted column its place in the decoded batch; `None` where the file lacks it.
    places: Vec<Option<usize>>,
    /// Where a CSV file holds empty texts, if it does.
    empties: Option<Empties>,
    /// The field that each decoded column is in the file.
    fields: Vec<usize>,
    /// Rows handed out, after the header line.
    rows: u64,
}

enum Inner {
    Csv(Box<arrow::csv::reader::Decoder>),
    Ndjson(arrow::json::reader::Decoder),
    /// A file without even a header has no rows.
    Nothing,
}

impl Decoder {
    fn new(inner: Inner, places: Vec<Option<usize>>) -> Self {
        Self { inner, places, empties: None, fields: Vec::new(), rows: 0 }
    }

    fn csv(file: &TextFile, schema: &Schema, wanted: &Schema, rows: usize) -> std::result::Result<Self, ArrowError> {
        let header = &file.header;
        if header.is_empty() {
            return Ok(Self::new(Inner::Nothing, Vec::new()));
        }
        let mut projection = Vec::new();
        let places = wanted
            .fields()
            .iter()
            .map(|field| {
                header.iter().position(|name| name == field.name()).map(|at| {
                    projection.push(at);
                    projection.len() - 1
                })
            })
            .collect();
        let schema = Arc::new(Schema::new(csv::file_fields(header, schema)));
        let builder = arrow::csv::ReaderBuilder::new(schema).with_header(true).with_batch_size(rows);
        let inner = Inner::Csv(Box::new(builder.with_projection(projection.clone()).build_decoder()));
        let empties = file.empties.then(Empties::default);
        Ok(Self { empties, fields: projection, ..Self::new(inner, places) })
    }

    fn ndjson(wanted: &SchemaRef, rows: usize) -> std::result::Result<Self, ArrowError> {
        // Columns of mixed kinds are text, as it stands in the file.
        let builder = arrow::json::ReaderBuilder::new(Arc::clone(wanted)).with_batch_size(rows).with_coerce_primitive(true);
        Ok(Self::new(Inner::Ndjson(builder.build_decoder()?), (0..wanted.fields().len()).map(Some).collect()))
    }

    fn decode(&mut self, input: &[u8]) -> std::result::Result<usize, ArrowError> {
        match &mut self.inner {
            Inner::Csv(decoder) => decoder.decode(input),
            Inner::Ndjson(decoder) => decoder.decode(input),
            Inner::Nothing => Ok(input.len()),
        }
    }

    fn flush(&mut self) -> std::result::Result<Option<RecordBatch>, ArrowError> {
        match &mut self.inner {
            Inner::Csv(decoder) => decoder.flush(),
            Inner::Ndjson(decoder) => decoder.flush(),
            Inner::Nothing => Ok(None),
        }
    }

    /// Looks at what is going to be decoded.
    fn look_ahead(&mut self, input: &[u8], ended: bool) {
        if let Some(empties) = &mut self.empties {
            empties.follow(input);
            if ended {
                empties.end();
            }
        }
    }

    /// Makes empty texts of the NULLs that are none, in columns of text.
    fn with_empties(&mut self, batch: RecordBatch) -> std::result::Result<RecordBatch, ArrowError> {
        let Some(empties) = &mut self.empties else { return Ok(batch) };
        let first = 1 + self.rows;
        self.rows += batch.num_rows() as u64;
        let found = empties.before(first + batch.num_rows() as u64, first);
        if found.is_empty() {
            return Ok(batch);
        }
        let (schema, mut columns, _) = batch.into_parts();
        for (column, field) in columns.iter_mut().zip(&self.fields).filter(|(c, _)| c.data_type() == &DataType::Utf8) {
            let rows: Vec<usize> = found.iter().filter(|(_, at)| at == field).map(|(row, _)| *row).collect();
            if !rows.is_empty() {
                *column = csv::put(column, &rows)?;
            }
        }
        RecordBatch::try_new(schema, columns)
    }

    /// Makes sure, at the end, that the rows were counted as they were decoded.
    fn ended(&self) -> std::result::Result<(), ArrowError> {
        match &self.empties {
            Some(empties) if empties.rows() != 1 + self.rows => {
                Err(ArrowError::CsvError(format!("{} rows were decoded of {}", self.rows, empties.rows().saturating_sub(1))))
            }
            _ => Ok(()),
        }
    }

    fn shape(&self, batch: RecordBatch, wanted: &SchemaRef) -> DfResult<RecordBatch> {
        let rows = batch.num_rows();
        let columns = self
            .places
            .iter()
            .zip(wanted.fields())
            .map(|(place, field)| match place {
                Some(at) => Arc::clone(batch.column(*at)),
                None => new_null_array(field.data_type(), rows),
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(wanted), columns, &options)?)
    }
}

/// The files were read to the end once, so what fails now has changed since.
fn broken(error: ArrowError, shown: &str) -> DataFusionError {
    let error = Error::new(Kind::SourceUnreadable, "the file cannot be read as it was when the query was planned")
        .because(error)
        .at("file", shown);
    DataFusionError::External(Box::new(error))
}
