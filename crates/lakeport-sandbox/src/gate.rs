//! What every call passes before its endpoint, and every answer after it.
//!
//! The one place where calls are entered into the history, where faults strike, and where the version, the sign-in session and
//! the site are checked: [`pass`] holds the whole request before anything was read and the whole answer before anything was
//! sent.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::fault::Call;
use crate::inject;
use crate::line::Line;
use crate::multipart;
use crate::refusal::Refusal;
use crate::sessions::{Session, TOKEN_HEADER};

/// Below this minor version of API 3, jobs cannot be read by who signed in with a JWT, whatever its scopes.
const JWT_READS_JOBS: u32 = 25;

/// Lets a call through, or answers it.
pub(crate) async fn pass(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let method = request.method().clone();
    // The page and the sandbox's own endpoints are no part of the server that is stood in for.
    let Some((_, call)) = uri.path().strip_prefix("/api/").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) else {
        return next.run(request).await;
    };
    let call = Call::of(&method, call);
    let fault = app.faults.strike(call);
    let target = uri.path_and_query().map_or("/", axum::http::uri::PathAndQuery::as_str);
    let number = app.history.begin(method.as_str(), target, call, fault.as_ref());
    let line = request.extensions().get::<ConnectInfo<Line>>().map(|info| info.0.clone());
    let unanswered = fault.as_ref().is_some_and(|f| matches!(f.effect, crate::Effect::Reset(_)));
    let response = match fault {
        Some(fault) => Box::pin(inject::apply(&app, fault.effect, line, request, next)).await,
        None => proceed(&app, request, next).await,
    };
    app.history.end(number, (!unanswered).then(|| response.status().as_u16()));
    tracing::debug!(number, %method, path = uri.path(), status = response.status().as_u16(), "call");
    response
}

/// Lets a call through to its endpoint, unless it may not go there.
pub(crate) async fn proceed(app: &App, request: Request, next: Next) -> Response {
    let token = request.headers().get(TOKEN_HEADER).and_then(|t| t.to_str().ok());
    match admit(app, request.method(), request.uri().path(), token) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            // A client that is still sending would find its connection reset instead of reading why it was refused.
            multipart::drain(&mut request.into_body().into_data_stream()).await;
            refusal.into_response()
        }
    }
}

/// Checks what method, path and token alone demand.
fn admit(app: &App, method: &Method, path: &str, token: Option<&str>) -> Result<(), Refusal> {
    let Some(rest) = path.strip_prefix("/api/") else { return Ok(()) };
    let (version, call) = rest.split_once('/').unwrap_or((rest, ""));
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit()));
    let known = version.split_once('.').and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
    let Some(version) = known else {
        return Err(Refusal::new(404_001, "Resource Not Found", format!("there is no API version {version:?}")));
    };
    if matches!(call, "serverInfo" | "auth/signin") {
        return Ok(());
    }
    let session = app.sessions.check(token, app.options.session_time)?;
    scope(&session, method, call, version)?;
    let Some((site, inside)) = call.strip_prefix("sites/").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) else {
        return Ok(());
    };
    // Every site can be looked at, since that is how a client learns where to switch; what is in it only when signed in there.
    let visible = app.store.read(|index| index.sites().any(|s| s.id == site)) && (inside.is_empty() || session.site == site);
    if !visible {
        return Err(Refusal::new(404_000, "Resource Not Found", format!("site {site} could not be found")));
    }
    within(app, site, inside)
}

/// Whether what is asked for lies in the site; an id of another site is as unknown as one that was never given.
fn within(app: &App, site: &str, inside: &str) -> Result<(), Refusal> {
    let words: Vec<&str> = inside.split('/').collect();
    let datasource = match words.as_slice() {
        ["datasources", id, ..] | ["dataQualityWarnings", "datasource", id] => *id,
        ["projects", id] => {
            let here = app.store.read(|index| index.project(id).is_none_or(|p| p.site == site));
            return if here { Ok(()) } else { Err(Refusal::no_project(id)) };
        }
        _ => return Ok(()),
    };
    let here = app.store.read(|index| index.datasource(datasource).is_none_or(|d| index.site_of(&d.project) == Some(site)));
    if here { Ok(()) } else { Err(Refusal::no_datasource(datasource)) }
}

/// Whether the scopes of a JWT allow this call; other sign-ins may do everything.
///
/// What is missing shows as 401002, as if the token were dead, which is how real servers confuse their clients.
fn scope(session: &Session, method: &Method, call: &str, version: (u32, u32)) -> Result<(), Refusal> {
    let Some(scopes) = &session.scopes else { return Ok(()) };
    let kind = Call::of(method, call);
    if kind == Call::Job && version < (3, JWT_READS_JOBS) {
        return Err(Refusal::expired());
    }
    let verb = match *method {
        Method::GET => "read",
        Method::POST => "create",
        Method::DELETE => "delete",
        _ => "update",
    };
    let inside: Vec<&str> = call.split('/').skip(2).collect();
    let area = match (kind, inside.as_slice()) {
        (Call::UploadStart | Call::Append, _) => return granted(scopes, "tableau:file_uploads:create"),
        (Call::Job, _) if verb == "read" => return granted(scopes, "tableau:jobs:read"),
        (Call::Job, _) => "jobs",
        // No content, and so not part of what reads all content.
        (_, [who @ ("users" | "groups"), ..]) => return granted(scopes, &format!("tableau:{who}:{verb}")),
        (Call::Update, ["datasources", _, "permissions", ..]) => "permissions",
        (Call::Update, ["datasources", _, "tags", ..]) => "datasource_tags",
        (Call::Projects, _) => "projects",
        (Call::Publish | Call::Data | Call::Update | Call::Datasource, _) => "datasources",
        _ => return Ok(()),
    };
    if verb == "read" && call.ends_with("/content") {
        return granted(scopes, "tableau:datasources:download");
    }
    if verb == "read" && granted(scopes, "tableau:content:read").is_ok() {
        return Ok(());
    }
    granted(scopes, &format!("tableau:{area}:{verb}"))
}

fn granted(scopes: &[String], needed: &str) -> Result<(), Refusal> {
    let area = needed.rsplit_once(':').map_or("", |(area, _)| area);
    let holds = scopes.iter().any(|scope| scope == needed || scope.strip_suffix(":*") == Some(area));
    if holds { Ok(()) } else { Err(Refusal::expired()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_takes_its_own_scope() {
        let may = |scope: &str, method: &Method, call: &str| {
            let session = Session::with(Some(vec![scope.to_owned()]));
            super::scope(&session, method, &format!("sites/1/{call}"), (3, 29)).is_ok()
        };
        for (method, call, takes) in [
            (Method::GET, "users", "tableau:users:read"),
            (Method::GET, "users/7", "tableau:users:read"),
            (Method::GET, "groups", "tableau:groups:read"),
            (Method::PUT, "datasources/7/tags", "tableau:datasource_tags:update"),
            (Method::DELETE, "datasources/7/tags/x", "tableau:datasource_tags:delete"),
            (Method::PUT, "datasources/7/permissions", "tableau:permissions:update"),
            (Method::DELETE, "datasources/7/permissions/users/1/Read/Allow", "tableau:permissions:delete"),
            (Method::PUT, "datasources/7", "tableau:datasources:update"),
            (Method::PATCH, "datasources/7/data", "tableau:datasources:update"),
            (Method::POST, "datasources", "tableau:datasources:create"),
            (Method::GET, "datasources/7/content", "tableau:datasources:download"),
            (Method::GET, "datasources/7", "tableau:content:read"),
            (Method::PUT, "fileUploads/7", "tableau:file_uploads:create"),
            (Method::GET, "jobs/7", "tableau:jobs:read"),
        ] {
            assert!(may(takes, &method, call), "{method} {call} with {takes}");
            let (area, _) = takes.rsplit_once(':').unwrap();
            assert!(may(&format!("{area}:*"), &method, call), "{method} {call} with all of {area}");
            // Reading what a data source is takes either of two.
            for other in ["tableau:datasources:*", "tableau:content:read", "tableau:projects:*"] {
                let either = takes == "tableau:content:read" && other == "tableau:datasources:*";
                let same = other == takes || other.strip_suffix(":*") == Some(area) || either;
                assert_eq!(may(other, &method, call), same, "{method} {call} with {other}");
            }
        }
        assert!(super::scope(&Session::with(None), &Method::GET, "sites/1/users", (3, 29)).is_ok());
    }
}
