//! Writes E1: slices of batches become records on all cores, the caller cuts those into blocks, which are compressed
//! on all cores, and writes them in order.
//!
//! Memory is bounded by the slices and blocks under way. A group of 65,536 records begins with a block of its own, whose place
//! goes into the index; a slice never spans two groups.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::encode::Encoder;
use super::layout::{BLOCK, GROUP, PATCH, RAW, head};
use super::lzf;
use crate::convert::crew::{Crew, slice_rows};
use crate::convert::output::Encode;
use crate::error::{Kind, Result, Wrap};
use crate::types::Mapping;

/// Bytes of a slice as Arrow; about twice that as records.
const SLICE: usize = 1024 * 1024;

/// What begins a group, or not, with its bytes.
struct Part<T> {
    begins: bool,
    what: T,
}

/// The writer of one file.
pub(super) struct YxdbEncoder {
    file: BufWriter<File>,
    /// Where the file ends so far.
    at: u64,
    index: Vec<u64>,
    /// Records taken so far.
    records: u64,
    encoders: Crew<Part<RecordBatch>, Result<Part<Vec<u8>>>>,
    block: Part<Vec<u8>>,
    compressors: Crew<Part<Vec<u8>>, Part<Vec<u8>>>,
}

impl YxdbEncoder {
    /// Creates the file with its header and starts the threads.
    pub(super) fn create(path: &Path, mapping: &Mapping, cores: usize) -> Result<Self> {
        let (head, fields) = head(mapping)?;
        let failed = || format!("cannot write {}", path.display());
        let mut file = BufWriter::with_capacity(1024 * 1024, File::create(path).wrap(Kind::WriteFailed, failed)?);
        file.write_all(&head).wrap(Kind::WriteFailed, failed)?;
        let encoder = Arc::new(Encoder::new(fields));
        let encoders = Crew::new(cores, || {
            let encoder = Arc::clone(&encoder);
            move |slice: Part<RecordBatch>| {
                encoder.records(&slice.what).map(|records| Part { begins: slice.begins, what: records })
            }
        });
        let compressors = Crew::new(cores, || {
            let (mut table, mut packed) = (lzf::Table::default(), Vec::new());
            move |block: Part<Vec<u8>>| Part { begins: block.begins, what: compressed(&block.what, &mut packed, &mut table) }
        });
        let block = Part { begins: false, what: Vec::with_capacity(BLOCK) };
        Ok(Self { file, at: head.len() as u64, index: Vec::new(), records: 0, encoders, block, compressors })
    }

    /// Cuts the records of a slice into blocks.
    fn cut(&mut self, records: &Part<Vec<u8>>) -> Result<()> {
        if records.begins {
            self.flush()?;
            self.block.begins = true;
        }
        let mut rest = records.what.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK - self.block.what.len()));
            self.block.what.extend_from_slice(now);
            rest = later;
            if self.block.what.len() == BLOCK {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Sends the block to be compressed.
    fn flush(&mut self) -> Result<()> {
        if self.block.what.is_empty() {
            return Ok(());
        }
        let next = Part { begins: false, what: Vec::with_capacity(BLOCK) };
        match self.compressors.give(std::mem::replace(&mut self.block, next))? {
            Some(packed) => self.append(&packed),
            None => Ok(()),
        }
    }

    /// Writes a compressed block.
    fn append(&mut self, packed: &Part<Vec<u8>>) -> Result<()> {
        if packed.begins {
            self.index.push(self.at);
        }
        self.at += packed.what.len() as u64;
        self.file.write_all(&packed.what).wrap(Kind::WriteFailed, failed)
    }
}

impl Encode for YxdbEncoder {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let step = slice_rows(batch, SLICE);
        let mut at = 0;
        while at < batch.num_rows() {
            let group = usize::try_from(GROUP - self.records % GROUP).unwrap_or(step);
            let rows = (batch.num_rows() - at).min(step).min(group);
            let slice = Part { begins: self.records.is_multiple_of(GROUP), what: batch.slice(at, rows) };
            self.records += rows as u64;
            at += rows;
            if let Some(records) = self.encoders.give(slice)? {
                self.cut(&records?)?;
            }
        }
        Ok(())
    }

    /// Writes what is under way, then the index, then what the header could not know at the start.
    fn finish(mut self: Box<Self>) -> Result<()> {
        while let Some(records) = self.encoders.oldest()? {
            self.cut(&records?)?;
        }
        self.flush()?;
        while let Some(packed) = self.compressors.oldest()? {
            self.append(&packed)?;
        }
        let Self { mut file, at, index, records, .. } = *self;
        let count = u32::try_from(index.len()).wrap(Kind::Unsupported, || "too many records for .yxdb".into())?;
        file.write_all(&count.to_le_bytes()).wrap(Kind::WriteFailed, failed)?;
        for place in &index {
            file.write_all(&place.to_le_bytes()).wrap(Kind::WriteFailed, failed)?;
        }
        file.seek(SeekFrom::Start(PATCH)).wrap(Kind::WriteFailed, failed)?;
        file.write_all(&at.to_le_bytes()).wrap(Kind::WriteFailed, failed)?;
        file.write_all(&records.to_le_bytes()).wrap(Kind::WriteFailed, failed)?;
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error).wrap(Kind::WriteFailed, failed)?;
        file.sync_all().wrap(Kind::WriteFailed, failed)
    }
}

fn failed() -> String {
    "cannot write the .yxdb file".to_owned()
}

/// A block as it stands in the file: its length, then its bytes.
fn compressed(block: &[u8], packed: &mut Vec<u8>, table: &mut lzf::Table) -> Vec<u8> {
    let smaller = lzf::compress(block, packed, table);
    let bytes = if smaller { packed.as_slice() } else { block };
    let length = u32::try_from(bytes.len()).unwrap_or(0) | if smaller { 0 } else { RAW };
    let mut out = Vec::with_capacity(bytes.len() + 4);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
    out
}
