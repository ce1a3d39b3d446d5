//! The LZF bit format (liblzf's, public): runs of literals and references of up to 264 bytes into the last 8 KiB.

/// Bits of the table of positions; a position is found again by the hash of three bytes.
const BITS: u32 = 14;
const LITERALS: usize = 32;
const REACH: usize = 1 << 13;
const LONGEST: usize = 264;

/// Compresses into `out`, or tells that it would not become smaller.
pub(super) fn compress(input: &[u8], out: &mut Vec<u8>, table: &mut Vec<u32>) -> bool {
    out.clear();
    table.clear();
    table.resize(1 << BITS, u32::MAX);
    let limit = input.len().saturating_sub(1);
    let (mut at, mut literals) = (0, 0);
    while at + 2 < input.len() {
        let seen = u32::from_le_bytes([input[at], input[at + 1], input[at + 2], 0]);
        let slot = usize::try_from(seen.wrapping_mul(0x9E37_79B1) >> (32 - BITS)).unwrap_or(0);
        let candidate = usize::try_from(table[slot]).unwrap_or(usize::MAX);
        // Positions fit: a block has 256 KiB.
        table[slot] = u32::try_from(at).unwrap_or(u32::MAX);
        let near = candidate < at && at - candidate <= REACH;
        if !near || input[candidate..candidate + 3] != input[at..at + 3] {
            at += 1;
            continue;
        }
        flush(&input[literals..at], out);
        let longest = LONGEST.min(input.len() - at);
        let length = 3 + input[candidate + 3..].iter().zip(&input[at + 3..at + longest]).take_while(|(a, b)| a == b).count();
        let offset = at - candidate - 1;
        let (high, low) = ((offset >> 8).to_le_bytes()[0], offset.to_le_bytes()[0]);
        let code = length - 2;
        if code < 7 {
            out.push(high | (code.to_le_bytes()[0] << 5));
        } else {
            out.push(high | (7 << 5));
            out.push((code - 7).to_le_bytes()[0]);
        }
        out.push(low);
        at += length;
        literals = at;
        if out.len() >= limit {
            return false;
        }
    }
    flush(&input[literals..], out);
    out.len() < limit
}

fn flush(literals: &[u8], out: &mut Vec<u8>) {
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
            // Source and destination may overlap: a byte copied may be copied again.
            for index in from..from + length + 2 {
                out.push(out[index]);
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
        let (mut packed, mut table, mut back) = (Vec::new(), Vec::new(), Vec::new());
        for length in [1, 2, 3, 4, 31, 32, 33, 263, 264, 265, 266, 5000, 0x40000] {
            for letters in [1, 2, 4, 16, 256] {
                let input = noise(length as u64 + letters, length, letters);
                if compress(&input, &mut packed, &mut table) {
                    assert!(packed.len() < input.len());
                    decompress(&packed, &mut back, 0x40000).unwrap();
                    assert_eq!(back, input, "{length} {letters}");
                } else {
                    assert!(length < 300 || letters > 16, "{length} {letters}");
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
