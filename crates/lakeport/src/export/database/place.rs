//! Where a database is, how to get there, and what its refusals mean.

use std::collections::BTreeMap;

use adbc_core::error::Status;

use crate::config::{DatabaseEnv, Secret, Setting};
use crate::error::{Error, Kind};

/// What is asked of libpq where the address does not say otherwise: a server that is gone is noticed, whether it refuses, drops
/// packets or died in the middle of a statement.
const PATIENCE: [(&str, &str); 5] = [
    ("connect_timeout", "30"),
    ("keepalives_idle", "60"),
    ("keepalives_interval", "10"),
    ("keepalives_count", "6"),
    ("tcp_user_timeout", "120000"),
];

/// Where the tables are and how to get there.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) driver: String,
    pub(super) schema: Option<String>,
    pub(super) options: BTreeMap<String, String>,
    uri: String,
    password: Option<Secret>,
    /// All that must not be printed.
    secrets: Vec<Secret>,
}

impl Place {
    /// Of an environment whose secrets were looked up.
    pub(super) fn new(env: &DatabaseEnv, password: Option<Secret>, options: BTreeMap<String, String>) -> Self {
        let hidden = env.options.iter().filter(|(_, setting)| matches!(setting, Setting::Secret(_)));
        let hidden = hidden.filter_map(|(name, _)| options.get(name)).map(Secret::new);
        let secrets = password.iter().cloned().chain(hidden).collect();
        let (driver, schema) = (env.driver.clone(), env.schema.clone());
        Self { driver, schema, options, uri: env.uri.clone(), password, secrets }
    }

    pub(super) fn is_sqlite(&self) -> bool {
        self.driver.contains("sqlite")
    }

    pub(super) fn is_postgres(&self) -> bool {
        self.driver.contains("postgres")
    }

    /// The address as the driver takes it: with the password, and with what bounds the waiting.
    pub(super) fn address(&self) -> String {
        let Ok(mut url) = url::Url::parse(&self.uri) else { return self.words() };
        if self.password.is_none() && !self.is_postgres() {
            return self.uri.clone();
        }
        if let Some(password) = &self.password {
            // A URL without a host takes none; its driver will say what it lacks.
            let _ = url.set_password(Some(password.reveal()));
        }
        if self.is_postgres() {
            let given: Vec<_> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
            for (name, value) in PATIENCE.iter().filter(|(name, _)| !given.iter().any(|g| g == name)) {
                // By hand: what is there keeps its own way of writing a space, which libpq is strict about.
                let query = url.query().filter(|q| !q.is_empty()).map_or(String::new(), |q| format!("{q}&"));
                url.set_query(Some(&format!("{query}{name}={value}")));
            }
        }
        url.to_string()
    }

    /// The address in libpq's other way of writing it: `host=… dbname=…`.
    fn words(&self) -> String {
        if !self.is_postgres() || !self.uri.contains('=') {
            return self.uri.clone();
        }
        let mut words = vec![self.uri.trim().to_owned()];
        words.extend(PATIENCE.iter().filter(|(name, _)| !self.uri.contains(name)).map(|(name, value)| format!("{name}={value}")));
        words.extend(self.password.iter().map(|password| {
            let escaped = password.reveal().replace('\\', "\\\\").replace('\'', "\\'");
            format!("password='{escaped}'")
        }));
        words.join(" ")
    }

    /// What tells one schema of one database from others, and nothing else of it: it is kept on disk.
    pub(super) fn identity(&self) -> String {
        let of = format!("{}\n{}", self.uri, self.schema.as_deref().unwrap_or_default());
        format!("{} {:016x}", self.driver, xxhash_rust::xxh3::xxh3_64(of.as_bytes()))
    }

    /// A text without what must not be printed.
    pub(super) fn without_secrets(&self, text: &str) -> String {
        let mut text = text.replace(&self.address(), &self.uri);
        for secret in self.secrets.iter().map(Secret::reveal).filter(|secret| !secret.is_empty()) {
            text = text.replace(secret, "[redacted]");
        }
        text
    }

    /// What a driver's error means.
    pub(super) fn error(&self, error: &adbc_core::error::Error, operation: &'static str) -> Error {
        let text = self.without_secrets(error.message.trim());
        let state: String = error.sqlstate.iter().filter_map(|c| u8::try_from(*c).ok()).map(char::from).collect();
        let (kind, what) = meaning(error.status, &state, &text);
        let error = Error::new(kind, what).during(operation).because(text);
        match kind {
            Kind::Unreachable => error.help("check `uri`, that the database runs and lets this machine in; then run again"),
            Kind::Locked => error.help(
                "run again when whoever reads or changes the table has ended; PostgreSQL waits longer with \
                 `?options=-c%20lock_timeout%3D10min` at the end of `uri`",
            ),
            Kind::ServerFailed => error.help("run again: nothing was changed"),
            _ => error,
        }
    }
}

/// What a refusal means, by the code that the SQL standard and PostgreSQL give it, and else by its words.
fn meaning(status: Status, state: &str, text: &str) -> (Kind, &'static str) {
    let says = |words: &[&str]| words.iter().any(|w| text.contains(w));
    let unknown = |what: &str| text.contains(&format!("{what} \"")) && text.contains("\" does not exist");
    match (status, state.get(..2).unwrap_or_default()) {
        _ if state == "55P03" || says(&["database is locked", "database table is locked"]) => {
            (Kind::Locked, "the table is in use, and waiting for it was given up")
        }
        // Serialisation, deadlock, too many connections, shutting down: all go by.
        (_, "40" | "53") => (Kind::ServerFailed, "the database could not do it now"),
        (_, "08" | "57") if state != "57014" => (Kind::Unreachable, "the database ended the connection"),
        (Status::Timeout, _) | (_, "57") => (Kind::TimedOut, "the database did not answer in time"),
        (Status::Unauthenticated, _) | (_, "28") => (Kind::SignIn, "the database did not accept the credentials"),
        (Status::Unauthorized, _) => (Kind::Forbidden, "the database does not permit this"),
        _ if state == "42501" || says(&["permission denied"]) => (Kind::Forbidden, "the database does not permit this"),
        _ if says(&["password authentication failed", "no password supplied"]) || unknown("role") || unknown("database") => {
            (Kind::SignIn, "the database did not accept the credentials")
        }
        _ if says(&["Connection refused", "could not translate host", "timeout expired", "server closed the connection"]) => {
            (Kind::Unreachable, "the database cannot be reached")
        }
        (Status::AlreadyExists, _) => (Kind::TargetExists, "the table exists"),
        _ => (Kind::FileRefused, "the database refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(driver: &str, uri: &str, password: Option<&str>) -> Place {
        let env =
            DatabaseEnv { driver: driver.into(), uri: uri.into(), password: None, schema: None, options: BTreeMap::default() };
        Place::new(&env, password.map(Secret::new), BTreeMap::default())
    }

    #[test]
    fn an_address_is_given_what_it_lacks() {
        let bare = place("postgresql", "postgresql://lake@db/gold", Some("p@ss/word")).address();
        assert!(bare.starts_with("postgresql://lake:p%40ss%2Fword@db/gold?connect_timeout=30&keepalives_idle=60"), "{bare}");
        let own = place("postgresql", "postgresql://db/gold?options=-c%20x%3D1&connect_timeout=5", None).address();
        assert!(own.contains("?options=-c%20x%3D1&connect_timeout=5&keepalives_idle=60"), "{own}");
        let words = place("postgresql", "host=db dbname=gold", Some(r"it's a \")).address();
        assert!(
            words.starts_with("host=db dbname=gold connect_timeout=30") && words.ends_with(r"password='it\'s a \\'"),
            "{words}"
        );
        assert_eq!(place("sqlite", "gold.db", None).address(), "gold.db");
        assert_eq!(place("snowflake", "user@account/db?role=x", None).address(), "user@account/db?role=x");
    }

    #[test]
    fn a_refusal_is_known_by_its_code_and_else_by_its_words() {
        let kind = |state: &str, text: &str| meaning(Status::Internal, state, text).0;
        assert_eq!(kind("55P03", ""), Kind::Locked);
        assert_eq!(kind("", "database is locked"), Kind::Locked);
        assert_eq!(kind("40P01", "deadlock detected"), Kind::ServerFailed);
        assert_eq!(kind("57P01", "terminating connection due to administrator command"), Kind::Unreachable);
        assert_eq!(kind("57014", "canceling statement due to statement timeout"), Kind::TimedOut);
        assert_eq!(kind("", "FATAL:  role \"lake\" does not exist"), Kind::SignIn);
        assert_eq!(kind("3F000", "schema \"gold\" does not exist\nLINE 1"), Kind::FileRefused);
    }
}
