//! What the sandbox remembers: the site, its projects and its data sources, as plain values.

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
    pub(crate) user: User,
    pub(crate) projects: Vec<Project>,
    pub(crate) datasources: Vec<Datasource>,
}

/// The only site.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Site {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) content_url: String,
}

/// The only user, who owns everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// A project; names are unique under one parent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Project {
    pub(crate) id: String,
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
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    /// How many publishes made it what it is, this one's number being that of the file.
    pub(crate) publishes: u64,
    pub(crate) file: StoredFile,
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
#[derive(Debug, Clone, Serialize, Deserialize)]
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

impl Index {
    /// The index of a sandbox that has just been set up.
    pub(crate) fn new(content_url: &str) -> Self {
        let now = Utc::now();
        let default = Project {
            id: new_id(),
            name: DEFAULT_PROJECT.to_owned(),
            description: "The default project that was automatically created by the sandbox.".to_owned(),
            content_permissions: "ManagedByOwner".to_owned(),
            parent: None,
            created_at: now,
            updated_at: now,
        };
        let name = if content_url.is_empty() { "Default" } else { content_url };
        Self {
            version: 1,
            site: Site { id: new_id(), name: name.to_owned(), content_url: content_url.to_owned() },
            user: User { id: new_id(), name: "sandbox".to_owned() },
            projects: vec![default],
            datasources: Vec::new(),
        }
    }

    /// The project of an id.
    pub(crate) fn project(&self, id: &str) -> Option<&Project> {
        self.projects.iter().find(|p| p.id == id)
    }

    /// The project that a publish without a project goes to.
    pub(crate) fn default_project(&self) -> Option<&Project> {
        self.projects.iter().find(|p| p.parent.is_none() && p.name == DEFAULT_PROJECT)
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
