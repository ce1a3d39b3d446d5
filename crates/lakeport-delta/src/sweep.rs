//! Data files of runs that were killed before their commit: nobody sees them, and the next run takes them away.
//!
//! A file is taken for such a leftover when its name is ours, it is older than any run lasts, and no version that can still be
//! asked for knows it: a file that was committed is active, or was removed after it was made, and so its removal is younger
//! than the file and still remembered, as long as the file itself is younger than the table remembers removals.

use std::collections::BTreeSet;
use std::time::Duration;

use deltalake_core::kernel::EagerSnapshot;
use deltalake_core::table::config::TablePropertiesExt;
use deltalake_core::table::state::DeltaTableState;
use futures::TryStreamExt;
use lakeport::error::Result;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use uuid::Uuid;

use crate::fault;
use crate::place::Place;

/// How the names of our data files begin; the id that follows begins with the time.
const START: &str = "part-00000-lakeport-";
const END: &str = ".parquet";
/// The age below which a file may still be committed.
const YOUNG: Duration = Duration::from_secs(24 * 60 * 60);
/// The age above which a removal may be forgotten, unless the table says less.
const OLD: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A name that no other file has.
pub(crate) fn new_name() -> String {
    format!("{START}{}{END}", Uuid::now_v7())
}

/// Whether a name is one of ours.
pub(crate) fn is_ours(name: &str) -> bool {
    made(name).is_some()
}

/// When a file of ours was made, in milliseconds since 1970.
fn made(name: &str) -> Option<u64> {
    let id = name.strip_prefix(START)?.strip_suffix(END)?;
    let (seconds, nanos) = Uuid::parse_str(id).ok()?.get_timestamp()?.to_unix();
    Some(seconds * 1000 + u64::from(nanos / 1_000_000))
}

/// Removes what killed runs left; returns how many files.
pub(crate) async fn sweep(place: &Place, snapshot: &EagerSnapshot) -> Result<usize> {
    let now = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or(0);
    let before = |age: Duration| now.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let old = before(OLD.min(snapshot.table_properties().deleted_file_retention_duration()));
    let young = before(YOUNG);
    let failed = |e: object_store::Error| fault::foreign(&e, &place.at, "sweep");
    // Names are in the order of their times, and object stores list in that of names: only the files of a week are looked at.
    let hex = format!("{old:012x}");
    let offset = Path::from(format!("{START}{}-{}", &hex[..8], &hex[8..]));
    let files = place.files();
    let mut listed = files.list_with_offset(None, &offset);
    let mut suspects = Vec::new();
    while let Some(found) = listed.try_next().await.map_err(failed)? {
        let Some(name) = found.location.filename().map(str::to_owned) else { continue };
        if place.directory.is_none() && !name.starts_with(START) && found.location.as_ref() > START {
            break;
        }
        if found.location.parts().count() == 1 && made(&name).is_some_and(|at| at > old && at < young) {
            suspects.push(name);
        }
    }
    drop(listed);
    if suspects.is_empty() {
        return Ok(0);
    }
    let mut known: BTreeSet<String> = snapshot.log_data().iter().map(|f| f.path().into_owned()).collect();
    let state = DeltaTableState::new(snapshot.clone());
    let mut removed = state.all_tombstones(place.log.as_ref());
    while let Some(gone) = removed.try_next().await.map_err(|e| fault::of(&e, &place.at, "sweep"))? {
        known.insert(gone.path().into_owned());
    }
    drop(removed);
    suspects.retain(|name| !known.contains(name));
    for name in &suspects {
        files.delete(&Path::from(name.as_str())).await.map_err(failed)?;
    }
    Ok(suspects.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_when_it_was_made() {
        let now = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap();
        let at = made(&new_name()).unwrap();
        assert!(at.abs_diff(now) < 10_000, "{at} {now}");
        assert!(!is_ours("part-00000-lakeport-nonsense.parquet") && !is_ours("part-00000-x.parquet"));
    }
}
