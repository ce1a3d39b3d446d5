//! A set of files put in its place: the parts first, under names of their own, then the manifest in one step, then the parts
//! of the former set are removed.
//!
//! What is about to happen is written down before the first part gets its name, so that the next run can clear away what a run
//! that was killed has left: on disk in the hidden directory of its parts, in an object store beside the manifest.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::convert::dead_beside;
use crate::convert::manifest::{FileSet, Manifest, Names};
use crate::error::{Error, Kind, Result, Wrap};
use crate::export::Mode;

/// The file in the parts' directory that says what was about to happen.
const INTENT: &str = "intent.json";

/// What a run is about to do to a set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Intent {
    /// The set that is written.
    pub(super) id: String,
    /// Its parts.
    pub(super) parts: Vec<String>,
    /// The set that was there.
    pub(super) old_id: Option<String>,
    /// Its parts.
    pub(super) old_parts: Vec<String>,
}

impl Intent {
    pub(super) fn new(set: &FileSet, old: Option<&Manifest>) -> Self {
        Self {
            id: set.manifest.id.clone(),
            parts: set.manifest.parts.iter().map(|p| p.name.clone()).collect(),
            old_id: old.map(|m| m.id.clone()),
            old_parts: old.map(|m| set.manifest.replaces(m, &set.names)).unwrap_or_default(),
        }
    }

    /// What a run that did not come to its end has left over, seen from the manifest that is in force.
    pub(super) fn leftovers(&self, current: Option<&Manifest>, names: &Names) -> Vec<String> {
        let in_force = |name: &str| current.is_some_and(|m| m.parts.iter().any(|p| p.name == name));
        let mine = self.parts.iter().filter(|n| names.is_part_of(n, &self.id));
        // The former set is left over once another manifest took the place of its own.
        let replaced = self.old_id.as_ref().filter(|old| current.is_some_and(|m| m.id != **old));
        let old = self.old_parts.iter().filter(|n| replaced.is_some_and(|old| names.is_part_of(n, old)));
        mine.chain(old).filter(|n| !in_force(n)).cloned().collect()
    }
}

/// Says no where a set is already there and must not be replaced.
///
/// # Errors
/// `TargetExists`, also for a file in the manifest's place that is none.
pub fn ensure_free(manifest: &Path, mode: Mode) -> Result<()> {
    match Manifest::load(manifest)? {
        Some(_) if mode == Mode::Create => Err(super::taken(&manifest.display().to_string())),
        _ => Ok(()),
    }
}

/// Clears away what runs that were killed have left of this set.
pub fn sweep_set(manifest: &Path, names: &Names) {
    let Some(directory) = manifest.parent() else { return };
    for dead in dead_beside(manifest) {
        let intent = std::fs::read(dead.join(INTENT)).ok().and_then(|text| serde_json::from_slice::<Intent>(&text).ok());
        if let Some(intent) = intent {
            // A manifest that cannot be read is no reason to remove anything.
            let Ok(current) = Manifest::load(manifest) else { continue };
            for name in intent.leftovers(current.as_ref(), names) {
                let _ = std::fs::remove_file(directory.join(name));
            }
        }
        let _ = std::fs::remove_dir_all(&dead);
        let _ = std::fs::remove_file(&dead);
    }
}

/// Puts a set that lies in a hidden directory beside its place into force; returns the manifest's path.
///
/// # Errors
/// `WriteFailed`, `OutOfSpace`, `TargetExists`; the former set is then still in force and nothing is left of this one.
pub fn commit_on_disk(set: &FileSet, manifest: &Path, mode: Mode) -> Result<PathBuf> {
    let shown = manifest.display().to_string();
    let failed = || format!("cannot write {shown}");
    let directory = manifest.parent().ok_or_else(|| Error::new(Kind::Usage, format!("{shown} is no file name")))?;
    let old = Manifest::load(manifest)?;
    if mode == Mode::Create && old.is_some() {
        return Err(super::taken(&shown));
    }
    let intent = serde_json::to_vec(&Intent::new(set, old.as_ref())).wrap(Kind::Unexpected, failed)?;
    write_synced(&set.directory.join(INTENT), &intent)?;
    let staged = set.directory.join(set.names.manifest());
    write_synced(&staged, set.manifest.text()?.as_bytes())?;
    sync(&set.directory)?;

    let placed = place(set, directory).and_then(|()| {
        if mode == Mode::Create {
            // A link, unlike a rename, fails when the name was taken in the meantime.
            match std::fs::hard_link(&staged, manifest) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Err(super::taken(&shown)),
                Ok(()) => return Ok(()),
                Err(_) => {}
            }
        }
        std::fs::rename(&staged, manifest).wrap(Kind::WriteFailed, failed)
    });
    if let Err(e) = placed {
        for part in &set.manifest.parts {
            let _ = std::fs::remove_file(directory.join(&part.name));
        }
        return Err(e);
    }
    sync(directory)?;
    for name in old.map(|old| set.manifest.replaces(&old, &set.names)).unwrap_or_default() {
        if let Err(e) = std::fs::remove_file(directory.join(&name)) {
            tracing::warn!("{name} of the former set could not be removed: {e}");
        }
    }
    std::path::absolute(manifest).wrap(Kind::WriteFailed, failed)
}

/// Gives the parts their names, once they are on the disk.
fn place(set: &FileSet, directory: &Path) -> Result<()> {
    for part in &set.manifest.parts {
        let (from, to) = (set.directory.join(&part.name), directory.join(&part.name));
        sync(&from)?;
        std::fs::rename(from, &to).wrap(Kind::WriteFailed, || format!("cannot write {}", to.display()))?;
    }
    sync(directory)
}

fn write_synced(path: &Path, text: &[u8]) -> Result<()> {
    use std::io::Write;
    let write = || {
        let mut file = std::fs::File::create(path)?;
        file.write_all(text)?;
        file.sync_all()
    };
    write().wrap(Kind::WriteFailed, || format!("cannot write {}", path.display()))
}

/// Brings a file or a directory's names to the disk.
fn sync(path: &Path) -> Result<()> {
    match std::fs::File::open(path) {
        Ok(handle) => handle.sync_all().wrap(Kind::WriteFailed, || format!("cannot write to {}", path.display())),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::manifest::{Part, Split, new_id};
    use crate::convert::{Format, Staging, csv};
    use crate::types::Wishes;
    use crate::types::files::Facts;
    use arrow::datatypes::{DataType, Field, Schema};

    fn set(directory: &Path, numbers: std::ops::Range<usize>) -> FileSet {
        let names = Names::new("", &csv::Csv.capability(), &Facts::new());
        let id = new_id();
        let parts = numbers.map(|number| {
            let name = names.part(number, &id);
            std::fs::write(directory.join(&name), &id).unwrap();
            Part { name, rows: 1, bytes: 12, sha256: String::new(), partition: None, fingerprint: None }
        });
        let schema = Schema::new(vec![Field::new("a", DataType::Utf8, true)]);
        let mapping = csv::Csv.map("t", &schema, &Wishes::default()).unwrap();
        let manifest = Manifest::new(&id, "here", "csv", Split::Rows(1), &mapping, parts.collect());
        FileSet { directory: directory.into(), names, manifest }
    }

    fn there(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_set_takes_the_place_of_the_former() {
        let home = tempfile::tempdir().unwrap();
        let manifest = home.path().join("_manifest.json");
        std::fs::write(home.path().join("part-of-something-else.csv"), "").unwrap();
        for parts in [3, 1] {
            let staging = Staging::beside(&manifest).unwrap();
            let new = set(staging.path(), 0..parts);
            commit_on_disk(&new, &manifest, Mode::Full).unwrap();
            drop(staging);
            let mut expected: Vec<_> = new.manifest.parts.iter().map(|p| p.name.clone()).collect();
            expected.insert(0, "_manifest.json".into());
            expected.push("part-of-something-else.csv".into());
            assert_eq!(there(home.path()), expected);
            assert_eq!(Manifest::load(&manifest).unwrap().unwrap().id, new.manifest.id);
        }
        let staging = Staging::beside(&manifest).unwrap();
        let e = commit_on_disk(&set(staging.path(), 0..2), &manifest, Mode::Create).unwrap_err();
        assert_eq!(e.kind(), Kind::TargetExists);
        drop(staging);
        assert_eq!(there(home.path()).len(), 3);
        std::fs::write(&manifest, "{}").unwrap();
        assert_eq!(ensure_free(&manifest, Mode::Full).unwrap_err().kind(), Kind::TargetExists);
    }

    #[test]
    fn what_a_killed_run_left_is_cleared_away_on_either_side_of_the_manifest() {
        for swapped in [false, true] {
            let home = tempfile::tempdir().unwrap();
            let manifest = home.path().join("_manifest.json");
            let old = set(home.path(), 0..2);
            std::fs::write(&manifest, old.manifest.text().unwrap()).unwrap();
            // A run whose process is gone, after its first part got its name, or after its manifest did.
            let dead = home.path().join("._manifest.json.lakeport-999999999-1.tmp");
            std::fs::create_dir(&dead).unwrap();
            let new = set(if swapped { home.path() } else { &dead }, 0..2);
            std::fs::write(dead.join(INTENT), serde_json::to_vec(&Intent::new(&new, Some(&old.manifest))).unwrap()).unwrap();
            if swapped {
                std::fs::write(&manifest, new.manifest.text().unwrap()).unwrap();
            } else {
                let first = &new.manifest.parts[0].name;
                std::fs::rename(dead.join(first), home.path().join(first)).unwrap();
            }
            sweep_set(&manifest, &new.names);
            let stays = if swapped { new } else { old };
            let mut expected: Vec<_> = stays.manifest.parts.iter().map(|p| p.name.clone()).collect();
            expected.insert(0, "_manifest.json".into());
            assert_eq!(there(home.path()), expected, "swapped: {swapped}");
        }
    }
}
