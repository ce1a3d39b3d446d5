//! Who is signed in.
//!
//! Sign-in sessions live in memory: after a restart every token is unknown, and clients have to sign in again.

use std::collections::HashMap;
use std::sync::Mutex;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::refusal::{Refusal, xml_response};
use crate::store::held;
use crate::xml::{self, Element};

/// The header that carries the token of a session.
pub(crate) const TOKEN_HEADER: &str = "x-tableau-auth";

/// A personal access token that the sandbox accepts.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// Its secret.
    pub secret: String,
}

impl Token {
    /// Makes a token of a name and a secret.
    pub fn new(name: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { name: name.into(), secret: secret.into() }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("name", &self.name).finish_non_exhaustive()
    }
}

/// One signed-in client.
#[derive(Debug, Clone)]
struct Session {
    /// The personal access token it signed in with.
    token_name: String,
}

/// All sign-in sessions, by their token.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<String, Session>>,
}

impl Sessions {
    /// Checks the token of a request.
    pub(crate) fn check(&self, token: Option<&str>) -> Result<(), Refusal> {
        let Some(token) = token else {
            return Err(Refusal::new(401_000, "Unauthorized", "the request has no X-Tableau-Auth header"));
        };
        match held(&self.open).get(token) {
            Some(session) => {
                tracing::trace!(token = session.token_name, "signed in");
                Ok(())
            }
            None => Err(Refusal::new(401_002, "Unauthorized Access", "Invalid authentication credentials were provided")),
        }
    }

    fn open(&self, token_name: &str, site: &str) -> String {
        // Real tokens have the same shape: three pieces between bars, which is what breaks clients that put them in a URL.
        let token = format!("{}|{}|{site}", crate::index::new_id(), uuid::Uuid::new_v4().simple());
        held(&self.open).insert(token.clone(), Session { token_name: token_name.to_owned() });
        token
    }
}

/// `POST auth/signin`.
pub(crate) fn sign_in(app: &App, body: &[u8]) -> Result<Response, Refusal> {
    let request = xml::request(body).map_err(Refusal::bad_request)?;
    let credentials = request.find("credentials").ok_or_else(|| Refusal::bad_request("the element credentials is missing"))?;
    let wrong = || Refusal::new(401_001, "Signin Error", "Error signing in to Tableau Server");
    let (Some(name), Some(secret)) = (credentials.get("personalAccessTokenName"), credentials.get("personalAccessTokenSecret"))
    else {
        return Err(if credentials.get("name").is_some() || credentials.get("jwt").is_some() {
            wrong()
        } else {
            Refusal::new(401_000, "Unauthorized", "the credentials are missing")
        });
    };
    let content_url = credentials.find("site").and_then(|site| site.get("contentUrl")).unwrap_or_default();
    let (site, user) = app.store.read(|index| (index.site.clone(), index.user.clone()));
    let known = app.options.tokens.iter().any(|token| token.name == name && token.secret == secret);
    if !known || content_url != site.content_url {
        return Err(wrong());
    }
    let token = app.sessions.open(name, &site.id);
    let answer = Element::new("credentials")
        .attr("token", token)
        .child(Element::new("site").attr("id", site.id).attr("contentUrl", site.content_url))
        .child(Element::new("user").attr("id", user.id));
    Ok(xml_response(StatusCode::OK, &answer))
}

/// `POST auth/signout`.
pub(crate) fn sign_out(app: &App, token: Option<&str>) -> Response {
    if let Some(token) = token {
        held(&app.sessions.open).remove(token);
    }
    StatusCode::NO_CONTENT.into_response()
}
