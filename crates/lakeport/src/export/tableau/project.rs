//! Projects: a path such as `Finance/Daily` to the id of its last level.
//!
//! The same name may exist under many parents, so a path is walked level by level from the root and names are compared
//! exactly, here and not on the server: filters differ in case, and a comma or colon in a name reads like their grammar.

use reqwest::Method;

use crate::error::{Error, Kind, Result};

use super::fault::Called;
use super::http::Body;
use super::retry::{Repeat, Repeats};
use super::session::{Call, Server, encode};
use super::xml::{self, Element};

/// The most the API hands out in one page.
const PAGE: usize = 1000;
/// A site has tens of thousands of entries at most; a server that never ends its pages is broken.
const MAX_PAGES: usize = 1000;
/// What stands before a project's id.
const ID: &str = "project-id:";
/// How many existing names a message lists.
const NEAREST: usize = 3;

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Project {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) parent: Option<String>,
    pub(super) description: Option<String>,
}

impl Project {
    pub(super) fn read(element: &Element) -> Option<Self> {
        Some(Self {
            id: element.told("id")?,
            name: element.attribute("name")?.to_owned(),
            parent: element.told("parentProjectId"),
            description: element.told("description"),
        })
    }
}

/// Where to publish, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The server's default project.
    Default,
    /// `project-id:LUID`.
    Id(String),
    /// The names from the root down.
    Path(Vec<String>),
}

impl Place {
    /// Reads `Finance/Daily`, `A\/B/C` or `project-id:LUID`.
    ///
    /// # Errors
    /// `ConfigInvalid` for an empty level.
    pub(super) fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text.map(str::trim).filter(|t| !t.is_empty()) else { return Ok(Self::Default) };
        if let Some(id) = text.strip_prefix(ID) {
            return Ok(Self::Id(id.trim().to_owned()));
        }
        let mut levels = vec![String::new()];
        let mut rest = text.strip_prefix('/').unwrap_or(text).chars().peekable();
        while let Some(c) = rest.next() {
            let escaped = (c == '\\').then(|| rest.next_if(|n| matches!(n, '/' | '\\'))).flatten();
            match (c, escaped) {
                (_, Some(escaped)) => levels.last_mut().unwrap_or(&mut String::new()).push(escaped),
                ('/', _) if rest.peek().is_none() => {}
                ('/', _) => levels.push(String::new()),
                _ => levels.last_mut().unwrap_or(&mut String::new()).push(c),
            }
        }
        if levels.iter().any(|l| l.trim().is_empty()) {
            return Err(Error::new(Kind::ConfigInvalid, format!("the project `{text}` has a level without a name"))
                .help("levels are separated by one slash; a slash inside a name is written \\/"));
        }
        Ok(Self::Path(levels))
    }

    /// The same in writing.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Default => "the default project".to_owned(),
            Self::Id(id) => format!("project-id:{id}"),
            Self::Path(levels) => show_path(levels),
        }
    }
}

/// Writes levels as a path that reads as these levels.
pub(super) fn show_path(levels: &[String]) -> String {
    let mut path = levels.iter().map(|l| escape(l)).collect::<Vec<_>>().join("/");
    // A slash at either end means nothing and keeps what else would be read as something else.
    if path.starts_with(char::is_whitespace) || path.starts_with(ID) {
        path.insert(0, '/');
    }
    if path.ends_with(char::is_whitespace) {
        path.push('/');
    }
    path
}

/// Writes one name so that it stays one level.
pub(super) fn escape(name: &str) -> String {
    let mut written = String::with_capacity(name.len());
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        // A backslash means itself, except before a slash or another one; at the end, a slash may follow.
        if c == '/' || (c == '\\' && rest.peek().is_none_or(|n| matches!(n, '/' | '\\'))) {
            written.push('\\');
        }
        written.push(c);
    }
    written
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resolved {
    /// To this project; `None` when the server is to choose its default, which could not be named.
    There(Option<String>),
    /// Nowhere: the levels that exist, the first one that does not, and what is there instead.
    Missing {
        /// The id of the last level that exists.
        parent: Option<String>,
        /// How many levels exist.
        found: usize,
        /// The names beside the missing one.
        siblings: Vec<String>,
    },
}

impl Server {
    /// Walks a path; creates nothing.
    pub(super) async fn resolve(&self, place: &Place, repeats: &mut Repeats) -> Result<Resolved> {
        match place {
            Place::Id(id) => Ok(Resolved::There(Some(id.clone()))),
            Place::Default => {
                let roots = self.children(None, repeats).await?;
                let default = roots.iter().find(|p| p.name == "default" || p.name == "Default");
                Ok(Resolved::There(default.map(|p| p.id.clone())))
            }
            Place::Path(levels) => self.walk(levels, repeats).await,
        }
    }

    async fn walk(&self, levels: &[String], repeats: &mut Repeats) -> Result<Resolved> {
        let mut parent: Option<String> = None;
        for (found, name) in levels.iter().enumerate() {
            match self.child(parent.as_deref(), name, repeats).await? {
                Ok(id) => parent = Some(id),
                Err(siblings) => return Ok(Resolved::Missing { parent, found, siblings }),
            }
        }
        Ok(Resolved::There(parent))
    }

    /// Finds one level below another; else the names that are there.
    async fn child(
        &self,
        parent: Option<&str>,
        name: &str,
        repeats: &mut Repeats,
    ) -> Result<std::result::Result<String, Vec<String>>> {
        let exact = |p: &&Project| p.name == name && p.parent.as_deref() == parent;
        if !name.contains([',', ':']) {
            let filter = format!("name:eq:{}", encode(name));
            let named = self.projects(Some(&filter), repeats).await.map_err(|f| f.error)?;
            if let Some(project) = only(named.iter().filter(exact), name)? {
                return Ok(Ok(project.id.clone()));
            }
        }
        // Without the filter on names too, before anything is called missing: filters read some characters their own way.
        let siblings = self.children(parent, repeats).await?;
        match only(siblings.iter().filter(exact), name)? {
            Some(project) => Ok(Ok(project.id.clone())),
            None => Ok(Err(siblings.into_iter().map(|p| p.name).collect())),
        }
    }

    /// The projects directly below one, or at the root.
    pub(super) async fn children(&self, parent: Option<&str>, repeats: &mut Repeats) -> Result<Vec<Project>> {
        let filter = parent.map(|id| format!("parentProjectId:eq:{}", encode(id)));
        let all = match self.projects(filter.as_deref(), repeats).await {
            // 2018.3 does not filter by parent.
            Err(failed) if filter.is_some() && failed.code() == 400_065 => self.projects(None, repeats).await,
            outcome => outcome,
        };
        let mut children = all.map_err(|f| f.error)?;
        children.retain(|p| p.parent.as_deref() == parent);
        Ok(children)
    }

    async fn projects(&self, filter: Option<&str>, repeats: &mut Repeats) -> Called<Vec<Project>> {
        self.pages("list projects", "/projects", filter, "project", Project::read, repeats).await
    }

    /// Reads all pages of a list.
    pub(super) async fn pages<T>(
        &self,
        what: &'static str,
        path: &str,
        filter: Option<&str>,
        entry: &str,
        read: impl Fn(&Element) -> Option<T>,
        repeats: &mut Repeats,
    ) -> Called<Vec<T>> {
        let filter = filter.map(|f| format!("&filter={f}")).unwrap_or_default();
        let mut all = Vec::new();
        let mut seen = 0;
        for page in 1..=MAX_PAGES {
            let call = Call::get(what, format!("{path}?pageSize={PAGE}&pageNumber={page}{filter}"));
            let answer = self.call(&call, Repeat::Harmless, repeats).await?;
            let list = answer.root.children.iter().find(|c| c.name != "pagination");
            let before = seen;
            for element in list.into_iter().flat_map(|l| l.children(entry)) {
                seen += 1;
                all.extend(read(element));
            }
            let total = xml::total_available(&answer.root).unwrap_or(0);
            if seen == before || u64::try_from(seen).unwrap_or(u64::MAX) >= total {
                break;
            }
        }
        Ok(all)
    }

    /// Walks a path and creates what is missing, if that is wanted; the id, or `None` for a default without a name.
    pub(super) async fn project(&self, place: &Place, repeats: &mut Repeats) -> Result<Option<String>> {
        let (mut parent, found, siblings) = match self.resolve(place, repeats).await? {
            Resolved::There(id) => return Ok(id),
            Resolved::Missing { parent, found, siblings } => (parent, found, siblings),
        };
        let Place::Path(levels) = place else { return Ok(None) };
        if !self.env.create_project {
            return Err(missing(levels, found, &siblings));
        }
        for name in levels.iter().skip(found) {
            parent = Some(self.create_project(parent.as_deref(), name, repeats).await?);
        }
        Ok(parent)
    }

    async fn create_project(&self, parent: Option<&str>, name: &str, repeats: &mut Repeats) -> Result<String> {
        let body = Body::Xml(xml::create_project(name, parent)?);
        let call = Call { method: Method::POST, ..Call::post("create project", "/projects".to_owned(), body) };
        // Creating twice does no harm: the second time the name is taken, and the winner is used.
        let failed = match self.call(&call, Repeat::Harmless, repeats).await {
            Ok(answer) => match answer.root.find("project").and_then(Project::read) {
                Some(project) => return Ok(project.id),
                None => None,
            },
            Err(failed) if failed.code() == 409_006 || failed.ambiguous() => Some(failed.error),
            Err(failed) => return Err(failed.error.at("project", name)),
        };
        match self.child(parent, name, repeats).await? {
            Ok(id) => Ok(id),
            Err(_) => Err(failed
                .unwrap_or_else(|| Error::new(Kind::ServerFailed, "the server created a project and does not show it"))
                .at("project", name)),
        }
    }
}

/// The one project that was found; several of one name in one place cannot be told apart by it.
fn only<'a>(mut found: impl Iterator<Item = &'a Project>, name: &str) -> Result<Option<&'a Project>> {
    let first = found.next();
    let ids: Vec<&str> = first.iter().map(|p| p.id.as_str()).chain(found.map(|p| p.id.as_str())).collect();
    match ids.as_slice() {
        // A page that shows one project twice is the server's business.
        [one, rest @ ..] if rest.iter().any(|id| id != one) => {
            let message = format!("there are {} projects `{name}` in one place: {}", ids.len(), ids.join(", "));
            Err(Error::new(Kind::TargetMissing, message)
                .help("say which one is meant by its id: project = \"project-id:…\"")
                .during("find project"))
        }
        _ => Ok(first),
    }
}

/// Says which level is missing and what is there instead.
pub(super) fn missing(levels: &[String], found: usize, siblings: &[String]) -> Error {
    let (above, below) = levels.split_at(found.min(levels.len()));
    let name = below.first().map_or("", String::as_str);
    let place = if above.is_empty() { "at the top level".to_owned() } else { format!("under `{}`", show_path(above)) };
    let message = format!("there is no project `{name}` {place}");
    let nearest = nearest(name, siblings);
    let help = if nearest.is_empty() {
        format!("there are no projects {place} that the user may see; correct `project`, or set create_project = true")
    } else {
        format!("{place} there are {}; correct `project`, or set create_project = true", nearest.join(", "))
    };
    Error::new(Kind::TargetMissing, message).help(help).at("project", show_path(levels))
}

fn nearest(name: &str, siblings: &[String]) -> Vec<String> {
    let wanted = name.to_lowercase();
    let mut ranked: Vec<(f64, &String)> =
        siblings.iter().map(|s| (strsim::jaro_winkler(&wanted, &s.to_lowercase()), s)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    ranked.dedup_by(|a, b| a.1 == b.1);
    let more = ranked.len() > NEAREST;
    let mut names: Vec<String> = ranked.iter().take(NEAREST).map(|(_, s)| format!("`{s}`")).collect();
    if more {
        names.push("…".to_owned());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        match Place::parse(Some(text)).unwrap() {
            Place::Path(levels) => levels,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn paths_are_read_with_their_escapes() {
        assert_eq!(path("Finance/Daily"), ["Finance", "Daily"]);
        assert_eq!(path("/Finance/Daily/"), ["Finance", "Daily"]);
        assert_eq!(path("R\\/D/a:b, c"), ["R/D", "a:b, c"]);
        assert_eq!(path("a\\b"), ["a\\b"]);
        assert_eq!(show_path(&path("a\\b\\\\/c")), "a\\b\\\\/c");
        assert_eq!(path("/project-id:x"), ["project-id:x"]);
        assert_eq!(show_path(&path("R\\/D/x")), "R\\/D/x");
        assert_eq!(Place::parse(Some("project-id:12-34")).unwrap(), Place::Id("12-34".into()));
        assert_eq!(Place::parse(None).unwrap(), Place::Default);
        assert!(Place::parse(Some("a//b")).is_err());
        assert!(Place::parse(Some("a/ /b")).is_err());
    }

    #[test]
    fn the_missing_level_is_named_with_its_neighbours() {
        let levels = path("Finance/Dayly/X");
        let siblings: Vec<String> = ["Weekly", "Daily", "Archive", "Zoo"].map(String::from).to_vec();
        let error = missing(&levels, 1, &siblings);
        assert_eq!(error.kind(), Kind::TargetMissing);
        assert_eq!(error.message(), "there is no project `Dayly` under `Finance`");
        assert!(error.help_line().contains("there are `Daily`"), "{}", error.help_line());
        assert_eq!(error.context_value("project"), Some("Finance/Dayly/X"));
    }
}
