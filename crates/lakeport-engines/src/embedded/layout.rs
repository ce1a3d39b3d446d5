//! Which files make up a table: a file, a directory, a glob or a tree of partition directories.
//!
//! What is listed here is exactly what is read and what the snapshot names; nothing lists again later. Tables of formats
//! that keep their own list of files are read by it (Delta) or refused (Iceberg, Hudi): as plain files they would show
//! deleted rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use lakeport::error::{Error, Kind, Result};
use lakeport::source::Location;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use sha2::{Digest, Sha256};

use super::delta::{self, Log};
use super::fault;
use super::hive;
use super::store::{Place, StoreKind};

/// What the files of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FileKind {
    Parquet,
    Csv,
    Ndjson,
}

impl FileKind {
    /// The name in snapshots and listings.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

/// How the bytes of a text file are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// Extensions tried when a table is named without one, in this order.
const EXTENSIONS: [&str; 11] =
    ["parquet", "csv", "csv.gz", "csv.zst", "json", "ndjson", "jsonl", "json.gz", "ndjson.gz", "json.zst", "ndjson.zst"];

/// Reads kind and packing from a file's name.
pub(super) fn kind_of(name: &str) -> Option<(FileKind, Packing)> {
    let lower = name.to_ascii_lowercase();
    let (stem, packing) = [(".gz", Packing::Gzip), (".zst", Packing::Zstd), (".zstd", Packing::Zstd)]
        .iter()
        .find_map(|(suffix, packing)| lower.strip_suffix(suffix).map(|stem| (stem, *packing)))
        .unwrap_or((lower.as_str(), Packing::Plain));
    let kind = match stem.rsplit_once('.')?.1 {
        "parquet" | "parq" | "pq" if packing == Packing::Plain => FileKind::Parquet,
        "csv" => FileKind::Csv,
        "json" | "ndjson" | "jsonl" => FileKind::Ndjson,
        _ => return None,
    };
    Some((kind, packing))
}

/// One file of a table.
#[derive(Debug, Clone)]
pub(super) struct DataFile {
    pub(super) meta: ObjectMeta,
    pub(super) packing: Packing,
    /// The values its directories give, in the order of [`Layout::partitions`].
    pub(super) values: Vec<ScalarValue>,
    /// `month=7/day=1`, or empty.
    pub(super) partition: String,
}

/// The files of a table and what their paths say about it.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) place: Place,
    pub(super) kind: FileKind,
    pub(super) files: Vec<DataFile>,
    pub(super) partitions: Vec<FieldRef>,
    /// What a log says of them, where there is one.
    pub(super) log: Option<Log>,
}

impl Layout {
    /// The name in snapshots.
    pub(super) fn name(&self) -> &'static str {
        if self.log.is_some() { "delta" } else { self.kind.name() }
    }

    /// Finds the table a location names.
    pub(super) async fn detect(location: &Location) -> Result<Self> {
        let place = Place::of(location)?;
        let found = Self::find(&place).await.map_err(|e| e.at("source", &location.url).during("open source"))?;
        found.ok_or_else(|| {
            Error::new(Kind::SourceMissing, "there is no such file or directory")
                .at("source", &location.url)
                .during("open source")
        })
    }

    async fn find(place: &Place) -> Result<Option<Self>> {
        if let Some(layout) = Self::exact(place).await? {
            return Ok(Some(layout));
        }
        if is_glob(place.path.as_ref()) {
            return Self::matching(place).await.map(Some);
        }
        for extension in EXTENSIONS {
            let path =
                Path::parse(format!("{}.{extension}", place.path)).map_err(|e| fault::path(&place.show(&place.path), e))?;
            if let Some(meta) = head(place, &path).await? {
                return Self::single(place, meta).await.map(Some);
            }
        }
        Ok(None)
    }

    /// The file or directory of exactly this name.
    async fn exact(place: &Place) -> Result<Option<Self>> {
        if let Some(meta) = head(place, &place.path).await? {
            return Self::single(place, meta).await.map(Some);
        }
        if place.kind == StoreKind::Web {
            return Ok(None);
        }
        if place.is_local() && !std::path::Path::new(&place.show(&place.path)).is_dir() {
            return Ok(None);
        }
        let entries = list(place, &place.path).await?;
        if entries.is_empty() && !place.is_local() {
            return Ok(None);
        }
        if delta::is_table(&place.path, &entries) {
            return delta::layout(place).await.map(Some);
        }
        refuse_managed(place, &place.path, &entries).await?;
        Self::directory(place, entries).map(Some)
    }

    async fn single(place: &Place, meta: ObjectMeta) -> Result<Self> {
        let shown = place.show(&meta.location);
        let (kind, packing) = match kind_of(meta.location.filename().unwrap_or_default()) {
            Some(known) => known,
            None if is_parquet(place, &meta).await? => (FileKind::Parquet, Packing::Plain),
            None => {
                return Err(Error::new(Kind::Unsupported, "the file's name does not say what it holds")
                    .help("name it .parquet, .csv, .json, .ndjson or .jsonl (text also .gz or .zst)")
                    .at("file", shown));
            }
        };
        if let Some(parent) = parent(&meta.location) {
            refuse_managed(place, &parent, &[]).await?;
        }
        let file = DataFile { meta, packing, values: Vec::new(), partition: String::new() };
        Ok(Self { place: place.clone(), kind, files: vec![file], partitions: Vec::new(), log: None })
    }

    fn directory(place: &Place, entries: Vec<ObjectMeta>) -> Result<Self> {
        let mut nested = BTreeSet::new();
        let mut foreign = None;
        let mut chosen = Vec::new();
        for meta in entries {
            let Some(relative) = relative(&place.path, &meta.location) else { continue };
            if hidden(&relative) {
                continue;
            }
            let name = relative.last().map_or("", String::as_str);
            if kind_of(name).is_none() {
                if must_not_be_left_out(name) {
                    foreign.get_or_insert(meta.location.clone());
                }
                continue;
            }
            if let Some(plain) = relative[..relative.len() - 1].iter().find(|s| hive::pair(s).is_none()) {
                nested.insert(plain.clone());
            }
            chosen.push(meta);
        }
        if let Some(name) = nested.first() {
            return Err(Error::new(Kind::SourceUnreadable, "the directory holds other directories, so it may be several tables")
                .help(format!("name one of them, such as `{name}`, or all files with a glob: **/*.parquet"))
                .at("directory", name));
        }
        if let Some(path) = foreign {
            return Err(Error::new(Kind::SourceUnreadable, "a file of the table is of a kind that is not read here")
                .help("name the files to read with a glob, such as *.parquet")
                .at("file", place.show(&path)));
        }
        Self::of_files(place, chosen)
    }

    /// The files a glob names.
    async fn matching(place: &Place) -> Result<Self> {
        let pattern = place.path.as_ref().to_owned();
        let fixed: Vec<&str> = pattern.split('/').take_while(|s| !is_glob(s)).collect();
        let base = Path::parse(fixed.join("/")).map_err(|e| fault::path(&pattern, e))?;
        let matcher = Pattern::new(&pattern)
            .map_err(|e| Error::new(Kind::Usage, "the glob cannot be understood").because(e).at("source", &pattern))?;
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::default() };
        let entries = list(place, &base).await?;
        refuse_managed(place, &base, &entries).await?;
        let base = place.with_path(base);
        // A glob may name a directory tree (`year=2024*`) as well as files: a match of any leading part counts.
        let chosen = entries
            .into_iter()
            .filter(|meta| {
                let visible = relative(&base.path, &meta.location).is_some_and(|r| !hidden(&r));
                visible && kind_of(meta.location.filename().unwrap_or_default()).is_some() && {
                    let full = meta.location.as_ref();
                    matcher.matches_with(full, options)
                        || full.match_indices('/').any(|(at, _)| {
                            at > base.path.as_ref().len()
                                && hive_below(&full[at + 1..])
                                && matcher.matches_with(&full[..at], options)
                        })
                }
            })
            .collect::<Vec<_>>();
        if chosen.is_empty() {
            return Err(Error::new(Kind::SourceMissing, "no data file answers to this glob"));
        }
        Self::of_files(&base, chosen)
    }

    fn of_files(place: &Place, mut metas: Vec<ObjectMeta>) -> Result<Self> {
        metas.sort_by(|a, b| a.location.cmp(&b.location));
        let mut first: Option<(FileKind, String)> = None;
        let mut keys: Option<(Vec<String>, String)> = None;
        let mut rows: Vec<(ObjectMeta, Packing, Vec<Option<String>>, String)> = Vec::with_capacity(metas.len());
        for meta in metas {
            let shown = place.show(&meta.location);
            let Some((kind, packing)) = kind_of(meta.location.filename().unwrap_or_default()) else { continue };
            let (expected, expected_file) = first.get_or_insert_with(|| (kind, shown.clone()));
            if *expected != kind {
                return Err(Error::new(
                    Kind::SourceUnreadable,
                    format!("one directory holds {} and {} files", expected.name(), kind.name()),
                )
                .help("name the files of one kind with a glob, such as *.parquet")
                .at("file", shown)
                .at("other file", expected_file));
            }
            let directories = relative(&place.path, &meta.location).unwrap_or_default();
            let segments = directories.split_last().map_or(&[][..], |(_, dirs)| dirs);
            let pairs: Vec<_> = segments.iter().filter_map(|s| hive::pair(s)).collect();
            let partition = segments.iter().filter(|s| hive::pair(s).is_some()).map(String::as_str).collect::<Vec<_>>().join("/");
            let names: Vec<String> = pairs.iter().map(|(key, _)| key.clone()).collect();
            let (known, known_file) = keys.get_or_insert_with(|| (names.clone(), shown.clone()));
            if *known != names {
                return Err(Error::new(
                    Kind::SchemaConflict,
                    format!("files lie in partitions by ({}) and by ({})", known.join(", "), names.join(", ")),
                )
                .at("file", shown)
                .at("other file", known_file));
            }
            rows.push((meta, packing, pairs.into_iter().map(|(_, value)| value).collect(), partition));
        }
        let Some((kind, _)) = first else {
            return Err(Error::new(Kind::SourceEmpty, "the directory holds no data file"));
        };
        let names = keys.map(|(names, _)| names).unwrap_or_default();
        let types: Vec<DataType> =
            (0..names.len()).map(|i| hive::type_of(rows.iter().map(move |(_, _, values, _)| values[i].as_deref()))).collect();
        let partitions = names.iter().zip(&types).map(|(n, t)| Arc::new(Field::new(n, t.clone(), true))).collect();
        let files = rows
            .into_iter()
            .map(|(meta, packing, values, partition)| DataFile {
                meta,
                packing,
                values: values.iter().zip(&types).map(|(v, t)| hive::value_of(v.as_deref(), t)).collect(),
                partition,
            })
            .collect();
        Ok(Self { place: place.clone(), kind, files, partitions, log: None })
    }

    /// A file's path as people write it.
    pub(super) fn show(&self, file: &DataFile) -> String {
        self.place.show(&file.meta.location)
    }

    /// The size of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.meta.size).sum()
    }

    /// Adds names, sizes and change times to a digest, so that the next run can tell whether anything changed.
    pub(super) fn digest(&self, digest: &mut Sha256) {
        for file in &self.files {
            digest.update(self.show(file));
            digest.update(file.meta.size.to_le_bytes());
            match &file.meta.e_tag {
                Some(tag) => digest.update(tag),
                None => digest.update(file.meta.last_modified.timestamp_micros().to_le_bytes()),
            }
            digest.update([0]);
        }
    }
}

/// Looks at one object; `None` when it is no file.
async fn head(place: &Place, path: &Path) -> Result<Option<ObjectMeta>> {
    if path.as_ref().is_empty() {
        return Ok(None);
    }
    // The local store answers for directories too.
    if place.is_local() && !std::path::Path::new(&place.show(path)).is_file() {
        return Ok(None);
    }
    match place.store.head(path).await {
        Ok(meta) => Ok(Some(meta)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(fault::store(e).at("file", place.show(path))),
    }
}

/// Lists everything below a path.
pub(super) async fn list(place: &Place, path: &Path) -> Result<Vec<ObjectMeta>> {
    let prefix = (!path.as_ref().is_empty()).then_some(path);
    place.store.list(prefix).try_collect().await.map_err(|e| fault::store(e).at("directory", place.show(path)))
}

async fn is_parquet(place: &Place, meta: &ObjectMeta) -> Result<bool> {
    if meta.size < 4 {
        return Ok(false);
    }
    let start = place.store.get_range(&meta.location, 0..4).await;
    Ok(start.map_err(|e| fault::store(e).at("file", place.show(&meta.location)))?.as_ref() == b"PAR1")
}

/// Names the table format whose own directory stands among these path segments.
pub(super) fn managed_by(segments: &[String]) -> Option<&'static str> {
    let (name, directories) = segments.split_last()?;
    if directories.iter().any(|s| s == "_delta_log") {
        Some("Delta")
    } else if directories.iter().any(|s| s == ".hoodie") {
        Some("Hudi")
    } else if directories.last().is_some_and(|s| s == "metadata")
        && (name.ends_with(".metadata.json") || name == "version-hint.text")
    {
        Some("Iceberg")
    } else {
        None
    }
}

/// Refuses tables whose files are listed elsewhere, also when only a part of one is named.
async fn refuse_managed(place: &Place, base: &Path, entries: &[ObjectMeta]) -> Result<()> {
    let mut found = entries.iter().find_map(|m| managed_by(&relative(base, &m.location)?));
    let mut at = Some(base.clone());
    while let (None, Some(directory), true) = (found, at.clone(), place.kind != StoreKind::Web) {
        for (name, format) in [("_delta_log", "Delta"), (".hoodie", "Hudi")] {
            let log = directory.clone().join(name);
            if place.store.list(Some(&log)).try_next().await.ok().flatten().is_some() {
                found = Some(format);
            }
        }
        let partition = directory.filename().is_some_and(|s| hive::pair(s).is_some());
        at = partition.then(|| parent(&directory)).flatten();
    }
    match found {
        None => Ok(()),
        Some("Delta") => {
            Err(Error::new(Kind::Unsupported, "this is a part of a Delta table, whose log says which rows are in it")
                .help("name the table's own directory, and take the part by a condition with --where"))
        }
        Some(format) => Err(Error::new(Kind::Unsupported, format!("this is a {format} table, which comes in a later version"))
            .help(format!("reading its files as plain Parquet would show rows the {format} table does not have"))),
    }
}

/// The path segments below a base; `None` for the base itself and for what lies elsewhere.
pub(super) fn relative(base: &Path, path: &Path) -> Option<Vec<String>> {
    let segments: Vec<String> = path.prefix_match(base)?.map(|part| part.as_ref().to_owned()).collect();
    (!segments.is_empty()).then_some(segments)
}

/// Whether a file is none of the table's: checksums, success marks, temporary files.
pub(super) fn hidden(segments: &[String]) -> bool {
    segments.iter().any(|s| s.starts_with('.') || (s.starts_with('_') && hive::pair(s).is_none()))
}

/// Whether leaving this file out would lose rows: data of another format, or a file that does not say what it is.
fn must_not_be_left_out(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    !lower.contains('.') || [".orc", ".avro", ".arrow", ".feather", ".tsv"].iter().any(|suffix| lower.ends_with(suffix))
}

fn hive_below(rest: &str) -> bool {
    rest.rsplit_once('/').is_none_or(|(directories, _)| directories.split('/').all(|s| hive::pair(s).is_some()))
}

fn parent(path: &Path) -> Option<Path> {
    let (directory, _) = path.as_ref().rsplit_once('/')?;
    Path::parse(directory).ok()
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_kind_and_packing() {
        assert_eq!(kind_of("a.snappy.parquet"), Some((FileKind::Parquet, Packing::Plain)));
        assert_eq!(kind_of("A.CSV.GZ"), Some((FileKind::Csv, Packing::Gzip)));
        assert_eq!(kind_of("x.ndjson.zst"), Some((FileKind::Ndjson, Packing::Zstd)));
        assert_eq!(kind_of("x.parquet.gz"), None);
        assert_eq!(kind_of("README.md"), None);
    }

    #[test]
    fn underscored_partition_columns_are_not_hidden() {
        let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        assert!(hidden(&path("_SUCCESS")));
        assert!(hidden(&path("_temporary/0/a.parquet")));
        assert!(hidden(&path(".a.parquet.crc")));
        assert!(!hidden(&path("_date=1/a.parquet")));
    }
}
