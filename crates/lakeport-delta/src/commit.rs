//! One transaction: what a mode means for the version that is there, tried again on the version that came between.
//!
//! Each attempt is worked out anew from the newest version and claims exactly the next one, which delta-rs writes only where
//! nobody has: so an overwrite never keeps rows it did not see, and an append never meets columns it was not compared with.
//! The commit carries the publish's own id, so that a lost answer is looked into and never repeated on a guess.

use std::collections::HashMap;
use std::time::Duration;

use deltalake_core::kernel::transaction::{CommitData, TransactionError};
use deltalake_core::kernel::{Action, Add, EagerSnapshot, MetadataExt, StructType, new_metadata};
use deltalake_core::logstore::CommitOrBytes;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use lakeport::error::{Error, Kind, Result, Wrap};
use lakeport::export::Mode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::place::Place;
use crate::{fault, protocol, schema};

/// How often others may come first.
const ATTEMPTS: u32 = 60;
/// How often a store may fail.
const FAILURES: u32 = 4;
/// The longest pause between two attempts.
const PAUSE: u64 = 1000;
/// Where the publish's id stands in a commit's information.
const ID: &str = "txnId";

/// What is to be committed.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    /// What becomes of what is there.
    pub(crate) mode: Mode,
    /// The columns of the rows.
    pub(crate) schema: &'a StructType,
    /// Whether a column holds timestamps without a zone.
    pub(crate) wall_clocks: bool,
    /// The file; `None` for no rows.
    pub(crate) add: Option<&'a Add>,
    /// The file's rows.
    pub(crate) rows: u64,
    /// The publish's own id.
    pub(crate) id: &'a str,
}

/// What was committed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Landed {
    /// The table's new version.
    pub(crate) version: u64,
    /// Files taken out.
    pub(crate) removed: usize,
    /// What was tried again, and why.
    pub(crate) retries: Vec<String>,
}

/// Commits, however often others come first.
///
/// # Errors
/// What a mode refuses; `Locked` when others always came first; `JobUnfinished` when it cannot be learnt whether it landed.
pub(crate) async fn commit(place: &Place, order: &Order<'_>) -> Result<Landed> {
    let mut retries = Vec::new();
    let mut failures = 0;
    // The first version whose commit was neither made nor refused when it was looked for: it may be on its way still.
    let mut open = None;
    for attempt in 0..ATTEMPTS {
        if let Some(first) = open
            && let Some(landed) = arrived(place, order, first).await?
        {
            retries.push(format!("commit: version {} arrived late", landed.version));
            return Ok(Landed { retries, ..landed });
        }
        let now = place.snapshot().await?;
        let actions = match (actions(now.as_ref(), order), open) {
            (Err(e), Some(version)) => return Err(unknown(order, version, e)),
            (actions, _) => actions?,
        };
        let removed = actions.iter().filter(|a| matches!(a, Action::Remove(_))).count();
        let version = now.as_ref().map_or(0, |s| s.version() + 1);
        let entry = entry(actions, order, now.as_ref())?;
        let Err(error) = place.log.write_commit_entry(version, entry, Uuid::new_v4()).await else {
            return Ok(Landed { version, removed, retries });
        };
        // Whatever was answered: what stands in the log counts.
        match id_of(place, version).await {
            Ok(Some(id)) if id.as_deref() == Some(order.id) => {
                retries.push(format!("commit: the answer to version {version} was lost, and it stands in the log"));
                return Ok(Landed { version, removed, retries });
            }
            Ok(Some(_)) => retries.push(format!("commit: another writer made version {version}")),
            Ok(None) => {
                failures += 1;
                let failed = failed(&error, place);
                // A disk has done what it was told when it answers, and so has a store that says no.
                if place.directory.is_none() && failed.kind() == Kind::ServerFailed {
                    open = open.or(Some(version));
                }
                if failures >= FAILURES || matches!(failed.kind(), Kind::Forbidden | Kind::SignIn | Kind::OutOfSpace) {
                    return Err(match open {
                        Some(version) => unknown(order, version, failed),
                        None => failed,
                    });
                }
                retries.push(format!("commit: {}", failed.message()));
            }
            Err(unread) => return Err(unknown(order, open.unwrap_or(version), unread)),
        }
        tokio::time::sleep(pause(attempt)).await;
    }
    let message = format!("other writers came first {ATTEMPTS} times");
    let locked = Error::new(Kind::Locked, message).help("run again when fewer write to the table").during("commit");
    Err(match open {
        Some(version) => unknown(order, version, locked),
        None => locked,
    })
}

/// What is said when a commit may or may not have been made.
fn unknown(order: &Order<'_>, version: u64, cause: Error) -> Error {
    let message = format!("it is not known whether version {version} of the table was committed");
    let help = format!("look for {ID} {} in the table's history before publishing again", order.id);
    Error::new(Kind::JobUnfinished, message).because(cause).help(help).during("commit")
}

/// The publish's own commit, where it has come to stand in the log since.
async fn arrived(place: &Place, order: &Order<'_>, first: u64) -> Result<Option<Landed>> {
    let late = async {
        let Some(version) = find(place, order.id, first.checked_sub(1)).await? else { return Ok(None) };
        let failed = |e| fault::of(&e, &place.at, "read a commit");
        let bytes = place.log.read_commit_entry(version).await.map_err(failed)?.unwrap_or_default();
        let removed = actions_of(&bytes).filter(|a| a["remove"].is_object()).count();
        Ok(Some(Landed { version, removed, retries: Vec::new() }))
    };
    late.await.map_err(|e| unknown(order, first, e))
}

/// What a mode means for the version that is there.
pub(crate) fn actions(now: Option<&EagerSnapshot>, order: &Order<'_>) -> Result<Vec<Action>> {
    let mut actions = Vec::new();
    match now {
        None => {
            let none: [(String, String); 0] = [];
            let metadata = new_metadata(order.schema, Vec::<String>::new(), none);
            actions.push(Action::Protocol(protocol::new(order.wall_clocks)?));
            actions.push(Action::Metadata(metadata.wrap(Kind::Unexpected, || "cannot describe the new table".into())?));
        }
        Some(_) if order.mode == Mode::Create => {
            return Err(Error::new(Kind::TargetExists, "a Delta table is already there").during("publish"));
        }
        Some(there) => {
            protocol::ensure_writable(there)?;
            if order.mode == Mode::Append {
                schema::ensure_fits(&there.schema(), order.schema)?;
            } else {
                replace(there, order, &mut actions)?;
            }
        }
    }
    actions.extend(order.add.cloned().map(Action::Add));
    Ok(actions)
}

/// Takes out every file, and exchanges the columns where they are others.
fn replace(there: &EagerSnapshot, order: &Order<'_>, actions: &mut Vec<Action>) -> Result<()> {
    if protocol::is_append_only(there.metadata()) {
        let help = "use --mode append, or unset the table's property delta.appendOnly";
        return Err(Error::new(Kind::Unsupported, "the Delta table is append-only").help(help).during("publish"));
    }
    if order.wall_clocks
        && let Some(wider) = protocol::with_wall_clocks(there.protocol())?
    {
        actions.push(Action::Protocol(wider));
    }
    if !schema::equal(&there.schema(), order.schema) {
        let metadata = there.metadata().clone().with_schema(order.schema);
        actions.push(Action::Metadata(metadata.wrap(Kind::Unexpected, || "cannot describe the table's columns".into())?));
    }
    actions.extend(there.log_data().iter().map(|file| Action::Remove(file.remove_action(true))));
    Ok(())
}

/// The commit as it stands in the log.
fn entry(mut actions: Vec<Action>, order: &Order<'_>, now: Option<&EagerSnapshot>) -> Result<CommitOrBytes> {
    let (files, bytes) = order.add.map_or((0, 0), |a| (1, a.size));
    let operation = DeltaOperation::Write {
        mode: match order.mode {
            Mode::Append => SaveMode::Append,
            Mode::Create => SaveMode::ErrorIfExists,
            _ => SaveMode::Overwrite,
        },
        partition_by: None,
        predicate: None,
    };
    let mut info = operation.get_commit_info();
    info.timestamp = Some(chrono::Utc::now().timestamp_millis());
    info.read_version = now.map(EagerSnapshot::version);
    info.is_blind_append = Some(order.mode == Mode::Append);
    info.engine_info = Some(format!("lakeport {} ({})", env!("CARGO_PKG_VERSION"), info.engine_info.unwrap_or_default()));
    let metrics = json!({
        "numFiles": files.to_string(), "numOutputRows": order.rows.to_string(), "numOutputBytes": bytes.to_string(),
    });
    info.info.extend([("operationMetrics".to_owned(), metrics), (ID.to_owned(), json!(order.id))]);
    actions.insert(0, Action::CommitInfo(info));
    let data = CommitData::new(actions, operation, HashMap::new(), Vec::new());
    data.get_bytes().map(CommitOrBytes::LogBytes).wrap(Kind::Unexpected, || "cannot write the commit".into())
}

/// The id in a version's commit; `None` where there is no such version.
#[allow(clippy::option_option)] // A commit without an id is somebody's, no commit is nobody's.
async fn id_of(place: &Place, version: u64) -> Result<Option<Option<String>>> {
    let failed = |e| fault::of(&e, &place.at, "read a commit");
    let Some(bytes) = place.log.read_commit_entry(version).await.map_err(failed)? else { return Ok(None) };
    let id = actions_of(&bytes).find_map(|a| a["commitInfo"][ID].as_str().map(str::to_owned));
    Ok(Some(id))
}

/// The actions of a commit, as they stand there.
pub(crate) fn actions_of(bytes: &[u8]) -> impl Iterator<Item = Value> + '_ {
    bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

/// Looks for a publish's commit among the versions after the one it began from.
pub(crate) async fn find(place: &Place, id: &str, after: Option<u64>) -> Result<Option<u64>> {
    let Some(now) = place.snapshot().await? else { return Ok(None) };
    for version in after.map_or(0, |v| v + 1)..=now.version() {
        if id_of(place, version).await?.flatten().as_deref() == Some(id) {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

fn failed(error: &TransactionError, place: &Place) -> Error {
    fault::foreign(error, &place.at, "commit")
}

/// A pause that grows, and that two writers do not share.
fn pause(attempt: u32) -> Duration {
    let most = (10u64 << attempt.min(7)).min(PAUSE);
    let some = u64::from(Uuid::new_v4().as_bytes()[0]);
    Duration::from_millis(most / 2 + most * some / 512)
}
