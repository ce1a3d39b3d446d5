//! A result in several files: what the parts are called, and the manifest that makes them one.
//!
//! A part's name carries the run that wrote it, so that the parts of the next run stand beside those of the last until the
//! manifest, one file, is exchanged. Whoever reads by the manifest sees the old set or the new one, never a mixture. Names that
//! begin with `_` are left out by Spark, Hive, Trino and pyarrow when they read a directory.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Capability;
use crate::error::{Error, Kind, Result, Wrap};
use crate::limits::{parse_size, show_size};
use crate::types::Mapping;
use crate::types::files::Facts;
use crate::verify::Fingerprint;

/// The version of the manifest.
const VERSION: u32 = 1;
/// Digits of a part's number.
const DIGITS: usize = 5;
/// Hexadecimal digits that tell the parts of one run from those of another.
const ID: usize = 12;

/// When a file ends and the next begins (`--split`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Split {
    /// One file for each partition of the source; one without rows makes no file.
    Partition,
    /// At most so many rows a file.
    Rows(u64),
    /// A file ends once it has grown to so many bytes.
    Size(u64),
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(Kind::Usage, format!("`{text}` does not say how to split"))
                .help("write partition, rows=1000000 or size=256MiB")
        };
        match text.trim().split_once('=') {
            None if text.trim() == "partition" => Ok(Self::Partition),
            Some(("rows", n)) => match n.trim().replace('_', "").parse() {
                Ok(0) | Err(_) => Err(wrong()),
                Ok(rows) => Ok(Self::Rows(rows)),
            },
            Some(("size", size)) => match parse_size(size)? {
                0 => Err(wrong()),
                bytes => Ok(Self::Size(bytes)),
            },
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Split {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse().map_err(|e: Error| format!("{}: {}", e.message(), e.help_line()))
    }
}

impl From<Split> for String {
    fn from(split: Split) -> Self {
        split.to_string()
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition => f.write_str("partition"),
            Self::Rows(rows) => write!(f, "rows={rows}"),
            Self::Size(bytes) if bytes % 1024 == 0 => {
                let shown = show_size(*bytes).replace(' ', "");
                // Only where the rounded form says the same.
                if parse_size(&shown).ok() == Some(*bytes) { write!(f, "size={shown}") } else { write!(f, "size={bytes}") }
            }
            Self::Size(bytes) => write!(f, "size={bytes}"),
        }
    }
}

/// What the files of a set are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Before the number: the name of the file that was asked for, or `part` in a directory.
    stem: String,
    /// After the run's id, without the dot.
    extension: String,
    /// Whether the set has its directory to itself.
    whole_directory: bool,
}

impl Names {
    /// Names for the last segment of a `to`: `orders.csv.gz`, or nothing for a directory.
    #[must_use]
    pub fn new(file: &str, format: &Capability, facts: &Facts) -> Self {
        let lower = file.to_ascii_lowercase();
        let matching =
            format.extensions.iter().filter(|e| lower.strip_suffix(**e).is_some_and(|s| s.len() > 1 && s.ends_with('.')));
        if let Some(extension) = matching.max_by_key(|e| e.len()) {
            let stem = file[..file.len() - extension.len() - 1].to_owned();
            return Self { stem, extension: (*extension).to_owned(), whole_directory: false };
        }
        let plain = format.extensions.first().copied().unwrap_or(format.name);
        let packed = match facts.get("compression").map(String::as_str) {
            Some("gzip") => format!("{plain}.gz"),
            Some("zstd") => format!("{plain}.zst"),
            _ => plain.to_owned(),
        };
        // Compression inside of a file, such as Parquet's, shows in no name.
        let extension = if format.extensions.contains(&packed.as_str()) { packed } else { plain.to_owned() };
        let stem = if file.is_empty() { "part" } else { file };
        Self { stem: stem.to_owned(), extension, whole_directory: file.is_empty() }
    }

    /// The name of a part of a run.
    #[must_use]
    pub fn part(&self, number: usize, id: &str) -> String {
        format!("{}-{number:0DIGITS$}-{id}.{}", self.stem, self.extension)
    }

    /// The manifest's name.
    #[must_use]
    pub fn manifest(&self) -> String {
        if self.whole_directory { "_manifest.json".into() } else { format!("_{}.{}.manifest.json", self.stem, self.extension) }
    }

    /// Whether a name is one that [`Self::part`] gives to a part of a run, whatever its extension: nothing else is ever removed.
    #[must_use]
    pub fn is_part_of(&self, name: &str, id: &str) -> bool {
        let Some(rest) = name.strip_prefix(&self.stem).and_then(|r| r.strip_prefix('-')) else { return false };
        let Some((number, rest)) = rest.split_once('-') else { return false };
        let digits = number.len() >= DIGITS && number.bytes().all(|b| b.is_ascii_digit());
        let is_id = id.len() == ID && id.bytes().all(|b| b.is_ascii_hexdigit());
        digits && is_id && rest.strip_prefix(id).is_some_and(|r| r.starts_with('.')) && !rest.contains(['/', '\\'])
    }
}

/// A new id of a set.
#[must_use]
pub fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..ID].to_owned()
}

/// One file of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name, beside the manifest.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
    /// The partition of the source that it holds, with `--split partition`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// What it holds, as it was read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
}

/// One column of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestColumn {
    /// Its name.
    pub name: String,
    /// Its type, in the format's words.
    #[serde(rename = "type")]
    pub target_type: String,
    /// Its Arrow type in the source.
    pub source_type: String,
    /// Whether it may hold NULL.
    pub nullable: bool,
}

/// The file that makes the parts one set; written last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this document.
    pub lakeport_manifest: u32,
    /// Tells the parts of this set from those of others.
    pub id: String,
    /// When the set was written, in UTC.
    pub created: chrono::DateTime<chrono::Utc>,
    /// What was read.
    pub from: String,
    /// The format of the parts.
    pub format: String,
    /// How it was split.
    pub split: Split,
    /// Rows of all parts.
    pub rows: u64,
    /// Bytes of all parts.
    pub bytes: u64,
    /// The columns.
    pub columns: Vec<ManifestColumn>,
    /// Facts of the format: a dialect, a compression.
    pub facts: BTreeMap<String, String>,
    /// The parts, by number.
    pub parts: Vec<Part>,
}

impl Manifest {
    /// Puts it together.
    #[must_use]
    pub fn new(id: &str, from: &str, format: &str, split: Split, mapping: &Mapping, parts: Vec<Part>) -> Self {
        let columns = mapping.columns.iter().map(|c| ManifestColumn {
            name: c.name.clone(),
            target_type: c.target_type.clone(),
            source_type: c.source_type.to_string(),
            nullable: c.nullable,
        });
        Self {
            lakeport_manifest: VERSION,
            id: id.to_owned(),
            created: chrono::Utc::now(),
            from: from.to_owned(),
            format: format.to_owned(),
            split,
            rows: parts.iter().map(|p| p.rows).sum(),
            bytes: parts.iter().map(|p| p.bytes).sum(),
            columns: columns.collect(),
            facts: mapping.facts.clone(),
            parts,
        }
    }

    /// Reads a manifest that is there.
    ///
    /// # Errors
    /// `TargetExists` when it is none, so that nobody's file is overwritten.
    pub fn read(text: &[u8], shown: &str) -> Result<Self> {
        serde_json::from_slice(text)
            .wrap(Kind::TargetExists, || format!("{shown} is there and is no manifest of Lakeport"))
            .map_err(|e| e.help("remove it, or choose another name"))
    }

    /// Reads the manifest at a path; `None` when there is none.
    ///
    /// # Errors
    /// As [`Self::read`]; `WriteFailed` when it cannot be read.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        match std::fs::read(path) {
            Ok(text) => Self::read(&text, &path.display().to_string()).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).wrap(Kind::WriteFailed, || format!("cannot read {}", path.display())),
        }
    }

    /// As the text that is written.
    ///
    /// # Errors
    /// `Unexpected`.
    pub fn text(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self).wrap(Kind::Unexpected, || "a manifest cannot be written as JSON".into())?;
        Ok(text + "\n")
    }

    /// The names of its parts that this one does not have, for removal once this one is in force.
    #[must_use]
    pub fn replaces(&self, old: &Self, names: &Names) -> Vec<String> {
        let mine = |name: &String| self.parts.iter().any(|p| p.name == *name);
        let old_parts = old.parts.iter().map(|p| p.name.clone());
        old_parts.filter(|name| names.is_part_of(name, &old.id) && !mine(name)).collect()
    }
}

/// A finished set that waits to be put in its place.
#[derive(Debug, Clone)]
pub struct FileSet {
    /// Where the parts lie, under their names.
    pub directory: std::path::PathBuf,
    /// What they are called.
    pub names: Names,
    /// What they hold.
    pub manifest: Manifest,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::{Format, csv, parquet};

    #[test]
    fn a_split_is_read_as_it_is_shown() {
        for text in ["partition", "rows=1000000", "size=256.0MiB", "size=1000001", "size=1.5GiB"] {
            let split: Split = text.parse().unwrap();
            assert_eq!(split.to_string(), text);
        }
        for text in ["rows", "rows=0", "rows=-1", "size=0", "size=lots", "month", ""] {
            assert_eq!(text.parse::<Split>().unwrap_err().kind(), Kind::Usage, "{text}");
        }
    }

    #[test]
    fn parts_are_named_after_the_file_or_the_directory() {
        let (csv, parquet) = (csv::Csv.capability(), parquet::Parquet.capability());
        let id = "0123456789ab";
        let named = |file: &str, format: &Capability, compression: &str| {
            let names = Names::new(file, format, &[("compression".to_owned(), compression.to_owned())].into());
            assert!(names.is_part_of(&names.part(3, id), id) && !names.is_part_of(&names.part(3, id), "0123456789ac"));
            (names.part(3, id), names.manifest())
        };
        let is = |part: &str, manifest: &str| (part.to_owned(), manifest.to_owned());
        assert_eq!(named("orders.csv.gz", &csv, "gzip"), is("orders-00003-0123456789ab.csv.gz", "_orders.csv.gz.manifest.json"));
        assert_eq!(named("", &csv, "gzip"), is("part-00003-0123456789ab.csv.gz", "_manifest.json"));
        assert_eq!(named("", &parquet, "gzip"), is("part-00003-0123456789ab.parquet", "_manifest.json"));
        assert_eq!(named("a.b", &parquet, "zstd"), is("a.b-00003-0123456789ab.parquet", "_a.b.parquet.manifest.json"));
        let names = Names::new("", &csv, &Facts::new());
        for foreign in ["part-1-0123456789ab.csv", "x/part-00003-0123456789ab.csv", "part-00003-0123456789ab", "orders.csv"] {
            assert!(!names.is_part_of(foreign, id), "{foreign}");
        }
        assert!(!names.is_part_of("part-00003-0123456789ab./../../x", id));
    }
}
