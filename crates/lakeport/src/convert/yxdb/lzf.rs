//! The LZF bit format (liblzf's, public): runs of literals and references of up to 264 bytes into the last 8 KiB.

/// Bits of the table of positions.
const BITS: u32 = 14;
const LITERALS: usize = 32;
const REACH: usize = 1 << 13;
const LONGEST: usize = 264;
/// The format knows repetitions of three bytes, too; they save too little.
const SHORTEST: usize = 4;
/// No position.
const NOWHERE: u32 = u32::MAX;
/// After 64 bytes (as a power of two) without a repetition, every other place is looked at; after 128, every third.
const PATIENCE: u32 = 6;

/// Positions in the block by the hash of the four bytes that stand there; lent to block after block.
#[derive(Debug)]
pub(super) struct Table(Box<[u32; 1 << BITS]>);

impl Default for Table {
    fn default() -> Self {
        Self(Box::new([NOWHERE; 1 << BITS]))
    }
}

/// Compresses into `out`, or tells that it would not become smaller.
pub(super) fn compress(input: &[u8], out: &mut Vec<u8>, table: &mut Table) -> bool {
    out.clear();
    out.reserve(input.len());
    let table = &mut *table.0;
    table.fill(NOWHERE);
    let limit = input.len().saturating_sub(1);
    let (mut at, mut literals) = (0, 0);
    while let Some(here) = input.get(at..).and_then(|rest| rest.first_chunk::<SHORTEST>()) {
        let slot = usize::try_from(u32::from_le_bytes(*here).wrapping_mul(0x9E37_79B1) >> (32 - BITS)).unwrap_or(0);
        // Positions fit: a block has 256 KiB.
        let candidate = std::mem::replace(&mut table[slot], u32::try_from(at).unwrap_or(NOWHERE));
        let candidate = usize::try_from(candidate).unwrap_or(usize::MAX);
        // Wraps to a number beyond reach where nothing was seen.
        let offset = at.wrapping_sub(candidate).wrapping_sub(1);
        if offset >= REACH || input[candidate..].first_chunk::<SHORTEST>() != Some(here) {
            // Where nothing has repeated for long, ever fewer places are looked at.
            at += 1 + ((at - literals) >> PATIENCE);
            continue;
        }
        flush(&input[literals..at], out);
        let longest = LONGEST.min(input.len() - at);
        let length = SHORTEST + alike(&input[candidate + SHORTEST..], &input[at + SHORTEST..at + longest]);
        let (high, low) = ((offset >> 8).to_le_bytes()[0], offset.to_le_bytes()[0]);
        let code = length - 2;
        if code < 7 {
            out.extend_from_slice(&[high | (code.to_le_bytes()[0] << 5), low]);
        } else {
            out.extend_from_slice(&[high | (7 << 5), (code - 7).to_le_bytes()[0], low]);
        }
        at += length;
        literals = at;
        if out.len() >= limit {
            return false;
        }
    }
    flush(&input[literals..], out);
    out.len() < limit
}

/// How many bytes two slices begin with alike; the second is no longer than the first.
fn alike(earlier: &[u8], later: &[u8]) -> usize {
    let mut length = 0;
    while let (Some(a), Some(b)) = (earlier[length..].first_chunk::<8>(), later[length..].first_chunk::<8>()) {
        let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differing != 0 {
            return length + usize::try_from(differing.trailing_zeros() / 8).unwrap_or(0);
        }
        length += 8;
    }
    length + earlier[length..].iter().zip(&later[length..]).take_while(|(a, b)| a == b).count()
}

fn flush(literals: &[u8], out: &mut Vec<u8>) {
    if literals.is_empty() {
        return;
    }
    for run in literals.chunks(LITERALS) {
        out.push((run.len() - 1).to_le_bytes()[0]);
        out.extend_from_slice(run);
    }
}

/// Decompresses into `out`, which may grow to `most` bytes; `None` for what is no LZF.
pub(super) fn decompress(input: &[u8], out: &mut Vec<u8>, most: usize) -> Option<()> {
    out.clear();
    let mut at = 0;
    while let Some(control) = input.get(at).copied().map(usize::from) {
        at += 1;
        if control < LITERALS {
            let run = input.get(at..at + control + 1)?;
            out.extend_from_slice(run);
            at += run.len();
        } else {
            let mut length = control >> 5;
            if length == 7 {
                length += usize::from(*input.get(at)?);
                at += 1;
            }
            let offset = ((control & 31) << 8) | usize::from(*input.get(at)?);
            at += 1;
            let from = out.len().checked_sub(offset + 1)?;
            if out.len() + length + 2 > most {
                return None;
            }
            // Source and destination may overlap: what is copied may be copied again.
            let mut left = length + 2;
            while left > 0 {
                let piece = left.min(out.len() - from);
                out.extend_from_within(from..from + piece);
                left -= piece;
            }
        }
        if out.len() > most {
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator, so that a failure can be repeated.
    fn noise(seed: u64, length: usize, letters: u64) -> Vec<u8> {
        let mut state = seed;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                u8::try_from((state >> 33) % letters).unwrap()
            })
            .collect()
    }

    #[test]
    fn what_was_compressed_comes_back() {
        let (mut packed, mut table, mut back) = (Vec::new(), Table::default(), Vec::new());
        for length in [1, 2, 3, 4, 31, 32, 33, 263, 264, 265, 266, 5000, 0x40000] {
            for letters in [1, 2, 4, 16, 256] {
                let input = noise(length as u64 + letters, length, letters);
                if compress(&input, &mut packed, &mut table) {
                    assert!(packed.len() < input.len());
                    decompress(&packed, &mut back, 0x40000).unwrap();
                    assert_eq!(back, input, "{length} {letters}");
                } else {
                    assert!(length < 300 || letters > 4, "{length} {letters}");
                }
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let mut out = Vec::new();
        assert!(decompress(&[0x20, 0], &mut out, 100).is_none());
        assert!(decompress(&[31, 1], &mut out, 100).is_none());
        assert!(decompress(&[0, 7, 0xE0, 255, 0], &mut out, 100).is_none());
        for seed in 0..2000 {
            let _ = decompress(&noise(seed, 64, 256), &mut out, 4096);
            assert!(out.len() <= 4096 + LITERALS);
        }
    }
}
