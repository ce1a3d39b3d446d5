//! Jobs: work that goes on after its call was answered, and takes its time.
//!
//! They live in memory; after a restart a job is unknown, while what it published is there or is not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::index::new_id;
use crate::inject::Fate;
use crate::query::Query;
use crate::refusal::{Refusal, xml_response, xml_response_of};
use crate::store::held;
use crate::xml::Element;
use crate::{App, time};

/// How many jobs are remembered.
const KEPT: usize = 10_000;

/// The jobs since the start, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    known: Mutex<Vec<Job>>,
    running: Mutex<JoinSet<()>>,
}

/// What starts a job.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) kind: &'static str,
    pub(crate) site: &'a str,
    /// What the job tells about what it works on, whenever it is looked at.
    pub(crate) about: Option<Element>,
    /// What a fault makes of it.
    pub(crate) fate: Option<Fate>,
}

#[derive(Debug, Clone)]
struct Job {
    id: String,
    kind: &'static str,
    site: String,
    about: Option<Element>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    end: Option<End>,
    /// Whether its work has begun, from when on it is too late to cancel it.
    working: bool,
    cancelled: bool,
    cancel: Arc<Notify>,
}

#[derive(Debug, Clone)]
struct End {
    at: DateTime<Utc>,
    how: Ended,
}

#[derive(Debug, Clone)]
enum Ended {
    Done,
    Failed(Option<String>),
    Cancelled,
}

/// Starts a job and gives the element that announces it.
pub(crate) fn start(
    app: &Arc<App>,
    start: Start<'_>,
    work: impl Future<Output = Result<(), Refusal>> + Send + 'static,
) -> Element {
    let cancel = Arc::new(Notify::new());
    let job = Job {
        id: new_id(),
        kind: start.kind,
        site: start.site.to_owned(),
        about: start.about,
        created_at: Utc::now(),
        started_at: None,
        end: None,
        working: false,
        cancelled: false,
        cancel: Arc::clone(&cancel),
    };
    // Servers announce a publish with the finish code of a failed job, although it has not even begun; only `completedAt`
    // tells. The announcement of a data update has none.
    let announced = element(&job, 0).attr_if("finishCode", job.about.is_none().then_some("1"));
    let announced = announced.children(job.about.clone());
    let id = job.id.clone();
    {
        let mut known = held(&app.jobs.known);
        if known.len() >= KEPT {
            known.retain(|job| job.end.is_none());
        }
        known.push(job);
    }
    let mut running = held(&app.jobs.running);
    while running.try_join_next().is_some() {}
    let app = Arc::clone(app);
    running.spawn(async move {
        let ended = tokio::select! {
            ended = run(&app, &id, start.fate, work) => ended,
            () = cancel.notified() => Ended::Cancelled,
        };
        app.jobs.change(&id, |job| job.end = Some(End { at: Utc::now(), how: ended }));
    });
    announced
}

async fn run(app: &App, id: &str, fate: Option<Fate>, work: impl Future<Output = Result<(), Refusal>> + Send + 'static) -> Ended {
    let waits = app.options.job_time / 4;
    tokio::time::sleep(waits).await;
    app.jobs.change(id, |job| job.started_at = Some(Utc::now()));
    tokio::time::sleep(app.options.job_time.saturating_sub(waits)).await;
    match fate {
        None => {
            // Decided under the lock that a cancel takes too: work that has begun is never dropped half-way.
            let mut cancelled = false;
            app.jobs.change(id, |job| {
                cancelled = job.cancelled;
                job.working = !cancelled;
            });
            if cancelled {
                return Ended::Cancelled;
            }
            match work.await {
                Ok(()) => Ended::Done,
                Err(refusal) => Ended::Failed(Some(refusal.detail().to_owned())),
            }
        }
        Some(Fate::Fails(notes)) => Ended::Failed(notes),
        Some(Fate::Cancelled) => Ended::Cancelled,
        Some(Fate::DoesNothing) => Ended::Done,
        Some(Fate::NeverEnds) => {
            // The end of the sandbox must not wait for it.
            app.stopping().await;
            Ended::Cancelled
        }
    }
}

impl Jobs {
    fn change(&self, id: &str, change: impl FnOnce(&mut Job)) {
        if let Some(job) = held(&self.known).iter_mut().rev().find(|job| job.id == id) {
            change(job);
        }
    }

    fn find(&self, id: &str) -> Option<Job> {
        held(&self.known).iter().rev().find(|job| job.id == id).cloned()
    }

    /// Waits until nothing runs any more, but not for ever.
    pub(crate) async fn finish(&self, limit: Duration) {
        let mut running = std::mem::take(&mut *held(&self.running));
        if tokio::time::timeout(limit, async { while running.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!("jobs are still running, stopping without them");
        }
    }
}

fn unknown(id: &str) -> Refusal {
    Refusal::new(404_009, "Resource Not Found", format!("job {id} could not be found"))
}

/// `GET jobs/{id}`.
pub(crate) fn get(app: &App, site: &str, id: &str) -> Result<Response, Refusal> {
    let job = app.jobs.find(id).filter(|job| job.site == site).ok_or_else(|| unknown(id))?;
    Ok(xml_response(StatusCode::OK, &status(&job, app.options.job_time)))
}

/// `GET jobs`.
pub(crate) fn list(app: &App, site: &str, query: &Query) -> Result<Response, Refusal> {
    let (page, filter) = (query.page()?, query.filter()?);
    let mut found = Vec::new();
    for job in held(&app.jobs.known).iter().filter(|job| job.site == site) {
        let mut holds = true;
        for condition in &filter {
            holds &= match condition.field.as_str() {
                "status" => condition.holds(word(job))?,
                "jobType" => condition.holds(job.kind)?,
                _ => return Err(condition.unknown_field()),
            };
        }
        if holds {
            found.push(
                Element::new("backgroundJob")
                    .attr("id", &job.id)
                    .attr("status", word(job))
                    .attr("createdAt", time(job.created_at))
                    .attr_if("startedAt", job.started_at.map(time))
                    .attr_if("endedAt", job.end.as_ref().map(|end| time(end.at)))
                    .attr("priority", "50")
                    .attr("jobType", job.kind),
            );
        }
    }
    let answer = [page.element(found.len()), Element::new("backgroundJobs").children(page.of(&found).iter().cloned())];
    Ok(xml_response_of(StatusCode::OK, &answer))
}

/// `PUT jobs/{id}`: servers cancel refreshes, subscriptions and flows this way, but neither publishes nor data updates.
pub(crate) fn refuse_cancel(app: &App, site: &str, id: &str) -> Refusal {
    match app.jobs.find(id).filter(|job| job.site == site) {
        Some(job) => Refusal::new(400_031, "Bad Request", format!("a job of the type {} cannot be cancelled", job.kind)),
        None => unknown(id),
    }
}

/// Cancels a job that has not begun its work.
pub(crate) fn cancel(app: &App, id: &str) -> Result<(), &'static str> {
    let mut known = held(&app.jobs.known);
    let job = known.iter_mut().rev().find(|job| job.id == id).ok_or("there is no such job")?;
    if job.end.is_some() || job.working {
        return Err("the job has done its work");
    }
    job.cancelled = true;
    job.cancel.notify_one();
    Ok(())
}

fn word(job: &Job) -> &'static str {
    match job.end.as_ref().map(|end| &end.how) {
        None if job.started_at.is_none() => "Pending",
        None => "InProgress",
        Some(Ended::Done) => "Success",
        Some(Ended::Failed(_)) => "Failed",
        Some(Ended::Cancelled) => "Cancelled",
    }
}

/// What a job shows while it runs and when it has ended.
fn status(job: &Job, job_time: Duration) -> Element {
    let about = job.about.clone();
    let Some(end) = &job.end else {
        return element(job, progress(job, job_time)).children(about);
    };
    let element = element(job, 100).attr("updatedAt", time(end.at)).attr("completedAt", time(end.at));
    match &end.how {
        Ended::Done => element.attr("finishCode", "0").children(about),
        Ended::Cancelled => element.attr("finishCode", "2").children(about),
        Ended::Failed(None) => element.attr("finishCode", "1").children(about),
        Ended::Failed(Some(why)) => element
            .attr("finishCode", "1")
            .child(about.unwrap_or_else(|| Element::new("extractRefreshJob")).child(Element::new("notes").text(why)))
            .child(Element::new("statusNotes").child(Element::new("statusNote").attr("type", "Error").attr("text", why))),
    }
}

/// How far a running job is, by its clock; 100 is kept for its end.
fn progress(job: &Job, job_time: Duration) -> u64 {
    let Some(started) = job.started_at else { return 0 };
    let passed = u64::try_from((Utc::now() - started).num_milliseconds()).unwrap_or(0);
    let total = u64::try_from(job_time.as_millis()).unwrap_or(u64::MAX).max(1);
    (passed.saturating_mul(100) / total).min(99)
}

fn element(job: &Job, progress: u64) -> Element {
    Element::new("job")
        .attr("id", &job.id)
        .attr("mode", "Asynchronous")
        .attr("type", job.kind)
        .attr("progress", progress.to_string())
        .attr("createdAt", time(job.created_at))
        .attr_if("startedAt", job.started_at.map(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ended_job_has_a_finish_code() {
        let mut job = Job {
            id: "1".into(),
            kind: "PublishDatasource",
            site: String::new(),
            about: None,
            created_at: Utc::now(),
            started_at: None,
            end: None,
            working: false,
            cancelled: false,
            cancel: Arc::default(),
        };
        let second = Duration::from_secs(1);
        assert_eq!(status(&job, second).get("finishCode"), None);
        job.started_at = Some(Utc::now());
        assert_eq!((status(&job, second).get("finishCode"), status(&job, second).get("completedAt")), (None, None));
        for (how, code, notes) in [
            (Ended::Done, "0", false),
            (Ended::Failed(Some("no table".into())), "1", true),
            (Ended::Failed(None), "1", false),
            (Ended::Cancelled, "2", false),
        ] {
            job.end = Some(End { at: Utc::now(), how });
            let ended = status(&job, second);
            assert_eq!(ended.get("finishCode"), Some(code));
            assert_eq!(ended.find("extractRefreshJob").and_then(|j| j.find("notes")).is_some(), notes);
        }
    }
}
