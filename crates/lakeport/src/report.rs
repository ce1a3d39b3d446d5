//! What a run did: `run.json`, and what `lakeport report` prints.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use crate::convert::manifest::Part;
use crate::error::{Error, Kind, Result, Wrap};
use crate::export::{Observed, Receipt};
use crate::plan::PlanSummary;
use crate::verify::Fingerprint;

/// The version of `run.json` and of every `--json` document.
pub const SCHEMA: u32 = 1;

/// Everything a run did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The version of this document.
    pub schema: u32,
    /// Whether the run succeeded.
    pub ok: bool,
    /// The job's name, or `from → to` of an ad-hoc run.
    pub job: String,
    /// The run's id; its directory under `.lakeport/runs`.
    pub id: String,
    /// Lakeport's version.
    pub lakeport: &'static str,
    /// When it began, in UTC.
    pub started: chrono::DateTime<chrono::Utc>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The exit code.
    pub exit_code: u8,
    /// What failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// What was planned; absent when planning failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanSummary>,
    /// What happened to each table.
    pub tables: Vec<TableReport>,
    /// The files of a result in several, if it came that far.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// The finished file, or the manifest of several with the size of all, if it came that far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileReport>,
    /// What the publish left behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// What the target told afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// What was verified, in words.
    pub verified: Vec<String>,
    /// Seconds of each phase, in order.
    pub phases: Vec<Phase>,
    /// Peak memory in bytes.
    pub peak_memory: PeakMemory,
    /// The phase under way, and when it began.
    #[serde(skip)]
    pub open: Option<(&'static str, Instant)>,
}

impl Report {
    /// Begins a phase, which ends the one before.
    pub fn begin(&mut self, phase: &'static str) {
        self.end();
        self.open = Some((phase, Instant::now()));
    }

    /// Ends the phase under way.
    pub fn end(&mut self) {
        if let Some((name, began)) = self.open.take() {
            self.phases.push(Phase { name, seconds: began.elapsed().as_secs_f64() });
        }
    }
}

/// One phase of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// `open`, `convert`, `read back`, `export`, `observe`.
    pub name: &'static str,
    /// How long it took.
    pub seconds: f64,
}

/// Peak memory in bytes, 0 where the system does not tell.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct PeakMemory {
    /// Of Lakeport itself: the most that was resident in the process, up to the end of this run.
    pub lakeport: u64,
    /// Of hyperd: the most it held itself while this run lasted, looked at every 20 ms, mapped files not counted. It is one
    /// process for all jobs and keeps most of what it once took.
    pub hyperd: u64,
    /// What hyperd held when this run began to use it: 0 for the first, what former jobs left for others.
    pub hyperd_before: u64,
}

/// The finished file.
#[derive(Debug, Clone, Serialize)]
pub struct FileReport {
    /// Its format.
    pub format: String,
    /// Its size.
    pub bytes: u64,
    /// Where it lies, when it is the result itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

/// What happened to one table.
#[derive(Debug, Clone, Serialize)]
pub struct TableReport {
    /// Its name in the file.
    pub table: String,
    /// Rows written.
    pub rows: u64,
    /// Values changed with consent, per column.
    pub changed_values: serde_json::Map<String, Value>,
    /// Each partition's rows, bytes and time.
    pub partitions: Vec<PartitionReport>,
    /// What left the source.
    pub left: Option<Fingerprint>,
    /// What the finished file answered.
    pub arrived: Option<Fingerprint>,
}

/// What came of one partition.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionReport {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Bytes of its record batches, or of its files on the direct route.
    pub bytes: u64,
    /// From its first to its last batch.
    pub seconds: f64,
}

impl Report {
    /// Rows of all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|t| t.rows).sum()
    }

    /// Values changed with consent, in all.
    #[must_use]
    pub fn changed_values(&self) -> u64 {
        self.tables.iter().flat_map(|t| t.changed_values.values()).filter_map(Value::as_u64).sum()
    }

    /// Writes `run.json` under `home/runs/<id>`.
    ///
    /// # Errors
    /// `WriteFailed`.
    pub fn save(&self, home: &Path) -> Result<PathBuf> {
        let directory = home.join("runs").join(&self.id);
        std::fs::create_dir_all(&directory).wrap(Kind::WriteFailed, || format!("cannot create {}", directory.display()))?;
        let path = directory.join("run.json");
        let text = serde_json::to_string_pretty(self).wrap(Kind::Unexpected, || "a report cannot be written as JSON".into())?;
        let temporary = directory.join(".run.json.tmp");
        std::fs::write(&temporary, text + "\n")
            .and_then(|()| std::fs::rename(&temporary, &path))
            .wrap(Kind::WriteFailed, || format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// An error as the JSON every `--json` answer and `run.json` carries.
#[must_use]
pub fn error_json(e: &Error) -> Value {
    json!({
        "code": e.code(),
        "message": e.message(),
        "operation": e.operation(),
        "context": e.context().iter().map(|(k, v)| json!([k, v])).collect::<Vec<_>>(),
        "causes": e.causes(),
        "help": e.help_line(),
    })
}

/// Reads a past run: by id, by the beginning of an id, or the last one.
///
/// # Errors
/// `SourceMissing` when there is none.
pub fn load(home: &Path, id: Option<&str>) -> Result<Value> {
    let runs = home.join("runs");
    let mut ids: Vec<_> = std::fs::read_dir(&runs)
        .map(|entries| {
            entries
                .flatten()
                .filter(|e| e.path().join("run.json").is_file())
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default();
    ids.sort();
    let found = match id {
        None => ids.last(),
        Some(wanted) => ids.iter().rev().find(|i| i.starts_with(wanted)),
    };
    let found = found.ok_or_else(|| {
        let what = id.map_or_else(|| "there is no run yet".to_owned(), |id| format!("there is no run `{id}`"));
        Error::new(Kind::SourceMissing, what)
            .at("directory", runs.display())
            .help("`lakeport run` leaves one; ids stand in its last line")
    })?;
    let path = runs.join(found).join("run.json");
    let text = std::fs::read_to_string(&path).wrap(Kind::SourceUnreadable, || format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).wrap(Kind::SourceUnreadable, || format!("{} is damaged", path.display()))
}

/// The most memory this process had resident (`VmHWM`), in bytes; 0 where the system does not tell.
#[must_use]
pub fn own_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().map_or(0, |kib| kib * 1024)
}
