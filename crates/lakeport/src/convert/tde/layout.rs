//! The container: a `.tde` is a tiny file system whose every file is one column's values. Little-endian throughout.
//!
//! Source: genuine extracts of 2012 to 2018 and Tableau's own reader (`tableauhyperapi` 0.0.19691), measured against both. Every
//! place and length a file gives is compared with the file's own size before anything is read or allocated for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Mutex;

use crate::error::{Error, Kind, Result, Wrap};

/// What the file starts with.
pub(super) const MAGIC: [u8; 8] = [0x20, 0x02, 0x01, 0x62, 0xA0, 0x1E, 0xAB, 0x07];
/// The version of all known files.
pub(super) const VERSION: u32 = 2;
/// Bytes of the header.
pub(super) const HEADER: usize = 32;
/// What the header ends with.
pub(super) const PADDING: [u8; 4] = [0xFF; 4];
/// Begins a directory.
pub(super) const DIRECTORY: [u8; 4] = [0xF1, 0xCA, 0x12, 0x78];
/// Begins the footer of a file.
pub(super) const FOOTER: [u8; 4] = [0xF0, 0xCA, 0x12, 0x78];
/// Ends the footer of a file: one extent, no more.
pub(super) const TAIL: [u8; 6] = [1, 0, 0, 0, 0, 0];
/// Nodes and data begin at multiples of this.
pub(super) const ALIGNMENT: u64 = 16;
/// Bytes of a footer.
const FOOTER_SIZE: u64 = 26;
/// Most bytes of a directory: half a million columns.
const LARGEST_DIRECTORY: u64 = 64 * 1024 * 1024;

/// A file that says something impossible.
pub(super) fn damaged(what: impl Into<String>) -> Error {
    Error::new(Kind::SourceUnreadable, what)
}

/// A stretch of the file, the end left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    pub(super) fn size(self) -> u64 {
        self.end - self.start
    }
}

/// The entries of a directory by name.
pub(super) type Directory = BTreeMap<String, Span>;

/// The bytes of an opened file.
#[derive(Debug)]
pub(super) struct Volume {
    file: Mutex<File>,
    length: u64,
    root: Span,
}

impl Volume {
    /// Reads and checks the header.
    pub(super) fn open(mut file: File) -> Result<Self> {
        let length = file.metadata().wrap(Kind::SourceUnreadable, || "cannot read the file's size".into())?.len();
        let mut header = [0; HEADER];
        file.seek(SeekFrom::Start(0)).wrap(Kind::SourceUnreadable, || "cannot read the file".into())?;
        file.read_exact(&mut header).wrap(Kind::SourceUnreadable, || "the file is shorter than a .tde header".into())?;
        if header[..8] != MAGIC {
            return Err(damaged("the file does not start as a .tde does"));
        }
        let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        if version != VERSION {
            return Err(Error::new(Kind::Unsupported, format!("a .tde of version {version}; only version {VERSION} is known")));
        }
        let root = Span { start: number(&header[12..20]), end: number(&header[20..28]) };
        let volume = Self { file: Mutex::new(file), length, root };
        volume.check(root)?;
        Ok(volume)
    }

    /// Bytes of the whole file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The root directory.
    pub(super) fn root(&self) -> Result<Directory> {
        self.directory(self.root)
    }

    fn check(&self, span: Span) -> Result<()> {
        if span.start <= span.end && span.end <= self.length {
            return Ok(());
        }
        Err(damaged(format!("the file of {} bytes points to bytes {} to {} of itself", self.length, span.start, span.end)))
    }

    /// Fills `into` from a place in the file.
    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let unreadable = || format!("cannot read {} bytes at {at}", into.len());
        let mut file = self.file.lock().map_err(|_| Error::new(Kind::Unexpected, "a thread reading the .tde panicked"))?;
        file.seek(SeekFrom::Start(at)).wrap(Kind::SourceUnreadable, unreadable)?;
        file.read_exact(into).wrap(Kind::SourceUnreadable, || "the .tde ends before its data".into())
    }

    /// All bytes of a stretch that is to be small.
    pub(super) fn bytes(&self, span: Span, most: u64, what: &str) -> Result<Vec<u8>> {
        self.check(span)?;
        if span.size() > most {
            return Err(damaged(format!("{what} claims {} bytes", span.size())));
        }
        let mut bytes = vec![0; usize::try_from(span.size()).unwrap_or(0)];
        self.read(span.start, &mut bytes)?;
        Ok(bytes)
    }

    /// The entries of a directory.
    pub(super) fn directory(&self, span: Span) -> Result<Directory> {
        let bytes = self.bytes(span, LARGEST_DIRECTORY, "a directory")?;
        let mut rest = bytes.strip_prefix(&DIRECTORY).ok_or_else(|| damaged("a directory does not start as one"))?;
        let short = || damaged("a directory ends before its entries");
        let mut take = |n: usize| -> Result<&[u8]> {
            let (now, later) = rest.split_at_checked(n).ok_or_else(short)?;
            rest = later;
            Ok(now)
        };
        let entries = number(take(4)?);
        let mut all = Directory::new();
        for _ in 0..entries {
            let units = usize::try_from(number(take(4)?)).unwrap_or(usize::MAX);
            let name = take(units.saturating_mul(2))?;
            let span = Span { start: number(take(8)?), end: number(take(8)?) };
            self.check(span)?;
            // The last unit is a NUL.
            let name = utf16(name.get(..name.len().saturating_sub(2)).unwrap_or_default())
                .ok_or_else(|| damaged("a name in a directory is not UTF-16"))?;
            if all.insert(name.clone(), span).is_some() {
                return Err(damaged(format!("a directory has two entries `{name}`")));
            }
        }
        Ok(all)
    }

    /// The data of a file, found through its footer.
    pub(super) fn data(&self, footer: Span) -> Result<Span> {
        let bytes = self.bytes(footer, FOOTER_SIZE, "a file's footer")?;
        if bytes.len() < 20 || bytes[..4] != FOOTER {
            return Err(damaged("a file's footer does not start as one"));
        }
        let span = Span { start: number(&bytes[4..12]), end: number(&bytes[12..20]) };
        self.check(span)?;
        if bytes[20..] != TAIL {
            return Err(damaged("a file in the .tde lies in more than one piece, which no known .tde does"));
        }
        Ok(span)
    }
}

/// An unsigned number of up to eight bytes.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// UTF-16LE as text; `None` when it is none.
pub(super) fn utf16(bytes: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(bytes.len() / 2);
    push_utf16(bytes, &mut text).then_some(text)
}

/// Appends UTF-16LE to a text; whether it was any.
pub(super) fn push_utf16(bytes: &[u8], text: &mut String) -> bool {
    let units = bytes.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]]));
    if !bytes.len().is_multiple_of(2) {
        return false;
    }
    for character in char::decode_utf16(units) {
        match character {
            Ok(c) => text.push(c),
            Err(_) => return false,
        }
    }
    true
}
