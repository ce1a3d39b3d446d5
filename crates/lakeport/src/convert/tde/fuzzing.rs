//! The way in for the fuzz target: a file that a stranger wrote, or one column of his in a file that is else sound.

use std::io::Write;

use arrow::array::RecordBatch;

use super::column::Properties;
use super::layout::{Directory, MAGIC};
use super::read::Extract;
use super::write::Out;
use super::{described, opened, system};
use crate::error::{Kind, Result};

/// Most bytes of a batch, whatever the file says.
const LARGEST: usize = 64 << 20;
/// Batches looked at: a few bytes may stand for very many rows.
const BATCHES: usize = 8;

const TYPES: [(&str, &str); 12] = [
    ("bit", "1"),
    ("tiny", "1"),
    ("short", "2"),
    ("long", "4"),
    ("bigint", "8"),
    ("float", "4"),
    ("double", "8"),
    ("date", "4"),
    ("datetime", "8"),
    ("varchar(32,1) collate binary", "128"),
    ("varchar(127,2) collate binary", "508"),
    ("clob(1) collate binary", "4294967292"),
];
const ENCODINGS: [&str; 6] = ["", "rle", "for", "dict", "delta", "affine"];

/// Reads what came. What begins as a `.tde` is one; else four bytes say what kind of column the others are the files of.
///
/// # Panics
/// When a batch is larger than it may be, or an error is none that a damaged file gives.
pub fn tde(bytes: &[u8]) {
    let read = if bytes.starts_with(&MAGIC) { whole(bytes) } else { column(bytes) };
    if let Err(e) = read {
        assert!(matches!(e.kind(), Kind::SourceUnreadable | Kind::Unsupported | Kind::UnknownName), "{e:?}");
    }
}

fn whole(bytes: &[u8]) -> Result<()> {
    let Ok(mut file) = tempfile::tempfile() else { return Ok(()) };
    if file.write_all(bytes).is_err() {
        return Ok(());
    }
    look(&Extract::open(file)?)
}

fn column(bytes: &[u8]) -> Result<()> {
    let [kind, how, low, high, rest @ ..] = bytes else { return Ok(()) };
    let (how, split) = (usize::from(*how), usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()));
    let (data, dictionary) = rest.split_at(split);
    let (kind, size) = TYPES[usize::from(*kind) % TYPES.len()];
    let text = size.len() > 1;
    let scale = if kind.contains(",2") { "2" } else { "1" };
    let mut properties: Properties =
        [("name", "c"), ("ordinal", "0"), ("data-file", "data"), ("type", kind), ("size", size), ("scale", scale)]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
    properties.insert("encoding".into(), ENCODINGS[how % 6].into());
    if text || how / 6 % 2 == 1 {
        properties.insert("compression".into(), if text { "heap" } else { "array" }.into());
        properties.insert("storagewidth".into(), ["1", "2", "4", "8"][how / 12 % 4].into());
        properties.insert("dict-file".into(), "dict".into());
    }
    if how / 48 % 2 == 1 {
        properties.insert("not-null".into(), "not-null".into());
    }
    let Ok(file) = tempfile::tempfile() else { return Ok(()) };
    let Ok(copy) = file.try_clone() else { return Ok(()) };
    let written = || {
        let mut out = Out::new(file)?;
        let files = Directory::from([("data".to_owned(), out.file(data)?), ("dict".to_owned(), out.file(dictionary)?)]);
        out.complete(&[(system::TABLE, files, vec![properties])])
    };
    match written() {
        Ok(()) => look(&Extract::open(copy)?),
        Err(_) => Ok(()),
    }
}

fn look(extract: &Extract) -> Result<()> {
    let said = described(extract);
    let opened = opened(extract, None)?;
    let claimed = opened.rows.unwrap_or(0);
    if let Ok(tables) = said {
        assert!(tables.iter().any(|t| t.name == opened.table && t.rows == claimed), "both ways count {claimed} rows");
    }
    let (mut rows, mut all) = (0, true);
    for (index, batch) in opened.batches.enumerate() {
        let batch: RecordBatch = batch?;
        assert!(batch.get_array_memory_size() <= LARGEST, "a batch of {} bytes", batch.get_array_memory_size());
        rows += batch.num_rows() as u64;
        if index + 1 == BATCHES {
            all = false;
            break;
        }
    }
    assert!(rows <= claimed && (!all || rows == claimed), "{rows} of {claimed} rows");
    Ok(())
}
