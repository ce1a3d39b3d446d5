//! The sandbox's own endpoints under `/sandbox`: what a test sets and what it asks about, as JSON.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::query::Query;
use crate::{App, jobs};

/// `GET /sandbox/faults`.
pub(crate) fn faults(app: &App) -> Response {
    let list: Vec<Value> = app
        .faults
        .list()
        .iter()
        .map(|active| json!({ "fault": active.fault.to_string(), "seen": active.seen, "struck": active.struck }))
        .collect();
    answer(StatusCode::OK, &json!({ "faults": list }))
}

/// `POST /sandbox/faults`: one fault per line, all or nothing; those that are set stay.
pub(crate) fn add_faults(app: &App, body: &[u8]) -> Response {
    let text = String::from_utf8_lossy(body);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match lines.map(str::parse::<Fault>).collect::<Result<Vec<_>, _>>() {
        Ok(faults) if faults.is_empty() => failed("the body has no fault, such as append:2:reset-after"),
        Ok(faults) => match app.faults.add(faults) {
            Ok(()) => self::faults(app),
            Err(refusal) => failed(refusal.detail()),
        },
        Err(error) => failed(error.message()),
    }
}

/// `DELETE /sandbox/faults`: every fault, or with `?fault=` those of one text.
pub(crate) fn clear_faults(app: &App, query: &Query) -> Response {
    let removed = app.faults.clear(query.get("fault"));
    answer(StatusCode::OK, &json!({ "removed": removed }))
}

/// `GET /sandbox/calls`: the last calls, oldest first.
pub(crate) fn calls(app: &App) -> Response {
    let (calls, count) = app.history.list();
    let calls: Vec<Value> = calls.iter().map(crate::history::Entry::json).collect();
    answer(StatusCode::OK, &json!({ "count": count, "calls": calls }))
}

/// `DELETE /sandbox/calls`.
pub(crate) fn clear_calls(app: &App) -> Response {
    app.history.clear();
    StatusCode::NO_CONTENT.into_response()
}

/// `POST /sandbox/expire`: ends every sign-in session, or with `?token=` those of one personal access token.
pub(crate) fn expire(app: &App, query: &Query) -> Response {
    answer(StatusCode::OK, &json!({ "ended": app.sessions.expire(query.get("token")) }))
}

/// `POST /sandbox/jobs/{id}/cancel`: what an administrator could do to any job that has not begun its work.
pub(crate) fn cancel(app: &App, id: &str) -> Response {
    match jobs::cancel(app, id) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(why) => failed(why),
    }
}

fn failed(why: &str) -> Response {
    answer(StatusCode::BAD_REQUEST, &json!({ "error": why }))
}

fn answer(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}
