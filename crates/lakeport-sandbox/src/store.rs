//! Where the sandbox keeps its state: one JSON index, written atomically, and one file per published revision.
//!
//! A publish never changes a file in place: it puts a new revision beside the old one and then lets the index point to it. So a
//! download or a preview that is under way keeps its file, and a sandbox that is killed finds either the old state or the new.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakeport::error::{Error, Kind, Result, Wrap};
use tempfile::TempPath;
use tokio::sync::OwnedMutexGuard;

use crate::index::{Index, new_id};
use crate::refusal::Refusal;

/// The index; what makes a directory a sandbox's.
const INDEX: &str = "index.json";
/// The next index, until it is whole.
const NEW_INDEX: &str = "index.json.new";
/// The file that is locked while a sandbox runs; it is empty.
const LOCK: &str = "lock";
/// The directories for published files, for uploads that are not finished, and for files under construction.
const DIRECTORIES: [&str; 3] = ["files", "uploads", "staging"];
/// How many entries of a directory that is not ours an error names.
const SHOWN: usize = 3;

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
    ///
    /// # Errors
    /// `Usage` for a directory that holds something and is no sandbox's, in which nothing is touched; `Locked` when another
    /// sandbox uses it, `WriteFailed` or `ConfigInvalid` when it cannot be used.
    pub(crate) fn open(root: &Path, content_url: &str) -> Result<Self> {
        let failed = || format!("cannot use the data directory {}", root.display());
        // Before anything is made in it: whoever names a wrong directory finds it as it was.
        if read_index(root)?.is_none() {
            ensure_free(root)?;
        }
        for directory in DIRECTORIES {
            fs::create_dir_all(root.join(directory)).wrap(Kind::WriteFailed, failed)?;
        }
        let root = root.canonicalize().wrap(Kind::WriteFailed, failed)?;
        let lock = fs::OpenOptions::new().write(true).create(true).truncate(false).open(root.join(LOCK));
        let lock = lock.wrap(Kind::WriteFailed, failed)?;
        lock.try_lock().map_err(|_| {
            Error::new(Kind::Locked, format!("another sandbox uses the data directory {}", root.display()))
                .help("stop it, or give this one its own --data directory")
        })?;
        // Once more: before the lock was ours, another sandbox may have been writing it.
        let index = read_index(&root)?.unwrap_or_else(|| Index::new(content_url));
        let store = Self { root, index: Mutex::new(index), publishing: Mutex::default(), lock: Mutex::new(Some(lock)) };
        store.sweep();
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
        let written = self.root.join(NEW_INDEX);
        fs::write(&written, json)?;
        fs::rename(&written, self.root.join(INDEX))?;
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
    ///
    /// Only what has a name that a sandbox gives is removed; what else lies there is somebody's, and in nobody's way. So is a
    /// leftover that cannot be removed.
    fn sweep(&self) {
        let named: HashSet<PathBuf> = self.read(|index| {
            index.datasources.iter().flat_map(crate::index::Datasource::files).map(|path| self.file(path)).collect()
        });
        for (directory, ending, is_ours) in
            [("uploads", "part", is_simple_id as fn(&str) -> bool), ("staging", "hyper", is_id as fn(&str) -> bool)]
        {
            clear(&self.root.join(directory), |path| stem(path, ending).is_some_and(is_ours));
        }
        for directory in entries(&self.root.join("files"), fs::FileType::is_dir) {
            if directory.file_name().and_then(OsStr::to_str).is_some_and(is_id) {
                clear(&directory, |path| stem(path, "hyper").is_some_and(is_revision) && !named.contains(path));
                // Whatever is still in it keeps it.
                let _ = fs::remove_dir(directory);
            }
        }
    }
}

/// Reads the index of a directory; `None` when it has none.
fn read_index(root: &Path) -> Result<Option<Index>> {
    let path = root.join(INDEX);
    match fs::read(&path) {
        Ok(bytes) => {
            let index =
                serde_json::from_slice(&bytes).wrap(Kind::ConfigInvalid, || format!("cannot understand {}", path.display()));
            index
                .map(Some)
                .map_err(|e| e.help("it is no sandbox's index, or a damaged one: give --data an empty or a new directory"))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::new(Kind::WriteFailed, format!("cannot use the data directory {}", root.display())).because(e)),
    }
}

/// Refuses a directory that holds anything but what a start that was cut off before its first index leaves.
fn ensure_free(root: &Path) -> Result<()> {
    let failed = || format!("cannot use the data directory {}", root.display());
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::new(Kind::WriteFailed, failed()).because(e)),
    };
    let mut strange = Vec::new();
    for entry in entries {
        let entry = entry.wrap(Kind::WriteFailed, failed)?;
        if !is_skeleton(&entry).wrap(Kind::WriteFailed, failed)? {
            strange.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    if strange.is_empty() {
        return Ok(());
    }
    strange.sort();
    let more = if strange.len() > SHOWN { ", …" } else { "" };
    strange.truncate(SHOWN);
    let message = format!(
        "the data directory {} is not empty and no sandbox's: it has no {INDEX}, and holds {}{more}",
        root.display(),
        strange.join(", ")
    );
    Err(Error::new(Kind::Usage, message).help("give --data an empty or a new directory; nothing in this one was touched"))
}

/// Whether an entry is one that the start of a sandbox makes before it has an index.
fn is_skeleton(entry: &fs::DirEntry) -> std::io::Result<bool> {
    // Links are not followed: what they lead to is somewhere else.
    let kind = entry.file_type()?;
    Ok(match entry.file_name().to_str() {
        Some(LOCK) => kind.is_file() && entry.metadata()?.len() == 0,
        // Another sandbox is being set up; the lock decides between the two.
        Some(INDEX) => true,
        // It may be cut off, but it is written only by who has the lock.
        Some(NEW_INDEX) => kind.is_file() && entry.path().with_file_name(LOCK).is_file(),
        Some(name) if DIRECTORIES.contains(&name) => kind.is_dir() && fs::read_dir(entry.path())?.next().is_none(),
        _ => false,
    })
}

/// The entries of a directory of one type; none where it cannot be read.
fn entries(directory: &Path, is_wanted: fn(&fs::FileType) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| is_wanted(&kind))).map(|entry| entry.path()).collect()
}

/// Removes the files of a directory that are left over.
fn clear(directory: &Path, is_left: impl Fn(&Path) -> bool) {
    for path in entries(directory, fs::FileType::is_file).into_iter().filter(|path| is_left(path)) {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "cannot remove a leftover");
        }
    }
}

/// A file's name without this ending, if it has it.
fn stem<'a>(path: &'a Path, ending: &str) -> Option<&'a str> {
    path.file_name()?.to_str()?.strip_suffix(ending)?.strip_suffix('.')
}

/// Whether a name is an id as [`new_id`] writes it.
fn is_id(name: &str) -> bool {
    uuid::Uuid::parse_str(name).is_ok_and(|id| id.to_string() == name)
}

/// Whether a name is an id without hyphens, as uploads have.
fn is_simple_id(name: &str) -> bool {
    uuid::Uuid::parse_str(name).is_ok_and(|id| id.simple().to_string() == name)
}

/// Whether a name is that of a revision, `7`, or of one changed in place, `7-2`.
fn is_revision(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    name.split_once('-').map_or_else(|| is_number(name), |(revision, change)| is_number(revision) && is_number(change))
}

/// Takes a lock whatever became of its last holder; no holder here leaves a value half changed.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
        let at = |path: String| directory.path().join(path);
        let (id, simple) = (new_id(), uuid::Uuid::new_v4().simple().to_string());
        fs::create_dir(at(format!("files/{id}"))).unwrap();
        let left = [format!("uploads/{simple}.part"), format!("staging/{id}.hyper"), format!("files/{id}/1.hyper")];
        for path in left.iter().chain([&format!("files/{id}/12-3.hyper")]) {
            fs::write(at(path.clone()), "x").unwrap();
        }
        let again = Store::open(directory.path(), "").unwrap();
        assert_eq!(again.read(|index| index.site.id.clone()), site);
        for directory in DIRECTORIES {
            assert_eq!(fs::read_dir(at(directory.to_owned())).unwrap().count(), 0, "{directory}");
        }
    }

    /// Every file below a directory with its content, and every empty directory.
    fn all(directory: &Path) -> BTreeMap<PathBuf, Option<String>> {
        let below = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let found: BTreeMap<_, _> = below
            .flat_map(|path| if path.is_dir() { all(&path) } else { [(path.clone(), fs::read_to_string(&path).ok())].into() })
            .collect();
        if found.is_empty() { [(directory.to_owned(), None)].into() } else { found }
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused_and_stays_as_it_is() {
        let holding = |paths: &[&str]| {
            let directory = tempfile::tempdir().unwrap();
            for path in paths {
                let path = directory.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "precious").unwrap();
            }
            directory
        };
        for paths in [
            &["uploads/photo.jpg"][..],
            &["staging/x.hyper"],
            &["files/2026/1.hyper"],
            &["lock"],
            &["files"],
            &["index.json.new"],
            &["a", "b", "c", "d", ".git/config"],
        ] {
            let directory = holding(paths);
            let before = all(directory.path());
            let error = Store::open(directory.path(), "").unwrap_err();
            assert_eq!((error.kind(), all(directory.path())), (Kind::Usage, before), "{paths:?}");
            let shown = directory.path().display().to_string();
            assert!(error.message().contains(&shown) && error.help_line().contains("an empty or a new directory"), "{error:?}");
        }
        // Somebody's own index is none of a sandbox.
        let directory = holding(&["index.json", "files/x/1.hyper"]);
        let before = all(directory.path());
        assert_eq!(Store::open(directory.path(), "").unwrap_err().kind(), Kind::ConfigInvalid);
        assert_eq!(all(directory.path()), before);
    }

    #[test]
    fn a_start_that_was_cut_off_is_taken_up() {
        for made in 0..=5 {
            let directory = tempfile::tempdir().unwrap();
            for name in DIRECTORIES.iter().take(made) {
                fs::create_dir(directory.path().join(name)).unwrap();
            }
            for (name, text) in [(LOCK, ""), (NEW_INDEX, "{\"version")].iter().take(made.saturating_sub(3)) {
                fs::write(directory.path().join(name), text).unwrap();
            }
            Store::open(directory.path(), "").unwrap();
        }
    }

    #[test]
    fn a_stray_file_stays_and_stops_no_start() {
        let directory = tempfile::tempdir().unwrap();
        drop(Store::open(directory.path(), "").unwrap());
        let (id, outside) = (new_id(), tempfile::tempdir().unwrap());
        let at = |path: &str| directory.path().join(path);
        for place in ["uploads/dir", "staging/dir", "files/mine", &format!("files/{id}/1.hyper")] {
            fs::create_dir_all(at(place)).unwrap();
        }
        for place in ["notes.txt", "uploads/left.part", "staging/a.hyper", "files/stray", "files/mine/1.hyper"] {
            fs::write(at(place), "precious").unwrap();
        }
        fs::write(at(&format!("files/{id}/notes.hyper")), "precious").unwrap();
        fs::write(outside.path().join("1.hyper"), "precious").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(outside.path(), at(&format!("files/{}", new_id()))).unwrap();
        let strays = || {
            let mut found = all(directory.path());
            found.remove(&at(INDEX));
            (found, all(outside.path()))
        };
        let before = strays();
        Store::open(directory.path(), "").unwrap();
        assert_eq!(strays(), before);
    }
}
