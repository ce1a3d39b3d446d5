//! Changing the rows of a published data source in place: `PATCH datasources/{id}/data`.
//!
//! The actions are done by hyperd on a copy, which takes the place of the published file only when all of them went well. A
//! request id is remembered for 24 hours; a second request with it does nothing and gets the job of the first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};

use crate::App;
use crate::index::{Datasource, StoredFile};
use crate::inject::Fate;
use crate::jobs::{self, Start};
use crate::publish;
use crate::refusal::{Refusal, with_causes, xml_response};
use crate::statements::{self, Action};
use crate::store::held;
use crate::uploads::Arrived;
use crate::xml::Element;

/// How long a request id is remembered.
const MEMORY: TimeDelta = TimeDelta::hours(24);
/// The longest request id.
const MAX_REQUEST_ID: usize = 255;

/// A site and a request id.
type Key = (String, String);

/// The request ids of each site, with when they came and what was answered.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    seen: Mutex<HashMap<Key, (DateTime<Utc>, Element)>>,
}

/// What is asked for, apart from the actions.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) site: String,
    pub(crate) datasource: String,
    pub(crate) connection: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) upload: Option<String>,
    pub(crate) fate: Option<Fate>,
}

/// `PATCH datasources/{id}/data` and `PATCH datasources/{id}/connections/{connection}/data`.
pub(crate) fn change(app: &Arc<App>, wanted: Wanted, body: &[u8]) -> Result<Response, Refusal> {
    let request_id = wanted.request_id.filter(|id| !id.is_empty() && id.len() <= MAX_REQUEST_ID);
    let request_id = request_id.ok_or_else(|| Refusal::bad_request("the header RequestID is missing, empty or too long"))?;
    let datasource = app.store.read(|index| index.datasource(&wanted.datasource).cloned());
    let datasource = datasource.ok_or_else(|| Refusal::no_datasource(&wanted.datasource))?;
    if let Some(connection) = wanted.connection.filter(|c| *c != datasource.connection) {
        return Err(Refusal::new(404_000, "Resource Not Found", format!("connection {connection} could not be found")));
    }
    // Taken before anything else is looked at and held until the answer is known: two requests with one id must not both pass.
    let mut seen = held(&app.changes.seen);
    let now = Utc::now();
    seen.retain(|_, (at, _)| now - *at < MEMORY);
    let key = (wanted.site, request_id);
    if let Some((_, announced)) = seen.get(&key) {
        return Ok(xml_response(StatusCode::ACCEPTED, announced));
    }
    let actions = statements::read(body).map_err(Refusal::bad_request)?;
    let payload = wanted.upload.map(|id| payload(app, &id)).transpose()?;
    if payload.is_none() && actions.iter().any(Action::has_source) {
        return Err(Refusal::bad_request("an action has a source-table, but no file was uploaded (uploadSessionId)"));
    }
    let about = Element::new("updateUploadedFileJob")
        .child(Element::new("datasource").attr("id", &datasource.id).attr("name", &datasource.name))
        .child(Element::new("connectionLuid").text(&datasource.connection));
    let work = {
        let (app, id) = (Arc::clone(app), datasource.id);
        async move { apply(&app, &id, actions, payload).await }
    };
    let start = Start { kind: "UpdateUploadedFile", site: &key.0, about: Some(about), fate: wanted.fate };
    let announced = jobs::start(app, start, work);
    seen.insert(key, (now, announced.clone()));
    Ok(xml_response(StatusCode::ACCEPTED, &announced))
}

/// The uploaded file, unless it is too large for this.
fn payload(app: &App, upload: &str) -> Result<Arrived, Refusal> {
    let bytes = app.uploads.size(upload)?;
    let limit = app.options.data_limit;
    if bytes > limit {
        return Err(Refusal::too_large(format!("the file of a data update has at most {limit} bytes, this one has {bytes}")));
    }
    app.uploads.finish(upload, app.store.staging()?)
}

/// Does all actions, or none.
async fn apply(app: &Arc<App>, id: &str, actions: Vec<Action>, payload: Option<Arrived>) -> Result<(), Refusal> {
    let find = || app.store.read(|index| index.datasource(id).cloned()).ok_or_else(|| Refusal::no_datasource(id));
    let named = find()?;
    // The same turn that publishes to this name take.
    let _turn = app.store.turn(&named.project, &named.name).await;
    let before = find()?;
    let stored = {
        let (app, before) = (Arc::clone(app), before.clone());
        tokio::task::spawn_blocking(move || keep(&app, &before, &actions, payload))
            .await
            .map_err(|e| Refusal::internal(format!("the data update broke down: {e}")))??
    };
    let path = stored.path.clone();
    let changed = app.store.change(|index| {
        let place = index.datasource_mut(id).ok_or_else(|| Refusal::no_datasource(id))?;
        if place.file.path != before.file.path {
            return Err(Refusal::internal("the data source was published anew meanwhile"));
        }
        place.file = stored;
        place.changes += 1;
        place.updated_at = Utc::now();
        Ok(())
    });
    app.store.discard(if changed.is_ok() { &before.file.path } else { &path });
    changed
}

fn keep(app: &App, before: &Datasource, actions: &[Action], payload: Option<Arrived>) -> Result<StoredFile, Refusal> {
    let copy = app.store.staging()?;
    std::fs::copy(app.store.file(&before.file.path), &copy)?;
    let refused = |error: lakeport::Error| Refusal::unpublishable(with_causes(&error));
    app.engine.change(&copy, payload.as_ref().map(|p| -> &std::path::Path { &p.path }), actions).map_err(refused)?;
    let tables = app.engine.inspect(&copy).map_err(refused)?;
    let bytes = std::fs::metadata(&copy)?.len();
    let name = format!("{}-{}", before.publishes, before.changes + 1);
    publish::store(app, Arrived { path: copy, bytes }, tables, &before.id, &name)
}
