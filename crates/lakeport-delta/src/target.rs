//! Delta tables below a root as a target: a finished file put into the table, and one commit.

use std::path::Path as FilePath;

use async_trait::async_trait;
use deltalake_core::DeltaTable;
use deltalake_core::checkpoints::{cleanup_metadata, create_checkpoint};
use deltalake_core::kernel::{Add, EagerSnapshot, StructType};
use deltalake_core::table::config::TablePropertiesExt;
use lakeport::convert::Written;
use lakeport::error::{Context, Error, Kind, Result, Wrap};
use lakeport::export::store::Store;
use lakeport::export::{Capability, Health, Mode, Observed, Progress, Publish, Receipt, Stage, Target};
use lakeport::source::{Listed, Location};
use lakeport::types::Mapping;
use lakeport::types::delta::holds_wall_clocks;
use serde_json::Value;
use uuid::Uuid;

use crate::commit::{self, Landed, Order};
use crate::footer::Footer;
use crate::place::{self, Place};
use crate::{fault, schema, sweep};

/// The format's name.
pub(crate) const FORMAT: &str = "delta";

/// What this target can do.
pub(crate) const CAPABILITY: Capability = Capability {
    name: FORMAT,
    formats: &[FORMAT],
    modes: &[Mode::Full, Mode::Create, Mode::Append],
    observes: true,
    summary: "a Delta table in a store, at a path or URL, with --format delta: a file and one commit, retried when others come first",
};

/// The Delta tables below a root.
#[derive(Debug, Clone)]
pub(crate) struct DeltaTarget {
    root: Location,
}

impl DeltaTarget {
    /// Makes a target; reaches nothing yet.
    pub(crate) fn new(root: Location) -> Self {
        Self { root }
    }

    fn place(&self, name: &str) -> Result<Place> {
        Place::open(&self.root.join(name)).at("table", name)
    }
}

#[async_trait]
impl Target for DeltaTarget {
    fn capability(&self) -> Capability {
        CAPABILITY
    }

    async fn check(&self) -> Result<Health> {
        Store::new(self.root.clone()).check().await
    }

    async fn list(&self, path: &str) -> Result<Vec<Listed>> {
        Store::new(self.root.clone()).list(path).await
    }

    async fn foresee(&self, how: &Publish, tables: &[&Mapping]) -> Result<()> {
        let place = self.place(&how.name)?;
        let Some(mapping) = tables.first() else { return Ok(()) };
        let columns = schema::of_mapping(mapping)?;
        let wall_clocks = mapping.columns.iter().any(|c| holds_wall_clocks(&c.physical));
        let order = Order { mode: how.mode, schema: &columns, wall_clocks, add: None, rows: 0, id: "" };
        ensure_possible(&place, &order).await.at("table", &how.name).map(drop)
    }

    async fn publish(&self, file: &Written, how: &Publish, progress: Progress<'_>) -> Result<Receipt> {
        self.publish_file(file, how, progress).await.at("table", &how.name)
    }

    async fn observe(&self, receipt: &Receipt) -> Result<Observed> {
        let place = self.place(&receipt.name)?;
        let version = receipt.id.rsplit_once("@v").and_then(|(_, v)| v.parse().ok());
        let Some(version) = version else {
            return Err(Error::new(Kind::VerifyFailed, "the receipt names no version of the table"));
        };
        let snapshot = place.at_version(Some(version)).await?;
        let (bytes, rows) = place::sums(&snapshot);
        let added = added(&place, version).await?;
        if added.iter().map(|(bytes, _)| bytes).sum::<u64>() != receipt.bytes {
            let e = Error::new(Kind::VerifyFailed, format!("version {version} of the table adds another file than was sent"));
            return Err(e.because(format!("sent: {} bytes; the log: {added:?} (bytes, rows)", receipt.bytes)));
        }
        let mut unknown = Vec::new();
        if receipt.mode == Mode::Append {
            let rows: u64 = added.iter().map(|(_, rows)| rows).sum();
            unknown.push(format!("the rows that were there before; version {version} adds {rows} to them"));
        }
        Ok(Observed {
            // An empty table has no file, and so nothing whose size could be compared.
            bytes: (bytes > 0).then_some(bytes),
            rows: rows.map(|n| vec![n]),
            updated_at: None,
            unknown,
        })
    }
}

impl DeltaTarget {
    async fn publish_file(&self, file: &Written, how: &Publish, progress: Progress<'_>) -> Result<Receipt> {
        let place = self.place(&how.name)?;
        let path = file.path.clone();
        let footer = tokio::task::spawn_blocking(move || Footer::read(&path)).await;
        let footer = footer.wrap(Kind::Unexpected, || "reading the finished file was stopped".into())??;
        let columns = schema::of_arrow(&footer.schema)?;
        let wall_clocks = footer.schema.fields().iter().any(|f| holds_wall_clocks(f.data_type()));
        let mut receipt = Receipt {
            name: how.name.clone(),
            url: Some(url_of(&place)),
            mode: how.mode,
            server: Some(place.at.url.clone()),
            content: how.content.clone(),
            upload: Some(Uuid::now_v7().to_string()),
            ..Receipt::default()
        };
        if let Some(landed) = left_over(&place, how, &mut receipt).await? {
            receipt.bytes = added(&place, landed).await?.iter().map(|(bytes, _)| bytes).sum();
            let landed = Landed { version: landed, ..Landed::default() };
            receipt
                .retries
                .push(format!("publish: a former run had committed version {}, nothing was sent again", landed.version));
            return finished(receipt, &place, how, landed, None);
        }
        let id = receipt.upload.clone().unwrap_or_default();
        let mut order = Order { mode: how.mode, schema: &columns, wall_clocks, add: None, rows: footer.rows, id: &id };
        let before = ensure_possible(&place, &order).await?;
        ensure_no_nulls(before.as_ref(), &columns, &footer, how.mode)?;

        let add = if footer.rows == 0 { None } else { Some(put(&place, file, &footer, progress).await?) };
        order.add = add.as_ref();
        receipt.bytes = add.as_ref().map_or(0, |a| u64::try_from(a.size).unwrap_or(0));
        receipt.stage = Stage::Committed;
        receipt.updated_before = before.as_ref().map(|s| s.version().to_string());
        if let Some(path) = &how.receipt_path {
            receipt.save(path)?;
        }
        let landed = match commit::commit(&place, &order).await {
            Ok(landed) => landed,
            Err(e) => {
                // Only where the commit is known not to be there is its file nobody's.
                if e.kind() != Kind::JobUnfinished {
                    take_away(&place, add.as_ref(), how).await;
                }
                return Err(e);
            }
        };
        settle(&place, landed.version).await?;
        receipt.retries.extend(landed.retries.iter().cloned());
        if let Err(e) = tend(&place, landed.version, &mut receipt).await {
            // The rows are there; what was left undone is done by a later commit.
            receipt.notes.push(format!("the table's log was not tended: {}", e.message()));
        }
        finished(receipt, &place, how, landed, add.as_ref())
    }
}

/// What there is to say and to keep of a publish that landed.
fn finished(mut receipt: Receipt, place: &Place, how: &Publish, landed: Landed, add: Option<&Add>) -> Result<Receipt> {
    receipt.id = format!("{}@v{}", place.at.url, landed.version);
    receipt.stage = Stage::Published;
    let file = if add.is_some() || receipt.bytes > 0 { "1 file" } else { "no file" };
    receipt.way = match landed.removed {
        0 => format!("version {}: {file} added", landed.version),
        n => format!("version {}: {file} added, {n} removed", landed.version),
    };
    if let Some(path) = &how.receipt_path {
        receipt.save(path)?;
    }
    Ok(receipt)
}

/// Refuses what could not be committed now; returns the version that is there.
async fn ensure_possible(place: &Place, order: &Order<'_>) -> Result<Option<EagerSnapshot>> {
    if !matches!(order.mode, Mode::Full | Mode::Create | Mode::Append) {
        return Err(Error::new(Kind::Unsupported, format!("a Delta table is not written in mode {}", order.mode.name()))
            .help("use --mode full, create or append"));
    }
    if place.directory.as_ref().is_some_and(|d| d.is_file()) {
        return Err(Error::new(Kind::TargetExists, format!("{} is a file", place.at.url)).help("name a directory"));
    }
    let there = place.snapshot().await?;
    commit::actions(there.as_ref(), order)?;
    if there.is_none() {
        ensure_free(place).await?;
    }
    Ok(there)
}

/// A table is not begun where other files are: it would hide them.
async fn ensure_free(place: &Place) -> Result<()> {
    let taken = |what: String| {
        let message = format!("{} is no Delta table and holds {what}", place.at.url);
        Err(Error::new(Kind::TargetExists, message).help("name a directory that is empty or not there").during("publish"))
    };
    let files = place.files();
    let found = files.list_with_delimiter(None).await.map_err(|e| fault::foreign(&e, &place.at, "publish"))?;
    let foreign = |name: &str| !name.starts_with(['.', '_']) && !sweep::is_ours(name);
    let names = found.objects.iter().map(|o| &o.location).chain(&found.common_prefixes).filter_map(|p| p.filename());
    match names.into_iter().find(|n| foreign(n)) {
        Some(name) => taken(format!("`{name}`")),
        None => Ok(()),
    }
}

/// Refuses NULLs where the table takes none.
fn ensure_no_nulls(there: Option<&EagerSnapshot>, columns: &StructType, footer: &Footer, mode: Mode) -> Result<()> {
    let (Some(there), Mode::Append) = (there, mode) else { return Ok(()) };
    for name in schema::ensure_fits(&there.schema(), columns)? {
        let found = footer.nulls.get(&name).copied();
        if found != Some(0) && footer.rows > 0 {
            let count = found.map_or_else(|| "may hold NULL".to_owned(), |n| format!("holds {n} NULLs"));
            let e = Error::new(Kind::ValueRefused, format!("column `{name}` of the table takes no NULL")).because(count);
            return Err(e.at("column", name).help("leave those rows out with --where, or replace the table with --mode full"));
        }
    }
    Ok(())
}

/// Puts the file into the table's directory, where nobody sees it yet.
async fn put(place: &Place, file: &Written, footer: &Footer, progress: Progress<'_>) -> Result<Add> {
    let name = sweep::new_name();
    let bytes = match &place.directory {
        Some(directory) => match linked(&file.path, &directory.join(&name)) {
            Some(bytes) => {
                progress(bytes, bytes);
                bytes
            }
            None => sent(place, file, &name, progress).await?,
        },
        None => sent(place, file, &name, progress).await?,
    };
    Ok(Add {
        path: name,
        size: i64::try_from(bytes).wrap(Kind::Unsupported, || "the file is too large for a table's log".into())?,
        modification_time: chrono::Utc::now().timestamp_millis(),
        data_change: true,
        stats: Some(footer.statistics.clone()),
        ..Add::default()
    })
}

/// The finished file under a second name, where both are on one file system; the first is removed by who made it.
fn linked(from: &FilePath, to: &FilePath) -> Option<u64> {
    let directory = to.parent()?;
    std::fs::create_dir_all(directory).ok()?;
    std::fs::hard_link(from, to).ok()?;
    std::fs::File::open(directory).and_then(|d| d.sync_all()).ok();
    std::fs::metadata(to).ok().map(|m| m.len())
}

async fn sent(place: &Place, file: &Written, name: &str, progress: Progress<'_>) -> Result<u64> {
    let how = Publish { name: name.to_owned(), mode: Mode::Full, ..Publish::default() };
    Store::new(place.at.clone()).publish(file, &how, progress).await.map(|r| r.bytes)
}

/// What a former run of the same rows to the same table had committed before it was cut off.
async fn left_over(place: &Place, how: &Publish, receipt: &mut Receipt) -> Result<Option<u64>> {
    let Some(path) = &how.receipt_path else { return Ok(None) };
    let found = match Receipt::load(path) {
        Ok(Some(found)) if found.stage == Stage::Committed => found,
        // Of a run that failed after its publish: appended again, its rows would be there twice.
        Ok(Some(found)) if found.stage == Stage::Published && how.mode == Mode::Append => found,
        Ok(_) => return Ok(None),
        Err(e) => {
            receipt.notes.push(format!("a receipt that cannot be read is ignored: {}", e.message()));
            return Ok(None);
        }
    };
    let (Some(id), true) = (found.upload.clone(), receipt.repeats(&found)) else { return Ok(None) };
    let before = found.updated_before.as_deref().and_then(|v| v.parse().ok());
    let landed = commit::find(place, &id, before).await?;
    // Should the other still be at it, only one of two commits of one id is made.
    receipt.upload = Some(id);
    Ok(landed)
}

/// Removes the file of a commit that was not made; one that stays is swept by a later run.
async fn take_away(place: &Place, add: Option<&Add>, how: &Publish) {
    use object_store::ObjectStoreExt;
    if let Some(add) = add
        && let Err(e) = place.files().delete(&object_store::path::Path::from(add.path.as_str())).await
    {
        tracing::warn!("the data file {} could not be removed: {e}", add.path);
    }
    if let Some(path) = &how.receipt_path {
        let _ = std::fs::remove_file(path);
    }
}

/// Makes a commit outlive a power cut, where that is ours to do.
async fn settle(place: &Place, version: u64) -> Result<()> {
    let Some(directory) = place.directory.clone() else { return Ok(()) };
    let synced = tokio::task::spawn_blocking(move || {
        let log = directory.join("_delta_log");
        let sync = |path: &FilePath| std::fs::File::open(path).and_then(|f| f.sync_all());
        sync(&log.join(format!("{version:020}.json"))).and_then(|()| sync(&log)).and_then(|()| sync(&directory))
    });
    let synced = synced.await.wrap(Kind::Unexpected, || "syncing the log was stopped".into())?;
    synced.wrap(Kind::WriteFailed, || "the table's log cannot be synced".into())
}

/// What keeps a table quick and clean: a checkpoint now and then, and no leftovers of the dead.
async fn tend(place: &Place, version: u64, receipt: &mut Receipt) -> Result<()> {
    let failed = |e| fault::of(&e, &place.at, "tend the log");
    let snapshot = place.at_version(Some(version)).await?;
    let swept = sweep::sweep(place, &snapshot).await?;
    if swept > 0 {
        receipt.notes.push(format!("{swept} data files that killed runs had left were removed"));
    }
    let properties = snapshot.table_properties();
    if (version + 1).is_multiple_of(properties.checkpoint_interval().get()) {
        let mut table = DeltaTable::new(place.log.clone());
        table.load_version(version).await.map_err(failed)?;
        create_checkpoint(&table, None).await.map_err(failed)?;
        if properties.enable_expired_log_cleanup() {
            cleanup_metadata(&table, None).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// Bytes and rows of each file that a version's commit adds.
async fn added(place: &Place, version: u64) -> Result<Vec<(u64, u64)>> {
    let failed = |e| fault::of(&e, &place.at, "read a commit");
    let Some(entry) = place.log.read_commit_entry(version).await.map_err(failed)? else {
        return Err(Error::new(Kind::VerifyFailed, format!("version {version} is not in the table's log")));
    };
    let rows = |stats: &Value| stats.as_str().and_then(|s| serde_json::from_str::<Value>(s).ok())?["numRecords"].as_u64();
    let adds = commit::actions_of(&entry).filter(|a| a["add"].is_object());
    Ok(adds.map(|a| (a["add"]["size"].as_u64().unwrap_or(0), rows(&a["add"]["stats"]).unwrap_or(0))).collect())
}

fn url_of(place: &Place) -> String {
    place.directory.as_ref().map_or_else(|| place.at.url.clone(), |d| format!("file://{}", d.display()))
}
