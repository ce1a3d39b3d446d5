//! The encodings: from a column's file to its values, or its places in a dictionary, as unsigned numbers of one width.
//!
//! The property `encoding` says which; all but the run lengths come in blocks of bit-packed numbers behind a common header.

use std::sync::Arc;

use super::layout::{Span, Volume, damaged, number};
use super::store::{Sequence, Store};
use crate::error::{Error, Kind, Result};

/// Bytes of the header that the block encodings share.
const HEADER: u64 = 32;
/// Most values of a block; all known files have 1,024.
const LARGEST_BLOCK: u64 = 65_536;
/// Bytes of a dictionary's table that are kept in memory.
const TABLE: u64 = 256 * 1024;

/// How a column's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// One after another.
    Plain,
    /// Runs of equal numbers.
    Runs,
    /// Distances from a least number.
    Frame,
    /// Places in a table of numbers.
    Table,
    /// Distances from the number before.
    Delta,
    /// A start and a step.
    Affine,
}

impl Encoding {
    /// Reads the property `encoding`.
    pub(super) fn of(property: Option<&str>) -> Result<Self> {
        Ok(match property {
            None | Some("" | "none") => Self::Plain,
            Some("rle") => Self::Runs,
            Some("for") => Self::Frame,
            Some("dict") => Self::Table,
            Some("delta") => Self::Delta,
            Some("affine") => Self::Affine,
            Some(other) => return Err(Error::new(Kind::Unsupported, format!("the encoding `{other}` is not known"))),
        })
    }
}

/// The numbers of one column, in order.
#[derive(Debug)]
pub(super) struct Numbers {
    input: Sequence,
    width: usize,
    mask: u64,
    rows: u64,
    left: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Plain,
    Runs { count_width: usize, count: u64, value: u64 },
    Affine { next: u64, step: u64 },
    Blocks { packing: Packing, block: u64, bits: u32, packed: Vec<u8>, at: u64, of: u64 },
}

/// What a bit-packed number means.
#[derive(Debug)]
enum Packing {
    Frame { least: u64 },
    Table { entries: u64, table: Store },
    Delta { step: u64, value: u64 },
}

impl Numbers {
    /// Reads what stands before the numbers. `width` is that of one number, 1 to 8 bytes.
    pub(super) fn open(volume: &Arc<Volume>, span: Span, encoding: Encoding, width: usize, ahead: usize) -> Result<Self> {
        if !matches!(width, 1 | 2 | 4 | 8) {
            return Err(damaged(format!("a column's values have {width} bytes each")));
        }
        let mut input = Sequence::new(Arc::clone(volume), span, ahead);
        let mask = u64::MAX >> (64 - 8 * width);
        let decoded = match encoding {
            Encoding::Plain => span.size(),
            _ => input.number(8)?,
        };
        if !decoded.is_multiple_of(width as u64) {
            return Err(damaged(format!("a column of {decoded} bytes holds values of {width} bytes")));
        }
        let rows = decoded / width as u64;
        let state = match encoding {
            Encoding::Plain => State::Plain,
            Encoding::Runs => {
                let (count_width, value_width) = (input.number(1)?, input.number(1)?);
                if !matches!(count_width, 1 | 2 | 4 | 8) || value_width != width as u64 {
                    return Err(damaged(format!("runs of {count_width}-byte counts and {value_width}-byte values")));
                }
                State::Runs { count_width: usize::try_from(count_width).unwrap_or(1), count: 0, value: 0 }
            }
            _ => Self::blocks(&mut input, volume, span, encoding, width)?,
        };
        Ok(Self { input, width, mask, rows, left: rows, state })
    }

    fn blocks(input: &mut Sequence, volume: &Arc<Volume>, span: Span, encoding: Encoding, width: usize) -> Result<State> {
        let rest = input.take(24)?;
        // A code at 12 repeats what the property says; Tableau's reader ignores it too.
        let (offset, block, bits) = (number(&rest[..8]), number(&rest[8..12]), u32::from(rest[14]));
        let x = number(&rest[16..24]);
        if u64::from(rest[15]) != width as u64 {
            return Err(damaged(format!("a column of {width}-byte values is encoded as {}-byte ones", rest[15])));
        }
        if offset < HEADER || offset > span.size() {
            return Err(damaged(format!("a column of {} bytes has its values at {offset}", span.size())));
        }
        *input = Sequence::new(Arc::clone(volume), Span { start: span.start + offset, ..span }, input.ahead());
        if encoding == Encoding::Affine {
            return Ok(State::Affine { next: x, step: input.number(8)? });
        }
        if block == 0 || block > LARGEST_BLOCK || !block.is_multiple_of(8) || bits > 64 {
            return Err(damaged(format!("a column of blocks of {block} values of {bits} bits")));
        }
        let packing = match encoding {
            Encoding::Table => {
                if bits > 32 || x > 1 << bits || x * width as u64 > offset - HEADER {
                    return Err(damaged(format!("a table of {x} entries for {bits} bits in {} bytes", offset - HEADER)));
                }
                let table = Span { start: span.start + HEADER, end: span.start + offset };
                Packing::Table { entries: x, table: Store::new(Arc::clone(volume), table, TABLE) }
            }
            Encoding::Delta => Packing::Delta { step: x, value: 0 },
            _ => Packing::Frame { least: x },
        };
        Ok(State::Blocks { packing, block, bits, packed: Vec::new(), at: 0, of: 0 })
    }

    /// How many numbers the column has.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends the next numbers.
    pub(super) fn take(&mut self, mut rows: usize, into: &mut Vec<u64>) -> Result<()> {
        if rows as u64 > self.left {
            return Err(damaged("a column has fewer values than the table has rows"));
        }
        self.left -= rows as u64;
        into.reserve(rows);
        match &mut self.state {
            State::Plain => {
                while rows > 0 {
                    let now = rows.min(1024);
                    let bytes = self.input.take(now * self.width)?;
                    into.extend(bytes.chunks_exact(self.width).map(number));
                    rows -= now;
                }
            }
            State::Runs { count_width, count, value } => {
                while rows > 0 {
                    if *count == 0 {
                        *count = self.input.number(*count_width)?.checked_add(1).ok_or_else(|| damaged("a run without end"))?;
                        *value = self.input.number(self.width)?;
                    }
                    let now = usize::try_from(*count).unwrap_or(usize::MAX).min(rows);
                    into.extend(std::iter::repeat_n(*value, now));
                    *count -= now as u64;
                    rows -= now;
                }
                if self.left == 0 && *count > 0 {
                    return Err(damaged("a column's last run has more values than the table has rows"));
                }
            }
            State::Affine { next, step } => {
                for _ in 0..rows {
                    into.push(*next & self.mask);
                    *next = next.wrapping_add(*step);
                }
            }
            State::Blocks { packing, block, bits, packed, at, of } => {
                for row in (0..rows as u64).rev() {
                    if *at == *of {
                        // Of the last block, only what is needed has to be there.
                        *of = (*block).min(self.left + row + 1);
                        let (block, needed) = (*block * u64::from(*bits) / 8, (*of * u64::from(*bits)).div_ceil(8));
                        if let Packing::Delta { value, .. } = packing {
                            *value = self.input.number(self.width)?;
                        }
                        let bytes = self.input.left().min(block).max(needed);
                        packed.clear();
                        packed.extend_from_slice(self.input.take(usize::try_from(bytes).unwrap_or(usize::MAX))?);
                        // So that the last number can be read as eight bytes and one more.
                        packed.extend_from_slice(&[0; 9]);
                        *at = 0;
                    }
                    let part = unpack(packed, *at, *bits);
                    let value = match packing {
                        Packing::Frame { least } => least.wrapping_add(part),
                        Packing::Table { entries, table } => {
                            if part >= *entries {
                                return Err(damaged(format!("place {part} in a table of {entries} entries")));
                            }
                            table.number(part * self.width as u64, self.width)?
                        }
                        Packing::Delta { step, value } => {
                            if *at > 0 {
                                *value = value.wrapping_add(*step).wrapping_add(part);
                            }
                            *value
                        }
                    };
                    into.push(value & self.mask);
                    *at += 1;
                }
            }
        }
        Ok(())
    }
}

/// Number `index` of a stream of bits, the lowest bit of each byte first; nine bytes follow it.
fn unpack(packed: &[u8], index: u64, bits: u32) -> u64 {
    if bits == 0 {
        return 0;
    }
    let bit = index * u64::from(bits);
    let (byte, shift) = (usize::try_from(bit / 8).unwrap_or(0), u32::try_from(bit % 8).unwrap_or(0));
    let low = number(&packed[byte..byte + 8]) >> shift;
    let high = if shift == 0 { 0 } else { u64::from(packed[byte + 8]) << (64 - shift) };
    (low | high) & (u64::MAX >> (64 - bits))
}
