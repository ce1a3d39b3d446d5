//! A result in several files: written side by side, each read back, then put in their place as one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt, TryStreamExt, stream};

use super::{Clock, Event, Fingerprint, blocking, ensure_observed, flow, safe};
use crate::Lakeport;
use crate::convert::manifest::{FileSet, Manifest, Part, Split, new_id};
use crate::convert::parts::{Parts, Place};
use crate::convert::{Staging, Written};
use crate::error::{Context, Error, Kind, Result};
use crate::export::store::{commit_on_disk, ensure_free, sweep_set};
use crate::export::{Publish, Target};
use crate::limits::Limits;
use crate::plan::{Destination, Plan};
use crate::report::{FileReport, Report, TableReport};
use crate::source::Table;
use crate::verify::{Verify, together};

/// Memory that one file being written may take: a row group or a stripe, and what feeds it.
const OPEN_FILE: u64 = 128 * 1024 * 1024;

/// A part as it was written, with what went into it.
type Filled = (Part, Option<Fingerprint>);

impl Lakeport {
    /// Carries out a plan whose result is several files.
    pub(super) async fn run_parts(&self, job: &str, plan: Plan, clock: Clock<'_>, report: &mut Report) -> Result<()> {
        let Plan { destination, tables, verify, format, mode, split, from, limits, .. } = plan;
        let gone = || Error::new(Kind::Unexpected, "a plan to split lacks its table");
        let (split, names) = split.ok_or_else(gone)?;
        let planned = tables.into_iter().next().ok_or_else(gone)?;

        clock.begin("convert", report);
        let (directory, _) = destination.in_directory();
        let manifest = match &destination {
            Destination::File(_) => {
                let manifest = Path::new(&directory).join(names.manifest());
                ensure_free(&manifest, mode)?;
                sweep_set(&manifest, &names);
                manifest
            }
            Destination::Target { .. } => {
                let manifest = self.home().join("work").join(format!("{}.parts", safe(job)));
                sweep_set(&manifest, &names);
                manifest
            }
        };
        let staging = Staging::beside(&manifest)?;
        let mapping = Arc::new(planned.mapping);
        let place = Place {
            format: Arc::clone(self.formats.shared(format)?),
            directory: staging.path().to_owned(),
            names,
            id: new_id(),
            mapping,
            verify,
            limits: limits.clone(),
        };
        let (filled, table) = convert(&place, split, planned.table, &limits, &clock).await.at("source", &planned.from)?;
        report.tables.push(table);

        clock.begin("read back", report);
        let (parts, arrived) = {
            let place = place.clone();
            blocking(move || read_back(&place, filled)).await?
        };
        tell(&place, &parts, arrived, report)?;
        report.parts.clone_from(&parts);
        let manifest_of = Manifest::new(&place.id, &from, format, split, &place.mapping, parts);
        let set = FileSet { directory: place.directory.clone(), names: place.names.clone(), manifest: manifest_of };
        report.file = Some(FileReport { format: format.to_owned(), bytes: set.manifest.bytes, path: None });
        match destination {
            Destination::File(_) => {
                // It says what is about to happen for as long as it does, also where the run is given up meanwhile.
                let path = blocking(move || {
                    let path = commit_on_disk(&set, &manifest, mode);
                    drop(staging);
                    path
                })
                .await?;
                if let Some(file) = &mut report.file {
                    file.path = Some(path);
                }
            }
            Destination::Target { environment, target, .. } => {
                clock.begin("export", report);
                let how = Publish { name: directory, mode, ..Publish::default() };
                publish(target.as_ref(), &set, &how, verify, &clock, report).await.at("environment", &environment)?;
            }
        }
        Ok(())
    }
}

/// Writes the parts: partitions side by side, each to its own; else one after the other.
async fn convert(
    place: &Place,
    split: Split,
    table: Table,
    limits: &Limits,
    clock: &Clock<'_>,
) -> Result<(Vec<Filled>, TableReport)> {
    let total = table.snapshot.rows;
    let done = Arc::new(AtomicU64::new(0));
    let mapping = &place.mapping;
    let work = async {
        let streams: Vec<_> = match split {
            Split::Partition => {
                let alone = table.partitions.into_iter().enumerate();
                alone.map(|(number, p)| (number, Some(p.name.clone()), vec![p])).collect()
            }
            Split::Rows(_) | Split::Size(_) => vec![(0, None, table.partitions)],
        };
        let side_by_side = usize::try_from(limits.memory / OPEN_FILE).unwrap_or(1).clamp(1, limits.cores.max(1));
        // What waits between readers and converters is one budget, however many there are.
        let share = Limits { queue: limits.queue / side_by_side as u64, ..limits.clone() };
        let share = &share;
        let done = &done;
        let written = stream::iter(streams).map(|(first, name, partitions)| async move {
            let sink = Parts::new(place.clone(), split, first, name);
            // Each part has a fingerprint of its own; that of the table is put together from them.
            let flow = flow::stream(sink, mapping.as_ref().clone(), partitions, Verify::None, share, Arc::clone(done));
            let (sink, report) = flow.await.during("convert")?;
            Ok::<_, Error>((blocking(move || sink.finish(false)).await?, report))
        });
        written.buffer_unordered(side_by_side).try_collect::<Vec<_>>().await
    };
    tokio::pin!(work);
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(200));
    let written = loop {
        tokio::select! {
            result = &mut work => break result?,
            _ = tick.tick() => (clock.listen)(clock.name, Event::Rows(done.load(Ordering::Relaxed), total)),
        }
    };
    (clock.listen)(clock.name, Event::Rows(done.load(Ordering::Relaxed), total));

    let mut all = TableReport {
        table: mapping.table.clone(),
        rows: 0,
        changed_values: serde_json::Map::new(),
        partitions: Vec::new(),
        left: None,
        arrived: None,
    };
    let mut filled = Vec::new();
    for (parts, report) in written {
        filled.extend(parts);
        all.rows += report.rows;
        all.partitions.extend(report.partitions);
        for (column, n) in report.changed_values {
            let before = all.changed_values.get(&column).and_then(serde_json::Value::as_u64).unwrap_or(0);
            all.changed_values.insert(column, (before + n.as_u64().unwrap_or(0)).into());
        }
    }
    if filled.is_empty() {
        let place = place.clone();
        filled = blocking(move || Parts::new(place, split, 0, None).finish(true)).await?;
    }
    filled.sort_by(|(a, _), (b, _)| a.name.len().cmp(&b.name.len()).then_with(|| a.name.cmp(&b.name)));
    all.partitions.sort_by(|a, b| a.name.len().cmp(&b.name.len()).then_with(|| a.name.cmp(&b.name)));
    let left: Option<Vec<_>> = filled.iter().map(|(_, left)| left.clone()).collect();
    all.left = left.map(|left| together(mapping, left));
    Ok((filled, all))
}

/// Reads every part back and compares it with what went into it.
fn read_back(place: &Place, filled: Vec<Filled>) -> Result<(Vec<Part>, Vec<Fingerprint>)> {
    let mut arrived = Vec::new();
    let mut parts = Vec::new();
    for (mut part, left) in filled {
        if let Some(left) = left {
            let path = place.directory.join(&part.name);
            let one = place.format.read_back(&path, &[&place.mapping], place.verify, &place.limits).at("part", &part.name)?;
            let there = one.into_iter().next().unwrap_or_default();
            left.ensure_same(&there, &place.mapping.table).at("part", &part.name)?;
            arrived.push(there.clone());
            part.fingerprint = Some(there);
        }
        parts.push(part);
    }
    Ok((parts, arrived))
}

/// Compares the whole with what left the source, and says what was verified.
fn tell(place: &Place, parts: &[Part], arrived: Vec<Fingerprint>, report: &mut Report) -> Result<()> {
    let (files, columns) = (parts.len(), place.mapping.columns.len());
    report.verified.push(match place.verify {
        Verify::None => "nothing was verified, as asked".into(),
        Verify::Counts => format!("rows of each of {files} file(s) read back"),
        Verify::Fingerprint => {
            format!("rows, and NULLs, least, greatest and sum of {columns} columns read back from each of {files} file(s)")
        }
        Verify::Full => format!("every value of {columns} columns read back from each of {files} file(s) and hashed"),
    });
    if let Some(table) = report.tables.last_mut().filter(|_| !arrived.is_empty()) {
        let arrived = together(&place.mapping, arrived);
        let same = table.left.as_ref().map(|left| left.ensure_same(&arrived, &table.table));
        table.arrived = Some(arrived);
        same.transpose()?;
    }
    Ok(())
}

async fn publish(
    target: &dyn Target,
    set: &FileSet,
    how: &Publish,
    verify: Verify,
    clock: &Clock<'_>,
    report: &mut Report,
) -> Result<()> {
    let (listen, name) = (clock.listen, clock.name);
    let progress = move |done: u64, total: u64| listen(name, Event::Uploaded(done, total));
    let receipt = target.publish_set(set, how, &progress).await.during("publish")?;
    report.receipt = Some(receipt.clone());
    if verify > Verify::None {
        clock.begin("observe", report);
        let observed = target.observe_set(set, &receipt).await.during("look at the target")?;
        let written = Written {
            path: PathBuf::new(),
            bytes: set.manifest.bytes,
            format: set.manifest.format.clone(),
            rows: vec![set.manifest.rows],
        };
        ensure_observed(&written, &observed, how.mode, report)?;
        report.observed = Some(observed);
    }
    Ok(())
}
