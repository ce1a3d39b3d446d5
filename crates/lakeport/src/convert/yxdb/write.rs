//! Writes E1: the caller encodes records into blocks, the other cores compress them, one thread writes them in order.
//!
//! Memory is bounded by the blocks under way. A group of 65,536 records begins with a block of its own, whose place goes into
//! the index.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use arrow::array::RecordBatch;

use super::encode::Encoder;
use super::layout::{BLOCK, GROUP, PATCH, RAW, head};
use super::lzf;
use crate::convert::output::Encode;
use crate::error::{Error, Kind, Result, Wrap};
use crate::types::Mapping;

/// A block to compress, and where the result goes.
type Work = (Vec<u8>, SyncSender<Packed>);

/// A compressed block as it stands in the file, with its buffer handed back.
struct Packed(Vec<u8>);

/// What the writing thread is told, in the order of the file.
enum Next {
    /// The next block begins a group.
    Group,
    /// A block, when it is compressed.
    Block(Receiver<Packed>),
    /// The end: so many records.
    End(u64),
}

/// The writer of one file.
pub(super) struct YxdbEncoder {
    encoder: Encoder,
    record: Vec<u8>,
    block: Vec<u8>,
    records: u64,
    work: Option<SyncSender<Work>>,
    order: SyncSender<Next>,
    compressors: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<Result<()>>>,
}

impl YxdbEncoder {
    /// Creates the file with its header and starts the threads.
    pub(super) fn create(path: &Path, mapping: &Mapping, cores: usize) -> Result<Self> {
        let (head, fields) = head(mapping)?;
        let failed = || format!("cannot write {}", path.display());
        let mut file = BufWriter::with_capacity(1024 * 1024, File::create(path).wrap(Kind::WriteFailed, failed)?);
        file.write_all(&head).wrap(Kind::WriteFailed, failed)?;
        let threads = cores.saturating_sub(1).max(1);
        let (work, jobs) = sync_channel::<Work>(threads);
        let jobs = Arc::new(Mutex::new(jobs));
        let compressors = (0..threads)
            .map(|_| {
                let jobs = Arc::clone(&jobs);
                std::thread::spawn(move || compress(&jobs))
            })
            .collect();
        let (order, next) = sync_channel(threads * 2);
        let at = head.len() as u64;
        let writer = Some(std::thread::spawn(move || write(file, at, &next)));
        Ok(Self {
            encoder: Encoder::new(fields),
            record: Vec::new(),
            block: Vec::with_capacity(BLOCK),
            records: 0,
            work: Some(work),
            order,
            compressors,
            writer,
        })
    }

    /// What the writing thread died of.
    fn died(writer: &mut Option<JoinHandle<Result<()>>>) -> Error {
        let panicked = || Error::new(Kind::Unexpected, "a thread that writes the .yxdb file ended early");
        match writer.take().map(JoinHandle::join) {
            Some(Ok(Err(e))) => e,
            _ => panicked(),
        }
    }
}

/// Sends a full block to be compressed, and its place in the order to the writer.
fn send(block: &mut Vec<u8>, work: Option<&SyncSender<Work>>, order: &SyncSender<Next>) -> bool {
    if block.is_empty() {
        return true;
    }
    let full = std::mem::replace(block, Vec::with_capacity(BLOCK));
    let (done, result) = sync_channel(1);
    work.is_some_and(|w| w.send((full, done)).is_ok()) && order.send(Next::Block(result)).is_ok()
}

impl Encode for YxdbEncoder {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let Self { encoder, record, block, records, work, order, writer, .. } = self;
        let mut alive = true;
        let encoded = encoder.rows(batch, record, &mut |bytes| {
            if *records % GROUP == 0 {
                alive &= send(block, work.as_ref(), order) && order.send(Next::Group).is_ok();
            }
            *records += 1;
            let mut rest = bytes;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(BLOCK - block.len()));
                block.extend_from_slice(now);
                rest = later;
                if block.len() == BLOCK {
                    alive &= send(block, work.as_ref(), order);
                }
            }
            if alive { Ok(()) } else { Err(Error::new(Kind::Unexpected, "nobody writes")) }
        });
        if alive { encoded } else { Err(Self::died(writer)) }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let sent = send(&mut self.block, self.work.as_ref(), &self.order) && self.order.send(Next::End(self.records)).is_ok();
        self.work = None;
        if !sent {
            return Err(Self::died(&mut self.writer));
        }
        for thread in self.compressors.drain(..) {
            thread.join().map_err(|_| Error::new(Kind::Unexpected, "a thread that compresses the .yxdb file panicked"))?;
        }
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Err(Error::new(Kind::Unexpected, "the thread that writes the .yxdb file panicked")),
        }
    }
}

/// Compresses blocks until nobody sends any.
fn compress(jobs: &Mutex<Receiver<Work>>) {
    let mut table = Vec::new();
    let mut packed = Vec::new();
    loop {
        let job = match jobs.lock() {
            Ok(jobs) => jobs.recv(),
            Err(_) => return,
        };
        let Ok((block, done)) = job else { return };
        let smaller = lzf::compress(&block, &mut packed, &mut table);
        let bytes = if smaller { &packed } else { &block };
        let length = u32::try_from(bytes.len()).unwrap_or(0) | if smaller { 0 } else { RAW };
        let mut out = Vec::with_capacity(bytes.len() + 4);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(bytes);
        // A writer that is gone has said why.
        let _ = done.send(Packed(out));
    }
}

/// Writes blocks in order, then the index, then what the header could not know at the start.
fn write(mut file: BufWriter<File>, mut at: u64, next: &Receiver<Next>) -> Result<()> {
    let failed = || "cannot write the .yxdb file".to_owned();
    let mut index: Vec<u64> = Vec::new();
    loop {
        match next.recv() {
            Ok(Next::Group) => index.push(at),
            Ok(Next::Block(packed)) => {
                let Ok(Packed(bytes)) = packed.recv() else {
                    return Err(Error::new(Kind::Unexpected, "a thread that compresses the .yxdb file ended early"));
                };
                file.write_all(&bytes).wrap(Kind::WriteFailed, failed)?;
                at += bytes.len() as u64;
            }
            Ok(Next::End(records)) => {
                let count = u32::try_from(index.len()).wrap(Kind::Unsupported, || "too many records for .yxdb".into())?;
                file.write_all(&count.to_le_bytes()).wrap(Kind::WriteFailed, failed)?;
                for place in &index {
                    file.write_all(&place.to_le_bytes()).wrap(Kind::WriteFailed, failed)?;
                }
                file.seek(SeekFrom::Start(PATCH)).wrap(Kind::WriteFailed, failed)?;
                file.write_all(&at.to_le_bytes()).wrap(Kind::WriteFailed, failed)?;
                file.write_all(&records.to_le_bytes()).wrap(Kind::WriteFailed, failed)?;
                let file = file.into_inner().map_err(std::io::IntoInnerError::into_error).wrap(Kind::WriteFailed, failed)?;
                return file.sync_all().wrap(Kind::WriteFailed, failed);
            }
            // Given up before the end: the temporary file goes with the run.
            Err(_) => return Ok(()),
        }
    }
}
