//! From a plan to streams: how tables are joined within the memory limit, and what an error of a stream says.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, execute_stream_partitioned};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use lakeport::error::{Error, Kind, Result};
use lakeport::limits::Limits;
use lakeport::source::Partition;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::layout::FileKind;
use super::memory::{self, Joins};
use super::table::LakeTable;
use super::{fault, parquet};

/// What a hash table holds per row besides the row.
const HASH_ENTRY: usize = 24;
/// What a text or a nested value is assumed to take where no size is known.
const ASSUMED_TEXT: usize = 32;

/// Plans the query so that its joins keep to the memory limit.
///
/// A hash join holds one whole side in memory and cannot spill. When the sides to be held might take more than half the
/// pool, by the most they can be, the query is planned with sort-merge joins, which spill.
pub(super) async fn physical(context: &SessionContext, plan: &LogicalPlan, limits: &Limits) -> Result<Arc<dyn ExecutionPlan>> {
    let fast = context.state().create_physical_plan(plan).await.map_err(fault::sql)?;
    if held(&fast).map_err(fault::sql)? <= memory::pool(limits) / 2 {
        return Ok(fast);
    }
    let careful = memory::session(limits, context.runtime_env(), Joins::SortMerge);
    careful.state().create_physical_plan(plan).await.map_err(fault::sql)
}

/// The most that the hash joins of a plan may hold, by the sizes of what they read.
fn held(plan: &Arc<dyn ExecutionPlan>) -> Result<usize, DataFusionError> {
    let mut sum = 0usize;
    plan.apply(|node| {
        if let Some(join) = node.downcast_ref::<HashJoinExec>() {
            sum = sum.saturating_add(read(join.left())?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(sum)
}

/// Bytes in memory of everything a plan reads, before any condition thins it out.
fn read(plan: &Arc<dyn ExecutionPlan>) -> Result<usize, DataFusionError> {
    let mut sum = 0usize;
    plan.apply(|node| {
        if node.children().is_empty() {
            let statistics = StatisticsContext::new().compute(node.as_ref(), &StatisticsArgs::new())?;
            let rows = statistics.num_rows.get_value().copied().unwrap_or(0);
            let row: usize = node.schema().fields().iter().map(|f| width(f.data_type())).sum();
            let by_type = rows.saturating_mul(row);
            let by_size = statistics.total_byte_size.get_value().copied().unwrap_or(0);
            sum = sum.saturating_add(by_type.max(by_size)).saturating_add(rows.saturating_mul(HASH_ENTRY));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(sum)
}

fn width(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or(if data_type == &DataType::Boolean { 1 } else { ASSUMED_TEXT })
}

/// Whether each partition of a plan is read by itself, so that one may wait until another is done.
fn apart(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let children = plan.children();
    let same = |child: &&Arc<dyn ExecutionPlan>| {
        child.output_partitioning().partition_count() == plan.output_partitioning().partition_count() && apart(child)
    };
    plan.downcast_ref::<RepartitionExec>().is_none() && children.len() <= 1 && children.iter().all(same)
}

/// Opens one stream per partition of the plan.
pub(super) fn partitions(
    plan: Arc<dyn ExecutionPlan>,
    context: &SessionContext,
    tables: Vec<Arc<LakeTable>>,
    limits: &Limits,
) -> Result<Vec<Partition>> {
    let schema = plan.schema();
    let task = context.task_ctx();
    let turns = Arc::new(Semaphore::new(if apart(&plan) { limits.readers.max(1) } else { Semaphore::MAX_PERMITS }));
    let streams = execute_stream_partitioned(plan, Arc::clone(&task)).map_err(fault::rows)?;
    let tables: Arc<[Arc<LakeTable>]> = tables.into();
    Ok(streams
        .into_iter()
        .enumerate()
        .map(|(number, stream)| {
            let open =
                Open { stream, schema: Arc::clone(&schema), tables: Arc::clone(&tables), turn: None, _task: Arc::clone(&task) };
            let turns = Arc::clone(&turns);
            let stream = futures::stream::unfold(Some((open, turns)), |state| async move {
                let (mut open, turns) = state?;
                if open.turn.is_none() {
                    open.turn = Arc::clone(&turns).acquire_owned().await.ok();
                }
                match open.next().await? {
                    Ok(batch) => Some((Ok(batch), Some((open, turns)))),
                    // Nothing that comes after an error is to be trusted.
                    Err(error) => Some((Err(error.during("read rows")), None)),
                }
            });
            Partition { name: number.to_string(), stream: Box::pin(stream) }
        })
        .collect())
}

/// A stream with what its errors need.
struct Open {
    stream: SendableRecordBatchStream,
    schema: SchemaRef,
    tables: Arc<[Arc<LakeTable>]>,
    /// The leave to be open, held from the first row asked for to the last.
    turn: Option<OwnedSemaphorePermit>,
    /// Keeps the directory of spilled files until the last stream is gone.
    _task: Arc<TaskContext>,
}

impl Open {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        Some(match self.stream.next().await? {
            Ok(batch) => self.declared(batch),
            Err(error) => Err(explained(error, &self.tables).await),
        })
    }

    /// The batch under the schema the table declared; operators differ in names of inner fields and in metadata.
    fn declared(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if batch.schema_ref() == &self.schema {
            return Ok(batch);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), batch.columns().to_vec(), &options)
            .map_err(|e| Error::new(Kind::Unexpected, "the engine handed out rows of another shape than it planned").because(e))
    }
}

/// The error in our words, with the file where it can be found.
async fn explained(error: DataFusionError, tables: &[Arc<LakeTable>]) -> Error {
    let decoding = matches!(error.find_root(), DataFusionError::ParquetError(_))
        || matches!(error.find_root(), DataFusionError::ArrowError(e, _)
            if matches!(e.as_ref(), arrow::error::ArrowError::ParquetError(_) | arrow::error::ArrowError::ExternalError(_)));
    let error = fault::rows(error);
    // An outage is no file's fault, and another look at all of them would take as long as the first.
    if !decoding || error.kind() != Kind::SourceUnreadable {
        return error;
    }
    for table in tables.iter().filter(|t| t.layout.kind == FileKind::Parquet) {
        if let Some(file) = parquet::culprit(&table.layout).await {
            return error.at("file", file);
        }
    }
    error
}
