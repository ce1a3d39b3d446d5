//! What the fuzz targets reach of this target: answers of servers, and the words for a place.

use std::fmt::Write as _;

use super::datasource::DataSource;
use super::fault;
use super::http::title;
use super::job::Job;
use super::project::{Place, Project, show_path};
use super::xml::{self, Element};
use crate::fuzzing::speaks;

/// The statuses an answer may come with; its first byte chooses.
const STATUSES: [u16; 16] = [200, 201, 202, 204, 301, 400, 401, 403, 404, 408, 409, 413, 429, 500, 503, 504];

/// One answer of a server: a byte that chooses the status, and a body.
///
/// # Panics
/// When what was read does not survive being written and read again, or a failure is not told in words.
pub fn answer(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    let status = STATUSES.get(usize::from(*first) % STATUSES.len()).copied().unwrap_or(200);
    let text = String::from_utf8_lossy(body);
    let _ = title(&text);
    let failed = fault::of_answer("ask", "tableau.acme.com", status, body, "something else");
    speaks(&failed.error);
    assert_eq!(failed.status(), status);
    let _ = (failed.not_taken(), failed.passing(), failed.ambiguous(), failed.too_big(), failed.reason());
    let Ok(root) = xml::parse(body) else { return };
    walk(&root);
    let _ = xml::total_available(&root);
    if let Some(written) = write(&root) {
        let again = xml::parse(written.as_bytes());
        assert!(again.as_ref().is_ok_and(|again| same(again, &root)), "written as {written}, read as {again:?}");
    }
}

/// Reads every element as everything it might be.
fn walk(element: &Element) {
    let _ = (DataSource::read(element).map(|d| d.details()), Job::read(element), Project::read(element));
    element.children.iter().for_each(walk);
}

/// Writes an element with our own writer; `None` where its names are none of ours.
fn write(element: &Element) -> Option<String> {
    let plain = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic());
    let mut out = String::new();
    if !plain(&element.name) {
        return None;
    }
    write!(out, "<{}", element.name).ok()?;
    for (number, (name, value)) in element.attributes().enumerate() {
        // Two prefixes may have told one name twice.
        if !plain(name) || element.attributes().take(number).any(|(other, _)| other == name) {
            return None;
        }
        out.push_str(&xml::attribute(name, value).ok()?);
    }
    out.push('>');
    for child in &element.children {
        out.push_str(&write(child)?);
    }
    write!(out, "</{}>", element.name).ok()?;
    Some(out)
}

/// Whether two elements are alike but for their text, which our requests never carry.
fn same(a: &Element, b: &Element) -> bool {
    a.name == b.name
        && a.attributes().eq(b.attributes())
        && a.children.len() == b.children.len()
        && a.children.iter().zip(&b.children).all(|(a, b)| same(a, b))
}

/// The words for a project.
///
/// # Panics
/// When a path is another one after it was written down and read again.
pub fn place(text: &str) {
    match Place::parse(Some(text)) {
        Ok(Place::Path(read)) => levels(&read),
        Ok(place) => assert!(!place.show().is_empty()),
        Err(e) => speaks(&e),
    }
}

/// The names of a path, from the root down.
pub(crate) fn levels(levels: &[String]) {
    if levels.iter().any(|l| l.trim().is_empty()) {
        return;
    }
    let written = show_path(levels);
    assert_eq!(Place::parse(Some(&written)).ok(), Some(Place::Path(levels.to_vec())), "written as `{written}`");
}
