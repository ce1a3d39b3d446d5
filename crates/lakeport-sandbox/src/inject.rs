//! Doing what a fault says to one call.
//!
//! Every fault lets the whole request arrive first: a client that is still sending when its answer comes would often see a
//! broken connection instead, and which of both would be left to chance.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;

use crate::App;
use crate::fault::{Call, Effect, Fault, When};
use crate::gate;
use crate::line::Line;
use crate::multipart;
use crate::refusal::Refusal;
use crate::sessions::TOKEN_HEADER;
use crate::store::held;

/// The most of an answer that is held in memory to be cut or dripped.
const MAX_ANSWER: usize = 256 * 1024 * 1024;
/// In how many pieces a slow answer comes.
const DRIPS: usize = 10;
/// How long the first half of a truncated answer has to leave before the connection ends.
const LEAVING: Duration = Duration::from_millis(30);
/// The most faults at a time.
const MAX_FAULTS: usize = 1000;

/// The faults that are set.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    set: Mutex<Vec<Active>>,
}

/// A fault and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Active {
    pub(crate) fault: Fault,
    /// How many calls of its kind came since it was set.
    pub(crate) seen: u64,
    /// How many of them it struck.
    pub(crate) struck: u64,
}

/// What becomes of the job that a call starts; part of the request when a fault says so.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    NeverEnds,
    Fails(Option<String>),
    Cancelled,
    DoesNothing,
}

impl Faults {
    /// Sets these faults in addition to what is set.
    pub(crate) fn add(&self, faults: impl IntoIterator<Item = Fault>) -> Result<(), Refusal> {
        let mut set = held(&self.set);
        set.extend(faults.into_iter().map(|fault| Active { fault, seen: 0, struck: 0 }));
        if set.len() > MAX_FAULTS {
            set.truncate(MAX_FAULTS);
            return Err(Refusal::bad_request(format!("at most {MAX_FAULTS} faults can be set")));
        }
        Ok(())
    }

    /// Removes every fault, or those of one text, and tells how many.
    pub(crate) fn clear(&self, text: Option<&str>) -> usize {
        let mut set = held(&self.set);
        let before = set.len();
        set.retain(|active| text.is_some_and(|text| active.fault.to_string() != text));
        before - set.len()
    }

    /// Every fault that is set.
    pub(crate) fn list(&self) -> Vec<Active> {
        held(&self.set).clone()
    }

    /// Counts a call and gives the first fault that strikes it.
    pub(crate) fn strike(&self, call: Call) -> Option<Fault> {
        let mut struck = None;
        for active in held(&self.set).iter_mut().filter(|a| a.fault.call == call || a.fault.call == Call::Any) {
            active.seen += 1;
            if struck.is_none() && active.fault.which.holds(active.seen) {
                active.struck += 1;
                struck = Some(active.fault.clone());
            }
        }
        struck
    }
}

/// Answers a call that a fault strikes.
pub(crate) async fn apply(app: &Arc<App>, effect: Effect, line: Option<Line>, mut request: Request, next: Next) -> Response {
    let when = match &effect {
        Effect::Reset(when) | Effect::Status(_, when) | Effect::Hang(when) => *when,
        Effect::Expired | Effect::Throttled(_) | Effect::Redirect(_) => When::Before,
        Effect::JobNeverEnds => return job(app, Fate::NeverEnds, request, next).await,
        Effect::JobFails(notes) => return job(app, Fate::Fails(notes.clone()), request, next).await,
        Effect::JobCancelled => return job(app, Fate::Cancelled, request, next).await,
        Effect::JobDoesNothing => return job(app, Fate::DoesNothing, request, next).await,
        Effect::Slow(_) | Effect::Truncated | Effect::ContentType(_) => When::After,
    };
    let uri = request.uri().clone();
    let answer = match when {
        When::After => gate::proceed(app, request, next).await,
        When::Before => {
            if matches!(effect, Effect::Expired)
                && let Some(token) = request.headers().get(TOKEN_HEADER).and_then(|t| t.to_str().ok())
            {
                app.sessions.end(token);
            }
            let body = std::mem::take(request.body_mut());
            multipart::drain(&mut body.into_data_stream()).await;
            StatusCode::OK.into_response()
        }
    };
    match effect {
        Effect::Reset(_) => {
            if let Some(line) = line {
                line.reset();
            }
            StatusCode::OK.into_response()
        }
        Effect::Expired => Refusal::expired().into_response(),
        Effect::Throttled(after) => throttled(after),
        Effect::Status(status, _) => page(status),
        Effect::Hang(_) => {
            // hyper drops this as soon as the client has gone; the end of the sandbox must not wait for it.
            app.stopping().await;
            page(503)
        }
        Effect::Slow(time) => slow(answer, time).await,
        Effect::Redirect(to) => redirect(&to, &uri),
        Effect::Truncated => truncated(answer, line).await,
        Effect::ContentType(kind) => {
            let mut answer = answer;
            if let Ok(kind) = HeaderValue::from_str(&kind) {
                answer.headers_mut().insert(header::CONTENT_TYPE, kind);
            }
            answer
        }
        Effect::JobNeverEnds | Effect::JobFails(_) | Effect::JobCancelled | Effect::JobDoesNothing => answer,
    }
}

async fn job(app: &Arc<App>, fate: Fate, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(fate);
    gate::proceed(app, request, next).await
}

fn throttled(after: Option<Duration>) -> Response {
    let mut response = Refusal::new(429_000, "Too Many Requests", "Too many requests, try again later").into_response();
    if let Some(after) = after {
        // The header knows whole seconds only; rounded up, so that a client that obeys is never early.
        let seconds = after.as_millis().div_ceil(1000).to_string();
        if let Ok(value) = HeaderValue::from_str(&seconds) {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
    }
    response
}

/// What a gateway or a login wall sends.
fn page(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reason = status.canonical_reason().unwrap_or("Error");
    let html = format!(
        "<html>\r\n<head><title>{0} {reason}</title></head>\r\n<body>\r\n<center><h1>{0} {reason}</h1></center>\r\n\
         <hr><center>gateway</center>\r\n</body>\r\n</html>\r\n",
        status.as_u16()
    );
    (status, Html(html)).into_response()
}

fn redirect(to: &str, uri: &Uri) -> Response {
    let bare = to.split_once("://").is_some_and(|(_, rest)| !rest.trim_end_matches('/').contains('/'));
    let location = if bare {
        format!("{}{}", to.trim_end_matches('/'), uri.path_and_query().map_or("/", axum::http::uri::PathAndQuery::as_str))
    } else {
        to.to_owned()
    };
    match HeaderValue::from_str(&location) {
        Ok(location) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response(),
        Err(_) => page(500),
    }
}

async fn whole(answer: Response) -> Option<(axum::http::response::Parts, Bytes)> {
    let (parts, body) = answer.into_parts();
    axum::body::to_bytes(body, MAX_ANSWER).await.ok().map(|bytes| (parts, bytes))
}

async fn slow(answer: Response, time: Duration) -> Response {
    let Some((mut parts, bytes)) = whole(answer).await else { return page(500) };
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let pause = time / u32::try_from(DRIPS).unwrap_or(1);
    let drip = bytes.len().div_ceil(DRIPS).max(1);
    if bytes.is_empty() {
        tokio::time::sleep(time).await;
    }
    let drips = futures::stream::unfold(bytes, move |mut left| async move {
        if left.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let piece = left.split_to(drip.min(left.len()));
        Some((Ok::<_, std::io::Error>(piece), left))
    });
    Response::from_parts(parts, Body::from_stream(drips))
}

async fn truncated(answer: Response, line: Option<Line>) -> Response {
    let Some((mut parts, mut bytes)) = whole(answer).await else { return page(500) };
    // An answer without a body promises one, so that it can be cut as well.
    let promised = bytes.len().max(64);
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(promised));
    if parts.status == StatusCode::NO_CONTENT {
        parts.status = StatusCode::OK;
    }
    bytes.truncate(bytes.len() / 2);
    let half = futures::stream::once(async move { Ok(bytes) });
    let end = futures::stream::once(async move {
        tokio::time::sleep(LEAVING).await;
        if let Some(line) = line {
            line.cut();
        }
        Err::<Bytes, _>(std::io::Error::other("cut on purpose"))
    });
    Response::from_parts(parts, Body::from_stream(futures::StreamExt::chain(half, end)))
}
