//! A plan carried out: convert, export, verify, record. The only loop.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::Value;
use tokio::sync::watch;

use crate::Lakeport;
use crate::config::Job;
use crate::convert::{Format, Temporary, Writer, Written};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::export::{Mode, Publish};
use crate::limits::Limits;
use crate::plan::{Destination, Plan, PlannedTable, Route, TableSummary};
use crate::report::{FileReport, PeakMemory, Phase, Report, SCHEMA, error_json, own_peak};
use crate::source::Work;
use crate::types::Mapping;
use crate::verify::{Fingerprint, Verify};

mod direct;
mod flow;
mod parts;

/// What a run tells while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A phase begins.
    Phase(&'static str),
    /// So many rows are converted, of so many where that is known.
    Rows(u64, Option<u64>),
    /// What a cluster has done of the query.
    Work(Work),
    /// So many bytes are uploaded, of so many.
    Uploaded(u64, u64),
}

/// Who listens to a run: job and event.
pub type Listener<'a> = &'a (dyn Fn(&str, Event) + Send + Sync);

/// What a run has to say at its end, whether it succeeded or not.
#[derive(Debug)]
pub struct Outcome {
    /// What it did.
    pub report: Report,
    /// Where the report was saved.
    pub saved: Option<PathBuf>,
    /// What failed, if it did.
    pub error: Option<Error>,
}

impl Lakeport {
    /// Where a job keeps the receipt of a publish until it is known to be well.
    #[must_use]
    pub fn receipt_path(&self, job: &str) -> PathBuf {
        self.home().join("state").join("publish").join(format!("{}.json", safe(job)))
    }

    /// Plans and runs one job; the report is saved in either case, also of a run that is given up.
    pub async fn run(&self, name: &str, job: &Job, listen: Listener<'_>) -> Outcome {
        let mut record = Record { report: blank(name), helper: None, began: Instant::now(), home: Some(self.home()) };
        let result = self.run_inner(name, job, listen, &mut record.report, &mut record.helper).await.at("job", name);
        let error = result.err();
        let report = record.end(error.as_ref());
        match report.save(&self.home()) {
            Ok(saved) => Outcome { report, saved: Some(saved), error },
            // A result that is there counts more than its record.
            Err(e) if error.is_none() => {
                tracing::warn!(%e, "the run succeeded and its report could not be saved");
                Outcome { report, saved: None, error: None }
            }
            Err(_) => Outcome { report, saved: None, error },
        }
    }

    async fn run_inner(
        &self,
        name: &str,
        job: &Job,
        listen: Listener<'_>,
        report: &mut Report,
        helper: &mut Option<Arc<AtomicU64>>,
    ) -> Result<()> {
        let mut clock = Clock::new(name, listen);
        clock.begin("open", report);
        let plan = self.plan(name, job).await?;
        report.plan = Some(plan.summary());
        plan.ensure_accepted()?;
        *helper = self.formats.by_name(plan.format)?.watch_helper();
        report.peak_memory.hyperd_before = helper.as_ref().map_or(0, |now| now.load(Ordering::Relaxed));
        if plan.split.is_some() {
            return self.run_parts(name, plan, clock, report).await;
        }
        let Plan { destination, tables, verify, format, mode, limits, .. } = plan;
        let format = Arc::clone(self.formats.shared(format)?);

        clock.begin("convert", report);
        if let (Destination::File(path), Mode::Create) = (&destination, mode)
            && path.exists()
        {
            return Err(Error::new(Kind::TargetExists, format!("{} exists", path.display())));
        }
        let mut temporary =
            Temporary::beside(&self.work_path(name, &destination, format.capability().extensions.first().unwrap_or(&"rows")))?;
        let mappings: Vec<Mapping> = tables.iter().map(|t| t.mapping.clone()).collect();
        let writer = format.create(temporary.path(), &mappings.iter().collect::<Vec<_>>(), &limits)?;
        let (writer, pending) = self.convert(writer, &format, tables, verify, &limits, listen, name, report).await?;
        if matches!(destination, Destination::File(_)) {
            temporary.sync_ahead();
        }
        let written = blocking(move || writer.finish()).await?;

        clock.begin("read back", report);
        self.verify_file(format, &written, mappings, verify, limits, pending, report).await?;
        let mut file = FileReport { format: written.format.clone(), bytes: written.bytes, path: None };

        match destination {
            Destination::File(_) => {
                let path = temporary.keep()?;
                report.receipt = None;
                file.path = Some(path);
                report.file = Some(file);
            }
            Destination::Target { environment, target, name: target_name } => {
                report.file = Some(file);
                clock.begin("export", report);
                let progress = |done: u64, total: u64| listen(name, Event::Uploaded(done, total));
                let unfinished = self.receipt_path(name);
                let publish = Publish {
                    name: target_name,
                    mode,
                    keys: job.key.clone(),
                    receipt_path: Some(unfinished.clone()),
                    content: identity(report),
                };
                let mut receipt =
                    target.publish(&written, &publish, &progress).await.at("environment", &environment).during("publish")?;
                // From here on it is there, whatever else fails.
                report.receipt = Some(receipt.clone());
                let seen_to =
                    target.see_to(&receipt, &job.care()).await.at("environment", &environment).during("set permissions")?;
                receipt.notes.extend(seen_to);
                report.receipt = Some(receipt.clone());
                if verify > Verify::None {
                    clock.begin("observe", report);
                    let observed = target.observe(&receipt).await.at("environment", &environment).during("look at the target")?;
                    ensure_observed(&written, &observed, mode, report).at("environment", &environment)?;
                    report.observed = Some(observed);
                }
                // A run that fails before this is run again, and must know that its rows are there.
                if let Err(e) = std::fs::remove_file(&unfinished)
                    && e.kind() != std::io::ErrorKind::NotFound
                {
                    let path = unfinished.display();
                    tracing::warn!("cannot remove {path}, so that the next append of the same rows is taken for done: {e}");
                }
            }
        }
        clock.end(report);
        Ok(())
    }

    /// Where the file is written: beside a local target, else among Lakeport's work files.
    fn work_path(&self, job: &str, destination: &Destination, extension: &str) -> PathBuf {
        match destination {
            Destination::File(path) => path.clone(),
            Destination::Target { .. } => self.home().join("work").join(format!("{}.{extension}", safe(job))),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the one step of a run, cut out to be read by itself")]
    async fn convert(
        &self,
        mut writer: Box<dyn Writer>,
        format: &Arc<dyn Format>,
        tables: Vec<PlannedTable>,
        verify: Verify,
        limits: &Limits,
        listen: Listener<'_>,
        name: &str,
        report: &mut Report,
    ) -> Result<(Box<dyn Writer>, Vec<Pending>)> {
        let mut pending = Vec::new();
        let total = tables.iter().map(|t| t.table.snapshot.rows).sum::<Option<u64>>();
        let done = Arc::new(AtomicU64::new(0));
        for (index, planned) in tables.into_iter().enumerate() {
            let PlannedTable { table, mapping, route, from } = planned;
            let shown = Shown { listen, name, done: &done, total };
            let converted = match (route, table.plain) {
                (Route::Direct(_), Ok(scan)) => {
                    // Nobody reads the streams; what they hold must not outlive the decision.
                    drop(table.partitions);
                    let staged = match table.staging {
                        Some(staging) => shown.during(staging, table.work).await.map(|s| (s.scan, Some(s.keep))),
                        None => Ok((scan, None)),
                    };
                    match staged {
                        Ok((scan, files)) => {
                            let unseen = files.is_some().then(|| Arc::clone(format));
                            direct::load(writer, index, mapping, scan, verify, unseen).await.map(|(writer, report, left)| {
                                pending.extend(left.map(|left| Pending { table: index, left, files }));
                                (writer, report)
                            })
                        }
                        Err(e) => Err(e),
                    }
                }
                _ => {
                    drop(table.staging);
                    let sink = flow::OfTable { writer, table: index };
                    let flow = async {
                        let (sink, report) =
                            flow::stream(sink, mapping, table.partitions, verify, limits, Arc::clone(&done)).await?;
                        Ok((sink.writer, report))
                    };
                    shown.during(flow, table.work).await
                }
            };
            let (back, table_report) = converted.at("source", &from).during("convert")?;
            writer = back;
            report.tables.push(table_report);
        }
        listen(name, Event::Rows(report.rows(), total));
        Ok((writer, pending))
    }

    #[expect(clippy::too_many_arguments, reason = "the other step of a run, cut out for the same reason")]
    async fn verify_file(
        &self,
        format: Arc<dyn Format>,
        written: &Written,
        mappings: Vec<Mapping>,
        verify: Verify,
        limits: Limits,
        pending: Vec<Pending>,
        report: &mut Report,
    ) -> Result<()> {
        if verify == Verify::None {
            report.verified.push("nothing was verified, as asked".into());
            return Ok(());
        }
        let (tables, columns) = (mappings.len(), mappings.iter().map(|m| m.columns.len()).sum::<usize>());
        let (measured, kept): (Vec<_>, Vec<_>) = pending.into_iter().map(|p| ((p.table, p.left), p.files)).unzip();
        let path = written.path.clone();
        // On a thread of its own: a run that is given up lets go at once, and other jobs go on.
        let (arrived, measured) = blocking(move || {
            let arrived = format.read_back(&path, &mappings.iter().collect::<Vec<_>>(), verify, &limits)?;
            let known = measured.into_iter().map(|(table, left)| Ok((table, left.known()?))).collect::<Result<Vec<_>>>()?;
            Ok((arrived, known))
        })
        .await?;
        drop(kept);
        for (table, left) in measured {
            report.tables[table].left = Some(left);
        }
        for (table, arrived) in report.tables.iter_mut().zip(arrived) {
            let same = table.left.as_ref().map(|left| left.ensure_same(&arrived, &table.table));
            table.arrived = Some(arrived);
            same.transpose()?;
        }
        report.verified.push(match verify {
            Verify::None | Verify::Counts => format!("rows of {tables} table(s) read back from the finished file"),
            Verify::Fingerprint => {
                format!("rows, and NULLs, least, greatest and sum of {columns} columns read back from the finished file")
            }
            Verify::Full => format!("every value of {columns} columns read back from the finished file and hashed"),
        });
        Ok(())
    }
}

/// A digest of what was read, as which columns, and of what the fingerprints say of all rows, whatever order they came in; `None`
/// where none were taken.
fn identity(report: &Report) -> Option<String> {
    let tables = report.plan.iter().flat_map(|p| &p.tables);
    // Equal rows of other types are another file: an upload of it is not to be taken for this one.
    let columns = |t: &TableSummary| t.columns.iter().map(|c| (c.name.clone(), c.target_type.clone())).collect::<Vec<_>>();
    let read: Vec<_> = tables.map(|t| (&t.table, &t.from, &t.snapshot.id, columns(t))).collect();
    let left = report.tables.iter().map(|t| t.left.as_ref().filter(|f| !f.columns.is_empty())).collect::<Option<Vec<_>>>()?;
    let text = serde_json::to_vec(&(read, left)).ok()?;
    Some(format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&text)))
}

/// The report of a run under way. One that is dropped before its end was interrupted, and leaves a report that says so.
struct Record {
    report: Report,
    helper: Option<Arc<AtomicU64>>,
    began: Instant,
    /// Where an interrupted run's report goes; none once the run has ended by itself.
    home: Option<PathBuf>,
}

impl Record {
    fn end(mut self, error: Option<&Error>) -> Report {
        self.home = None;
        self.complete(error)
    }

    fn complete(&mut self, error: Option<&Error>) -> Report {
        let mut report = std::mem::replace(&mut self.report, blank(""));
        report.peak_memory.hyperd = self.helper.take().map_or(0, |peak| peak.load(Ordering::Relaxed));
        report.seconds = self.began.elapsed().as_secs_f64();
        report.peak_memory.lakeport = own_peak();
        report.ok = error.is_none();
        report.exit_code = error.map_or(0, Error::exit_code);
        report.error = error.map(error_json);
        report
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let interrupted = Error::new(Kind::Interrupted, "interrupted").at("job", self.report.job.clone());
            if let Err(e) = self.complete(Some(&interrupted)).save(&home) {
                tracing::warn!(%e, "the report of the interrupted run could not be saved");
            }
        }
    }
}

/// A job's name as a file name; jobs of one start and end are told apart by a digest of the whole.
fn safe(job: &str) -> String {
    let start: String = job.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(60).collect();
    if start == job { start } else { format!("{start}-{:08x}", xxhash_rust::xxh3::xxh3_64(job.as_bytes()) >> 32) }
}

/// What left the source of a table, not yet known.
struct Pending {
    table: usize,
    left: direct::Left,
    /// Keeps the files that are still read.
    files: Option<Box<dyn Any + Send>>,
}

/// How far a conversion is, as it is told while it goes on.
struct Shown<'a> {
    listen: Listener<'a>,
    name: &'a str,
    done: &'a AtomicU64,
    total: Option<u64>,
}

impl Shown<'_> {
    /// Tells rows and the cluster's work until this is done.
    async fn during<T>(&self, doing: impl Future<Output = T>, mut work: Option<watch::Receiver<Work>>) -> T {
        tokio::pin!(doing);
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(200));
        loop {
            tokio::select! {
                result = &mut doing => return result,
                _ = tick.tick() => {
                    if let Some(work) = work.as_mut().filter(|w| w.has_changed().unwrap_or(false)) {
                        (self.listen)(self.name, Event::Work(*work.borrow_and_update()));
                    }
                    (self.listen)(self.name, Event::Rows(self.done.load(Ordering::Relaxed), self.total));
                }
            }
        }
    }
}

/// Compares what the target tells with what was sent.
fn ensure_observed(written: &Written, observed: &crate::export::Observed, mode: Mode, report: &mut Report) -> Result<()> {
    let differs = |what: &str, left: String, there: String| {
        Err(Error::new(Kind::VerifyFailed, format!("the target tells another {what}"))
            .because(format!("sent: {left}; there: {there}")))
    };
    // What was appended to is larger by what was there.
    let whole = !matches!(mode, Mode::Append | Mode::Upsert | Mode::DeleteInsert);
    if let Some(bytes) = observed.bytes.filter(|_| whole) {
        if bytes != written.bytes {
            return differs("size", written.bytes.to_string(), bytes.to_string());
        }
        report.verified.push(format!("the target holds {bytes} bytes"));
    }
    if let Some(rows) = observed.rows.as_ref().filter(|_| whole) {
        if *rows != written.rows {
            return differs("number of rows", format!("{:?}", written.rows), format!("{rows:?}"));
        }
        report.verified.push("the target holds as many rows".into());
    }
    report.verified.extend(observed.unknown.iter().map(|u| format!("not verified: {u}")));
    Ok(())
}

/// Does blocking work on a thread of its own, so that whoever waits can be given up.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.wrap(Kind::Unexpected, || "a worker thread panicked".into())?
}

/// Measures phases and announces them.
struct Clock<'a> {
    name: &'a str,
    listen: Listener<'a>,
    open: Option<(&'static str, Instant)>,
}

impl<'a> Clock<'a> {
    fn new(name: &'a str, listen: Listener<'a>) -> Self {
        Self { name, listen, open: None }
    }
    fn begin(&mut self, phase: &'static str, report: &mut Report) {
        self.end(report);
        (self.listen)(self.name, Event::Phase(phase));
        self.open = Some((phase, Instant::now()));
    }
    fn end(&mut self, report: &mut Report) {
        if let Some((name, began)) = self.open.take() {
            report.phases.push(Phase { name, seconds: began.elapsed().as_secs_f64() });
        }
    }
}

fn blank(job: &str) -> Report {
    let started = chrono::Utc::now();
    let unique = uuid::Uuid::new_v4().simple().to_string();
    Report {
        schema: SCHEMA,
        ok: false,
        job: job.to_owned(),
        id: format!("{}-{}", started.format("%Y%m%dT%H%M%S%3fZ"), &unique[..6]),
        lakeport: env!("CARGO_PKG_VERSION"),
        started,
        seconds: 0.0,
        exit_code: 1,
        error: None,
        plan: None,
        tables: Vec::new(),
        parts: Vec::new(),
        file: None,
        receipt: None,
        observed: None,
        verified: Vec::new(),
        phases: Vec::new(),
        peak_memory: PeakMemory::default(),
    }
}

/// Values changed with consent, as `run.json` carries them.
pub(crate) fn changed_map(changed: Vec<(String, u64)>) -> serde_json::Map<String, Value> {
    changed.into_iter().map(|(name, n)| (name, Value::from(n))).collect()
}
