//! What every call passes before its endpoint, and every answer after it.
//!
//! The one place where calls are numbered and logged, where the version, the sign-in session and the site are checked, and where
//! faults are to be injected: [`pass`] holds the whole request before anything was read and the whole answer before anything
//! was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::multipart;
use crate::refusal::Refusal;
use crate::sessions::TOKEN_HEADER;

/// Counts the calls of one sandbox.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    count: AtomicU64,
}

/// Lets a call through, or answers it.
pub(crate) async fn pass(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let number = app.calls.count.fetch_add(1, Ordering::Relaxed) + 1;
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let token = request.headers().get(TOKEN_HEADER).and_then(|t| t.to_str().ok());
    let response = match admit(&app, &path, token) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            // A client that is still sending would find its connection reset instead of reading why it was refused.
            multipart::drain(&mut request.into_body().into_data_stream()).await;
            refusal.into_response()
        }
    };
    tracing::debug!(number, %method, path, status = response.status().as_u16(), "call");
    response
}

/// Checks what the path alone demands.
fn admit(app: &App, path: &str, token: Option<&str>) -> Result<(), Refusal> {
    let Some(rest) = path.strip_prefix("/api/") else { return Ok(()) };
    let (version, call) = rest.split_once('/').unwrap_or((rest, ""));
    let known = version.split_once('.').is_some_and(|(major, minor)| {
        [major, minor].iter().all(|n| !n.is_empty() && n.len() <= 3 && n.bytes().all(|b| b.is_ascii_digit()))
    });
    if !known {
        return Err(Refusal::new(404_001, "Resource Not Found", format!("there is no API version {version:?}")));
    }
    if matches!(call, "serverInfo" | "auth/signin") {
        return Ok(());
    }
    app.sessions.check(token)?;
    let site = call.strip_prefix("sites/").and_then(|rest| rest.split('/').next());
    match site {
        Some(id) if app.store.read(|index| index.site.id != id) => {
            Err(Refusal::new(404_000, "Resource Not Found", format!("site {id} could not be found")))
        }
        _ => Ok(()),
    }
}
