//! Jobs that the server works on after it answered.
//!
//! `completedAt` tells the end. The finish code alone lies: a job that has merely started carries the code of a failure.

use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};

use super::retry::{Repeat, Repeats};
use super::session::{Call, Server, encode};
use super::xml::Element;

/// A server-side job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Job {
    /// Its LUID.
    pub id: String,
    /// Where it stands.
    pub state: JobState,
    /// Per cent done, if told.
    pub progress: Option<u8>,
    /// What the server noted.
    pub notes: Vec<String>,
    /// When it was begun, as the server writes it.
    pub created_at: Option<String>,
    /// When it ended, as the server writes it.
    pub completed_at: Option<String>,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JobState {
    /// Waiting or at work.
    #[default]
    Running,
    /// Done.
    Succeeded,
    /// Ended without success.
    Failed,
    /// Cancelled by someone.
    Cancelled,
    /// Ended with a code that is not known.
    Ended,
}

impl Job {
    /// Reads `<job>`.
    pub(super) fn read(element: &Element) -> Option<Self> {
        let state = match (element.told("completedAt"), element.attribute("finishCode").map(str::trim)) {
            (None, _) => JobState::Running,
            // 3 is the success of a job that ran on a Bridge.
            (Some(_), Some("0" | "3")) => JobState::Succeeded,
            (Some(_), Some("1")) => JobState::Failed,
            (Some(_), Some("2")) => JobState::Cancelled,
            (Some(_), _) => JobState::Ended,
        };
        let mut notes = Vec::new();
        collect_notes(element, &mut notes);
        Some(Self {
            id: element.told("id")?,
            state,
            progress: element.attribute("progress").and_then(|p| p.trim().parse().ok()),
            notes,
            created_at: element.told("createdAt"),
            completed_at: element.told("completedAt"),
        })
    }
}

fn collect_notes(element: &Element, notes: &mut Vec<String>) {
    for child in &element.children {
        let note = match child.name.as_str() {
            "notes" => child.text().to_owned(),
            "statusNote" => child.told("text").unwrap_or_default(),
            _ => String::new(),
        };
        if !note.is_empty() && !notes.contains(&note) {
            notes.push(note);
        }
        collect_notes(child, notes);
    }
}

impl Server {
    /// Asks for a job.
    pub(super) async fn job(&self, id: &str, repeats: &mut Repeats) -> Result<Job> {
        const WHAT: &str = "look at the job";
        let call = Call::get(WHAT, format!("/jobs/{}", encode(id)));
        let answer = self.call(&call, Repeat::Harmless, repeats).await.map_err(|f| f.error.at("server job", id))?;
        answer.root.find("job").and_then(Job::read).ok_or_else(|| {
            Error::new(Kind::ServerFailed, "the server's answer about the job has no job").during(WHAT).at("server job", id)
        })
    }

    /// Waits until a job has ended, and not badly, or the deadline passed.
    ///
    /// One that ended with an unknown code is handed out as well: what it did is for the caller to find out.
    pub(super) async fn await_job(&self, id: &str, deadline: Duration, repeats: &mut Repeats) -> Result<Job> {
        const WHAT: &str = "await the job";
        let begun = Instant::now();
        let mut wait = self.pace.first_poll;
        loop {
            let left = deadline.saturating_sub(begun.elapsed());
            tokio::time::sleep(wait.min(left)).await;
            let job = self.job(id, repeats).await.map_err(|e| out_of_sight(e, id))?;
            let ended = |kind, message: String| {
                Error::new(kind, with_notes(message, &job.notes)).during(WHAT).at("server job", id).at("server", self.place())
            };
            match job.state {
                JobState::Succeeded | JobState::Ended => return Ok(job),
                JobState::Failed => {
                    return Err(ended(Kind::FileRefused, "the server's job failed".to_owned()));
                }
                JobState::Cancelled => {
                    let help = "someone cancelled the job on the server; run again";
                    return Err(ended(Kind::ServerFailed, "the server's job was cancelled".to_owned()).help(help));
                }
                JobState::Running if begun.elapsed() >= deadline => {
                    let message = format!("the server's job is still running after {} s", deadline.as_secs());
                    return Err(ended(Kind::JobUnfinished, message));
                }
                JobState::Running => {}
            }
            wait = (wait * 7 / 5).min(self.pace.slowest_poll);
        }
    }
}

/// A job that cannot be asked for is not a job that failed: say that it may still succeed.
fn out_of_sight(e: Error, id: &str) -> Error {
    if !crate::advice::of(e.kind()).retry {
        return e;
    }
    Error::new(Kind::JobUnfinished, "the upload is complete, and the server's job can no longer be asked for")
        .at("server job", id)
        .because(e)
        .during("await the job")
}

fn with_notes(message: String, notes: &[String]) -> String {
    if notes.is_empty() { format!("{message} and left no notes") } else { format!("{message}: {}", notes.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tableau::xml;

    fn read(body: &str) -> Job {
        Job::read(xml::parse(body.as_bytes()).unwrap().find("job").unwrap()).unwrap()
    }

    #[test]
    fn a_finish_code_without_an_end_means_nothing() {
        let started = read(r#"<r><job id="1" mode="Asynchronous" type="PublishDatasource" progress="0" finishCode="1"/></r>"#);
        assert_eq!(started.state, JobState::Running);
        for (code, state) in [
            ("0", JobState::Succeeded),
            ("1", JobState::Failed),
            ("2", JobState::Cancelled),
            ("3", JobState::Succeeded),
            ("9", JobState::Ended),
        ] {
            let body = format!(r#"<job id="1" completedAt="2026-01-01T00:00:00Z" finishCode="{code}"/>"#);
            assert_eq!(read(&body).state, state);
        }
    }

    #[test]
    fn notes_are_found_wherever_they_stand() {
        let job = read(
            r#"<job id="1" completedAt="x" finishCode="1"><anyJob><notes> no table </notes></anyJob>
               <statusNotes><statusNote type="T" value="5" text="more"/>x</statusNotes></job>"#,
        );
        assert_eq!(job.notes, ["no table", "more"]);
    }
}
