//! What a job says about how its files are written: `[job.x.csv]`, `[job.x.parquet]`, `[job.x.avro]`, `[job.x.xlsx]`, and the name they go to.
//!
//! The choices become facts of the mapping, so that the plan shows what the writer does.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Facts of a mapping by name.
pub type Facts = BTreeMap<String, String>;

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileOptions {
    /// Dialect of CSV.
    pub csv: CsvOptions,
    /// Parquet's.
    pub parquet: ParquetOptions,
    /// Avro's.
    pub avro: AvroOptions,
    /// Excel's.
    pub xlsx: XlsxOptions,
    /// The name of the file to be, whose last ending may name a compression: `orders.csv.gz`.
    pub name: String,
}

impl FileOptions {
    /// The compression that the file's name asks for.
    pub(crate) fn add_compression(&self, facts: &mut Facts) {
        let lower = self.name.to_ascii_lowercase();
        let named = if lower.ends_with(".gz") {
            Some("gzip")
        } else if lower.ends_with(".zst") {
            Some("zstd")
        } else {
            None
        };
        if let Some(compression) = named {
            facts.insert("compression".into(), compression.into());
        }
    }
}

/// `[job.x.csv]`: the dialect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CsvOptions {
    /// Between fields; one ASCII character.
    pub delimiter: char,
    /// Whether the first line names the columns.
    pub header: bool,
    /// How NULL is written, never quoted; a text that is the same is quoted.
    pub null: String,
    /// Whether every value but NULL is quoted, or only where it is needed.
    pub quote_all: bool,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { delimiter: ',', header: true, null: String::new(), quote_all: false }
    }
}

impl CsvOptions {
    pub(crate) fn add_facts(&self, facts: &mut Facts) {
        let usual = Self::default();
        if self.delimiter != usual.delimiter {
            facts.insert("delimiter".into(), self.delimiter.to_string());
        }
        if self.null != usual.null {
            facts.insert("null".into(), self.null.clone());
        }
        if !self.header {
            facts.insert("header".into(), "false".into());
        }
        if self.quote_all {
            facts.insert("quote_all".into(), "true".into());
        }
    }

    pub(crate) fn from_facts(facts: &Facts) -> Self {
        let usual = Self::default();
        Self {
            delimiter: facts.get("delimiter").and_then(|d| d.chars().next()).unwrap_or(usual.delimiter),
            header: !facts.contains_key("header"),
            null: facts.get("null").cloned().unwrap_or_default(),
            quote_all: facts.contains_key("quote_all"),
        }
    }
}

/// `[job.x.parquet]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ParquetOptions {
    /// The codec; snappy, which every reader knows, unless told otherwise.
    pub compression: Option<ParquetCompression>,
    /// Rows of a row group at most; 1,048,576 unless told otherwise.
    pub row_group_rows: Option<usize>,
    /// The reader to suit.
    pub profile: Option<ParquetProfile>,
}

/// Codecs of Parquet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParquetCompression {
    /// None.
    None,
    /// Snappy.
    Snappy,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// LZ4, raw.
    Lz4,
    /// Brotli.
    Brotli,
}

impl ParquetCompression {
    /// The codec's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Snappy => "snappy",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Brotli => "brotli",
        }
    }
}

/// A reader with wants of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParquetProfile {
    /// Alteryx Designer from 2024.1: snappy, no nested columns.
    Alteryx,
}

impl ParquetOptions {
    /// Whether nested columns have no place.
    #[must_use]
    pub fn is_flat(&self) -> bool {
        self.profile == Some(ParquetProfile::Alteryx)
    }

    pub(crate) fn add_facts(&self, facts: &mut Facts) {
        let codec =
            if self.is_flat() { ParquetCompression::Snappy } else { self.compression.unwrap_or(ParquetCompression::Snappy) };
        facts.insert("compression".into(), codec.name().into());
        if let Some(rows) = self.row_group_rows {
            facts.insert("row_group_rows".into(), rows.to_string());
        }
        if self.is_flat() {
            facts.insert("profile".into(), "alteryx".into());
        }
    }
}

/// `[job.x.avro]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AvroOptions {
    /// The codec of its blocks; deflate, which the specification demands of every reader, unless told otherwise.
    pub codec: Option<AvroCodec>,
}

/// Codecs of Avro.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AvroCodec {
    /// None.
    None,
    /// Snappy.
    Snappy,
    /// Deflate.
    Deflate,
    /// Zstandard.
    Zstd,
}

impl AvroOptions {
    /// The codec's name in the file's header.
    #[must_use]
    pub fn codec(&self) -> &'static str {
        match self.codec.unwrap_or(AvroCodec::Deflate) {
            AvroCodec::None => "null",
            AvroCodec::Snappy => "snappy",
            AvroCodec::Deflate => "deflate",
            AvroCodec::Zstd => "zstandard",
        }
    }
}

/// `[job.x.xlsx]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct XlsxOptions {
    /// What becomes of rows that a sheet has no room for.
    pub rows: SheetRows,
    /// Whether the header stays in view.
    pub freeze: bool,
    /// Whether the header has filters.
    pub autofilter: bool,
}

/// What becomes of rows past 1,048,575.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SheetRows {
    /// They go to further sheets.
    #[default]
    Continue,
    /// They stop the run.
    Refuse,
}

impl Default for XlsxOptions {
    fn default() -> Self {
        Self { rows: SheetRows::Continue, freeze: true, autofilter: true }
    }
}

impl XlsxOptions {
    /// Only what is not usual is said.
    pub(crate) fn add_facts(&self, facts: &mut Facts) {
        if self.rows == SheetRows::Refuse {
            facts.insert("rows".into(), "refuse".into());
        }
        if !self.freeze {
            facts.insert("freeze".into(), "false".into());
        }
        if !self.autofilter {
            facts.insert("autofilter".into(), "false".into());
        }
    }
}
