//! The direct route: the format's own engine loads group after group, and another reader measures what it should have loaded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use super::blocking;
use crate::convert::{Format, Measuring, Writer};
use crate::error::{Error, Kind, Result, Wrap};
use crate::report::{PartitionReport, TableReport};
use crate::source::{PlainScan, measure};
use crate::types::Mapping;
use crate::verify::{Fingerprint, Verify};

/// Loads a plain read; what left the source is in the report, or is still being measured, for which the files have to stay.
///
/// With `unseen`, the format chose this route before the files were there: where nothing is going to be measured, it is asked
/// again, and what their footers do not prove is looked at value by value.
pub(super) async fn load(
    mut writer: Box<dyn Writer>,
    index: usize,
    mapping: Mapping,
    scan: PlainScan,
    verify: Verify,
    unseen: Option<Arc<dyn Format>>,
) -> Result<(Box<dyn Writer>, TableReport, Option<Left>)> {
    blocking(move || {
        let (told, measuring) = match verify {
            Verify::None => (None, None),
            // The files' own footers tell how many rows there are, unless a condition leaves some out.
            Verify::Counts if scan.filter.is_none() => (Some(Fingerprint { rows: scan.rows, columns: Vec::new() }), None),
            _ => (None, Some(Left::measure(writer.as_ref(), index, &mapping, &scan, verify)?)),
        };
        if measuring.is_none() && unseen.is_some_and(|format| format.direct(&mapping, &scan).is_err()) {
            Left::measure(writer.as_ref(), index, &mapping, &scan, Verify::Fingerprint)?.known()?;
        }
        let mut partitions = Vec::new();
        for (number, group) in scan.groups.iter().enumerate() {
            let began = Instant::now();
            let rows = writer.load(index, &scan, number)?;
            let bytes = group.files.iter().filter_map(|f| std::fs::metadata(f).ok()).map(|m| m.len()).sum();
            partitions.push(PartitionReport { name: group.name.clone(), rows, bytes, seconds: began.elapsed().as_secs_f64() });
        }
        let rows = partitions.iter().map(|p| p.rows).sum();
        if scan.filter.is_none() && rows != scan.rows {
            return Err(Error::new(Kind::SourceUnreadable, "the files do not hold what is said of them")
                .because(format!("{} rows were counted when they were written, {rows} were read", scan.rows)));
        }
        let changed_values = serde_json::Map::new();
        let table = TableReport { table: mapping.table, rows, changed_values, partitions, left: told, arrived: None };
        Ok((writer, table, measuring))
    })
    .await
}

/// What left the source, measured beside the loading, the completing and the reading back; given up when dropped.
pub(super) struct Left {
    thread: Option<JoinHandle<Result<Fingerprint>>>,
    stop: Arc<AtomicBool>,
}

impl Left {
    fn measure(writer: &dyn Writer, index: usize, mapping: &Mapping, scan: &PlainScan, verify: Verify) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let work: Measuring = if scan.filter.is_none() {
            let (scan, mapping, stop) = (scan.clone(), mapping.clone(), Arc::clone(&stop));
            Box::new(move || measure(&scan, &mapping, verify, &stop))
        } else {
            // Which rows fulfil a condition is for the engine to say.
            writer.measure_source(index, scan, verify)?
        };
        let thread = std::thread::Builder::new().name("measure the source".into()).spawn(work);
        let thread = thread.wrap(Kind::Unexpected, || "cannot start a thread".into())?;
        Ok(Self { thread: Some(thread), stop })
    }

    /// Waits for it.
    ///
    /// # Errors
    /// `SourceUnreadable`, `VerifyFailed`.
    pub(super) fn known(mut self) -> Result<Fingerprint> {
        let panicked = || Error::new(Kind::Unexpected, "the thread measuring the source panicked");
        self.thread.take().ok_or_else(panicked)?.join().unwrap_or_else(|_| Err(panicked()))
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
