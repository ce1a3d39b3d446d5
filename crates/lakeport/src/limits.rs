//! Every bound in one place: what may wait, grow or take time, with its default.

use std::time::Duration;

use crate::error::{Error, Kind, Result};

const MIB: u64 = 1024 * 1024;

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
    /// What hyperd may allocate before it refuses (`memory_limit`).
    pub hyperd_memory: u64,
    /// Processor cores to use.
    pub cores: usize,
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 1024 * MIB,
            queue: 32 * MIB,
            batch_rows: 8192,
            copy: 64 * MIB,
            hyperd_memory: 1024 * MIB,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            upload_buffer: 1024 * 1024,
            connect_timeout: Duration::from_secs(15),
            read_timeout: Duration::from_secs(120),
            call_timeout: Duration::from_secs(1800),
            job_deadline: Duration::from_secs(3600),
        }
    }
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
