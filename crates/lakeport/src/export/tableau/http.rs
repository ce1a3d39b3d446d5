//! One call over the network: time-outs, redirects, and an answer of bounded size, or a file of any.
//!
//! Nothing is repeated here. A redirect keeps method and body, which are made anew; the session's token does not follow to
//! another host, a secret does not follow at all, and nothing goes from https to http.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use tokio::io::AsyncWriteExt;
use url::Url;

use crate::config::Secret;
use crate::error::{Error, Kind, Result, Wrap};
use crate::limits::Limits;

use super::env::{Network, Proxy};
use super::fault::{self, Called, Failed, How};
use super::multipart::{LocalRead, Multipart};
use super::xml::{self, Element};

/// More redirects than this are a loop.
const MAX_REDIRECTS: usize = 10;
/// A page of a thousand data sources is some hundred kilobytes; more than this is not an answer of the API.
const MAX_ANSWER: usize = 32 * 1024 * 1024;
/// Of a body that is no answer of the API, this much is shown.
const SHOWN: usize = 200;
/// Clocks that differ by no more seconds agree: the way takes time, and heads tell whole seconds.
const CLOCKS_AGREE: i64 = 30;
/// How often progress is told, and whether anything moved is looked at.
const TICK: Duration = Duration::from_millis(250);

/// The body of a request; it can be sent any number of times.
#[derive(Debug, Clone)]
pub(super) enum Body {
    /// None.
    Empty,
    /// XML.
    Xml(String),
    /// The actions of a change.
    Json(String),
    /// XML that holds a credential.
    Credentials(Secret),
    /// A publish or an append.
    Multipart(Multipart),
}

/// Is told the bytes of the file that were taken so far.
pub(super) type Watch<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// One request.
#[derive(Clone)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) token: Option<Secret>,
    pub(super) body: &'a Body,
    /// The call in words, as a verb and its object.
    pub(super) what: &'static str,
    /// How long the server may be silent, where it is known to work before it answers.
    pub(super) silence: Option<Duration>,
    pub(super) watch: Option<Watch<'a>>,
    /// What no error may show, besides the token and the secrets of the environment.
    pub(super) hidden: Option<Secret>,
    /// What lets the server know a repeat when it sees one.
    pub(super) request_id: Option<&'a str>,
    /// The file that the body of a success goes to, where that is no XML.
    pub(super) into: Option<&'a Path>,
}

impl<'a> Request<'a> {
    pub(super) fn new(method: Method, url: Url, token: Option<&Secret>, body: &'a Body, what: &'static str) -> Self {
        let token = token.cloned();
        Self { method, url, token, body, what, silence: None, watch: None, hidden: None, request_id: None, into: None }
    }
}

/// A success of the API.
#[derive(Debug)]
pub(super) struct Answer {
    /// The XML; an empty element when there was no body.
    pub(super) root: Element,
    /// Where it came from after redirects.
    pub(super) url: Url,
}

/// The way to one server.
#[derive(Debug)]
pub(super) struct Http {
    client: reqwest::Client,
    read_timeout: Duration,
    call_timeout: Duration,
    /// Values that must not be shown even when a page echoes them.
    hidden: Vec<Secret>,
    /// Seconds that the server's clock is ahead of ours, as its last answer told; less what the answer took.
    ahead: AtomicI64,
}

impl Http {
    pub(super) fn new(network: &Network, limits: &Limits, hidden: Vec<Secret>) -> Result<Self> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("Lakeport/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(network.connect_timeout.unwrap_or(limits.connect_timeout))
            .redirect(reqwest::redirect::Policy::none())
            // One upload block is one request on one connection; HTTP/2 brings windows to tune and nothing else.
            .http1_only()
            // Idle connections are closed by proxies without a word; a fresh one costs less than an ambiguous failure.
            .pool_idle_timeout(Duration::from_secs(20));
        if let Some(path) = &network.ca_bundle {
            let failed = || format!("cannot read the certificates in {}", path.display());
            let pem = std::fs::read(path).wrap(Kind::ConfigInvalid, failed)?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).wrap(Kind::ConfigInvalid, failed)?;
            if certificates.is_empty() {
                return Err(Error::new(Kind::ConfigInvalid, format!("{} holds no PEM certificate", path.display())));
            }
            builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        if let Some(path) = &network.client_certificate {
            builder = builder.identity(identity(path, network.client_key.as_deref())?);
        }
        if all_pass_by() {
            builder = builder.no_proxy();
        } else if let Some(told) = &network.proxy {
            builder = builder.proxy(proxy(told)?);
        }
        let client = builder.build().wrap(Kind::Unexpected, || "cannot set up the HTTP client".to_owned())?;
        let call_timeout = network.timeout.unwrap_or(limits.call_timeout);
        let read_timeout = network.read_timeout.unwrap_or(limits.read_timeout).min(call_timeout);
        Ok(Self { client, read_timeout, call_timeout, hidden, ahead: AtomicI64::new(0) })
    }

    /// How long a whole call may take.
    pub(super) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// Seconds that the server's clock is ahead of ours; 0 where it does not tell, and where they agree but for the way.
    pub(super) fn ahead(&self) -> i64 {
        let ahead = self.ahead.load(Ordering::Relaxed);
        if ahead.abs() > CLOCKS_AGREE { ahead } else { 0 }
    }

    /// The time on the server's clock, which may be a little later.
    pub(super) fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::seconds(self.ahead.load(Ordering::Relaxed))
    }

    /// Sends one request and reads its answer.
    pub(super) async fn send(&self, request: Request<'_>) -> Called<Answer> {
        let what = request.what;
        if request.into.is_some() {
            // How long a file takes is its size's doing; silence alone ends it.
            return self.follow(request).await;
        }
        let place = place_of(&request.url);
        match tokio::time::timeout(self.call_timeout, self.follow(request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(no_answer(
                what,
                &place,
                true,
                Error::new(Kind::TimedOut, format!("cannot {what}: no whole answer within {} s", self.call_timeout.as_secs())),
            )),
        }
    }

    async fn follow(&self, mut request: Request<'_>) -> Called<Answer> {
        let what = request.what;
        for _ in 0..=MAX_REDIRECTS {
            let mut response = self.exchange(&request).await?;
            let status = response.status();
            if status.is_redirection()
                && let Some(to) = response.headers().get(LOCATION).and_then(|l| l.to_str().ok())
            {
                let to = request.url.join(to).map_err(|_| misdirected(what, &request.url, "to something that is no URL", ""))?;
                self.redirect(&mut request, to)?;
                continue;
            }
            if let Some(there) = date(&response) {
                self.ahead.store((there - Utc::now()).num_seconds(), Ordering::Relaxed);
            }
            let retry_after = retry_after(&response);
            let content_type = header(&response, CONTENT_TYPE);
            if let Some(file) = request.into
                && status.is_success()
                && !is_page(&content_type)
            {
                self.save(&mut response, &request, file).await?;
                return Ok(Answer { root: Element::default(), url: request.url });
            }
            let body = self.read(&mut response, &request).await?;
            let parsed = if status.is_success() && body.is_empty() { Ok(Element::default()) } else { xml::parse(&body) };
            return match parsed {
                Ok(root) if status.is_success() && (body.is_empty() || root.name == "tsResponse") => {
                    Ok(Answer { root, url: request.url })
                }
                _ => {
                    let looks = self.looks(&content_type, &body, &request);
                    let body = self.hide(&String::from_utf8_lossy(&body), &request).into_bytes();
                    let mut failed = fault::of_answer(what, &place_of(&request.url), status.as_u16(), &body, &looks);
                    failed.retry_after = retry_after;
                    Err(failed)
                }
            };
        }
        Err(misdirected(what, &request.url, "in circles", ""))
    }

    /// Points a request at where it was redirected to, unless that would give something away.
    fn redirect(&self, request: &mut Request<'_>, to: Url) -> Called<()> {
        let what = request.what;
        if !matches!(to.scheme(), "http" | "https") || (request.url.scheme() == "https" && to.scheme() == "http") {
            return Err(misdirected(what, &request.url, &format!("from https to {}", to.scheme()), ""));
        }
        if !same_host(&request.url, &to) {
            if matches!(request.body, Body::Credentials(_)) {
                let help = format!("set url = \"{}\" if that is the server", to.origin().ascii_serialization());
                let to = format!("to another host, {}, and credentials are not sent there", place_of(&to));
                return Err(misdirected(what, &request.url, &to, &help));
            }
            request.token = None;
        }
        tracing::debug!("{what}: redirected to {}", place_of(&to));
        request.url = to;
        Ok(())
    }

    /// Sends the head and body of one request and waits for the head of the answer.
    async fn exchange(&self, request: &Request<'_>) -> Called<Response> {
        let what = request.what;
        let taken = Arc::new(AtomicU64::new(0));
        let mut builder = self.client.request(request.method.clone(), request.url.clone());
        if let Some(token) = &request.token {
            builder = builder.header("X-Tableau-Auth", token.reveal());
        }
        if let Some(id) = request.request_id {
            builder = builder.header("RequestID", id);
        }
        builder = match request.body {
            // A POST without a body still says what it would be, and how long: some proxies answer 411 otherwise.
            Body::Empty if request.method == Method::GET => builder,
            Body::Empty => builder.header(CONTENT_TYPE, "text/xml").header(CONTENT_LENGTH, 0),
            Body::Xml(xml) => builder.header(CONTENT_TYPE, "text/xml").body(xml.clone()),
            Body::Json(json) => builder.header(CONTENT_TYPE, "application/json").body(json.clone()),
            Body::Credentials(xml) => builder.header(CONTENT_TYPE, "text/xml").body(xml.reveal().to_owned()),
            Body::Multipart(parts) => builder
                .header(CONTENT_TYPE, parts.content_type())
                .header(CONTENT_LENGTH, parts.length())
                .body(reqwest::Body::wrap_stream(parts.stream(taken.clone()))),
        };
        let silence = request.silence.unwrap_or(self.read_timeout);
        let sending = builder.send();
        tokio::pin!(sending);
        let (mut last, mut since) = (0, tokio::time::Instant::now());
        loop {
            let outcome = tokio::time::timeout(TICK, &mut sending).await;
            let now = taken.load(Ordering::Relaxed);
            if let Some(watch) = request.watch
                && now != last
            {
                watch(now);
            }
            match outcome {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(e)) => return Err(transport(what, &request.url, e)),
                Err(_) if now != last => (last, since) = (now, tokio::time::Instant::now()),
                Err(_) if since.elapsed() < silence => {}
                Err(_) => return Err(silent(what, &request.url, silence)),
            }
        }
    }

    /// Reads a body of bounded size.
    async fn read(&self, response: &mut Response, request: &Request<'_>) -> Called<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            match tokio::time::timeout(self.read_timeout, response.chunk()).await {
                Err(_) => return Err(silent(request.what, &request.url, self.read_timeout)),
                Ok(Err(e)) => return Err(transport(request.what, &request.url, e)),
                Ok(Ok(None)) => return Ok(body),
                Ok(Ok(Some(chunk))) => {
                    body.extend_from_slice(&chunk);
                    if body.len() > MAX_ANSWER {
                        let what = request.what;
                        let error = Error::new(Kind::ServerFailed, format!("cannot {what}: the answer does not end"));
                        return Err(no_answer(what, &place_of(&request.url), false, error));
                    }
                }
            }
        }
    }

    /// Writes a body of any size to a file, a chunk at a time.
    async fn save(&self, response: &mut Response, request: &Request<'_>, file: &Path) -> Called<()> {
        let what = request.what;
        let failed = || format!("cannot {what}: cannot write {}", file.display());
        let local = |e: Error| Failed::local(e.during(what));
        let mut out = tokio::fs::File::create(file).await.wrap(Kind::WriteFailed, failed).map_err(local)?;
        loop {
            match tokio::time::timeout(self.read_timeout, response.chunk()).await {
                Err(_) => return Err(silent(what, &request.url, self.read_timeout)),
                Ok(Err(e)) => return Err(transport(what, &request.url, e)),
                Ok(Ok(None)) => break,
                Ok(Ok(Some(chunk))) => {
                    out.write_all(&chunk).await.wrap(Kind::WriteFailed, failed).map_err(local)?;
                }
            }
        }
        out.flush().await.wrap(Kind::WriteFailed, failed).map_err(local)
    }

    /// Describes a body that is not the API's: content type, title, first bytes.
    fn looks(&self, content_type: &str, body: &[u8], request: &Request<'_>) -> String {
        let text = self.hide(&String::from_utf8_lossy(body), request);
        let kind = if content_type.is_empty() { "no content type" } else { content_type };
        let title = title(&text).map(|t| format!(" titled `{t}`")).unwrap_or_default();
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let end = words.char_indices().map(|(at, _)| at).find(|at| *at >= SHOWN).unwrap_or(words.len());
        match words.get(..end).unwrap_or_default() {
            "" => format!("an empty body ({kind}) instead of Tableau's API"),
            // Half an answer to a sign-in holds a token that nobody knows yet.
            start if matches!(request.body, Body::Credentials(_)) && start.to_ascii_lowercase().contains("token") => {
                format!("{kind}{title} instead of Tableau's API (not shown, for it may hold a token)")
            }
            start => format!("{kind}{title} instead of Tableau's API: {start}"),
        }
    }

    fn hide(&self, text: &str, request: &Request<'_>) -> String {
        let secrets = self.hidden.iter().chain(&request.token).chain(&request.hidden).filter(|s| !s.reveal().is_empty());
        secrets.fold(text.to_owned(), |text, secret| text.replace(secret.reveal(), "[redacted]"))
    }
}

/// Reads the certificate to show and its key, which may stand in the same file.
fn identity(certificate: &Path, key: Option<&Path>) -> Result<reqwest::Identity> {
    let read = |path: &Path| {
        std::fs::read(path).wrap(Kind::ConfigInvalid, || format!("cannot read the client certificate in {}", path.display()))
    };
    let mut pem = read(certificate)?;
    if let Some(key) = key {
        pem.push(b'\n');
        pem.extend(read(key)?);
    }
    reqwest::Identity::from_pem(&pem)
        .wrap(Kind::ConfigInvalid, || format!("{} is no client certificate with its key", certificate.display()))
        .map_err(|e| {
            e.help("`client_certificate` is a PEM file with certificate and chain; its unencrypted key may lie in `client_key`")
        })
}

/// Whether `NO_PROXY` is the `*` that means everything; the client below reads it as any name, and not as any number.
fn all_pass_by() -> bool {
    ["NO_PROXY", "no_proxy"].iter().any(|name| std::env::var(name).is_ok_and(|v| v.split(',').any(|entry| entry.trim() == "*")))
}

/// Makes the proxy that all calls take, except to what `NO_PROXY` names.
fn proxy(told: &Proxy) -> Result<reqwest::Proxy> {
    let invalid = |message: String| Error::new(Kind::ConfigInvalid, message).help("proxy = \"http://proxy.acme.com:3128\"");
    let url = Url::parse(&told.url).map_err(|e| invalid("proxy is no URL".to_owned()).because(e))?;
    if !url.username().is_empty() || url.password().is_some() {
        // Not quoted, for a password stands in it.
        return Err(invalid("proxy has a user or password in it; use proxy_user and proxy_password".to_owned()));
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(invalid(format!("proxy `{}` is no http or https address", told.url)));
    }
    let proxy = reqwest::Proxy::all(url).wrap(Kind::ConfigInvalid, || format!("cannot use the proxy `{}`", told.url))?;
    let proxy = proxy.no_proxy(reqwest::NoProxy::from_env());
    Ok(match &told.credentials {
        Some((user, password)) => proxy.basic_auth(user, password.reveal()),
        None => proxy,
    })
}

/// The host, and the port where it is not the usual one.
pub(super) fn place_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether a token may follow: the same host and port, or the step from http to https on the usual ports.
fn same_host(from: &Url, to: &Url) -> bool {
    let upgraded = from.scheme() == "http" && to.scheme() == "https" && from.port().is_none() && to.port().is_none();
    from.host_str() == to.host_str() && (from.port_or_known_default() == to.port_or_known_default() || upgraded)
}

fn header(response: &Response, name: reqwest::header::HeaderName) -> String {
    response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
}

/// Whether a content type is that of an answer, or of a page in its place, and not that of a file.
fn is_page(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(kind.as_str(), "text/html" | "text/xml" | "application/xml" | "application/json" | "text/plain")
}

/// Reads `Retry-After`: seconds or a date. Some gateways send it with 503 too.
fn retry_after(response: &Response) -> Option<Duration> {
    if !matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let told = header(response, RETRY_AFTER);
    if let Ok(seconds) = told.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(told.trim()).ok()?;
    // By the server's own clock where it shows it: ours may be hours off.
    let now = date(response).unwrap_or_else(Utc::now);
    Some((at.to_utc() - now).to_std().unwrap_or_default())
}

/// The server's time, as the head of its answer tells it.
fn date(response: &Response) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(header(response, DATE).trim()).ok().map(|d| d.to_utc())
}

/// The title of a page.
pub(super) fn title(page: &str) -> Option<String> {
    let lower = page.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let start = start + lower.get(start..)?.find('>')? + 1;
    let end = start + lower.get(start..)?.find("</title")?;
    let words = page.get(start..end)?.split_whitespace().collect::<Vec<_>>().join(" ");
    (!words.is_empty()).then(|| words.chars().take(120).collect())
}

fn no_answer(what: &'static str, place: &str, timed_out: bool, error: Error) -> Box<Failed> {
    let error = error.during(what).at("server", place);
    Box::new(Failed { error, how: How::NoAnswer { timed_out }, retry_after: None })
}

fn silent(what: &'static str, url: &Url, silence: Duration) -> Box<Failed> {
    let error = Error::new(Kind::TimedOut, format!("cannot {what}: the server was silent for {} s", silence.as_secs()));
    no_answer(what, &place_of(url), true, error)
}

/// Translates a failure below HTTP.
fn transport(what: &'static str, url: &Url, e: reqwest::Error) -> Box<Failed> {
    let place = place_of(url);
    // The URL may hold ids of a session; the host says enough.
    let e = e.without_url();
    if let Some(local) = local_read(&e) {
        let error = Error::new(Kind::SourceUnreadable, format!("cannot {what}: {local}"))
            .help("the file was changed or removed while it was published; run again");
        return Failed::local(error.during(what));
    }
    if let Some(certificate) = in_chain(&e, |cause| Some(cause.to_string()).filter(|t| t.contains("certificate"))) {
        let message = format!("cannot {what}: the certificate of {place} is not trusted: {certificate}");
        let dated = certificate.to_ascii_lowercase();
        let help = if dated.contains("expired") || dated.contains("notvalidyet") || dated.contains("not valid yet") {
            "look at the certificate's dates, and at this machine's clock"
        } else {
            "set `ca_bundle` to a PEM file with the authority that signed it"
        };
        return Failed::local(Error::new(Kind::Unreachable, message).help(help).during(what).at("server", &place));
    }
    if let Some(alert) = in_chain(&e, |cause| Some(cause.to_string().split_once("received fatal alert: ")?.1.to_owned())) {
        let message = format!("cannot {what}: {place} broke off the TLS handshake ({alert})");
        let help = "a server that asks for a certificate breaks off so: set `client_certificate` and `client_key` to one it accepts, \
                    and check its authority and dates";
        return Failed::local(Error::new(Kind::Unreachable, message).help(help).during(what).at("server", &place));
    }
    let timed_out = e.is_timeout();
    let not_sent = e.is_connect();
    let kind = if timed_out { Kind::TimedOut } else { Kind::Unreachable };
    let message = match (not_sent, timed_out) {
        (true, _) => format!("cannot {what}: no connection to {place}"),
        (false, true) => format!("cannot {what}: no answer from {place} in time"),
        (false, false) => format!("cannot {what}: the connection to {place} was lost"),
    };
    let error = Error::new(kind, message).because(e).during(what).at("server", &place);
    let how = if not_sent { How::NotSent } else { How::NoAnswer { timed_out } };
    Box::new(Failed { error, how, retry_after: None })
}

fn local_read(e: &reqwest::Error) -> Option<String> {
    in_chain(e, |cause| cause.downcast_ref::<LocalRead>().map(ToString::to_string))
}

/// Looks through the causes of an error, the error itself left out.
fn in_chain(e: &reqwest::Error, look: impl Fn(&(dyn std::error::Error + 'static)) -> Option<String>) -> Option<String> {
    let mut next = std::error::Error::source(e);
    while let Some(cause) = next {
        if let Some(found) = look(cause) {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

fn misdirected(what: &'static str, url: &Url, to: &str, help: &str) -> Box<Failed> {
    let error = Error::new(Kind::ServerFailed, format!("cannot {what}: the server redirects {to}"))
        .during(what)
        .at("server", place_of(url));
    Failed::local(if help.is_empty() { error.help("set `url` to the address the browser ends up at") } else { error.help(help) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_follows_only_to_the_same_host() {
        let url = |u: &str| Url::parse(u).unwrap();
        assert!(same_host(&url("http://t.acme.com/a"), &url("https://t.acme.com/a")));
        assert!(same_host(&url("https://t.acme.com/a"), &url("https://t.acme.com:443/b")));
        assert!(!same_host(&url("https://t.acme.com"), &url("https://t.acme.com:8443")));
        assert!(!same_host(&url("https://t.acme.com"), &url("https://u.acme.com")));
    }

    #[test]
    fn titles_are_found_in_any_case() {
        assert_eq!(title("<HTML><Title lang=x>\n Sign  on </TITLE>"), Some("Sign on".to_owned()));
        assert_eq!(title("<title></title>"), None);
        assert_eq!(title("<title"), None);
    }
}
