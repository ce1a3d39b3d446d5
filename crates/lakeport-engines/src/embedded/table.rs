//! A table of a lake as DataFusion sees it: the files that were listed, with the schema that was merged.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::error::Result as DfResult;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::prelude::SessionContext;
use lakeport::error::{Error, Kind, Result};
use lakeport::source::Location;

use super::layout::{DataFile, FileKind, Layout, Packing};
use super::parquet::{self, Files, Footers};
use super::store::store_url;
use super::text::{TextFile, TextSource};
use super::{csv, hive, ndjson};

/// How much larger packed text is assumed to be once unpacked; only the planner's guess at sizes depends on it.
const PACKED: u64 = 8;

/// One table, listed and understood.
#[derive(Debug)]
pub(super) struct LakeTable {
    pub(super) layout: Layout,
    schema: TableSchema,
    url: ObjectStoreUrl,
    /// One per file of the layout, in its order.
    files: Vec<PartitionedFile>,
    /// Rows of each file.
    pub(super) rows: Vec<u64>,
    /// Bytes of each file, unpacked.
    bytes: Vec<u64>,
    /// Bytes of each column in all files together, where known.
    columns: Vec<Precision<usize>>,
    /// Whether all files have one physical schema.
    pub(super) uniform: bool,
    /// What in the files only this engine reads.
    pub(super) peculiar: Option<String>,
}

impl LakeTable {
    /// Lists the files of a location, reads what they say about themselves and makes the store known to the session.
    pub(super) async fn open(location: &Location, context: &SessionContext, number: usize) -> Result<Self> {
        let mut layout = Layout::detect(location).await?;
        let (store, url) = store_url(number)?;
        let runtime = context.runtime_env();
        runtime.register_object_store(&url, Arc::clone(&layout.place.store));
        let found = understand(&layout, &runtime).await.map_err(|e| e.at("source", &location.url).during("open source"))?;
        let Understood { schema, read_as, doubled, rows, bytes, columns, uniform, peculiar, headers, empties } = found;
        if layout.log.is_none() {
            ensure_doubled_everywhere(&layout, &doubled, &rows)
                .map_err(|e| e.at("source", &location.url).during("open source"))?;
        }
        drop_doubled_partitions(&mut layout, &schema);
        let (mut headers, mut empties, mut read_as) = (headers.into_iter(), empties.into_iter(), read_as.into_iter());
        let files = layout.files.iter().map(|file| {
            let (header, empties) = (headers.next().unwrap_or_default(), empties.next().unwrap_or_default());
            let mut partitioned = PartitionedFile::new_from_meta(file.meta.clone())
                .with_partition_values(file.values.clone())
                .with_extension(TextFile { packing: file.packing, header, empties, shown: layout.show(file) });
            partitioned.arrow_schema = read_as.next().flatten();
            partitioned
        });
        let files = files.collect();
        let schema = TableSchema::builder(schema).with_table_partition_cols(layout.partitions.clone()).build();
        Ok(Self { layout, schema, url: store, files, rows, bytes, columns, uniform, peculiar })
    }

    /// The number of partition columns, which stand last.
    pub(super) fn partition_columns(&self) -> usize {
        self.layout.partitions.len()
    }

    /// The indices of the files that may hold rows for conditions on partition columns alone.
    pub(super) fn kept(&self, state: &dyn Session, filters: &[Expr]) -> DfResult<Vec<usize>> {
        let all = || (0..self.files.len()).collect();
        let mine: Vec<Expr> = filters.iter().filter(|f| self.decides(f)).cloned().collect();
        let Some(condition) = conjunction(mine) else { return Ok(all()) };
        let schema = Arc::new(Schema::new(self.layout.partitions.clone()));
        let columns = (0..self.partition_columns())
            .map(|i| ScalarValue::iter_to_array(self.layout.files.iter().map(|f| f.values[i].clone())))
            .collect::<DfResult<Vec<_>>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        // Conditions arrive qualified by the name the query gives the table; here there is one table only.
        let condition = datafusion::logical_expr::utils::split_conjunction_owned(condition);
        let condition = conjunction(condition.into_iter().map(unqualified).collect::<DfResult<Vec<_>>>()?);
        let Some(condition) = condition else { return Ok(all()) };
        let physical = state.create_physical_expr(condition, &DFSchema::try_from(schema)?)?;
        let answer = physical.evaluate(&batch)?.into_array(batch.num_rows())?;
        let Some(answer) = answer.as_any().downcast_ref::<BooleanArray>() else { return Ok(all()) };
        Ok(answer.iter().enumerate().filter(|(_, keep)| *keep == Some(true)).map(|(i, _)| i).collect())
    }

    /// Whether directories alone decide a condition: its columns are partition columns and it always gives one answer.
    fn decides(&self, filter: &Expr) -> bool {
        let columns = filter.column_refs();
        !columns.is_empty()
            && !filter.is_volatile()
            && !filter.contains_outer()
            && columns.iter().all(|c| self.layout.partitions.iter().any(|p| p.name() == &c.name))
            && !has_subquery(filter)
    }

    /// The chosen files in as many groups as there are cores, each about as large as the others.
    fn groups(&self, chosen: &[usize], cores: usize) -> Vec<FileGroup> {
        let total: u64 = chosen.iter().map(|i| self.layout.files[*i].meta.size).sum();
        let share = (total / u64::try_from(cores.max(1)).unwrap_or(1)).max(1);
        let mut groups: Vec<Vec<PartitionedFile>> = vec![Vec::new()];
        let mut filled = 0;
        for i in chosen {
            if filled >= share && groups.len() < cores {
                groups.push(Vec::new());
                filled = 0;
            }
            filled += self.layout.files[*i].meta.size;
            if let Some(group) = groups.last_mut() {
                group.push(self.files[*i].clone());
            }
        }
        groups.into_iter().map(FileGroup::new).collect()
    }

    fn parquet_files(&self, state: &dyn Session, projection: Option<&Vec<usize>>) -> Files {
        let names = self.schema.table_schema().fields().iter().map(|f| f.name().clone());
        let names = names.enumerate().filter(|(i, _)| projection.is_none_or(|p| p.contains(i))).map(|(_, name)| name);
        Files {
            store: Arc::clone(&self.layout.place.store),
            cache: state.runtime_env().cache_manager.get_file_metadata_cache(),
            wanted: Arc::new(names.collect()),
        }
    }

    /// What the planner may know of the chosen files; nothing of it is kept per file and column, of which there may be millions.
    fn statistics_of(&self, chosen: &[usize]) -> Statistics {
        let mut known = Statistics::new_unknown(self.schema.table_schema());
        let sum = |of: &[u64]| chosen.iter().filter_map(|i| of.get(*i)).sum::<u64>();
        let (bytes, all) = (sum(&self.bytes), self.bytes.iter().sum::<u64>());
        known.num_rows = usize::try_from(sum(&self.rows)).map_or(Precision::Absent, Precision::Exact);
        known.total_byte_size = usize::try_from(bytes).map_or(Precision::Absent, Precision::Inexact);
        // A column's share in the chosen files is taken to be that of the files.
        let share = |size: usize| {
            let part = (size as u128 * u128::from(bytes)).checked_div(u128::from(all));
            usize::try_from(part.unwrap_or_default()).unwrap_or(usize::MAX)
        };
        for (column, size) in known.column_statistics.iter_mut().zip(&self.columns) {
            column.byte_size = size.get_value().map_or(Precision::Absent, |size| Precision::Inexact(share(*size)));
        }
        let files = self.schema.file_schema().fields().len();
        for (column, partition) in known.column_statistics.iter_mut().skip(files).zip(&self.layout.partitions) {
            let width = partition.data_type().primitive_width();
            column.byte_size = width.map_or(Precision::Absent, |w| known.num_rows.multiply(&Precision::Exact(w)).to_inexact());
        }
        known
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let chosen = self.kept(state, filters)?;
        if chosen.is_empty() {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema().project(columns)?),
                None => self.schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let source: Arc<dyn FileSource> = match self.layout.kind {
            FileKind::Parquet => {
                let options = state.default_table_options().parquet;
                let hint = options.global.metadata_size_hint;
                let mut source = ParquetSource::new(self.schema.clone()).with_table_parquet_options(options);
                if let Some(hint) = hint {
                    source = source.with_metadata_size_hint(hint);
                }
                Arc::new(source.with_parquet_file_reader_factory(Arc::new(self.parquet_files(state, projection))))
            }
            kind => Arc::new(TextSource::new(kind, self.schema.clone())),
        };
        let config = FileScanConfigBuilder::new(self.url.clone(), source)
            .with_file_groups(self.groups(&chosen, state.config().target_partitions()))
            .with_statistics(self.statistics_of(&chosen))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|f| if self.decides(f) { TableProviderFilterPushDown::Exact } else { TableProviderFilterPushDown::Inexact })
            .collect())
    }
}

/// What the files say, of whatever kind they are.
struct Understood {
    schema: SchemaRef,
    /// The schema each Parquet file is read with, where it is not its own.
    read_as: Vec<Option<SchemaRef>>,
    /// The columns of each file that its directories name too.
    doubled: Vec<Vec<String>>,
    rows: Vec<u64>,
    /// Bytes of each file, unpacked.
    bytes: Vec<u64>,
    /// Bytes of each column, where known.
    columns: Vec<Precision<usize>>,
    uniform: bool,
    peculiar: Option<String>,
    /// The header of each CSV file.
    headers: Vec<Vec<String>>,
    /// Whether a CSV file holds quoted fields without letters.
    empties: Vec<bool>,
}

async fn understand(layout: &Layout, runtime: &RuntimeEnv) -> Result<Understood> {
    let (schema, rows, headers, empties, doubled) = match layout.kind {
        FileKind::Parquet => {
            let Footers { schema, read_as, doubled, rows, bytes, columns, uniform, peculiar } =
                parquet::footers(layout, runtime).await?;
            let (headers, empties) = (Vec::new(), Vec::new());
            return Ok(Understood { schema, read_as, doubled, rows, bytes, columns, uniform, peculiar, headers, empties });
        }
        FileKind::Csv => {
            let found = csv::look(layout).await?;
            let doubled =
                found.headers.iter().map(|header| hive::doubled(&layout.partitions, |name| header.iter().any(|own| own == name)));
            let doubled = doubled.collect();
            (found.schema, found.rows, found.headers, found.empties, doubled)
        }
        FileKind::Ndjson => {
            let found = ndjson::look(layout).await?;
            let doubled = doubled_keys(layout, &found.schema, &found.rows).await?;
            (found.schema, found.rows, Vec::new(), Vec::new(), doubled)
        }
    };
    let unpacked = |file: &DataFile| file.meta.size.saturating_mul(if file.packing == Packing::Plain { 1 } else { PACKED });
    let bytes = layout.files.iter().map(unpacked).collect();
    let (read_as, columns) = (Vec::new(), Vec::new());
    Ok(Understood { schema, read_as, doubled, rows, bytes, columns, uniform: false, peculiar: None, headers, empties })
}

/// The keys in each NDJSON file that its directories name too; only where there are any is a file looked at by itself.
async fn doubled_keys(layout: &Layout, schema: &Schema, rows: &[u64]) -> Result<Vec<Vec<String>>> {
    if hive::doubled(&layout.partitions, |name| schema.field_with_name(name).is_ok()).is_empty() {
        return Ok(vec![Vec::new(); rows.len()]);
    }
    let mut doubled = Vec::with_capacity(rows.len());
    for (file, rows) in layout.files.iter().zip(rows) {
        let alone = Layout { files: vec![file.clone()], ..layout.clone() };
        let own = if *rows == 0 { None } else { Some(ndjson::look(&alone).await?.schema) };
        doubled.push(hive::doubled(&layout.partitions, |name| own.as_ref().is_some_and(|own| own.field_with_name(name).is_ok())));
    }
    Ok(doubled)
}

/// Refuses files of which some hold a column that the directories name and some do not: whose rows have which value would
/// depend on where one looks.
fn ensure_doubled_everywhere(layout: &Layout, doubled: &[Vec<String>], rows: &[u64]) -> Result<()> {
    let filled = || layout.files.iter().zip(doubled).zip(rows).filter(|(_, rows)| **rows > 0).map(|(file, _)| file);
    for partition in &layout.partitions {
        let name = partition.name();
        let one = |holds: bool| filled().find(|(_, own)| own.contains(name) == holds).map(|(file, _)| layout.show(file));
        if let (Some(with), Some(without)) = (one(true), one(false)) {
            let message = format!("column `{name}` is named by the directories, and some files hold it while others do not");
            return Err(Error::new(Kind::SchemaConflict, message)
                .help("read the two kinds apart with globs, or have the files written alike")
                .at("column", name)
                .at("other file", with)
                .at("file", without));
        }
    }
    Ok(())
}

/// Where a file holds a column that its directory names too, the file is right.
fn drop_doubled_partitions(layout: &mut Layout, schema: &Schema) {
    let keep: Vec<bool> = layout.partitions.iter().map(|p| schema.field_with_name(p.name()).is_err()).collect();
    let mut flags = keep.iter();
    layout.partitions.retain(|_| flags.next().copied().unwrap_or(true));
    for file in &mut layout.files {
        let mut flags = keep.iter();
        file.values.retain(|_| flags.next().copied().unwrap_or(true));
    }
}

fn unqualified(expr: Expr) -> DfResult<Expr> {
    use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
    expr.transform(|e| {
        Ok(match e {
            Expr::Column(column) => Transformed::yes(Expr::Column(datafusion::common::Column::new_unqualified(column.name))),
            other => Transformed::no(other),
        })
    })
    .data()
}

fn has_subquery(expr: &Expr) -> bool {
    use datafusion::common::tree_node::TreeNode;
    expr.exists(|e| Ok(matches!(e, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_)))).unwrap_or(true)
}
