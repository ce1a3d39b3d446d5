//! The embedded engine: DataFusion over files on disk and in object stores, with nothing to install.
//!
//! ```text
//! Location ─ layout (which files) ─ parquet/csv/ndjson (which columns) ─ table ─┐
//! SQL ─ sql (which tables it names) ───────────────────────────────────────────┴─ plan ─ one stream per partition
//! ```
//!
//! Everything a person can get wrong is found before the first row: missing paths, damaged files, columns that do not
//! fit together, SQL that does not plan. Memory is bounded by [`Limits::memory`](lakeport::limits::Limits::memory); what
//! does not fit is spilled to the temporary directory.
//!
//! The streams of one query run side by side: read them together, not one after the other, or what an unread one would
//! get has to wait in memory or on disk.

mod bytes;
mod csv;
mod delta;
mod evidence;
mod exact;
mod fault;
mod hive;
mod layout;
mod listing;
mod memory;
mod ndjson;
mod parquet;
mod plain;
mod pool;
mod schema;
mod spill;
mod sql;
mod store;
mod streams;
mod table;
mod text;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::{DataFrame, SessionContext};
use futures::FutureExt;
use futures::future::BoxFuture;
use lakeport::error::{Error, Kind, Result};
use lakeport::limits::Limits;
use lakeport::source::{Engine, Listed, Location, Query, Snapshot, Table};
use sha2::{Digest, Sha256};

pub(crate) use self::store::Place;

use self::memory::Joins;
use self::table::LakeTable;

/// The name of the table of `--from` inside SQL.
const SRC: &str = "src";

/// Runs queries in this process, over local files and object stores.
#[derive(Debug, Default, Clone, Copy)]
pub struct Embedded;

impl Embedded {
    /// Makes the engine; it holds nothing between two queries.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Engine for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    async fn open(&self, query: &Query, limits: &Limits) -> Result<Table> {
        opening(query, limits).await
    }

    async fn list(&self, at: &Location) -> Result<Vec<Listed>> {
        listing::list(at).await
    }
}

/// The future as one that may move between threads, proved here: inside of a trait's method the compiler remembers nothing of
/// such a proof, and walks all the types of a plan again for whatever the future holds.
fn opening<'a>(query: &'a Query, limits: &'a Limits) -> BoxFuture<'a, Result<Table>> {
    open(query, limits).boxed()
}

async fn open(query: &Query, limits: &Limits) -> Result<Table> {
    let runtime = memory::runtime(limits)?;
    let context = memory::session(limits, runtime, Joins::Hash);
    let mut tables = Vec::new();
    if let Some(location) = &query.from {
        let table = Arc::new(Box::pin(LakeTable::open(location, &context, 0)).await?);
        context.register_table(SRC, Arc::clone(&table) as _).map_err(fault::sql)?;
        tables.push(table);
    }
    let plan = logical(query, &context, &mut tables).await.map_err(|e| e.during("plan query"))?;
    let snapshot = snapshot(query, &tables);
    let optimized = context.state().optimize(&plan).map_err(fault::sql)?;
    let physical = streams::physical(&context, &plan, limits).await.map_err(|e| e.during("plan query"))?;
    let schema = physical.schema();
    if schema.fields().is_empty() {
        return Err(Error::new(Kind::NoColumns, "the query has no columns"));
    }
    let mut names = HashSet::new();
    if let Some(twice) = schema.fields().iter().find(|f| !names.insert(f.name())) {
        return Err(Error::new(Kind::DuplicateColumn, format!("two columns of the query are called `{}`", twice.name()))
            .at("column", twice.name()));
    }
    let read: Vec<&LakeTable> = tables.iter().map(Arc::as_ref).collect();
    let plain = plain::plain(&optimized, &read, &context.state());
    let partitions = streams::partitions(physical, &context, tables, limits)?;
    Ok(Table { schema, snapshot, partitions, plain, staging: None, work: None })
}

/// The query as a plan: the SQL, then the condition, then the number of rows.
async fn logical(query: &Query, context: &SessionContext, tables: &mut Vec<Arc<LakeTable>>) -> Result<LogicalPlan> {
    let plan = match &query.sql {
        Some(text) => {
            let mut parsed = sql::parse(text, context)?;
            let first = tables.len();
            tables.extend(parsed.open_tables(query, context, first).await?);
            parsed.plan(context).await?
        }
        None => {
            let source = tables.first().ok_or_else(|| {
                Error::new(Kind::Usage, "there is nothing to read").help("give a table with --from, or SQL with --sql")
            })?;
            let scan = LogicalPlanBuilder::scan(SRC, provider_as_source(Arc::clone(source) as _), None);
            scan.and_then(LogicalPlanBuilder::build).map_err(fault::sql)?
        }
    };
    let mut frame = DataFrame::new(context.state(), plan);
    if let Some(text) = &query.filter {
        let condition = sql::condition(text, frame.schema(), context)?;
        frame = frame.filter(condition).map_err(fault::sql)?;
    }
    if let Some(rows) = query.limit {
        frame = frame.limit(0, Some(usize::try_from(rows).unwrap_or(usize::MAX))).map_err(fault::sql)?;
    }
    Ok(frame.into_unoptimized_plan())
}

/// What is read: the files of every table the query names.
fn snapshot(query: &Query, tables: &[Arc<LakeTable>]) -> Snapshot {
    let mut digest = Sha256::new();
    for table in tables {
        table.layout.digest(&mut digest);
    }
    let id: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let layout = match tables {
        [one] => one.layout.name(),
        _ => "sql",
    };
    // A table that counts its versions is told by them.
    let id = match tables.iter().map(|t| t.layout.log.as_ref()).collect::<Vec<_>>().as_slice() {
        [Some(log)] => log.version.to_string(),
        _ => id,
    };
    // With SQL, a condition or a limit only reading tells.
    let whole = query.sql.is_none() && query.filter.is_none() && query.limit.is_none();
    Snapshot {
        layout: layout.to_owned(),
        id,
        files: tables.iter().map(|t| u64::try_from(t.layout.files.len()).unwrap_or(u64::MAX)).sum(),
        bytes: tables.iter().map(|t| t.layout.bytes()).sum(),
        rows: whole.then(|| tables.iter().flat_map(|t| &t.rows).sum()),
    }
}
