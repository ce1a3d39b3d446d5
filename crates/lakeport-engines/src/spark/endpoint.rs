//! The address of a cluster: `sc://host:15002/;use_ssl=true;x-databricks-cluster-id=…`.

use std::collections::BTreeMap;

use lakeport::config::SparkEnv;
use lakeport::error::{Error, Kind, Result, Wrap};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

/// The port of a Spark Connect server.
const PORT: u16 = 15_002;

/// Where a cluster is and what each call to it carries.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) uri: String,
    pub(super) tls: bool,
    pub(super) user: String,
    pub(super) headers: MetadataMap,
}

impl Address {
    /// Reads the URL of an environment; `own` headers and `token` are looked up already.
    ///
    /// Secrets in the URL are refused: the file is shared, and URLs are logged.
    pub(super) fn of(env: &SparkEnv, own: &BTreeMap<String, String>, token: Option<&str>) -> Result<Self> {
        let invalid = |why: &str| {
            Error::new(Kind::ConfigInvalid, format!("the Spark url {why}")).help("write it as url = \"sc://host:15002/\"")
        };
        let rest = env.url.strip_prefix("sc://").ok_or_else(|| invalid("does not start with sc://"))?;
        let (place, parameters) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| invalid("has a port that is no number"))?)
            }
            _ => (place, PORT),
        };
        if host.is_empty() {
            return Err(invalid("names no host"));
        }
        // As every client of Databricks does: a token is never sent in the clear.
        let mut tls = token.is_some() || env.ca_file.is_some();
        let mut user = "lakeport".to_owned();
        let mut headers = MetadataMap::new();
        let mut put = |name: &str, value: &str| {
            let key: AsciiMetadataKey =
                name.to_ascii_lowercase().parse().wrap(Kind::ConfigInvalid, || format!("`{name}` is no header"))?;
            let value: AsciiMetadataValue =
                value.parse().wrap(Kind::ConfigInvalid, || format!("the value of `{name}` is no header"))?;
            headers.insert(key, value);
            Ok(())
        };
        for pair in parameters.split(';').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| invalid("has a parameter without `=`"))?;
            match name {
                "use_ssl" => tls = value == "true",
                "user_id" => value.clone_into(&mut user),
                "token" => {
                    return Err(
                        invalid("carries a token").help("write token = { env = \"SPARK_TOKEN\" } in the environment instead")
                    );
                }
                "session_id" | "user_agent" => {}
                other => put(other, value)?,
            }
        }
        for (name, value) in own {
            put(name, value)?;
        }
        if let Some(token) = token {
            let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
            if !tls && !loopback {
                return Err(invalid("has use_ssl=false and a token, which would go out in the clear"));
            }
            put("authorization", &format!("Bearer {token}"))?;
        }
        let scheme = if tls { "https" } else { "http" };
        Ok(Self { uri: format!("{scheme}://{host}:{port}"), tls, user, headers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(url: &str) -> SparkEnv {
        SparkEnv { url: url.into(), ..SparkEnv::default() }
    }

    #[test]
    fn parameters_become_headers_and_a_token_means_tls() {
        let plain = Address::of(&env("sc://spark.acme.internal"), &BTreeMap::new(), None).unwrap();
        assert_eq!((plain.uri.as_str(), plain.tls), ("http://spark.acme.internal:15002", false));
        let databricks =
            Address::of(&env("sc://w.cloud:443/;x-databricks-cluster-id=0101"), &BTreeMap::new(), Some("secret")).unwrap();
        assert_eq!(databricks.uri, "https://w.cloud:443");
        assert_eq!(databricks.headers.get("x-databricks-cluster-id").unwrap(), "0101");
        assert_eq!(databricks.headers.get("authorization").unwrap(), "Bearer secret");
    }

    #[test]
    fn secrets_stay_out_of_urls_and_off_the_wire() {
        let e = Address::of(&env("sc://h/;token=abc"), &BTreeMap::new(), None).unwrap_err();
        assert!(e.help_line().contains("token = { env") && !format!("{e:?}").contains("abc"));
        assert!(Address::of(&env("sc://h/;use_ssl=false"), &BTreeMap::new(), Some("abc")).is_err());
        assert!(Address::of(&env("http://h"), &BTreeMap::new(), None).is_err());
        assert!(Address::of(&env("sc://h:x"), &BTreeMap::new(), None).is_err());
    }
}
