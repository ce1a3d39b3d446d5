//! What belongs to a data source besides its rows: kept over an overwrite, or declared by the job.
//!
//! An overwrite was seen to lose descriptions and certifications. So they are read before and compared after, and only what
//! differs is sent: an update with every attribute would undo what others changed.

use std::collections::BTreeSet;

use reqwest::Method;

use crate::error::{Error, Kind, Result};
use crate::export::care::{Care, Rights, Warning, WarningKind};

use super::datasource::DataSource;
use super::http::Body;
use super::retry::{Repeat, Repeats};
use super::session::{Call, Server, encode};
use super::xml::{Element, attribute};

/// What is to be given back to a data source.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lost<'a> {
    description: Option<&'a str>,
    certified: bool,
    certification_note: Option<&'a str>,
    owner: Option<&'a str>,
    tags: Vec<&'a str>,
}

impl<'a> Lost<'a> {
    fn between(before: &'a DataSource, now: &DataSource) -> Self {
        let lost = |before: &'a Option<String>, now: &Option<String>| before.as_deref().filter(|b| now.as_deref() != Some(*b));
        let certified = before.certified == Some(true);
        Self {
            description: lost(&before.description, &now.description),
            certified: certified && now.certified != Some(true),
            certification_note: lost(&before.certification_note, &now.certification_note).filter(|_| certified),
            // A server that does not tell the owner has not changed it, as far as anyone can say.
            owner: lost(&before.owner_id, &now.owner_id).filter(|_| now.owner_id.is_some()),
            tags: before.tags.iter().filter(|tag| !now.tags.contains(tag)).map(String::as_str).collect(),
        }
    }

    fn words(&self) -> Vec<&'static str> {
        [
            ("description", self.description.is_some()),
            ("certification", self.certified || self.certification_note.is_some()),
            ("owner", self.owner.is_some()),
            ("tags", !self.tags.is_empty()),
        ]
        .into_iter()
        .filter_map(|(word, lost)| lost.then_some(word))
        .collect()
    }

    /// The updates that give it back, each by itself, so that a right that is missing for one does not cost the others.
    fn updates(&self) -> Result<Vec<(&'static str, String)>> {
        let body = |attributes: String, inner: String| {
            ("", format!("<tsRequest><datasource{attributes}>{inner}</datasource></tsRequest>"))
        };
        let mut bodies = Vec::new();
        if let Some(description) = self.description {
            bodies.push(body(attribute("description", description)?, String::new()));
        }
        if self.certified || self.certification_note.is_some() {
            let note = self.certification_note.map(|note| attribute("certificationNote", note)).transpose()?.unwrap_or_default();
            bodies.push(body(format!("{}{note}", attribute("isCertified", "true")?), String::new()));
        }
        if let Some(owner) = self.owner {
            bodies.push(body(String::new(), format!("<owner{} />", attribute("id", owner)?)));
        }
        if !self.tags.is_empty() {
            let tag = |tag: &&str| Ok(format!("<tag{} />", attribute("label", &label(tag))?));
            let tags = self.tags.iter().map(tag).collect::<Result<String>>()?;
            bodies.push(("/tags", format!("<tsRequest><tags>{tags}</tags></tsRequest>")));
        }
        Ok(bodies)
    }
}

/// The label of a tag as it is sent: servers split one with spaces or commas into several unless it is in quotes.
fn label(tag: &str) -> String {
    if tag.contains([' ', ',']) { format!("\"{tag}\"") } else { tag.to_owned() }
}

impl Server {
    /// Gives a data source back what an overwrite took; returns what there is to tell. The rows are published, so that nothing
    /// here is an error.
    pub(super) async fn keep(&self, before: &DataSource, id: &str, repeats: &mut Repeats) -> Vec<String> {
        let mut notes = Vec::new();
        if let Err(e) = self.give_back(before, id, &mut notes, repeats).await {
            notes.push(format!("not verified whether description, certification, owner and tags were kept: {}", e.message()));
        }
        for note in &notes {
            tracing::warn!("{}: {note}", before.name);
        }
        notes
    }

    async fn give_back(&self, before: &DataSource, id: &str, notes: &mut Vec<String>, repeats: &mut Repeats) -> Result<()> {
        let Some(now) = self.data_source(id, repeats).await? else { return Ok(()) };
        let lost = Lost::between(before, &now);
        if lost == Lost::default() {
            return Ok(());
        }
        for (path, body) in lost.updates()? {
            let call = Call {
                method: Method::PUT,
                ..Call::post("restore the data source", format!("/datasources/{}{path}", encode(id)), Body::Xml(body))
            };
            if let Err(failed) = self.call(&call, Repeat::Harmless, repeats).await {
                notes.push(format!("not restored after the overwrite: {}", failed.error.message()));
            }
        }
        let Some(now) = self.data_source(id, repeats).await? else { return Ok(()) };
        let still = Lost::between(before, &now).words();
        let restored: Vec<_> = lost.words().into_iter().filter(|word| !still.contains(word)).collect();
        if !restored.is_empty() {
            notes.push(format!("restored after the overwrite: {}", restored.join(", ")));
        }
        if !still.is_empty() {
            notes.push(format!("lost by the overwrite: {}", still.join(", ")));
        }
        Ok(())
    }

    /// Sees to what a job declares; returns what was changed.
    pub(super) async fn see_to(&self, id: &str, care: &Care, repeats: &mut Repeats) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        if !care.permissions.is_empty() {
            notes.extend(self.permit(id, care, repeats).await?);
        }
        if let Some(warning) = &care.warning {
            notes.extend(self.warn(id, warning, repeats).await?);
        }
        Ok(notes)
    }

    async fn permit(&self, id: &str, care: &Care, repeats: &mut Repeats) -> Result<Option<String>> {
        let path = format!("/datasources/{}/permissions", encode(id));
        let mut wanted = Vec::new();
        for (grantee, rights) in &care.permissions {
            let (kind, id) = self.grantee(grantee, repeats).await?;
            wanted.extend(wishes(kind, &id, rights));
        }
        let there = self.rights(&path, repeats).await?;
        let missing: Vec<&Right> = wanted.iter().filter(|right| !there.contains(right)).collect();
        if missing.is_empty() {
            return Ok(None);
        }
        // A right cannot be allowed and denied; the old word goes first.
        for right in missing.iter().map(|right| right.opposite()).filter(|right| there.contains(right)) {
            let Right { kind, id, name, mode } = &right;
            let call = Call {
                method: Method::DELETE,
                ..Call::get("change permissions", format!("{path}/{kind}s/{}/{}/{mode}", encode(id), encode(name)))
            };
            // Sent twice, the second finds nothing to do; what counts is read below.
            self.call(&call, Repeat::Harmless, repeats).await.map_err(|failed| failed.error)?;
        }
        let mut grants = String::new();
        for Right { kind, id, name, mode } in &missing {
            grants.push_str(&format!(
                "<granteeCapabilities><{kind}{} /><capabilities><capability{}{} /></capabilities></granteeCapabilities>",
                attribute("id", id)?,
                attribute("name", name)?,
                attribute("mode", mode)?,
            ));
        }
        let body = Body::Xml(format!("<tsRequest><permissions>{grants}</permissions></tsRequest>"));
        let call = Call { method: Method::PUT, ..Call::post("change permissions", path.clone(), body) };
        self.call(&call, Repeat::Harmless, repeats).await.map_err(|failed| failed.error)?;
        let there = self.rights(&path, repeats).await?;
        if let Some(right) = missing.iter().find(|right| !there.contains(right)) {
            let message = format!("the server did not take the permission {} {} for {}", right.mode, right.name, right.kind);
            return Err(Error::new(Kind::VerifyFailed, message)
                .help("in a locked project permissions are set on the project; drop [job.….permissions] or unlock it")
                .during("change permissions"));
        }
        Ok(Some(format!("permissions: {} changed", missing.len())))
    }

    async fn rights(&self, path: &str, repeats: &mut Repeats) -> Result<Vec<Right>> {
        let call = Call::get("look at permissions", path.to_owned());
        let answer = self.call(&call, Repeat::Harmless, repeats).await.map_err(|failed| failed.error)?;
        let mut rights = Vec::new();
        let permissions = answer.root.find("permissions");
        for entry in permissions.into_iter().flat_map(|p| p.children("granteeCapabilities")) {
            let grantee = ["group", "user"].into_iter().find_map(|kind| Some((kind, entry.child(kind)?.told("id")?)));
            let (Some((kind, id)), Some(list)) = (grantee, entry.child("capabilities")) else { continue };
            rights.extend(list.children("capability").filter_map(|c| {
                Some(Right {
                    kind,
                    id: id.clone(),
                    name: c.told("name")?,
                    mode: if c.told("mode")? == "Deny" { DENY } else { ALLOW },
                })
            }));
        }
        Ok(rights)
    }

    /// Finds `group:NAME` or `user:NAME`, or with the domain before the name where several have it: `group:DOMAIN\NAME`.
    async fn grantee(&self, text: &str, repeats: &mut Repeats) -> Result<(&'static str, String)> {
        let (kind, path, wanted) = match text.split_once(':') {
            Some(("group", name)) => ("group", "/groups", name.trim()),
            Some(("user", name)) => ("user", "/users", name.trim()),
            _ => {
                return Err(Error::new(Kind::ConfigInvalid, format!("`{text}` in permissions is neither group nor user"))
                    .help("write \"group:NAME\" or \"user:NAME\", with \"DOMAIN\\NAME\" where several have the name"));
            }
        };
        let what = if kind == "group" { "find the group" } else { "find the user" };
        let mut found = Vec::new();
        for (domain, name) in readings(wanted) {
            // A comma or colon reads like the grammar of filters.
            let filter = (!name.contains([',', ':'])).then(|| format!("name:eq:{}", encode(name)));
            let all = self.pages(what, path, filter.as_deref(), kind, Grantee::read, repeats).await.map_err(|f| f.error)?;
            found.extend(all.into_iter().filter(|one| one.is(domain, name)));
        }
        only(kind, wanted, found).map(|id| (kind, id)).map_err(|e| e.during(what))
    }

    async fn warn(&self, id: &str, wanted: &Warning, repeats: &mut Repeats) -> Result<Option<String>> {
        let path = format!("/dataQualityWarnings/datasource/{}", encode(id));
        let there = self.warning(&path, repeats).await?;
        if there.as_ref() == Some(wanted) {
            return Ok(None);
        }
        let body = Body::Xml(format!(
            "<tsRequest><dataQualityWarning{}{}{}{} /></tsRequest>",
            attribute("type", warning_type(wanted.kind))?,
            attribute("isActive", &wanted.active.to_string())?,
            attribute("isSevere", &wanted.severe.to_string())?,
            attribute("message", &wanted.message)?,
        ));
        let method = if there.is_some() { Method::PUT } else { Method::POST };
        let call = Call { method, ..Call::post("set the data quality warning", path.clone(), body) };
        // Created twice, there would be two; an update may be sent again.
        let repeat = if there.is_some() { Repeat::Harmless } else { Repeat::OnlyIfNotTaken };
        let sent = self.call(&call, repeat, repeats).await;
        let now = self.warning(&path, repeats).await?;
        if now.as_ref() == Some(wanted) {
            return Ok(Some("data quality warning set".to_owned()));
        }
        sent.map_err(|failed| failed.error)?;
        Err(Error::new(Kind::VerifyFailed, "the server shows another data quality warning than was set")
            .during("set the data quality warning"))
    }

    async fn warning(&self, path: &str, repeats: &mut Repeats) -> Result<Option<Warning>> {
        let call = Call::get("look at data quality warnings", path.to_owned());
        let answer = match self.call(&call, Repeat::Harmless, repeats).await {
            Ok(answer) => answer,
            // Some versions answer so when there is none.
            Err(failed) if failed.status() == 404 && failed.code() != 404_001 => return Ok(None),
            Err(failed) => return Err(failed.error),
        };
        Ok(answer.root.find("dataQualityWarning").map(|w| Warning {
            kind: w.told("type").map_or(WarningKind::Warning, |told| read_type(&told)),
            message: w.attribute("message").unwrap_or_default().to_owned(),
            active: w.attribute("isActive").is_none_or(|a| a.eq_ignore_ascii_case("true")),
            severe: w.attribute("isSevere").is_some_and(|a| a.eq_ignore_ascii_case("true")),
        }))
    }
}

/// A group or user, as a server lists it.
#[derive(Debug)]
struct Grantee {
    id: String,
    name: String,
    domain: Option<String>,
}

impl Grantee {
    fn read(element: &Element) -> Option<Self> {
        let domain = element.child("domain").and_then(|domain| domain.told("name"));
        Some(Self { id: element.told("id")?, name: element.attribute("name")?.to_owned(), domain })
    }

    /// Whether it has this name, in this domain if one is given; directories do not tell domains apart by case.
    fn is(&self, domain: Option<&str>, name: &str) -> bool {
        let there = self.domain.as_deref().unwrap_or_default();
        self.name == name && domain.is_none_or(|domain| there.eq_ignore_ascii_case(domain))
    }
}

/// What a name may mean: itself, and a name in a domain.
fn readings(text: &str) -> Vec<(Option<&str>, &str)> {
    let in_domain = text.split_once('\\').filter(|(domain, name)| !domain.is_empty() && !name.is_empty());
    in_domain.map(|(domain, name)| (Some(domain), name)).into_iter().chain([(None, text)]).collect()
}

/// The one that was found: a right must not go to whoever comes first.
fn only(kind: &str, wanted: &str, found: Vec<Grantee>) -> Result<String> {
    let ids: BTreeSet<&str> = found.iter().map(|one| one.id.as_str()).collect();
    if ids.len() > 1 {
        let shown = |one: &Grantee| match &one.domain {
            Some(domain) => format!("{domain}\\{} ({})", one.name, one.id),
            None => format!("{} ({})", one.name, one.id),
        };
        let list: BTreeSet<String> = found.iter().map(shown).collect();
        let list = list.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Error::new(Kind::TargetMissing, format!("there are {} {kind}s `{wanted}`: {list}", ids.len()))
            .help(format!("say which one is meant: \"{kind}:DOMAIN\\NAME\" in [job.….permissions]")));
    }
    found.into_iter().next().map(|one| one.id).ok_or_else(|| {
        Error::new(Kind::TargetMissing, format!("there is no {kind} `{wanted}`")).help("check the names in [job.….permissions]")
    })
}

const ALLOW: &str = "Allow";
const DENY: &str = "Deny";

/// One right of one grantee.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Right {
    kind: &'static str,
    id: String,
    name: String,
    mode: &'static str,
}

impl Right {
    fn opposite(&self) -> Self {
        Self { mode: if self.mode == ALLOW { DENY } else { ALLOW }, ..self.clone() }
    }
}

fn wishes(kind: &'static str, id: &str, rights: &Rights) -> Vec<Right> {
    let all = |names: &[String], mode| {
        names.iter().map(|name| Right { kind, id: id.to_owned(), name: name.clone(), mode }).collect::<Vec<_>>()
    };
    [all(&rights.allow, ALLOW), all(&rights.deny, DENY)].concat()
}

const TYPES: [(WarningKind, &str); 5] = [
    (WarningKind::Warning, "WARNING"),
    (WarningKind::Deprecated, "DEPRECATED"),
    (WarningKind::Stale, "STALE"),
    (WarningKind::SensitiveData, "SENSITIVE_DATA"),
    (WarningKind::Maintenance, "MAINTENANCE"),
];

fn warning_type(kind: WarningKind) -> &'static str {
    TYPES.iter().find(|(k, _)| *k == kind).map_or("WARNING", |(_, name)| name)
}

fn read_type(told: &str) -> WarningKind {
    TYPES.iter().find(|(_, name)| name.eq_ignore_ascii_case(told)).map_or(WarningKind::Warning, |(kind, _)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_several_have_means_none_of_them() {
        let one = |id: &str, domain: Option<&str>, name: &str| Grantee {
            id: id.to_owned(),
            name: name.to_owned(),
            domain: domain.map(str::to_owned),
        };
        let there = || {
            [
                one("g1", Some("local"), "Analysts"),
                one("g2", Some("ACME"), "Analysts"),
                // A page that shows one group twice is the server's business.
                one("g3", None, "Sales"),
                one("g3", None, "Sales"),
                one("g4", Some("local"), "ACME\\Sales"),
            ]
        };
        let find = |wanted: &str| {
            let hit = |g: &Grantee| readings(wanted).iter().any(|(domain, name)| g.is(*domain, name));
            only("group", wanted, there().into_iter().filter(hit).collect())
        };
        for (wanted, id) in [
            ("local\\Analysts", "g1"),
            ("acme\\Analysts", "g2"),
            ("Sales", "g3"),
            ("ACME\\Sales", "g4"),
            ("local\\ACME\\Sales", "g4"),
        ] {
            assert_eq!(find(wanted).unwrap(), id, "{wanted}");
        }
        let error = find("Analysts").unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (Kind::TargetMissing, 2));
        assert!(error.message().contains("ACME\\Analysts (g2), local\\Analysts (g1)"), "{error:?}");
        assert!(error.help_line().contains("group:DOMAIN\\NAME"), "{error:?}");
        for wanted in ["analysts", "other\\Analysts", "\\Analysts", "Analysts\\"] {
            assert!(find(wanted).unwrap_err().message().contains("no group"), "{wanted}");
        }
    }
}
