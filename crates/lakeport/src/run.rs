//! A plan carried out: convert, export, verify, record. The only loop.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Lakeport;
use crate::config::Job;
use crate::convert::{Temporary, Written};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::export::lock::{Lock, Taken, Wanted};
use crate::export::{Mode, Publish, Receipt};
use crate::plan::{Destination, Plan, TableSummary};
use crate::report::{FileReport, PeakMemory, Report, SCHEMA, error_json, own_peak};
use crate::source::Work;
use crate::types::Mapping;
use crate::verify::{Fingerprint, Verify};

mod conversion;
mod direct;
mod flow;
mod parts;

use conversion::Conversion;

/// How long another process may publish the same job before this one gives up.
const OTHERS: Duration = Duration::from_secs(600);

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

/// Reports of runs that were dropped before their end.
static GIVEN_UP: Mutex<Vec<Report>> = Mutex::new(Vec::new());

/// Hands out the reports of runs that were dropped before their end, for whoever tells of the interruption.
#[must_use]
pub fn given_up() -> Vec<Report> {
    std::mem::take(&mut *GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner))
}

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
        let clock = Clock { name, listen };
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
            return Err(Error::new(Kind::TargetExists, format!("{} is already there", path.display())));
        }
        let place = self.work_path(name, &destination, format.capability().extensions.first().unwrap_or(&"rows"));
        let mappings: Vec<Mapping> = tables.iter().map(|t| t.mapping.clone()).collect();
        // Other jobs go on while hyperd starts.
        let (mut temporary, writer) = {
            let (format, mappings, limits) = (Arc::clone(&format), mappings.clone(), limits.clone());
            blocking(move || {
                let temporary = Temporary::beside(&place)?;
                let writer = format.create(temporary.path(), &mappings.iter().collect::<Vec<_>>(), &limits)?;
                Ok((temporary, writer))
            })
            .await?
        };
        let conversion = Conversion { format, verify, limits, listen, name };
        let (writer, pending) = conversion.fill(writer, tables, report).await?;
        if matches!(destination, Destination::File(_)) {
            temporary.sync_ahead();
        }
        let written = blocking(move || writer.finish()).await?;

        clock.begin("read back", report);
        conversion.read_back(&written, mappings, pending, report).await?;
        let mut file = FileReport { format: written.format.clone(), bytes: written.bytes, path: None };

        match destination {
            Destination::File(_) => {
                let path = blocking(move || if mode == Mode::Create { temporary.keep_new() } else { temporary.keep() }).await?;
                report.receipt = None;
                file.path = Some(path);
                report.file = Some(file);
            }
            Destination::Target { environment, target, name: target_name } => {
                report.file = Some(file);
                clock.begin("export", report);
                let progress = |done: u64, total: u64| listen(name, Event::Uploaded(done, total));
                let unfinished = self.receipt_path(name);
                let _held = hold(name, &unfinished).await?;
                let publish = Publish {
                    name: target_name,
                    mode,
                    keys: job.key.clone(),
                    receipt_path: Some(unfinished.clone()),
                    content: identity(report),
                };
                let published = target.publish(&written, &publish, &progress).await;
                if published.is_err() {
                    // What is known of a publish that was begun: the server's job, the upload.
                    report.receipt = Receipt::load(&unfinished).ok().flatten().filter(|found| found.content == publish.content);
                }
                let mut receipt = published.at("environment", &environment).during("publish")?;
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
        Ok(())
    }

    /// Where the file is written: beside a local target, else among Lakeport's work files.
    fn work_path(&self, job: &str, destination: &Destination, extension: &str) -> PathBuf {
        match destination {
            Destination::File(path) => path.clone(),
            Destination::Target { .. } => self.home().join("work").join(format!("{}.{extension}", safe(job))),
        }
    }
}

/// Holds off other processes that publish the same job: its receipt is one, and would tell of whoever wrote it last.
async fn hold(job: &str, receipt: &Path) -> Result<Option<Lock>> {
    let at = std::path::absolute(receipt).unwrap_or_else(|_| receipt.to_owned());
    let key = ["receipt", &at.to_string_lossy()];
    let wanted = Wanted { directory: None, key: &key, what: format!("publish of job `{job}`"), wait: OTHERS };
    match Lock::take(&wanted, || None).await.map_err(|e| e.help("wait for that process or end it, then run again"))? {
        Taken::Ours(lock) => Ok(Some(lock)),
        Taken::NotHere(why) => {
            tracing::warn!("other processes cannot be held off this job's receipt: {why}");
            Ok(None)
        }
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
        report.end();
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
            let report = self.complete(Some(&interrupted));
            if let Err(e) = report.save(&home) {
                tracing::warn!(%e, "the report of the interrupted run could not be saved");
            }
            GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner).push(report);
        }
    }
}

/// A job's name as a file name; jobs of one start and end are told apart by a digest of the whole.
fn safe(job: &str) -> String {
    let start: String = job.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(60).collect();
    if start == job { start } else { format!("{start}-{:08x}", xxhash_rust::xxh3::xxh3_64(job.as_bytes()) >> 32) }
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

/// Announces phases, which the report measures.
struct Clock<'a> {
    name: &'a str,
    listen: Listener<'a>,
}

impl Clock<'_> {
    fn begin(&self, phase: &'static str, report: &mut Report) {
        report.begin(phase);
        (self.listen)(self.name, Event::Phase(phase));
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
        open: None,
    }
}

/// Values changed with consent, as `run.json` carries them.
pub(crate) fn changed_map(changed: Vec<(String, u64)>) -> serde_json::Map<String, Value> {
    changed.into_iter().map(|(name, n)| (name, Value::from(n))).collect()
}
