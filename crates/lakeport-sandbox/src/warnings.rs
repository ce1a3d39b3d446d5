//! Data quality warnings of data sources.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::Utc;

use crate::attributes::flag;
use crate::index::{Index, Warning, new_id};
use crate::refusal::{Refusal, xml_response};
use crate::xml::{self, Element};
use crate::{App, time};

/// The kinds of warnings.
const KINDS: [&str; 5] = ["WARNING", "DEPRECATED", "STALE", "SENSITIVE_DATA", "MAINTENANCE"];

/// `GET dataQualityWarnings/datasource/{id}`.
pub(crate) fn list(app: &App, id: &str) -> Result<Response, Refusal> {
    app.store.read(|index| {
        let datasource = index.datasource(id).ok_or_else(|| Refusal::no_datasource(id))?;
        Ok(answer(index, id, &datasource.warnings))
    })
}

/// `POST dataQualityWarnings/datasource/{id}`: one of each kind.
pub(crate) fn add(app: &App, id: &str, body: &[u8]) -> Result<Response, Refusal> {
    let wanted = wanted(body)?;
    app.store.change(|index| {
        let datasource = index.datasource_mut(id).ok_or_else(|| Refusal::no_datasource(id))?;
        if datasource.warnings.iter().any(|w| w.kind == wanted.kind) {
            let detail = format!("the data source has a warning of the type {} already", wanted.kind);
            return Err(Refusal::new(409_000, "Resource Conflict", detail));
        }
        datasource.warnings.push(wanted.clone());
        Ok(answer(index, id, std::slice::from_ref(&wanted)))
    })
}

/// `PUT dataQualityWarnings/datasource/{id}`: changes the one of that kind, else the only one.
pub(crate) fn update(app: &App, id: &str, body: &[u8]) -> Result<Response, Refusal> {
    let wanted = wanted(body)?;
    app.store.change(|index| {
        let datasource = index.datasource_mut(id).ok_or_else(|| Refusal::no_datasource(id))?;
        let place = match datasource.warnings.iter().position(|w| w.kind == wanted.kind) {
            Some(place) => Some(place),
            None => (datasource.warnings.len() == 1).then_some(0),
        };
        let old = place.and_then(|place| datasource.warnings.get_mut(place));
        let old = old.ok_or_else(|| Refusal::new(404_000, "Resource Not Found", "there is no such warning"))?;
        *old = Warning { id: old.id.clone(), created_at: old.created_at, ..wanted };
        let changed = old.clone();
        Ok(answer(index, id, &[changed]))
    })
}

/// `DELETE dataQualityWarnings/datasource/{id}`: all of them.
pub(crate) fn clear(app: &App, id: &str) -> Result<Response, Refusal> {
    app.store.change(|index| {
        index.datasource_mut(id).ok_or_else(|| Refusal::no_datasource(id))?.warnings.clear();
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn wanted(body: &[u8]) -> Result<Warning, Refusal> {
    let request = xml::request(body).map_err(Refusal::bad_request)?;
    let wanted =
        request.find("dataQualityWarning").ok_or_else(|| Refusal::bad_request("the element dataQualityWarning is missing"))?;
    let kind = wanted.get("type").unwrap_or_default();
    if !KINDS.contains(&kind) {
        return Err(Refusal::bad_request(format!("there is no warning of the type {kind:?}")));
    }
    let now = Utc::now();
    Ok(Warning {
        id: new_id(),
        kind: kind.to_owned(),
        message: wanted.get("message").unwrap_or_default().to_owned(),
        active: flag(wanted, "isActive")?.unwrap_or(true),
        severe: flag(wanted, "isSevere")?.unwrap_or(false),
        created_at: now,
        updated_at: now,
    })
}

fn answer(index: &Index, datasource: &str, warnings: &[Warning]) -> Response {
    let of = |warning: &Warning| {
        Element::new("dataQualityWarning")
            .attr("id", &warning.id)
            .attr("userDisplayName", &index.user.name)
            .attr("contentId", datasource)
            .attr("contentType", "DATASOURCE")
            .attr("message", &warning.message)
            .attr("type", &warning.kind)
            .attr("isActive", warning.active.to_string())
            .attr("isSevere", warning.severe.to_string())
            .attr("createdAt", time(warning.created_at))
            .attr("updatedAt", time(warning.updated_at))
            .child(Element::new("owner").attr("id", &index.user.id))
    };
    let list = Element::new("dataQualityWarningList").children(warnings.iter().map(of));
    xml_response(StatusCode::OK, &list)
}
