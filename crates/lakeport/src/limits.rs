//! Every bound in one place: what may wait, grow or take time, with its default.

use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Kind, Result};

const MIB: u64 = 1024 * 1024;
/// A COPY of less is mostly its beginning and end.
const LEAST_COPY: u64 = MIB;

/// The bounds of one run; all sizes in bytes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory the engine's sorts, joins and aggregates may hold before they spill (`--memory`).
    pub memory: u64,
    /// Bytes of record batches waiting between the engine and the converter.
    pub queue: u64,
    /// Rows the engine puts into one record batch.
    pub batch_rows: usize,
    /// Bytes of Arrow IPC after which a COPY into hyperd ends and the next begins.
    ///
    /// Measured: hyperd keeps a whole COPY in memory (3.8 GB for 24 M rows of TPC-H lineitem in one).
    pub copy: u64,
    /// hyperd's `memory_limit`: half of the machine's memory.
    ///
    /// hyperd counts the mapped pages of the files it reads and writes, and goes on with one core where they come near the
    /// limit; what it allocates itself is bounded by `copy` and by its own loader. Measured for 72 M rows of TPC-H lineitem,
    /// loaded directly: 44 s and 274 MiB of its own without a limit, 72 s and 278 MiB with one of 2 GiB.
    pub hyperd_memory: u64,
    /// Processor cores to use.
    pub cores: usize,
    /// Partitions of a plain read that are open at a time; each holds a row group of its file.
    pub readers: usize,
    /// Bytes a file in an archive may unpack to, whatever the archive's own size.
    pub unpacked: u64,
    /// Bytes read from disk at a time while a file is uploaded.
    pub upload_buffer: usize,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long a server may stay silent within one call.
    pub read_timeout: Duration,
    /// How long a whole call may take.
    pub call_timeout: Duration,
    /// How long a server-side job is awaited.
    pub job_deadline: Duration,
    /// Jobs that run side by side under these bounds (`--jobs`).
    pub jobs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 1024 * MIB,
            queue: 8 * MIB,
            batch_rows: 8192,
            copy: 64 * MIB,
            hyperd_memory: (machine_memory() / 2).max(1024 * MIB),
            cores: cores(),
            readers: cores(),
            unpacked: 1024 * MIB,
            upload_buffer: 1024 * 1024,
            connect_timeout: Duration::from_secs(15),
            read_timeout: Duration::from_secs(120),
            call_timeout: Duration::from_secs(1800),
            job_deadline: Duration::from_secs(3600),
            jobs: 1,
        }
    }
}

impl Limits {
    /// The bounds of one job among those that run side by side, so that together they hold what one alone may hold.
    ///
    /// hyperd is one process for all of them and keeps its own limit; what each may pile up in it is divided.
    #[must_use]
    pub fn of_one_job(&self) -> Self {
        let jobs = u64::try_from(self.jobs.max(1)).unwrap_or(u64::MAX);
        Self { memory: self.memory / jobs, queue: self.queue / jobs, copy: (self.copy / jobs).max(LEAST_COPY), ..self.clone() }
    }

    /// The sizes among them, for plans and reports.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes { memory: self.memory, queue: self.queue, copy: self.copy, hyperd: self.hyperd_memory, jobs: self.jobs }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The memory of this machine, or of the control group that this process is confined to where that is less.
fn machine_memory() -> u64 {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/meminfo");
    let installed = info.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let confined = read("/sys/fs/cgroup/memory.max").trim().parse().ok();
    installed.map_or(0, |kib| kib * 1024).min(confined.unwrap_or(u64::MAX))
}

/// What one job may hold, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// In the engine's sorts, joins and aggregates.
    pub memory: u64,
    /// In batches waiting for the converter.
    pub queue: u64,
    /// In one COPY into hyperd.
    pub copy: u64,
    /// In hyperd, for all jobs together.
    pub hyperd: u64,
    /// Jobs side by side, among which the engine's memory, the queue and the COPYs were divided.
    pub jobs: usize,
}

/// Reads a size such as `512MiB`, `1GiB`, `64MB` or `1048576`.
///
/// # Errors
/// [`Kind::Usage`] when the text is no size.
pub fn parse_size(text: &str) -> Result<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(not_a_size(text)),
    };
    // Whole part and fraction apart, so that no size goes through floating point.
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 6 {
        return Err(not_a_size(text));
    }
    let whole: u64 = whole.parse().map_err(|_| not_a_size(text))?;
    let part: u64 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| not_a_size(text))? };
    let scale = 10u64.pow(u32::try_from(fraction.len()).unwrap_or(0));
    whole
        .checked_mul(factor)
        .and_then(|bytes| bytes.checked_add(u64::try_from(u128::from(part) * u128::from(factor) / u128::from(scale)).ok()?))
        .ok_or_else(|| not_a_size(text))
}

fn not_a_size(text: &str) -> Error {
    Error::new(Kind::Usage, format!("`{text}` is not a size")).help("write a number with a unit, such as 512MiB or 1GiB")
}

/// Prints a size for people: `1.5 GiB`.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scale = 1u64;
    while unit + 1 < UNITS.len() && bytes / scale >= 1024 {
        scale *= 1024;
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    let tenths = u128::from(bytes) * 10 / u128::from(scale);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_side_by_side_share_what_one_has_alone() {
        let alone = Limits::default();
        let each = Limits { jobs: 4, ..Limits::default() }.of_one_job();
        assert_eq!([each.memory, each.queue, each.copy].map(|n| n * 4), [alone.memory, alone.queue, alone.copy]);
        assert_eq!((each.hyperd_memory, each.jobs), (alone.hyperd_memory, 4));
        assert_eq!(alone.of_one_job().sizes(), alone.sizes());
    }

    #[test]
    fn sizes_are_read_and_shown() {
        assert_eq!(parse_size("1GiB").unwrap(), 1 << 30);
        assert_eq!(parse_size("1.5 GiB").unwrap(), 3 << 29);
        assert_eq!(parse_size("64MB").unwrap(), 64_000_000);
        assert_eq!(parse_size("17").unwrap(), 17);
        assert!(parse_size("lots").is_err());
        assert!(parse_size("-1").is_err());
        assert!(parse_size("99999999999TiB").is_err());
        assert_eq!(show_size(3 << 29), "1.5 GiB");
        assert_eq!(show_size(999), "999 B");
    }
}
