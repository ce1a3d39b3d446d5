//! What describes a data source, changed after its publish: name, description, certification, owner, project, tags.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::Utc;

use crate::index::{Index, User};
use crate::query::Query;
use crate::refusal::{Refusal, xml_response, xml_response_of};
use crate::xml::{self, Element};
use crate::{App, datasources};

/// `PUT datasources/{id}`: what is sent is changed, what is not stays.
pub(crate) fn update(app: &App, site: &str, id: &str, body: &[u8]) -> Result<Response, Refusal> {
    let request = xml::request(body).map_err(Refusal::bad_request)?;
    let wanted = request.find("datasource").ok_or_else(|| Refusal::bad_request("the element datasource is missing"))?;
    let answer = app.store.change(|index| {
        let mut changed = index.datasource(id).cloned().ok_or_else(|| Refusal::no_datasource(id))?;
        if let Some(name) = wanted.get("name") {
            if name.trim().is_empty() {
                return Err(Refusal::bad_request("a data source needs a name"));
            }
            name.clone_into(&mut changed.name);
        }
        if let Some(project) = wanted.find("project").and_then(|p| p.get("id")) {
            if index.site_of(project) != Some(site) {
                return Err(Refusal::no_project(project));
            }
            project.clone_into(&mut changed.project);
        }
        if index.datasource_named(&changed.project, &changed.name).is_some_and(|other| other.id != id) {
            // The code of an update into an existing name is not known; that of a publish into one is.
            let detail = format!("A data source named '{}' already exists in this project.", changed.name);
            return Err(Refusal::new(403_007, "Forbidden", detail));
        }
        if let Some(owner) = wanted.find("owner").and_then(|o| o.get("id")) {
            changed.owner = Some(user(index, owner)?.id.clone());
        }
        if let Some(description) = wanted.get("description") {
            description.clone_into(&mut changed.description);
        }
        if let Some(certified) = flag(wanted, "isCertified")? {
            changed.certified = certified;
        }
        if let Some(note) = wanted.get("certificationNote") {
            note.clone_into(&mut changed.certification_note);
        }
        if let Some(agent) = flag(wanted, "useRemoteQueryAgent")? {
            changed.use_remote_query_agent = agent;
        }
        changed.updated_at = Utc::now();
        if let Some(place) = index.datasource_mut(id) {
            *place = changed.clone();
        }
        Ok(datasources::element(app, index, &changed))
    })?;
    Ok(xml_response(StatusCode::OK, &answer))
}

/// A boolean attribute; the official client spells it `True` in some requests, which servers take.
pub(crate) fn flag(element: &Element, name: &str) -> Result<Option<bool>, Refusal> {
    match element.get(name) {
        None => Ok(None),
        Some(v) if v.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(v) if v.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(v) => Err(Refusal::bad_request(format!("{name} is neither true nor false: {v}"))),
    }
}

/// The labels inside the `<tags>` of an element.
///
/// The official client puts labels with spaces or commas in quotes, because servers take an unquoted one for several tags.
pub(crate) fn tags(element: &Element) -> BTreeSet<String> {
    let tags = element.find("tags").map(Element::all).unwrap_or_default();
    let mut labels = BTreeSet::new();
    for label in tags.iter().filter_map(|tag| tag.get("label")) {
        match label.strip_prefix('"').and_then(|l| l.strip_suffix('"')) {
            Some(whole) => labels.extend([whole.to_owned()]),
            None => labels.extend(label.split([',', ' ']).map(str::to_owned)),
        }
    }
    labels.remove("");
    labels
}

/// Tags as they are answered.
pub(crate) fn tags_element(tags: &BTreeSet<String>) -> Element {
    Element::new("tags").children(tags.iter().map(|tag| Element::new("tag").attr("label", tag)))
}

/// `PUT datasources/{id}/tags`: adds to those that are there.
pub(crate) fn add_tags(app: &App, id: &str, body: &[u8]) -> Result<Response, Refusal> {
    let request = xml::request(body).map_err(Refusal::bad_request)?;
    let labels = tags(&request);
    if labels.is_empty() {
        return Err(Refusal::bad_request("there is no tag with a label"));
    }
    let all = app.store.change(|index| {
        let datasource = index.datasource_mut(id).ok_or_else(|| Refusal::no_datasource(id))?;
        datasource.tags.extend(labels);
        Ok(datasource.tags.clone())
    })?;
    Ok(xml_response(StatusCode::OK, &tags_element(&all)))
}

/// `DELETE datasources/{id}/tags/{label}`.
pub(crate) fn remove_tag(app: &App, id: &str, label: &str) -> Result<Response, Refusal> {
    app.store.change(|index| {
        let datasource = index.datasource_mut(id).ok_or_else(|| Refusal::no_datasource(id))?;
        datasource.tags.remove(label);
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The user of an id.
pub(crate) fn user<'a>(index: &'a Index, id: &str) -> Result<&'a User, Refusal> {
    let unknown = || Refusal::new(404_002, "Resource Not Found", format!("user {id} could not be found"));
    index.users().find(|user| user.id == id).ok_or_else(unknown)
}

/// `GET users`: so that owners and grantees can be looked up.
pub(crate) fn users(app: &App, query: &Query) -> Result<Response, Refusal> {
    let (page, filter) = (query.page()?, query.filter()?);
    app.store.read(|index| {
        let mut found = Vec::new();
        for user in index.users() {
            if named(&filter, &user.name)? {
                found.push(user_element(user));
            }
        }
        let answer = [page.element(found.len()), Element::new("users").children(page.of(&found).iter().cloned())];
        Ok(xml_response_of(StatusCode::OK, &answer))
    })
}

/// `GET users/{id}`: what the signed-in user may do, for one.
pub(crate) fn one_user(app: &App, id: &str) -> Result<Response, Refusal> {
    app.store.read(|index| Ok(xml_response(StatusCode::OK, &user_element(user(index, id)?))))
}

fn user_element(user: &User) -> Element {
    Element::new("user").attr("id", &user.id).attr("name", &user.name).attr("siteRole", "SiteAdministratorCreator")
}

/// `GET groups`: the one that everybody is in.
pub(crate) fn groups(app: &App, query: &Query) -> Result<Response, Refusal> {
    let (page, filter) = (query.page()?, query.filter()?);
    let id = app.store.read(|index| index.everybody.clone());
    let domain = Element::new("domain").attr("name", "local");
    let all = [Element::new("group").attr("id", id).attr("name", EVERYBODY).child(domain)];
    let found: &[Element] = if named(&filter, EVERYBODY)? { &all } else { &[] };
    let answer = [page.element(found.len()), Element::new("groups").children(page.of(found).iter().cloned())];
    Ok(xml_response_of(StatusCode::OK, &answer))
}

/// The group that servers have from the start.
const EVERYBODY: &str = "All Users";

fn named(filter: &[crate::query::Condition], name: &str) -> Result<bool, Refusal> {
    for condition in filter {
        match condition.field.as_str() {
            "name" if !condition.holds(name)? => return Ok(false),
            "name" => {}
            _ => return Err(condition.unknown_field()),
        }
    }
    Ok(true)
}
