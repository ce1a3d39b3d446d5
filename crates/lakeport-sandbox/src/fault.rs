//! Faults on demand: which call goes wrong, and how, as values and as text.
//!
//! A fault is written `KIND:CALL:EFFECT`, such as `append:2:reset-after`; `docs/sandbox.md` has the table.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::http::Method;
use lakeport::error::{Error, Kind};

/// How long a slow answer takes unless the fault says otherwise.
const SLOW: Duration = Duration::from_secs(5);
/// The content type of a login wall, which no answer of the API has.
const WRONG_TYPE: &str = "text/html;charset=UTF-8";

/// Something that goes wrong on demand: an effect at certain calls of one kind.
///
/// ```
/// use lakeport_sandbox::Fault;
/// let fault: Fault = "append:2:reset-after".parse()?;
/// assert_eq!(fault.to_string(), "append:2:reset-after");
/// # Ok::<(), lakeport::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which kind of call it happens to.
    pub call: Call,
    /// Which calls of that kind, counted from when the fault was set.
    pub which: Which,
    /// What happens.
    pub effect: Effect,
}

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Call {
    /// `POST auth/signin`.
    SignIn,
    /// `POST auth/signout`.
    SignOut,
    /// `GET serverInfo`.
    ServerInfo,
    /// Projects: list, create, delete.
    Projects,
    /// `POST fileUploads`.
    UploadStart,
    /// `PUT fileUploads/{id}`.
    Append,
    /// `POST datasources`.
    Publish,
    /// Jobs: list, look, cancel.
    Job,
    /// Data sources: list, look, download, delete, and what is read of them.
    Datasource,
    /// Changes of what describes a data source: attributes, tags, permissions, warnings.
    Update,
    /// `PATCH datasources/{id}/data`.
    Data,
    /// Every call of the API, those without a kind of their own included.
    Any,
}

/// The words of the calls, in the order in which a publish makes them.
const CALLS: [(&str, Call); 12] = [
    ("signin", Call::SignIn),
    ("signout", Call::SignOut),
    ("serverinfo", Call::ServerInfo),
    ("projects", Call::Projects),
    ("upload-start", Call::UploadStart),
    ("append", Call::Append),
    ("publish", Call::Publish),
    ("job", Call::Job),
    ("datasource", Call::Datasource),
    ("update", Call::Update),
    ("data", Call::Data),
    ("any", Call::Any),
];

impl Call {
    /// The kind of a call, by what stands behind `/api/{version}/`.
    pub(crate) fn of(method: &Method, call: &str) -> Self {
        let get = method == Method::GET;
        let inside = call.strip_prefix("sites/").and_then(|rest| rest.split_once('/')).map_or("", |(_, inside)| inside);
        let mut words = inside.split('/');
        match (call, words.next().unwrap_or_default()) {
            ("auth/signin", _) => Self::SignIn,
            ("auth/signout", _) => Self::SignOut,
            ("serverInfo", _) => Self::ServerInfo,
            (_, "projects") => Self::Projects,
            (_, "fileUploads") if words.next().is_none() => Self::UploadStart,
            (_, "fileUploads") => Self::Append,
            (_, "jobs") => Self::Job,
            (_, "datasources") if inside.ends_with("/data") && method == Method::PATCH => Self::Data,
            (_, "datasources") if method == Method::POST => Self::Publish,
            (_, "datasources") => match (words.next(), words.next()) {
                _ if get => Self::Datasource,
                (Some(_), None) if method == Method::DELETE => Self::Datasource,
                (_, Some("revisions")) => Self::Datasource,
                _ => Self::Update,
            },
            (_, "dataQualityWarnings") if get => Self::Datasource,
            (_, "dataQualityWarnings") => Self::Update,
            _ => Self::Any,
        }
    }

    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        CALLS.iter().find(|(_, call)| *call == self).map_or("any", |(word, _)| word)
    }
}

/// Which calls of a kind, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Which {
    /// Every one.
    Every,
    /// One alone.
    Only(u64),
    /// From one to another, both included; without an end, all from the first on.
    Between(u64, Option<u64>),
}

impl Which {
    pub(crate) fn holds(self, number: u64) -> bool {
        match self {
            Self::Every => true,
            Self::Only(n) => number == n,
            Self::Between(first, last) => number >= first && last.is_none_or(|last| number <= last),
        }
    }
}

/// Whether a call has done its work before the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The request was read, but nothing was done.
    Before,
    /// Everything was done; only the answer is lost.
    After,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// The connection is reset (RST) without an answer.
    Reset(When),
    /// The sign-in session is ended, so the call gets 401002.
    Expired,
    /// 429 with code 429000, with or without `Retry-After`.
    Throttled(Option<Duration>),
    /// This status, with an HTML page as a gateway or a login wall sends it.
    Status(u16, When),
    /// No answer until the client gives up.
    Hang(When),
    /// The right answer in drips, over this time.
    Slow(Duration),
    /// 307 to this address; the path of the call is added when it has none.
    Redirect(String),
    /// The right answer, cut in half although `Content-Length` promises all of it.
    Truncated,
    /// The right answer under this content type.
    ContentType(String),
    /// The job that the call starts never ends.
    JobNeverEnds,
    /// The job that the call starts fails without doing anything, with these notes or without any.
    JobFails(Option<String>),
    /// The job that the call starts is cancelled by somebody.
    JobCancelled,
    /// The job that the call starts ends as a success without doing anything.
    JobDoesNothing,
}

impl Effect {
    /// Whether it is about the job that a call starts, and not about the call.
    fn is_of_a_job(&self) -> bool {
        matches!(self, Self::JobNeverEnds | Self::JobFails(_) | Self::JobCancelled | Self::JobDoesNothing)
    }
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: String| {
            Error::new(Kind::Usage, format!("cannot understand the fault {text:?}: {why}"))
                .help("a fault is KIND:CALL:EFFECT, such as append:2:reset-after, signin:1:status=503 or job:*:hang")
        };
        let mut words = text.trim().splitn(3, ':');
        let (Some(call), Some(which), Some(effect)) = (words.next(), words.next(), words.next()) else {
            return Err(bad("it has less than three parts".into()));
        };
        let call = CALLS
            .iter()
            .find(|(word, _)| *word == call)
            .map(|(_, call)| *call)
            .ok_or_else(|| bad(format!("{call:?} is none of {}", CALLS.map(|(word, _)| word).join(", "))))?;
        let which = which_of(which).ok_or_else(|| bad(format!("{which:?} is neither *, a number from 1, 2-4 nor 2-")))?;
        let effect = effect_of(effect).map_err(bad)?;
        let starts_job = matches!(call, Call::Publish | Call::Data | Call::Any);
        if effect.is_of_a_job() && !starts_job {
            return Err(bad("jobs are started by publish and data".into()));
        }
        Ok(Self { call, which, effect })
    }
}

fn which_of(text: &str) -> Option<Which> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|n| *n > 0);
    match text.split_once('-') {
        _ if text == "*" => Some(Which::Every),
        None => number(text).map(Which::Only),
        Some((first, "")) => Some(Which::Between(number(first)?, None)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Which::Between(first, Some(last)))
        }
    }
}

fn effect_of(text: &str) -> Result<Effect, String> {
    let (word, value) = text.split_once('=').map_or((text, None), |(word, value)| (word, Some(value)));
    let none = |effect: Effect| value.map_or(Ok(effect), |_| Err(format!("{word} takes no value")));
    let needed = || value.filter(|v| !v.is_empty()).ok_or_else(|| format!("{word} needs a value"));
    match word {
        "reset-before" => none(Effect::Reset(When::Before)),
        "reset-after" => none(Effect::Reset(When::After)),
        "expired" | "401002" => none(Effect::Expired),
        "throttled" | "429" => Ok(Effect::Throttled(value.map(time_of).transpose()?)),
        "status" | "status-after" => {
            let status = needed()?.parse::<u16>().ok().filter(|s| (200..=599).contains(s));
            let status = status.ok_or_else(|| format!("{word} needs a status from 200 to 599"))?;
            Ok(Effect::Status(status, if word == "status" { When::Before } else { When::After }))
        }
        "hang" => none(Effect::Hang(When::Before)),
        "hang-after" => none(Effect::Hang(When::After)),
        "slow" => Ok(Effect::Slow(value.map_or(Ok(SLOW), time_of)?)),
        "redirect" => {
            let url = needed()?;
            if !(url.starts_with("http://") || url.starts_with("https://")) || !url.bytes().all(|b| b.is_ascii_graphic()) {
                return Err("redirect needs a URL of http or https".to_owned());
            }
            Ok(Effect::Redirect(url.to_owned()))
        }
        "truncated" => none(Effect::Truncated),
        "content-type" => {
            let kind = value.unwrap_or(WRONG_TYPE);
            if kind.is_empty() || axum::http::HeaderValue::from_str(kind).is_err() {
                return Err("that is no content type".to_owned());
            }
            Ok(Effect::ContentType(kind.to_owned()))
        }
        "job-never-ends" => none(Effect::JobNeverEnds),
        "job-fails" => Ok(Effect::JobFails(Some(value.unwrap_or("The sandbox was told to let this job fail.").to_owned()))),
        "job-fails-silently" => none(Effect::JobFails(None)),
        "job-cancelled" => none(Effect::JobCancelled),
        "job-does-nothing" => none(Effect::JobDoesNothing),
        _ => Err(format!("there is no effect {word:?}")),
    }
}

/// Reads `2`, `2s` or `500ms`.
fn time_of(text: &str) -> Result<Duration, String> {
    let (number, milliseconds) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s').unwrap_or(text), 1000),
    };
    let number = number.parse::<u32>().map_err(|_| format!("{text:?} is no time such as 2s or 500ms"))?;
    Ok(Duration::from_millis(u64::from(number) * milliseconds))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.call.word(), self.which, self.effect)
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => f.write_str("*"),
            Self::Only(n) => write!(f, "{n}"),
            Self::Between(first, None) => write!(f, "{first}-"),
            Self::Between(first, Some(last)) => write!(f, "{first}-{last}"),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(When::Before) => f.write_str("reset-before"),
            Self::Reset(When::After) => f.write_str("reset-after"),
            Self::Expired => f.write_str("expired"),
            Self::Throttled(None) => f.write_str("throttled"),
            Self::Throttled(Some(after)) => write!(f, "throttled={}ms", after.as_millis()),
            Self::Status(status, When::Before) => write!(f, "status={status}"),
            Self::Status(status, When::After) => write!(f, "status-after={status}"),
            Self::Hang(When::Before) => f.write_str("hang"),
            Self::Hang(When::After) => f.write_str("hang-after"),
            Self::Slow(time) => write!(f, "slow={}ms", time.as_millis()),
            Self::Redirect(url) => write!(f, "redirect={url}"),
            Self::Truncated => f.write_str("truncated"),
            Self::ContentType(kind) => write!(f, "content-type={kind}"),
            Self::JobNeverEnds => f.write_str("job-never-ends"),
            Self::JobFails(Some(notes)) => write!(f, "job-fails={notes}"),
            Self::JobFails(None) => f.write_str("job-fails-silently"),
            Self::JobCancelled => f.write_str("job-cancelled"),
            Self::JobDoesNothing => f.write_str("job-does-nothing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_written() {
        for text in [
            "append:2:reset-after",
            "signin:1:status=503",
            "job:*:hang",
            "publish:2-4:status-after=504",
            "any:3-:slow=250ms",
            "upload-start:1:redirect=http://127.0.0.1:99/x?y=z",
            "data:1:job-fails=because: it must",
            "publish:*:job-fails-silently",
            "data:1:job-does-nothing",
            "update:1:content-type=application/json",
            "projects:1:throttled",
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        assert_eq!("job:1:throttled=2".parse::<Fault>().unwrap().effect, Effect::Throttled(Some(Duration::from_secs(2))));
    }

    #[test]
    fn nonsense_is_refused_with_help() {
        for text in [
            "",
            "append",
            "append:2",
            "append:0:hang",
            "append:3-2:hang",
            "block:1:hang",
            "append:1:explode",
            "append:1:hang=1",
            "job:1:job-fails",
            "signin:1:status=99",
            "signin:1:redirect=ftp://x",
            "any:1:slow=soon",
            "any:1:content-type=\n",
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{text}");
        }
    }

    #[test]
    fn every_call_has_a_kind() {
        for (method, call, kind) in [
            (Method::POST, "auth/signin", Call::SignIn),
            (Method::GET, "sites/1/projects", Call::Projects),
            (Method::POST, "sites/1/fileUploads", Call::UploadStart),
            (Method::PUT, "sites/1/fileUploads/7720:a-1:0", Call::Append),
            (Method::POST, "sites/1/datasources", Call::Publish),
            (Method::GET, "sites/1/datasources/2", Call::Datasource),
            (Method::DELETE, "sites/1/datasources/2", Call::Datasource),
            (Method::PUT, "sites/1/datasources/2", Call::Update),
            (Method::DELETE, "sites/1/datasources/2/tags/x", Call::Update),
            (Method::PATCH, "sites/1/datasources/2/connections/3/data", Call::Data),
            (Method::GET, "sites/1", Call::Any),
        ] {
            assert_eq!(Call::of(&method, call), kind, "{method} {call}");
        }
    }
}
