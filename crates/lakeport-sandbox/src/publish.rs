//! Publishing: a file, a name and a project become a data source.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::Utc;
use lakeport::error::Kind;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::index::{Datasource, Index, Revision, StoredFile, Table, new_id};
use crate::inject::Fate;
use crate::jobs::Start;
use crate::multipart::{self, Malformed, Multipart};
use crate::query::Query;
use crate::refusal::{Refusal, with_causes, xml_response};
use crate::uploads::{Arrived, MAX_BLOCK};
use crate::{App, datasources, jobs, model, xml};

/// The most bytes of the XML part.
const MAX_PAYLOAD: usize = 1024 * 1024;
/// What a published data source may contain, by the official schema; anything else is refused as servers refuse it.
const PAYLOAD_CHILDREN: [&str; 7] =
    ["connectionCredentials", "site", "project", "location", "owner", "tags", "parentDataSourceUrls"];

/// What happens to a data source that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Create,
    /// `overwrite` and `replace`, whose difference on a real server is not known.
    Overwrite,
    Append,
}

/// What the query of a publish says.
#[derive(Debug)]
struct How {
    mode: Mode,
    as_job: bool,
    upload: Option<String>,
}

/// What the XML of a publish says.
#[derive(Debug, Clone)]
struct What {
    name: String,
    project: String,
    description: String,
    certified: bool,
    certification_note: String,
    use_remote_query_agent: bool,
    tags: BTreeSet<String>,
}

/// `POST datasources`.
pub(crate) async fn publish(
    app: &Arc<App>,
    site: &str,
    query: &Query,
    content_type: &str,
    fate: Option<Fate>,
    body: Body,
) -> Result<Response, Refusal> {
    let mut stream = body.into_data_stream();
    let begun = how(query).and_then(|how| {
        how.upload.as_deref().map_or(Ok(()), |id| app.uploads.check(id))?;
        let boundary =
            multipart::boundary(content_type).map_err(|e| Refusal::new(415_000, "Unsupported Media Type", e.to_string()))?;
        Ok((how, boundary))
    });
    let (how, boundary) = match begun {
        Ok(begun) => begun,
        Err(refusal) => {
            multipart::drain(&mut stream).await;
            return Err(refusal);
        }
    };
    let mut parts = Multipart::new(&boundary, stream);
    let received = receive(app, &mut parts).await;
    if received.is_err() {
        parts.drain().await;
    }
    let (payload, file) = received?;
    let what = app.store.read(|index| {
        let what = what(index, site, &payload)?;
        permitted(index, how.mode, &what).map(|_| what)
    })?;
    let file = match how.upload.as_deref() {
        Some(id) => app.uploads.finish(id, app.store.staging()?)?,
        None => file.ok_or_else(Refusal::no_file)?,
    };
    if how.as_job {
        let app = Arc::clone(app);
        let work = {
            let app = Arc::clone(&app);
            async move { commit(&app, how.mode, what, file).await.map(|_| ()) }
        };
        return Ok(xml_response(
            StatusCode::ACCEPTED,
            &jobs::start(&app, Start { kind: "PublishDatasource", site, about: None, fate }, work),
        ));
    }
    let published = Box::pin(commit(app, how.mode, what, file)).await?;
    Ok(xml_response(StatusCode::CREATED, &app.store.read(|index| datasources::element(app, index, &published))))
}

fn how(query: &Query) -> Result<How, Refusal> {
    let (overwrite, append, replace) = (query.flag("overwrite")?, query.flag("append")?, query.flag("replace")?);
    let mode = match (overwrite || replace, append) {
        (true, true) => return Err(Refusal::bad_flag("append excludes overwrite and replace")),
        (true, false) => Mode::Overwrite,
        (false, true) => Mode::Append,
        (false, false) => Mode::Create,
    };
    let kind = query.get("datasourceType").unwrap_or("hyper");
    if mode == Mode::Append && !matches!(kind, "hyper" | "tde") {
        return Err(Refusal::new(400_054, "Bad Request", format!("rows can only be appended to extracts, not to {kind}")));
    }
    if kind != "hyper" {
        return Err(Refusal::unpublishable(format!("the sandbox opens .hyper files only, not {kind}")));
    }
    Ok(How { mode, as_job: query.flag("asJob")?, upload: query.get("uploadSessionId").map(str::to_owned) })
}

/// Reads both parts, in whichever order they come; the file goes to disk as it arrives.
async fn receive<S, E>(app: &App, parts: &mut Multipart<S>) -> Result<(Vec<u8>, Option<Arrived>), Refusal>
where
    S: futures::Stream<Item = Result<bytes::Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let broken = |e: Malformed| Refusal::bad_request(e.to_string());
    let (mut payload, mut file) = (None, None);
    while let Some(part) = parts.next().await.map_err(broken)? {
        match part.name.as_str() {
            "request_payload" => {
                let mut xml = Vec::new();
                while let Some(chunk) = parts.chunk().await.map_err(broken)? {
                    if xml.len() + chunk.len() > MAX_PAYLOAD {
                        return Err(Refusal::too_large(format!("request_payload has at most {MAX_PAYLOAD} bytes")));
                    }
                    xml.extend_from_slice(&chunk);
                }
                payload = Some(xml);
            }
            "tableau_datasource" => {
                tracing::trace!(file_name = part.file_name, "file part");
                let path = app.store.staging()?;
                let mut out = tokio::fs::File::create(&path).await?;
                let mut bytes = 0_u64;
                while let Some(chunk) = parts.chunk().await.map_err(broken)? {
                    bytes += chunk.len() as u64;
                    if bytes > MAX_BLOCK {
                        return Err(Refusal::too_large(format!(
                            "a file of more than {MAX_BLOCK} bytes needs an upload session (fileUploads)"
                        )));
                    }
                    out.write_all(&chunk).await?;
                }
                out.flush().await?;
                file = Some(Arrived { path, bytes });
            }
            _ => {}
        }
    }
    let payload = payload.ok_or_else(|| Refusal::bad_request("the part request_payload is missing"))?;
    Ok((payload, file))
}

fn what(index: &Index, site: &str, payload: &[u8]) -> Result<What, Refusal> {
    let request = xml::request(payload).map_err(Refusal::bad_request)?;
    let wanted = request.find("datasource").ok_or_else(|| Refusal::bad_request("the element datasource is missing"))?;
    if let Some(unknown) = wanted.all().iter().find(|c| !PAYLOAD_CHILDREN.contains(&c.name())) {
        return Err(Refusal::bad_request(format!("unexpected element {}", unknown.name())));
    }
    let name =
        wanted.get("name").filter(|n| !n.trim().is_empty()).ok_or_else(|| Refusal::bad_request("a data source needs a name"))?;
    let project = match wanted.find("project").and_then(|p| p.get("id")) {
        Some(id) => index.project(id).filter(|p| p.site == site).ok_or_else(|| Refusal::no_project(id))?,
        None => index.default_project(site).ok_or_else(|| Refusal::no_project(crate::index::DEFAULT_PROJECT))?,
    };
    // The official client spells booleans `True`; servers take it.
    let flag = |name: &str| wanted.get(name).is_some_and(|v| v.eq_ignore_ascii_case("true"));
    Ok(What {
        name: name.to_owned(),
        project: project.id.clone(),
        description: wanted.get("description").unwrap_or_default().to_owned(),
        certified: flag("isCertified"),
        certification_note: wanted.get("certificationNote").unwrap_or_default().to_owned(),
        use_remote_query_agent: flag("useRemoteQueryAgent"),
        tags: crate::attributes::tags(wanted),
    })
}

/// Whether this publish may happen now, and the data source it changes.
fn permitted(index: &Index, mode: Mode, what: &What) -> Result<Option<Datasource>, Refusal> {
    if index.project(&what.project).is_none() {
        return Err(Refusal::no_project(&what.project));
    }
    match (index.datasource_named(&what.project, &what.name), mode) {
        (Some(_), Mode::Create) => Err(Refusal::new(
            403_007,
            "Forbidden",
            format!("A data source named '{}' already exists in this project; it is overwritten only when asked to.", what.name),
        )),
        (None, Mode::Append) => Err(Refusal::no_datasource(&format!("'{}', to which rows should be appended,", what.name))),
        (found, _) => Ok(found.cloned()),
    }
}

/// Does the publish: checks the file with hyperd, puts it in place, and lets the index point to it.
async fn commit(app: &Arc<App>, mode: Mode, what: What, file: Arrived) -> Result<Datasource, Refusal> {
    let _turn = app.store.turn(&what.project, &what.name).await;
    let old = app.store.read(|index| permitted(index, mode, &what))?;
    let base = old.as_ref().filter(|_| mode == Mode::Append).map(|old| app.store.file(&old.file.path));
    let id = old.as_ref().map_or_else(new_id, |old| old.id.clone());
    let revision = old.as_ref().map_or(1, |old| old.publishes + 1);
    let stored = {
        let (app, id) = (Arc::clone(app), id.clone());
        tokio::task::spawn_blocking(move || keep(&app, base, file, &id, &revision.to_string()))
            .await
            .map_err(|e| Refusal::internal(format!("the publish broke down: {e}")))??
    };
    let path = stored.path.clone();
    let kept = app.options.revisions.max(1) - 1;
    let published = app.store.change(|index| enter(index, mode, &what, &id, revision, stored, kept));
    match published {
        Ok((published, gone)) => {
            for path in gone {
                app.store.discard(&path);
            }
            Ok(published)
        }
        Err(refusal) => {
            app.store.discard(&path);
            Err(refusal)
        }
    }
}

/// Puts a published file into the store, after hyperd has read it and, for an append, joined it with what is there.
fn keep(app: &App, base: Option<PathBuf>, file: Arrived, datasource: &str, revision: &str) -> Result<StoredFile, Refusal> {
    let tables = app.engine.inspect(&file.path).map_err(problem)?;
    if tables.is_empty() {
        return Err(Refusal::unpublishable("There was a problem publishing the file: the extract has no table"));
    }
    if tables.len() > 1 {
        let references = app.engine.references(&file.path).map_err(problem)?;
        model::ensure_tree(&tables, &references)
            .map_err(|why| Refusal::unpublishable(format!("There was a problem publishing the file: {why}")))?;
    }
    let (file, tables) = match base {
        None => (file, tables),
        Some(base) => {
            let joined = app.store.staging()?;
            let before = std::fs::copy(base, &joined)?;
            app.engine.append(&joined, &file.path).map_err(problem)?;
            let tables = app.engine.inspect(&joined).map_err(problem)?;
            let bytes = std::fs::metadata(&joined)?.len();
            tracing::debug!(before, bytes, "appended");
            (Arrived { path: joined, bytes }, tables)
        }
    };
    store(app, file, tables, datasource, revision)
}

/// Moves a file that was looked at to its place.
pub(crate) fn store(app: &App, file: Arrived, tables: Vec<Table>, datasource: &str, name: &str) -> Result<StoredFile, Refusal> {
    let mut digest = Sha256::new();
    std::io::copy(&mut std::fs::File::open(&file.path)?, &mut digest)?;
    let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let path = app.store.adopt(file.path, datasource, name)?;
    Ok(StoredFile { path, bytes: file.bytes, sha256, tables })
}

/// A file that hyperd refuses is the publisher's problem; a hyperd that is not there is the sandbox's.
fn problem(error: lakeport::Error) -> Refusal {
    match error.kind() {
        Kind::SourceUnreadable | Kind::FileRefused => {
            Refusal::unpublishable(format!("There was a problem publishing the file: {}", with_causes(&error)))
        }
        _ => error.into(),
    }
}

/// Writes a publish into the index; the state is looked at again, because projects may have been deleted meanwhile. Gives the
/// files of revisions that are more than `kept` as well, which nothing names any more.
fn enter(
    index: &mut Index,
    mode: Mode,
    what: &What,
    id: &str,
    revision: u64,
    file: StoredFile,
    kept: usize,
) -> Result<(Datasource, Vec<String>), Refusal> {
    let old = permitted(index, mode, what)?;
    let now = Utc::now();
    let mut entry = match old {
        // Deleted or moved while hyperd was reading: what was asked for no longer exists.
        Some(old) if old.id != id || old.publishes + 1 != revision => return Err(Refusal::no_datasource(id)),
        None if revision > 1 => return Err(Refusal::no_datasource(id)),
        Some(mut old) => {
            let former = Revision { number: old.publishes, published_at: old.published_at, file: Some(old.file.clone()) };
            old.older.push(former);
            // An append adds rows, and what describes the data source stays. Known of overwrites: description, certification
            // and tags are those of the new publish, even when it has none. Owner, permissions and warnings are no part of a
            // publish and stay.
            if mode != Mode::Append {
                old.description.clone_from(&what.description);
                old.certified = what.certified;
                old.certification_note.clone_from(&what.certification_note);
                old.use_remote_query_agent = what.use_remote_query_agent;
                old.tags.clone_from(&what.tags);
            }
            Datasource { updated_at: now, published_at: now, publishes: revision, changes: 0, file, ..old }
        }
        None => Datasource {
            id: id.to_owned(),
            name: what.name.clone(),
            content_url: index.free_content_url(&what.name),
            project: what.project.clone(),
            description: what.description.clone(),
            certified: what.certified,
            certification_note: what.certification_note.clone(),
            use_remote_query_agent: what.use_remote_query_agent,
            owner: None,
            tags: what.tags.clone(),
            permissions: Vec::new(),
            warnings: Vec::new(),
            connection: new_id(),
            created_at: now,
            updated_at: now,
            published_at: now,
            publishes: revision,
            changes: 0,
            file,
            older: Vec::new(),
        },
    };
    let surplus = entry.older.len().saturating_sub(kept);
    let gone = entry.older.drain(..surplus).filter_map(|r| r.file).map(|file| file.path).collect();
    match index.datasource_mut(id) {
        Some(place) => *place = entry.clone(),
        None => index.datasources.push(entry.clone()),
    }
    Ok((entry, gone))
}
