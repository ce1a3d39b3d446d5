//! A Tableau environment with its secrets resolved: what `[env.NAME]` of type `tableau` becomes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Secret, SecretRef, TableauConfig};
use crate::error::{Error, Kind, Result};
use crate::limits::parse_size;

/// Files up to this size go in one request unless told otherwise: the server's own limit.
const SINGLE_REQUEST: u64 = 64_000_000;
/// The server's own limit for the payload of a change, unless its administrator set another.
const CHANGE: u64 = 100_000_000;
/// How long another process may keep a token or a data source before a run gives up.
const LOCK_WAIT: Duration = Duration::from_secs(600);

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
    /// The largest payload of a change in place that is sent as one.
    pub change_limit: u64,
    /// How the server is reached.
    pub network: Network,
    /// How long a server-side job is awaited.
    pub job_deadline: Option<Duration>,
    /// How long to wait for a token or data source that another process holds.
    pub lock_wait: Duration,
    /// How long to go on trying when the server fails; `None` is ten minutes.
    pub retry_budget: Option<Duration>,
    /// Where locks between processes lie; `None` is the user's state directory.
    pub lock_directory: Option<PathBuf>,
}

/// How a server is reached.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// A PEM file with further certificate authorities.
    pub ca_bundle: Option<PathBuf>,
    /// A PEM file with the certificate shown to the server, its chain, and its key unless that lies in `client_key`.
    pub client_certificate: Option<PathBuf>,
    /// A PEM file with the key of that certificate.
    pub client_key: Option<PathBuf>,
    /// A proxy to use instead of `HTTPS_PROXY`; `NO_PROXY` is heeded all the same.
    pub proxy: Option<Proxy>,
    /// How long a connection may take to open.
    pub connect_timeout: Option<Duration>,
    /// How long the server may be silent within one call.
    pub read_timeout: Option<Duration>,
    /// How long one call may take in all.
    pub timeout: Option<Duration>,
}

/// A proxy between here and the server.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// `http://proxy.acme.com:3128`, without a user.
    pub url: String,
    /// User and password, where it asks for them.
    pub credentials: Option<(String, Secret)>,
}

/// Credentials.
#[derive(Debug, Clone)]
pub enum Auth {
    /// A personal access token: one session at a time.
    Token {
        /// Its name.
        name: String,
        /// Its secret.
        secret: Secret,
    },
    /// A user's name and password; not accepted on Tableau Cloud where a second factor is on.
    Password {
        /// The user's name, with its domain where the server has several: `ACME\anna`.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A connected app with direct trust: each sign-in is signed here.
    ConnectedApp {
        /// The app's client id.
        client_id: String,
        /// The id of the secret.
        secret_id: String,
        /// The secret itself.
        secret: Secret,
        /// The user to act as.
        user: String,
        /// The scopes to ask for; empty asks for all that a publish takes.
        scopes: Vec<String>,
    },
}

impl Auth {
    /// Who signs in, for messages: the token's or the user's name.
    #[must_use]
    pub fn who(&self) -> &str {
        match self {
            Self::Token { name, .. } => name,
            Self::Password { user, .. } | Self::ConnectedApp { user, .. } => user,
        }
    }

    /// What is checked first when the sign-in fails.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::Password { .. } | Self::ConnectedApp { .. } => "user",
        }
    }

    pub(super) fn secret(&self) -> &Secret {
        match self {
            Self::Token { secret, .. } | Self::ConnectedApp { secret, .. } => secret,
            Self::Password { password, .. } => password,
        }
    }

    /// Reads the one way to sign in that a configuration gives.
    fn read(name: &str, config: &TableauConfig, base: &Path) -> Result<Self> {
        let token = [("token_name", config.token_name.is_some()), ("token_secret", config.token_secret.is_some())];
        let password = [("username", config.username.is_some()), ("password", config.password.is_some())];
        let app = [
            ("client_id", config.client_id.is_some()),
            ("secret_id", config.secret_id.is_some()),
            ("secret_value", config.secret_value.is_some()),
            ("user", config.user.is_some()),
        ];
        let given: Vec<&str> =
            token.iter().chain(&password).chain(&app).filter(|(_, given)| *given).map(|(key, _)| *key).collect();
        let kinds = [given_of(&token), given_of(&password), given_of(&app)];
        if kinds.iter().filter(|kind| **kind > 0).count() > 1 {
            let message = format!("environment `{name}` says more than one way to sign in: {}", given.join(", "));
            return Err(Error::new(Kind::ConfigInvalid, message).help(WAYS));
        }
        let missing = |key: &str| {
            let message = format!("environment `{name}` does not say `{key}`");
            Error::new(Kind::ConfigInvalid, message).help(WAYS)
        };
        let text = |key: &'static str, value: &Option<String>| match value {
            Some(value) if !value.trim().is_empty() => Ok(value.clone()),
            _ => Err(missing(key)),
        };
        let secret = |key: &'static str, value: &Option<SecretRef>| match value {
            Some(value) => value.resolve(base),
            None => Err(missing(key)),
        };
        if config.scopes.as_ref().is_some_and(|_| given_of(&app) == 0) {
            let message = format!("environment `{name}` says `scopes`, which a connected app has and nothing else");
            return Err(Error::new(Kind::ConfigInvalid, message).help(WAYS));
        }
        if given_of(&password) > 0 {
            return Ok(Self::Password {
                user: text("username", &config.username)?,
                password: secret("password", &config.password)?,
            });
        }
        if given_of(&app) > 0 {
            return Ok(Self::ConnectedApp {
                client_id: text("client_id", &config.client_id)?,
                secret_id: text("secret_id", &config.secret_id)?,
                user: text("user", &config.user)?,
                secret: secret("secret_value", &config.secret_value)?,
                scopes: config.scopes.clone().unwrap_or_default(),
            });
        }
        Ok(Self::Token { name: text("token_name", &config.token_name)?, secret: secret("token_secret", &config.token_secret)? })
    }
}

/// The ways to sign in, as help.
const WAYS: &str = "give one of: token_name and token_secret; username and password; client_id, secret_id, secret_value and \
                    user; secrets as { env = \"NAME\" }";

fn given_of(keys: &[(&str, bool)]) -> usize {
    keys.iter().filter(|(_, given)| *given).count()
}

impl TableauEnv {
    /// Makes the environment called `name` from its configuration; relative paths start at `base`.
    ///
    /// # Errors
    /// `ConfigInvalid` for what is missing or contradicts itself, `SecretMissing`.
    pub fn from_config(name: &str, config: &TableauConfig, base: &Path) -> Result<Self> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| base.join(p));
        let invalid = |message: &str| Err(Error::new(Kind::ConfigInvalid, format!("environment `{name}` {message}")));
        if config.client_key.is_some() && config.client_certificate.is_none() {
            return invalid("says `client_key` and no `client_certificate`");
        }
        let seconds = |key: &str, value: Option<u64>| match value {
            Some(0) => Err(Error::new(Kind::ConfigInvalid, format!("environment `{name}` says {key} = 0"))
                .help("give whole seconds, at least 1; leave it out for the default")),
            value => Ok(value.map(Duration::from_secs)),
        };
        let credentials = match (&config.proxy_user, &config.proxy_password) {
            (Some(user), Some(password)) => Some((user.clone(), password.resolve(base)?)),
            (None, None) => None,
            _ => return invalid("says one of `proxy_user` and `proxy_password` without the other"),
        };
        let proxy = match (&config.proxy, credentials) {
            (Some(url), credentials) => Some(Proxy { url: url.clone(), credentials }),
            (None, Some(_)) => return invalid("says `proxy_user` and no `proxy`"),
            (None, None) => None,
        };
        Ok(Self {
            name: name.to_owned(),
            url: config.url.clone(),
            site: config.site.clone(),
            project: config.project.clone(),
            create_project: config.create_project,
            auth: Auth::read(name, config, base)?,
            api_version: config.api_version.clone(),
            chunk_size: config.chunk_size.as_deref().map(parse_size).transpose()?,
            single_request_limit: config.single_request_limit.as_deref().map_or(Ok(SINGLE_REQUEST), parse_size)?,
            change_limit: config.change_limit.as_deref().map_or(Ok(CHANGE), parse_size)?,
            network: Network {
                ca_bundle: path(&config.ca_bundle),
                client_certificate: path(&config.client_certificate),
                client_key: path(&config.client_key),
                proxy,
                connect_timeout: seconds("connect_timeout", config.connect_timeout)?,
                read_timeout: seconds("read_timeout", config.read_timeout)?,
                timeout: seconds("timeout", config.timeout)?,
            },
            job_deadline: config.job_timeout.map(Duration::from_secs),
            lock_wait: config.lock_timeout.map_or(LOCK_WAIT, Duration::from_secs),
            retry_budget: seconds("retry_budget", config.retry_budget)?,
            lock_directory: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &str) -> Result<TableauEnv> {
        let config: TableauConfig = toml::from_str(&format!("url = \"https://t.acme.com\"\n{keys}")).unwrap();
        TableauEnv::from_config("t", &config, Path::new("/"))
    }

    const SECRET: &str = "{ command = [\"printf\", \"SECRET-MARK\"] }";

    #[test]
    fn each_way_to_sign_in_is_read() {
        let token = read(&format!("token_name = \"a\"\ntoken_secret = {SECRET}\n")).unwrap();
        assert!(matches!(&token.auth, Auth::Token { name, .. } if name == "a"));
        assert_eq!(token.auth.secret().reveal(), "SECRET-MARK");
        let password = read(&format!("username = \"anna\"\npassword = {SECRET}\n")).unwrap();
        assert!(matches!(&password.auth, Auth::Password { user, .. } if user == "anna"));
        let keys = format!("client_id = \"c\"\nsecret_id = \"i\"\nsecret_value = {SECRET}\nuser = \"u\"\n");
        let app = read(&keys).unwrap();
        assert!(matches!(&app.auth, Auth::ConnectedApp { client_id, user, .. } if client_id == "c" && user == "u"));
        assert!(!format!("{token:?}{password:?}{app:?}").contains("SECRET-MARK"));
    }

    #[test]
    fn exactly_one_way_to_sign_in_is_taken() {
        for (keys, expected) in [
            (format!("token_name = \"a\"\npassword = {SECRET}\n"), "more than one way to sign in: token_name, password"),
            (format!("username = \"a\"\nuser = \"b\"\npassword = {SECRET}\n"), "more than one way"),
            ("username = \"a\"\n".to_owned(), "does not say `password`"),
            (format!("token_secret = {SECRET}\n"), "does not say `token_name`"),
            (format!("client_id = \"c\"\nsecret_value = {SECRET}\nuser = \"u\"\n"), "does not say `secret_id`"),
            (String::new(), "does not say `token_name`"),
            (format!("token_name = \"a\"\ntoken_secret = {SECRET}\nscopes = []\n"), "says `scopes`"),
        ] {
            let error = read(&keys).unwrap_err();
            assert_eq!(error.kind(), Kind::ConfigInvalid, "{keys}");
            assert!(error.message().contains(expected), "{keys}: {error:?}");
            assert!(error.help_line().contains("token_name and token_secret"), "{keys}");
        }
    }

    #[test]
    fn the_network_is_read_and_checked() {
        let token = format!("token_name = \"a\"\ntoken_secret = {SECRET}\n");
        let keys = format!(
            "{token}client_certificate = \"c.pem\"\nproxy = \"http://p:3128\"\nproxy_user = \"u\"\nproxy_password = {SECRET}\n\
             connect_timeout = 3\nread_timeout = 4\ntimeout = 5\nlock_timeout = 0\nretry_budget = 6\n"
        );
        let env = read(&keys).unwrap();
        assert_eq!(env.network.client_certificate.as_deref(), Some(Path::new("/c.pem")));
        assert_eq!(env.network.proxy.unwrap().credentials.unwrap().0, "u");
        assert_eq!((env.network.read_timeout, env.lock_wait), (Some(Duration::from_secs(4)), Duration::ZERO));
        assert_eq!(env.retry_budget, Some(Duration::from_secs(6)));
        for wrong in ["read_timeout = 0", "retry_budget = 0", "client_key = \"k\"", "proxy_user = \"u\""] {
            assert_eq!(read(&format!("{token}{wrong}\n")).unwrap_err().kind(), Kind::ConfigInvalid, "{wrong}");
        }
    }
}
