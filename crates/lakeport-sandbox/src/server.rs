//! Which call goes to which endpoint.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};

use crate::query::Query;
use crate::refusal::{Refusal, xml_response, xml_response_of};
use crate::sessions::TOKEN_HEADER;
use crate::xml::Element;
use crate::{App, datasources, gate, jobs, page, projects, publish, sessions, uploads};

/// The newest API version the sandbox speaks, and the product it belongs to.
const API_VERSION: &str = "3.29";
const PRODUCT_VERSION: &str = "2026.2.0";
const BUILD: &str = "20262.26.0701.0000";
/// The most bytes of a request that is XML alone.
const MAX_XML: usize = 1024 * 1024;

type Shared = State<Arc<App>>;
/// API version and site of a path, which the gate has checked.
type InSite = Path<(String, String)>;
/// The same with the id of what is asked for.
type Item = Path<(String, String, String)>;

/// All endpoints behind the gate.
pub(crate) fn router(app: Arc<App>) -> Router {
    let site = "/api/{version}/sites/{site}";
    Router::new()
        .route("/api/{version}/serverInfo", get(async || server_info()))
        .route("/api/{version}/auth/signin", post(sign_in))
        .route(
            "/api/{version}/auth/signout",
            post(async |State(app): Shared, headers: HeaderMap| sessions::sign_out(&app, token(&headers))),
        )
        .route(
            "/api/{version}/sites",
            get(async |State(app): Shared, RawQuery(raw): RawQuery| sites(&app, &Query::parse(raw.as_deref()))),
        )
        .route(site, get(async |State(app): Shared| xml_response(StatusCode::OK, &site_element(&app))))
        .route(
            &format!("{site}/projects"),
            get(async |State(app): Shared, RawQuery(raw): RawQuery| projects::list(&app, &Query::parse(raw.as_deref())))
                .post(create_project),
        )
        .route(
            &format!("{site}/projects/{{id}}"),
            axum::routing::delete(async |State(app): Shared, Path((_, _, id)): Item| projects::delete(&app, &id)),
        )
        .route(
            &format!("{site}/datasources"),
            get(async |State(app): Shared, RawQuery(raw): RawQuery| datasources::list(&app, &Query::parse(raw.as_deref())))
                .post(publish_datasource),
        )
        .route(
            &format!("{site}/datasources/{{id}}"),
            get(async |State(app): Shared, Path((_, _, id)): Item| datasources::get(&app, &id))
                .delete(async |State(app): Shared, Path((_, _, id)): Item| datasources::delete(&app, &id)),
        )
        .route(
            &format!("{site}/datasources/{{id}}/content"),
            get(async |State(app): Shared, Path((_, _, id)): Item| datasources::download(&app, &id).await),
        )
        .route(&format!("{site}/fileUploads"), post(async |State(app): Shared, Path(_): InSite| uploads::initiate(&app)))
        .route(&format!("{site}/fileUploads/{{id}}"), put(append_block))
        .route(&format!("{site}/jobs/{{id}}"), get(async |State(app): Shared, Path((_, _, id)): Item| jobs::get(&app, &id)))
        .route("/", get(async |State(app): Shared| page::overview(&app)))
        .route("/datasources/{id}", get(async |State(app): Shared, Path(id): Path<String>| page::datasource(&app, &id).await))
        .route("/sandbox/datasources", get(async |State(app): Shared| page::json(&app)))
        .route(
            "/sandbox/datasources/{id}/file",
            get(async |State(app): Shared, Path(id): Path<String>| datasources::download(&app, &id).await),
        )
        .fallback(async |request: axum::extract::Request| {
            Refusal::new(404_003, "Resource Not Found", format!("there is no endpoint {}", request.uri().path()))
        })
        .method_not_allowed_fallback(async |request: axum::extract::Request| {
            let detail = format!("{} is not for {}", request.uri().path(), request.method());
            Refusal::new(405_000, "Invalid Request Method", detail)
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&app), gate::pass))
        .with_state(app)
}

fn server_info() -> Response {
    let info = Element::new("serverInfo")
        .child(Element::new("productVersion").attr("build", BUILD).text(PRODUCT_VERSION))
        .child(Element::new("restApiVersion").text(API_VERSION));
    xml_response(StatusCode::OK, &info)
}

async fn sign_in(State(app): Shared, body: Body) -> Result<Response, Refusal> {
    sessions::sign_in(&app, &small(body).await?)
}

async fn create_project(State(app): Shared, body: Body) -> Result<Response, Refusal> {
    projects::create(&app, &small(body).await?)
}

async fn publish_datasource(
    State(app): Shared,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    Box::pin(publish::publish(&app, &Query::parse(raw.as_deref()), content_type(&headers), body)).await
}

async fn append_block(State(app): Shared, Path((_, _, id)): Item, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    Box::pin(uploads::append(&app, &id, content_type(&headers), body)).await
}

fn sites(app: &App, query: &Query) -> Result<Response, Refusal> {
    let page = query.page()?;
    let all = [site_element(app)];
    let answer = [page.element(all.len()), Element::new("sites").children(page.of(&all).iter().cloned())];
    Ok(xml_response_of(StatusCode::OK, &answer))
}

fn site_element(app: &App) -> Element {
    let site = app.store.read(|index| index.site.clone());
    Element::new("site").attr("id", site.id).attr("name", site.name).attr("contentUrl", site.content_url).attr("state", "Active")
}

/// Reads a body that is XML alone.
async fn small(body: Body) -> Result<bytes::Bytes, Refusal> {
    axum::body::to_bytes(body, MAX_XML).await.map_err(|e| Refusal::bad_request(format!("the request body cannot be read: {e}")))
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(TOKEN_HEADER).and_then(|v| v.to_str().ok())
}

/// The answer of a page that does not exist.
pub(crate) fn not_found(html: String) -> Response {
    (StatusCode::NOT_FOUND, axum::response::Html(html)).into_response()
}
