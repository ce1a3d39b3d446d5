//! Rows are added once: what became of a commit that was cut off is found out, and never guessed.
//!
//! Before the commit the receipt goes to disk, with what will tell whether it landed. PostgreSQL keeps what became of a
//! transaction (`txid_status`, since version 10) and is asked for it, as long as it is the same cluster on the same timeline; of
//! other databases, and of a restored one, only a person can tell, who is told how many rows there were.

use std::path::Path;
use std::time::{Duration, Instant};

use super::modes;
use super::session::Session;
use crate::convert::Written;
use crate::error::{Error, Kind, Result};
use crate::export::{Mode, Publish, Receipt, Stage};

/// How long a transaction whose client is gone may take to end.
const ENDING: Duration = Duration::from_secs(20);

/// Publishes, or finds that a former run has.
///
/// # Errors
/// What a mode refuses; `JobUnfinished` when rows may have been added by a run that was cut off, and nobody can be asked.
pub(super) fn publish(session: &mut Session, file: &Written, how: &Publish, mut receipt: Receipt) -> Result<Receipt> {
    // What takes the place of something else may be done again.
    let adds = matches!(how.mode, Mode::Append | Mode::Create) && how.content.is_some();
    let kept = how.receipt_path.as_deref().filter(|_| adds);
    if let Some(path) = kept {
        if let Some(landed) = former(session, path, &mut receipt)? {
            receipt.way = "nothing sent".to_owned();
            receipt.retries.push(landed);
            receipt.save(path)?;
            return Ok(receipt);
        }
        receipt.job = session.transaction()?;
        if receipt.job.is_none() && how.mode == Mode::Append && session.exists(&how.name)? {
            receipt.updated_before = Some(session.count(&how.name)?.to_string());
        }
    }
    modes::publish(session, &file.path, how)?;
    if let Some(path) = kept {
        Receipt { stage: Stage::Committed, ..receipt.clone() }.save(path)?;
    }
    if let Err(e) = session.commit() {
        // A file's own library knows what it did; what a server did, its answer tells or nobody.
        if let Some(path) = kept.filter(|_| session.place.is_sqlite()) {
            let _ = std::fs::remove_file(path);
        }
        return Err(match &receipt.job {
            Some(transaction) => e.help(format!(
                "run again: the server is asked what became of transaction {}, and nothing is added twice",
                number(transaction)
            )),
            None => e,
        });
    }
    if let Some(path) = kept {
        receipt.save(path)?;
    }
    Ok(receipt)
}

/// How a former run has landed the same rows in the same table, if one has.
fn former(session: &mut Session, path: &Path, now: &mut Receipt) -> Result<Option<String>> {
    let found = match Receipt::load(path) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(e) => {
            now.notes.push(format!("a receipt that cannot be read is ignored: {}", e.message()));
            return Ok(None);
        }
    };
    if !now.repeats(&found) {
        now.notes.push("a former publish of something else was cut off; it is not taken up".to_owned());
        return Ok(None);
    }
    // Nothing was added to what is not there, or somebody has taken it away since.
    if !session.exists(&now.name)? {
        return Ok(None);
    }
    let landed = match (found.stage, &found.job) {
        (Stage::Uploaded, _) => None,
        (Stage::Published, _) => Some("publish: a former run had published the same and failed afterwards".to_owned()),
        (Stage::Committed, None) => return Err(unproven(session, &found, path)),
        (Stage::Committed, Some(transaction)) => match outcome(session, transaction)?.as_deref() {
            Some("committed") => Some(format!("publish: transaction {} of a former run was committed", number(transaction))),
            Some("aborted") => None,
            Some(_) => {
                let message = format!("transaction {} of a former run is still in progress", number(transaction));
                let e = Error::new(Kind::JobUnfinished, message);
                return Err(e.help("run again when it has ended").during("publish"));
            }
            None => return Err(unproven(session, &found, path)),
        },
    };
    Ok(landed.map(|landed| landed + ", nothing was sent again"))
}

/// The number alone, for people.
fn number(transaction: &str) -> &str {
    transaction.split('@').next().unwrap_or(transaction)
}

/// What became of a transaction, once it has ended: `committed` or `aborted`; `None` where the server no longer knows.
fn outcome(session: &mut Session, transaction: &str) -> Result<Option<String>> {
    let line = transaction.split_once('@').map(|(_, line)| line);
    let Ok(number) = number(transaction).parse::<u64>() else { return Ok(None) };
    // A copy of this database, or a standby that took over, gives the same numbers to other transactions.
    if session.timeline()?.as_deref() != line {
        return Ok(None);
    }
    let began = Instant::now();
    loop {
        let status = match session.text(&format!("SELECT txid_status({number})")) {
            // A number that this server has not come to: it is another one, or an older copy of itself.
            Err(e) if e.kind() == Kind::FileRefused => return Ok(None),
            status => status?,
        };
        if status.as_deref() != Some("in progress") || began.elapsed() > ENDING {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn unproven(session: &mut Session, found: &Receipt, path: &Path) -> Error {
    let message = "rows were being added by a run that was cut off, and it is not known whether they are there";
    let help = format!(
        "look at the table; when the rows are not there, remove {} and run again; --mode full never doubles",
        path.display()
    );
    let mut e = Error::new(Kind::JobUnfinished, message).help(help).during("publish");
    if let (Some(before), Ok(now)) = (&found.updated_before, session.count(&found.name)) {
        e = e.because(format!("rows of the table before: {before}; now: {now}"));
    }
    e
}

impl Session {
    /// What PostgreSQL is asked later to tell what became of this transaction: its number, and in which history of which cluster.
    fn transaction(&mut self) -> Result<Option<String>> {
        let line = self.timeline()?;
        let number = self.offered("SELECT txid_current()::text")?;
        Ok(number.map(|number| line.map_or_else(|| number.clone(), |line| format!("{number}@{line}"))))
    }

    /// The cluster and its timeline, where they are told; a restored copy or a new primary is on another one.
    fn timeline(&mut self) -> Result<Option<String>> {
        let wal = "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
        self.offered(&format!("SELECT system_identifier::text || '/' || {wal} FROM pg_control_system()"))
    }
}
