//! Published data sources: finding them by name and project, and what they tell of themselves.

use chrono::{DateTime, Utc};

use crate::error::{Error, Kind, Result};
use crate::export::{Described, Receipt};

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

    /// What describes it, to be kept over an overwrite.
    pub(super) fn described(&self) -> Described {
        Described {
            description: self.description.clone(),
            certified: self.certified,
            certification_note: self.certification_note.clone(),
            owner: self.owner_id.clone(),
            tags: self.tags.clone(),
        }
    }

    /// A data source of which no more is known than what describes it.
    pub(super) fn of(name: &str, described: Described) -> Self {
        Self {
            name: name.to_owned(),
            description: described.description,
            certified: described.certified,
            certification_note: described.certification_note,
            owner_id: described.owner,
            tags: described.tags,
            ..Self::default()
        }
    }

    /// Whether a publish certainly did not touch it: it shows the time it showed before, and that is older than the commit.
    ///
    /// Times that are missing or cannot be read prove nothing. Nor does an equal one that is not older: servers count in seconds.
    pub(super) fn untouched_by(&self, receipt: &Receipt) -> bool {
        let same = self.updated_at.is_some() && self.updated_at == receipt.updated_before;
        same && receipt.committed_after.is_some_and(|commit| read_time(&self.updated_at).is_some_and(|at| at < commit))
    }

    /// The error of a publish that left it as it was.
    pub(super) fn untouched(&self) -> Error {
        let since = self.updated_at.as_deref().unwrap_or("before");
        Error::new(Kind::VerifyFailed, "nothing was published: the data source is as it was")
            .because(format!("it last changed at {since}, which is before the commit"))
            .help("the former rows are still there; look on the server at what became of the publish's job, then run again")
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

/// Reads a time as servers write it; one that is missing or of another form is none.
pub(super) fn read_time(time: &Option<String>) -> Option<DateTime<Utc>> {
    time.as_deref().and_then(|t| DateTime::parse_from_rfc3339(t).ok()).map(|t| t.to_utc())
}

/// The name of a project in a listing, ready to be listed in its turn.
pub(super) fn listed_project(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { escape(name) } else { format!("{prefix}/{}", escape(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_old_time_that_stayed_is_proof() {
        let source = |t: &str| DataSource { updated_at: Some(t.into()), ..DataSource::default() };
        let receipt = |t: &str| Receipt {
            updated_before: Some(t.into()),
            committed_after: Some("2026-01-01T00:00:10Z".parse().unwrap()),
            ..Receipt::default()
        };
        let (old, new) = ("2026-01-01T00:00:09Z", "2026-01-01T00:00:10Z");
        assert!(source(old).untouched_by(&receipt(old)));
        assert!(source("2026-01-01T01:00:09+01:00").untouched_by(&receipt("2026-01-01T01:00:09+01:00")));
        for (before, now) in [(old, new), (new, new), ("v1", "v1"), ("", "")] {
            assert!(!source(now).untouched_by(&receipt(before)), "{before} {now}");
        }
        assert!(!DataSource::default().untouched_by(&Receipt { updated_before: None, ..receipt(old) }));
        assert!(!source(old).untouched_by(&Receipt { committed_after: None, ..receipt(old) }));
    }

    #[test]
    fn what_describes_a_data_source_is_kept_whole() {
        let source = DataSource {
            name: "Orders".into(),
            description: Some("all".into()),
            certified: Some(true),
            certification_note: Some("by Anna".into()),
            owner_id: Some("u7".into()),
            tags: vec!["gold".into()],
            ..DataSource::default()
        };
        assert_eq!(DataSource::of("Orders", source.described()), source);
    }
}
