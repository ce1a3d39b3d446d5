//! Data sources that are published: list, get, delete, download.

use std::path::Path;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::AsyncReadExt;

use crate::index::{Datasource, Index, StoredFile};
use crate::query::{Condition, Query};
use crate::refusal::{Refusal, xml_response, xml_response_of};
use crate::xml::Element;
use crate::{App, package, time};

/// How much of a download is read at a time.
const DOWNLOAD_BUFFER: usize = 256 * 1024;
const MIB: u64 = 1024 * 1024;

/// `GET datasources`.
pub(crate) fn list(app: &App, site: &str, query: &Query) -> Result<Response, Refusal> {
    let page = query.page()?;
    let filter = query.filter()?;
    app.store.read(|index| {
        let mut found = Vec::new();
        for datasource in index.datasources.iter().filter(|d| index.site_of(&d.project) == Some(site)) {
            if fulfils(datasource, &filter)? {
                found.push(datasource);
            }
        }
        let datasources = page.of(&found).iter().map(|datasource| element(app, index, datasource));
        let answer = [page.element(found.len()), Element::new("datasources").children(datasources)];
        Ok(xml_response_of(StatusCode::OK, &answer))
    })
}

fn fulfils(datasource: &Datasource, filter: &[Condition]) -> Result<bool, Refusal> {
    for condition in filter {
        let holds = match condition.field.as_str() {
            "name" => condition.holds(&datasource.name)?,
            "type" => condition.holds("hyper")?,
            _ => return Err(condition.unknown_field()),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `GET datasources/{id}`.
pub(crate) fn get(app: &App, id: &str) -> Result<Response, Refusal> {
    app.store.read(|index| {
        let datasource = index.datasource(id).ok_or_else(|| Refusal::no_datasource(id))?;
        Ok(xml_response(StatusCode::OK, &element(app, index, datasource)))
    })
}

/// `DELETE datasources/{id}`.
pub(crate) fn delete(app: &App, id: &str) -> Result<Response, Refusal> {
    let files = app.store.change(|index| {
        let datasource = index.datasource(id).ok_or_else(|| Refusal::no_datasource(id))?;
        let files: Vec<String> = datasource.files().map(str::to_owned).collect();
        index.datasources.retain(|d| d.id != id);
        Ok(files)
    })?;
    for file in files {
        app.store.discard(&file);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET datasources/{id}/content`, as a package where that is set.
pub(crate) async fn content(app: &App, id: &str) -> Result<Response, Refusal> {
    if !app.options.packages {
        return download(app, id).await;
    }
    let datasource = find(app, id)?;
    let (file, name) = (app.store.file(&datasource.file.path), plain(&datasource.name));
    let packed = app.store.staging()?;
    let (packed, bytes) = tokio::task::spawn_blocking(move || package::pack(&file, &name, &packed).map(|bytes| (packed, bytes)))
        .await
        .map_err(|e| Refusal::internal(format!("packing broke down: {e}")))??;
    // Once it is open its name is needed no more.
    let body = open(&packed).await?;
    Ok(attachment(&datasource.name, "tdsx", bytes, body))
}

/// The page's own download: the stored bytes, streamed.
pub(crate) async fn download(app: &App, id: &str) -> Result<Response, Refusal> {
    let datasource = find(app, id)?;
    serve(app, &datasource, &datasource.file).await
}

/// Streams a file of a data source.
pub(crate) async fn serve(app: &App, datasource: &Datasource, stored: &StoredFile) -> Result<Response, Refusal> {
    let body = open(&app.store.file(&stored.path)).await?;
    Ok(attachment(&datasource.name, "hyper", stored.bytes, body))
}

fn find(app: &App, id: &str) -> Result<Datasource, Refusal> {
    app.store.read(|index| index.datasource(id).cloned()).ok_or_else(|| Refusal::no_datasource(id))
}

fn attachment(name: &str, ending: &str, bytes: u64, body: Body) -> Response {
    let (plain, encoded) = (plain(name), utf8_percent_encode(name, NON_ALPHANUMERIC));
    let disposition = format!("name=\"tableau_datasource\"; filename=\"{plain}.{ending}\"; filename*=UTF-8''{encoded}.{ending}");
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    response
}

fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == ' ' { c } else { '_' }).collect()
}

async fn open(path: &Path) -> Result<Body, Refusal> {
    let file = tokio::fs::File::open(path).await?;
    Ok(Body::from_stream(futures::stream::try_unfold(file, |mut file| async move {
        let mut buffer = BytesMut::with_capacity(DOWNLOAD_BUFFER);
        let read = file.read_buf(&mut buffer).await?;
        Ok::<_, std::io::Error>((read > 0).then(|| (buffer.freeze(), file)))
    })))
}

/// What a server tells about a data source; row counts are not among it.
pub(crate) fn element(app: &App, index: &Index, datasource: &Datasource) -> Element {
    let project = index.project(&datasource.project).map_or("", |p| p.name.as_str());
    Element::new("datasource")
        .attr("id", &datasource.id)
        .attr("name", &datasource.name)
        .attr("contentUrl", &datasource.content_url)
        .attr("type", "hyper")
        .attr("description", &datasource.description)
        .attr("createdAt", time(datasource.created_at))
        .attr("updatedAt", time(datasource.updated_at))
        .attr("encryptExtracts", "false")
        .attr("hasExtracts", "true")
        .attr("isCertified", datasource.certified.to_string())
        .attr("certificationNote", &datasource.certification_note)
        .attr("useRemoteQueryAgent", datasource.use_remote_query_agent.to_string())
        .attr("size", datasource.file.bytes.div_ceil(MIB).to_string())
        .attr("webpageUrl", format!("{}/datasources/{}", app.url, datasource.id))
        .child(Element::new("project").attr("id", &datasource.project).attr("name", project))
        .child(Element::new("owner").attr("id", datasource.owner.as_ref().unwrap_or(&index.user.id)))
        .child(crate::attributes::tags_element(&datasource.tags))
}
