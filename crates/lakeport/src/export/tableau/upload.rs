//! A large file in blocks: begin an upload, append block after block, and hand its id to the commit.
//!
//! An append has no offset, so a block whose fate is unknown is never sent again: the whole upload is begun anew, with
//! smaller blocks where size or time was the cause. Never are two appends in flight; the server garbles such uploads.

use std::path::Path;

use reqwest::Method;

use crate::error::{Error, Kind, Result};
use crate::export::Progress;
use crate::limits::show_size;

use super::fault::{Called, Failed, How};
use super::http::Body;
use super::multipart::{Multipart, Slice};
use super::retry::{Repeat, Repeats, backoff};
use super::session::{Call, Server, encode_id};

/// The most one block, and one single request, may hold.
///
/// The limit is documented as 64 MB without saying which; the decimal reading is the smaller one and safe in both.
pub(super) const MAX_BLOCK: u64 = 64_000_000;
/// A block unless told otherwise: what the official client sends.
const BLOCK: u64 = 50 * 1024 * 1024;
/// The blocks of one upload when the server does not tell (`maxFileChunkCount`).
const MAX_BLOCKS: u64 = 1000;

/// A complete upload that waits to be committed.
#[derive(Debug)]
pub(super) struct Uploaded {
    /// The id to commit.
    pub(super) id: String,
    /// How it went, for the receipt.
    pub(super) way: String,
}

/// Chooses the size of a block: what is wished, within what the server takes.
///
/// # Errors
/// `Unsupported` for a file that no size makes fit.
fn block_size(bytes: u64, wished: Option<u64>, max_blocks: u64) -> Result<(u64, u64)> {
    let least = bytes.div_ceil(max_blocks.max(1)).max(1);
    if least > MAX_BLOCK {
        let most = show_size(MAX_BLOCK.saturating_mul(max_blocks));
        return Err(Error::new(Kind::Unsupported, format!("{} is more than the server takes in one upload", show_size(bytes)))
            .help(format!("the server takes {max_blocks} blocks of 64 MB, {most} in all; publish fewer rows or columns")));
    }
    Ok((wished.unwrap_or(BLOCK).clamp(least, MAX_BLOCK), least))
}

impl Server {
    /// Uploads a file; begins anew as often as the pace allows.
    pub(super) async fn upload(
        &self,
        path: &Path,
        bytes: u64,
        buffer: usize,
        repeats: &mut Repeats,
        progress: Progress<'_>,
    ) -> Result<Uploaded> {
        let mut halvings = 0;
        let mut lost_before = false;
        let mut done = 1;
        loop {
            let (id, max_blocks) = self.begin_upload(repeats).await?;
            let (wished, least) = block_size(bytes, self.env.chunk_size, max_blocks)?;
            let block = (wished >> halvings).max(least);
            let whole = Slice { path: path.to_owned(), offset: 0, length: bytes, buffer };
            let Err((failed, number)) = self.append_all(&id, &whole, block, repeats, progress).await else {
                let blocks = bytes.div_ceil(block).max(1);
                let way = format!("{blocks} {} of {}", if blocks == 1 { "block" } else { "blocks" }, show_size(block));
                return Ok(Uploaded { id, way });
            };
            let anew = failed.ambiguous() || failed.too_big() || failed.code() == 404_015;
            if !anew || done >= self.pace.uploads {
                return Err(failed.error.at("block", number).at("uploads", format!("{done} begun")));
            }
            // A proxy that finds a block too big may close the connection before its answer is read.
            let lost = matches!(failed.how, How::NoAnswer { timed_out: false });
            if failed.too_big() || (lost && lost_before) {
                halvings += 1;
            }
            lost_before = lost;
            let size = show_size((wished >> halvings).max(least));
            repeats.note(format!("append block {number}: {}, upload begun anew with blocks of {size}", failed.reason()));
            tokio::time::sleep(failed.retry_after.map_or_else(|| backoff(&self.pace, done), |w| w.min(self.pace.longest))).await;
            done += 1;
        }
    }

    async fn begin_upload(&self, repeats: &mut Repeats) -> Result<(String, u64)> {
        const WHAT: &str = "begin the upload";
        // Begun twice, one of the two is never used and forgotten by the server.
        let call = Call::post(WHAT, "/fileUploads".to_owned(), Body::Empty);
        let answer = self.call(&call, Repeat::Harmless, repeats).await.map_err(|f| f.error)?;
        let upload = answer.root.find("fileUpload");
        let id = upload.and_then(|u| u.told("uploadSessionId")).ok_or_else(|| {
            Error::new(Kind::ServerFailed, "the server began an upload and did not name it")
                .during(WHAT)
                .at("server", self.place())
        })?;
        let most = upload.and_then(|u| u.attribute("maxFileChunkCount")).and_then(|m| m.trim().parse().ok());
        Ok((id, most.filter(|m| *m > 0).unwrap_or(MAX_BLOCKS)))
    }

    async fn append_all(
        &self,
        id: &str,
        whole: &Slice,
        block: u64,
        repeats: &mut Repeats,
        progress: Progress<'_>,
    ) -> std::result::Result<(), (Box<Failed>, u64)> {
        let mut offset = 0;
        let mut number = 1;
        progress(0, whole.length);
        while offset < whole.length {
            let length = block.min(whole.length.saturating_sub(offset));
            let slice = Slice { offset, length, ..whole.clone() };
            let watch = |taken: u64| progress((offset + taken).min(whole.length), whole.length);
            self.append(id, slice, &watch, repeats).await.map_err(|failed| (failed, number))?;
            offset += length;
            number += 1;
            progress(offset, whole.length);
        }
        Ok(())
    }

    async fn append(&self, id: &str, slice: Slice, watch: &(dyn Fn(u64) + Send + Sync), repeats: &mut Repeats) -> Called<()> {
        // The id of the begin, always: answers to an append were seen to carry another one.
        let path = format!("/fileUploads/{}", encode_id(id));
        let call = Call { method: Method::PUT, ..Call::post("append block", path, Body::Multipart(Multipart::append(slice))) };
        self.call_watched(&call, Repeat::OnlyIfNotTaken, Some(watch), repeats).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_fit_the_server_whatever_is_wished() {
        const GIB: u64 = 1 << 30;
        assert_eq!(block_size(GIB, None, 1000).unwrap().0, BLOCK);
        assert_eq!(block_size(GIB, Some(1), 1000).unwrap().0, GIB.div_ceil(1000));
        assert_eq!(block_size(GIB, Some(u64::MAX), 1000).unwrap().0, MAX_BLOCK);
        assert_eq!(block_size(60_000_000_000, None, 1000).unwrap().0, 60_000_000);
        assert_eq!(block_size(0, None, 1000).unwrap(), (BLOCK, 1));
        assert!(block_size(64_000_000_001, None, 1000).is_err());
        for bytes in [1, 999, 1000, 1001, 50_000_000_001] {
            let (block, _) = block_size(bytes, Some(1), 1000).unwrap();
            assert!(bytes.div_ceil(block) <= 1000, "{bytes}");
        }
    }
}
