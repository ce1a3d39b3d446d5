//! `multipart/mixed`, read as a stream.
//!
//! No part is ever held in memory: the reader hands out what arrived, keeping back only as many bytes as could be the start of
//! a boundary. It knows nothing of HTTP beyond the two headers it needs.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use memchr::memmem;

/// How long the headers of one part may be.
const MAX_HEADERS: usize = 16 * 1024;
/// How long a boundary may be, per RFC 2046.
const MAX_BOUNDARY: usize = 70;

/// Why a multipart body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The content type is not multipart or names no boundary.
    NotMultipart(String),
    /// The body breaks the format.
    Format(&'static str),
    /// The connection ended before the body did.
    Interrupted(String),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMultipart(what) => write!(f, "expected a multipart/mixed body, got {what}"),
            Self::Format(what) => write!(f, "malformed multipart body: {what}"),
            Self::Interrupted(what) => write!(f, "the request body broke off: {what}"),
        }
    }
}

/// What the headers of a part say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// `name` of its Content-Disposition.
    pub(crate) name: String,
    /// `filename` of its Content-Disposition.
    pub(crate) file_name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Preamble,
    Data,
    /// Behind a boundary, before what follows it.
    Boundary,
    End,
}

/// The parts of one body, in order.
pub(crate) struct Multipart<S> {
    body: S,
    buffer: BytesMut,
    delimiter: memmem::Finder<'static>,
    at: At,
}

impl<S> fmt::Debug for Multipart<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multipart").field("at", &self.at).field("buffered", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl<S, E> Multipart<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: fmt::Display,
{
    /// Reads a body whose parts stand between this boundary.
    pub(crate) fn new(boundary: &str, body: S) -> Self {
        let delimiter = memmem::Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned();
        // The first boundary may stand at the very start, without the line end that belongs to every other.
        Self { body, buffer: BytesMut::from(&b"\r\n"[..]), delimiter, at: At::Preamble }
    }

    /// Goes to the next part, skipping what is left of this one; none when the last has been read.
    pub(crate) async fn next(&mut self) -> Result<Option<Part>, Malformed> {
        while self.chunk().await?.is_some() {}
        if self.at == At::End {
            return Ok(None);
        }
        self.fill(2).await?;
        if self.buffer.starts_with(b"--") {
            self.at = At::End;
            // The epilogue means nothing, but an unread body would cost the client its connection.
            self.drain().await;
            return Ok(None);
        }
        self.skip_padding().await?;
        let part = self.headers().await?;
        self.at = At::Data;
        Ok(Some(part))
    }

    /// Gives the next bytes of the current part; none at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Malformed> {
        let keep = self.delimiter.needle().len() - 1;
        loop {
            if matches!(self.at, At::Boundary | At::End) {
                return Ok(None);
            }
            if let Some(found) = self.delimiter.find(&self.buffer) {
                let data = self.buffer.split_to(found).freeze();
                self.buffer.advance(keep + 1);
                let preamble = self.at == At::Preamble;
                self.at = At::Boundary;
                return Ok((!preamble && !data.is_empty()).then_some(data));
            }
            if self.buffer.len() > keep {
                let data = self.buffer.split_to(self.buffer.len() - keep).freeze();
                if self.at == At::Data {
                    return Ok(Some(data));
                }
            }
            self.read().await?;
        }
    }

    /// Reads and forgets what is left, so that the client can finish sending and read the answer.
    pub(crate) async fn drain(&mut self) {
        self.buffer.clear();
        drain(&mut self.body).await;
    }

    async fn skip_padding(&mut self) -> Result<(), Malformed> {
        loop {
            self.fill(2).await?;
            if self.buffer.starts_with(b"\r\n") {
                self.buffer.advance(2);
                return Ok(());
            }
            if !matches!(self.buffer[0], b' ' | b'\t') {
                return Err(Malformed::Format("a boundary is followed by neither a line end nor two hyphens"));
            }
            self.buffer.advance(1);
        }
    }

    async fn headers(&mut self) -> Result<Part, Malformed> {
        let mut part = Part::default();
        let mut read = 0;
        loop {
            let line = self.line(MAX_HEADERS - read).await?;
            read += line.len();
            if line.is_empty() {
                return Ok(part);
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            let Some((name, value)) = line.split_once(':') else {
                return Err(Malformed::Format("a header line without a colon"));
            };
            if name.trim().eq_ignore_ascii_case("content-disposition") {
                part.name = parameter(value, "name").unwrap_or_default();
                part.file_name = parameter(value, "filename").filter(|f| !f.is_empty());
            }
        }
    }

    async fn line(&mut self, limit: usize) -> Result<Bytes, Malformed> {
        loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(end).freeze();
                self.buffer.advance(2);
                return if line.len() <= limit { Ok(line) } else { Err(Malformed::Format("the headers of a part are too long")) };
            }
            if self.buffer.len() > limit {
                return Err(Malformed::Format("the headers of a part are too long"));
            }
            self.read().await?;
        }
    }

    async fn fill(&mut self, bytes: usize) -> Result<(), Malformed> {
        while self.buffer.len() < bytes {
            self.read().await?;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), Malformed> {
        match self.body.next().await {
            Some(Ok(bytes)) => {
                self.buffer.extend_from_slice(&bytes);
                Ok(())
            }
            Some(Err(e)) => Err(Malformed::Interrupted(e.to_string())),
            None => Err(Malformed::Format("it ends before its last boundary")),
        }
    }
}

/// How much of a refused body is read: more than any block the API allows, so that its sender always gets to see the answer.
const DRAIN_LIMIT: usize = 256 * 1024 * 1024;

/// Reads and forgets a body up to a limit, behind which the client loses its connection instead.
pub(crate) async fn drain<S, E>(body: &mut S)
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let mut read = 0_usize;
    while let Some(Ok(bytes)) = body.next().await {
        read = read.saturating_add(bytes.len());
        if read > DRAIN_LIMIT {
            return;
        }
    }
}

/// The boundary that a Content-Type names, if it is multipart.
pub(crate) fn boundary(content_type: &str) -> Result<String, Malformed> {
    let multipart = content_type.get(..10).is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/"));
    let boundary = multipart.then(|| parameter(content_type, "boundary")).flatten();
    boundary.filter(|b| !b.is_empty() && b.len() <= MAX_BOUNDARY).ok_or_else(|| Malformed::NotMultipart(content_type.to_owned()))
}

/// A parameter of a header value such as `form-data; name="a b"; filename=x`.
///
/// The first piece may be a parameter too: `Content-Disposition: name="request_payload"` is in use.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        if rest.is_empty() {
            return None;
        }
        let end = rest.find([';', '=']).unwrap_or(rest.len());
        let name = rest[..end].trim();
        rest = &rest[end..];
        let Some(after) = rest.strip_prefix('=') else { continue };
        let (found, left) = parameter_value(after.trim_start());
        if name.eq_ignore_ascii_case(wanted) {
            return Some(found);
        }
        rest = left;
    }
}

/// A token or quoted string, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (i, c) in quoted.char_indices() {
        match c {
            '"' if !escaped => return (value, &quoted[i + 1..]),
            '\\' if !escaped => escaped = true,
            c => {
                value.push(c);
                escaped = false;
            }
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;

    use super::*;

    type Read = Vec<(String, Option<String>, Vec<u8>)>;

    async fn read(content_type: &str, body: &[u8], size: usize) -> Result<Read, Malformed> {
        let chunks: Vec<Result<Bytes, Infallible>> = body.chunks(size).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        let mut parts = Multipart::new(&boundary(content_type)?, stream::iter(chunks));
        let mut all = Vec::new();
        while let Some(part) = parts.next().await? {
            let mut data = Vec::new();
            while let Some(chunk) = parts.chunk().await? {
                data.extend_from_slice(&chunk);
            }
            all.push((part.name, part.file_name, data));
        }
        Ok(all)
    }

    const BODY: &[u8] =
        b"--B7\r\nContent-Disposition: form-data; name=\"request_payload\"; filename=\"\"\r\nContent-Type: text/xml\r\n\r\n\
        \r\n--B7\r\ncontent-disposition: name=\"tableau_file\"; filename=\"a;b\\\".hyper\"\r\n\r\n\
        \r\n--B\r\n--b7\r\r\n--\0\xff\r\n--B7--\r\n";

    #[tokio::test]
    async fn boundaries_are_found_wherever_the_chunks_are_split() {
        for size in 1..=BODY.len() {
            let parts = read("multipart/mixed; boundary=B7", BODY, size).await.unwrap();
            assert_eq!(parts.len(), 2, "chunks of {size}");
            assert_eq!(parts[0], ("request_payload".to_owned(), None, Vec::new()));
            assert_eq!(parts[1].1.as_deref(), Some("a;b\".hyper"));
            assert_eq!(parts[1].2, b"\r\n--B\r\n--b7\r\r\n--\0\xff", "chunks of {size}");
        }
    }

    #[tokio::test]
    async fn preamble_padding_and_epilogue_are_skipped() {
        let body = b"This is a preamble.\r\n--not it\r\n--x \t\r\n\r\nno headers\r\n--x\r\nContent-Disposition: name=b\r\n\r\n2\r\n--x-- \r\nepilogue\r\n--x\r\n";
        for size in 1..=body.len() {
            let parts = read("Multipart/Mixed; charset=utf-8; boundary=\"x\"", body, size).await.unwrap();
            let expected = vec![(String::new(), None, b"no headers".to_vec()), ("b".to_owned(), None, b"2".to_vec())];
            assert_eq!(parts, expected, "chunks of {size}");
        }
    }

    #[tokio::test]
    async fn bodies_that_break_off_or_are_something_else_are_refused() {
        for cut in 0..BODY.len() - 4 {
            assert!(read("multipart/mixed; boundary=B7", &BODY[..cut], 7).await.is_err(), "cut at {cut}");
        }
        for content_type in
            ["", "application/octet-stream", "multipart/mixed", "multipart/mixed; boundary=", "text/xml; boundary=B7"]
        {
            assert!(matches!(read(content_type, BODY, 9).await, Err(Malformed::NotMultipart(_))), "{content_type}");
        }
        let endless = [b"--B7\r\nX: ".to_vec(), vec![b'a'; 2 * MAX_HEADERS]].concat();
        assert_eq!(
            read("multipart/mixed; boundary=B7", &endless, 999).await,
            Err(Malformed::Format("the headers of a part are too long"))
        );
    }

    #[tokio::test]
    async fn a_part_that_nobody_reads_is_skipped() {
        let chunks = BODY.chunks(5).map(|c| Ok::<_, Infallible>(Bytes::copy_from_slice(c)));
        let mut parts = Multipart::new("B7", stream::iter(chunks));
        assert_eq!(parts.next().await.unwrap().map(|p| p.name).as_deref(), Some("request_payload"));
        assert_eq!(parts.next().await.unwrap().map(|p| p.name).as_deref(), Some("tableau_file"));
        assert_eq!(parts.next().await.unwrap(), None);
        assert_eq!(parts.next().await.unwrap(), None);
    }
}
