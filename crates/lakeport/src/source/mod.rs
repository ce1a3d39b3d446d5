//! Where rows come from: what a query is, and what an [`Engine`] answers.
//!
//! An engine runs a [`Query`] and hands out one stream of record batches per partition. Lakeport has two: the embedded one
//! (DataFusion) and Spark; both live in the crate `lakeport-engines`, so that this one builds without them.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::Stream;
use futures::future::BoxFuture;
use serde::Serialize;
use tokio::sync::watch;

use crate::error::Result;
use crate::limits::Limits;
use crate::types::Wish;

mod measure;
mod plain;
pub(crate) use measure::measure;
pub use plain::{Comparison, Literal, PlainColumn, PlainScan, PlainSource, Predicate, ScanGroup, loadable};

/// Record batches as they come, each or an error.
pub type BatchStream = Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// What to read: one or many tables, and the SQL over them.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The table called `src` in the SQL: a path, glob or URL.
    pub from: Option<Location>,
    /// The SQL text; without it the whole of `from` is read.
    pub sql: Option<String>,
    /// A condition added to the result (`--where`).
    pub filter: Option<String>,
    /// At most so many rows.
    pub limit: Option<u64>,
    /// How the result leaves a cluster, where the job says it.
    pub handoff: Option<crate::config::Handoff>,
    /// What the user asks for, column by column; for columns that only the engine can bring into that form.
    pub wishes: BTreeMap<String, Wish>,
    /// The environments that SQL may name as `ENV.path.to.table`.
    pub environments: BTreeMap<String, Location>,
}

/// A place in a lake: a path or URL, with the options of its environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Location {
    /// `./orders/`, `/lake/orders/*.parquet`, `s3://bucket/gold/orders`.
    pub url: String,
    /// Object-store options by their standard names (`aws_endpoint`, `azure_storage_account_name`, …).
    pub options: BTreeMap<String, String>,
}

impl Location {
    /// Makes a location without options.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), options: BTreeMap::new() }
    }

    /// Whether this lies on the local disk.
    #[must_use]
    pub fn is_local(&self) -> bool {
        !self.url.contains("://") || self.url.starts_with("file://")
    }

    /// The location of a table below this root: `root.join("sales/orders")`.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        let path = path.trim_start_matches('/');
        let url = if path.is_empty() { self.url.clone() } else { format!("{}/{path}", self.url.trim_end_matches('/')) };
        Self { url, options: self.options.clone() }
    }
}

/// An opened query: everything known before the first row.
pub struct Table {
    /// The columns of the result.
    pub schema: SchemaRef,
    /// What exactly is read.
    pub snapshot: Snapshot,
    /// The streams, one per partition; dropping one stops it.
    pub partitions: Vec<Partition>,
    /// The same query as a plain read of Parquet files, or why it is none.
    pub plain: std::result::Result<PlainScan, String>,
    /// What writes the files of the plain read, where they are not there yet; its groups are empty until then.
    pub staging: Option<Staging>,
    /// What a cluster says of its work while the streams are read.
    pub work: Option<watch::Receiver<Work>>,
}

/// Work that ends with files that can be read plainly; it begins when it is polled, and dropping it stops it.
pub type Staging = BoxFuture<'static, Result<Staged>>;

/// Files that were written to be read.
pub struct Staged {
    /// The plain read of them; its rows are those that the writer counted.
    pub scan: PlainScan,
    /// Keeps the files; they may go when it is dropped.
    pub keep: Box<dyn Any + Send>,
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").field("scan", &self.scan).finish_non_exhaustive()
    }
}

/// What a cluster has done of a query, as it last said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Stages that are known.
    pub stages: u64,
    /// Stages that are done.
    pub stages_done: u64,
    /// Tasks of the known stages.
    pub tasks: u64,
    /// Tasks that are done.
    pub tasks_done: u64,
    /// Tasks at work.
    pub running: u64,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("schema", &self.schema)
            .field("snapshot", &self.snapshot)
            .field("partitions", &self.partitions.len())
            .field("plain", &self.plain)
            .finish()
    }
}

/// One partition of a table.
pub struct Partition {
    /// A name for reports, such as `0` or `month=7`.
    pub name: String,
    /// Its rows.
    pub stream: BatchStream,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What of a source a run reads, so that a report can say it and the next run can tell whether it changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The layout found: `parquet`, `csv`, `ndjson`, `delta`, `sql` …
    pub layout: String,
    /// A version where the layout has one, else a digest over names, sizes and change times of the files.
    pub id: String,
    /// Number of data files.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Rows, where known without reading them.
    pub rows: Option<u64>,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The name to use after `ENV:`.
    pub name: String,
    /// `table`, `directory`, `project`, `data source`, …
    pub kind: String,
    /// What more is known, as key and value in display order.
    pub details: Vec<(String, String)>,
}

/// Runs queries over a lake or a cluster.
#[async_trait]
pub trait Engine: Send + Sync + fmt::Debug {
    /// The engine's name in reports: `embedded` or `spark`.
    fn name(&self) -> &'static str;

    /// Resolves tables, plans the query and opens its streams; reads footers and listings, no rows.
    ///
    /// # Errors
    /// `SourceMissing`, `SourceUnreadable`, `SourceEmpty`, `SchemaConflict` for what lies there; `SqlInvalid` for the text.
    async fn open(&self, query: &Query, limits: &Limits) -> Result<Table>;

    /// Lists the tables and directories directly below a location.
    ///
    /// # Errors
    /// `SourceMissing` when nothing is there.
    async fn list(&self, at: &Location) -> Result<Vec<Listed>>;
}

/// A directory that was used as a file, or the reverse, is told apart by this.
#[must_use]
pub fn local_path(url: &str) -> Option<PathBuf> {
    if let Some(rest) = url.strip_prefix("file://") {
        return Some(PathBuf::from(rest));
    }
    (!url.contains("://")).then(|| PathBuf::from(url))
}
