//! Changes in place: rows inserted, updated or deleted in a data source that is there, without publishing it whole.
//!
//! All actions of a change go in one call and happen all or not at all. The call carries an id made from the data source,
//! the content and the actions, and a server that has seen the id within a day does nothing: sent twice, a change happens
//! once. The other side of that: the same rows inserted on purpose a second time need another [`Change::version`].
//!
//! A payload above the server's limit is cut by rows. Each piece is then a change of its own, all or nothing, awaited before
//! the next; its id is made from the whole content and the positions of its rows, so that the same change sent again after a
//! failure, cut in the same way, does what was left undone and nothing twice.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::convert::Temporary;
use crate::error::{Error, Kind, Result, Wrap};
use crate::export::{Mode, Progress, Receipt, Stage};
use crate::limits::show_size;

use super::Tableau;
use super::change::{Action, Change, Cut};
use super::check::Check;
use super::datasource::DataSource;
use super::fault::How;
use super::http::Body;
use super::job::Job;
use super::retry::{Repeat, Repeats};
use super::session::{Call, Server, encode, encode_id};

/// A piece is cut in two so often, and no further.
const CUTS: u32 = 12;

/// How sending one payload ended.
enum Sent {
    Done(String),
    TooLarge,
}

/// What is sent at a time: the whole payload, or the rows at some positions.
#[derive(Debug, Clone)]
struct Part {
    rows: Option<Range<u64>>,
    cuts: u32,
    /// The size of what it was cut from, where its size was the reason.
    of: u64,
}

/// One call of a change.
struct Sending<'a> {
    change: &'a Change,
    before: &'a DataSource,
    payload: Option<&'a Path>,
    body: &'a str,
    id: String,
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
        if change.actions.is_empty() {
            return Err(Error::new(Kind::Usage, "the change has no action"));
        }
        let words = |actions: &[&Action]| -> Result<String> {
            let actions: Vec<Value> = actions.iter().map(|a| a.json()).collect::<Result<_>>()?;
            Ok(json!({ "actions": actions }).to_string())
        };
        let whole = words(&change.actions.iter().collect::<Vec<_>>())?;
        if change.payload.is_none() && change.actions.iter().any(|a| a.source.is_some()) {
            return Err(Error::new(Kind::Usage, "an action reads from a payload, and there is none"));
        }
        if let Some(check) = &check {
            check.suits(change)?;
        }
        let (bytes, content) = match &change.payload {
            Some(path) => digest(path).await?,
            None => (0, String::new()),
        };
        let parted = change.parted();
        let cut = cut.filter(|cut| cut.rows > 1 || change.prepared);
        let further = match (&parted, cut) {
            (Ok((_, rest)), Some(_)) => Some(words(rest)?),
            _ => None,
        };
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
        // Parts still to be sent, the next one last.
        let mut parts = match (cut, &further) {
            (Some(cut), Some(_)) if bytes > self.server.env.change_limit => {
                repeats.note(format!(
                    "change the data source: {} is more than change_limit, {}, sent in pieces",
                    show_size(bytes),
                    show_size(self.server.env.change_limit)
                ));
                even(cut.rows, bytes.div_ceil(self.server.env.change_limit.max(1)))
            }
            _ => vec![Part { rows: cut.filter(|_| change.prepared).map(|cut| 0..cut.rows), cuts: 0, of: u64::MAX }],
        };
        let mut sent = 0u64;
        while let Some(part) = parts.pop() {
            let done = sent;
            let told = move |e: Error| if done > 0 { e.at("pieces done", done) } else { e };
            let piece = match (&part.rows, cut) {
                (Some(rows), Some(cut)) => match (cut.piece)(rows.clone())? {
                    Some(piece) => Some(piece),
                    // All of these rows go with a key that begins before them.
                    None => continue,
                },
                _ => None,
            };
            let payload = piece.as_ref().map(Temporary::path).or(change.payload.as_deref());
            let size = match (&piece, payload) {
                (Some(_), Some(path)) => {
                    std::fs::metadata(path).wrap(Kind::SourceUnreadable, || format!("cannot read {}", path.display()))?.len()
                }
                _ => bytes,
            };
            let too_large = |what: &str| {
                Error::new(Kind::FileRefused, format!("{what} {}", show_size(size)))
                    .help(
                        "publish the whole with --mode full, or change fewer rows at a time; the server's limit is \
                         `api.server.extract-updates.max-size`, 100 MB unless set",
                    )
                    .at("payload", change.payload.as_ref().map(|p| p.display().to_string()).unwrap_or_default())
            };
            // A file takes some room whatever it holds: where half the rows are not much less, the limit is no limit for rows.
            let shrinks = size < part.of / 4 * 3;
            let refused =
                if piece.is_some() && size > self.server.env.change_limit && shrinks && halves(&part, size, cut).is_some() {
                    Some(too_large("change_limit is less than"))
                } else {
                    let body = if sent == 0 { &whole } else { further.as_ref().unwrap_or(&whole) };
                    let place =
                        part.rows.as_ref().map(|r| format!("rows {}-{} of {}", r.start, r.end, cut.map_or(0, |c| c.rows)));
                    let id = request_id(&[
                        &before.id,
                        change.connection.as_deref().unwrap_or_default(),
                        change.version.as_deref().unwrap_or_default(),
                        &content,
                        &whole,
                        place.as_deref().unwrap_or_default(),
                    ]);
                    let sending = Sending { change, before: &before, payload, body, id };
                    match self.send_change(sending, size, &mut receipt, &mut repeats, progress).await.map_err(told)? {
                        Sent::Done(job) => {
                            receipt.job = Some(job);
                            sent += 1;
                            None
                        }
                        Sent::TooLarge => Some(too_large("the server takes no change of")),
                    }
                };
            let Some(error) = refused else { continue };
            match (further.as_ref().and_then(|_| halves(&part, size, cut)), &parted) {
                (Some([first, second]), _) => {
                    repeats.note(format!("change the data source: {}, cut in two", error.message()));
                    // Only what was refused is cut, so that no piece that went through is sent again in other pieces.
                    parts.extend([second, first]);
                }
                (None, Err(why)) => return Err(told(error.because(format!("it cannot be cut by rows: {why}")))),
                (None, Ok(_)) => return Err(told(error)),
            }
        }
        receipt.way = if sent > 1 { format!("{sent} changes in place") } else { "change in place".to_owned() };
        self.finish_change(&before, &mut receipt, &mut repeats).await?;
        if let Some((check, were)) = were {
            receipt.notes.push(self.prove(change, check, were, &before.id, &mut repeats).await?);
        }
        receipt.retries = repeats.into_notes();
        Ok(receipt)
    }

    async fn send_change(
        &self,
        sending: Sending<'_>,
        bytes: u64,
        receipt: &mut Receipt,
        repeats: &mut Repeats,
        progress: Progress<'_>,
    ) -> Result<Sent> {
        let mut upload = None;
        if let Some(path) = sending.payload {
            upload = Some(self.server.upload(path, bytes, self.buffer, repeats, progress).await?.id);
        }
        let connection = sending.change.connection.as_deref();
        let called =
            self.server.patch(&sending.before.id, connection, upload.as_deref(), sending.body, sending.id, repeats).await?;
        let Some(job) = called else { return Ok(Sent::TooLarge) };
        receipt.bytes += bytes;
        self.await_change(sending.before, &job, receipt, repeats).await?;
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

/// Cuts all rows into so many parts of one size, the first one last.
fn even(rows: u64, parts: u64) -> Vec<Part> {
    let each = rows.div_ceil(parts.clamp(1, rows.max(1))).max(1);
    let starts = (0..rows).step_by(usize::try_from(each).unwrap_or(usize::MAX));
    let mut parts: Vec<Part> =
        starts.map(|start| Part { rows: Some(start..start.saturating_add(each).min(rows)), cuts: 0, of: u64::MAX }).collect();
    parts.reverse();
    parts
}

/// Cuts a part in two, unless it is too small or was cut often enough.
fn halves(part: &Part, size: u64, cut: Option<&Cut<'_>>) -> Option<[Part; 2]> {
    let rows = part.rows.clone().unwrap_or(0..cut?.rows);
    let middle = rows.start + (rows.end - rows.start) / 2;
    if middle == rows.start || part.cuts >= CUTS {
        return None;
    }
    let half = |rows| Part { rows: Some(rows), cuts: part.cuts + 1, of: size };
    Some([half(rows.start..middle), half(middle..rows.end)])
}

/// An id that the same change always has, and no other.
fn request_id(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest.finalize()).for_each(|(to, from)| *to = from);
    // The shape of other clients' ids.
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// Size and hash of a payload: two contents must never share an id, for the second would be dropped in silence.
async fn digest(path: &Path) -> Result<(u64, String)> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let failed = || format!("cannot read {}", path.display());
        let mut file = std::fs::File::open(&path).wrap(Kind::SourceMissing, failed)?;
        let mut hash = Sha256::new();
        let bytes = std::io::copy(&mut file, &mut hash).wrap(Kind::SourceUnreadable, failed)?;
        Ok((bytes, format!("{:x}", hash.finalize())))
    })
    .await
    .wrap(Kind::Unexpected, || "reading the payload was stopped".to_owned())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stands_for_one_change() {
        assert_eq!(request_id(&["a", "b"]), request_id(&["a", "b"]));
        assert_ne!(request_id(&["a", "b"]), request_id(&["ab", ""]));
        assert_eq!(request_id(&["a"]).len(), 36);
    }

    #[test]
    fn parts_hold_every_row_once() {
        for rows in [1, 2, 3, 10, 999] {
            for parts in [1, 2, 3, 7, 5000] {
                let mut at = 0;
                for part in even(rows, parts).into_iter().rev() {
                    let range = part.rows.unwrap();
                    assert!(range.start == at && range.end > at, "{rows} in {parts}");
                    at = range.end;
                }
                assert_eq!(at, rows);
            }
        }
        let none = |_: Range<u64>| -> Result<Option<Temporary>> { Ok(None) };
        let cut = Cut { rows: 3, piece: &none };
        let [first, second] = halves(&Part { rows: None, cuts: 0, of: u64::MAX }, 9, Some(&cut)).unwrap();
        assert_eq!((first.rows.clone(), second.rows), (Some(0..1), Some(1..3)));
        assert!(halves(&first, 9, Some(&cut)).is_none());
        assert!(halves(&Part { rows: None, cuts: 0, of: u64::MAX }, 9, None).is_none());
    }
}
