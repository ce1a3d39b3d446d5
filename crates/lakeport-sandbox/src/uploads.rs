//! Upload sessions: a file sent block by block, then committed by a publish.

use std::collections::HashMap;
use std::io::SeekFrom;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use tempfile::TempPath;
use tokio::fs::OpenOptions;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::OwnedMutexGuard;

use crate::App;
use crate::multipart::{self, Malformed, Multipart};
use crate::refusal::{Refusal, xml_response};
use crate::store::held;
use crate::xml::Element;

/// The most bytes of a single-request publish, and of one block.
pub(crate) const MAX_BLOCK: u64 = 64 * MIB;
/// The most blocks of one upload session.
const MAX_BLOCKS: u32 = 1000;
const MIB: u64 = 1024 * 1024;

/// All upload sessions; they live in memory, as what they belong to is unknown after a restart.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    open: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Upload>>>>,
}

/// One upload session.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Where its bytes lie.
    path: TempPath,
    /// How many bytes arrived in whole blocks; anything behind them is what a broken connection left.
    bytes: u64,
    blocks: u32,
}

/// A finished file that waits for being published.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) path: TempPath,
    pub(crate) bytes: u64,
}

impl Uploads {
    /// Takes a session for oneself; two appends that overlap fail, as they do on servers.
    fn take(&self, id: &str) -> Result<OwnedMutexGuard<Upload>, Refusal> {
        let upload = held(&self.open).get(id).cloned();
        let upload = upload
            .ok_or_else(|| Refusal::new(404_015, "Resource Not Found", format!("upload session {id} could not be found")))?;
        upload.try_lock_owned().map_err(|_| Refusal::internal("errors.upload.concurrent_write"))
    }

    /// Whether there is such a session; a publish can be refused before it takes it away.
    pub(crate) fn check(&self, id: &str) -> Result<(), Refusal> {
        self.take(id).map(|_| ())
    }

    /// How many bytes have arrived.
    pub(crate) fn size(&self, id: &str) -> Result<u64, Refusal> {
        self.take(id).map(|upload| upload.bytes)
    }

    /// Ends a session and gives its file, at `place`.
    pub(crate) fn finish(&self, id: &str, place: TempPath) -> Result<Arrived, Refusal> {
        let mut upload = self.take(id)?;
        if upload.blocks == 0 {
            return Err(Refusal::unpublishable(format!("nothing was appended to upload session {id}")));
        }
        // Whatever a broken connection left behind the last whole block is not part of the file.
        std::fs::OpenOptions::new().write(true).open(&upload.path)?.set_len(upload.bytes)?;
        std::fs::rename(&upload.path, &place)?;
        let bytes = upload.bytes;
        upload.blocks = 0;
        held(&self.open).remove(id);
        Ok(Arrived { path: place, bytes })
    }
}

/// `POST fileUploads`.
pub(crate) fn initiate(app: &App) -> Result<Response, Refusal> {
    // The shape of real ones, which is no UUID and has a colon.
    let number = uuid::Uuid::new_v4().simple().to_string();
    let id = format!("7720:{number}-1:0");
    let path = app.store.upload(&format!("{number}.part"))?;
    std::fs::File::create(&path)?;
    let upload = Upload { path, bytes: 0, blocks: 0 };
    held(&app.uploads.open).insert(id.clone(), Arc::new(tokio::sync::Mutex::new(upload)));
    let answer = Element::new("fileUpload")
        .attr("uploadSessionId", id)
        .attr("fileSize", "0")
        .attr("maxFileChunkCount", MAX_BLOCKS.to_string());
    Ok(xml_response(StatusCode::CREATED, &answer))
}

/// `PUT fileUploads/{id}`: appends one block, all or nothing.
pub(crate) async fn append(app: &App, id: &str, content_type: &str, body: Body) -> Result<Response, Refusal> {
    let mut stream = body.into_data_stream();
    let (boundary, mut upload) = match begin(app, id, content_type) {
        Ok(begun) => begun,
        Err(refusal) => {
            multipart::drain(&mut stream).await;
            return Err(refusal);
        }
    };
    let mut parts = Multipart::new(&boundary, stream);
    let received = receive(&mut upload, &mut parts).await;
    if received.is_err() {
        parts.drain().await;
    }
    upload.bytes += received?;
    upload.blocks += 1;
    let answer = Element::new("fileUpload").attr("uploadSessionId", id).attr("fileSize", (upload.bytes / MIB).to_string());
    Ok(xml_response(StatusCode::OK, &answer))
}

/// Everything that can be refused before the block is read.
fn begin(app: &App, id: &str, content_type: &str) -> Result<(String, OwnedMutexGuard<Upload>), Refusal> {
    let boundary =
        multipart::boundary(content_type).map_err(|e| Refusal::new(415_000, "Unsupported Media Type", e.to_string()))?;
    let upload = app.uploads.take(id)?;
    if upload.blocks >= MAX_BLOCKS {
        return Err(Refusal::new(400_016, "Bad Request", format!("an upload has at most {MAX_BLOCKS} blocks")));
    }
    Ok((boundary, upload))
}

/// Writes the file part behind what is already there and gives its length.
async fn receive<S, E>(upload: &mut Upload, parts: &mut Multipart<S>) -> Result<u64, Refusal>
where
    S: futures::Stream<Item = Result<bytes::Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let broken = |e: Malformed| Refusal::new(400_016, "Bad Request", e.to_string());
    let mut received = None;
    while let Some(part) = parts.next().await.map_err(broken)? {
        if part.name != "tableau_file" {
            continue;
        }
        let mut file = OpenOptions::new().write(true).open(&upload.path).await?;
        file.set_len(upload.bytes).await?;
        file.seek(SeekFrom::Start(upload.bytes)).await?;
        let mut length = 0_u64;
        while let Some(chunk) = parts.chunk().await.map_err(broken)? {
            length += chunk.len() as u64;
            if length > MAX_BLOCK {
                return Err(Refusal::too_large(format!("a block has at most {MAX_BLOCK} bytes")));
            }
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        received = Some(length);
    }
    received.ok_or_else(Refusal::no_file)
}
