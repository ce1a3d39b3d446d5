//! The way in for the fuzz target: a file that a stranger wrote, or his records behind a header that is sound.

use std::fmt::Write as _;
use std::io::Write;

use super::layout::{HEADER, Kinds, MAGIC, RAW};
use super::read::YxdbReader;
use crate::error::{Kind, Result, Wrap};

/// Most bytes of a batch, whatever the file says: what a batch may gather, and a record of the largest inputs beside it.
const LARGEST: usize = 64 << 20;
/// Batches looked at.
const BATCHES: usize = 4;

/// Reads what came. What begins as a `.yxdb` is one; else a few bytes say what fields the others are the records of.
///
/// # Panics
/// When a batch is larger than it may be, rows are more than were claimed, or an error is none that a damaged file gives.
pub fn yxdb(bytes: &[u8]) {
    let file = if bytes.starts_with(MAGIC) { Some(bytes.to_vec()) } else { records(bytes) };
    let Some(file) = file else { return };
    if let Err(e) = look(&file) {
        assert_eq!(e.kind(), Kind::SourceUnreadable, "{e:?}");
    }
}

/// A file with a sound header: the first byte says how many fields there are, each of the next what one is, one how many
/// records are claimed and whether the rest is one plain block or one compressed one.
fn records(bytes: &[u8]) -> Option<Vec<u8>> {
    let (count, rest) = bytes.split_first()?;
    let (kinds, rest) = rest.split_at_checked(usize::from(count % 8) + 1)?;
    let (claim, rest) = rest.split_first()?;
    let mut xml = String::from("<RecordInfo>");
    for (at, byte) in kinds.iter().enumerate() {
        let size = usize::from(byte / 16) * 3 + 1;
        let kind = [
            Kinds::Bool,
            Kinds::Byte,
            Kinds::Int16,
            Kinds::Int32,
            Kinds::Int64,
            Kinds::Float,
            Kinds::Double,
            Kinds::FixedDecimal(size * 4, 2),
            Kinds::FixedDecimal(size, 0),
            Kinds::String(size),
            Kinds::WString(size),
            Kinds::Date,
            Kinds::Time,
            Kinds::DateTime,
            Kinds::VWString,
            Kinds::Blob,
        ][usize::from(byte % 16)];
        let (size, scale) = match kind {
            Kinds::FixedDecimal(size, scale) => (size, scale),
            _ => (size, 0),
        };
        let _ = write!(xml, "<Field name=\"f{at}\" size=\"{size}\" scale=\"{scale}\" type=\"{}\"/>", kind.name());
    }
    xml.push_str("</RecordInfo>");
    let mut file = vec![0; HEADER];
    file[..MAGIC.len()].copy_from_slice(MAGIC);
    let units: Vec<u8> = xml.encode_utf16().flat_map(u16::to_le_bytes).collect();
    file[80..84].copy_from_slice(&u32::try_from(units.len() / 2).ok()?.to_le_bytes());
    file[104..112].copy_from_slice(&u64::from(claim / 2).to_le_bytes());
    file.extend(units);
    let length = u32::try_from(rest.len()).ok()?;
    file.extend(if claim % 2 == 0 { length | RAW } else { length }.to_le_bytes());
    file.extend(rest);
    let end = file.len() as u64;
    file[96..104].copy_from_slice(&end.to_le_bytes());
    Some(file)
}

fn look(bytes: &[u8]) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new().wrap(Kind::SourceUnreadable, || "no file to write to".into())?;
    file.write_all(bytes).wrap(Kind::SourceUnreadable, || "no file to write to".into())?;
    let reader = YxdbReader::open(file.path())?;
    let claimed = reader.left();
    let mut rows = 0;
    for batch in reader.take(BATCHES) {
        let batch = batch?;
        assert!(batch.get_array_memory_size() <= LARGEST, "a batch of {} bytes", batch.get_array_memory_size());
        rows += batch.num_rows() as u64;
    }
    assert!(rows <= claimed, "{rows} of {claimed} rows");
    Ok(())
}
