//! Which call goes to which endpoint.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post, put};

use crate::index::{Rule, Site};
use crate::query::Query;
use crate::refusal::{Refusal, xml_response, xml_response_of};
use crate::sessions::TOKEN_HEADER;
use crate::xml::Element;
use crate::{
    App, admin, attributes, change, datasources, gate, jobs, page, permissions, projects, publish, revisions, sessions, uploads,
    warnings,
};

/// The newest API version the sandbox speaks, and the product it belongs to.
const API_VERSION: &str = "3.29";
const PRODUCT_VERSION: &str = "2026.2.0";
const BUILD: &str = "20262.26.0701.0000";
/// The most bytes of a request that is XML alone.
const MAX_XML: usize = 1024 * 1024;
/// Where everything inside a site is.
const SITE: &str = "/api/{version}/sites/{site}";

type Shared = State<Arc<App>>;
/// API version and site of a path, which the gate has checked.
type InSite = Path<(String, String)>;
/// The same with the id of what is asked for.
type Item = Path<(String, String, String)>;

/// The same with a further word.
type Inside = Path<(String, String, String, String)>;

/// All endpoints behind the gate.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .merge(sign_in_routes())
        .merge(content_routes())
        .merge(datasource_routes())
        .merge(own_routes())
        .fallback(async |request: Request| {
            Refusal::new(404_003, "Resource Not Found", format!("there is no endpoint {}", request.uri().path()))
        })
        .method_not_allowed_fallback(async |request: Request| {
            let detail = format!("{} is not for {}", request.uri().path(), request.method());
            Refusal::new(405_000, "Invalid Request Method", detail)
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&app), gate::pass))
        .with_state(app)
}

/// Version, sign-in, sites.
fn sign_in_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/{version}/serverInfo", get(async || server_info()))
        .route(
            "/api/{version}/auth/signin",
            post(async |State(app): Shared, body: Body| sessions::sign_in(&app, &small(body).await?)),
        )
        .route(
            "/api/{version}/auth/switchSite",
            post(async |State(app): Shared, headers: HeaderMap, body: Body| {
                sessions::switch_site(&app, token(&headers), &small(body).await?)
            }),
        )
        .route(
            "/api/{version}/auth/signout",
            post(async |State(app): Shared, headers: HeaderMap| sessions::sign_out(&app, token(&headers))),
        )
        .route(
            "/api/{version}/sites",
            get(async |State(app): Shared, RawQuery(raw): RawQuery| sites(&app, &Query::parse(raw.as_deref()))),
        )
        .route(SITE, get(async |State(app): Shared, Path((_, site)): InSite| site_of(&app, &site)))
}

/// Projects, users, groups, uploads, jobs.
fn content_routes() -> Router<Arc<App>> {
    Router::new()
        .route(
            &format!("{SITE}/projects"),
            get(async |State(app): Shared, Path((_, site)): InSite, RawQuery(raw): RawQuery| {
                projects::list(&app, &site, &Query::parse(raw.as_deref()))
            })
            .post(async |State(app): Shared, Path((_, site)): InSite, body: Body| {
                projects::create(&app, &site, &small(body).await?)
            }),
        )
        .route(
            &format!("{SITE}/projects/{{id}}"),
            delete(async |State(app): Shared, Path((_, _, id)): Item| projects::delete(&app, &id)),
        )
        .route(
            &format!("{SITE}/users"),
            get(async |State(app): Shared, RawQuery(raw): RawQuery| attributes::users(&app, &Query::parse(raw.as_deref()))),
        )
        .route(
            &format!("{SITE}/users/{{id}}"),
            get(async |State(app): Shared, Path((_, _, id)): Item| attributes::one_user(&app, &id)),
        )
        .route(
            &format!("{SITE}/groups"),
            get(async |State(app): Shared, RawQuery(raw): RawQuery| attributes::groups(&app, &Query::parse(raw.as_deref()))),
        )
        .route(&format!("{SITE}/fileUploads"), post(async |State(app): Shared, Path(_): InSite| uploads::initiate(&app)))
        .route(&format!("{SITE}/fileUploads/{{id}}"), put(append_block))
        .route(
            &format!("{SITE}/jobs"),
            get(async |State(app): Shared, Path((_, site)): InSite, RawQuery(raw): RawQuery| {
                jobs::list(&app, &site, &Query::parse(raw.as_deref()))
            }),
        )
        .route(
            &format!("{SITE}/jobs/{{id}}"),
            get(async |State(app): Shared, Path((_, site, id)): Item| jobs::get(&app, &site, &id))
                .put(async |State(app): Shared, Path((_, site, id)): Item| jobs::refuse_cancel(&app, &site, &id)),
        )
}

/// Data sources and everything about them.
fn datasource_routes() -> Router<Arc<App>> {
    let one = format!("{SITE}/datasources/{{id}}");
    Router::new()
        .route(
            &format!("{SITE}/datasources"),
            get(async |State(app): Shared, Path((_, site)): InSite, RawQuery(raw): RawQuery| {
                datasources::list(&app, &site, &Query::parse(raw.as_deref()))
            })
            .post(publish_datasource),
        )
        .route(
            &one,
            get(async |State(app): Shared, Path((_, _, id)): Item| datasources::get(&app, &id))
                .put(async |State(app): Shared, Path((_, site, id)): Item, body: Body| {
                    attributes::update(&app, &site, &id, &small(body).await?)
                })
                .delete(async |State(app): Shared, Path((_, _, id)): Item| datasources::delete(&app, &id)),
        )
        .route(
            &format!("{one}/content"),
            get(async |State(app): Shared, Path((_, _, id)): Item| datasources::content(&app, &id).await),
        )
        .route(
            &format!("{one}/tags"),
            put(async |State(app): Shared, Path((_, _, id)): Item, body: Body| {
                attributes::add_tags(&app, &id, &small(body).await?)
            }),
        )
        .route(
            &format!("{one}/tags/{{label}}"),
            delete(async |State(app): Shared, Path((_, _, id, label)): Inside| attributes::remove_tag(&app, &id, &label)),
        )
        .route(
            &format!("{one}/permissions"),
            get(async |State(app): Shared, Path((_, _, id)): Item| permissions::list(&app, &id)).put(
                async |State(app): Shared, Path((_, _, id)): Item, body: Body| permissions::add(&app, &id, &small(body).await?),
            ),
        )
        .route(&format!("{one}/permissions/{{kind}}/{{grantee}}/{{capability}}/{{mode}}"), delete(remove_permission))
        .route(
            &format!("{one}/revisions"),
            get(async |State(app): Shared, Path((_, _, id)): Item, RawQuery(raw): RawQuery| {
                revisions::list(&app, &id, &Query::parse(raw.as_deref()))
            }),
        )
        .route(
            &format!("{one}/revisions/{{number}}"),
            delete(async |State(app): Shared, Path((_, _, id, number)): Inside| revisions::delete(&app, &id, &number)),
        )
        .route(
            &format!("{one}/revisions/{{number}}/content"),
            get(async |State(app): Shared, Path((_, _, id, number)): Inside| revisions::download(&app, &id, &number).await),
        )
        .route(
            &format!("{one}/connections"),
            get(async |State(app): Shared, Path((_, _, id)): Item| revisions::connections(&app, &id)),
        )
        .route(
            &format!("{one}/data"),
            patch(async |State(app): Shared, Path((_, site, id)): Item, request: Request| {
                change_data(app, site, id, None, request).await
            }),
        )
        .route(
            &format!("{one}/connections/{{connection}}/data"),
            patch(async |State(app): Shared, Path((_, site, id, connection)): Inside, request: Request| {
                change_data(app, site, id, Some(connection), request).await
            }),
        )
        .route(
            &format!("{SITE}/dataQualityWarnings/datasource/{{id}}"),
            get(async |State(app): Shared, Path((_, _, id)): Item| warnings::list(&app, &id))
                .post(async |State(app): Shared, Path((_, _, id)): Item, body: Body| {
                    warnings::add(&app, &id, &small(body).await?)
                })
                .put(async |State(app): Shared, Path((_, _, id)): Item, body: Body| {
                    warnings::update(&app, &id, &small(body).await?)
                })
                .delete(async |State(app): Shared, Path((_, _, id)): Item| warnings::clear(&app, &id)),
        )
}

/// The page, and what the sandbox has beyond the API.
fn own_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(async |State(app): Shared| page::overview(&app)))
        .route("/datasources/{id}", get(async |State(app): Shared, Path(id): Path<String>| page::datasource(&app, &id).await))
        .route("/sandbox/datasources", get(async |State(app): Shared| page::json(&app)))
        .route(
            "/sandbox/datasources/{id}/file",
            get(async |State(app): Shared, Path(id): Path<String>| datasources::download(&app, &id).await),
        )
        .route(
            "/sandbox/faults",
            get(async |State(app): Shared| admin::faults(&app))
                .post(async |State(app): Shared, body: Body| Ok::<_, Refusal>(admin::add_faults(&app, &small(body).await?)))
                .delete(async |State(app): Shared, RawQuery(raw): RawQuery| {
                    admin::clear_faults(&app, &Query::parse(raw.as_deref()))
                }),
        )
        .route(
            "/sandbox/calls",
            get(async |State(app): Shared| admin::calls(&app)).delete(async |State(app): Shared| admin::clear_calls(&app)),
        )
        .route(
            "/sandbox/expire",
            post(async |State(app): Shared, RawQuery(raw): RawQuery| admin::expire(&app, &Query::parse(raw.as_deref()))),
        )
        .route("/sandbox/jobs/{id}/cancel", post(async |State(app): Shared, Path(id): Path<String>| admin::cancel(&app, &id)))
}

fn server_info() -> Response {
    let info = Element::new("serverInfo")
        .child(Element::new("productVersion").attr("build", BUILD).text(PRODUCT_VERSION))
        .child(Element::new("restApiVersion").text(API_VERSION));
    xml_response(StatusCode::OK, &info)
}

async fn publish_datasource(
    State(app): Shared,
    Path((_, site)): InSite,
    RawQuery(raw): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let query = Query::parse(raw.as_deref());
    let fate = parts.extensions.get().cloned();
    Box::pin(publish::publish(&app, &site, &query, content_type(&parts.headers), fate, body)).await
}

async fn change_data(
    app: Arc<App>,
    site: String,
    id: String,
    connection: Option<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query());
    let wanted = change::Wanted {
        site,
        datasource: id,
        connection,
        request_id: parts.headers.get("requestid").and_then(|v| v.to_str().ok()).map(str::to_owned),
        upload: query.get("uploadSessionId").map(str::to_owned),
        fate: parts.extensions.get().cloned(),
    };
    change::change(&app, wanted, &small(body).await?)
}

async fn remove_permission(
    State(app): Shared,
    Path((_, _, id, kind, grantee, capability, mode)): Path<(String, String, String, String, String, String, String)>,
) -> Result<Response, Refusal> {
    let grantee_kind = kind.strip_suffix('s').unwrap_or(&kind).to_owned();
    permissions::remove(&app, &id, &Rule { grantee: grantee_kind, id: grantee, capability, mode })
}

async fn append_block(State(app): Shared, Path((_, _, id)): Item, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    Box::pin(uploads::append(&app, &id, content_type(&headers), body)).await
}

fn sites(app: &App, query: &Query) -> Result<Response, Refusal> {
    let page = query.page()?;
    let all: Vec<Element> = app.store.read(|index| index.sites().map(site_element).collect());
    let answer = [page.element(all.len()), Element::new("sites").children(page.of(&all).iter().cloned())];
    Ok(xml_response_of(StatusCode::OK, &answer))
}

fn site_of(app: &App, id: &str) -> Result<Response, Refusal> {
    let site = app.store.read(|index| index.sites().find(|site| site.id == id).map(site_element));
    let site = site.ok_or_else(|| Refusal::new(404_000, "Resource Not Found", format!("site {id} could not be found")))?;
    Ok(xml_response(StatusCode::OK, &site))
}

fn site_element(site: &Site) -> Element {
    Element::new("site")
        .attr("id", &site.id)
        .attr("name", &site.name)
        .attr("contentUrl", &site.content_url)
        .attr("state", "Active")
}

/// Reads a body that is XML or JSON alone.
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
