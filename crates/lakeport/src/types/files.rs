//! What a job says about how its files are written: `[job.x.csv]`, `[job.x.parquet]`, …, and the name they go to.
//!
//! The choices become facts of the mapping, so that the plan shows what the writer does.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::limits::parse_size;

/// Facts of a mapping by name.
pub type Facts = BTreeMap<String, String>;

/// Bytes that a Parquet row group may hold in memory before it is ended, unless less is asked for.
pub(crate) const ROW_GROUP_BYTES: u64 = 64 * 1024 * 1024;

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileOptions {
    /// Dialect of CSV.
    pub csv: CsvOptions,
    /// Parquet's.
    pub parquet: ParquetOptions,
    /// NDJSON's.
    pub ndjson: TextOptions,
    /// Text's.
    pub text: TextOptions,
    /// Avro's.
    pub avro: AvroOptions,
    /// Excel's.
    pub xlsx: XlsxOptions,
    /// The name of the file to be, whose last ending may name a compression: `orders.csv.gz`.
    pub name: String,
}

impl FileOptions {
    /// The compression that the file's name asks for, or the options where the name says nothing.
    ///
    /// # Errors
    /// `ConfigInvalid` where they contradict each other, and for a level that there is not.
    pub(crate) fn add_compression(&self, wish: Option<TextCompression>, level: Option<u32>, facts: &mut Facts) -> Result<()> {
        let lower = self.name.to_ascii_lowercase();
        let file = lower.rsplit('/').next().unwrap_or_default();
        let named = if file.ends_with(".gz") {
            Some(TextCompression::Gzip)
        } else if file.ends_with(".zst") {
            Some(TextCompression::Zstd)
        } else if [".csv", ".tsv", ".ndjson", ".json", ".jsonl", ".txt"].iter().any(|e| file.ends_with(e)) {
            Some(TextCompression::None)
        } else {
            None
        };
        let compression = match (named, wish) {
            (Some(named), Some(wish)) if named != wish => {
                let what = format!("compression = \"{}\" contradicts the name {}", wish.name(), self.name);
                return Err(Error::new(Kind::ConfigInvalid, what).help("end the name in .gz or .zst, or leave the option out"));
            }
            (named, wish) => named.or(wish).unwrap_or(TextCompression::None),
        };
        if compression != TextCompression::None {
            facts.insert("compression".into(), compression.name().into());
        }
        if let Some(level) = level {
            let known = match compression {
                TextCompression::None => false,
                TextCompression::Gzip => level <= 9,
                TextCompression::Zstd => (1..=22).contains(&level),
            };
            if !known {
                let what = format!("compression_level = {level} is no level of compression \"{}\"", compression.name());
                return Err(Error::new(Kind::ConfigInvalid, what).help("gzip has levels 0 to 9, zstd 1 to 22"));
            }
            facts.insert("compression_level".into(), level.to_string());
        }
        Ok(())
    }
}

/// Compression of a whole text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TextCompression {
    /// None.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl TextCompression {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// `[job.x.ndjson]` and `[job.x.text]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TextOptions {
    /// The compression, where the file's name does not say it.
    pub compression: Option<TextCompression>,
    /// gzip: 0 to 9, 6 unless told otherwise; zstd: 1 to 22, 3 unless told otherwise.
    pub compression_level: Option<u32>,
}

/// What ends a line of a CSV file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LineEnding {
    /// A line feed.
    #[default]
    Lf,
    /// A carriage return and a line feed.
    Crlf,
}

/// `[job.x.csv]`: the dialect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CsvOptions {
    /// Between fields; one ASCII character.
    pub delimiter: char,
    /// Around a value that would else be misread; one ASCII character.
    pub quote: char,
    /// Before a quote inside of a value; the quote itself, which is doubled then, unless told otherwise. Spark's own default is
    /// the backslash.
    pub escape: Option<char>,
    /// Whether the first line names the columns.
    pub header: bool,
    /// How NULL is written, never quoted; a text that is the same is quoted.
    pub null: String,
    /// Whether every value but NULL is quoted, or only where it is needed.
    pub quote_all: bool,
    /// What ends a line.
    pub line_ending: LineEnding,
    /// Whether the file begins with the mark by which Excel on Windows knows UTF-8.
    pub bom: bool,
    /// The compression, where the file's name does not say it.
    pub compression: Option<TextCompression>,
    /// gzip: 0 to 9, 6 unless told otherwise; zstd: 1 to 22, 3 unless told otherwise.
    pub compression_level: Option<u32>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            delimiter: ',',
            quote: '"',
            escape: None,
            header: true,
            null: String::new(),
            quote_all: false,
            line_ending: LineEnding::Lf,
            bom: false,
            compression: None,
            compression_level: None,
        }
    }
}

impl CsvOptions {
    /// Stops on a dialect that nobody could read.
    pub(crate) fn ensure_readable(&self) -> Result<()> {
        let escape = self.escape.unwrap_or(self.quote);
        let odd = |c: char| !c.is_ascii() || matches!(c, '\n' | '\r' | '\0' | ' ');
        let same = self.delimiter == self.quote || self.delimiter == escape;
        if odd(self.delimiter) || odd(self.quote) || odd(escape) || same {
            let what = "the delimiter, quote and escape of CSV must be one ASCII character each, and the delimiter another one";
            return Err(Error::new(Kind::ConfigInvalid, what).help("correct [job.NAME.csv]"));
        }
        if self.null.contains(['\n', '\r', self.delimiter, self.quote]) {
            let what = "`null` of CSV may hold neither the delimiter, nor the quote, nor a line break";
            return Err(Error::new(Kind::ConfigInvalid, what).help("correct [job.NAME.csv]"));
        }
        Ok(())
    }

    pub(crate) fn add_facts(&self, facts: &mut Facts) {
        let usual = Self::default();
        if self.delimiter != usual.delimiter {
            facts.insert("delimiter".into(), self.delimiter.to_string());
        }
        if self.quote != usual.quote {
            facts.insert("quote".into(), self.quote.to_string());
        }
        if let Some(escape) = self.escape.filter(|e| *e != self.quote) {
            facts.insert("escape".into(), escape.to_string());
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
        if self.line_ending == LineEnding::Crlf {
            facts.insert("line_ending".into(), "crlf".into());
        }
        if self.bom {
            facts.insert("bom".into(), "true".into());
        }
    }

    pub(crate) fn from_facts(facts: &Facts) -> Self {
        let usual = Self::default();
        let one = |name: &str| facts.get(name).and_then(|d| d.chars().next());
        Self {
            delimiter: one("delimiter").unwrap_or(usual.delimiter),
            quote: one("quote").unwrap_or(usual.quote),
            escape: one("escape"),
            header: !facts.contains_key("header"),
            null: facts.get("null").cloned().unwrap_or_default(),
            quote_all: facts.contains_key("quote_all"),
            line_ending: if facts.contains_key("line_ending") { LineEnding::Crlf } else { LineEnding::Lf },
            bom: facts.contains_key("bom"),
            ..usual
        }
    }
}

/// `[job.x.parquet]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ParquetOptions {
    /// The codec; snappy, which every reader knows, unless told otherwise.
    pub compression: Option<ParquetCompression>,
    /// gzip: 0 to 9; brotli: 0 to 11; zstd: 1 to 22.
    pub compression_level: Option<u32>,
    /// Rows of a row group at most; 1,048,576 unless told otherwise.
    pub row_group_rows: Option<usize>,
    /// Bytes of a row group at most, in memory, such as `16MiB`; 64 MiB unless told otherwise, which is also the most.
    pub row_group_size: Option<String>,
    /// What of each column's least, greatest and NULLs is kept: of each page unless told otherwise.
    pub statistics: Option<ParquetStatistics>,
    /// Whether values that repeat are written as a dictionary; they are unless told otherwise.
    pub dictionary: Option<bool>,
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

/// What Parquet keeps of each column's least, greatest and NULLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParquetStatistics {
    /// Nothing.
    None,
    /// Those of each row group.
    Chunk,
    /// Those of each page too.
    Page,
}

impl ParquetStatistics {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Chunk => "chunk",
            Self::Page => "page",
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

    /// # Errors
    /// `ConfigInvalid` for a level, rows or bytes that there are not.
    pub(crate) fn add_facts(&self, facts: &mut Facts) -> Result<()> {
        let codec =
            if self.is_flat() { ParquetCompression::Snappy } else { self.compression.unwrap_or(ParquetCompression::Snappy) };
        facts.insert("compression".into(), codec.name().into());
        let wrong = |what: String| Err(Error::new(Kind::ConfigInvalid, what).help("correct [job.NAME.parquet]"));
        if let Some(level) = self.compression_level {
            let known = match codec {
                ParquetCompression::Gzip => level <= 9,
                ParquetCompression::Brotli => level <= 11,
                ParquetCompression::Zstd => (1..=22).contains(&level),
                ParquetCompression::None | ParquetCompression::Snappy | ParquetCompression::Lz4 => false,
            };
            if !known {
                return wrong(format!("compression_level = {level} is no level of compression \"{}\"", codec.name()));
            }
            facts.insert("compression_level".into(), level.to_string());
        }
        match self.row_group_rows {
            Some(0) => return wrong("a row group has at least one row".into()),
            Some(rows) => drop(facts.insert("row_group_rows".into(), rows.to_string())),
            None => {}
        }
        if let Some(size) = &self.row_group_size {
            let bytes = parse_size(size)?;
            if !(1024 * 1024..=ROW_GROUP_BYTES).contains(&bytes) {
                return wrong(format!("row_group_size = \"{size}\" is not between 1MiB and 64MiB"));
            }
            facts.insert("row_group_size".into(), bytes.to_string());
        }
        if let Some(statistics) = self.statistics {
            facts.insert("statistics".into(), statistics.name().into());
        }
        if self.dictionary == Some(false) {
            facts.insert("dictionary".into(), "false".into());
        }
        if self.is_flat() {
            facts.insert("profile".into(), "alteryx".into());
        }
        Ok(())
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
    /// Whether each sheet's rows are an Excel table, with a name, a style and filters of its own.
    pub table: bool,
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
        Self { rows: SheetRows::Continue, freeze: true, autofilter: true, table: false }
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
        if self.table {
            facts.insert("table".into(), "true".into());
        }
    }
}
