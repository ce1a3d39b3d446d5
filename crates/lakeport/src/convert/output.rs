//! Plain files of one table: a buffered, perhaps compressed file, and the writer that every format of one table shares.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use sha2::{Digest, Sha256};

use super::{Writer, Written};
use crate::error::{Error, Kind, Result, Wrap};
use crate::types::files::Facts;

/// Bytes gathered before they go to disk.
const BUFFER: usize = 1024 * 1024;
/// The levels that gzip and zstd themselves take when none is said.
const GZIP_LEVEL: i32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// A buffered file that knows how many bytes it was given; the count can be read from elsewhere.
#[derive(Debug)]
pub(super) struct Counted {
    file: BufWriter<File>,
    bytes: Arc<AtomicU64>,
}

impl Counted {
    /// Creates the file.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).wrap(Kind::WriteFailed, || format!("cannot write {}", path.display()))?;
        Ok(Self { file: BufWriter::with_capacity(BUFFER, file), bytes: Arc::default() })
    }

    /// The count of bytes.
    pub(super) fn bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes)
    }

    /// Writes what is buffered and syncs the file.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file being written, compressed as the mapping's facts say.
pub(super) struct Output {
    stream: Stream,
    bytes: Arc<AtomicU64>,
}

enum Stream {
    Plain(Counted),
    Gzip(Box<flate2::write::GzEncoder<Counted>>),
    Zstd(zstd::Encoder<'static, Counted>),
}

impl Output {
    /// Creates the file.
    pub(super) fn create(path: &Path, facts: &Facts) -> Result<Self> {
        let file = Counted::create(path)?;
        let bytes = file.bytes();
        let level = |usual: i32| facts.get("compression_level").and_then(|l| l.parse().ok()).unwrap_or(usual);
        let stream = match facts.get("compression").map(String::as_str) {
            Some("gzip") => {
                let level = flate2::Compression::new(u32::try_from(level(GZIP_LEVEL)).unwrap_or(0));
                Stream::Gzip(Box::new(flate2::write::GzEncoder::new(file, level)))
            }
            Some("zstd") => {
                let failed = || format!("cannot write {}", path.display());
                Stream::Zstd(zstd::Encoder::new(file, level(ZSTD_LEVEL)).wrap(Kind::WriteFailed, failed)?)
            }
            _ => Stream::Plain(file),
        };
        Ok(Self { stream, bytes })
    }

    /// Bytes of the file so far; what a compressor still holds is not among them.
    pub(super) fn size(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Ends the compression, writes what is buffered and syncs the file.
    pub(super) fn finish(self) -> io::Result<()> {
        match self.stream {
            Stream::Plain(file) => file,
            Stream::Gzip(encoder) => encoder.finish()?,
            Stream::Zstd(encoder) => encoder.finish()?,
        }
        .finish()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(w) => w.write(bytes),
            Stream::Gzip(w) => w.write(bytes),
            Stream::Zstd(w) => w.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(w) => w.flush(),
            Stream::Gzip(w) => w.flush(),
            Stream::Zstd(w) => w.flush(),
        }
    }
}

/// Opens such a file for reading it back.
pub(super) fn input(path: &Path, facts: &Facts) -> Result<BufReader<Box<dyn Read + Send>>> {
    let failed = || format!("cannot read {}", path.display());
    let file = File::open(path).wrap(Kind::VerifyFailed, failed)?;
    let reader: Box<dyn Read + Send> = match facts.get("compression").map(String::as_str) {
        Some("gzip") => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER, file))),
        Some("zstd") => Box::new(zstd::Decoder::new(file).wrap(Kind::VerifyFailed, failed)?),
        _ => Box::new(file),
    };
    Ok(BufReader::with_capacity(BUFFER, reader))
}

/// The SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// `SourceUnreadable`.
pub(super) fn sha256(path: &Path) -> Result<String> {
    let failed = || format!("cannot read {}", path.display());
    let mut file = File::open(path).wrap(Kind::SourceUnreadable, failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = file.read(&mut buffer).wrap(Kind::SourceUnreadable, failed)?;
        if read == 0 {
            return Ok(format!("{:x}", hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// Encodes the batches of one table.
pub(super) trait Encode: Send {
    /// Appends a batch of the mapping's physical types.
    fn batch(&mut self, batch: &RecordBatch) -> Result<()>;
    /// Bytes of the file so far, about; `None` where that is only known once it is finished.
    fn size(&self) -> Option<u64> {
        None
    }
    /// Completes and syncs the file.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Writes a file that holds one table.
pub(super) struct OneTable {
    path: PathBuf,
    format: &'static str,
    encoder: Box<dyn Encode>,
    rows: u64,
}

impl OneTable {
    /// Makes the writer of a format's encoder.
    pub(super) fn writer(path: &Path, format: &'static str, encoder: Box<dyn Encode>) -> Box<dyn Writer> {
        Box::new(Self { path: path.to_owned(), format, encoder, rows: 0 })
    }
}

impl Writer for OneTable {
    fn write(&mut self, table: usize, batch: &RecordBatch) -> Result<()> {
        if table != 0 {
            return Err(Error::new(Kind::Unsupported, format!("a .{} file holds one table", self.format)));
        }
        self.rows += batch.num_rows() as u64;
        self.encoder.batch(batch)
    }

    fn size(&self) -> Option<u64> {
        self.encoder.size()
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        self.encoder.finish()?;
        let bytes = std::fs::metadata(&self.path)
            .wrap(Kind::WriteFailed, || format!("{} is gone after writing it", self.path.display()))?
            .len();
        Ok(Written { path: self.path, bytes, format: self.format.to_owned(), rows: vec![self.rows] })
    }
}
