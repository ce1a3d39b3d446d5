//! Calls that did not succeed: what is known about them, and what their codes mean.
//!
//! Decisions rest on status and code alone; the texts of a server are in its user's language.

use std::time::Duration;

use crate::error::{Error, Kind};

use super::xml::{self, ApiError};

/// The outcome of one call.
pub(super) type Called<T> = std::result::Result<T, Box<Failed>>;

/// One call that did not succeed, before anyone decided whether to repeat it.
#[derive(Debug)]
pub(super) struct Failed {
    /// What to tell the user.
    pub(super) error: Error,
    /// How far it came.
    pub(super) how: How,
    /// What the server asks to wait.
    pub(super) retry_after: Option<Duration>,
}

/// How far a failed call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Nothing was sent: no connection came about.
    NotSent,
    /// Something was sent and no answer came; the server may have acted.
    NoAnswer {
        /// Whether a time-out ended the wait.
        timed_out: bool,
    },
    /// The server, or something before it, answered.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The API's own code; 0 when the answer was not the API's.
        code: u32,
    },
    /// The fault is on this side; no call will do better.
    Local,
}

impl Failed {
    /// Wraps an error of ours that no repeat will mend.
    pub(super) fn local(error: Error) -> Box<Self> {
        Box::new(Self { error, how: How::Local, retry_after: None })
    }

    /// The API's code, 0 when there is none.
    pub(super) fn code(&self) -> u32 {
        if let How::Answered { code, .. } = self.how { code } else { 0 }
    }

    /// The HTTP status, 0 when there is none.
    pub(super) fn status(&self) -> u16 {
        if let How::Answered { status, .. } = self.how { status } else { 0 }
    }

    /// Whether the server certainly did not act, so that the very same call may be sent again.
    pub(super) fn not_taken(&self) -> bool {
        match self.how {
            How::NotSent => true,
            How::Answered { status, .. } => status == 429,
            How::NoAnswer { .. } | How::Local => false,
        }
    }

    /// Whether it may go away by itself.
    pub(super) fn passing(&self) -> bool {
        match self.how {
            How::NotSent | How::NoAnswer { .. } => true,
            How::Answered { status, .. } => status == 429 || status == 408 || status >= 500,
            How::Local => false,
        }
    }

    /// Whether the server may have acted although the call failed.
    pub(super) fn ambiguous(&self) -> bool {
        match self.how {
            How::NoAnswer { .. } => true,
            // A 2xx that is not the API's is an answer lost on its way, or a page in its place.
            How::Answered { status, .. } => status == 408 || status >= 500 || (200..300).contains(&status),
            How::NotSent | How::Local => false,
        }
    }

    /// Whether smaller requests are likely to fare better.
    pub(super) fn too_big(&self) -> bool {
        match self.how {
            How::NoAnswer { timed_out } => timed_out,
            How::Answered { status, .. } => matches!(status, 408 | 413 | 504),
            How::NotSent | How::Local => false,
        }
    }

    /// A few words for the list of repeats in a report.
    pub(super) fn reason(&self) -> String {
        match self.how {
            How::NotSent => "no connection".to_owned(),
            How::NoAnswer { timed_out: true } => "no answer in time".to_owned(),
            How::NoAnswer { timed_out: false } => "connection lost".to_owned(),
            How::Answered { status, code: 0 } => format!("status {status}"),
            How::Answered { status, code } => format!("status {status}, code {code}"),
            How::Local => self.error.message().to_owned(),
        }
    }
}

/// What a code of the API means to us: its kind, and a help line where the kind's own is not enough.
struct Meaning {
    code: u32,
    kind: Kind,
    help: Option<&'static str>,
}

const fn means(code: u32, kind: Kind, help: Option<&'static str>) -> Meaning {
    Meaning { code, kind, help }
}

/// Every code that deserves more than its status; adding one is adding a line.
#[rustfmt::skip]
static MEANINGS: &[Meaning] = &[
    means(400_000, Kind::ServerFailed, Some("the server did not understand the request; set `api_version` to the one it documents")),
    means(400_006, Kind::ServerFailed, None),
    means(400_007, Kind::ServerFailed, None),
    means(400_011, Kind::FileRefused, Some("check the file-format version (`hyper_version`) against the server's version, one table called \
        Extract.Extract (several need a tree of foreign keys and a server from 2021.4), and the size; `lakeport describe FILE` shows all three")),
    means(400_016, Kind::FileRefused, Some("rows can be appended only with the columns and types the data source has; use --mode full")),
    means(400_020, Kind::ServerFailed, Some("a proxy may have cut the body of the request; run again, or set a smaller `chunk_size`")),
    means(400_054, Kind::Unsupported, Some("--mode append takes .hyper files only")),
    means(400_065, Kind::ServerFailed, None),
    means(401_000, Kind::SignIn, Some("the request came without credentials; a proxy or a redirect to another host removes them: set `url` to the final host")),
    means(401_001, Kind::SignIn, Some("check the token's name and secret, that it is not expired or revoked, and `site`, the name in …/#/site/NAME/")),
    means(401_002, Kind::SignIn, Some("the session ended early: another process may have signed in with this personal access token, which ends the \
        former session; give each process its own token")),
    means(403_004, Kind::Forbidden, None),
    means(403_007, Kind::TargetExists, None),
    means(403_045, Kind::Forbidden, Some("the user may not create projects; create the project by hand, or ask for the right")),
    means(403_141, Kind::Forbidden, Some("the user may not update this data source; ask its owner for the Write (overwrite) right")),
    means(404_000, Kind::TargetMissing, Some("check `site`")),
    means(404_001, Kind::Unsupported, Some("the server does not have this call in this API version; set `api_version`")),
    means(404_003, Kind::Unsupported, Some("the server does not tell its version; set `api_version`")),
    means(404_004, Kind::TargetMissing, Some("the data source is not there; it may have been deleted or moved meanwhile")),
    means(404_005, Kind::TargetMissing, None),
    means(404_015, Kind::ServerFailed, Some("the server lost the upload; run again")),
    means(409_006, Kind::TargetExists, Some("a project of this name was created meanwhile; run again")),
    means(409_093, Kind::ServerFailed, Some("a job on the same data source is already queued; run again when it is done")),
    means(413_000, Kind::ServerFailed, Some("set a smaller `chunk_size` in the environment")),
    means(429_000, Kind::Throttled, None),
];

/// Turns an answer that is not a success into an error with its kind and help.
///
/// `what` is the call in words, `place` the host, `looks` the first bytes and title of a body that is not the API's.
pub(super) fn of_answer(what: &'static str, place: &str, status: u16, body: &[u8], looks: &str) -> Box<Failed> {
    let told = xml::parse(body).ok().as_ref().and_then(xml::api_error);
    let (error, code) = match told {
        Some(told) => {
            let code = told.code;
            (of_api(what, status, told), code)
        }
        None => (of_stranger(what, status, looks), 0),
    };
    let shown = if code == 0 { status.to_string() } else { format!("{status}, code {code}") };
    Box::new(Failed {
        error: error.during(what).at("status", shown).at("server", place),
        how: How::Answered { status, code },
        retry_after: None,
    })
}

fn of_api(what: &'static str, status: u16, told: ApiError) -> Error {
    let meaning = MEANINGS.iter().find(|m| m.code == told.code);
    let kind = meaning.map_or_else(|| kind_of_status(status, true), |m| m.kind);
    let said = if told.text.is_empty() { String::new() } else { format!(": {}", told.text) };
    let error = Error::new(kind, format!("the server refused to {what}{said}"));
    match meaning.and_then(|m| m.help) {
        Some(help) => error.help(help),
        None => error,
    }
}

/// Something answered that is not the API: a proxy, a firewall, a sign-on page, a wrong host.
fn of_stranger(what: &'static str, status: u16, looks: &str) -> Error {
    let kind = kind_of_status(status, false);
    let message = format!("cannot {what}: status {status} with {looks}");
    let error = Error::new(kind, message);
    match status {
        407 => error.help("the proxy wants credentials: set `proxy`, `proxy_user` and `proxy_password`"),
        401 | 403 => error
            .help("a proxy, firewall or sign-on page answered instead of Tableau; ask for the API paths /api/ to be let through"),
        404 => error.help("check `url`: it is the server's address without a path, such as https://tableau.acme.com"),
        413 => error.help("a proxy refuses requests of this size; set a smaller `chunk_size` in the environment"),
        _ => error,
    }
}

fn kind_of_status(status: u16, from_api: bool) -> Kind {
    match status {
        401 if from_api => Kind::SignIn,
        401 | 403 => Kind::Forbidden,
        404 if from_api => Kind::TargetMissing,
        407 => Kind::Unreachable,
        408 | 504 => Kind::TimedOut,
        429 => Kind::Throttled,
        400..500 if from_api => Kind::Unexpected,
        _ => Kind::ServerFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(status: u16, code: u32) -> Box<Failed> {
        let body = format!("<tsResponse><error code=\"{code}\"><summary>S</summary><detail>D</detail></error></tsResponse>");
        of_answer("publish", "tableau.acme.com", status, body.as_bytes(), "")
    }

    #[test]
    fn codes_decide_kind_and_exit_code() {
        for (status, code, kind, exit) in [
            (400, 400_011, Kind::FileRefused, 6),
            (400, 400_054, Kind::Unsupported, 2),
            (401, 401_001, Kind::SignIn, 4),
            (401, 401_002, Kind::SignIn, 4),
            (403, 403_004, Kind::Forbidden, 4),
            (403, 403_007, Kind::TargetExists, 2),
            (403, 403_999, Kind::Forbidden, 4),
            (404, 404_005, Kind::TargetMissing, 2),
            (429, 429_000, Kind::Throttled, 5),
            (500, 500_000, Kind::ServerFailed, 5),
            (504, 504_000, Kind::TimedOut, 5),
        ] {
            let failed = api(status, code);
            assert_eq!((failed.error.kind(), failed.error.exit_code()), (kind, exit), "{code}");
            assert_eq!(failed.code(), code);
            assert!(failed.error.message().contains("S: D"));
        }
    }

    #[test]
    fn a_page_instead_of_the_api_says_so() {
        let failed = of_answer("sign in", "t.acme.com", 403, b"<html><title>Denied</title>", "text/html `Denied`");
        assert_eq!(failed.error.kind(), Kind::Forbidden);
        assert!(failed.error.message().contains("Denied"), "{:?}", failed.error);
        assert_eq!(failed.error.context_value("server"), Some("t.acme.com"));
        assert!(failed.error.help_line().contains("sign-on page"));
    }

    #[test]
    fn codes_are_in_order_and_without_repeats() {
        assert!(MEANINGS.windows(2).all(|w| w[0].code < w[1].code));
    }

    #[test]
    fn only_what_was_certainly_not_taken_may_be_sent_again_as_it_is() {
        assert!(api(429, 429_000).not_taken());
        assert!(!api(503, 0).not_taken() && api(503, 0).ambiguous());
        assert!(!api(400, 400_011).passing());
        let lost =
            Failed { error: Error::new(Kind::Unreachable, ""), how: How::NoAnswer { timed_out: false }, retry_after: None };
        assert!(lost.ambiguous() && !lost.not_taken() && lost.passing());
    }
}
