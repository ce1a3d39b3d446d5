//! Who may do what with a data source. The sandbox keeps the rules; nobody is held to them.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::attributes::user;
use crate::index::{Datasource, Index, Rule};
use crate::refusal::{Refusal, xml_response};
use crate::xml::{self, Element};

/// What can be allowed or denied on a data source.
const CAPABILITIES: [&str; 11] = [
    "Read",
    "Connect",
    "Write",
    "Delete",
    "ExportXml",
    "ChangePermissions",
    "ChangeHierarchy",
    "SaveAs",
    "VizqlDataApiAccess",
    "PulseMetricDefine",
    "ExtractRefresh",
];

/// `GET datasources/{id}/permissions`.
pub(crate) fn list(app: &App, id: &str) -> Result<Response, Refusal> {
    app.store.read(|index| {
        let datasource = index.datasource(id).ok_or_else(|| Refusal::no_datasource(id))?;
        Ok(xml_response(StatusCode::OK, &element(index, datasource)))
    })
}

/// `PUT datasources/{id}/permissions`: adds to the rules that are there; a rule for the same capability is replaced.
pub(crate) fn add(app: &App, id: &str, body: &[u8]) -> Result<Response, Refusal> {
    let request = xml::request(body).map_err(Refusal::bad_request)?;
    let wanted = request.find("permissions").ok_or_else(|| Refusal::bad_request("the element permissions is missing"))?;
    let answer = app.store.change(|index| {
        let mut changed = index.datasource(id).cloned().ok_or_else(|| Refusal::no_datasource(id))?;
        if index.project(&changed.project).is_some_and(|p| p.content_permissions != "ManagedByOwner") {
            return Err(Refusal::new(403_004, "Forbidden", "the permissions are locked to those of the project"));
        }
        for rule in rules(index, wanted)? {
            changed.permissions.retain(|r| (&r.grantee, &r.id, &r.capability) != (&rule.grantee, &rule.id, &rule.capability));
            changed.permissions.push(rule);
        }
        let answer = element(index, &changed);
        if let Some(place) = index.datasource_mut(id) {
            *place = changed;
        }
        Ok(answer)
    })?;
    Ok(xml_response(StatusCode::OK, &answer))
}

/// `DELETE datasources/{id}/permissions/{users or groups}/{grantee}/{capability}/{mode}`.
pub(crate) fn remove(app: &App, id: &str, rule: &Rule) -> Result<Response, Refusal> {
    app.store.change(|index| {
        let datasource = index.datasource_mut(id).ok_or_else(|| Refusal::no_datasource(id))?;
        let before = datasource.permissions.len();
        datasource
            .permissions
            .retain(|r| (&r.grantee, &r.id, &r.capability, &r.mode) != (&rule.grantee, &rule.id, &rule.capability, &rule.mode));
        if datasource.permissions.len() == before {
            return Err(Refusal::new(404_000, "Resource Not Found", "there is no such permission"));
        }
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn rules(index: &Index, wanted: &Element) -> Result<Vec<Rule>, Refusal> {
    let mut rules = Vec::new();
    for grantee in wanted.all().iter().filter(|e| e.name() == "granteeCapabilities") {
        let who = grantee.all().iter().find_map(|e| Some((e.name(), e.get("id")?)));
        let (kind, id) = who.ok_or_else(|| Refusal::bad_request("granteeCapabilities has neither user nor group"))?;
        match kind {
            "user" => {
                user(index, id)?;
            }
            "group" if id == index.everybody => {}
            "group" => return Err(Refusal::new(404_012, "Resource Not Found", format!("group {id} could not be found"))),
            other => return Err(Refusal::bad_request(format!("unexpected element {other}"))),
        }
        for capability in grantee.find("capabilities").map(Element::all).unwrap_or_default() {
            let (name, mode) = (capability.get("name").unwrap_or_default(), capability.get("mode").unwrap_or_default());
            if !CAPABILITIES.contains(&name) || !matches!(mode, "Allow" | "Deny") {
                return Err(Refusal::bad_request(format!("there is no capability {name:?} with the mode {mode:?}")));
            }
            let (grantee, id, capability, mode) = (kind.to_owned(), id.to_owned(), name.to_owned(), mode.to_owned());
            rules.push(Rule { grantee, id, capability, mode });
        }
    }
    if rules.is_empty() {
        return Err(Refusal::bad_request("there is no capability"));
    }
    Ok(rules)
}

fn element(index: &Index, datasource: &Datasource) -> Element {
    let mut grantees: Vec<(&str, &str)> = Vec::new();
    for rule in &datasource.permissions {
        if !grantees.contains(&(&rule.grantee, &rule.id)) {
            grantees.push((&rule.grantee, &rule.id));
        }
    }
    let of = |(kind, id): (&str, &str)| {
        let rules = datasource.permissions.iter().filter(|r| r.grantee == kind && r.id == id);
        let rules = rules.map(|r| Element::new("capability").attr("name", &r.capability).attr("mode", &r.mode));
        Element::new("granteeCapabilities")
            .child(Element::new(kind).attr("id", id))
            .child(Element::new("capabilities").children(rules))
    };
    let owner = Element::new("owner").attr("id", datasource.owner.as_ref().unwrap_or(&index.user.id));
    Element::new("permissions")
        .child(Element::new("datasource").attr("id", &datasource.id).attr("name", &datasource.name).child(owner))
        .children(grantees.into_iter().map(of))
}
