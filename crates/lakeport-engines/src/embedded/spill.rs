//! The directory a query spills to: made when the first file is asked for, removed with the query or by the next run.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::{DiskManager, SpillFile, TempFileFactory};
use lakeport::convert::{scratch, sweep_scratch};
use tempfile::TempDir;

/// What the directory is called, beside the process it belongs to.
const PURPOSE: &str = "lakeport-spill";

/// Spill files below `TMPDIR`, in a directory that tells whose it is: DataFusion's own would outlive a `kill -9` for good.
pub(super) struct Spill(Mutex<Option<(Arc<DiskManager>, TempDir)>>);

impl Spill {
    /// Makes it, and removes what dead processes left.
    pub(super) fn new() -> Self {
        sweep_scratch(&std::env::temp_dir(), PURPOSE);
        Self(Mutex::default())
    }
}

impl fmt::Debug for Spill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spill").finish_non_exhaustive()
    }
}

impl TempFileFactory for Spill {
    fn create_temp_file(&self, description: &str) -> Result<Arc<dyn SpillFile>> {
        // Set as a whole or not at all, so that a panic leaves nothing half made.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (disk, _) = match &mut *made {
            Some(made) => made,
            none => none.insert(make()?),
        };
        disk.create_tmp_file(description)
    }
}

fn make() -> Result<(Arc<DiskManager>, TempDir)> {
    let directory = scratch(&std::env::temp_dir(), PURPOSE).map_err(|e| DataFusionError::External(Box::new(e)))?;
    // The disk is the only bound.
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![directory.path().to_owned()]))
        .with_max_temp_directory_size(u64::MAX)
        .build()?;
    Ok((Arc::new(disk), directory))
}
