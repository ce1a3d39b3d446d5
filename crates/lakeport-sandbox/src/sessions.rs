//! Who is signed in.
//!
//! Sign-in sessions live in memory: after a restart every token is unknown, and clients have to sign in again.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::index::{Index, Site, User};
use crate::jwt::Seen;
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

/// A user who may sign in with a password, and for whom a connected app may sign in.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub name: String,
    /// The user's password.
    pub password: String,
}

impl Login {
    /// Makes a login of a name and a password.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { name: name.into(), password: password.into() }
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("name", &self.name).finish_non_exhaustive()
    }
}

/// One signed-in client.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The personal access token it signed in with, if that was how.
    token_name: Option<String>,
    /// The id of the user.
    pub(crate) user: String,
    /// The id of the site.
    pub(crate) site: String,
    /// What a JWT allows; none when everything is.
    pub(crate) scopes: Option<Vec<String>>,
    opened: Instant,
}

#[cfg(test)]
impl Session {
    /// A session that has these scopes, or may do everything.
    pub(crate) fn with(scopes: Option<Vec<String>>) -> Self {
        let (user, site) = ("user".to_owned(), "site".to_owned());
        Self { token_name: None, user, site, scopes, opened: Instant::now() }
    }
}

/// All sign-in sessions, by their token.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<String, Session>>,
    /// The JWTs that were used.
    pub(crate) seen: Seen,
}

impl Sessions {
    /// Checks the token of a request.
    pub(crate) fn check(&self, token: Option<&str>, life: Duration) -> Result<Session, Refusal> {
        let Some(token) = token else {
            return Err(Refusal::new(401_000, "Unauthorized", "the request has no X-Tableau-Auth header"));
        };
        let mut open = held(&self.open);
        match open.get(token) {
            Some(session) if session.opened.elapsed() < life => {
                tracing::trace!(token = session.token_name, user = session.user, "signed in");
                Ok(session.clone())
            }
            Some(_) => {
                open.remove(token);
                Err(Refusal::expired())
            }
            None => Err(Refusal::expired()),
        }
    }

    fn open(&self, session: Session) -> String {
        // Real tokens have the same shape: three pieces between bars, which is what breaks clients that put them in a URL.
        let token = format!("{}|{}|{}", crate::index::new_id(), uuid::Uuid::new_v4().simple(), session.site);
        let mut open = held(&self.open);
        // A personal access token carries one session at a time, on whichever site: its next sign-in ends the one before.
        if let Some(name) = &session.token_name {
            open.retain(|_, other| other.token_name.as_ref() != Some(name));
        }
        open.insert(token.clone(), session);
        token
    }

    /// Ends a session.
    pub(crate) fn end(&self, token: &str) -> Option<Session> {
        held(&self.open).remove(token)
    }

    /// Ends every session, or those of one personal access token, and tells how many.
    pub(crate) fn expire(&self, token_name: Option<&str>) -> usize {
        let mut open = held(&self.open);
        let before = open.len();
        open.retain(|_, session| token_name.is_some_and(|name| session.token_name.as_deref() != Some(name)));
        before - open.len()
    }
}

/// 401001, which never says what was wrong to whom it is not signed in.
fn wrong(why: &str) -> Refusal {
    tracing::debug!(why, "sign-in refused");
    Refusal::new(401_001, "Signin Error", "Error signing in to Tableau Server")
}

/// `POST auth/signin`.
pub(crate) fn sign_in(app: &App, body: &[u8]) -> Result<Response, Refusal> {
    let request = xml::request(body).map_err(Refusal::bad_request)?;
    let credentials = request.find("credentials").ok_or_else(|| Refusal::bad_request("the element credentials is missing"))?;
    let content_url = credentials.find("site").and_then(|site| site.get("contentUrl")).unwrap_or_default();
    let pair = |name: &str, secret: &str| credentials.get(name).zip(credentials.get(secret));
    let (token_name, user, scopes) = if let Some((name, secret)) = pair("personalAccessTokenName", "personalAccessTokenSecret") {
        if !app.options.tokens.iter().any(|token| token.name == name && token.secret == secret) {
            return Err(wrong("unknown personal access token"));
        }
        (Some(name.to_owned()), app.store.read(|index| index.user.clone()), None)
    } else if let Some((name, password)) = pair("name", "password") {
        if !app.options.users.iter().any(|user| user.name == name && user.password == password) {
            return Err(wrong("unknown user or password"));
        }
        (None, user_named(app, name)?, None)
    } else if let Some(jwt) = credentials.get("jwt") {
        let grant = app.sessions.seen.accept(jwt, &app.options.connected_apps).map_err(|why| wrong(&why))?;
        (None, user_named(app, &grant.user)?, Some(grant.scopes))
    } else {
        return Err(Refusal::new(401_000, "Unauthorized", "the credentials are missing"));
    };
    let site = app.store.read(|index| site_of(index, content_url)).ok_or_else(|| wrong("unknown site"))?;
    let session = Session { token_name, user: user.id, site: site.id.clone(), scopes, opened: Instant::now() };
    Ok(signed_in(app, session, site))
}

/// `POST auth/switchSite`: a new session on another site; the token of the old one is worth nothing any more.
pub(crate) fn switch_site(app: &App, token: Option<&str>, body: &[u8]) -> Result<Response, Refusal> {
    let request = xml::request(body).map_err(Refusal::bad_request)?;
    let wanted = request.find("site").ok_or_else(|| Refusal::bad_request("the element site is missing"))?;
    let content_url = wanted.get("contentUrl").unwrap_or_default();
    let site = app.store.read(|index| site_of(index, content_url));
    let site =
        site.ok_or_else(|| Refusal::new(404_000, "Resource Not Found", format!("site '{content_url}' could not be found")))?;
    let session = app.sessions.check(token, app.options.session_time)?;
    if session.site == site.id {
        return Err(Refusal::new(403_070, "Forbidden", "this session is on that site already"));
    }
    let old = token.and_then(|token| app.sessions.end(token)).ok_or_else(Refusal::expired)?;
    Ok(signed_in(app, Session { site: site.id.clone(), ..old }, site))
}

/// `POST auth/signout`.
pub(crate) fn sign_out(app: &App, token: Option<&str>) -> Response {
    if let Some(token) = token {
        app.sessions.end(token);
    }
    StatusCode::NO_CONTENT.into_response()
}

fn signed_in(app: &App, session: Session, site: Site) -> Response {
    let user = session.user.clone();
    let answer = Element::new("credentials")
        .attr("token", app.sessions.open(session))
        .child(Element::new("site").attr("id", site.id).attr("contentUrl", site.content_url))
        .child(Element::new("user").attr("id", user));
    xml_response(StatusCode::OK, &answer)
}

fn site_of(index: &Index, content_url: &str) -> Option<Site> {
    index.sites().find(|site| site.content_url == content_url).cloned()
}

fn user_named(app: &App, name: &str) -> Result<User, Refusal> {
    app.store.read(|index| index.users().find(|user| user.name == name).cloned()).ok_or_else(|| wrong("unknown user"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(token_name: Option<&str>) -> Session {
        Session { token_name: token_name.map(str::to_owned), ..Session::with(None) }
    }

    #[test]
    fn sessions_end_by_time_by_command_and_by_the_next_sign_in() {
        let sessions = Sessions::default();
        let long = Duration::from_secs(60);
        let code = |token: &str, life: Duration| sessions.check(Some(token), life).map(|_| ()).map_err(|r| r.code());
        let (first, user) = (sessions.open(session(Some("a"))), sessions.open(session(None)));
        let other = sessions.open(session(Some("b")));
        assert_eq!(code(&first, long), Ok(()));
        let second = sessions.open(session(Some("a")));
        assert_eq!([&first, &second, &other, &user].map(|t| code(t, long)), [Err(401_002), Ok(()), Ok(()), Ok(())]);
        assert_eq!((sessions.expire(Some("b")), code(&other, long)), (1, Err(401_002)));
        assert_eq!(code(&second, Duration::ZERO), Err(401_002));
        assert_eq!((sessions.expire(None), code(&user, long)), (1, Err(401_002)));
    }
}
