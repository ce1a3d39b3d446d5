//! The memory a query may hold, and where it spills what does not fit.

use std::sync::Arc;

use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionStateBuilder, config::SessionConfig};
use datafusion::prelude::SessionContext;
use lakeport::error::{Kind, Result, Wrap};
use lakeport::limits::Limits;

use super::exact::Exact;
use super::pool::Pool;
use super::spill::Spill;

/// What a sort reserves for merging its spilled runs, where the limit allows it.
const MERGE_RESERVE: usize = 10 * 1024 * 1024;

/// The pool from which on batches are as large as asked for. In a smaller one they shrink with it: a sort on each core that
/// holds a few batches, with as many to merge, has to fit.
const WHOLE_BATCHES: usize = 256 * 1024 * 1024;
/// The smallest batches, in rows; below it the work around a batch costs more than the batch.
const SMALLEST_BATCH: usize = 256;

/// A pool of `limits.memory`, shared fairly by everything that can spill, over a directory below `TMPDIR` for spilling.
///
/// The pool is the whole of `limits.memory`; batches in flight between two steps are not counted (a few MiB per core).
pub(super) fn runtime(limits: &Limits) -> Result<Arc<RuntimeEnv>> {
    let disk = DiskManagerBuilder::default().with_temp_file_factory(Arc::new(Spill::new()));
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(Pool::new(pool(limits))))
        .with_disk_manager_builder(disk)
        .build_arc()
        .wrap(Kind::OutOfSpace, || "the directory for spilling cannot be used".to_owned())
}

/// A session in this runtime, set for true types and bounded memory.
pub(super) fn session(limits: &Limits, runtime: Arc<RuntimeEnv>, joins: Joins) -> SessionContext {
    // DataFusion plans sort-merge joins only where there are partitions to sort apart.
    let cores = limits.cores.max(if joins == Joins::SortMerge { 2 } else { 1 });
    let mut config =
        SessionConfig::new().with_target_partitions(cores).with_batch_size(batch_rows(limits)).with_information_schema(false);
    let options = config.options_mut();
    // What a file declares is what the target sees: no views where the file has plain text.
    options.execution.parquet.schema_force_view_types = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    // `1.1` is what it says, and no double beside it.
    options.sql_parser.parse_float_as_decimal = true;
    // `now()` is an instant, and one that says no zone is in this one.
    options.execution.time_zone = Some("+00:00".to_owned());
    // Each core's sort keeps a reserve for merging; together they must leave most of the pool to sorting.
    options.execution.sort_spill_reservation_bytes = MERGE_RESERVE.min(pool(limits) / (16 * cores));
    options.optimizer.prefer_hash_join = joins == Joins::Hash;
    let mut state = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
    state.expr_planners().get_or_insert_default().push(Arc::new(Exact));
    SessionContext::new_with_state(state.build())
}

/// Rows of a batch, in proportion to the pool.
fn batch_rows(limits: &Limits) -> usize {
    let most = limits.batch_rows.max(1);
    let parts = WHOLE_BATCHES.div_ceil(pool(limits).max(1));
    (most / parts).max(SMALLEST_BATCH.min(most))
}

/// How tables are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joins {
    /// One side held in memory: the fastest, and it cannot spill.
    Hash,
    /// Both sides sorted: slower, and it spills.
    SortMerge,
}

/// The size of the pool; a size beyond the address space is as good as all of it.
pub(super) fn pool(limits: &Limits) -> usize {
    usize::try_from(limits.memory).unwrap_or(usize::MAX)
}
