//! What a run would do, column by column; writes nothing.
//!
//! A [`Plan`] is made by opening the sources (listings and footers, no rows) and mapping their schemas. A run takes the plan
//! by value, so that what was shown is what is done.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::Lakeport;
use crate::config::{Env, Job, Reference, RouteWish, TableSpec};
use crate::convert::manifest::{Names, Split};
use crate::error::{Context, Error, Kind, Result};
use crate::export::{Mode, Publish, Target, store, tableau};
use crate::limits::{Limits, Sizes, parse_size};
use crate::source::{Query, Snapshot, Table};
use crate::types::{ForeignKey, Mapping, Verdict};
use crate::verify::Verify;

mod file;

/// Everything a run would do.
#[derive(Debug)]
pub struct Plan {
    /// The job's name, or `from → to` of an ad-hoc run.
    pub job: String,
    /// What is read, in the user's words.
    pub from: String,
    /// Where it goes, in the user's words.
    pub to: String,
    /// Where it goes.
    pub destination: Destination,
    /// What becomes of what is there.
    pub mode: Mode,
    /// The format's name.
    pub format: &'static str,
    /// How thoroughly the result is verified.
    pub verify: Verify,
    /// The bounds of the run: the job's own, or its part where several run side by side.
    pub limits: Limits,
    /// How the result is split into several files, and what they are called.
    pub split: Option<(Split, Names)>,
    /// The tables, opened.
    pub tables: Vec<PlannedTable>,
    /// What else the user should know before.
    pub notes: Vec<String>,
}

/// Where a file goes.
#[derive(Debug)]
pub enum Destination {
    /// A local file, written beside its place and renamed.
    File(PathBuf),
    /// A target, under a name.
    Target {
        /// The environment's name.
        environment: String,
        /// The target.
        target: Arc<dyn Target>,
        /// The name there.
        name: String,
    },
}

impl Destination {
    /// The directory, and the name in it; no name where the directory itself is meant.
    pub(crate) fn in_directory(&self) -> (String, String) {
        let whole = match self {
            // A directory that is there is meant as one, with or without the slash.
            Self::File(path) if path.is_dir() => format!("{}/", path.to_string_lossy().trim_end_matches('/')),
            Self::File(path) => path.to_string_lossy().into_owned(),
            Self::Target { name, .. } => name.clone(),
        };
        match whole.rsplit_once('/') {
            // The root of the disk keeps its name, for without one it would be the directory one is in.
            Some(("", file)) if matches!(self, Self::File(_)) => ("/".to_owned(), file.to_owned()),
            Some((directory, file)) => (directory.to_owned(), file.to_owned()),
            None => (String::new(), whole),
        }
    }
}

/// A destination of several files: what lies on the local disk is written there, other targets must take sets.
fn of_several(destination: Destination) -> Result<Destination> {
    let Destination::Target { target, name, environment } = destination else { return Ok(destination) };
    if let Some(path) = target.on_disk(&name) {
        return Ok(Destination::File(path));
    }
    if target.capability().name != store::CAPABILITY.name {
        return Err(
            Error::new(Kind::Unsupported, format!("`{environment}` takes one file, not several")).help("leave out --split")
        );
    }
    Ok(Destination::Target { environment, target, name })
}

/// One table, opened and mapped.
#[derive(Debug)]
pub struct PlannedTable {
    /// What is read, in the user's words.
    pub from: String,
    /// The open source.
    pub table: Table,
    /// What becomes of its columns.
    pub mapping: Mapping,
    /// How rows get into the file.
    pub route: Route,
}

/// How rows get into the file, and why that way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "route", content = "why", rename_all = "lowercase")]
pub enum Route {
    /// The format's own engine loads the source files.
    Direct(String),
    /// Record batches pass through Lakeport.
    Streamed(String),
}

impl Lakeport {
    /// Plans a job: opens its sources, maps their columns, chooses the route and resolves the target's secrets.
    ///
    /// # Errors
    /// What the source, the SQL, the wishes or the configuration make impossible. Columns that would lose information are no
    /// error here; [`Plan::ensure_accepted`] is what stops a run.
    pub async fn plan(&self, name: &str, job: &Job) -> Result<Plan> {
        self.plan_inner(name, job).await.at("job", name)
    }

    async fn plan_inner(&self, name: &str, job: &Job) -> Result<Plan> {
        let to = Reference::parse(&job.to);
        let (mut destination, hyper_version, preferred) = self.destination(&to, job.format.as_deref())?;
        let file_name = match &destination {
            Destination::File(path) => path.to_string_lossy().into_owned(),
            Destination::Target { name, .. } => name.clone(),
        };
        let format = match (&job.format, preferred) {
            (Some(format), _) => self.formats.by_name(format)?,
            (None, Some(format)) => self.formats.by_name(format)?,
            (None, None) => self.formats.by_extension(&file_name)?,
        };
        let capability = format.capability();
        if !capability.write {
            let writes = self.formats.iter().map(|f| f.capability()).filter(|c| c.write && !c.extensions.is_empty());
            let names: Vec<_> = writes.map(|c| c.name).collect();
            return Err(Error::new(Kind::Unsupported, format!("a .{} file is only read, never written", capability.name))
                .help(format!("the formats written are {}", names.join(", "))));
        }
        if let Destination::Target { target, environment, .. } = &destination {
            target.capability().ensure_takes(environment, capability.name, job.mode)?;
        } else if !matches!(job.mode, Mode::Full | Mode::Create) {
            return Err(Error::new(Kind::Unsupported, format!("a file cannot be written in mode {}", job.mode.name()))
                .help("a file is always written whole: leave --mode out"));
        }
        if let (Some(cursor), Mode::Append) = (&job.cursor, job.mode) {
            // Taken for granted, it would add every row again each day.
            return Err(Error::new(
                Kind::Unsupported,
                format!("the cursor `{cursor}` is not followed yet: each run reads all rows"),
            )
            .because("appended again, rows of a former run would be there twice")
            .help("use --mode full or upsert, or leave the cursor out and pick the new rows with --where"));
        }
        let cares =
            matches!(&destination, Destination::Target { target, .. } if target.capability().name == tableau::CAPABILITY.name);
        if !cares && !job.care().is_empty() {
            return Err(Error::new(Kind::Unsupported, "`permissions` and `warning` are kept by Tableau only")
                .help("drop them from the job, or publish it to a Tableau environment"));
        }
        let specs = job.tables()?;
        if specs.len() > 1 && !capability.many_tables {
            return Err(Error::new(Kind::Unsupported, format!("a .{} file holds one table", capability.name)));
        }
        if job.split.is_some() {
            if specs.len() > 1 {
                return Err(Error::new(Kind::Unsupported, "several tables of one file cannot be split into several files")
                    .help("make a job of each table"));
            }
            if job.route == Some(RouteWish::Direct) {
                return Err(Error::new(Kind::Unsupported, "the direct route loads one file").help("leave out --split or --route"));
            }
            destination = of_several(destination)?;
        }
        let limits = self.job_limits(job)?;
        let mut tables = Vec::new();
        for mut spec in specs {
            spec.wishes.hyper_version = hyper_version;
            let wish = if job.split.is_some() { Some(RouteWish::Streamed) } else { job.route };
            let mut planned = self.plan_table(&spec, format, wish, &limits).await;
            if let (Ok(planned), Some(split)) = (&mut planned, job.split) {
                planned.route = Route::Streamed(format!("split by {split}"));
            }
            tables.push(if job.tables.is_empty() { planned } else { planned.at("table", &spec.name) }?);
        }
        if let Destination::Target { target, name, environment } = &destination {
            let how = Publish { name: name.clone(), mode: job.mode, keys: job.key.clone(), ..Publish::default() };
            let mappings: Vec<_> = tables.iter().map(|t| &t.mapping).collect();
            target.foresee(&how, &mappings).await.at("environment", environment)?;
        }
        let from = tables.iter().map(|t| t.from.as_str()).collect::<Vec<_>>().join(" + ");
        let verify = job.verify.or(self.config.defaults.verify).unwrap_or_default();
        let split = job.split.and_then(|split| {
            let (_, file) = destination.in_directory();
            Some((split, Names::new(&file, &capability, &tables.first()?.mapping.facts)))
        });
        Ok(Plan {
            job: name.to_owned(),
            from,
            to: job.to.clone(),
            destination,
            mode: job.mode,
            format: capability.name,
            verify,
            limits,
            split,
            tables,
            notes: job.cursor.iter().map(|c| format!("the cursor `{c}` is not followed yet: every run reads all rows")).collect(),
        })
    }

    async fn plan_table(
        &self,
        spec: &TableSpec,
        format: &dyn crate::convert::Format,
        wish: Option<RouteWish>,
        limits: &Limits,
    ) -> Result<PlannedTable> {
        let from = match (&spec.from, &spec.sql) {
            (Some(from), _) => from.clone(),
            (None, Some(sql)) => sql.split_whitespace().collect::<Vec<_>>().join(" "),
            (None, None) => String::new(),
        };
        let query = self.query(spec)?;
        let limits = Limits { readers: format.readers(limits.cores).clamp(1, limits.cores.max(1)), ..limits.clone() };
        let table = match self.file_source(&query)? {
            Some(file) => self.open_file(file, &query, &limits).await,
            None => self.engine.open(&query, &limits).await,
        };
        let table = table.at("source", &from).during("open the source")?;
        let mut mapping = format.map(&spec.name, &table.schema, &spec.wishes).at("source", &from)?;
        mapping.lineage = match table.snapshot.id.as_str() {
            "" => from.clone(),
            id => format!("{from}, snapshot {id}"),
        };
        let can = match &table.plain {
            _ if !format.has_engine() => Err(format!("a .{} file is written from record batches", format.capability().name)),
            Ok(scan) => format.direct(&mapping, scan),
            Err(why) => Err(why.clone()),
        };
        let route = match (wish, can) {
            (None | Some(RouteWish::Direct), Ok(())) => Route::Direct(match table.staging {
                None => "a plain read of local Parquet files, loaded by hyperd itself".into(),
                Some(_) => "the files of the stage are loaded by hyperd itself".into(),
            }),
            (Some(RouteWish::Streamed), _) => Route::Streamed("asked for".into()),
            (None, Err(why)) => Route::Streamed(why),
            (Some(RouteWish::Direct), Err(why)) => {
                return Err(Error::new(Kind::Unsupported, "the direct route was asked for and is not possible").because(why));
            }
        };
        Ok(PlannedTable { from, table, mapping, route })
    }

    fn query(&self, spec: &TableSpec) -> Result<Query> {
        let locate = |text: &String| Reference::parse(text).locate(&self.config, &self.directory);
        let environments = self
            .config
            .env
            .iter()
            .filter(|(_, env)| matches!(env, Env::Lake(_) | Env::Store(_)))
            .map(|(name, _)| Ok((name.clone(), locate(&format!("{name}:"))?)))
            .collect::<Result<_>>()?;
        Ok(Query {
            from: spec.from.as_ref().map(locate).transpose()?,
            sql: spec.sql.clone(),
            filter: spec.filter.clone(),
            limit: spec.limit,
            handoff: spec.handoff,
            wishes: spec.wishes.columns.clone(),
            environments,
        })
    }

    fn job_limits(&self, job: &Job) -> Result<Limits> {
        let mut limits = self.limits.clone();
        if let Some(memory) = job.memory.as_ref().or(self.config.defaults.memory.as_ref()) {
            limits.memory = parse_size(memory)?;
        }
        Ok(limits.of_one_job())
    }
}

impl Plan {
    /// Stops on columns that would change and were not accepted.
    ///
    /// # Errors
    /// `NotExact`, `TypeRefused`.
    pub fn ensure_accepted(&self) -> Result<()> {
        for table in &self.tables {
            let several = self.tables.len() > 1;
            let environment = match &self.destination {
                Destination::Target { environment, .. } => Some(environment.as_str()),
                Destination::File(_) => None,
            };
            let checked = table.mapping.ensure_accepted(environment);
            let checked = if several { checked.at("table", &table.mapping.table) } else { checked };
            let id = (!table.table.snapshot.id.is_empty()).then_some(&table.table.snapshot.id);
            let checked = match id {
                Some(id) => checked.at("snapshot", id),
                None => checked,
            };
            checked.at("to", &self.to).at("source", &table.from).at("job", &self.job)?;
        }
        Ok(())
    }

    /// The plan as data, for `--json`, `run.json` and the text of `lakeport plan`.
    #[must_use]
    pub fn summary(&self) -> PlanSummary {
        PlanSummary {
            job: self.job.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            mode: self.mode,
            format: self.format.to_owned(),
            verify: self.verify,
            limits: self.limits.sizes(),
            split: self.split.as_ref().map(|(split, names)| SplitSummary {
                by: *split,
                first: names.part(0, "ID"),
                manifest: names.manifest(),
            }),
            accepted: self.ensure_accepted().is_ok(),
            tables: self.tables.iter().map(TableSummary::of).collect(),
            notes: self.notes.clone(),
        }
    }
}

/// A plan as data.
#[derive(Debug, Clone, Serialize)]
pub struct PlanSummary {
    /// The job's name.
    pub job: String,
    /// What is read.
    pub from: String,
    /// Where it goes.
    pub to: String,
    /// What becomes of what is there.
    pub mode: Mode,
    /// The format.
    pub format: String,
    /// How thoroughly the result is verified.
    pub verify: Verify,
    /// What the run may hold.
    pub limits: Sizes,
    /// How the result is split into several files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitSummary>,
    /// Whether a run would start, or stop with exit code 6.
    pub accepted: bool,
    /// The tables.
    pub tables: Vec<TableSummary>,
    /// What else the user should know before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How a result is split, as data.
#[derive(Debug, Clone, Serialize)]
pub struct SplitSummary {
    /// By what.
    pub by: Split,
    /// The name of the first file; `ID` stands for what tells one run's files from another's.
    pub first: String,
    /// The file, written last, that makes them one set.
    pub manifest: String,
}

/// One table of a plan as data.
#[derive(Debug, Clone, Serialize)]
pub struct TableSummary {
    /// Its name in the file.
    pub table: String,
    /// What is read.
    pub from: String,
    /// What exactly.
    pub snapshot: Snapshot,
    /// The route, and why.
    #[serde(flatten)]
    pub route: Route,
    /// Partition streams of the engine.
    pub partitions: usize,
    /// The columns.
    pub columns: Vec<ColumnSummary>,
    /// Columns left out by wish.
    pub dropped: Vec<String>,
    /// Columns of the primary key that is declared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub primary_key: Vec<String>,
    /// Foreign keys that are declared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub foreign_keys: Vec<ForeignKey>,
    /// Facts of the format, such as its version.
    pub facts: std::collections::BTreeMap<String, String>,
}

/// One column of a plan as data.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnSummary {
    /// Its name in the target.
    pub name: String,
    /// Its type in the source.
    pub source_type: String,
    /// Its type in the target.
    pub target_type: String,
    /// Whether it may hold NULL.
    pub nullable: bool,
    /// How sure it is.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What else to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Whether the user accepted changed values.
    pub accepted: bool,
}

impl TableSummary {
    fn of(planned: &PlannedTable) -> Self {
        let columns = planned.mapping.columns.iter().map(|c| ColumnSummary {
            name: c.name.clone(),
            source_type: c.source_type.to_string(),
            target_type: c.target_type.clone(),
            nullable: c.nullable,
            verdict: c.verdict.clone(),
            note: c.note.clone(),
            accepted: c.accepted,
        });
        Self {
            table: planned.mapping.table.clone(),
            from: planned.from.clone(),
            snapshot: planned.table.snapshot.clone(),
            route: planned.route.clone(),
            partitions: planned.table.partitions.len(),
            columns: columns.collect(),
            dropped: planned.mapping.dropped.clone(),
            primary_key: planned.mapping.keys.primary.clone(),
            foreign_keys: planned.mapping.keys.foreign.clone(),
            facts: planned.mapping.facts.clone(),
        }
    }
}
