//! What the sandbox remembers: the site, its projects and its data sources, as plain values.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The project that a publish without a project goes to; every site has one.
pub(crate) const DEFAULT_PROJECT: &str = "default";

/// Everything that outlives a restart, apart from the published files themselves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Index {
    /// The shape of this file; a later sandbox can tell an older one.
    pub(crate) version: u32,
    pub(crate) site: Site,
    /// Further sites, should there be any.
    #[serde(default)]
    pub(crate) more_sites: Vec<Site>,
    pub(crate) user: User,
    /// Further users.
    #[serde(default)]
    pub(crate) more_users: Vec<User>,
    /// The group that everybody is in, for permissions.
    #[serde(default = "new_id")]
    pub(crate) everybody: String,
    pub(crate) projects: Vec<Project>,
    pub(crate) datasources: Vec<Datasource>,
}

/// A site.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Site {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) content_url: String,
}

/// A user; the first owns what others do not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// A project; names are unique under one parent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Project {
    pub(crate) id: String,
    /// The site it belongs to; an index of an older sandbox has it empty until [`Index::settle`].
    #[serde(default)]
    pub(crate) site: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) content_permissions: String,
    pub(crate) parent: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// A published data source; names are unique within one project.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Datasource {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) content_url: String,
    pub(crate) project: String,
    pub(crate) description: String,
    pub(crate) certified: bool,
    pub(crate) certification_note: String,
    pub(crate) use_remote_query_agent: bool,
    /// The user who owns it; none for the first user.
    #[serde(default)]
    pub(crate) owner: Option<String>,
    #[serde(default)]
    pub(crate) tags: BTreeSet<String>,
    #[serde(default)]
    pub(crate) permissions: Vec<Rule>,
    #[serde(default)]
    pub(crate) warnings: Vec<Warning>,
    /// The id of its only connection.
    #[serde(default = "new_id")]
    pub(crate) connection: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    #[serde(default = "Utc::now")]
    pub(crate) published_at: DateTime<Utc>,
    /// How many publishes made it what it is; the number of the current revision.
    pub(crate) publishes: u64,
    /// How many data updates the current revision has had.
    #[serde(default)]
    pub(crate) changes: u64,
    pub(crate) file: StoredFile,
    /// What was published before, oldest first.
    #[serde(default)]
    pub(crate) older: Vec<Revision>,
}

impl Datasource {
    /// The paths of all its files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        let older = self.older.iter().filter_map(|r| r.file.as_ref());
        older.chain([&self.file]).map(|file| file.path.as_str())
    }
}

/// What a data source was before its last publish.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Revision {
    pub(crate) number: u64,
    pub(crate) published_at: DateTime<Utc>,
    /// Its file, until somebody deletes the revision.
    pub(crate) file: Option<StoredFile>,
}

/// What somebody may do or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rule {
    /// `user` or `group`.
    pub(crate) grantee: String,
    pub(crate) id: String,
    pub(crate) capability: String,
    /// `Allow` or `Deny`.
    pub(crate) mode: String,
}

/// A data quality warning.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Warning {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) active: bool,
    pub(crate) severe: bool,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// The published file as it lies in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredFile {
    /// Its path below the store's `files` directory.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) tables: Vec<Table>,
}

/// A table as hyperd found it in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) columns: Vec<Column>,
}

/// A column as hyperd found it in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) sql_type: String,
    pub(crate) nullable: bool,
}

/// A fresh id of the shape that servers use.
pub(crate) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The project that every site has.
fn default_of(site: &str) -> Project {
    let now = Utc::now();
    Project {
        id: new_id(),
        site: site.to_owned(),
        name: DEFAULT_PROJECT.to_owned(),
        description: "The default project that was automatically created by the sandbox.".to_owned(),
        content_permissions: "ManagedByOwner".to_owned(),
        parent: None,
        created_at: now,
        updated_at: now,
    }
}

impl Site {
    fn new(content_url: &str) -> Self {
        let name = if content_url.is_empty() { "Default" } else { content_url };
        Self { id: new_id(), name: name.to_owned(), content_url: content_url.to_owned() }
    }
}

impl Index {
    /// The index of a sandbox that has just been set up.
    pub(crate) fn new(content_url: &str) -> Self {
        let site = Site::new(content_url);
        Self {
            version: 1,
            projects: vec![default_of(&site.id)],
            site,
            more_sites: Vec::new(),
            user: User { id: new_id(), name: "sandbox".to_owned() },
            more_users: Vec::new(),
            everybody: new_id(),
            datasources: Vec::new(),
        }
    }

    /// Adds the sites and users that are configured; none is ever removed, because something may belong to it.
    pub(crate) fn settle(&mut self, sites: &[String], users: &[String]) {
        let main = self.site.id.clone();
        for project in self.projects.iter_mut().filter(|p| p.site.is_empty()) {
            project.site.clone_from(&main);
        }
        for url in sites {
            if !self.sites().any(|site| site.content_url == *url) {
                let site = Site::new(url);
                self.projects.push(default_of(&site.id));
                self.more_sites.push(site);
            }
        }
        for name in users {
            if !self.users().any(|user| user.name == *name) {
                self.more_users.push(User { id: new_id(), name: name.clone() });
            }
        }
    }

    /// Every site.
    pub(crate) fn sites(&self) -> impl Iterator<Item = &Site> {
        std::iter::once(&self.site).chain(&self.more_sites)
    }

    /// Every user.
    pub(crate) fn users(&self) -> impl Iterator<Item = &User> {
        std::iter::once(&self.user).chain(&self.more_users)
    }

    /// The site that a project belongs to.
    pub(crate) fn site_of(&self, project: &str) -> Option<&str> {
        self.project(project).map(|p| p.site.as_str())
    }

    /// The project of an id.
    pub(crate) fn project(&self, id: &str) -> Option<&Project> {
        self.projects.iter().find(|p| p.id == id)
    }

    /// The project of a site that a publish without a project goes to.
    pub(crate) fn default_project(&self, site: &str) -> Option<&Project> {
        self.projects.iter().find(|p| p.site == site && p.parent.is_none() && p.name == DEFAULT_PROJECT)
    }

    /// The names from the top-level project down to this one.
    pub(crate) fn project_path(&self, id: &str) -> Vec<&str> {
        let mut path = Vec::new();
        let mut next = self.project(id);
        while let Some(project) = next {
            path.insert(0, project.name.as_str());
            next = project.parent.as_deref().and_then(|parent| self.project(parent));
        }
        path
    }

    /// The ids of a project and of everything below it.
    pub(crate) fn project_and_below(&self, id: &str) -> Vec<String> {
        let mut ids = vec![id.to_owned()];
        let mut at = 0;
        while at < ids.len() {
            let below: Vec<String> =
                self.projects.iter().filter(|p| p.parent.as_deref() == Some(ids[at].as_str())).map(|p| p.id.clone()).collect();
            ids.extend(below);
            at += 1;
        }
        ids
    }

    /// The data source of an id, to be changed.
    pub(crate) fn datasource_mut(&mut self, id: &str) -> Option<&mut Datasource> {
        self.datasources.iter_mut().find(|d| d.id == id)
    }

    /// The data source of an id.
    pub(crate) fn datasource(&self, id: &str) -> Option<&Datasource> {
        self.datasources.iter().find(|d| d.id == id)
    }

    /// The data source of a name in a project.
    pub(crate) fn datasource_named(&self, project: &str, name: &str) -> Option<&Datasource> {
        self.datasources.iter().find(|d| d.project == project && d.name == name)
    }

    /// A content URL for a new data source: its name without anything that needs encoding, numbered when taken.
    pub(crate) fn free_content_url(&self, name: &str) -> String {
        let stem: String = name.chars().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-')).collect();
        let stem = if stem.is_empty() { "datasource".to_owned() } else { stem };
        let mut candidate = stem.clone();
        let mut number = 0_u32;
        while self.datasources.iter().any(|d| d.content_url == candidate) {
            number += 1;
            candidate = format!("{stem}_{number}");
        }
        candidate
    }
}
