//! Changes in place: rows inserted, updated or deleted in a data source that is there, without publishing it whole.
//!
//! All actions of a change go in one call and happen all or not at all. The call carries an id made from the data source,
//! the content and the actions, and a server that has seen the id within a day does nothing: sent twice, a change happens
//! once. The other side of that: the same rows inserted on purpose a second time need another [`Change::version`].
//!
//! A payload above the server's limit is cut by rows. Each piece is then a change of its own, all or nothing, awaited before
//! the next; its id is made from the whole content and the positions of its rows, so that the same change sent again after a
//! failure, cut in the same way, does what was left undone and nothing twice.

use std::time::Instant;

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
use super::job::Job;
use super::parts::{Part, Ready, halves};
use super::retry::{Repeat, Repeats};
use super::session::{Call, Server, encode, encode_id};

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
        let mut done = 0u64;
        while let Some(part) = parts.pop() {
            let told = move |e: Error| if done > 0 { e.at("pieces done", done) } else { e };
            let body = if done == 0 { &ready.whole } else { ready.body() };
            match self.send_part(ready, before, &part, body, receipt, repeats, progress).await.map_err(told)? {
                Sent::Done(job) => {
                    receipt.job = Some(job);
                    done += 1;
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
        Ok(done)
    }

    #[expect(clippy::too_many_arguments, reason = "one step of a change, cut out to be read by itself")]
    async fn send_part(
        &self,
        ready: &Ready<'_>,
        before: &DataSource,
        part: &Part,
        body: &str,
        receipt: &mut Receipt,
        repeats: &mut Repeats,
        progress: Progress<'_>,
    ) -> Result<Sent> {
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
        let mut upload = None;
        if let Some(path) = payload {
            upload = Some(self.server.upload(path, size, self.buffer, repeats, progress).await?.id);
        }
        let (connection, id) = (ready.change.connection.as_deref(), ready.request_id(before, part));
        let called = self.server.patch(&before.id, connection, upload.as_deref(), body, id, repeats).await?;
        let Some(job) = called else {
            return Ok(Sent::TooLarge(size, ready.too_large("the server takes no change of", size)));
        };
        receipt.bytes += size;
        self.await_change(before, &job, receipt, repeats).await?;
        Ok(Sent::Done(job))
    }

    /// Waits for the job; without the right to see it, for the data source to move.
    async fn await_change(&self, before: &DataSource, job: &str, receipt: &mut Receipt, repeats: &mut Repeats) -> Result<()> {
        let info = self.server.info(repeats).await?;
        if self.server.sees_jobs(&info) {
            let error = match self.server.await_job(job, self.job_deadline, repeats).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if error.kind() == Kind::FileRefused {
                return Err(error.help(
                    "a change that fails half-way was seen to damage a data source: publish the whole with --mode full, and look \
                     whether columns were added or changed their types",
                ));
            }
            if error.kind() != Kind::SignIn || !self.server.has_scopes() {
                return Err(error);
            }
        }
        let (begun, mut wait) = (Instant::now(), self.server.pace.first_poll);
        while begun.elapsed() < self.server.pace.look.min(self.job_deadline) {
            let now = self.server.data_source(&before.id, repeats).await?;
            if now.is_some_and(|now| now.updated_at != before.updated_at) {
                return Ok(());
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 7 / 5).min(self.server.pace.slowest_poll);
        }
        receipt
            .notes
            .push(format!("not verified: the connected app may not see the job {job}, and the data source did not move"));
        Ok(())
    }

    /// Looks at what came of it, as far as the server tells.
    async fn finish_change(&self, before: &DataSource, receipt: &mut Receipt, repeats: &mut Repeats) -> Result<()> {
        let gone = || Error::new(Kind::VerifyFailed, "the data source is no longer there after the change");
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
