//! Changes in place: rows inserted, updated or deleted in a data source that is there, without publishing it whole.
//!
//! All actions of a change go in one call and happen all or not at all. The call carries an id made from the data source,
//! the content and the actions, and a server that has seen the id within a day does nothing: sent twice, a change happens
//! once. The other side of that: the same rows inserted on purpose a second time need another [`Change::version`].
//!
//! A payload above the server's limit is cut by rows. Each piece is then a change of its own, all or nothing, awaited before
//! the next; its id is made from the whole content and the positions of its rows, so that the same change sent again after a
//! failure, cut in the same way, does what was left undone and nothing twice.
//!
//! A server that knows an id hands out the job of its first call. Where that job failed or was cancelled, nothing was done, and
//! the change goes on under the next id of a row that every run derives anew: a run asks for each in turn, and stops at the
//! first that came to something, or may have.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;

use crate::convert::Temporary;
use crate::error::{Error, Kind, Result, Wrap};
use crate::export::{Mode, Progress, Receipt, Stage};

use super::Tableau;
use super::change::{Change, Cut};
use super::check::Check;
use super::datasource::DataSource;
use super::fault::How;
use super::http::Body;
use super::job::{Job, JobState};
use super::parts::{Part, Ready, halves};
use super::retry::{Repeat, Repeats};
use super::session::{Call, Server, encode, encode_id};

/// How many ids a change has, each for when the jobs of those before it came to nothing; to ask for one takes an upload.
const ATTEMPTS: u32 = 8;
/// Servers show to the second when a data source last changed: two changes within one show as one.
const TICK: Duration = Duration::from_secs(1);

/// A change under way.
struct Step<'a> {
    ready: &'a Ready<'a>,
    before: &'a DataSource,
    /// How many pieces were done.
    done: u64,
    /// Whether what is sent is all there is.
    alone: bool,
}

/// How sending a part ended.
enum Sent {
    /// By this job.
    Done(String),
    /// There was nothing in it.
    Nothing,
    /// So many bytes are too many.
    TooLarge(u64, Error),
}

impl Tableau {
    /// Changes rows of a published data source, and waits until it is done.
    ///
    /// A payload above `change_limit`, or one that the server finds too large, is cut with `cut`, when that is given and the
    /// change does in pieces what it does in one; the whole is then no longer all or nothing, each piece is. Other changes of
    /// the data source wait meanwhile.
    ///
    /// With `check`, all rows of the data source are compared with what the change makes of those before it; otherwise the end of the
    /// server's job is what is known.
    ///
    /// # Errors
    /// `Usage` for actions that contradict themselves, `TargetMissing` when there is no such data source, `FileRefused` for a
    /// payload that is too large (context `payload`) or does not fit: then publish the whole. `VerifyFailed` when the rows are not
    /// what the change makes; it was made all the same. Else as `Target::publish`.
    pub async fn update(
        &self,
        change: &Change,
        cut: Option<&Cut<'_>>,
        check: Option<Check<'_>>,
        progress: Progress<'_>,
    ) -> Result<Receipt> {
        let changed = self.change(change, cut, check, progress).await;
        changed.map_err(|e| self.here(e.at("data source", &change.name).during("change the data source")))
    }

    async fn change(
        &self,
        change: &Change,
        cut: Option<&Cut<'_>>,
        check: Option<Check<'_>>,
        progress: Progress<'_>,
    ) -> Result<Receipt> {
        let ready = Ready::of(change, cut).await?;
        if let Some(check) = &check {
            check.suits(change)?;
        }
        let mut repeats = Repeats::default();
        let project = self.project(&mut repeats).await?;
        let _lock = self.server.publish_lock(project.as_deref(), &change.name, &mut repeats).await?;
        let before = self.server.find(&change.name, project.as_deref(), &mut repeats).await?.ok_or_else(|| {
            Error::new(Kind::TargetMissing, format!("there is no data source `{}` in {}", change.name, self.place.show()))
                .help("publish it once with --mode full")
        })?;
        let were = match check {
            Some(check) => Some((check, self.extract(&before.id, "before", check, &mut repeats).await?)),
            None => None,
        };
        let mut receipt = Receipt {
            name: change.name.clone(),
            id: before.id.clone(),
            place: project,
            updated_before: before.updated_at.clone(),
            ..Receipt::default()
        };
        let sent = self.send_parts(&ready, &before, &mut receipt, &mut repeats, progress).await?;
        receipt.way = if sent > 1 { format!("{sent} changes in place") } else { "change in place".to_owned() };
        self.finish_change(&before, &mut receipt, &mut repeats).await?;
        if let Some((check, were)) = were {
            receipt.notes.push(self.prove(change, check, were, &before.id, &mut repeats).await?);
        }
        receipt.retries = repeats.into_notes();
        Ok(receipt)
    }

    /// Sends part after part, and says how many there were.
    async fn send_parts(
        &self,
        ready: &Ready<'_>,
        before: &DataSource,
        receipt: &mut Receipt,
        repeats: &mut Repeats,
        progress: Progress<'_>,
    ) -> Result<u64> {
        let mut parts = ready.parts(self.server.env.change_limit, repeats);
        let mut step = Step { ready, before, done: 0, alone: true };
        while let Some(part) = parts.pop() {
            let done = step.done;
            step.alone = done == 0 && parts.is_empty();
            let told = move |e: Error| if done > 0 { e.at("pieces done", done) } else { e };
            match self.send_part(&step, &part, receipt, repeats, progress).await.map_err(told)? {
                Sent::Done(job) => {
                    receipt.job = Some(job);
                    step.done += 1;
                }
                Sent::Nothing => {}
                Sent::TooLarge(size, error) => {
                    let [first, second] = ready.halves(&part, size, error).map_err(told)?;
                    repeats.note(format!("change the data source: {}, cut in two", first.why));
                    // Only what was refused is cut, so that no piece that went through is sent again in other pieces.
                    parts.extend([second, first]);
                }
            }
        }
        Ok(step.done)
    }

    async fn send_part(
        &self,
        step: &Step<'_>,
        part: &Part,
        receipt: &mut Receipt,
        repeats: &mut Repeats,
        progress: Progress<'_>,
    ) -> Result<Sent> {
        let ready = step.ready;
        let piece = match (&part.rows, ready.cut) {
            (Some(rows), Some(cut)) => match (cut.piece)(rows.clone())? {
                Some(piece) => Some(piece),
                // All of these rows go with a key that begins before them.
                None => return Ok(Sent::Nothing),
            },
            _ => None,
        };
        let payload = piece.as_ref().map(Temporary::path).or(ready.change.payload.as_deref());
        let size = match (&piece, payload) {
            (Some(_), Some(path)) => {
                std::fs::metadata(path).wrap(Kind::SourceUnreadable, || format!("cannot read {}", path.display()))?.len()
            }
            _ => ready.bytes,
        };
        // A file takes some room whatever it holds: where half the rows are not much less, the limit is no limit for rows.
        let shrinks = size < part.of / 4 * 3;
        if piece.is_some() && size > self.server.env.change_limit && shrinks && halves(part, size, ready.cut).is_some() {
            return Ok(Sent::TooLarge(size, ready.too_large("change_limit is less than", size)));
        }
        let (source, connection) = (&step.before.id, ready.change.connection.as_deref());
        let body = if step.done == 0 { ready.whole.as_str() } else { ready.body() };
        let mut last = Job::default();
        for attempt in 0..ATTEMPTS {
            let mut upload = None;
            if let Some(path) = payload {
                upload = Some(self.server.upload(path, size, self.buffer, repeats, progress).await?.id);
            }
            let id = ready.request_id(step.before, part, attempt);
            let since = self.last_change(source, repeats).await?;
            let sent = self.server.http.now();
            let Some(job) = self.server.patch(source, connection, upload.as_deref(), body, id, repeats).await? else {
                return Ok(Sent::TooLarge(size, ready.too_large("the server takes no change of", size)));
            };
            let followed = match self.follow_change(&job, sent, receipt, repeats).await {
                // Without the right to see it, the data source itself tells.
                Err(error) if error.kind() == Kind::SignIn && self.server.has_scopes() => {
                    self.await_move(step, since.as_deref(), &job, repeats).await.map(|()| None)
                }
                followed => followed,
            };
            let Some(undone) = followed? else {
                receipt.bytes += size;
                return Ok(Sent::Done(job));
            };
            let how = if undone.state == JobState::Cancelled { "was cancelled" } else { "failed" };
            repeats.note(format!("change the data source: the job {job} of a former run {how}, sent anew"));
            last = undone;
        }
        Err(step.given_up(&last))
    }

    /// When the data source last changed, where the job of the next change may be out of sight.
    async fn last_change(&self, source: &str, repeats: &mut Repeats) -> Result<Option<String>> {
        if !self.server.has_scopes() {
            return Ok(None);
        }
        let at = self.server.data_source(source, repeats).await?.and_then(|now| now.updated_at);
        // Else what comes now could show the same time.
        if at.as_deref().is_some_and(|at| !read(at).is_some_and(|at| is_past(at, self.server.http.now()))) {
            tokio::time::sleep(TICK).await;
        }
        Ok(at)
    }

    /// Waits for the job of a call that was sent at some time.
    ///
    /// Hands out a job that had come to nothing before: then the server knows the change from a former run, and nothing was done.
    async fn follow_change(
        &self,
        id: &str,
        sent: DateTime<Utc>,
        receipt: &mut Receipt,
        repeats: &mut Repeats,
    ) -> Result<Option<Job>> {
        let info = self.server.info(repeats).await?;
        if !self.server.sees_jobs(&info) {
            return Err(Error::new(Kind::SignIn, "a connected app may not ask for jobs in this version"));
        }
        tokio::time::sleep(self.server.pace.first_poll).await;
        let mut job = self.server.job(id, repeats).await.map_err(|e| unseen(e, id))?;
        let is_former = || job.created_at.as_deref().and_then(read).is_none_or(|at| is_past(at, sent));
        match job.state {
            JobState::Failed | JobState::Cancelled if is_former() => return Ok(Some(job)),
            JobState::Succeeded | JobState::Ended => {}
            JobState::Failed | JobState::Cancelled | JobState::Running => {
                let awaited = self.server.await_job(id, self.job_deadline, repeats).await;
                job = awaited.map_err(|e| if e.kind() == Kind::FileRefused { failed(e) } else { e })?;
            }
        }
        if job.state == JobState::Ended {
            receipt.notes.push(format!("not verified: the job {id} ended with a code that is not known"));
        }
        Ok(None)
    }

    /// Waits for the data source to change after what it showed before.
    async fn await_move(&self, step: &Step<'_>, since: Option<&str>, job: &str, repeats: &mut Repeats) -> Result<()> {
        let longest = self.server.pace.look.min(self.job_deadline);
        let (begun, mut wait) = (Instant::now(), self.server.pace.first_poll);
        loop {
            let now = self.server.data_source(&step.before.id, repeats).await?.ok_or_else(gone)?;
            if let (Some(before), Some(now)) = (since, &now.updated_at)
                && before != now
            {
                return Ok(());
            }
            if begun.elapsed() >= longest {
                return Err(step.out_of_sight(job, longest));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 7 / 5).min(self.server.pace.slowest_poll);
        }
    }

    /// Looks at what came of it, as far as the server tells.
    async fn finish_change(&self, before: &DataSource, receipt: &mut Receipt, repeats: &mut Repeats) -> Result<()> {
        let now = self.server.data_source(&before.id, repeats).await?.ok_or_else(gone)?;
        if before.updated_at.is_some() && before.updated_at == now.updated_at {
            receipt.notes.push(
                "the server shows the same time as before the change: it counts in seconds, or knew the change already"
                    .to_owned(),
            );
        }
        let site = self.server.session(repeats).await?.site_url.clone();
        receipt.url = Some(self.server.link(&site, &now));
        receipt.stage = Stage::Published;
        // Rows change and the rest stays, as after an append.
        receipt.mode = Mode::Append;
        Ok(())
    }
}

impl Step<'_> {
    /// The error of a change whose job can be asked for by nobody here.
    fn out_of_sight(&self, job: &str, waited: Duration) -> Error {
        let seconds = waited.as_secs();
        let message =
            format!("the connected app may not see the server's job, and the data source did not change within {seconds} s");
        let again = if self.alone {
            "where the change was not made, --change-id TEXT sends it as another one"
        } else {
            // A new id is one for all pieces, those that were made in a former run included.
            "where this piece was not made, publish the whole with --mode full: --change-id would make other pieces twice"
        };
        Error::new(Kind::JobUnfinished, message)
            .help(format!(
                "look at the data source, for the job may yet succeed, may have failed, or be one of a former run; {again}. \
                 With the scope tableau:jobs:read, from API 3.25 on, the job itself tells"
            ))
            .during("await the job")
            .at("server job", job)
    }

    /// The error of a change that came to nothing under each of its ids.
    fn given_up(&self, last: &Job) -> Error {
        let (kind, how) =
            if last.state == JobState::Cancelled { (Kind::ServerFailed, "was cancelled") } else { (Kind::FileRefused, "failed") };
        let notes = if last.notes.is_empty() { "no notes".to_owned() } else { last.notes.join("; ") };
        let message = format!("the change came to nothing {ATTEMPTS} times within a day, and its last job {how}: {notes}");
        let again = if self.alone { "send it as another change with --change-id TEXT, or " } else { "" };
        Error::new(kind, message)
            .help(format!("correct the cause, then {again}publish the whole with --mode full"))
            .during("change the data source")
            .at("server job", &last.id)
    }
}

/// The error of a job that failed while it was awaited.
fn failed(e: Error) -> Error {
    e.help(
        "a change that fails half-way was seen to damage a data source: publish the whole with --mode full, and look whether \
         columns were added or changed their types; the same command sends the change anew",
    )
}

/// A job that cannot be asked for is not a job that failed.
fn unseen(e: Error, id: &str) -> Error {
    if !crate::advice::of(e.kind()).retry {
        return e;
    }
    Error::new(Kind::JobUnfinished, "the change was sent, and the server's job cannot be asked for")
        .at("server job", id)
        .because(e)
        .during("await the job")
}

fn gone() -> Error {
    Error::new(Kind::VerifyFailed, "the data source is no longer there after the change")
}

/// Reads a time as servers write it.
fn read(time: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(time).ok().map(|at| at.to_utc())
}

/// Whether a time that servers cut to the second is over, whatever our clock is wrong by.
fn is_past(at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now - at > TimeDelta::seconds(2)
}

impl Server {
    /// Sends the actions; `None` when the payload is too large.
    async fn patch(
        &self,
        source: &str,
        connection: Option<&str>,
        upload: Option<&str>,
        body: &str,
        request_id: String,
        repeats: &mut Repeats,
    ) -> Result<Option<String>> {
        const WHAT: &str = "change the data source";
        let connection = connection.map(|id| format!("/connections/{}", encode(id))).unwrap_or_default();
        let query = upload.map(|id| format!("?uploadSessionId={}", encode_id(id))).unwrap_or_default();
        let path = format!("/datasources/{}{connection}/data{query}", encode(source));
        let call = Call {
            method: Method::PATCH,
            patient: true,
            request_id: Some(request_id),
            ..Call::post(WHAT, path, Body::Json(body.to_owned()))
        };
        // The id makes a repeat harmless.
        let mut called = self.call(&call, Repeat::Harmless, repeats).await;
        // One time-out may use up the budget; only one more try tells what became of the change.
        if let Err(failed) = &called
            && matches!(failed.how, How::NoAnswer { .. })
        {
            repeats.note(format!("{WHAT}: {}, sent once more with the same id", failed.reason()));
            called = self.call(&call, Repeat::Harmless, repeats).await;
        }
        match called {
            Ok(answer) => match answer.root.find("job").and_then(Job::read) {
                Some(job) => Ok(Some(job.id)),
                None => Err(Error::new(Kind::ServerFailed, "the server's answer to the change names no job").during(WHAT)),
            },
            Err(failed) if failed.status() == 413 => Ok(None),
            Err(failed) => Err(failed.error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_past_when_nothing_else_can_show_it() {
        let now: DateTime<Utc> = "2026-01-01T00:00:10Z".parse().unwrap();
        for (time, past) in [
            ("2026-01-01T00:00:07Z", Some(true)),
            ("2026-01-01T01:00:07+01:00", Some(true)),
            ("2026-01-01T00:00:08Z", Some(false)),
            ("2026-01-01T00:00:11Z", Some(false)),
            ("v1", None),
        ] {
            assert_eq!(read(time).map(|at| is_past(at, now)), past, "{time}");
        }
    }
}
