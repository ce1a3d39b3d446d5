//! The bytes of a text file as they come, unpacked.

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lakeport::error::{Kind, Result};
use object_store::path::Path;
use object_store::{GetResultPayload, ObjectStore, ObjectStoreExt};
use tokio_util::io::{ReaderStream, StreamReader};

use super::fault;
use super::layout::Packing;

/// Bytes read from a local file or unpacked at a time.
const CHUNK: usize = 256 * 1024;

/// Opens a file; `shown` is its name in errors.
pub(super) async fn open(
    store: &dyn ObjectStore,
    path: &Path,
    packing: Packing,
    shown: &str,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let got = store.get(path).await.map_err(|e| fault::store(e).at("file", shown))?;
    let raw: BoxStream<'static, std::io::Result<Bytes>> = match got.payload {
        GetResultPayload::File(file, _) => ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK).boxed(),
        GetResultPayload::Stream(stream) => stream.map_err(std::io::Error::other).boxed(),
    };
    // Both kinds of archive may consist of several parts one after the other; all of them are read.
    let unpacked = match packing {
        Packing::Plain => raw,
        Packing::Gzip => {
            let mut decoder = GzipDecoder::new(StreamReader::new(raw));
            decoder.multiple_members(true);
            ReaderStream::with_capacity(decoder, CHUNK).boxed()
        }
        Packing::Zstd => {
            let mut decoder = ZstdDecoder::new(StreamReader::new(raw));
            decoder.multiple_members(true);
            ReaderStream::with_capacity(decoder, CHUNK).boxed()
        }
    };
    let shown = shown.to_owned();
    let message = if packing == Packing::Plain { "the file cannot be read" } else { "the file cannot be unpacked" };
    // A chunk without bytes is not the end, which decoders take it for.
    let chunks = unpacked.try_filter(|chunk| std::future::ready(!chunk.is_empty()));
    Ok(chunks.map_err(move |e| fault::reading(e, Kind::SourceUnreadable, message).at("file", &shown)).boxed())
}
