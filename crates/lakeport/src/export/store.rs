//! Files on disk or in an object store.
//!
//! A file on disk is written under a temporary name and renamed; an object is put in one request or in parts that are
//! aborted on failure. Either way a reader sees the old content or the new, never something between.

use std::path::PathBuf;

use async_trait::async_trait;

use crate::convert::Written;
use crate::convert::manifest::FileSet;
use crate::error::{Error, Kind, Result};
use crate::source::{Listed, Location, local_path};

use super::{Capability, Health, Mode, Observed, Progress, Publish, Receipt, Target};

mod local;
mod object;
mod objects;
mod set;

pub use object::{object_store_for, status_of, store_error, without_secrets};
pub use set::{commit_on_disk, ensure_free, sweep_set};

/// What this target can do.
pub const CAPABILITY: Capability = Capability {
    name: "store",
    formats: &[],
    modes: &[Mode::Full, Mode::Create],
    observes: true,
    summary: "local disk, s3://, gs://, az://, abfss://: temporary name and rename, or multipart with abort",
};

/// A directory, a file, or a place in an object store as a target.
#[derive(Debug, Clone)]
pub struct Store {
    root: Location,
}

impl Store {
    /// Makes a target of everything below this location; reaches nothing yet.
    #[must_use]
    pub fn new(root: Location) -> Self {
        Self { root }
    }

    /// The location of a name below the root; an empty name is the root itself.
    fn at(&self, name: &str) -> Location {
        self.root.join(name)
    }
}

/// Says no to modes that a file does not have.
fn refuse_modes(mode: Mode) -> Result<()> {
    if matches!(mode, Mode::Full | Mode::Create) {
        return Ok(());
    }
    Err(Error::new(Kind::Unsupported, format!("a file cannot be published with mode {}", mode.name()))
        .help("a store takes whole files: use --mode full or create"))
}

fn taken(url: &str) -> Error {
    Error::new(Kind::TargetExists, format!("{url} is already there")).during("publish")
}

#[async_trait]
impl Target for Store {
    fn capability(&self) -> Capability {
        CAPABILITY
    }

    async fn check(&self) -> Result<Health> {
        match local_path(&self.root.url) {
            Some(path) => Ok(local::check(&path)),
            None => object::check(&self.root).await,
        }
    }

    async fn list(&self, path: &str) -> Result<Vec<Listed>> {
        let at = self.at(path);
        match local_path(&at.url) {
            Some(at) => local::list(&at, path),
            None => object::list(&at, path).await,
        }
    }

    async fn publish(&self, file: &Written, how: &Publish, progress: Progress<'_>) -> Result<Receipt> {
        refuse_modes(how.mode)?;
        let to = self.at(&how.name);
        let receipt = match local_path(&to.url) {
            Some(path) => local::publish(&file.path, &path, how.mode, progress).await?,
            None => object::publish(&file.path, &to, how.mode, progress).await?,
        };
        Ok(Receipt { name: how.name.clone(), ..receipt })
    }

    fn on_disk(&self, name: &str) -> Option<PathBuf> {
        local_path(&self.at(name).url)
    }

    async fn publish_set(&self, set: &FileSet, how: &Publish, progress: Progress<'_>) -> Result<Receipt> {
        refuse_modes(how.mode)?;
        let receipt = objects::publish(set, &self.at(&how.name), how.mode, progress).await?;
        Ok(Receipt { name: how.name.clone(), ..receipt })
    }

    async fn observe_set(&self, set: &FileSet, receipt: &Receipt) -> Result<Observed> {
        objects::observe(set, &self.at(&receipt.name)).await
    }

    async fn observe(&self, receipt: &Receipt) -> Result<Observed> {
        let mut observed = match local_path(&receipt.id) {
            Some(path) => local::observe(&path)?,
            None => object::observe(&Location { url: receipt.id.clone(), options: self.root.options.clone() }).await?,
        };
        observed.unknown.push("rows: a store does not read what it holds".to_owned());
        Ok(observed)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;

    fn written(path: &Path, bytes: &[u8]) -> Written {
        std::fs::write(path, bytes).unwrap();
        Written { path: path.into(), bytes: 0, format: "hyper".into(), rows: vec![] }
    }

    fn how(name: &str, mode: Mode) -> Publish {
        Publish { name: name.into(), mode, ..Publish::default() }
    }

    #[tokio::test]
    async fn a_file_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("lake");
        let store = Store::new(Location::new(root.display().to_string()));
        assert!(store.check().await.unwrap().missing.is_empty(), "the directory would be created");
        let bytes = vec![7; 3_000_000];
        let file = written(&dir.path().join("a.hyper"), &bytes);
        let told = Mutex::new(Vec::new());
        let receipt =
            store.publish(&file, &how("gold/a.hyper", Mode::Create), &|d, of| told.lock().unwrap().push((d, of))).await.unwrap();
        assert_eq!(std::fs::read(root.join("gold/a.hyper")).unwrap(), bytes);
        assert_eq!(told.lock().unwrap().last(), Some(&(3_000_000, 3_000_000)));
        assert_eq!(store.observe(&receipt).await.unwrap().bytes, Some(3_000_000));
        let again = store.publish(&file, &how("gold/a.hyper", Mode::Create), &|_, _| {}).await.unwrap_err();
        assert_eq!(again.kind(), Kind::TargetExists);
        store.publish(&file, &how("gold/a.hyper", Mode::Full), &|_, _| {}).await.unwrap();
        assert_eq!(std::fs::read_dir(root.join("gold")).unwrap().count(), 1, "no temporary files stay");
        let listed = store.list("").await.unwrap();
        assert_eq!((listed[0].name.as_str(), listed[0].kind.as_str()), ("gold", "directory"));
        assert_eq!(store.list("gold").await.unwrap()[0].name, "gold/a.hyper");
        assert_eq!(store.publish(&file, &how("x", Mode::Append), &|_, _| {}).await.unwrap_err().kind(), Kind::Unsupported);
    }

    #[tokio::test]
    async fn a_file_is_not_published_onto_itself() {
        let dir = tempfile::tempdir().unwrap();
        let file = written(&dir.path().join("a.hyper"), b"precious");
        let store = Store::new(Location::new(format!("file://{}", dir.path().display())));
        store.publish(&file, &how("a.hyper", Mode::Full), &|_, _| {}).await.unwrap_err();
        assert_eq!(std::fs::read(&file.path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_missing_place_is_said_plainly() {
        let store = Store::new(Location::new("/nonexistent-root/x"));
        assert_eq!(store.list("").await.unwrap_err().kind(), Kind::TargetMissing);
        let gone = Receipt { id: "/nonexistent-root/x".into(), ..Receipt::default() };
        assert_eq!(store.observe(&gone).await.unwrap_err().kind(), Kind::VerifyFailed);
    }
}
