//! Where a table is: its log, opened over the house's own object stores.

use std::path::PathBuf;
use std::sync::Arc;

use deltalake_core::kernel::EagerSnapshot;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use lakeport::error::{Kind, Result, Wrap};
use lakeport::export::store::object_store_for;
use lakeport::source::{Location, local_path};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use url::Url;

use crate::fault;

/// A table's place; nothing is known to be there yet.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The table's root, as the user's environment has it.
    pub(crate) at: Location,
    /// The directory, where it is one of the local disk.
    pub(crate) directory: Option<PathBuf>,
    /// The table's log.
    pub(crate) log: LogStoreRef,
}

impl Place {
    /// Opens the stores; reaches nothing yet.
    pub(crate) fn open(at: &Location) -> Result<Self> {
        let Some(directory) = local_path(&at.url) else {
            let (store, path) = object_store_for(at)?;
            return Self::over(store, path, at, None);
        };
        let failed = || format!("{} is no path", directory.display());
        let directory = std::path::absolute(&directory).wrap(Kind::Usage, failed)?;
        let path = Path::from_absolute_path(&directory).wrap(Kind::Usage, failed)?;
        Self::over(Arc::new(LocalFileSystem::new()), path, at, Some(directory))
    }

    /// Takes a store that is open already, and the table's path in it.
    pub(crate) fn over(store: Arc<dyn ObjectStore>, path: Path, at: &Location, directory: Option<PathBuf>) -> Result<Self> {
        let root = if at.is_local() { "file:///" } else { &at.url };
        let mut url = Url::parse(root).wrap(Kind::ConfigInvalid, || format!("`{}` is no URL", at.url))?;
        // The log's reader takes the whole path of the URL for the one inside the store: some URLs name the bucket there.
        url.set_path(path.as_ref());
        let inside: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(Arc::clone(&store), path));
        let log = default_logstore(inside, store, &url, &StorageConfig::default());
        Ok(Self { at: at.clone(), directory, log })
    }

    /// The last part of the table's path.
    pub(crate) fn name(&self) -> String {
        self.at.url.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// The files of the table's root.
    pub(crate) fn files(&self) -> Arc<dyn ObjectStore> {
        self.log.object_store(None)
    }

    /// The newest version; `None` where there is no table.
    pub(crate) async fn snapshot(&self) -> Result<Option<EagerSnapshot>> {
        let failed = |e| fault::of(&e, &self.at, "read the table's log");
        if !self.log.is_delta_table_location().await.map_err(failed)? {
            return Ok(None);
        }
        self.at_version(None).await.map(Some)
    }

    /// One version, the newest where none is named.
    pub(crate) async fn at_version(&self, version: Option<u64>) -> Result<EagerSnapshot> {
        let failed = |e| fault::of(&e, &self.at, "read the table's log");
        EagerSnapshot::try_new(self.log.as_ref(), version).await.map_err(failed)
    }
}

/// Whether a location is one that can hold a table: a directory or a prefix of an object store.
pub(crate) fn may_hold(at: &Location) -> bool {
    match local_path(&at.url) {
        Some(directory) => directory.join("_delta_log").is_dir(),
        None => ["s3://", "s3a://", "gs://", "az://", "azure://", "adl://", "abfs://", "abfss://"]
            .iter()
            .any(|s| at.url.starts_with(s)),
    }
}

/// Bytes and rows of all files of a version; rows only where every file tells them.
pub(crate) fn sums(snapshot: &EagerSnapshot) -> (u64, Option<u64>) {
    let (mut bytes, mut rows) = (0, Some(0));
    for file in snapshot.log_data() {
        bytes += u64::try_from(file.size()).unwrap_or(0);
        let deleted = file.deletion_vector_descriptor().map_or(Ok(0), |d| u64::try_from(d.cardinality)).ok();
        let told = file.num_records().zip(deleted).map(|(n, gone)| (n as u64).saturating_sub(gone));
        rows = rows.zip(told).map(|(sum, n)| sum + n);
    }
    (bytes, rows)
}
