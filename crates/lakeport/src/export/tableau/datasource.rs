//! Published data sources: finding them by name and project, and what they tell of themselves.

use crate::error::Result;

use super::project::escape;
use super::retry::{Repeat, Repeats};
use super::session::{Call, Server, encode};
use super::xml::Element;

/// A published data source, as the server describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataSource {
    /// Its LUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The name in its URL.
    pub content_url: Option<String>,
    /// The LUID of its project.
    pub project_id: Option<String>,
    /// The name of its project, without those above it.
    pub project: Option<String>,
    /// The LUID of its owner.
    pub owner_id: Option<String>,
    /// `hyper`, `dataengine`, `sqlserver`, …
    pub data_type: Option<String>,
    /// Its size as the server tells it; the unit is not documented.
    pub size: Option<u64>,
    /// When it was first published, as the server writes it.
    pub created_at: Option<String>,
    /// When it last changed, as the server writes it.
    pub updated_at: Option<String>,
    /// A link a person can open.
    pub webpage_url: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// Whether it is certified.
    pub certified: Option<bool>,
    /// What was noted with the certification.
    pub certification_note: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
}

impl DataSource {
    /// Reads `<datasource>`.
    pub(super) fn read(element: &Element) -> Option<Self> {
        let project = element.child("project");
        Some(Self {
            id: element.told("id")?,
            name: element.attribute("name").unwrap_or_default().to_owned(),
            content_url: element.told("contentUrl"),
            project_id: project.and_then(|p| p.told("id")),
            project: project.and_then(|p| p.told("name")),
            owner_id: element.child("owner").and_then(|o| o.told("id")),
            data_type: element.told("type"),
            size: element.attribute("size").and_then(|s| s.trim().parse().ok()),
            created_at: element.told("createdAt"),
            updated_at: element.told("updatedAt"),
            webpage_url: element.told("webpageUrl"),
            description: element.told("description"),
            certified: element.attribute("isCertified").map(|c| c.eq_ignore_ascii_case("true")),
            certification_note: element.told("certificationNote"),
            tags: element.child("tags").map(|t| t.children("tag").filter_map(|t| t.told("label")).collect()).unwrap_or_default(),
        })
    }

    /// What is known, as key and value in display order.
    #[must_use]
    pub fn details(&self) -> Vec<(String, String)> {
        let size = self.size.map(|s| s.to_string());
        let certified = self.certified.filter(|c| *c).map(|_| "yes".to_owned());
        let tags = (!self.tags.is_empty()).then(|| self.tags.join(", "));
        [
            ("id", Some(&self.id)),
            ("project", self.project.as_ref()),
            ("type", self.data_type.as_ref()),
            ("size", size.as_ref()),
            ("created", self.created_at.as_ref()),
            ("updated", self.updated_at.as_ref()),
            ("description", self.description.as_ref()),
            ("certified", certified.as_ref()),
            ("tags", tags.as_ref()),
            ("url", self.webpage_url.as_ref()),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.clone())))
        .collect()
    }
}

impl Server {
    /// Finds a data source by exact name in a project; with no project known, the one that changed last.
    pub(super) async fn find(&self, name: &str, project: Option<&str>, repeats: &mut Repeats) -> Result<Option<DataSource>> {
        let matching = |all: Vec<DataSource>| {
            all.into_iter()
                .filter(|d| d.name == name && project.is_none_or(|p| d.project_id.as_deref() == Some(p)))
                .max_by(|a, b| a.updated_at.cmp(&b.updated_at))
        };
        if !name.contains([',', ':']) {
            let filter = format!("name:eq:{}", encode(name));
            if let Some(found) = matching(self.data_sources(Some(&filter), repeats).await?) {
                return Ok(Some(found));
            }
            // A filter reads plain names as we do; an odd one is looked for again without it before it counts as absent.
            if name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.')) {
                return Ok(None);
            }
        }
        Ok(matching(self.data_sources(None, repeats).await?))
    }

    /// Lists data sources, all pages.
    pub(super) async fn data_sources(&self, filter: Option<&str>, repeats: &mut Repeats) -> Result<Vec<DataSource>> {
        self.pages("list data sources", "/datasources", filter, "datasource", DataSource::read, repeats)
            .await
            .map_err(|failed| failed.error)
    }

    /// Asks for one data source by its LUID.
    pub(super) async fn data_source(&self, id: &str, repeats: &mut Repeats) -> Result<Option<DataSource>> {
        let call = Call::get("look at the data source", format!("/datasources/{}", encode(id)));
        match self.call(&call, Repeat::Harmless, repeats).await {
            Ok(answer) => Ok(answer.root.find("datasource").and_then(DataSource::read)),
            Err(failed) if failed.code() == 404_004 => Ok(None),
            Err(failed) => Err(failed.error),
        }
    }

    /// The link of a data source: the server's own, or one made from its address.
    pub(super) fn link(&self, site_url: &str, found: &DataSource) -> String {
        found.webpage_url.clone().unwrap_or_else(|| {
            let site = if site_url.is_empty() { String::new() } else { format!("site/{}/", encode(site_url)) };
            // A data source's own page has a number that only that link tells; this is the list it stands in.
            format!("{}/#/{site}datasources", self.address())
        })
    }
}

/// The name of a project in a listing, ready to be listed in its turn.
pub(super) fn listed_project(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { escape(name) } else { format!("{prefix}/{}", escape(name)) }
}
