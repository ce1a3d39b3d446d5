//! Which files make up a table: a file, a directory, a glob or a tree of partition directories.
//!
//! What is listed here is exactly what is read and what the snapshot names; nothing lists again later. Tables of formats
//! that keep their own list of files are read by it (Delta) or refused (Iceberg, Hudi): as plain files they would show
//! deleted rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use futures::{FutureExt, StreamExt, TryStreamExt};
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

/// Endings of data that is not read here. An archive may hold anything.
const FOREIGN: [&str; 12] = ["orc", "avro", "arrow", "feather", "ipc", "tsv", "psv", "tbl", "txt", "dat", "tar", "tgz"];

/// Endings of what is packed, whether it can be unpacked here or not.
const PACKED: [&str; 14] =
    ["gz", "gzip", "zst", "zstd", "bz2", "zip", "snappy", "lz4", "lzo", "xz", "lzma", "br", "deflate", "7z"];

/// Endings of what stands beside a data file under its name and holds no rows: `orders.csv.md5`.
const BESIDE: [&str; 22] = [
    "crc", "md5", "sha1", "sha256", "sha512", "asc", "sig", "md", "html", "xml", "yml", "yaml", "log", "manifest", "metadata",
    "schema", "avsc", "index", "lock", "done", "tmp", "bak",
];

/// Files called so, with no ending or `.txt`, are for people and for checks.
const NOTES: [&str; 11] = [
    "readme",
    "license",
    "licence",
    "notice",
    "changelog",
    "manifest",
    "checksums",
    "md5sums",
    "sha1sums",
    "sha256sums",
    "sha512sums",
];

/// Files without an ending whose first bytes are looked at side by side.
const LOOKS_AT_ONCE: usize = 16;

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

    fn directory(place: &Place, mut entries: Vec<ObjectMeta>) -> Result<Self> {
        // A listing has no order, and the first file that is refused should be the same one every time.
        entries.sort_by(|a, b| a.location.cmp(&b.location));
        let mut nested = BTreeSet::new();
        let mut foreign = None;
        let mut chosen = Vec::new();
        for meta in entries {
            let Some(relative) = relative(&place.path, &meta.location) else { continue };
            if hidden(&relative) {
                continue;
            }
            let name = relative.last().map_or("", String::as_str);
            let Some((kind, packing)) = kind_of(name) else {
                if let Some(why) = Unread::of(name, &meta) {
                    foreign.get_or_insert(why.error(place, &meta));
                }
                continue;
            };
            if let Some(plain) = relative[..relative.len() - 1].iter().find(|s| hive::pair(s).is_none()) {
                nested.insert(plain.clone());
            }
            chosen.push((meta, kind, packing));
        }
        if let Some(name) = nested.first() {
            return Err(Error::new(Kind::SourceUnreadable, "the directory holds other directories, so it may be several tables")
                .help(format!("name one of them, such as `{name}`, or all files with a glob: **/*.parquet"))
                .at("directory", name));
        }
        if let Some(refusal) = foreign {
            return Err(refusal);
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
        let mut entries = list(place, &base).await?;
        refuse_managed(place, &base, &entries).await?;
        entries.sort_by(|a, b| a.location.cmp(&b.location));
        let base = place.with_path(base);
        let (mut chosen, mut nameless) = (Vec::new(), Vec::new());
        for meta in entries {
            if relative(&base.path, &meta.location).is_none_or(|r| hidden(&r)) {
                continue;
            }
            let full = meta.location.as_ref();
            // A glob may name a directory tree (`year=2024*`) as well as files: a match of any leading part counts.
            let named = matcher.matches_with(full, options);
            let below = || {
                full.match_indices('/').any(|(at, _)| {
                    at > base.path.as_ref().len() && hive_below(&full[at + 1..]) && matcher.matches_with(&full[..at], options)
                })
            };
            if !named && !below() {
                continue;
            }
            let name = meta.location.filename().unwrap_or_default();
            match (kind_of(name), Unread::of(name, &meta)) {
                (Some((kind, packing)), _) => chosen.push((meta, kind, packing)),
                (None, Some(Unread::Nameless)) => nameless.push(meta),
                (None, Some(why)) => return Err(why.error(&base, &meta)),
                // Whoever names a file wants it read, a note too.
                (None, None) if named && meta.size > 0 => return Err(Unread::Format.error(&base, &meta)),
                (None, None) => {}
            }
        }
        let looks: Vec<_> = nameless.iter().map(|meta| is_parquet(&base, meta).boxed()).collect();
        let found: Vec<bool> = futures::stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await?;
        for (meta, parquet) in nameless.into_iter().zip(found) {
            if !parquet {
                return Err(Unread::Nameless.error(&base, &meta));
            }
            chosen.push((meta, FileKind::Parquet, Packing::Plain));
        }
        if chosen.is_empty() {
            return Err(Error::new(Kind::SourceMissing, "no data file answers to this glob"));
        }
        Self::of_files(&base, chosen)
    }

    fn of_files(place: &Place, mut chosen: Vec<(ObjectMeta, FileKind, Packing)>) -> Result<Self> {
        chosen.sort_by(|(a, ..), (b, ..)| a.location.cmp(&b.location));
        let mut first: Option<(FileKind, String)> = None;
        let mut keys: Option<(Vec<String>, String)> = None;
        let mut rows: Vec<(ObjectMeta, Packing, Vec<Option<String>>, String)> = Vec::with_capacity(chosen.len());
        for (meta, kind, packing) in chosen {
            let shown = place.show(&meta.location);
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

/// Why a file is not read although leaving it out could lose rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    /// Data in a format that is not read here.
    Format,
    /// Data in a format that is, packed in a way that is not.
    Packing,
    /// A name that does not say what the file holds, packed or not.
    Nameless,
}

impl Unread {
    /// Looks at the name of a file that [`kind_of`] does not know; `None` where it holds none of a table's rows.
    fn of(name: &str, meta: &ObjectMeta) -> Option<Self> {
        // Consoles of object stores mark directories by objects without content.
        if meta.size == 0 { None } else { Self::by_name(name) }
    }

    fn by_name(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let mut parts = lower.split('.');
        let stem = parts.next().unwrap_or_default();
        let endings: Vec<&str> = parts.collect();
        if NOTES.contains(&stem) && matches!(endings[..], [] | ["txt"]) {
            return None;
        }
        let Some(last) = endings.last() else { return Some(Self::Nameless) };
        // Numbers are no endings: `orders.0001`, `orders.2024-01-31`.
        let number = |ending: &str| ending.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'_'));
        if BESIDE.contains(last) {
            None
        } else if FOREIGN.contains(last) {
            Some(Self::Format)
        } else if endings.iter().any(|ending| FOREIGN.contains(ending) || kind_of(&format!(".{ending}")).is_some()) {
            Some(Self::Packing)
        } else {
            endings.iter().all(|ending| PACKED.contains(ending) || number(ending)).then_some(Self::Nameless)
        }
    }

    fn error(self, place: &Place, meta: &ObjectMeta) -> Error {
        let (what, now) = match self {
            Self::Format => (
                "a file of the table is of a kind that is not read here",
                "name the files to read with a glob, such as *.parquet",
            ),
            Self::Packing => (
                "a file of the table is packed or named in a way that is not read here",
                "unpack it (text may be packed as .gz or .zst), or name the files to read with a glob, such as *.parquet",
            ),
            Self::Nameless => (
                "the name of a file of the table does not say what it holds",
                "name it .parquet, .csv, .json, .ndjson or .jsonl; a glob such as orders/* reads it where it is Parquet",
            ),
        };
        Error::new(Kind::SourceUnreadable, what).help(now).at("file", place.show(&meta.location))
    }
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

    #[test]
    fn what_may_hold_rows_is_not_left_out() {
        for name in ["a.orc", "b.AVRO", "a.tsv", "a.txt", "lineitem.tbl", "store_sales.dat", "part-0.snappy.orc", "a.tgz"] {
            assert_eq!(Unread::by_name(name), Some(Unread::Format), "{name}");
        }
        for name in [
            "2024-02.csv.bz2",
            "a.csv.zip",
            "a.json.snappy",
            "a.csv.lz4",
            "a.parquet.gz",
            "a.txt.gz",
            "a.tar.gz",
            "a.csv.gpg",
            "a.csv.gz.1",
            "a.csv.part",
        ] {
            assert_eq!((kind_of(name), Unread::by_name(name)), (None, Some(Unread::Packing)), "{name}");
        }
        for name in ["000000_0", "part-00000", "000000_0.gz", "part-00000.deflate", "orders.0001", "orders.2024-01-31.bz2"] {
            assert_eq!((kind_of(name), Unread::by_name(name)), (None, Some(Unread::Nameless)), "{name}");
        }
    }

    #[test]
    fn what_lakes_leave_beside_data_is_left_out() {
        for name in [
            "README.md",
            "README",
            "readme.txt",
            "LICENSE",
            "a.parquet.crc",
            "a.csv.md5",
            "a.csv.gz.sha256",
            "SHA256SUMS",
            "orders.manifest",
            "manifest",
            "a.csv.bak",
            "notes.pdf",
            "Thumbs.db",
            "app.log.gz",
        ] {
            assert_eq!((kind_of(name), Unread::by_name(name)), (None, None), "{name}");
        }
        for name in ["_SUCCESS", "_metadata", "_common_metadata", ".a.parquet.crc", "_committed_1", "_orders.csv.manifest.json"] {
            assert!(hidden(&[name.to_owned()]), "{name}");
        }
    }
}
