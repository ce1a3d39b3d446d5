//! Where bytes come from: the local disk or an object store, behind one interface.
//!
//! Credentials follow the chain of the `object_store` library (variables, web identity, instance role; no profile files);
//! the options of the environment in `lakeport.toml` win over it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use lakeport::error::{Error, Kind, Result, Wrap};
use lakeport::source::{Location, local_path};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientConfigKey, ClientOptions, ObjectStore};
use url::Url;

/// A store and the place in it that a location names.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The path below the store's root; may hold glob characters.
    pub(crate) path: Path,
    /// What stands before a path of this store when people read it: `/`, `s3://bucket/`.
    prefix: String,
    pub(super) kind: StoreKind,
}

/// How a store can be listed and looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreKind {
    /// The local disk.
    Local,
    /// An object store with listings.
    Bucket,
    /// A web server, which knows files and no directories.
    Web,
}

impl Place {
    /// Opens the store a location lies in.
    pub(crate) fn of(location: &Location) -> Result<Self> {
        match local_path(&location.url) {
            Some(path) => Self::local(path),
            None => Self::remote(location),
        }
    }

    fn local(path: PathBuf) -> Result<Self> {
        let shown = path.display().to_string();
        // Only whole: a relative path means another file once somebody changes directory.
        let absolute = std::path::absolute(&path).wrap(Kind::SourceMissing, || format!("`{shown}` is no path"))?;
        let text = absolute.to_str().ok_or_else(|| Error::new(Kind::Unsupported, format!("the path `{shown}` is not UTF-8")))?;
        let path = Path::parse(clean(text)).wrap(Kind::SourceMissing, || format!("`{shown}` is no path"))?;
        Ok(Self { store: Arc::new(LocalFileSystem::new()), path, prefix: "/".to_owned(), kind: StoreKind::Local })
    }

    fn remote(location: &Location) -> Result<Self> {
        let shown = &location.url;
        let (scheme, rest) = shown.split_once("://").unwrap_or((shown, ""));
        let (host, key) = rest.split_once('/').unwrap_or((rest, ""));
        let root = format!("{scheme}://{host}");
        let invalid = || format!("`{root}` cannot be opened as an object store");
        let options = &location.options;
        let store: Arc<dyn ObjectStore> = match scheme {
            "s3" | "s3a" => {
                let mut builder = AmazonS3Builder::from_env().with_url(&root);
                for (key, value) in parsed(options)? {
                    builder = builder.with_config(key, value);
                }
                Arc::new(builder.build().wrap(Kind::ConfigInvalid, invalid)?)
            }
            "gs" | "gcs" => {
                let mut builder = GoogleCloudStorageBuilder::from_env().with_url(root.replacen("gcs:", "gs:", 1));
                for (key, value) in parsed(options)? {
                    builder = builder.with_config(key, value);
                }
                Arc::new(builder.build().wrap(Kind::ConfigInvalid, invalid)?)
            }
            "az" | "azure" | "adl" | "abfs" | "abfss" => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_url(&root);
                for (key, value) in parsed(options)? {
                    builder = builder.with_config(key, value);
                }
                Arc::new(builder.build().wrap(Kind::ConfigInvalid, invalid)?)
            }
            "http" | "https" => {
                let mut client = ClientOptions::new().with_allow_http(scheme == "http");
                for (key, value) in parsed::<ClientConfigKey>(options)? {
                    client = client.with_config(key, value);
                }
                let builder = HttpBuilder::new().with_url(&root).with_client_options(client);
                Arc::new(builder.build().wrap(Kind::ConfigInvalid, invalid)?)
            }
            other => {
                return Err(Error::new(Kind::Unsupported, format!("`{other}://` is no place Lakeport can read"))
                    .help("use a path, s3://, gs://, az://, abfss:// or https://")
                    .at("source", shown));
            }
        };
        let kind = if scheme.starts_with("http") { StoreKind::Web } else { StoreKind::Bucket };
        // A web address is percent-encoded by custom; keys of object stores are written as they are.
        let path = match kind {
            StoreKind::Web => Path::from_url_path(key),
            _ => Path::parse(clean(key)),
        };
        let path = path.wrap(Kind::SourceMissing, || format!("`{shown}` is no path"))?;
        Ok(Self { store, path, prefix: format!("{root}/"), kind })
    }

    /// Whether the files lie on the local disk.
    pub(super) fn is_local(&self) -> bool {
        self.kind == StoreKind::Local
    }

    /// A path of this store as people write it.
    pub(super) fn show(&self, path: &Path) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The same store, looked at from another path.
    pub(super) fn with_path(&self, path: Path) -> Self {
        Self { path, ..self.clone() }
    }
}

/// A name under which DataFusion finds the store of one table.
///
/// Every table has its own, so that two environments may reach one bucket with different credentials.
pub(super) fn store_url(number: usize) -> Result<(ObjectStoreUrl, Url)> {
    let text = format!("lake{number}://table");
    let url = Url::parse(&text).wrap(Kind::Unexpected, || "an internal URL is invalid".to_owned())?;
    let store = ObjectStoreUrl::parse(&text).wrap(Kind::Unexpected, || "an internal URL is invalid".to_owned())?;
    Ok((store, url))
}

/// Takes out empty and `.` segments and resolves `..`, none of which object stores know.
fn clean(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    segments.join("/")
}

fn parsed<K: std::str::FromStr>(options: &BTreeMap<String, String>) -> Result<Vec<(K, String)>> {
    options
        .iter()
        .map(|(key, value)| match key.to_ascii_lowercase().parse::<K>() {
            Ok(key) => Ok((key, value.clone())),
            // The value is left out of the message: it may be a secret.
            Err(_) => Err(Error::new(Kind::UnknownKey, format!("`{key}` is no option of this object store"))
                .help("use the names of the object_store library, such as aws_endpoint or azure_storage_account_name")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_dots_and_double_slashes() {
        assert_eq!(clean("/a//b/./c/../d/"), "a/b/d");
        assert_eq!(clean(""), "");
    }

    #[test]
    fn an_unknown_option_is_named_without_its_value() {
        let mut location = Location::new("s3://bucket/x");
        location.options.insert("aws_endpiont".into(), "hush".into());
        let error = Place::of(&location).unwrap_err();
        assert_eq!(error.kind(), Kind::UnknownKey);
        assert!(!format!("{error:?}").contains("hush"));
    }
}
