//! Jobs: work that goes on after its call was answered, and takes its time.
//!
//! They live in memory; after a restart a job is unknown, while what it published is there or is not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use tokio::task::JoinSet;

use crate::index::new_id;
use crate::refusal::{Refusal, xml_response};
use crate::store::held;
use crate::xml::Element;
use crate::{App, time};

/// All jobs since the start.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    known: Mutex<HashMap<String, Job>>,
    running: Mutex<JoinSet<()>>,
}

#[derive(Debug, Clone)]
struct Job {
    id: String,
    kind: &'static str,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    end: Option<End>,
}

#[derive(Debug, Clone)]
struct End {
    at: DateTime<Utc>,
    /// Why it failed, if it did.
    failed: Option<String>,
}

/// Starts a job and gives the element that announces it.
pub(crate) fn start(
    app: &Arc<App>,
    kind: &'static str,
    work: impl Future<Output = Result<(), Refusal>> + Send + 'static,
) -> Element {
    let job = Job { id: new_id(), kind, created_at: Utc::now(), started_at: None, end: None };
    // Servers announce a job with the finish code of a failed one, although it has not even begun; only `completedAt` tells.
    let announced = element(&job, 0).attr("finishCode", "1");
    let id = job.id.clone();
    held(&app.jobs.known).insert(id.clone(), job);
    let mut running = held(&app.jobs.running);
    while running.try_join_next().is_some() {}
    let app = Arc::clone(app);
    let waits = app.options.job_time / 4;
    running.spawn(async move {
        tokio::time::sleep(waits).await;
        app.jobs.change(&id, |job| job.started_at = Some(Utc::now()));
        tokio::time::sleep(app.options.job_time.saturating_sub(waits)).await;
        let failed = work.await.err().map(|refusal| refusal.detail().to_owned());
        app.jobs.change(&id, |job| job.end = Some(End { at: Utc::now(), failed }));
    });
    announced
}

impl Jobs {
    fn change(&self, id: &str, change: impl FnOnce(&mut Job)) {
        if let Some(job) = held(&self.known).get_mut(id) {
            change(job);
        }
    }

    /// Waits until nothing runs any more, but not for ever.
    pub(crate) async fn finish(&self, limit: Duration) {
        let mut running = std::mem::take(&mut *held(&self.running));
        if tokio::time::timeout(limit, async { while running.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!("jobs are still running, stopping without them");
        }
    }
}

/// `GET jobs/{id}`.
pub(crate) fn get(app: &App, id: &str) -> Result<Response, Refusal> {
    let job = held(&app.jobs.known).get(id).cloned();
    let job = job.ok_or_else(|| Refusal::new(404_009, "Resource Not Found", format!("job {id} could not be found")))?;
    Ok(xml_response(StatusCode::OK, &status(&job, app.options.job_time)))
}

/// What a job shows while it runs and when it has ended.
fn status(job: &Job, job_time: Duration) -> Element {
    let Some(end) = &job.end else {
        return element(job, progress(job, job_time));
    };
    let element = element(job, 100).attr("updatedAt", time(end.at)).attr("completedAt", time(end.at));
    match &end.failed {
        None => element.attr("finishCode", "0"),
        Some(why) => element
            .attr("finishCode", "1")
            .child(Element::new("extractRefreshJob").child(Element::new("notes").text(why)))
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
        let mut job = Job { id: "1".into(), kind: "PublishDatasource", created_at: Utc::now(), started_at: None, end: None };
        let second = Duration::from_secs(1);
        assert_eq!(status(&job, second).get("finishCode"), None);
        job.started_at = Some(Utc::now());
        assert_eq!((status(&job, second).get("finishCode"), status(&job, second).get("completedAt")), (None, None));
        job.end = Some(End { at: Utc::now(), failed: None });
        assert_eq!(status(&job, second).get("finishCode"), Some("0"));
        job.end = Some(End { at: Utc::now(), failed: Some("no table".into()) });
        let failed = status(&job, second);
        assert_eq!(failed.get("finishCode"), Some("1"));
        assert!(failed.find("extractRefreshJob").and_then(|j| j.find("notes")).is_some());
    }
}
