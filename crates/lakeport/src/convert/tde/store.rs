//! Bytes read in any order (dictionaries and heaps) or in one go (columns), in memory that does not follow the file's size.

use std::sync::Arc;

use super::layout::{Span, Volume, damaged, number};
use crate::error::Result;

/// Bytes of a page.
const PAGE: u64 = 8192;

/// A stretch of the file read at random places, through pages that are kept while there is room.
#[derive(Debug)]
pub(super) struct Store {
    volume: Arc<Volume>,
    span: Span,
    /// Pages, each in the one slot that its number gives.
    pages: Vec<Page>,
}

#[derive(Debug, Clone, Default)]
struct Page {
    number: Option<u64>,
    bytes: Vec<u8>,
}

impl Store {
    /// Keeps up to `budget` bytes, at least a few pages.
    pub(super) fn new(volume: Arc<Volume>, span: Span, budget: u64) -> Self {
        let slots = span.size().div_ceil(PAGE).min((budget / PAGE).max(4)).max(1);
        Self { volume, span, pages: vec![Page::default(); usize::try_from(slots).unwrap_or(1)] }
    }

    /// Its bytes.
    pub(super) fn size(&self) -> u64 {
        self.span.size()
    }

    /// Fills `into` from a place counted from the start of the stretch.
    pub(super) fn read(&mut self, mut at: u64, mut into: &mut [u8]) -> Result<()> {
        let end = at.checked_add(into.len() as u64).filter(|end| *end <= self.size());
        if end.is_none() {
            return Err(damaged(format!("{} bytes at {at} lie outside of a dictionary of {} bytes", into.len(), self.size())));
        }
        while !into.is_empty() {
            let page = self.page(at / PAGE)?;
            let from = usize::try_from(at % PAGE).unwrap_or(0);
            let now = (page.len() - from).min(into.len());
            let (head, tail) = std::mem::take(&mut into).split_at_mut(now);
            head.copy_from_slice(&page[from..from + now]);
            into = tail;
            at += now as u64;
        }
        Ok(())
    }

    /// An unsigned number of `width` bytes.
    pub(super) fn number(&mut self, at: u64, width: usize) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes[..width])?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn page(&mut self, wanted: u64) -> Result<&[u8]> {
        let slots = self.pages.len() as u64;
        let page = &mut self.pages[usize::try_from(wanted % slots).unwrap_or(0)];
        if page.number != Some(wanted) {
            let start = wanted * PAGE;
            page.number = None;
            page.bytes.resize(usize::try_from(PAGE.min(self.span.size() - start)).unwrap_or(0), 0);
            self.volume.read(self.span.start + start, &mut page.bytes)?;
            page.number = Some(wanted);
        }
        Ok(&page.bytes)
    }
}

/// A stretch of the file read from its start to its end.
#[derive(Debug)]
pub(super) struct Sequence {
    volume: Arc<Volume>,
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    used: usize,
    most: usize,
}

impl Sequence {
    /// Reads `most` bytes ahead.
    pub(super) fn new(volume: Arc<Volume>, span: Span, most: usize) -> Self {
        Self { volume, at: span.start, end: span.end, buffer: Vec::new(), used: 0, most: most.max(16) }
    }

    /// How many bytes it reads ahead.
    pub(super) fn ahead(&self) -> usize {
        self.most
    }

    /// Bytes not taken yet.
    pub(super) fn left(&self) -> u64 {
        self.end - self.at + (self.buffer.len() - self.used) as u64
    }

    /// The next bytes, of which there are never more than a block of values has.
    pub(super) fn take(&mut self, bytes: usize) -> Result<&[u8]> {
        if self.buffer.len() - self.used < bytes {
            if self.left() < bytes as u64 {
                return Err(damaged(format!("a column ends {} bytes before its values do", bytes as u64 - self.left())));
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            let have = self.buffer.len();
            let more = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(bytes.max(self.most) - have);
            self.buffer.resize(have + more, 0);
            self.volume.read(self.at, &mut self.buffer[have..])?;
            self.at += more as u64;
        }
        let taken = &self.buffer[self.used..self.used + bytes];
        self.used += bytes;
        Ok(taken)
    }

    /// The next bytes as an unsigned number.
    pub(super) fn number(&mut self, width: usize) -> Result<u64> {
        self.take(width).map(number)
    }
}
