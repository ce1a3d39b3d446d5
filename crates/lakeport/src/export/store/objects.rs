//! A set of objects: each put whole under a name of its own, and the manifest last.

use std::time::Duration;

use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::object::{is_refusal, object_store_for, put_file, translate};
use super::set::Intent;
use crate::convert::manifest::{FileSet, Manifest, Names};
use crate::error::{Error, Kind, Result, Wrap};
use crate::export::{Mode, Observed, Progress, Receipt};
use crate::source::Location;

/// How long a run may take before what it left is taken for abandoned; the store's own clock counts.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
/// Parts looked at side by side afterwards.
const SIDE_BY_SIDE: usize = 8;

/// Puts a set below a location; on failure nothing of it stays and the former set is in force.
pub(super) async fn publish(set: &FileSet, at: &Location, mode: Mode, progress: Progress<'_>) -> Result<Receipt> {
    let place = Place::open(at, &set.names)?;
    let old = place.manifest().await?;
    if mode == Mode::Create && old.is_some() {
        return Err(super::taken(&place.shown.url));
    }
    let mut notes = place.sweep(old.as_ref(), &set.names).await;
    let pending = place.pending(&set.manifest.id);
    let intent = serde_json::to_vec(&Intent::new(set, old.as_ref())).wrap(Kind::Unexpected, || "an intent is no JSON".into())?;
    place.store.put(&pending, intent.into()).await.map_err(|e| place.failed(e))?;

    let whole: u64 = set.manifest.bytes;
    let mut before = 0;
    let mut sent = Ok(());
    for part in &set.manifest.parts {
        let step = |done: u64, _: u64| progress(before + done, whole);
        let to = at.join(&part.name);
        let (path, from) = (place.of(&part.name), set.directory.join(&part.name));
        let put = put_file(place.store.as_ref(), &path, &from, &to, Mode::Full, &step);
        if let Err(e) = put.await {
            sent = Err(e);
            break;
        }
        before += part.bytes;
    }
    let sent = match sent {
        Ok(()) => place.swap(set, mode).await,
        Err(e) => Err((e, true)),
    };
    if let Err((e, certain)) = sent {
        // Where the answer to the manifest was lost for good, a later run decides what is left over.
        if certain {
            place.remove(set.manifest.parts.iter().map(|p| p.name.as_str())).await;
            let _ = place.store.delete(&pending).await;
        }
        return Err(e);
    }
    let replaced = old.map(|old| set.manifest.replaces(&old, &set.names)).unwrap_or_default();
    let stuck = place.remove(replaced.iter().map(String::as_str)).await;
    if stuck > 0 {
        notes.push(format!("{stuck} part(s) of the former set could not be removed"));
    } else {
        let _ = place.store.delete(&pending).await;
    }
    let way = format!("{} parts and a manifest", set.manifest.parts.len());
    let id = place.shown.url.clone();
    Ok(Receipt { url: Some(id.clone()), id, bytes: whole, way, notes, ..Receipt::default() })
}

/// Asks for each part of a set, and adds up what is there.
pub(super) async fn observe(set: &FileSet, at: &Location) -> Result<Observed> {
    let place = Place::open(at, &set.names)?;
    let in_force = place.manifest().await?;
    if in_force.is_none_or(|m| m.id != set.manifest.id) {
        return Err(Error::new(Kind::VerifyFailed, format!("{} is not the one that was written", place.shown.url)));
    }
    let paths: Vec<Path> = set.manifest.parts.iter().map(|part| place.of(&part.name)).collect();
    let heads = futures::stream::iter(paths).map(|path| {
        let store = std::sync::Arc::clone(&place.store);
        async move { store.head(&path).await }
    });
    let mut bytes = 0;
    let mut heads = heads.buffer_unordered(SIDE_BY_SIDE);
    while let Some(head) = heads.next().await {
        bytes += head.map_err(|e| translate(e, at, "observe", Kind::VerifyFailed))?.size;
    }
    Ok(Observed { bytes: Some(bytes), ..Observed::default() })
}

/// Where a set lies.
struct Place {
    store: std::sync::Arc<dyn ObjectStore>,
    directory: Path,
    manifest: Path,
    name: String,
    shown: Location,
}

impl Place {
    fn open(at: &Location, names: &Names) -> Result<Self> {
        let name = names.manifest();
        let shown = at.join(&name);
        let (store, manifest) = object_store_for(&shown)?;
        let (_, directory) = object_store_for(at)?;
        Ok(Self { store, directory, manifest, name, shown })
    }

    /// The key of what lies beside the manifest: written as it is, as the manifest's own.
    fn of(&self, name: &str) -> Path {
        // What is joined to a path is encoded, so that half of all names would become others.
        let whole = format!("{}/{name}", self.directory);
        Path::parse(&whole).unwrap_or_else(|_| self.directory.clone().join(name))
    }

    fn pending(&self, id: &str) -> Path {
        self.of(&format!("{}.{id}.pending", self.name))
    }

    fn failed(&self, e: object_store::Error) -> Error {
        translate(e, &self.shown, "publish", Kind::ServerFailed)
    }

    async fn manifest(&self) -> Result<Option<Manifest>> {
        match self.store.get(&self.manifest).await {
            Ok(found) => {
                let text = found.bytes().await.map_err(|e| self.failed(e))?;
                Manifest::read(&text, &self.shown.url).map(Some)
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// Puts the manifest: the one step that makes the set visible. On failure says whether the former one is surely in force.
    async fn swap(&self, set: &FileSet, mode: Mode) -> std::result::Result<(), (Error, bool)> {
        let text = set.manifest.text().map_err(|e| (e, true))?;
        let mode = if mode == Mode::Create { PutMode::Create } else { PutMode::Overwrite };
        let options = PutOptions { mode, ..PutOptions::default() };
        let Err(e) = self.store.put_opts(&self.manifest, text.into(), options).await else { return Ok(()) };
        // Only the answer may be what was lost.
        match self.manifest().await {
            Ok(Some(there)) if there.id == set.manifest.id => Ok(()),
            // A request that nobody answered may still be on its way.
            Ok(_) => {
                let refused = is_refusal(&e);
                Err((self.failed(e), refused))
            }
            Err(_) => Err((self.failed(e), false)),
        }
    }

    /// Removes parts; says how many would not go.
    async fn remove(&self, names: impl Iterator<Item = &str>) -> usize {
        let mut stuck = 0;
        for name in names {
            match self.store.delete(&self.of(name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => {
                    tracing::warn!("{name} could not be removed: {e}");
                    stuck += 1;
                }
            }
        }
        stuck
    }

    /// Clears away what runs that never came to their end have left; never fails a run.
    async fn sweep(&self, current: Option<&Manifest>, names: &Names) -> Vec<String> {
        let mut notes = Vec::new();
        let prefix = format!("{}.", self.name);
        let Ok(found) = self.store.list_with_delimiter(Some(&self.directory)).await else { return notes };
        for object in found.objects {
            let name = object.location.filename().unwrap_or_default();
            let old = (chrono::Utc::now() - object.last_modified).to_std().is_ok_and(|age| age > ABANDONED);
            if !old || !name.starts_with(&prefix) || !name.ends_with(".pending") {
                continue;
            }
            let Ok(found) = self.store.get(&object.location).await else { continue };
            let Ok(text) = found.bytes().await else { continue };
            let Ok(intent) = serde_json::from_slice::<Intent>(&text) else { continue };
            let left = intent.leftovers(current, names);
            if self.remove(left.iter().map(String::as_str)).await == 0 {
                let _ = self.store.delete(&object.location).await;
                notes.push(format!("cleared away {} part(s) of a run that never came to its end", left.len()));
            }
        }
        notes
    }
}
