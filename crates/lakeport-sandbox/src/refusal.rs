//! How a call is refused: the server's six-digit codes, as XML.
//!
//! `code` is the HTTP status times 1000 plus a subcode; clients branch on it, never on the text. The texts here say more than a
//! real server's do, because the sandbox is a tool for finding out what went wrong.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::xml::{self, Element};

/// A call that was refused, and why.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    code: u32,
    summary: &'static str,
    detail: String,
}

impl Refusal {
    /// Refuses with a code, whose first three digits are the HTTP status.
    pub(crate) fn new(code: u32, summary: &'static str, detail: impl Into<String>) -> Self {
        Self { code, summary, detail: detail.into() }
    }

    /// 400000: XML that is malformed or has an unexpected element.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400_000, "Bad Request", detail)
    }

    /// 400008: a boolean in the query that is neither `true` nor `false`, or flags that exclude each other.
    pub(crate) fn bad_flag(detail: impl Into<String>) -> Self {
        Self::new(400_008, "Bad Request", detail)
    }

    /// 400011: the catch-all for a file the server cannot publish.
    pub(crate) fn unpublishable(detail: impl Into<String>) -> Self {
        Self::new(400_011, "Bad Request", detail)
    }

    /// 400020: a multipart body without the file part.
    pub(crate) fn no_file() -> Self {
        Self::new(400_020, "Bad Request", "the request has no file part")
    }

    /// 401002: a token that is unknown, has expired or may not do this.
    pub(crate) fn expired() -> Self {
        Self::new(401_002, "Unauthorized Access", "Invalid authentication credentials were provided")
    }

    /// 404004: no such data source.
    pub(crate) fn no_datasource(what: &str) -> Self {
        Self::new(404_004, "Resource Not Found", format!("data source {what} could not be found"))
    }

    /// 404005: no such project.
    pub(crate) fn no_project(id: &str) -> Self {
        Self::new(404_005, "Resource Not Found", format!("project {id} could not be found"))
    }

    /// 413000: a file or block beyond the limit.
    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(413_000, "Payload Too Large", detail)
    }

    /// 500000: the sandbox itself failed.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(500_000, "Internal Server Error", detail)
    }

    /// Why, in words; what a failed job shows as its notes.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The code.
    #[cfg(test)]
    pub(crate) fn code(&self) -> u32 {
        self.code
    }
}

impl From<lakeport::Error> for Refusal {
    fn from(error: lakeport::Error) -> Self {
        tracing::warn!(?error, "the sandbox failed");
        Self::internal(with_causes(&error))
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        tracing::warn!(%error, "the sandbox cannot use its data directory");
        Self::internal(format!("the sandbox cannot use its data directory: {error}"))
    }
}

/// One line with an error and its causes.
pub(crate) fn with_causes(error: &lakeport::Error) -> String {
    let mut line = error.message().to_owned();
    for cause in error.causes() {
        line.push_str(": ");
        line.push_str(&cause);
    }
    line
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        tracing::debug!(code = self.code, detail = self.detail, "refused");
        let status =
            u16::try_from(self.code / 1000).ok().and_then(|s| StatusCode::from_u16(s).ok()).unwrap_or(StatusCode::BAD_REQUEST);
        let error = Element::new("error")
            .attr("code", self.code.to_string())
            .child(Element::new("summary").text(self.summary))
            .child(Element::new("detail").text(&self.detail));
        xml_response(status, &error)
    }
}

/// An answer with one element inside `<tsResponse>`.
pub(crate) fn xml_response(status: StatusCode, inside: &Element) -> Response {
    xml_response_of(status, std::slice::from_ref(inside))
}

/// An answer with several elements inside `<tsResponse>`.
pub(crate) fn xml_response_of(status: StatusCode, inside: &[Element]) -> Response {
    let mut response = (status, xml::response(inside)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml;charset=UTF-8"));
    response
}
