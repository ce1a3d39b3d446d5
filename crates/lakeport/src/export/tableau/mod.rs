//! Tableau Server and Tableau Cloud.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Secret;

/// A Tableau environment with its secrets resolved.
#[derive(Debug, Clone)]
pub struct TableauEnv {
    /// The environment's name, for messages.
    pub name: String,
    /// `https://tableau.acme.com`, without a path.
    pub url: String,
    /// The site's content URL; empty for the default site.
    pub site: String,
    /// The project to publish to, `Finance/Daily`, with `\/` for a slash inside a name; `None` is the default project.
    pub project: Option<String>,
    /// Whether missing projects are created.
    pub create_project: bool,
    /// How to sign in.
    pub auth: Auth,
    /// A REST API version to use instead of the negotiated one.
    pub api_version: Option<String>,
    /// Bytes of one upload block; `None` chooses.
    pub chunk_size: Option<u64>,
    /// Files up to this size go in one request (the server's limit is 64 MB).
    pub single_request_limit: u64,
    /// A PEM file with further certificate authorities.
    pub ca_bundle: Option<PathBuf>,
    /// How long one call may take in all.
    pub timeout: Option<Duration>,
    /// How long a server-side job is awaited.
    pub job_deadline: Option<Duration>,
}

/// Credentials.
#[derive(Debug, Clone)]
pub enum Auth {
    /// A personal access token.
    Token {
        /// Its name.
        name: String,
        /// Its secret.
        secret: Secret,
    },
}
