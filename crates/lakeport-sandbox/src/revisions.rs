//! What a data source was before, and its connections.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};

use crate::query::Query;
use crate::refusal::{Refusal, xml_response, xml_response_of};
use crate::xml::Element;
use crate::{App, datasources, time};

/// `GET datasources/{id}/revisions`: oldest first, the current one last.
pub(crate) fn list(app: &App, id: &str, query: &Query) -> Result<Response, Refusal> {
    let page = query.page()?;
    app.store.read(|index| {
        let datasource = index.datasource(id).ok_or_else(|| Refusal::no_datasource(id))?;
        let revision = |number: u64, at: DateTime<Utc>, current: bool, deleted: bool| {
            Element::new("revision")
                .attr("revisionNumber", number.to_string())
                .attr("current", current.to_string())
                .attr("deleted", deleted.to_string())
                .attr("publishedAt", time(at))
                .child(Element::new("publisher").attr("id", &index.user.id).attr("name", &index.user.name))
        };
        let older = datasource.older.iter().map(|r| revision(r.number, r.published_at, false, r.file.is_none()));
        let all: Vec<Element> = older.chain([revision(datasource.publishes, datasource.published_at, true, false)]).collect();
        let answer = [page.element(all.len()), Element::new("revisions").children(page.of(&all).iter().cloned())];
        Ok(xml_response_of(StatusCode::OK, &answer))
    })
}

/// `GET datasources/{id}/revisions/{number}/content`.
pub(crate) async fn download(app: &App, id: &str, number: &str) -> Result<Response, Refusal> {
    let (datasource, file) = app.store.read(|index| {
        let datasource = index.datasource(id).ok_or_else(|| Refusal::no_datasource(id))?;
        let current = number_of(number)? == datasource.publishes;
        let older = datasource.older.iter().find(|r| number_of(number).is_ok_and(|n| r.number == n));
        let file = if current { Some(&datasource.file) } else { older.and_then(|r| r.file.as_ref()) };
        Ok::<_, Refusal>((datasource.clone(), file.cloned().ok_or_else(|| unknown(number))?))
    })?;
    datasources::serve(app, &datasource, &file).await
}

/// `DELETE datasources/{id}/revisions/{number}`: its content is gone, its entry stays.
pub(crate) fn delete(app: &App, id: &str, number: &str) -> Result<Response, Refusal> {
    let wanted = number_of(number)?;
    let file = app.store.change(|index| {
        let datasource = index.datasource_mut(id).ok_or_else(|| Refusal::no_datasource(id))?;
        if datasource.publishes == wanted {
            return Err(Refusal::new(403_004, "Forbidden", "the current revision cannot be deleted"));
        }
        let revision = datasource.older.iter_mut().find(|r| r.number == wanted).ok_or_else(|| unknown(number))?;
        revision.file.take().ok_or_else(|| unknown(number))
    })?;
    app.store.discard(&file.path);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET datasources/{id}/connections`: the only one a bare extract has.
pub(crate) fn connections(app: &App, id: &str) -> Result<Response, Refusal> {
    app.store.read(|index| {
        let datasource = index.datasource(id).ok_or_else(|| Refusal::no_datasource(id))?;
        let connection = Element::new("connection")
            .attr("id", &datasource.connection)
            .attr("type", "hyper")
            .attr("serverAddress", "")
            .attr("userName", "tableau_internal_user")
            .attr("embedPassword", "false")
            .child(Element::new("datasource").attr("id", &datasource.id).attr("name", &datasource.name));
        Ok(xml_response(StatusCode::OK, &Element::new("connections").child(connection)))
    })
}

fn number_of(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| unknown(text))
}

fn unknown(number: &str) -> Refusal {
    Refusal::new(404_000, "Resource Not Found", format!("revision {number} could not be found"))
}
