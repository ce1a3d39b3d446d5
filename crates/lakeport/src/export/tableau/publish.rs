//! Publishing one file: find the place, send, commit, await, and find what came of it.
//!
//! A commit whose answer is lost is never simply sent again. One looks first: when the data source moved, it landed.

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::TimeDelta;

use crate::convert::Written;
use crate::error::{Error, Kind, Result, Wrap};
use crate::export::{Mode, Progress, Publish, Receipt, Stage};

use super::Tableau;
use super::datasource::{DataSource, read_time};
use super::fault::How;
use super::http::Body;
use super::job::{Job, JobState};
use super::multipart::{Multipart, Slice};
use super::resume::{self, Left, record};
use super::retry::{Repeat, Repeats};
use super::session::{Call, encode_id};
use super::upload::{MAX_BLOCK, Uploaded};
use super::xml;
use crate::export::lock::Lock;

/// Larger files are committed as a job: gateways cut answers that take minutes.
const AS_JOB_FROM: u64 = 8 * 1024 * 1024;
/// How often a publish is sent whole when the former one came to nothing.
const SENDS: u32 = 3;
/// Our clock, set right by the server's, is off by less: clocks that nearly agree are left alone.
const CLOCKS_OFF: TimeDelta = TimeDelta::seconds(60);
/// The clocks of one server's processes are off by less, whole seconds included.
const PROCESSES_OFF: TimeDelta = TimeDelta::seconds(2);

/// One publish on its way.
pub(super) struct Order<'a> {
    path: &'a Path,
    bytes: u64,
    pub(super) name: &'a str,
    pub(super) mode: Mode,
    data_type: &'static str,
    xml: String,
    project: Option<String>,
    pub(super) before: Option<DataSource>,
    pub(super) receipt_path: Option<&'a Path>,
    /// A complete upload of the same content, to be committed first.
    left: Option<Uploaded>,
    /// Whether a commit had no answer that leaves no doubt; it may have landed.
    unclear: bool,
    /// Keeps other processes from publishing to the same name.
    _lock: Option<Lock>,
}

impl Order<'_> {
    /// When what is there had last changed before this publish.
    fn updated_before(&self) -> Option<String> {
        self.before.as_ref().and_then(|d| d.updated_at.clone())
    }
}

/// What a commit answered.
enum Committed {
    /// The data source is there.
    Published(Box<DataSource>),
    /// A job works on it.
    Job(String),
    /// Nothing that could be read; it may have landed.
    Unclear { error: Error, look: Duration },
    /// It certainly did not land, and the whole can be sent once more in blocks.
    Again(Error),
}

impl Tableau {
    /// Publishes one finished file.
    pub(super) async fn publish_file(&self, file: &Written, how: &Publish, progress: Progress<'_>) -> Result<Receipt> {
        let mut repeats = Repeats::default();
        let mut order = self.order(file, how, &mut repeats).await?;
        let content = match (order.receipt_path, &how.content) {
            (None, _) => None,
            // The same rows make another file each time; no digest of a file begins like this.
            (Some(_), Some(rows)) => Some(format!("rows {rows}")),
            (Some(_), None) => Some(resume::digest(order.path).await?),
        };
        let overwrites = matches!(order.mode, Mode::Full | Mode::Replace);
        let mut receipt = Receipt {
            name: order.name.to_owned(),
            bytes: order.bytes,
            place: order.project.clone(),
            updated_before: order.updated_before(),
            described: order.before.as_ref().filter(|_| overwrites).map(DataSource::described),
            content,
            mode: order.mode,
            server: Some(format!("{}/#/site/{}", self.server.address(), self.server.env.site)),
            ..Receipt::default()
        };
        let found = match self.left_over(&order, &mut receipt, &mut repeats).await? {
            Left::Nothing(found) => *found,
            left => {
                match left {
                    Left::Commit { id, way } => {
                        repeats.note("publish: a former upload of the same content is complete, it is committed".to_owned());
                        order.left = Some(Uploaded { id, way });
                    }
                    // What is sent anew is measured by what is there now.
                    _ => (receipt.updated_before, receipt.committed_after, receipt.job) = (order.updated_before(), None, None),
                }
                self.ensure_possible(&order)?;
                self.send_afresh(&mut order, &mut receipt, &mut repeats, progress).await?
            }
        };
        if let Some(described) = receipt.described.take() {
            let before = DataSource::of(order.name, described);
            receipt.notes = self.server.keep(&before, &found.id, &mut repeats).await;
        }
        let site = self.server.session(&mut repeats).await?.site_url.clone();
        receipt.url = Some(self.server.link(&site, &found));
        receipt.id = found.id;
        receipt.stage = Stage::Published;
        receipt.upload = None;
        receipt.retries = repeats.into_notes();
        // With the place that was asked for, for that is what the next publish compares.
        record(order.receipt_path, &receipt).await?;
        receipt.place = found.project_id.or(receipt.place);
        Ok(receipt)
    }

    /// Sends, and leaves no receipt behind that would mislead the next publish.
    async fn send_afresh(
        &self,
        order: &mut Order<'_>,
        receipt: &mut Receipt,
        repeats: &mut Repeats,
        progress: Progress<'_>,
    ) -> Result<DataSource> {
        let outcome = self.send(order, receipt, repeats, progress).await;
        if let (Err(e), Some(path)) = (&outcome, order.receipt_path) {
            // What was refused will be refused again, and an append that certainly did not happen needs no proof next time.
            // One whose job was begun does: the job may have succeeded and the look at its result failed.
            let certain = order.mode == Mode::Append && e.kind() != Kind::JobUnfinished;
            // Nothing that could be committed, and nothing that may have landed.
            let nothing = order.mode != Mode::Append && receipt.upload.is_none() && !order.unclear;
            let uploaded = receipt.stage == Stage::Uploaded && (certain || nothing);
            if matches!(e.kind(), Kind::FileRefused | Kind::VerifyFailed) || uploaded {
                resume::remove(path).await;
            }
        }
        outcome
    }

    /// Looks at everything that could refuse the publish before a byte is sent.
    async fn order<'a>(&self, file: &'a Written, how: &'a Publish, repeats: &mut Repeats) -> Result<Order<'a>> {
        parameter(how.mode)?;
        let data_type = data_source_type(&file.format)?;
        let name = how.name.as_str();
        if name.trim().is_empty() {
            return Err(Error::new(Kind::Usage, "the data source has no name").help("write --to ENV:Name"));
        }
        let metadata =
            tokio::fs::metadata(&file.path).await.wrap(Kind::SourceMissing, || format!("cannot read {}", file.path.display()))?;
        // Validates the name too, before the sign-in.
        xml::publish(name, None)?;
        let project = self.project(repeats).await?;
        let lock = self.server.publish_lock(project.as_deref(), name, repeats).await?;
        let mut before = self.server.find(name, project.as_deref(), repeats).await?;
        // The list leaves things out that an overwrite may take.
        if let (Some(listed), Mode::Full | Mode::Replace) = (&before, how.mode)
            && let Ok(Some(whole)) = self.server.data_source(&listed.id, repeats).await
        {
            before = Some(whole);
        }
        Ok(Order {
            path: &file.path,
            bytes: metadata.len(),
            name,
            mode: how.mode,
            data_type,
            xml: xml::publish(name, project.as_deref())?,
            project,
            before,
            receipt_path: how.receipt_path.as_deref(),
            left: None,
            unclear: false,
            _lock: lock,
        })
    }

    /// Refuses what the server would refuse only after the upload.
    fn ensure_possible(&self, order: &Order<'_>) -> Result<()> {
        let name = order.name;
        match (order.mode, &order.before) {
            (Mode::Create, Some(_)) => {
                let message = format!("there is already a data source `{name}` in {}", self.place.show());
                Err(Error::new(Kind::TargetExists, message).during("publish"))
            }
            (Mode::Append, None) => {
                let message = format!("there is no data source `{name}` in {} to append to", self.place.show());
                Err(Error::new(Kind::TargetMissing, message).help("publish it once with --mode full").during("publish"))
            }
            _ => Ok(()),
        }
    }

    /// Sends until it landed or may not be sent again.
    async fn send(
        &self,
        order: &mut Order<'_>,
        receipt: &mut Receipt,
        repeats: &mut Repeats,
        progress: Progress<'_>,
    ) -> Result<DataSource> {
        let mut single = order.bytes <= self.single_request_limit() && order.left.is_none();
        for sent in 1..=SENDS {
            let committed = match self.commit(order, single, receipt, repeats, progress).await {
                Ok(committed) => committed,
                // The first send landed after all.
                Err(e) if order.unclear && order.mode == Mode::Create && e.kind() == Kind::TargetExists => {
                    match self.look(order, Duration::ZERO, repeats).await? {
                        Some(found) => return Ok(found),
                        None => return Err(e),
                    }
                }
                Err(e) => return Err(e),
            };
            let (error, what) = match committed {
                Committed::Published(found) => return Ok(*found),
                Committed::Job(id) => return self.follow(order, &id, receipt, repeats).await,
                Committed::Again(error) => (error, "was not taken"),
                Committed::Unclear { error, look } => {
                    order.unclear = true;
                    repeats.note(format!("publish: {}, looked whether it landed", error.message()));
                    let looked = self.look(order, look, repeats).await;
                    // An append that cannot be looked for is as unknown as one that is not found.
                    let looked = if order.mode == Mode::Append { looked.map_err(|e| unknown_append(order, e))? } else { looked? };
                    if let Some(found) = looked {
                        repeats.note("publish: it had landed".to_owned());
                        return Ok(found);
                    }
                    if order.mode == Mode::Append {
                        return Err(unknown_append(order, error));
                    }
                    (error, "did not land")
                }
            };
            if sent == SENDS {
                return Err(error.at("sent", format!("{SENDS} times")));
            }
            repeats.note(format!("publish: {what}, sent once more"));
            // In blocks, each of which is short: whatever cut the long request cuts those less.
            single = single && order.bytes == 0;
        }
        Err(Error::new(Kind::Unexpected, "a publish ended without an outcome"))
    }

    /// Sends the file and commits it.
    async fn commit(
        &self,
        order: &mut Order<'_>,
        single: bool,
        receipt: &mut Receipt,
        repeats: &mut Repeats,
        progress: Progress<'_>,
    ) -> Result<Committed> {
        let mut query = format!("?datasourceType={}{}", order.data_type, parameter(order.mode)?);
        if !single || order.bytes > AS_JOB_FROM {
            query.push_str("&asJob=true");
        }
        let file = if single {
            "single request".clone_into(&mut receipt.way);
            self.mark_commit(receipt);
            if order.mode == Mode::Append || receipt.described.is_some() {
                // Nothing is left to take up, but the next append must know that there was one, and the next overwrite what this
                // one may have taken.
                (receipt.stage, receipt.upload) = (Stage::Uploaded, None);
                record(order.receipt_path, receipt).await?;
            }
            Some(Slice { path: order.path.to_owned(), offset: 0, length: order.bytes, buffer: self.buffer })
        } else {
            let uploaded = match order.left.take() {
                Some(left) => left,
                None => self.server.upload(order.path, order.bytes, self.buffer, repeats, progress).await?,
            };
            query.push_str("&uploadSessionId=");
            query.push_str(&encode_id(&uploaded.id));
            receipt.way = uploaded.way;
            receipt.upload = Some(uploaded.id);
            receipt.stage = Stage::Uploaded;
            self.mark_commit(receipt);
            record(order.receipt_path, receipt).await?;
            None
        };
        let body = Body::Multipart(Multipart::publish(&order.xml, file, order.data_type));
        let call = Call { patient: true, ..Call::post("publish", format!("/datasources{query}"), body) };
        let watch = |taken: u64| progress(taken, order.bytes);
        let watched = single.then_some(&watch as &(dyn Fn(u64) + Send + Sync));
        let failed = match self.server.call_watched(&call, Repeat::OnlyIfNotTaken, watched, repeats).await {
            Ok(answer) => {
                progress(order.bytes, order.bytes);
                if let Some(id) = answer.root.find("job").and_then(Job::read).map(|j| j.id) {
                    return Ok(Committed::Job(id));
                }
                if let Some(found) = answer.root.find("datasource").and_then(DataSource::read) {
                    return Ok(Committed::Published(Box::new(found)));
                }
                let error =
                    Error::new(Kind::ServerFailed, "the server's answer to the publish names neither data source nor job");
                return Ok(Committed::Unclear { error, look: self.server.pace.look });
            }
            Err(failed) => failed,
        };
        if failed.code() == 404_005 {
            self.forget_project().await;
        }
        let lost_upload = !single && matches!(failed.code(), 404_015 | 400_020);
        if lost_upload || (single && failed.status() == 413) {
            return Ok(Committed::Again(failed.error));
        }
        if !failed.ambiguous() {
            return Err(about(failed.error, order));
        }
        // After a gateway's time-out or a lost connection the server may be at work for long; after its own failure not.
        let long = matches!(failed.how, How::NoAnswer { .. }) || matches!(failed.status(), 408 | 502 | 504);
        let look = if long { self.server.pace.look } else { self.server.pace.look / 20 };
        Ok(Committed::Unclear { error: about(failed.error, order), look })
    }

    /// Notes a moment that is certainly before the first commit, by the server's clock.
    fn mark_commit(&self, receipt: &mut Receipt) {
        receipt.committed_after.get_or_insert(self.server.http.now() - CLOCKS_OFF);
    }

    /// Waits for the job and finds what it made.
    ///
    /// # Errors
    /// `VerifyFailed` when the job ended and the data source is as it was; then nothing was published.
    pub(super) async fn follow(
        &self,
        order: &Order<'_>,
        id: &str,
        receipt: &mut Receipt,
        repeats: &mut Repeats,
    ) -> Result<DataSource> {
        receipt.job = Some(id.to_owned());
        receipt.stage = Stage::Committed;
        record(order.receipt_path, receipt).await?;
        let info = self.server.info(repeats).await?;
        let awaited = if self.server.sees_jobs(&info) {
            self.server.await_job(id, self.job_deadline, repeats).await
        } else {
            Err(Error::new(Kind::SignIn, "a connected app may not ask for jobs in this version"))
        };
        let job = match awaited {
            Ok(job) => job,
            // Without the right to see jobs, the data source itself tells when the job is done.
            Err(e) if e.kind() == Kind::SignIn && self.server.has_scopes() => {
                repeats.note("await the job: the connected app may not see it, looked at the data source instead".to_owned());
                return self.look(order, self.job_deadline, repeats).await?.ok_or_else(|| {
                    let message = format!("the data source did not change within {} s", self.job_deadline.as_secs());
                    about(Error::new(Kind::JobUnfinished, message).because(e).at("server job", id), order)
                });
            }
            Err(e) => return Err(about(e, order)),
        };
        if job.state == JobState::Ended {
            let what = "it ended with a finish code that is not known, looked at the data source instead";
            repeats.note(format!("await the job: {what}"));
        }
        if let Some(begun) = read_time(&job.created_at) {
            receipt.committed_after = Some(begun - PROCESSES_OFF);
        }
        // The list may lag a little behind the job.
        let begun = Instant::now();
        let mut wait = self.server.pace.first_poll;
        loop {
            let found = self.server.find(order.name, order.project.as_deref(), repeats).await?;
            let error = match found {
                Some(found) if found.untouched_by(receipt) => found.untouched(),
                Some(found) => return Ok(found),
                None => Error::new(Kind::ServerFailed, "the server's job ended and the data source is not there"),
            };
            if begun.elapsed() >= self.server.pace.look / 20 {
                return Err(about(error, order).during("publish").at("server job", id));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 7 / 5).min(self.server.pace.slowest_poll);
        }
    }

    /// Looks until the data source has moved or patience ends.
    async fn look(&self, order: &Order<'_>, patience: Duration, repeats: &mut Repeats) -> Result<Option<DataSource>> {
        let begun = Instant::now();
        let mut wait = self.server.pace.first_poll;
        loop {
            if let Some(found) = self.server.find(order.name, order.project.as_deref(), repeats).await?
                && moved(order.before.as_ref(), &found)
            {
                return Ok(Some(found));
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            tokio::time::sleep(wait.min(left)).await;
            wait = (wait * 7 / 5).min(self.server.pace.slowest_poll);
        }
    }

    /// The most that goes in one request: what is configured, within what servers take.
    fn single_request_limit(&self) -> u64 {
        self.server.env.single_request_limit.min(MAX_BLOCK)
    }
}

/// Whether a data source is another one than before.
fn moved(before: Option<&DataSource>, now: &DataSource) -> bool {
    before.is_none_or(|before| before.id != now.id || before.updated_at != now.updated_at)
}

fn about(error: Error, order: &Order<'_>) -> Error {
    error.at("data source", order.name)
}

fn unknown_append(order: &Order<'_>, cause: Error) -> Error {
    Error::new(Kind::JobUnfinished, "the answer to the commit was lost; it is not known whether the rows were appended")
        .help("look at the data source before running again: a second append would double the rows; --mode full never does")
        .because(cause)
        .during("publish")
        .at("data source", order.name)
}

/// The query parameter of a mode.
fn parameter(mode: Mode) -> Result<&'static str> {
    match mode {
        Mode::Full => Ok("&overwrite=true"),
        Mode::Create => Ok(""),
        Mode::Append => Ok("&append=true"),
        Mode::Replace => Ok("&replace=true"),
        Mode::Upsert | Mode::DeleteInsert => {
            Err(Error::new(Kind::Unsupported, format!("a publish to Tableau cannot {}", mode.name()))
                .help("use --mode full, create, append or replace"))
        }
    }
}

/// What the server calls a format.
fn data_source_type(format: &str) -> Result<&'static str> {
    const TYPES: [&str; 5] = ["hyper", "tdsx", "tds", "tde", "parquet"];
    TYPES.iter().find(|t| format.eq_ignore_ascii_case(t)).copied().ok_or_else(|| {
        Error::new(Kind::Unsupported, format!("Tableau does not take a file of format {format}"))
            .help("convert it to .hyper first: lakeport convert FROM FILE.hyper")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_become_parameters_or_a_refusal() {
        assert_eq!(parameter(Mode::Full).unwrap(), "&overwrite=true");
        assert_eq!(parameter(Mode::Create).unwrap(), "");
        assert_eq!(parameter(Mode::Upsert).unwrap_err().kind(), Kind::Unsupported);
        assert_eq!(data_source_type("Hyper").unwrap(), "hyper");
        assert!(data_source_type("xlsx").is_err());
    }

    #[test]
    fn a_data_source_moved_when_it_is_new_or_changed() {
        let old = DataSource { id: "1".into(), updated_at: Some("a".into()), ..DataSource::default() };
        assert!(moved(None, &old));
        assert!(!moved(Some(&old), &old.clone()));
        assert!(moved(Some(&old), &DataSource { updated_at: Some("b".into()), ..old.clone() }));
    }
}
