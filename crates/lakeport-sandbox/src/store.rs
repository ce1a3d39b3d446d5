//! Where the sandbox keeps its state: one JSON index, written atomically, and one file per published revision.
//!
//! A publish never changes a file in place: it puts a new revision beside the old one and then lets the index point to it. So a
//! download or a preview that is under way keeps its file, and a sandbox that is killed finds either the old state or the new.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakeport::error::{Error, Kind, Result, Wrap};
use tempfile::TempPath;
use tokio::sync::OwnedMutexGuard;

use crate::index::{Index, new_id};
use crate::refusal::Refusal;

/// Whose turn it is to publish to one name.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// The state of one sandbox on disk and in memory.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    index: Mutex<Index>,
    /// One lock per (project, name): publishes to one data source happen one after the other.
    publishing: Mutex<HashMap<(String, String), Turn>>,
    /// Held while this sandbox runs; two on one directory would overwrite each other's index.
    lock: Mutex<Option<fs::File>>,
}

impl Store {
    /// Opens the state in a directory, or sets it up there.
    pub(crate) fn open(root: &Path, content_url: &str) -> Result<Self> {
        let failed = || format!("cannot use the data directory {}", root.display());
        for directory in ["files", "uploads", "staging"] {
            fs::create_dir_all(root.join(directory)).wrap(Kind::WriteFailed, failed)?;
        }
        let root = root.canonicalize().wrap(Kind::WriteFailed, failed)?;
        let lock = fs::File::create(root.join("lock")).wrap(Kind::WriteFailed, failed)?;
        lock.try_lock().map_err(|_| {
            Error::new(Kind::Locked, format!("another sandbox uses the data directory {}", root.display()))
                .help("stop it, or give this one its own --data directory")
        })?;
        let path = root.join("index.json");
        let index = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).wrap(Kind::ConfigInvalid, || format!("cannot understand {}", path.display()))?
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Index::new(content_url),
            Err(e) => return Err(Error::new(Kind::WriteFailed, failed()).because(e)),
        };
        let store = Self { root, index: Mutex::new(index), publishing: Mutex::default(), lock: Mutex::new(Some(lock)) };
        store.sweep().wrap(Kind::WriteFailed, || "cannot clean the data directory".into())?;
        store
            .change(|index| {
                index.site.content_url = content_url.to_owned();
                index.settle(&[], &[]);
                Ok(())
            })
            .map_err(|refusal| Error::new(Kind::WriteFailed, refusal.detail()))?;
        Ok(store)
    }

    /// Lets another sandbox have the directory.
    pub(crate) fn release(&self) {
        held(&self.lock).take();
    }

    /// Looks at the index.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&held(&self.index))
    }

    /// Changes the index, all or nothing: what is refused or cannot be written did not happen.
    ///
    /// The file is small and local, so writing it while the lock is held is cheaper than handing it to another thread.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Index) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut index = held(&self.index);
        let mut changed = index.clone();
        let value = change(&mut changed)?;
        let json = serde_json::to_vec_pretty(&changed).map_err(|e| Refusal::internal(e.to_string()))?;
        // A rename survives the death of this process, which is all that a sandbox promises; hence no fsync.
        let written = self.root.join("index.json.new");
        fs::write(&written, json)?;
        fs::rename(&written, self.root.join("index.json"))?;
        *index = changed;
        Ok(value)
    }

    /// Waits for the turn to publish to this name.
    pub(crate) async fn turn(&self, project: &str, name: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut publishing = held(&self.publishing);
            // What nobody holds or awaits is forgotten, so that the map stays as small as what is going on.
            publishing.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(publishing.entry((project.to_owned(), name.to_owned())).or_default())
        };
        lock.lock_owned().await
    }

    /// A path for a file under construction, which vanishes unless it is moved away.
    pub(crate) fn staging(&self) -> Result<TempPath, std::io::Error> {
        TempPath::try_from_path(self.root.join("staging").join(format!("{}.hyper", new_id())))
    }

    /// A path for the bytes of an upload session, which vanishes with the session.
    pub(crate) fn upload(&self, name: &str) -> Result<TempPath, std::io::Error> {
        TempPath::try_from_path(self.root.join("uploads").join(name))
    }

    /// Where a published file lies, by its path in the index.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.root.join("files").join(path)
    }

    /// Moves a finished file to its place as the file of this name of a data source and gives its path for the index.
    pub(crate) fn adopt(&self, staged: TempPath, datasource: &str, name: &str) -> Result<String, Refusal> {
        let path = format!("{datasource}/{name}.hyper");
        let place = self.file(&path);
        if let Some(directory) = place.parent() {
            fs::create_dir_all(directory)?;
        }
        staged.persist(place).map_err(|e| e.error)?;
        Ok(path)
    }

    /// Removes a file that the index no longer names.
    pub(crate) fn discard(&self, path: &str) {
        let place = self.file(path);
        if let Err(error) = fs::remove_file(&place) {
            tracing::warn!(%error, path, "cannot remove a replaced file");
        }
        if let Some(directory) = place.parent() {
            // Only the last revision leaves an empty directory behind; any other time this fails, as it should.
            let _ = fs::remove_dir(directory);
        }
    }

    /// Removes what a killed sandbox left: unfinished uploads, and files that no index names.
    fn sweep(&self) -> std::io::Result<()> {
        for directory in ["uploads", "staging"] {
            for entry in fs::read_dir(self.root.join(directory))? {
                fs::remove_file(entry?.path())?;
            }
        }
        let named: HashSet<PathBuf> = self.read(|index| {
            index.datasources.iter().flat_map(crate::index::Datasource::files).map(|path| self.file(path)).collect()
        });
        for directory in fs::read_dir(self.root.join("files"))? {
            let directory = directory?.path();
            for entry in fs::read_dir(&directory)? {
                let path = entry?.path();
                if !named.contains(&path) {
                    fs::remove_file(path)?;
                }
            }
            let _ = fs::remove_dir(directory);
        }
        Ok(())
    }
}

/// Takes a lock whatever became of its last holder; no holder here leaves a value half changed.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_change_did_not_happen() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), "").unwrap();
        let refused: Result<(), _> = store.change(|index| {
            index.projects.clear();
            Err(Refusal::bad_request("no"))
        });
        assert!(refused.is_err());
        assert_eq!(store.read(|index| index.projects.len()), 1);
    }

    #[test]
    fn one_directory_serves_one_sandbox_and_keeps_its_ids() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), "").unwrap();
        assert_eq!(Store::open(directory.path(), "").unwrap_err().kind(), Kind::Locked);
        let site = store.read(|index| index.site.id.clone());
        drop(store);
        fs::write(directory.path().join("uploads/left.part"), "x").unwrap();
        fs::create_dir(directory.path().join("files/orphan")).unwrap();
        fs::write(directory.path().join("files/orphan/1.hyper"), "x").unwrap();
        let again = Store::open(directory.path(), "").unwrap();
        assert_eq!(again.read(|index| index.site.id.clone()), site);
        assert_eq!(fs::read_dir(directory.path().join("uploads")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(directory.path().join("files")).unwrap().count(), 0);
    }
}
