//! The engine on an Apache Spark cluster, through Spark Connect.
//!
//! A small result comes as a stream of Arrow batches through the driver; a large one is written to the stage by the executors
//! and read from there. Planning analyses the query and runs nothing.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use lakeport::config::{Handoff, SparkEnv, secret};
use lakeport::error::{Context, Error, Kind, Result};
use lakeport::limits::{Limits, parse_size, show_size};
use lakeport::source::{self, BatchStream, Engine, Listed, Location, Partition, PlainScan, Query, Snapshot, Table};
use spark_connect_proto as proto;

mod client;
mod endpoint;
mod fault;
mod query;
mod results;
mod session;
mod stage;
mod types;

use results::{Execution, conform};
use session::Session;
use stage::Stage;

use crate::embedded::Embedded;

/// Estimated bytes up to which a result streams through the driver, whose `maxResultSize` is 1 GiB by default.
const STREAMED: u64 = 256 * 1024 * 1024;

/// Files of the stage that are read at the same time; each holds a row group in memory.
const READ_AT_ONCE: usize = 2;

/// The engine of one Spark environment.
pub struct Spark {
    name: String,
    env: SparkEnv,
    /// Where secrets by file are looked up.
    base: PathBuf,
    /// Reads the stage.
    embedded: Arc<Embedded>,
}

impl fmt::Debug for Spark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spark").field("name", &self.name).field("url", &self.env.url).finish_non_exhaustive()
    }
}

impl Spark {
    /// Makes the engine of an environment; nothing is connected yet.
    #[must_use]
    pub fn new(name: &str, env: &SparkEnv, base: PathBuf, embedded: Arc<Embedded>) -> Self {
        let ca_file = env.ca_file.as_ref().map(|file| base.join(file));
        Self { name: name.to_owned(), env: SparkEnv { ca_file, ..env.clone() }, base, embedded }
    }

    async fn session(&self, limits: &Limits) -> Result<Arc<Session>> {
        let token = self.env.token.as_ref().map(|t| t.resolve(&self.base)).transpose()?;
        let headers = secret::resolve(&self.env.headers, &self.base).at("environment", &self.name)?;
        let session = Session::begin(&self.env, &headers, token.as_ref().map(|t| t.reveal()), limits).await;
        Ok(Arc::new(session.at("environment", &self.name)?))
    }

    /// The relation of a query; its source becomes a view of the session where SQL asks for it.
    async fn relation(&self, session: &Arc<Session>, query: &Query) -> Result<proto::Relation> {
        // `cluster:` alone says where SQL runs, and names no table.
        let from = query.from.as_ref().and_then(|l| path(&l.url)).map(|(_, path)| path);
        let from = from.filter(|path| !path.is_empty()).map(query::table);
        let input = match (&query.sql, from) {
            (None, Some(table)) => table,
            (Some(text), from) => {
                query::ensure_reads(text)?;
                if let Some(table) = from {
                    let view = proto::CreateDataFrameViewCommand {
                        input: Some(table),
                        name: query::SOURCE.into(),
                        is_global: false,
                        replace: true,
                    };
                    let plan = query::command(proto::command::CommandType::CreateDataframeView(view));
                    Execution::new(Arc::clone(session), plan).finish().await?;
                }
                let named = query::strip(text, std::iter::once(self.name.as_str()));
                query::sql(named.as_ref().map_or(text, |(_, text)| text))
            }
            (None, None) => return Err(Error::new(Kind::Usage, "the query names neither a table nor SQL")),
        };
        query::narrowed(input, query.filter.as_deref(), query.limit)
    }

    /// How the result comes, and why that way.
    async fn handoff(
        &self,
        session: &Session,
        relation: &proto::Relation,
        schema: &SchemaRef,
        asked: Option<Handoff>,
    ) -> Result<(Handoff, String)> {
        let stages = types::stages(schema);
        match (asked.or(self.env.handoff), &self.env.stage, stages) {
            (Some(Handoff::Stream), ..) => return Ok((Handoff::Stream, "asked for".into())),
            (Some(Handoff::Stage), None, _) => {
                return Err(Error::new(Kind::ConfigInvalid, "handoff = \"stage\" needs a stage")
                    .at("environment", &self.name)
                    .help("set stage = \"s3://…\" to a directory that the executors write and Lakeport reads"));
            }
            (Some(Handoff::Stage), Some(_), Err(why)) => {
                return Err(Error::new(Kind::Unsupported, "the result cannot be staged")
                    .because(why)
                    .help("cast the column in --sql, or leave handoff out"));
            }
            (Some(Handoff::Stage), Some(_), Ok(())) => return Ok((Handoff::Stage, "asked for".into())),
            (None, None, _) => return Ok((Handoff::Stream, "the environment has no stage".into())),
            (None, Some(_), Err(why)) => return Ok((Handoff::Stream, why)),
            (None, Some(_), Ok(())) => {}
        }
        Ok(match self.estimate(session, relation).await? {
            Some(bytes) if bytes <= STREAMED => (Handoff::Stream, format!("about {} are expected", show_size(bytes))),
            Some(bytes) => (Handoff::Stage, format!("about {} are expected", show_size(bytes))),
            None => (Handoff::Stage, "Spark gives no estimate of its size".into()),
        })
    }

    /// Spark's own estimate of a result's size.
    async fn estimate(&self, session: &Session, relation: &proto::Relation) -> Result<Option<u64>> {
        use proto::analyze_plan_request::{Analyze, Explain, explain::ExplainMode};
        let explain = Explain { plan: Some(query::root(relation.clone())), explain_mode: ExplainMode::Cost.into() };
        let answer = session.client.analyze(Analyze::Explain(explain), "estimate the result").await?;
        let proto::analyze_plan_response::Result::Explain(explain) = answer else { return Ok(None) };
        Ok(size_in_bytes(&explain.explain_string))
    }

    /// The server's version, which is only shown: servers that are no Apache Spark may not tell one.
    async fn version(session: &Session) -> String {
        use proto::analyze_plan_request::{Analyze, SparkVersion};
        match session.client.analyze(Analyze::SparkVersion(SparkVersion {}), "ask for the version").await {
            Ok(proto::analyze_plan_response::Result::SparkVersion(v)) => format!("Spark {}", v.version),
            _ => "Spark of unknown version".into(),
        }
    }

    /// Runs a small query and gathers its rows; for listings.
    async fn rows(&self, session: &Arc<Session>, text: &str) -> Result<Vec<RecordBatch>> {
        let mut execution = Execution::new(Arc::clone(session), query::root(query::sql(text)));
        let mut rows = Vec::new();
        while let Some(batches) = execution.next().await? {
            rows.extend(batches);
        }
        Ok(rows)
    }
}

#[async_trait]
impl Engine for Spark {
    fn name(&self) -> &'static str {
        "spark"
    }

    async fn open(&self, query: &Query, limits: &Limits) -> Result<Table> {
        use proto::analyze_plan_request::{Analyze, Schema};
        let session = self.session(limits).await?;
        let relation = self.relation(&session, query).await.at("environment", &self.name)?;
        let analyze = Analyze::Schema(Schema { plan: Some(query::root(relation.clone())) });
        let answer = session.client.analyze(analyze, "analyse the query").await.at("environment", &self.name)?;
        let proto::analyze_plan_response::Result::Schema(proto::analyze_plan_response::Schema { schema: Some(schema) }) = answer
        else {
            return Err(Error::new(Kind::Unexpected, "Spark told no schema").at("environment", &self.name));
        };
        let types::Columns { schema, through } = types::columns(&schema, &query.wishes).at("environment", &self.name)?;
        let relation = query::with_columns(relation, through);
        let (handoff, why) = self.handoff(&session, &relation, &schema, query.handoff).await?;
        let version = Self::version(&session).await;
        let work = Some(session.work.subscribe());
        let by = |layout: &str| format!("{version} by {layout}: {why}");
        let plain = Err(format!("the query runs on Spark, handed over by stream: {why}"));
        let (layout, stream, plain, staging): (_, BatchStream, _, _) = match handoff {
            Handoff::Stream => (by("stream"), streamed(session, relation, Arc::clone(&schema)), plain, None),
            Handoff::Stage => {
                let staged = Staged {
                    embedded: Arc::clone(&self.embedded),
                    limits: limits.clone(),
                    keep: self.env.keep_stage,
                    place: self.env.stage_location(&self.base).at("environment", &self.name)?,
                    schema: Arc::clone(&schema),
                    session,
                    relation,
                };
                // Either is begun, never both.
                let (plain, staging) = match staged.plain() {
                    Ok(scan) => (Ok(scan), Some(staged.clone().files().boxed())),
                    Err(why) => (Err(format!("the query runs on Spark, handed over by stage: {why}")), None),
                };
                (by("stage"), staged.stream(), plain, staging)
            }
        };
        let snapshot = Snapshot { layout, id: String::new(), files: 0, bytes: 0, rows: None };
        Ok(Table { schema, snapshot, partitions: vec![Partition { name: "0".into(), stream }], plain, staging, work })
    }

    async fn list(&self, at: &Location) -> Result<Vec<Listed>> {
        let session = self.session(&Limits::default()).await?;
        let path = path(&at.url).map_or("", |(_, path)| path);
        let quoted = |p: &str| p.split('.').map(|part| format!("`{}`", part.replace('`', "``"))).collect::<Vec<_>>().join(".");
        let tables = if path.is_empty() { "show tables".to_owned() } else { format!("show tables in {}", quoted(path)) };
        let mut listed = Vec::new();
        if path.is_empty() {
            for name in texts(&self.rows(&session, "show namespaces").await.at("environment", &self.name)?, 0) {
                listed.push(Listed { name, kind: "namespace".into(), details: Vec::new() });
            }
        }
        let rows = self.rows(&session, &tables).await.at("environment", &self.name)?;
        for (space, name) in texts(&rows, 0).into_iter().zip(texts(&rows, 1)) {
            let name = if space.is_empty() { name } else { format!("{space}.{name}") };
            listed.push(Listed { name, kind: "table".into(), details: Vec::new() });
        }
        Ok(listed)
    }
}

/// The values of a text column of a listing.
fn texts(batches: &[RecordBatch], column: usize) -> Vec<String> {
    let columns = batches.iter().filter_map(|b| b.columns().get(column)?.as_string_opt::<i32>().cloned());
    columns.flat_map(|c| (0..c.len()).map(|i| c.value(i).to_owned()).collect::<Vec<_>>()).collect()
}

/// The environment and the path of a location such as `spark://cluster/sales.orders`.
pub(crate) fn path(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix(lakeport::config::SPARK_SCHEME)?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

/// The environment whose tables a text names, if it is one of these.
pub(crate) fn named<'a>(text: &str, environments: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    query::strip(text, environments).map(|(environment, _)| environment)
}

/// The rows through the driver, asked for one message at a time.
fn streamed(session: Arc<Session>, relation: proto::Relation, schema: SchemaRef) -> BatchStream {
    let execution = Execution::new(session, query::root(relation));
    let batches = stream::try_unfold((execution, schema), |(mut execution, schema)| async move {
        let Some(batches) = execution.next().await? else { return Ok(None) };
        let batches = batches.iter().map(|b| conform(b, &schema)).collect::<Vec<_>>();
        Ok(Some((stream::iter(batches), (execution, schema))))
    });
    Box::pin(batches.try_flatten())
}

/// What a staged hand-off needs when it begins.
#[derive(Clone)]
struct Staged {
    embedded: Arc<Embedded>,
    limits: Limits,
    keep: bool,
    place: Location,
    schema: SchemaRef,
    session: Arc<Session>,
    relation: proto::Relation,
}

impl Staged {
    /// The files as a plain read, their names not yet known, or why a loader cannot have them.
    fn plain(&self) -> std::result::Result<PlainScan, String> {
        if !self.place.is_local() {
            return Err("the stage is no local directory".to_owned());
        }
        PlainScan::of_files("stage", Vec::new(), &self.schema, 0)
    }

    /// The executors write files for a loader.
    async fn files(self) -> Result<source::Staged> {
        let (stage, rows) = self.write(stage::Use::Loaded).await?;
        let files = if rows == 0 { Vec::new() } else { stage.files().await? };
        let scan = PlainScan::of_files("stage", files, &self.schema, rows);
        let mut scan = scan.map_err(|why| Error::new(Kind::Unexpected, why))?;
        if rows == 0 {
            scan.groups.clear();
        }
        Ok(source::Staged { scan, keep: Box::new(stage) })
    }

    /// Nothing happens before the first row is asked for; then the executors write, and the files are read one after another.
    fn stream(self) -> BatchStream {
        Box::pin(stream::once(self.begin()).try_flatten())
    }

    async fn write(&self, how: stage::Use) -> Result<(Stage, u64)> {
        stage::sweep(&self.place).await;
        let stage = Stage::below(&self.place, Arc::clone(&self.session), self.keep);
        let rows = stage.write(self.relation.clone(), how).await?;
        Ok((stage, rows))
    }

    async fn begin(self) -> Result<BatchStream> {
        let (stage, expected) = self.write(stage::Use::Streamed).await?;
        let query = Query { from: Some(stage.location.clone()), ..Query::default() };
        let table = self.embedded.open(&query, &self.limits).await.during("open the stage")?;
        let schema = self.schema;
        let parts = stream::iter(table.partitions).map(|p| p.stream).flatten_unordered(READ_AT_ONCE);
        let state = (parts, stage, 0u64, expected, schema);
        let batches = stream::try_unfold(state, |(mut parts, stage, mut rows, expected, schema)| async move {
            match parts.next().await.transpose()? {
                Some(batch) => {
                    rows += batch.num_rows() as u64;
                    let batch = conform(&batch, &schema)?;
                    Ok(Some((batch, (parts, stage, rows, expected, schema))))
                }
                None if rows == expected => Ok(None),
                None => Err(Error::new(Kind::SourceUnreadable, "the stage does not hold what Spark wrote")
                    .because(format!("Spark counted {expected} rows, the files hold {rows}"))),
            }
        });
        Ok(Box::pin(batches))
    }
}

/// The first `sizeInBytes=1.5 GiB` of a plan explained with its costs: that of the result.
fn size_in_bytes(explained: &str) -> Option<u64> {
    let text = explained.split("sizeInBytes=").nth(1)?;
    let text = text.split([',', ')']).next()?.trim();
    // Spark's own notation for what is beyond all bounds, such as a join without statistics: `8.0 EiB`.
    let (number, unit) = text.split_once(' ')?;
    let whole = number.split('.').next()?;
    match unit {
        "EiB" | "PiB" => Some(u64::MAX),
        _ => parse_size(&format!("{whole}{unit}")).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_spark_writes_them() {
        let explained = "== Optimized Logical Plan ==\nProject [id#1L], Statistics(sizeInBytes=1.5 GiB, rowCount=3)\n+- Range, Statistics(sizeInBytes=7.6 MiB)";
        assert_eq!(size_in_bytes(explained), Some(1 << 30));
        assert_eq!(size_in_bytes("Statistics(sizeInBytes=8.0 EiB)"), Some(u64::MAX));
        assert_eq!(size_in_bytes("Statistics(sizeInBytes=512.0 B)"), Some(512));
        assert_eq!(size_in_bytes("nothing"), None);
    }

    #[test]
    fn locations_name_environment_and_table() {
        assert_eq!(path("spark://cluster/parquet./data/x"), Some(("cluster", "parquet./data/x")));
        assert_eq!(path("s3://b/x"), None);
    }
}
