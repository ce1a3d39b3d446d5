//! The page a person looks at, and the same as JSON.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::json;

use crate::extract::{PREVIEW_ROWS, Preview};
use crate::index::{Datasource, Index, Table};
use crate::refusal::with_causes;
use crate::server::not_found;
use crate::{App, time};

const STYLE: &str = include_str!("page.css");

/// `GET /`: projects as a tree, with their data sources.
pub(crate) fn overview(app: &App) -> Response {
    let body = app.store.read(|index| {
        let mut out = String::new();
        let (projects, datasources) = (index.projects.len(), index.datasources.len());
        let bytes: u64 = index.datasources.iter().map(|d| d.file.bytes).sum();
        let rows: u64 = index.datasources.iter().map(rows).sum();
        let _ = write!(
            out,
            "<h1>Lakeport sandbox</h1><p class=lead>A local stand-in for Tableau Server at <code>{}</code></p>\
             <dl class=facts><div><dt>projects</dt><dd>{projects}</dd></div><div><dt>data sources</dt><dd>{datasources}</dd></div>\
             <div><dt>rows</dt><dd>{}</dd></div><div><dt>on disk</dt><dd>{}</dd></div></dl>",
            escape(&app.url),
            grouped(rows),
            size(bytes)
        );
        out.push_str("<ul class=tree>");
        branches(&mut out, index, None);
        out.push_str("</ul>");
        if datasources == 0 {
            let token = app.options.tokens.first().map_or("", |t| t.name.as_str());
            let _ = write!(
                out,
                "<p class=empty>Nothing is published yet. Sign in with the personal access token <code>{}</code> and publish a \
                 .hyper file; it will show up here.</p>",
                escape(token)
            );
        }
        out
    });
    let body = body + &crate::activity::section(app);
    Html(document("Lakeport sandbox", &body)).into_response()
}

/// The projects below one, each with what it holds.
fn branches(out: &mut String, index: &Index, parent: Option<&str>) {
    let mut projects: Vec<_> = index.projects.iter().filter(|p| p.parent.as_deref() == parent).collect();
    projects.sort_by(|a, b| a.name.cmp(&b.name));
    for project in projects {
        let mut held: Vec<_> = index.datasources.iter().filter(|d| d.project == project.id).collect();
        held.sort_by(|a, b| a.name.cmp(&b.name));
        let _ = write!(out, "<li><span class=project>{}</span>", escape(&project.name));
        if !held.is_empty() {
            out.push_str(
                "<div class=scroll><table><thead><tr><th>data source<th class=n>rows<th class=n>tables<th class=n>size\
                 <th class=n>publishes<th>updated</thead><tbody>",
            );
            for datasource in held {
                let _ = write!(
                    out,
                    "<tr><td><a href=\"/datasources/{}\">{}</a><td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td>{}",
                    datasource.id,
                    escape(&datasource.name),
                    grouped(rows(datasource)),
                    datasource.file.tables.len(),
                    size(datasource.file.bytes),
                    datasource.publishes,
                    moment(datasource)
                );
            }
            out.push_str("</tbody></table></div>");
        }
        out.push_str("<ul>");
        branches(out, index, Some(&project.id));
        out.push_str("</ul></li>");
    }
}

/// `GET /datasources/{id}`: its tables with columns, counts and first rows.
pub(crate) async fn datasource(app: &Arc<App>, id: &str) -> Response {
    let found = app.store.read(|index| index.datasource(id).map(|d| (d.clone(), index.project_path(&d.project).join(" / "))));
    let Some((datasource, path)) = found else {
        let body = "<h1>Not here</h1><p class=lead>There is no such data source. <a href=\"/\">All data sources</a></p>";
        return not_found(document("Not here", body));
    };
    let file = app.store.file(&datasource.file.path);
    let previews = {
        let (app, tables) = (Arc::clone(app), datasource.file.tables.clone());
        let look = move || tables.iter().map(|table| app.engine.preview(&file, table)).collect::<Vec<_>>();
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    };
    let mut out = String::new();
    let _ = write!(out, "<nav><a href=\"/\">Lakeport sandbox</a> / {}</nav><h1>{}</h1>", escape(&path), escape(&datasource.name));
    if !datasource.description.is_empty() {
        let _ = write!(out, "<p class=lead>{}</p>", escape(&datasource.description));
    }
    let _ = write!(
        out,
        "<dl class=facts><div><dt>rows</dt><dd>{}</dd></div><div><dt>size</dt><dd>{}</dd></div><div><dt>publishes</dt><dd>{}</dd></div>\
         <div><dt>updated</dt><dd>{}</dd></div></dl>\
         <p class=digest>SHA-256 <code>{}</code> · <a href=\"/sandbox/datasources/{}/file\">download the .hyper file</a></p>",
        grouped(rows(&datasource)),
        size(datasource.file.bytes),
        datasource.publishes,
        moment(&datasource),
        datasource.file.sha256,
        datasource.id
    );
    let mut previews = previews.into_iter();
    for table in &datasource.file.tables {
        table_section(&mut out, table);
        match previews.next() {
            Some(Ok(preview)) => preview_table(&mut out, table, &preview),
            Some(Err(error)) => {
                let _ = write!(out, "<p class=empty>The rows cannot be shown: {}</p>", escape(&with_causes(&error)));
            }
            None => out.push_str("<p class=empty>The rows cannot be shown.</p>"),
        }
    }
    Html(document(&datasource.name, &out)).into_response()
}

fn table_section(out: &mut String, table: &Table) {
    let _ = write!(
        out,
        "<h2>{}.{}</h2><p class=lead>{} rows, {} columns</p><details><summary>Columns</summary><div class=scroll><table><thead><tr>\
         <th class=n>#<th>name<th>type<th>may be null</thead><tbody>",
        escape(&table.schema),
        escape(&table.name),
        grouped(table.rows),
        table.columns.len()
    );
    for (i, column) in table.columns.iter().enumerate() {
        let _ = write!(
            out,
            "<tr><td class=n>{}<td>{}<td><code>{}</code><td>{}",
            i + 1,
            escape(&column.name),
            escape(&column.sql_type),
            if column.nullable { "yes" } else { "no" }
        );
    }
    out.push_str("</tbody></table></div></details>");
}

fn preview_table(out: &mut String, table: &Table, preview: &Preview) {
    if preview.rows.is_empty() {
        out.push_str("<p class=empty>No rows.</p>");
        return;
    }
    let number = |i: usize| {
        let kind = table.columns[i].sql_type.as_str();
        matches!(kind, "smallint" | "integer" | "bigint" | "double precision" | "real") || kind.starts_with("numeric")
    };
    out.push_str("<div class=scroll><table class=preview><thead><tr>");
    for (i, column) in table.columns.iter().enumerate() {
        let _ = write!(out, "<th{}>{}", if number(i) { " class=n" } else { "" }, escape(&column.name));
    }
    out.push_str("</thead><tbody>");
    for row in &preview.rows {
        out.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            let class = if number(i) { " class=n" } else { "" };
            match cell {
                Some(text) => {
                    let _ = write!(out, "<td{class}>{}", escape(text));
                }
                None => {
                    let _ = write!(out, "<td{class}><span class=null>null</span>");
                }
            }
        }
    }
    out.push_str("</tbody></table></div>");
    if u64::try_from(PREVIEW_ROWS).is_ok_and(|shown| table.rows > shown) {
        let _ = write!(out, "<p class=more>The first {PREVIEW_ROWS} of {} rows</p>", grouped(table.rows));
    }
}

/// `GET /sandbox/datasources`: what tests compare with.
pub(crate) fn json(app: &App) -> Response {
    let list = app.store.read(|index| {
        index
            .datasources
            .iter()
            .map(|d| {
                json!({
                    "id": d.id,
                    "name": d.name,
                    "project": index.project_path(&d.project),
                    "description": d.description,
                    "certified": d.certified,
                    "tags": d.tags,
                    "bytes": d.file.bytes,
                    "sha256": d.file.sha256,
                    "publishes": d.publishes,
                    "changes": d.changes,
                    "created_at": d.created_at,
                    "updated_at": d.updated_at,
                    "tables": d.file.tables,
                })
            })
            .collect::<Vec<_>>()
    });
    let mut response = json!({ "datasources": list }).to_string().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn rows(datasource: &Datasource) -> u64 {
    datasource.file.tables.iter().map(|t| t.rows).sum()
}

fn moment(datasource: &Datasource) -> String {
    let iso = time(datasource.updated_at);
    format!("<time datetime=\"{iso}\">{}</time>", datasource.updated_at.format("%Y-%m-%d %H:%M:%S UTC"))
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>",
        escape(title)
    )
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size with three digits or so.
fn size(bytes: u64) -> String {
    let mut unit = 1_u64;
    for name in ["bytes", "KiB", "MiB", "GiB"] {
        if bytes < unit.saturating_mul(1024) || name == "GiB" {
            let tenths = bytes.saturating_mul(10) / unit;
            return if unit == 1 || tenths >= 1000 {
                format!("{} {name}", grouped(tenths / 10))
            } else {
                format!("{}.{} {name}", tenths / 10, tenths % 10)
            };
        }
        unit *= 1024;
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1000, 336_776, 1_234_567].map(grouped), ["0", "999", "1,000", "336,776", "1,234,567"]);
        assert_eq!(
            [0, 1023, 1024, 196_608, 64 << 20, 5 << 30].map(size),
            ["0 bytes", "1,023 bytes", "1.0 KiB", "192 KiB", "64.0 MiB", "5.0 GiB"]
        );
    }

    #[test]
    fn names_cannot_break_the_page() {
        assert_eq!(escape("<script>\"&"), "&lt;script&gt;&quot;&amp;");
    }
}
