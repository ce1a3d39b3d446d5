//! Objects: S3, Google Cloud Storage, Azure, and what speaks like them.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3ConfigKey;
use object_store::azure::AzureConfigKey;
use object_store::gcp::GoogleConfigKey;
use object_store::path::Path;
use object_store::{
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, UploadPart,
};
use tokio::io::AsyncReadExt;
use url::Url;

use crate::error::{Error, Kind, Result, Wrap};
use crate::export::{Health, Mode, Observed, Progress, Receipt};
use crate::farewell::Owed;
use crate::limits::show_size;
use crate::source::{Listed, Location};

/// Bytes of one part; also the size up to which a file is put in one request.
const PART: u64 = 8 * 1024 * 1024;
/// The parts an upload may have (S3's limit); larger files get larger parts.
const MAX_PARTS: u64 = 10_000;
/// Parts on their way at a time; together with the part size this bounds the memory.
const IN_FLIGHT: usize = 3;
/// The variables that cloud tools read begin like this.
const VARIABLES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// Opens the object store of a location: the store, and the path within it.
///
/// Options come from the environment variables that cloud tools read (`AWS_…`, `GOOGLE_…`, `AZURE_…`) and, with
/// precedence, from the location itself. Nothing is reached yet.
///
/// # Errors
/// `ConfigInvalid` for a URL or option value that cannot be read, `UnknownKey` for an option the store does not have.
pub fn object_store_for(location: &Location) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let invalid = |e: object_store::Error| translate(e, location, "open", Kind::ConfigInvalid);
    let url = parse(&location.url)?;
    let (scheme, _) = ObjectStoreScheme::parse(&url).map_err(|e| invalid(e.into()))?;
    for key in location.options.keys() {
        if !knows(&scheme, &key.to_ascii_lowercase()) {
            return Err(Error::new(Kind::UnknownKey, format!("`{key}` is no option of {}", location.url))
                .help("options have the names of object_store: aws_endpoint, aws_region, azure_storage_account_name, …"));
        }
    }
    let (store, path) = object_store::parse_url_opts(&url, options(location)).map_err(invalid)?;
    Ok((Arc::from(store), path))
}

/// Reads a URL. A web address is written as the web writes it; keys of object stores are written as they are, and know no queries,
/// fragments and encodings.
fn parse(url: &str) -> Result<Url> {
    let bare =
        if url.starts_with("http") { url.to_owned() } else { url.replace('%', "%25").replace('?', "%3F").replace('#', "%23") };
    Url::parse(&bare).wrap(Kind::ConfigInvalid, || format!("`{url}` is no URL"))
}

fn options(location: &Location) -> BTreeMap<String, String> {
    let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let mut options: BTreeMap<String, String> = variables
        .filter(|(key, _)| VARIABLES.iter().any(|v| key.starts_with(v)))
        .map(|(key, value)| (key.to_ascii_lowercase(), value))
        .collect();
    options.extend(location.options.iter().map(|(key, value)| (key.to_ascii_lowercase(), value.clone())));
    options
}

fn knows(scheme: &ObjectStoreScheme, key: &str) -> bool {
    match scheme {
        ObjectStoreScheme::AmazonS3 => key.parse::<AmazonS3ConfigKey>().is_ok(),
        ObjectStoreScheme::GoogleCloudStorage => key.parse::<GoogleConfigKey>().is_ok(),
        ObjectStoreScheme::MicrosoftAzure => key.parse::<AzureConfigKey>().is_ok(),
        _ => true,
    }
}

/// Puts a file: small ones in one request, others in parts that are aborted on failure.
pub(super) async fn publish(from: &FilePath, to: &Location, mode: Mode, progress: Progress<'_>) -> Result<Receipt> {
    let (store, path) = object_store_for(to)?;
    put_file(store.as_ref(), &path, from, to, mode, progress).await
}

pub(super) async fn put_file(
    store: &dyn ObjectStore,
    path: &Path,
    from: &FilePath,
    to: &Location,
    mode: Mode,
    progress: Progress<'_>,
) -> Result<Receipt> {
    let failed = |e| translate(e, to, "publish", Kind::ServerFailed);
    let unreadable = || format!("cannot read {}", from.display());
    let mut file = tokio::fs::File::open(from).await.wrap(Kind::SourceMissing, unreadable)?;
    let bytes = file.metadata().await.wrap(Kind::SourceUnreadable, unreadable)?.len();
    let way = if bytes <= PART {
        let content = read_part(&mut file, bytes, from).await?;
        if mode == Mode::Create {
            create(store, path, content, to).await?;
        } else {
            store.put(path, content.into()).await.map_err(failed)?;
        }
        progress(bytes, bytes);
        "single request".to_owned()
    } else {
        // Uploads in parts cannot be made conditional; looking before the first and before the last step narrows the gap.
        let free = async || {
            if mode == Mode::Create && exists(store, path).await.map_err(failed)? {
                return Err(super::taken(&to.url));
            }
            Ok(())
        };
        free().await?;
        let part = part_size(bytes);
        let before = seen(store, path).await;
        let mut upload = Upload::begin(store, path, to).await.map_err(failed)?;
        let sent = match send_parts(&mut upload, &mut file, bytes, part, from, progress, &failed).await {
            Ok(()) => free().await,
            Err(e) => Err(e),
        };
        let outcome = match sent {
            Ok(()) => match upload.complete().await {
                // The answer to the last step was lost, and the upload is gone when the step is repeated: look, before
                // calling a finished publish failed.
                Err(e) if is_gone(&e) && arrived(before.as_ref(), seen(store, path).await.as_ref(), bytes) => Ok(()),
                done => done.map(drop).map_err(failed),
            },
            Err(e) => Err(e),
        };
        upload.end(outcome).await?;
        format!("{} parts of {}", bytes.div_ceil(part), show_size(part))
    };
    Ok(Receipt { id: to.url.clone(), url: Some(to.url.clone()), bytes, way, ..Receipt::default() })
}

/// Puts an object where none is.
async fn create(store: &dyn ObjectStore, path: &Path, content: Bytes, to: &Location) -> Result<()> {
    let failed = |e| translate(e, to, "publish", Kind::ServerFailed);
    if exists(store, path).await.map_err(failed)? {
        return Err(super::taken(&to.url));
    }
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let Err(e) = store.put_opts(path, content.clone().into(), options).await else { return Ok(()) };
    // A request whose answer was lost is repeated, and then meets what it has put there itself.
    let there = async { store.get(path).await.ok()?.bytes().await.ok() };
    if there.await.is_some_and(|there| there == content) { Ok(()) } else { Err(failed(e)) }
}

/// An upload in parts. One that is given up is taken back: its parts cost money, and nobody sees them.
struct Upload {
    parts: Option<Box<dyn MultipartUpload>>,
    to: String,
    owed: Option<Owed>,
}

impl Upload {
    async fn begin(store: &dyn ObjectStore, path: &Path, to: &Location) -> object_store::Result<Self> {
        let parts = store.put_multipart_opts(path, PutMultipartOptions::default()).await?;
        Ok(Self { parts: Some(parts), to: to.url.clone(), owed: Some(Owed::one()) })
    }

    fn put(&mut self, content: Bytes) -> UploadPart {
        match &mut self.parts {
            Some(parts) => parts.put_part(PutPayload::from(content)),
            None => Box::pin(std::future::ready(Err(object_store::Error::NotImplemented {
                operation: "put_part of an ended upload".into(),
                implementer: self.to.clone(),
            }))),
        }
    }

    async fn complete(&mut self) -> object_store::Result<()> {
        match &mut self.parts {
            Some(parts) => parts.complete().await.map(drop),
            None => Ok(()),
        }
    }

    /// Lets go of an upload that is complete, and takes back one that failed.
    async fn end(mut self, outcome: Result<()>) -> Result<()> {
        if let Some(parts) = self.parts.take()
            && outcome.is_err()
        {
            take_back(parts, &self.to).await;
        }
        outcome
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (to, owed) = (std::mem::take(&mut self.to), self.owed.take());
            runtime.spawn(async move {
                take_back(parts, &to).await;
                drop(owed);
            });
        }
    }
}

/// Removes the parts; the failure that led here is what the user hears of.
async fn take_back(mut parts: Box<dyn MultipartUpload>, to: &str) {
    if let Err(e) = parts.abort().await {
        tracing::warn!("the parts of {to} could not be removed: {e}");
    }
}

/// What is under a key: nothing, or an object; `None` when the store does not tell.
#[allow(clippy::option_option)] // Not knowing and knowing that nothing is there lead to opposite ends.
async fn seen(store: &dyn ObjectStore, path: &Path) -> Option<Option<ObjectMeta>> {
    match store.head(path).await {
        Ok(found) => Some(Some(found)),
        Err(object_store::Error::NotFound { .. }) => Some(None),
        Err(_) => None,
    }
}

/// Whether what is there now came during this upload and has its size.
fn arrived(before: Option<&Option<ObjectMeta>>, now: Option<&Option<ObjectMeta>>, bytes: u64) -> bool {
    let (Some(before), Some(Some(now))) = (before, now) else { return false };
    let new = before.as_ref().is_none_or(|b| b.e_tag != now.e_tag || b.last_modified != now.last_modified);
    new && now.size == bytes
}

/// Whether the upload is no longer open: S3 does not find it, Azure does not find its blocks.
fn is_gone(e: &object_store::Error) -> bool {
    matches!(e, object_store::Error::NotFound { .. }) || status_of(e) == Some(404) || chain(e).contains("InvalidBlockList")
}

/// Whether the store has said no, so that the request has done nothing and will do nothing.
pub(super) fn is_refusal(e: &object_store::Error) -> bool {
    use object_store::Error as E;
    let named = matches!(
        e,
        E::NotFound { .. }
            | E::AlreadyExists { .. }
            | E::Precondition { .. }
            | E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
    );
    named || status_of(e).is_some_and(|status| (400..500).contains(&status) && status != 408 && status != 429)
}

fn part_size(bytes: u64) -> u64 {
    PART.max(bytes.div_ceil(MAX_PARTS))
}

async fn send_parts(
    upload: &mut Upload,
    file: &mut tokio::fs::File,
    bytes: u64,
    part: u64,
    from: &FilePath,
    progress: Progress<'_>,
    failed: &(impl Fn(object_store::Error) -> Error + Sync),
) -> Result<()> {
    let mut on_their_way = futures::stream::FuturesUnordered::new();
    let (mut left, mut done) = (bytes, 0);
    progress(0, bytes);
    while left > 0 || !on_their_way.is_empty() {
        if left > 0 && on_their_way.len() < IN_FLIGHT {
            let length = part.min(left);
            let content = read_part(file, length, from).await?;
            left -= length;
            let sending = upload.put(content);
            on_their_way.push(async move { sending.await.map(|()| length) });
        } else if let Some(sent) = on_their_way.next().await {
            done += sent.map_err(failed)?;
            progress(done, bytes);
        }
    }
    Ok(())
}

async fn read_part(file: &mut tokio::fs::File, length: u64, from: &FilePath) -> Result<Bytes> {
    let capacity = usize::try_from(length).wrap(Kind::Unsupported, || "a part does not fit in memory".to_owned())?;
    let mut content = BytesMut::with_capacity(capacity);
    let mut limited = file.take(length);
    while content.len() < capacity {
        let got =
            limited.read_buf(&mut content).await.wrap(Kind::SourceUnreadable, || format!("cannot read {}", from.display()))?;
        if got == 0 {
            return Err(Error::new(Kind::SourceUnreadable, format!("{} became shorter while it was read", from.display())));
        }
    }
    Ok(content.freeze())
}

async fn exists(store: &dyn ObjectStore, path: &Path) -> object_store::Result<bool> {
    match store.head(path).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Looks whether the bucket answers.
pub(super) async fn check(root: &Location) -> Result<Health> {
    let (store, path) = object_store_for(root)?;
    let mut health = Health::default();
    health.facts.push(("store".to_owned(), root.url.clone()));
    match store.list(Some(&path)).try_next().await {
        Ok(Some(_)) => health.facts.push(("reading".to_owned(), "works; objects are there".to_owned())),
        Ok(None) => health.facts.push(("reading".to_owned(), "works; nothing is there yet".to_owned())),
        Err(e) => {
            let e = translate(e, root, "check", Kind::ServerFailed);
            let lacks = match e.kind() {
                Kind::TargetMissing => &mut health.missing,
                Kind::Forbidden => &mut health.denied,
                _ => return Err(e),
            };
            lacks.push(format!("{}: {}", e.message(), e.causes().join("; ")));
        }
    }
    health.facts.push(("right to write".to_owned(), "not tried; a publish will tell".to_owned()));
    Ok(health)
}

/// Lists what lies directly below a location.
pub(super) async fn list(at: &Location, prefix: &str) -> Result<Vec<Listed>> {
    let (store, path) = object_store_for(at)?;
    let found = store.list_with_delimiter(Some(&path)).await.map_err(|e| translate(e, at, "list", Kind::ServerFailed))?;
    let prefix = prefix.trim_matches('/');
    let named = |path: &Path| {
        let name = path.filename().unwrap_or_default();
        if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") }
    };
    let directories =
        found.common_prefixes.iter().map(|p| Listed { name: named(p), kind: "directory".to_owned(), details: Vec::new() });
    let objects = found.objects.iter().map(|o| Listed {
        name: named(&o.location),
        kind: "object".to_owned(),
        details: vec![("size".to_owned(), show_size(o.size)), ("changed".to_owned(), o.last_modified.to_rfc3339())],
    });
    Ok(directories.chain(objects).collect())
}

/// Looks at a published object.
pub(super) async fn observe(at: &Location) -> Result<Observed> {
    let (store, path) = object_store_for(at)?;
    match store.head(&path).await {
        Ok(found) => {
            Ok(Observed { bytes: Some(found.size), updated_at: Some(found.last_modified.to_rfc3339()), ..Observed::default() })
        }
        Err(object_store::Error::NotFound { .. }) => {
            Err(Error::new(Kind::VerifyFailed, format!("{} is not there", at.url)).during("observe"))
        }
        Err(e) => Err(translate(e, at, "observe", Kind::ServerFailed)),
    }
}

/// Turns an error of a store into ours, with its secrets taken out.
pub(super) fn translate(e: object_store::Error, at: &Location, operation: &'static str, otherwise: Kind) -> Error {
    store_error(&e, at, operation, otherwise)
}

/// What an error of a store means, with the location's secrets taken out of its text; `otherwise` for what has no name.
#[must_use]
pub fn store_error(e: &object_store::Error, at: &Location, operation: &'static str, otherwise: Kind) -> Error {
    use object_store::Error as E;
    let (kind, message) = match e {
        E::NotFound { .. } => (Kind::TargetMissing, "is not there"),
        E::AlreadyExists { .. } | E::Precondition { .. } => (Kind::TargetExists, "is already there"),
        E::PermissionDenied { .. } => (Kind::Forbidden, "may not be used"),
        E::Unauthenticated { .. } => (Kind::SignIn, "does not accept the credentials"),
        E::NotSupported { .. } | E::NotImplemented { .. } => (Kind::Unsupported, "cannot do this"),
        other => match status_of(other) {
            Some(404) => (Kind::TargetMissing, "is not there"),
            Some(401) => (Kind::SignIn, "does not accept the credentials"),
            Some(403) => (Kind::Forbidden, "may not be used"),
            _ => (otherwise, "failed"),
        },
    };
    let error = Error::new(kind, format!("{} {message}", at.url)).because(without_secrets(&chain(e), at)).during(operation);
    match kind {
        Kind::TargetMissing => error.help("create the bucket or container; Lakeport does not"),
        Kind::SignIn => error.help("give credentials in the variables that cloud tools read: AWS_…, GOOGLE_…, AZURE_…"),
        Kind::Forbidden => error.help("the credentials need the rights to put, get and list objects there"),
        _ => error,
    }
}

/// The HTTP status that an error of a store was made of.
///
/// The library keeps its kind of error only where one object is asked for; the failure of a listing is generic, and its
/// status stands in the text alone.
#[must_use]
pub fn status_of(e: &object_store::Error) -> Option<u16> {
    let text = chain(e);
    let (_, rest) = text.split_once("non-2xx status code: ")?;
    rest.get(..3)?.parse().ok()
}

fn chain(e: &object_store::Error) -> String {
    let mut text = e.to_string();
    let mut next = std::error::Error::source(e);
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

/// Takes out every value of an option that is a secret, and signatures in URLs.
#[must_use]
pub fn without_secrets(text: &str, at: &Location) -> String {
    const SECRET: [&str; 5] = ["secret", "key", "token", "sas", "password"];
    let mut text = text.to_owned();
    for (key, value) in options(at) {
        // An id is no secret and helps; what is shorter than this is a flag.
        if value.len() >= 6 && SECRET.iter().any(|s| key.contains(s)) && !key.ends_with("_id") {
            text = text.replace(&value, "[redacted]");
        }
    }
    for mark in ["sig=", "Signature="] {
        let mut from = 0;
        while let Some(found) = text.get(from..).and_then(|t| t.find(mark)) {
            let start = from + found + mark.len();
            let end = text.get(start..).and_then(|t| t.find(['&', ' ', ')', '"'])).map_or(text.len(), |l| start + l);
            text.replace_range(start..end, "[redacted]");
            from = start;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_and_urls_may_hold_odd_names() {
        let mut at = Location::new("s3://bucket/gold/a b#1?100%25~ü.hyper");
        at.options.insert("aws_region".into(), "eu-central-1".into());
        let (_, path) = object_store_for(&at).unwrap();
        assert_eq!(path.filename().unwrap(), "a b#1?100%25~ü.hyper");
        at.options.insert("aws_regoin".into(), "x".into());
        assert_eq!(object_store_for(&at).unwrap_err().kind(), Kind::UnknownKey);
        assert_eq!(object_store_for(&Location::new("nope://x/y")).unwrap_err().kind(), Kind::ConfigInvalid);
    }

    #[test]
    fn parts_are_few_enough_at_any_size() {
        assert_eq!(part_size(1), PART);
        assert_eq!(part_size(80_000_000_000), PART);
        for bytes in [90_000_000_000u64, 5_000_000_000_000] {
            assert!(bytes.div_ceil(part_size(bytes)) <= MAX_PARTS);
        }
    }

    #[tokio::test]
    async fn large_files_go_in_parts_and_nothing_stays_of_a_torn_one() {
        let store = object_store::memory::InMemory::new();
        let (path, to) = (Path::from("gold/x.hyper"), Location::new("memory:///gold/x.hyper"));
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("x.hyper");
        let bytes: Vec<u8> = (0..20_000_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        std::fs::write(&from, &bytes).unwrap();
        let receipt = put_file(&store, &path, &from, &to, Mode::Create, &|_, _| {}).await.unwrap();
        assert_eq!(receipt.way, "3 parts of 8.0 MiB");
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), bytes);
        let again = put_file(&store, &path, &from, &to, Mode::Create, &|_, _| {}).await.unwrap_err();
        assert_eq!(again.kind(), Kind::TargetExists);
        // The file shrinks while its first parts are on their way.
        let shrink = |done: u64, _: u64| {
            if done > 0 {
                std::fs::OpenOptions::new().write(true).open(&from).unwrap().set_len(100).unwrap();
            }
        };
        let mut longer = bytes.clone();
        longer.extend(vec![1; 40_000_000]);
        std::fs::write(&from, &longer).unwrap();
        let torn = put_file(&store, &path, &from, &to, Mode::Full, &shrink).await.unwrap_err();
        assert_eq!(torn.kind(), Kind::SourceUnreadable);
        assert_eq!(store.head(&path).await.unwrap().size, 20_000_000, "the old object is still there");
    }

    #[test]
    fn secrets_leave_the_texts_of_errors() {
        let mut at = Location::new("az://c/x");
        at.options.insert("azure_storage_account_key".into(), "hunter2hunter2".into());
        let shown = without_secrets("PUT https://a/x?sv=1&sig=abc%3D&x=1 with hunter2hunter2", &at);
        assert_eq!(shown, "PUT https://a/x?sv=1&sig=[redacted]&x=1 with [redacted]");
    }
}
