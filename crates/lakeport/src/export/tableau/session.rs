//! A server one is signed in to: its version, and calls with their repeats.
//!
//! Signing in waits for the first call that needs it, so that a run which converts for an hour does not start with a
//! session that is an hour old. One session serves everything that shares the object. When it ends early (401002) one
//! signs in again, once: doing it over and over would fight with another process that holds the same token.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use tokio::sync::Mutex;
use url::Url;

use crate::config::Secret;
use crate::error::{Error, Kind, Result};
use crate::limits::Limits;

use super::TableauEnv;
use super::fault::{Called, Failed, How};
use super::http::{Answer, Body, Http, Request, Watch, place_of};
use super::retry::{Pace, Repeat, Repeats};
use super::signin::{self, State};
use crate::export::lock::Lock;

/// The newest version of the REST API whose schema was read.
const NEWEST: Version = Version(3, 29);
/// Personal access tokens exist from here on.
const OLDEST: Version = Version(3, 6);
/// A version every server since 2016 answers to, to ask for the real one.
const ASK: Version = Version(2, 4);
/// Connections tried to a server that was not reached yet.
const FIRST_CONTACT: u32 = 3;

/// Everything but letters, digits and `-._~`; a space becomes `%20`, because `+` broke filters on some versions.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes a value for a query or a path.
pub(super) fn encode(value: &str) -> String {
    utf8_percent_encode(value, VALUE).to_string()
}

/// Encodes an id for a query or a path, colons left as they are: ids of uploads have them, and no client encodes them.
pub(super) fn encode_id(id: &str) -> String {
    const ID: &AsciiSet = &VALUE.remove(b':');
    utf8_percent_encode(id, ID).to_string()
}

/// A version of the REST API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32);

impl Version {
    /// Reads `3.29`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What a server says of itself.
#[derive(Debug, Clone)]
pub(super) struct ServerInfo {
    /// `2026.2.0`, or empty when the version was set by hand and the server does not tell.
    pub(super) product: String,
    /// The version to speak.
    pub(super) version: Version,
    /// What the server offers, if told.
    pub(super) offered: Option<Version>,
    pub(super) base: Url,
}

/// A session.
#[derive(Debug)]
pub(super) struct SignedIn {
    pub(super) token: Secret,
    pub(super) since: Instant,
    /// The site's id.
    pub(super) site: String,
    /// The site's content URL, as the server writes it.
    pub(super) site_url: String,
    /// The user's id.
    pub(super) user: String,
    /// Keeps other processes from signing in with the same token.
    pub(super) lock: Option<Arc<Lock>>,
}

/// One call below the site.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// What follows `/sites/ID`, encoded.
    pub(super) path: String,
    pub(super) body: Body,
    /// The call in words, as a verb and its object.
    pub(super) what: &'static str,
    /// Whether the server works for long before it answers.
    pub(super) patient: bool,
    /// What lets the server know a repeat when it sees one.
    pub(super) request_id: Option<String>,
    /// The file that the body of a success goes to.
    pub(super) into: Option<PathBuf>,
}

impl Call {
    pub(super) fn get(what: &'static str, path: String) -> Self {
        Self { method: Method::GET, path, body: Body::Empty, what, patient: false, request_id: None, into: None }
    }

    pub(super) fn post(what: &'static str, path: String, body: Body) -> Self {
        Self { method: Method::POST, path, body, what, patient: false, request_id: None, into: None }
    }
}

/// A server, and the session on it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) env: TableauEnv,
    pub(super) pace: Pace,
    pub(super) http: Http,
    /// Tells it from others that share the session.
    pub(super) id: uuid::Uuid,
    base: Url,
    pub(super) state: Arc<Mutex<State>>,
}

impl Server {
    pub(super) fn new(mut env: TableauEnv, limits: &Limits) -> Result<Self> {
        let base = read_address(&mut env)?;
        let proxy = env.network.proxy.as_ref().and_then(|p| p.credentials.as_ref()).map(|(_, password)| password.clone());
        let hidden = std::iter::once(env.auth.secret().clone()).chain(proxy).collect();
        let http = Http::new(&env.network, limits, hidden)?;
        if let Some(text) = &env.api_version
            && Version::parse(text).is_none()
        {
            return Err(Error::new(Kind::ConfigInvalid, format!("api_version `{text}` is no version such as 3.21")));
        }
        let state = signin::shared(&env);
        let pace = Pace::within(env.retry_budget);
        Ok(Self { id: uuid::Uuid::new_v4(), env, pace, http, base, state })
    }

    /// The host, for messages.
    pub(super) fn place(&self) -> String {
        place_of(&self.base)
    }

    /// The address without a path.
    pub(super) fn address(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    /// What the server is; asked once.
    pub(super) async fn info(&self, repeats: &mut Repeats) -> Result<Arc<ServerInfo>> {
        let mut state = self.state.lock().await;
        self.known_info(&mut state, repeats).await
    }

    pub(super) async fn known_info(&self, state: &mut State, repeats: &mut Repeats) -> Result<Arc<ServerInfo>> {
        if let Some(info) = &state.info {
            return Ok(info.clone());
        }
        let info = Arc::new(self.ask_info(repeats).await?);
        state.info = Some(info.clone());
        Ok(info)
    }

    async fn ask_info(&self, repeats: &mut Repeats) -> Result<ServerInfo> {
        const WHAT: &str = "ask for the server's version";
        let by_hand = self.env.api_version.as_deref().and_then(Version::parse);
        let url = self.url(&self.base, &format!("api/{}/serverInfo", by_hand.unwrap_or(ASK)))?;
        let request = Request::new(Method::GET, url, None, &Body::Empty, WHAT);
        let asked = self.repeat(Repeat::Harmless, &request, repeats).await;
        let answer = match (asked, by_hand) {
            (Ok(answer), _) => answer,
            // Told by hand, and the server answers in its own words that it does not tell: that is enough.
            (Err(failed), Some(version)) if failed.code() != 0 => {
                return Ok(ServerInfo { product: String::new(), version, offered: None, base: self.base.clone() });
            }
            (Err(failed), _) => return Err(failed.error),
        };
        let text = |name| answer.root.find(name).map(|e| e.text().to_owned()).unwrap_or_default();
        let told = text("restApiVersion");
        let offered = Version::parse(&told);
        let version = match (by_hand, offered) {
            (Some(version), _) => version,
            (None, Some(offered)) => offered.min(NEWEST),
            (None, None) => {
                let said = if told.is_empty() { "nothing".to_owned() } else { format!("`{told}`") };
                return Err(Error::new(Kind::ServerFailed, format!("the server tells {said} where its API version is expected"))
                    .help("a wrong host or a sign-on page in front of the server does this; check `url`, or set `api_version`")
                    .during(WHAT)
                    .at("server", self.place()));
            }
        };
        if version < OLDEST {
            return Err(Error::new(Kind::Unsupported, format!("the server speaks API version {version}; {OLDEST} is needed"))
                .help("personal access tokens came with Tableau 2019.4")
                .during(WHAT)
                .at("server", self.place()));
        }
        // A redirect that kept the host (http to https, say) is taken for all later calls, so that no body is sent twice.
        let mut base = self.base.clone();
        if answer.url.host_str() == base.host_str() {
            base = answer.url.join("/").unwrap_or(base);
        }
        Ok(ServerInfo { product: text("productVersion"), version, offered, base })
    }

    /// Sends a call, signed in; repeats it as `repeat` allows.
    pub(super) async fn call(&self, call: &Call, repeat: Repeat, repeats: &mut Repeats) -> Called<Answer> {
        self.call_watched(call, repeat, None, repeats).await
    }

    /// Like `call`, and tells the bytes of the file as they go.
    pub(super) async fn call_watched(
        &self,
        call: &Call,
        repeat: Repeat,
        watch: Option<Watch<'_>>,
        repeats: &mut Repeats,
    ) -> Called<Answer> {
        let mut session = self.session(repeats).await.map_err(Failed::local)?;
        let info = self.info(repeats).await.map_err(Failed::local)?;
        loop {
            let path = format!("api/{}/sites/{}{}", info.version, session.site, call.path);
            let url = self.url(&info.base, &path).map_err(Failed::local)?;
            let mut request = Request::new(call.method.clone(), url, Some(&session.token), &call.body, call.what);
            request.silence = call.patient.then(|| self.http.call_timeout());
            request.watch = watch;
            request.request_id = call.request_id.as_deref();
            request.into = call.into.as_deref();
            match self.repeat(repeat, &request, repeats).await {
                // The server did not look at the call, so that even an append may follow under a new session.
                Err(failed) if failed.code() == 401_002 => session = self.sign_in_again(&session, *failed, repeats).await?,
                outcome => return outcome,
            }
        }
    }

    /// Tries until it succeeds, must not be repeated, or has been often enough.
    pub(super) async fn repeat(&self, repeat: Repeat, request: &Request<'_>, repeats: &mut Repeats) -> Called<Answer> {
        let begun = Instant::now();
        let mut done = 0;
        loop {
            let failed = match self.http.send(request.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            done += 1;
            // Before the sign-in there is nothing to lose, and a misspelt host should not take long to tell.
            let hopeless = failed.how == How::NotSent && request.token.is_none() && done >= FIRST_CONTACT;
            let may = !hopeless && (failed.not_taken() || (repeat == Repeat::Harmless && failed.passing()));
            let wait = if may { repeats.wait(&self.pace, begun, done, request.what, &failed) } else { None };
            let Some(wait) = wait else {
                return Err(if done > 1 { counted(*failed, done) } else { failed });
            };
            tokio::time::sleep(wait).await;
        }
    }

    pub(super) fn url(&self, base: &Url, path: &str) -> Result<Url> {
        base.join(path).map_err(|e| Error::new(Kind::Unexpected, format!("`{path}` is no path")).because(e))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that was not closed must not keep the session of the others open.
        if let Ok(mut state) = self.state.try_lock() {
            state.leave(self.id);
        }
    }
}

fn counted(failed: Failed, tries: u32) -> Box<Failed> {
    let what = if failed.how == How::NotSent { "connections tried" } else { "tries" };
    Box::new(Failed { error: failed.error.at("repeated", format!("{tries} {what}")), ..failed })
}

/// Reads address and site; each may be given as what a browser shows: `https://t.acme.com/#/site/finance/home`.
fn read_address(env: &mut TableauEnv) -> Result<Url> {
    let bad = |what: String| Error::new(Kind::ConfigInvalid, what).at("environment", &env.name);
    let text = if env.url.contains("://") { env.url.clone() } else { format!("https://{}", env.url) };
    let url = Url::parse(text.trim()).map_err(|e| bad(format!("url `{text}` is no URL: {e}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(bad("url is no http or https address".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("url has a user or password in it; use token_name and token_secret".to_owned()));
    }
    if env.site.contains("://") {
        let site = Url::parse(env.site.trim()).map_err(|e| bad(format!("site `{}` is no URL: {e}", env.site)))?;
        if site.host_str() != url.host_str() {
            return Err(bad(format!("site `{}` is on another host than url", env.site)));
        }
        env.site = site_in(&site).unwrap_or_default();
    } else if env.site.trim().is_empty() {
        env.site = site_in(&url).unwrap_or_default();
    }
    env.site = env.site.trim().trim_matches('/').to_owned();
    // People write the default site's name; its content URL is empty.
    if env.site.eq_ignore_ascii_case("default") {
        env.site.clear();
    }
    let mut base = url;
    base.set_fragment(None);
    base.set_query(None);
    // `/t/finance/views` is a link from a browser too; the API lies at the root.
    base.set_path("/");
    base.as_str().trim_end_matches('/').clone_into(&mut env.url);
    Ok(base)
}

/// The site in a browser's address: `#/site/finance/home`, or `/t/finance/…`.
fn site_in(url: &Url) -> Option<String> {
    let fragment = url.fragment().unwrap_or_default();
    let site = match fragment.trim_start_matches('/').strip_prefix("site/") {
        Some(rest) => rest.split('/').next(),
        None => url.path().strip_prefix("/t/").and_then(|rest| rest.split('/').next()),
    }?;
    let site = percent_encoding::percent_decode_str(site).decode_utf8_lossy().into_owned();
    (!site.is_empty()).then_some(site)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, site: &str) -> Result<(String, String)> {
        let mut env = crate::export::tableau::tests::env(url);
        site.clone_into(&mut env.site);
        let base = read_address(&mut env)?;
        Ok((base.to_string(), env.site))
    }

    #[test]
    fn an_address_may_be_copied_from_the_browser() {
        let root = "https://t.acme.com/".to_owned();
        for (url, site, expected) in [
            ("https://t.acme.com", "finance", "finance"),
            ("t.acme.com/", "Default", ""),
            ("https://t.acme.com/#/site/finance/home", "", "finance"),
            ("https://t.acme.com", "https://t.acme.com/#/site/finance/explore?x=1", "finance"),
            ("https://t.acme.com", "https://t.acme.com/#/home", ""),
            ("https://t.acme.com/t/finance/views/x", "", "finance"),
        ] {
            assert_eq!(read(url, site).unwrap(), (root.clone(), expected.to_owned()), "{url} {site}");
        }
        assert!(read("https://u:p@t.acme.com", "").is_err());
        assert!(read("ftp://t.acme.com", "").is_err());
        assert!(read("https://t.acme.com", "https://other.com/#/site/x").is_err());
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(Version::parse("3.10").unwrap() > Version::parse("3.9").unwrap());
        assert_eq!(Version::parse("Unknown"), None);
        assert_eq!(Version(3, 29).to_string(), "3.29");
    }

    #[test]
    fn a_space_is_never_a_plus() {
        assert_eq!(encode("A + B, ü"), "A%20%2B%20B%2C%20%C3%BC");
    }
}
