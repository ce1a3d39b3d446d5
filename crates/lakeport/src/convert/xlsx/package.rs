//! The container of a workbook: a ZIP archive whose entries may come compressed already, piece by piece.
//!
//! Source: PKWARE's APPNOTE 6.3 (local header 4.3.7, central directory 4.3.12, ZIP64 4.3.14 and 4.5.3). Written here because
//! the library at hand compresses an entry itself, on one core.

use std::io::{self, Read, Write};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

/// What does not fit 32 bits stands in a ZIP64 field, and this here.
const ELSEWHERE: u32 = u32::MAX;
/// 1980-01-01, so that the same rows make the same file.
const DATE: u16 = 0x21;

/// Bytes that were compressed apart from their neighbours and end on a whole byte.
pub(super) struct Piece {
    pub(super) packed: Vec<u8>,
    pub(super) crc: Crc,
}

/// Compresses a piece; the last of an entry ends its stream.
pub(super) fn piece(bytes: &[u8], level: u32, last: bool) -> io::Result<Piece> {
    let mut crc = Crc::new();
    crc.update(bytes);
    let mut encoder = DeflateEncoder::new(Vec::with_capacity(bytes.len() / 4 + 64), Compression::new(level));
    encoder.write_all(bytes)?;
    if last {
        return Ok(Piece { packed: encoder.finish()?, crc });
    }
    encoder.flush()?;
    // What the encoder writes when it is dropped is the end that this piece must not have.
    Ok(Piece { packed: std::mem::take(encoder.get_mut()), crc })
}

/// What is known of an entry: checksum and lengths of its content, plain and compressed.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    crc: u32,
    plain: u64,
    packed: u64,
}

/// Adds pieces up.
#[derive(Default)]
pub(super) struct Tally {
    crc: Crc,
    plain: u64,
    packed: u64,
}

impl Tally {
    pub(super) fn add(&mut self, piece: &Piece, plain: usize) {
        self.crc.combine(&piece.crc);
        self.plain += plain as u64;
        self.packed += piece.packed.len() as u64;
    }

    /// Adds what was added up elsewhere.
    pub(super) fn append(&mut self, other: &Self) {
        self.crc.combine(&other.crc);
        self.plain += other.plain;
        self.packed += other.packed;
    }

    pub(super) fn sums(&self) -> Sums {
        Sums { crc: self.crc.sum(), plain: self.plain, packed: self.packed }
    }
}

struct Entry {
    name: String,
    sums: Sums,
    at: u64,
}

/// An archive being written.
pub(super) struct Package<W> {
    out: W,
    at: u64,
    entries: Vec<Entry>,
}

impl<W: Write> Package<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, at: 0, entries: Vec::new() }
    }

    /// Adds an entry whose compressed content is at hand.
    pub(super) fn add(&mut self, name: &str, sums: Sums, content: &mut dyn Read) -> io::Result<()> {
        self.entries.push(Entry { name: name.to_owned(), sums, at: self.at });
        let Some(entry) = self.entries.last() else { return Ok(()) };
        let mut head = 0x0403_4b50u32.to_le_bytes().to_vec();
        entry.common(&mut head, None);
        self.out.write_all(&head)?;
        let copied = io::copy(content, &mut self.out)?;
        if copied != sums.packed {
            return Err(io::Error::other(format!("entry {name} has {copied} bytes instead of {}", sums.packed)));
        }
        self.at += head.len() as u64 + copied;
        Ok(())
    }

    /// Writes the directory and hands the output back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let mut directory = Vec::new();
        for entry in &self.entries {
            directory.extend(0x0201_4b50u32.to_le_bytes());
            // Made by a system like MS-DOS, by version 4.5 of the specification.
            directory.extend(45u16.to_le_bytes());
            entry.common(&mut directory, Some(entry.at));
        }
        let (entries, length) = (self.entries.len() as u64, directory.len() as u64);
        if self.at >= u64::from(ELSEWHERE) || entries >= u64::from(u16::MAX) {
            let end = self.at + length;
            directory.extend(0x0606_4b50u32.to_le_bytes());
            directory.extend(44u64.to_le_bytes());
            directory.extend([45, 0, 45, 0]);
            directory.extend([0; 8]);
            for number in [entries, entries, length, self.at] {
                directory.extend(number.to_le_bytes());
            }
            directory.extend(0x0706_4b50u32.to_le_bytes());
            directory.extend([0; 4]);
            directory.extend(end.to_le_bytes());
            directory.extend(1u32.to_le_bytes());
        }
        directory.extend(0x0605_4b50u32.to_le_bytes());
        directory.extend([0; 4]);
        let count = u16::try_from(entries).unwrap_or(u16::MAX);
        directory.extend(count.to_le_bytes());
        directory.extend(count.to_le_bytes());
        directory.extend(short(length).to_le_bytes());
        directory.extend(short(self.at).to_le_bytes());
        directory.extend([0; 2]);
        self.out.write_all(&directory)?;
        Ok(self.out)
    }
}

impl Entry {
    /// What the local header and the directory both say; the directory also says where the entry is.
    fn common(&self, out: &mut Vec<u8>, at: Option<u64>) {
        let Sums { crc, plain, packed } = self.sums;
        let numbers = [Some(plain), Some(packed), at];
        // Both lengths or none in a local header.
        let large = numbers.iter().flatten().any(|n| *n >= u64::from(ELSEWHERE));
        let (plain32, packed32) = if large { (ELSEWHERE, ELSEWHERE) } else { (short(plain), short(packed)) };
        let mut extra = Vec::new();
        if large {
            let held: Vec<u8> = numbers.iter().flatten().flat_map(|n| n.to_le_bytes()).collect();
            extra.extend(1u16.to_le_bytes());
            extra.extend(u16::try_from(held.len()).unwrap_or(0).to_le_bytes());
            extra.extend(held);
        }
        // Version needed, no flags, deflate, midnight.
        for number in [if large { 45u16 } else { 20 }, 0, 8, 0, DATE] {
            out.extend(number.to_le_bytes());
        }
        for number in [crc, packed32, plain32] {
            out.extend(number.to_le_bytes());
        }
        out.extend(u16::try_from(self.name.len()).unwrap_or(0).to_le_bytes());
        out.extend(u16::try_from(extra.len()).unwrap_or(0).to_le_bytes());
        if let Some(at) = at {
            // No comment, first disk, no attributes.
            out.extend([0; 10]);
            out.extend(if large { ELSEWHERE } else { short(at) }.to_le_bytes());
        }
        out.extend(self.name.as_bytes());
        out.extend(extra);
    }
}

fn short(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(ELSEWHERE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn another_reader_finds_what_was_packed_in_pieces() {
        let texts = ["first half, ".repeat(500), "second half, ".repeat(500), String::new(), "the end".into()];
        let mut tally = Tally::default();
        let mut packed = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let piece = piece(text.as_bytes(), 4, at + 1 == texts.len()).unwrap();
            tally.add(&piece, text.len());
            packed.extend(piece.packed);
        }
        let mut package = Package::new(Vec::new());
        package.add("a.xml", tally.sums(), &mut packed.as_slice()).unwrap();
        package.add("b.xml", tally.sums(), &mut packed.as_slice()).unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(package.finish().unwrap())).unwrap();
        for name in ["a.xml", "b.xml"] {
            let mut text = String::new();
            archive.by_name(name).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, texts.concat());
        }
    }
}
