//! Plain files of one table: a buffered, perhaps compressed file, and the writer that every format of one table shares.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;

use super::{Writer, Written};
use crate::error::{Error, Kind, Result, Wrap};
use crate::types::files::Facts;

/// Bytes gathered before they go to disk.
const BUFFER: usize = 1024 * 1024;
/// The level zstd itself takes when none is said.
const ZSTD_LEVEL: i32 = 3;

/// A file being written, compressed as the mapping's fact `compression` says.
pub(super) enum Output {
    /// As it is.
    Plain(BufWriter<File>),
    /// gzip.
    Gzip(Box<flate2::write::GzEncoder<BufWriter<File>>>),
    /// Zstandard.
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
}

impl Output {
    /// Creates the file.
    pub(super) fn create(path: &Path, facts: &Facts) -> Result<Self> {
        let failed = || format!("cannot write {}", path.display());
        let file = BufWriter::with_capacity(BUFFER, File::create(path).wrap(Kind::WriteFailed, failed)?);
        Ok(match facts.get("compression").map(String::as_str) {
            Some("gzip") => Self::Gzip(Box::new(flate2::write::GzEncoder::new(file, flate2::Compression::default()))),
            Some("zstd") => Self::Zstd(zstd::Encoder::new(file, ZSTD_LEVEL).wrap(Kind::WriteFailed, failed)?),
            _ => Self::Plain(file),
        })
    }

    /// Ends the compression, writes what is buffered and syncs the file.
    pub(super) fn finish(self) -> io::Result<()> {
        let file = match self {
            Self::Plain(file) => file,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(w) => w.write(bytes),
            Self::Gzip(w) => w.write(bytes),
            Self::Zstd(w) => w.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(w) => w.flush(),
            Self::Gzip(w) => w.flush(),
            Self::Zstd(w) => w.flush(),
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

/// Encodes the batches of one table.
pub(super) trait Encode: Send {
    /// Appends a batch of the mapping's physical types.
    fn batch(&mut self, batch: &RecordBatch) -> Result<()>;
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

    fn finish(self: Box<Self>) -> Result<Written> {
        self.encoder.finish()?;
        let bytes = std::fs::metadata(&self.path)
            .wrap(Kind::WriteFailed, || format!("{} is gone after writing it", self.path.display()))?
            .len();
        Ok(Written { path: self.path, bytes, format: self.format.to_owned(), rows: vec![self.rows] })
    }
}
