//! Projects: list, create, delete.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::Utc;

use crate::App;
use crate::index::{Datasource, Index, Project, new_id};
use crate::query::{Condition, Query};
use crate::refusal::{Refusal, xml_response, xml_response_of};
use crate::time;
use crate::xml::{self, Element};

/// The ways a project can govern the permissions of what is in it.
const CONTENT_PERMISSIONS: [&str; 3] = ["ManagedByOwner", "LockedToProject", "LockedToProjectWithoutNested"];

/// `GET projects`.
pub(crate) fn list(app: &App, site: &str, query: &Query) -> Result<Response, Refusal> {
    let page = query.page()?;
    let filter = query.filter()?;
    app.store.read(|index| {
        let mut found = Vec::new();
        for project in index.projects.iter().filter(|p| p.site == site) {
            if fulfils(project, &filter)? {
                found.push(project);
            }
        }
        let projects = page.of(&found).iter().map(|project| element(index, project));
        let answer = [page.element(found.len()), Element::new("projects").children(projects)];
        Ok(xml_response_of(StatusCode::OK, &answer))
    })
}

fn fulfils(project: &Project, filter: &[Condition]) -> Result<bool, Refusal> {
    for condition in filter {
        let holds = match condition.field.as_str() {
            "name" => condition.holds(&project.name)?,
            "parentProjectId" => condition.holds(project.parent.as_deref().unwrap_or_default())?,
            "topLevelProject" => condition.holds(if project.parent.is_none() { "true" } else { "false" })?,
            _ => return Err(condition.unknown_field()),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `POST projects`.
pub(crate) fn create(app: &App, site: &str, body: &[u8]) -> Result<Response, Refusal> {
    let request = xml::request(body).map_err(Refusal::bad_request)?;
    let wanted = request.find("project").ok_or_else(|| Refusal::bad_request("the element project is missing"))?;
    let name =
        wanted.get("name").filter(|n| !n.trim().is_empty()).ok_or_else(|| Refusal::bad_request("a project needs a name"))?;
    let permissions = wanted.get("contentPermissions").unwrap_or(CONTENT_PERMISSIONS[0]);
    if !CONTENT_PERMISSIONS.contains(&permissions) {
        return Err(Refusal::bad_request(format!("unknown contentPermissions {permissions:?}")));
    }
    let parent = wanted.get("parentProjectId").filter(|p| !p.is_empty()).map(str::to_owned);
    let answer = app.store.change(|index| {
        if let Some(parent) = parent.as_deref().filter(|parent| index.site_of(parent) != Some(site)) {
            return Err(Refusal::no_project(parent));
        }
        if index.projects.iter().any(|p| p.site == site && p.parent == parent && p.name == name) {
            return Err(Refusal::new(409_006, "Resource Conflict", format!("A project named '{name}' already exists here.")));
        }
        let now = Utc::now();
        let project = Project {
            id: new_id(),
            site: site.to_owned(),
            name: name.to_owned(),
            description: wanted.get("description").unwrap_or_default().to_owned(),
            content_permissions: permissions.to_owned(),
            parent,
            created_at: now,
            updated_at: now,
        };
        let answer = element(index, &project);
        index.projects.push(project);
        Ok(answer)
    })?;
    Ok(xml_response(StatusCode::CREATED, &answer))
}

/// `DELETE projects/{id}`: with everything in it.
pub(crate) fn delete(app: &App, id: &str) -> Result<Response, Refusal> {
    let files = app.store.change(|index| {
        let site = index.site_of(id).ok_or_else(|| Refusal::no_project(id))?;
        if index.default_project(site).is_some_and(|default| default.id == id) {
            return Err(Refusal::new(403_004, "Forbidden", "the default project cannot be deleted"));
        }
        let gone = index.project_and_below(id);
        let files: Vec<String> = index
            .datasources
            .iter()
            .filter(|d| gone.contains(&d.project))
            .flat_map(Datasource::files)
            .map(str::to_owned)
            .collect();
        index.datasources.retain(|d| !gone.contains(&d.project));
        index.projects.retain(|p| !gone.contains(&p.id));
        Ok(files)
    })?;
    for file in files {
        app.store.discard(&file);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn element(index: &Index, project: &Project) -> Element {
    Element::new("project")
        .attr("id", &project.id)
        .attr("name", &project.name)
        .attr("description", &project.description)
        .attr("createdAt", time(project.created_at))
        .attr("updatedAt", time(project.updated_at))
        .attr("contentPermissions", &project.content_permissions)
        .attr_if("parentProjectId", project.parent.as_ref())
        .child(Element::new("owner").attr("id", &index.user.id))
}
