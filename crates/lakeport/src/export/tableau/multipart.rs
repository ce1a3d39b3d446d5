//! The `multipart/mixed` body of a publish or an append, streamed from disk.
//!
//! A body can be made any number of times from the same words, which is what lets a redirect or a new sign-in send it again.
//! The file's part always carries an ASCII name of our own, `data.` and its type: servers read others differently, and the data
//! source's name stands in the XML anyway.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// A part of a file on disk.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    /// The file.
    pub(super) path: PathBuf,
    /// Its first byte.
    pub(super) offset: u64,
    /// Its bytes.
    pub(super) length: u64,
    /// Bytes read from disk at a time.
    pub(super) buffer: usize,
}

/// What a multipart body is made of.
#[derive(Debug, Clone)]
pub(super) struct Multipart {
    boundary: String,
    head: Bytes,
    file: Option<Slice>,
    tail: Bytes,
}

impl Multipart {
    /// The body of a publish: the XML, and the file unless it was uploaded before.
    pub(super) fn publish(xml: &str, file: Option<Slice>, data_type: &str) -> Self {
        Self::new(xml, file, "tableau_datasource", &format!("data.{data_type}"))
    }

    /// The body of one append; its XML part is empty.
    pub(super) fn append(block: Slice) -> Self {
        Self::new("", Some(block), "tableau_file", "file")
    }

    fn new(xml: &str, file: Option<Slice>, part: &str, file_name: &str) -> Self {
        // Random, so that it cannot occur in the file.
        let boundary = uuid::Uuid::new_v4().simple().to_string();
        let mut head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"request_payload\"; filename=\"\"\r\n\
             Content-Type: text/xml\r\n\r\n{xml}\r\n"
        );
        if file.is_some() {
            head.push_str(&format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{part}\"; filename=\"{file_name}\"\r\n\
                 Content-Type: application/octet-stream\r\n\r\n"
            ));
        }
        let tail = if file.is_some() { format!("\r\n--{boundary}--\r\n") } else { format!("--{boundary}--\r\n") };
        Self { boundary, head: head.into(), file, tail: tail.into() }
    }

    /// The value of the Content-Type header.
    pub(super) fn content_type(&self) -> String {
        format!("multipart/mixed; boundary={}", self.boundary)
    }

    /// The exact number of bytes.
    pub(super) fn length(&self) -> u64 {
        let envelope = self.head.len() + self.tail.len();
        u64::try_from(envelope).unwrap_or(u64::MAX).saturating_add(self.file.as_ref().map_or(0, |f| f.length))
    }

    /// The bytes; `taken` counts those of the file as they are handed to the connection.
    pub(super) fn stream(&self, taken: Arc<AtomicU64>) -> impl Stream<Item = Result<Bytes, LocalRead>> + Send + 'static {
        let state = State { next: Next::Head, parts: self.clone(), taken };
        futures::stream::try_unfold(state, State::step)
    }
}

struct State {
    next: Next,
    parts: Multipart,
    taken: Arc<AtomicU64>,
}

enum Next {
    Head,
    Open,
    File { file: tokio::fs::File, buffer: BytesMut, left: u64 },
    Tail,
    End,
}

impl State {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, LocalRead> {
        loop {
            match self.next {
                Next::Head => {
                    self.next = Next::Open;
                    return Ok(Some((self.parts.head.clone(), self)));
                }
                Next::Open => {
                    self.next = match &self.parts.file {
                        Some(slice) if slice.length > 0 => open(slice).await?,
                        _ => Next::Tail,
                    };
                }
                Next::File { file: _, buffer: _, left: 0 } => self.next = Next::Tail,
                Next::File { mut file, mut buffer, left } => {
                    let slice = self.parts.file.as_ref().ok_or_else(|| LocalRead("the file is gone".to_owned()))?;
                    let want = usize::try_from(left).unwrap_or(usize::MAX).min(slice.buffer.max(4096));
                    // Takes the former allocation back once the connection has sent it: one buffer, not one per read.
                    buffer.reserve(want);
                    let failed = |e: &dyn fmt::Display| LocalRead(format!("cannot read {}: {e}", slice.path.display()));
                    let mut limited = (&mut file).take(u64::try_from(want).unwrap_or(u64::MAX));
                    let got = limited.read_buf(&mut buffer).await.map_err(|e| failed(&e))?;
                    if got == 0 {
                        return Err(failed(&format!("it ended {left} bytes early; it changed while it was uploaded")));
                    }
                    let got = u64::try_from(got).unwrap_or(u64::MAX);
                    self.taken.fetch_add(got, Ordering::Relaxed);
                    let chunk = buffer.split().freeze();
                    self.next = Next::File { file, buffer, left: left.saturating_sub(got) };
                    return Ok(Some((chunk, self)));
                }
                Next::Tail => {
                    self.next = Next::End;
                    return Ok(Some((self.parts.tail.clone(), self)));
                }
                Next::End => return Ok(None),
            }
        }
    }
}

async fn open(slice: &Slice) -> Result<Next, LocalRead> {
    let failed = |e: std::io::Error| LocalRead(format!("cannot read {}: {e}", slice.path.display()));
    let mut file = tokio::fs::File::open(&slice.path).await.map_err(failed)?;
    file.set_max_buf_size(slice.buffer.max(4096));
    file.seek(std::io::SeekFrom::Start(slice.offset)).await.map_err(failed)?;
    Ok(Next::File { file, buffer: BytesMut::new(), left: slice.length })
}

/// The local file could not be read while it was sent; no server is to blame.
#[derive(Debug)]
pub(super) struct LocalRead(pub(super) String);

impl fmt::Display for LocalRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LocalRead {}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    async fn collect(body: &Multipart) -> Result<Vec<u8>, LocalRead> {
        let parts: Vec<Bytes> = body.stream(Arc::default()).try_collect().await?;
        Ok(parts.concat())
    }

    #[tokio::test]
    async fn the_length_is_exact_and_the_slice_is_the_slice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.hyper");
        let bytes: Vec<u8> = (0..100_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        std::fs::write(&path, &bytes).unwrap();
        let slice = Slice { path, offset: 1_000, length: 70_001, buffer: 4096 };
        let body = Multipart::append(slice.clone());
        let sent = collect(&body).await.unwrap();
        assert_eq!(u64::try_from(sent.len()).unwrap(), body.length());
        assert!(sent.windows(70_001).any(|w| w == &bytes[1_000..71_001]));
        assert_eq!(collect(&body).await.unwrap(), sent, "a body can be made again");
        let past = Multipart::append(Slice { offset: 90_000, ..slice });
        assert!(collect(&past).await.unwrap_err().to_string().contains("ended"));
    }

    #[tokio::test]
    async fn a_commit_has_only_the_payload() {
        let body = Multipart::publish("<tsRequest/>", None, "hyper");
        let text = String::from_utf8(collect(&body).await.unwrap()).unwrap();
        let boundary = body.content_type().rsplit_once('=').unwrap().1.to_owned();
        assert_eq!(
            text,
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"request_payload\"; filename=\"\"\r\n\
                 Content-Type: text/xml\r\n\r\n<tsRequest/>\r\n--{boundary}--\r\n"
            )
        );
    }
}
