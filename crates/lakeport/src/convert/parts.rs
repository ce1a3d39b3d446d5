//! Rows into one file after another, each with a fingerprint of its own.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::manifest::{Names, Part, Split};
use super::output::sha256;
use super::{Format, Writer};
use crate::error::{Context, Result};
use crate::limits::Limits;
use crate::types::Mapping;
use crate::verify::{Accumulator, Fingerprint, Verify};

/// Rows between two looks at how large a file has become.
const STEP: usize = 1024;

/// Writes the files of one set, or of one partition of it.
pub struct Parts {
    to: Place,
    split: Split,
    partition: Option<String>,
    next: usize,
    open: Option<Open>,
    done: Vec<(Part, Option<Fingerprint>)>,
}

/// Where parts are written, and how.
#[derive(Debug, Clone)]
pub struct Place {
    /// The format of the parts.
    pub format: Arc<dyn Format>,
    /// The directory, of a name that readers leave out.
    pub directory: PathBuf,
    /// What they are called.
    pub names: Names,
    /// The run's id in their names.
    pub id: String,
    /// What becomes of the columns.
    pub mapping: Arc<Mapping>,
    /// How thoroughly they will be verified.
    pub verify: Verify,
    /// The bounds.
    pub limits: Limits,
}

/// The part being written.
struct Open {
    name: String,
    writer: Box<dyn Writer>,
    left: Accumulator,
    rows: u64,
    /// Bytes of the batches written, for formats that do not tell the size of a file that is not finished.
    gathered: u64,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("split", &self.split).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Parts {
    /// Prepares for parts from number `first` on; a partition fills one part, however large.
    #[must_use]
    pub fn new(to: Place, split: Split, first: usize, partition: Option<String>) -> Self {
        Self { to, split, partition, next: first, open: None, done: Vec::new() }
    }

    /// Writes a batch of the mapping's physical types, ending files where they are full.
    ///
    /// # Errors
    /// As [`Writer::write`] and [`Writer::finish`].
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut from = 0;
        while from < batch.num_rows() {
            let mut part = match self.open.take() {
                Some(part) => part,
                None => self.begin()?,
            };
            let left = batch.num_rows() - from;
            let take = match self.split {
                Split::Partition => left,
                Split::Rows(rows) => usize::try_from(rows - part.rows).unwrap_or(left).min(left),
                Split::Size(_) => STEP.min(left),
            };
            let piece = batch.slice(from, take);
            part.writer.write(0, &piece)?;
            part.left.add(&piece);
            part.rows += take as u64;
            from += take;
            let full = match self.split {
                Split::Partition => false,
                Split::Rows(rows) => part.rows >= rows,
                Split::Size(bytes) => {
                    part.gathered +=
                        piece.columns().iter().filter_map(|c| c.to_data().get_slice_memory_size().ok()).sum::<usize>() as u64;
                    part.writer.size().unwrap_or(part.gathered) >= bytes
                }
            };
            if full { self.end(part)? } else { self.open = Some(part) }
        }
        Ok(())
    }

    /// Ends the last file; one file without rows is made where there is no other and `at_least_one` asks for it.
    ///
    /// # Errors
    /// As [`Writer::finish`].
    pub fn finish(mut self, at_least_one: bool) -> Result<Vec<(Part, Option<Fingerprint>)>> {
        if let Some(part) = self.open.take() {
            self.end(part)?;
        }
        if self.done.is_empty() && at_least_one {
            let part = self.begin()?;
            self.end(part)?;
        }
        Ok(self.done)
    }

    fn begin(&mut self) -> Result<Open> {
        let to = &self.to;
        let name = to.names.part(self.next, &to.id);
        self.next += 1;
        let writer = to.format.create(&to.directory.join(&name), &[&to.mapping], &to.limits).at("part", &name)?;
        Ok(Open { name, writer, left: Accumulator::new(&to.mapping, to.verify), rows: 0, gathered: 0 })
    }

    fn end(&mut self, part: Open) -> Result<()> {
        let written = part.writer.finish().at("part", &part.name)?;
        let part_done = Part {
            sha256: sha256(&written.path)?,
            name: part.name,
            rows: part.rows,
            bytes: written.bytes,
            partition: self.partition.clone(),
            fingerprint: None,
        };
        self.done.push((part_done, (self.to.verify > Verify::None).then(|| part.left.finish())));
        Ok(())
    }
}
