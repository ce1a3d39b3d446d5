//! What a publish that was cut off left on disk, and what the next one makes of it.
//!
//! A receipt stands for one content under one name. Only a job that the server calls finished proves that a publish landed;
//! a complete upload is committed again, except for an append, which is never done twice on a guess. A receipt that says
//! `published` is one of a run that failed afterwards: what it appended is there.

use std::io::Read;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Kind, Result, Wrap};
use crate::export::{Described, Mode, Receipt, Stage};

use super::Tableau;
use super::datasource::{DataSource, read_time};
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
            return Ok(landed(order, &found, receipt, repeats));
        }
        // An overwrite of other rows took the description just the same.
        if let (Some(taken), Some(_), true) = (&found.described, &receipt.described, one_place(&found, receipt)) {
            let me = self.server.session(repeats).await?.user.clone();
            receipt.described = receipt.described.take().map(|now| recalled(now, taken, &me));
        }
        if !receipt.repeats(&found) {
            // It stays until this publish has a receipt of its own: what it stands for has not become any surer.
            repeats.note("publish: a former publish of something else was cut off; it is not taken up".to_owned());
            return Ok(Left::All);
        }
        adopt(receipt, &found);
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
        let found = match self.follow(order, id, receipt, repeats).await {
            Ok(found) => found,
            Err(e) if e.kind() == Kind::VerifyFailed => {
                if order.mode != Mode::Append {
                    return anew("ended and had published nothing", repeats);
                }
                // Told once; who then runs it again wants the rows appended.
                if let Some(path) = order.receipt_path {
                    remove(path).await;
                }
                return Err(e);
            }
            Err(e) => return Err(e),
        };
        if matches!(order.mode, Mode::Full | Mode::Replace) && changed_since(&job, &found) {
            return anew("succeeded, and the data source was changed since", repeats);
        }
        repeats.note(format!("publish: the job {id} of a former publish succeeded, nothing was sent again"));
        Ok(Left::Nothing(Box::new(found)))
    }
}

/// Whether two receipts are about one data source.
fn one_place(found: &Receipt, now: &Receipt) -> bool {
    let of = |r: &Receipt| (r.name.clone(), r.place.clone(), r.server.clone());
    of(found) == of(now)
}

/// Lets a publish go on where a former one of the same content stopped.
fn adopt(receipt: &mut Receipt, found: &Receipt) {
    receipt.way.clone_from(&found.way);
    // What was there before the first try counts, not what is there now.
    receipt.updated_before.clone_from(&found.updated_before);
    receipt.committed_after = found.committed_after;
}

/// What a publish that landed, in a run that failed afterwards, has left to do.
///
/// Only where a second one would double rows, or be refused, is it looked at: else it is simply done again.
fn landed(order: &Order<'_>, found: &Receipt, receipt: &mut Receipt, repeats: &mut Repeats) -> Left {
    if !matches!(order.mode, Mode::Append | Mode::Create) || !receipt.repeats(found) {
        return Left::All;
    }
    match &order.before {
        Some(there) if there.id == found.id && !there.untouched_by(found) => {
            adopt(receipt, found);
            receipt.job.clone_from(&found.job);
            repeats.note("publish: a former run had published the same and failed afterwards, nothing was sent again".to_owned());
            Left::Nothing(Box::new(there.clone()))
        }
        _ => {
            repeats.note("publish: what a former run had published is not there, published anew".to_owned());
            Left::All
        }
    }
}

/// What is to describe a data source after an overwrite: what is there now, and what a former overwrite took and could not
/// give back. What was set since stays; an owner is taken by whoever publishes.
fn recalled(now: Described, taken: &Described, me: &str) -> Described {
    let certified = now.certified.filter(|certified| *certified).or(taken.certified);
    let mine = now.owner.as_deref() == Some(me);
    Described {
        description: now.description.or_else(|| taken.description.clone()),
        certified,
        certification_note: now.certification_note.or_else(|| taken.certification_note.clone()),
        owner: taken.owner.clone().filter(|_| mine).or(now.owner),
        tags: if now.tags.is_empty() { taken.tags.clone() } else { now.tags },
    }
}

/// Whether someone changed a data source after a job had made it; times that cannot be read tell nothing.
fn changed_since(job: &Job, found: &DataSource) -> bool {
    match (read_time(&job.completed_at), read_time(&found.updated_at)) {
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

    #[test]
    fn rows_are_never_taken_for_a_file_nor_one_place_for_another() {
        let receipt = |content: &str, place: &str| Receipt {
            content: Some(content.into()),
            place: Some(place.into()),
            ..Receipt::default()
        };
        let now = receipt("rows 12", "p1");
        assert!(now.repeats(&receipt("rows 12", "p1")));
        for other in [receipt("12", "p1"), receipt("rows 12", "p2"), receipt("rows 13", "p1")] {
            assert!(!now.repeats(&other), "{other:?}");
        }
        assert!(!now.repeats(&Receipt { mode: Mode::Append, ..now.clone() }));
        let unknown = Receipt { content: None, ..now };
        assert!(!unknown.repeats(&unknown));
    }

    #[test]
    fn what_was_set_after_a_cut_off_overwrite_stays() {
        let taken = Described {
            description: Some("old".into()),
            certified: Some(true),
            certification_note: Some("by Anna".into()),
            owner: Some("anna".into()),
            tags: vec!["gold".into()],
        };
        let wiped = Described { certified: Some(false), owner: Some("robot".into()), ..Described::default() };
        assert_eq!(recalled(wiped.clone(), &taken, "robot"), taken);
        let set = Described { description: Some("new".into()), owner: Some("bert".into()), tags: vec!["silver".into()], ..wiped };
        let kept = Described { certified: Some(true), certification_note: taken.certification_note.clone(), ..set.clone() };
        assert_eq!(recalled(set, &taken, "robot"), kept);
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
