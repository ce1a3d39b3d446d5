//! Signing in and out: the three kinds of credentials, the one session all targets of a process share, and its end.
//!
//! Each sign-in with a personal access token ends the token's former session, wherever that is in use. So the session is
//! shared within a process, and a lock between processes is held as long as it lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex as Sync, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use reqwest::Method;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::config::Secret;
use crate::error::{Error, Kind, Result};

use super::fault::{Called, Failed};
use super::http::{Body, Request};
use super::jwt;
use super::retry::{Repeat, Repeats, backoff};
use super::session::{Server, ServerInfo, SignedIn, Version};
use super::xml;
use super::{Auth, TableauEnv};
use crate::export::lock::{Lock, Taken, Wanted};

/// An idle session lives 120 minutes on Tableau Cloud and 240 on Server; one that ends sooner was ended by someone.
const IDLE_LIFE: Duration = Duration::from_secs(110 * 60);
/// A token's session that ends younger than this was ended by another sign-in, and not by an administrator.
const YOUNG: Duration = Duration::from_secs(300);
/// Signing out is a courtesy, and must not hold up the end of a run.
const SIGN_OUT: Duration = Duration::from_secs(10);
/// How often a connected app's sign-in is tried when answers are lost.
const MINTED: u32 = 4;
/// Connected apps sign in from here on.
const APPS: Version = Version(3, 17);
/// From here on a connected app may ask for jobs.
const APP_JOBS: Version = Version(3, 25);

/// What is known of a server, reached in one way, and the session on it.
#[derive(Debug)]
pub(super) struct State {
    /// By the version that was asked for and the way there: a version set by hand, or a redirect, is not for others.
    pub(super) info: Option<Arc<ServerInfo>>,
    shared: Arc<Shared>,
}

/// The session that targets with the same server, site and credentials share, however each of them reaches the server.
#[derive(Debug, Default)]
struct Shared {
    session: Mutex<Held>,
    /// The targets that use the session; the last one to close signs out.
    users: Sync<BTreeSet<uuid::Uuid>>,
}

#[derive(Debug, Default)]
struct Held {
    session: Option<Arc<SignedIn>>,
    signed_in_again: bool,
}

impl Shared {
    /// The targets that use it; a panic elsewhere leaves a set as whole as it was.
    fn users(&self) -> MutexGuard<'_, BTreeSet<uuid::Uuid>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes that a target no longer uses the session.
    pub(super) fn leave(&mut self, id: uuid::Uuid) {
        self.shared.users().remove(&id);
    }
}

/// What is shared, by what it is shared by, as long as anyone has it.
type Known<T> = Sync<BTreeMap<String, Weak<T>>>;

/// What is known under a key, made when nobody has it.
fn known<T>(all: &Known<T>, key: String, make: impl FnOnce() -> T) -> Arc<T> {
    // A panic elsewhere leaves the map as whole as it was.
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, one| one.strong_count() > 0);
    if let Some(one) = all.get(&key).and_then(Weak::upgrade) {
        return one;
    }
    let one = Arc::new(make());
    all.insert(key, Arc::downgrade(&one));
    one
}

/// The state that targets share: what they know of the server where they reach it in the same way, and the session where
/// server, site and credentials are the same.
pub(super) fn shared(env: &TableauEnv) -> Arc<Mutex<State>> {
    static STATES: Known<Mutex<State>> = Sync::new(BTreeMap::new());
    static SESSIONS: Known<Shared> = Sync::new(BTreeMap::new());
    let secret = Sha256::digest(env.auth.secret().reveal());
    // What a connected app may do, and as which app, goes with the session.
    let app = match &env.auth {
        Auth::ConnectedApp { client_id, secret_id, scopes, .. } => Some((client_id, secret_id, scopes)),
        Auth::Token { .. } | Auth::Password { .. } => None,
    };
    let account = format!("{:?} {secret:x}", (&env.url, &env.site, env.auth.kind(), env.auth.who(), app));
    let way = format!("{account} {:?}", (&env.api_version, &env.network));
    let shared = known(&SESSIONS, account, Shared::default);
    known(&STATES, way, || Mutex::new(State { info: None, shared }))
}

impl Server {
    /// The session; signs in when there is none.
    pub(super) async fn session(&self, repeats: &mut Repeats) -> Result<Arc<SignedIn>> {
        let mut state = self.state.lock().await;
        // Noted first, so that nobody who closes meanwhile ends a session that is wanted here.
        state.shared.users().insert(self.id);
        let info = self.known_info(&mut state, repeats).await?;
        let shared = state.shared.clone();
        let mut held = shared.session.lock().await;
        if let Some(session) = &held.session {
            return Ok(session.clone());
        }
        let lock = self.token_lock(repeats).await?;
        let session = Arc::new(self.sign_in(&info, lock, repeats).await?);
        held.session = Some(session.clone());
        Ok(session)
    }

    /// Holds off other processes that would sign in with the same token.
    async fn token_lock(&self, repeats: &mut Repeats) -> Result<Option<Arc<Lock>>> {
        let Auth::Token { name, .. } = &self.env.auth else { return Ok(None) };
        let (address, place) = (self.address(), self.place());
        let wanted = Wanted {
            directory: self.env.lock_directory.as_deref(),
            key: &["token", &address, name],
            what: format!("token `{name}` of {place}"),
            wait: self.env.lock_wait,
        };
        let ours = || {
            // Waiting would not help: the session that holds it is one of this run, which needs it to the end.
            let message = format!("the token `{name}` is signed in to another site, or with another secret, in this same run");
            let help =
                "each sign-in with a token ends its former session: give each site its own token, or run one after the other";
            Some(Error::new(Kind::ConfigInvalid, message).help(help))
        };
        let site = if self.env.site.is_empty() { "the default site" } else { &self.env.site };
        match Lock::take(&wanted, ours).await.map_err(|e| e.during("sign in").at("site", site))? {
            Taken::Ours(lock) => Ok(Some(Arc::new(lock))),
            Taken::NotHere(why) => {
                repeats.note(format!("sign in: other processes cannot be held off the token: {why}"));
                Ok(None)
            }
        }
    }

    /// Holds off other processes, and other tasks of this one, that would publish to the same data source.
    pub(super) async fn publish_lock(&self, project: Option<&str>, name: &str, repeats: &mut Repeats) -> Result<Option<Lock>> {
        let (address, place) = (self.address(), self.place());
        let wanted = Wanted {
            directory: self.env.lock_directory.as_deref(),
            key: &["data source", &address, &self.env.site, project.unwrap_or_default(), name],
            what: format!("data source `{name}` of {place}"),
            wait: self.env.lock_wait,
        };
        match Lock::take(&wanted, || None).await.map_err(|e| e.during("publish").at("data source", name))? {
            Taken::Ours(lock) => Ok(Some(lock)),
            Taken::NotHere(why) => {
                repeats.note(format!("publish: other processes cannot be held off the data source: {why}"));
                Ok(None)
            }
        }
    }

    async fn sign_in(&self, info: &ServerInfo, lock: Option<Arc<Lock>>, repeats: &mut Repeats) -> Result<SignedIn> {
        const WHAT: &str = "sign in";
        if matches!(self.env.auth, Auth::ConnectedApp { .. }) && info.version < APPS {
            let message = format!("connected apps sign in from API version {APPS} on; this is {}", info.version);
            return Err(Error::new(Kind::Unsupported, message).help("use a personal access token").during(WHAT));
        }
        let url = self.url(&info.base, &format!("api/{}/auth/signin", info.version))?;
        let mut minted = 0;
        let answer = loop {
            let Credentials { xml, word } = self.credentials()?;
            minted += 1;
            let ahead = self.http.ahead();
            if word.is_some() && ahead != 0 && minted == 1 {
                let how = if ahead > 0 { "behind" } else { "ahead of" };
                repeats
                    .note(format!("sign in: this machine's clock is {} s {how} the server's, whose time is used", ahead.abs()));
            }
            let body = Body::Credentials(Secret::new(xml));
            let mut request = Request::new(Method::POST, url.clone(), None, &body, WHAT);
            // A minted word is good for one use: when its fate is unknown, the next try takes a new one.
            let again = if word.is_some() { Repeat::OnlyIfNotTaken } else { Repeat::Harmless };
            request.hidden = word;
            match self.repeat(again, &request, repeats).await {
                Ok(answer) => break answer,
                Err(failed) if request.hidden.is_some() && failed.ambiguous() && minted < MINTED => {
                    repeats.note(format!("sign in: {}, repeated with a new word", failed.reason()));
                    tokio::time::sleep(backoff(&self.pace, minted)).await;
                }
                Err(failed) => return Err(self.about_sign_in(*failed)),
            }
        };
        let root = &answer.root;
        let of = |name: &str, attribute: &str| root.find(name).and_then(|e| e.told(attribute));
        let (Some(token), Some(site)) = (of("credentials", "token"), of("site", "id")) else {
            return Err(Error::new(Kind::ServerFailed, "the server's answer to the sign-in has no token")
                .during(WHAT)
                .at("server", self.place()));
        };
        tracing::info!("signed in to {} as {}", self.place(), self.env.auth.who());
        Ok(SignedIn {
            token: Secret::new(token),
            since: Instant::now(),
            site,
            site_url: of("site", "contentUrl").unwrap_or_default(),
            user: of("user", "id").unwrap_or_default(),
            lock,
        })
    }

    /// The body of a sign-in, minted anew where it is good for one use.
    fn credentials(&self) -> Result<Credentials> {
        let site = &self.env.site;
        Ok(match &self.env.auth {
            Auth::Token { name, secret } => Credentials { xml: xml::sign_in_token(name, secret, site)?, word: None },
            Auth::Password { user, password } => Credentials { xml: xml::sign_in_password(user, password, site)?, word: None },
            Auth::ConnectedApp { client_id, secret_id, secret, user, scopes } => {
                let claims = jwt::Claims { client_id, secret_id, user, scopes };
                let id = uuid::Uuid::new_v4().to_string();
                // By the server's clock, which decides whether the word is good.
                let now = chrono::Utc::now().timestamp().saturating_add(self.http.ahead());
                let word = jwt::mint(claims, secret, now, &id)?;
                Credentials { xml: xml::sign_in_word(&word, site)?, word: Some(word) }
            }
        })
    }

    fn about_sign_in(&self, failed: Failed) -> Error {
        let site = if self.env.site.is_empty() { "the default site" } else { &self.env.site };
        // To a sign-in both mean the same: there is no session yet that could have ended.
        let refused = matches!(failed.code(), 401_001 | 401_002);
        let error = failed.error.at(self.env.auth.kind(), self.env.auth.who()).at("site", site);
        match &self.env.auth {
            Auth::Token { .. } if refused => error.help(
                "check the token's name and secret, that it is not expired or revoked, and `site`, the name in …/#/site/NAME/",
            ),
            Auth::Password { .. } if refused => error.help(
                "check user, password and `site`; Tableau Cloud takes no passwords where a second factor is on: use a personal \
                 access token or a connected app",
            ),
            Auth::ConnectedApp { .. } if refused => error.help(
                "check `client_id`, `secret_id`, the secret and `user`, that the connected app is enabled and may reach the \
                 project, `site`, and this machine's clock",
            ),
            _ => error,
        }
    }

    /// Replaces a session that ended; once, unless the ended one had lived as long as idle sessions do.
    pub(super) async fn sign_in_again(
        &self,
        ended: &Arc<SignedIn>,
        failed: Failed,
        repeats: &mut Repeats,
    ) -> Called<Arc<SignedIn>> {
        let mut state = self.state.lock().await;
        let shared = state.shared.clone();
        let mut held = shared.session.lock().await;
        if let Some(session) = &held.session
            && !Arc::ptr_eq(session, ended)
        {
            // Another task was quicker.
            return Ok(session.clone());
        }
        let age = ended.since.elapsed();
        if held.signed_in_again && age < IDLE_LIFE {
            let help = self.ended_early(age);
            return Err(Box::new(Failed { error: failed.error.help(help), ..failed }));
        }
        held.signed_in_again = age < IDLE_LIFE;
        held.session = None;
        let by_whom = match &self.env.auth {
            Auth::Token { name, .. } if age < YOUNG => format!("; another process signed in with the token `{name}`"),
            _ => String::new(),
        };
        let seconds = age.as_secs();
        repeats.note(format!("session ended after {seconds} s ({}{by_whom}), signed in again", failed.reason()));
        let info = self.known_info(&mut state, repeats).await.map_err(Failed::local)?;
        let session = self.sign_in(&info, ended.lock.clone(), repeats).await.map_err(Failed::local)?;
        let session = Arc::new(session);
        held.session = Some(session.clone());
        Ok(session)
    }

    /// What to do about a session that ended early for the second time.
    fn ended_early(&self, age: Duration) -> String {
        let seconds = age.as_secs();
        match &self.env.auth {
            Auth::Token { name, .. } if age < YOUNG => format!(
                "the session ended after {seconds} s, for the second time: another process signed in with this token, `{name}`, on \
                 another machine or without Lakeport, and each sign-in ends the former session; give each process its own token"
            ),
            Auth::Token { name, .. } => format!(
                "the session ended after {seconds} s, for the second time; most likely another process signs in with the token \
                 `{name}`, or an administrator ends sessions: give each process its own token"
            ),
            Auth::Password { .. } => format!("the session ended after {seconds} s, for the second time; ask who ends sessions"),
            Auth::ConnectedApp { .. } => "the server answers so too when the connected app lacks a scope for a call: leave \
                                          `scopes` out, or add the missing one"
                .to_owned(),
        }
    }

    /// Whether jobs may be asked for: a connected app may from API 3.25 on.
    pub(super) fn sees_jobs(&self, info: &ServerInfo) -> bool {
        !matches!(self.env.auth, Auth::ConnectedApp { .. }) || info.version >= APP_JOBS
    }

    /// Whether a refusal may mean a missing scope, and not a session that ended.
    pub(super) fn has_scopes(&self) -> bool {
        matches!(self.env.auth, Auth::ConnectedApp { .. })
    }

    /// Ends the session when no other target uses it; a failure is nobody's business, for another sign-in may have ended it.
    pub(super) async fn sign_out(&self) {
        let mut state = self.state.lock().await;
        state.leave(self.id);
        let shared = state.shared.clone();
        let mut held = shared.session.lock().await;
        // Looked at under the lock: who came meanwhile has noted itself, and takes the session over.
        if !shared.users().is_empty() {
            return;
        }
        let (Some(session), Some(info)) = (held.session.take(), state.info.clone()) else { return };
        // The next session is another one, with its own chance to be renewed.
        held.signed_in_again = false;
        let Ok(url) = self.url(&info.base, &format!("api/{}/auth/signout", info.version)) else { return };
        let request = Request::new(Method::POST, url, Some(&session.token), &Body::Empty, "sign out");
        match tokio::time::timeout(SIGN_OUT, self.http.send(request)).await {
            Ok(Ok(_)) => tracing::debug!("signed out"),
            Ok(Err(failed)) => tracing::debug!("not signed out: {}", failed.reason()),
            Err(_) => tracing::debug!("not signed out: no answer in time"),
        }
    }
}

/// What is sent to sign in.
struct Credentials {
    xml: String,
    /// The minted word, which no error may show.
    word: Option<Secret>,
}
