//! What a publish that was cut off left on disk, and what the next one makes of it.
//!
//! A receipt stands for one content under one name. Only a job that the server calls finished proves that a publish landed;
//! a complete upload is committed again, except for an append, which is never done twice on a guess.

use std::io::Read;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Kind, Result, Wrap};
use crate::export::{Mode, Receipt, Stage};

use super::Tableau;
use super::datasource::DataSource;
use super::job::{Job, JobState};
use super::publish::Order;
use super::retry::Repeats;

/// Bytes read at a time for the digest.
const BUFFER: usize = 256 * 1024;

/// What an earlier publish left to do.
pub(super) enum Left {
    /// Everything.
    All,
    /// The upload is complete; its id, and how it went.
    Commit {
        /// The upload's id.
        id: String,
        /// How it went.
        way: String,
    },
    /// Nothing: it landed.
    Nothing(Box<DataSource>),
}

impl Tableau {
    /// Looks what an earlier publish of the same content to the same name has left to do.
    pub(super) async fn left_over(&self, order: &Order<'_>, receipt: &mut Receipt, repeats: &mut Repeats) -> Result<Left> {
        let Some(path) = order.receipt_path else { return Ok(Left::All) };
        let found = match Receipt::load(path) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Left::All),
            Err(e) => {
                repeats.note(format!("publish: a receipt that cannot be read is ignored: {}", e.message()));
                return Ok(Left::All);
            }
        };
        if found.stage == Stage::Published {
            return Ok(Left::All);
        }
        if !same(&found, receipt) {
            repeats.note("publish: a former publish of something else was cut off; it is not taken up".to_owned());
            remove(path).await;
            return Ok(Left::All);
        }
        receipt.way.clone_from(&found.way);
        // What was there before the first try counts, not what is there now.
        receipt.updated_before.clone_from(&found.updated_before);
        match (found.stage, found.job) {
            (Stage::Committed, Some(job)) => self.take_up(order, &job, receipt, repeats).await,
            _ if order.mode == Mode::Append => Err(unproven(order, path)),
            (_, _) => Ok(found.upload.map_or(Left::All, |id| Left::Commit { id, way: found.way })),
        }
    }

    /// Takes up a job that a former publish had begun.
    async fn take_up(&self, order: &Order<'_>, id: &str, receipt: &mut Receipt, repeats: &mut Repeats) -> Result<Left> {
        let anew = |why: &str, repeats: &mut Repeats| {
            repeats.note(format!("publish: the job {id} of a former publish {why}, published anew"));
            Ok(Left::All)
        };
        let unproven = || match order.receipt_path {
            Some(path) if order.mode == Mode::Append => Some(unproven(order, path)),
            _ => None,
        };
        let info = self.server.info(repeats).await?;
        if !self.server.sees_jobs(&info) {
            return unproven().map_or_else(|| anew("cannot be asked for", repeats), Err);
        }
        let job = match self.server.job(id, repeats).await {
            Ok(job) => job,
            Err(e) if matches!(e.kind(), Kind::TargetMissing) => {
                return unproven().map_or_else(|| anew("is no longer known", repeats), Err);
            }
            Err(e) => return Err(e),
        };
        match job.state {
            JobState::Failed => return anew("had failed", repeats),
            JobState::Cancelled => return anew("was cancelled", repeats),
            JobState::Running | JobState::Succeeded => {}
            JobState::Ended => return unproven().map_or_else(|| anew("ended in an unknown way", repeats), Err),
        }
        let found = self.follow(order, id, receipt, repeats).await?;
        if order.mode != Mode::Append && changed_since(&job, &found) {
            return anew("succeeded, and the data source was changed since", repeats);
        }
        repeats.note(format!("publish: the job {id} of a former publish succeeded, nothing was sent again"));
        Ok(Left::Nothing(Box::new(found)))
    }
}

/// Whether a receipt on disk is one of the publish that is about to be made.
fn same(found: &Receipt, now: &Receipt) -> bool {
    let of = |r: &Receipt| (r.content.clone(), r.name.clone(), r.mode, r.place.clone(), r.server.clone());
    found.content.is_some() && of(found) == of(now)
}

/// Whether someone changed a data source after a job had made it; times that cannot be read tell nothing.
fn changed_since(job: &Job, found: &DataSource) -> bool {
    let read = |time: &Option<String>| time.as_deref().and_then(|t| chrono::DateTime::parse_from_rfc3339(t).ok());
    match (read(&job.completed_at), read(&found.updated_at)) {
        // The two are not written in one moment.
        (Some(completed), Some(updated)) => updated > completed + chrono::TimeDelta::seconds(60),
        _ => false,
    }
}

fn unproven(order: &Order<'_>, path: &Path) -> Error {
    let message = "a former append of the same rows was cut off, and it is not known whether they were appended";
    let help = format!(
        "look at the data source; when the rows are not there, remove {} and run again; --mode full never doubles",
        path.display()
    );
    Error::new(Kind::JobUnfinished, message).help(help).during("publish").at("data source", order.name)
}

/// Keeps the receipt on disk, whole or not at all.
pub(super) async fn record(path: Option<&Path>, receipt: &Receipt) -> Result<()> {
    let Some(path) = path.map(Path::to_owned) else { return Ok(()) };
    let receipt = receipt.clone();
    tokio::task::spawn_blocking(move || receipt.save(&path))
        .await
        .wrap(Kind::Unexpected, || "writing the receipt was stopped".to_owned())?
}

/// Removes a receipt that stands for nothing any more.
pub(super) async fn remove(path: &Path) {
    if let Err(e) = tokio::fs::remove_file(path).await
        && e.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("cannot remove {}: {e}", path.display());
    }
}

/// Size and hash of a file: what tells one content from another.
///
/// Nobody gains from forging it: who can write the receipt can write the file.
pub(super) async fn digest(path: &Path) -> Result<String> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let failed = || format!("cannot read {}", path.display());
        let mut file = std::fs::File::open(&path).wrap(Kind::SourceUnreadable, failed)?;
        let (mut hash, mut buffer, mut bytes) = (Xxh3::new(), vec![0; BUFFER], 0u64);
        loop {
            let got = file.read(&mut buffer).wrap(Kind::SourceUnreadable, failed)?;
            let Some(read) = buffer.get(..got).filter(|read| !read.is_empty()) else { break };
            hash.update(read);
            bytes += u64::try_from(got).unwrap_or(u64::MAX);
        }
        Ok(format!("{bytes} bytes, xxh3 {:032x}", hash.digest128()))
    })
    .await
    .wrap(Kind::Unexpected, || "reading the file was stopped".to_owned())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_after_the_job_is_seen() {
        let job = |t: &str| Job { completed_at: Some(t.into()), ..Job::default() };
        let source = |t: &str| DataSource { updated_at: Some(t.into()), ..DataSource::default() };
        assert!(changed_since(&job("2026-01-01T00:00:00Z"), &source("2026-01-01T00:05:00Z")));
        assert!(!changed_since(&job("2026-01-01T00:00:00Z"), &source("2026-01-01T00:00:30Z")));
        assert!(!changed_since(&job("2026-01-01T00:00:00Z"), &source("v1")));
    }

    #[tokio::test]
    async fn one_byte_makes_another_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut seen = std::collections::HashSet::new();
        for bytes in [vec![], vec![0], vec![1], vec![0; BUFFER], vec![0; BUFFER + 1]] {
            std::fs::write(&path, bytes).unwrap();
            seen.insert(digest(&path).await.unwrap());
        }
        assert_eq!(seen.len(), 5);
    }
}
