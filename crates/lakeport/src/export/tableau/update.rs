//! Changes in place: rows inserted, updated or deleted in a data source that is there, without publishing it whole.
//!
//! All actions of a change go in one call and happen all or not at all. The call carries an id made from the data source,
//! the content and the actions, and a server that has seen the id within a day does nothing: sent twice, a change happens
//! once. The other side of that: the same rows inserted on purpose a second time need another [`Change::version`].

use std::path::{Path, PathBuf};
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result, Wrap};
use crate::export::{Mode, Progress, Receipt, Stage};
use crate::limits::show_size;

use super::Tableau;
use super::datasource::DataSource;
use super::http::Body;
use super::job::Job;
use super::retry::{Repeat, Repeats};
use super::session::{Call, Server, encode, encode_id};

/// A payload is cut in two so often, and no further.
const CUTS: u32 = 8;

/// A change of a published data source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The data source's name, in the environment's project.
    pub name: String,
    /// A `.hyper` file with the tables that the actions read from.
    pub payload: Option<PathBuf>,
    /// What happens, in this order, all or nothing.
    pub actions: Vec<Action>,
    /// What tells this change from another with the same content and actions: a table version, a window.
    pub version: Option<String>,
    /// The connection to change, where the data source has several.
    pub connection: Option<String>,
}

/// One step of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// What it does.
    pub verb: Verb,
    /// The payload's table to read from; `None` for a delete by condition alone.
    pub source: Option<TableName>,
    /// The table to change.
    pub target: TableName,
    /// Which rows are meant.
    pub rows: Match,
}

/// A table in a `.hyper` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// `Extract`, mostly.
    pub schema: String,
    /// `Extract`, mostly.
    pub table: String,
}

impl Default for TableName {
    fn default() -> Self {
        Self { schema: "Extract".to_owned(), table: "Extract".to_owned() }
    }
}

/// What an action does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Adds the rows.
    Insert,
    /// Updates rows that match.
    Update,
    /// Updates rows that match, inserts the others.
    Upsert,
    /// Deletes rows that match.
    Delete,
    /// Exchanges all rows of the table.
    Replace,
}

impl Verb {
    /// The word of the command line and of the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Upsert => "upsert",
            Self::Delete => "delete",
            Self::Replace => "replace",
        }
    }
}

/// Which rows of the target an action means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// No condition: for insert and replace.
    All,
    /// Rows equal to a row of the payload in these columns.
    Key(Vec<String>),
    /// A condition in the API's own JSON.
    Condition(Value),
}

/// Cuts a payload in two by rows; how, the caller knows, for it takes hyperd.
pub type Split<'a> = &'a (dyn Fn(&Path) -> Result<[PathBuf; 2]> + Send + Sync);

impl Action {
    fn json(&self) -> Result<Value> {
        let verb = self.verb.name();
        let wrong = |what: &str| Err(Error::new(Kind::Usage, format!("the action {verb} {what}")));
        let mut action = json!({ "action": verb, "target-schema": self.target.schema, "target-table": self.target.table });
        if let Some(source) = &self.source {
            action["source-schema"] = json!(source.schema);
            action["source-table"] = json!(source.table);
        } else if self.verb != Verb::Delete {
            return wrong("needs a table to read from");
        }
        match (&self.rows, self.verb) {
            (Match::All, Verb::Insert | Verb::Replace) => {}
            (Match::All, _) => return wrong("needs key columns (--key)"),
            (_, Verb::Insert | Verb::Replace) => return wrong("takes no key"),
            (Match::Key(columns), _) => {
                if self.source.is_none() {
                    return wrong("by key needs a table to read from");
                }
                let equal = |column: &String| json!({ "op": "eq", "target-col": column, "source-col": column });
                action["condition"] = match columns.as_slice() {
                    [] => return wrong("needs key columns (--key)"),
                    [column] => equal(column),
                    columns => json!({ "op": "and", "args": columns.iter().map(equal).collect::<Vec<_>>() }),
                };
            }
            (Match::Condition(condition), _) => action["condition"] = condition.clone(),
        }
        Ok(action)
    }
}

/// How sending one payload ended.
enum Sent {
    Done(String),
    TooLarge(Error),
}

impl Tableau {
    /// Changes rows of a published data source, and waits until it is done.
    ///
    /// A payload the server finds too large is cut by `split`, when that is given and the change is one action; each piece
    /// is then a change of its own, and no longer all or nothing. Other changes of the data source wait meanwhile.
    ///
    /// # Errors
    /// `Usage` for actions that contradict themselves, `TargetMissing` when there is no such data source, `FileRefused` for a
    /// payload that is too large (context `payload`) or does not fit: then publish the whole. Else as `Target::publish`.
    pub async fn update(&self, change: &Change, split: Option<Split<'_>>, progress: Progress<'_>) -> Result<Receipt> {
        let changed = self.change(change, split, progress).await;
        changed.map_err(|e| self.here(e.at("data source", &change.name).during("change the data source")))
    }

    async fn change(&self, change: &Change, split: Option<Split<'_>>, progress: Progress<'_>) -> Result<Receipt> {
        if change.actions.is_empty() {
            return Err(Error::new(Kind::Usage, "the change has no action"));
        }
        let actions: Vec<Value> = change.actions.iter().map(Action::json).collect::<Result<_>>()?;
        if change.payload.is_none() && change.actions.iter().any(|a| a.source.is_some()) {
            return Err(Error::new(Kind::Usage, "an action reads from a payload, and there is none"));
        }
        let body = json!({ "actions": actions }).to_string();
        let mut repeats = Repeats::default();
        let project = self.project(&mut repeats).await?;
        let _lock = self.server.publish_lock(project.as_deref(), &change.name, &mut repeats).await?;
        let before = self.server.find(&change.name, project.as_deref(), &mut repeats).await?.ok_or_else(|| {
            Error::new(Kind::TargetMissing, format!("there is no data source `{}` in {}", change.name, self.place.show()))
                .help("publish it once with --mode full")
        })?;
        let mut receipt = Receipt {
            name: change.name.clone(),
            id: before.id.clone(),
            place: project,
            updated_before: before.updated_at.clone(),
            ..Receipt::default()
        };
        let split = split.filter(|_| matches!(change.actions.as_slice(), [action] if action.verb != Verb::Replace));
        // Pieces still to be sent, the next one last, and how often each was cut.
        let mut pieces = vec![(change.payload.clone(), 0)];
        let mut sent = 0;
        while let Some((payload, cuts)) = pieces.pop() {
            let outcome =
                self.send_change(change, &before, &body, payload.as_deref(), &mut receipt, &mut repeats, progress).await;
            match outcome.map_err(|e| if sent > 0 { e.at("pieces done", sent) } else { e })? {
                Sent::Done(job) => {
                    receipt.job = Some(job);
                    sent += 1;
                }
                Sent::TooLarge(error) => match (split, payload) {
                    (Some(split), Some(payload)) if cuts < CUTS => {
                        repeats.note(format!("change the data source: {}, cut in two", error.message()));
                        // Only what was refused is cut, so that no piece that went through is sent again in other pieces.
                        let [first, second] = split(&payload)?;
                        pieces.push((Some(second), cuts + 1));
                        pieces.push((Some(first), cuts + 1));
                    }
                    _ => return Err(if sent > 0 { error.at("pieces done", sent) } else { error }),
                },
            }
        }
        receipt.way = if sent > 1 { format!("{sent} changes in place") } else { "change in place".to_owned() };
        self.finish_change(&before, &mut receipt, &mut repeats).await?;
        receipt.retries = repeats.into_notes();
        Ok(receipt)
    }

    #[expect(clippy::too_many_arguments, reason = "one step of a change, cut out to be repeated per piece")]
    async fn send_change(
        &self,
        change: &Change,
        found: &DataSource,
        body: &str,
        payload: Option<&Path>,
        receipt: &mut Receipt,
        repeats: &mut Repeats,
        progress: Progress<'_>,
    ) -> Result<Sent> {
        let (mut upload, mut bytes, mut content) = (None, 0, String::new());
        if let Some(path) = payload {
            (bytes, content) = digest(path).await?;
            upload = Some(self.server.upload(path, bytes, self.buffer, repeats, progress).await?.id);
        }
        let version = change.version.as_deref().unwrap_or_default();
        let id = request_id(&[&found.id, change.connection.as_deref().unwrap_or_default(), version, &content, body]);
        let called = self.server.patch(&found.id, change.connection.as_deref(), upload.as_deref(), body, id, repeats).await?;
        let Some(job) = called else {
            let message = format!("the server takes no change of {}", show_size(bytes));
            return Ok(Sent::TooLarge(
                Error::new(Kind::FileRefused, message)
                    .help(
                        "split it by rows into several changes, or publish the whole with --mode full; the server's limit is \
                           `api.server.extract-updates.max-size`, 100 MB unless set",
                    )
                    .at("payload", payload.map(|p| p.display().to_string()).unwrap_or_default()),
            ));
        };
        receipt.bytes += bytes;
        self.await_change(found, &job, receipt, repeats).await?;
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
        match self.call(&call, Repeat::Harmless, repeats).await {
            Ok(answer) => match answer.root.find("job").and_then(Job::read) {
                Some(job) => Ok(Some(job.id)),
                None => Err(Error::new(Kind::ServerFailed, "the server's answer to the change names no job").during(WHAT)),
            },
            Err(failed) if failed.status() == 413 => Ok(None),
            Err(failed) => Err(failed.error),
        }
    }
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

    fn action(verb: Verb, rows: Match) -> Action {
        Action { verb, source: Some(TableName::default()), target: TableName::default(), rows }
    }

    #[test]
    fn actions_have_the_words_of_the_api() {
        let key = |columns: &[&str]| Match::Key(columns.iter().map(|c| (*c).to_owned()).collect());
        let upsert = action(Verb::Upsert, key(&["a"])).json().unwrap();
        assert_eq!(
            upsert,
            json!({ "action": "upsert", "target-schema": "Extract", "target-table": "Extract", "source-schema": "Extract",
                "source-table": "Extract", "condition": { "op": "eq", "target-col": "a", "source-col": "a" } })
        );
        let delete = action(Verb::Delete, key(&["a", "b"])).json().unwrap();
        assert_eq!(delete["condition"]["op"], "and");
        assert_eq!(delete["condition"]["args"][1]["target-col"], "b");
        assert!(action(Verb::Insert, Match::All).json().unwrap().get("condition").is_none());
        let window = json!({ "op": "gte", "target-col": "day", "const": { "type": "datetime", "v": "2026-01-01T00:00:00Z" } });
        let delete = Action { source: None, ..action(Verb::Delete, Match::Condition(window.clone())) }.json().unwrap();
        assert_eq!((&delete["condition"], delete.get("source-table")), (&window, None));
        for wrong in [
            action(Verb::Insert, key(&["a"])),
            action(Verb::Update, Match::All),
            action(Verb::Upsert, key(&[])),
            Action { source: None, ..action(Verb::Insert, Match::All) },
        ] {
            assert_eq!(wrong.json().unwrap_err().kind(), Kind::Usage, "{wrong:?}");
        }
    }

    #[test]
    fn an_id_stands_for_one_change() {
        assert_eq!(request_id(&["a", "b"]), request_id(&["a", "b"]));
        assert_ne!(request_id(&["a", "b"]), request_id(&["ab", ""]));
        assert_eq!(request_id(&["a"]).len(), 36);
    }
}
