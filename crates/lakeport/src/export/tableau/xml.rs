//! The bodies of requests and answers.
//!
//! Answers are read by local name, because the namespace changed over the years and is missing from some; requests are
//! written in plain ASCII, other characters as numeric references, which is what the official client sends.

use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesStart, Event};

use crate::config::Secret;
use crate::error::{Error, Kind, Result};

/// No answer of the API nests deeper than a dozen elements; a limit keeps hostile ones off the stack.
const MAX_DEPTH: usize = 64;

/// One element of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// The name without its namespace prefix.
    pub(super) name: String,
    attributes: Vec<(String, String)>,
    pub(super) children: Vec<Element>,
    text: String,
}

impl Element {
    /// The value of an attribute.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All attributes, in their order.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// The value of an attribute, owned, with an empty one told as none.
    pub(super) fn told(&self, name: &str) -> Option<String> {
        self.attribute(name).filter(|v| !v.is_empty()).map(str::to_owned)
    }

    /// The first child of this name.
    pub(super) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|c| c.name == name)
    }

    /// All children of this name.
    pub(super) fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |c| c.name == name)
    }

    /// The first element of this name at any depth, itself included.
    pub(super) fn find(&self, name: &str) -> Option<&Element> {
        if self.name == name { Some(self) } else { self.children.iter().find_map(|c| c.find(name)) }
    }

    /// The text between its tags, without that of its children, trimmed.
    pub(super) fn text(&self) -> &str {
        self.text.trim()
    }
}

/// Reads a whole answer; `Err` says why it is no XML.
pub(super) fn parse(body: &[u8]) -> std::result::Result<Element, String> {
    let text = std::str::from_utf8(body).map_err(|e| format!("not UTF-8: {e}"))?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        match reader.read_event().map_err(|e| e.to_string())? {
            Event::Start(tag) => {
                if open.len() >= MAX_DEPTH {
                    return Err(format!("elements nest deeper than {MAX_DEPTH}"));
                }
                open.push(element(&tag)?);
            }
            Event::Empty(tag) => close(element(&tag)?, &mut open, &mut root)?,
            Event::End(_) => {
                let done = open.pop().ok_or("an end tag without its start")?;
                close(done, &mut open, &mut root)?;
            }
            Event::Text(t) => push(&mut open, &t.decode().map_err(|e| e.to_string())?)?,
            Event::CData(t) => push(&mut open, &t.decode().map_err(|e| e.to_string())?)?,
            Event::GeneralRef(r) => match r.resolve_char_ref().map_err(|e| e.to_string())? {
                Some(c) => push(&mut open, c.encode_utf8(&mut [0; 4]))?,
                None => {
                    let name = r.decode().map_err(|e| e.to_string())?;
                    push(&mut open, resolve_xml_entity(&name).ok_or_else(|| format!("unknown entity &{name};"))?)?;
                }
            },
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    if let Some(unclosed) = open.last() {
        return Err(format!("<{}> is not closed", unclosed.name));
    }
    root.ok_or_else(|| "there is no element".to_owned())
}

fn element(tag: &BytesStart<'_>) -> std::result::Result<Element, String> {
    let name = String::from_utf8_lossy(tag.local_name().as_ref()).into_owned();
    let mut attributes = Vec::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|e| e.to_string())?;
        // `xmlns:id="…"` names a namespace, and is no id.
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let key = String::from_utf8_lossy(attribute.key.local_name().as_ref()).into_owned();
        // `p:xmlns` names nothing.
        if key == "xmlns" {
            continue;
        }
        attributes.push((key, attribute.unescape_value().map_err(|e| e.to_string())?.into_owned()));
    }
    Ok(Element { name, attributes, ..Element::default() })
}

fn close(done: Element, open: &mut [Element], root: &mut Option<Element>) -> std::result::Result<(), String> {
    match open.last_mut() {
        Some(parent) => parent.children.push(done),
        None if root.is_some() => return Err("more than one root element".to_owned()),
        None => *root = Some(done),
    }
    Ok(())
}

fn push(open: &mut [Element], text: &str) -> std::result::Result<(), String> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err("text outside of any element".to_owned()),
    }
    Ok(())
}

/// Writes one attribute with its leading space: ` name="Caf&#233;"`.
///
/// # Errors
/// `Usage` for a character that XML cannot carry, such as NUL.
pub(super) fn attribute(name: &str, value: &str) -> Result<String> {
    let mut out = format!(" {name}=\"");
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            ' '..='~' => out.push(c),
            '\t' | '\n' | '\r' | '\u{80}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => {
                // Writing to a String cannot fail.
                let _ = write!(out, "&#{};", u32::from(c));
            }
            _ => {
                return Err(Error::new(
                    Kind::Usage,
                    format!("the {name} `{}` has a character (U+{:04X}) that cannot be sent", value.escape_debug(), u32::from(c)),
                ));
            }
        }
    }
    out.push('"');
    Ok(out)
}

/// The body of a sign-in with a personal access token.
pub(super) fn sign_in_token(name: &str, token: &Secret, site: &str) -> Result<String> {
    credentials(&[attribute("personalAccessTokenName", name)?, secret("personalAccessTokenSecret", token)?], site)
}

/// The body of a sign-in with name and password.
pub(super) fn sign_in_password(user: &str, password: &Secret, site: &str) -> Result<String> {
    credentials(&[attribute("name", user)?, secret("password", password)?], site)
}

/// The body of a sign-in with a connected app's signed word.
pub(super) fn sign_in_word(word: &Secret, site: &str) -> Result<String> {
    credentials(&[secret("jwt", word)?, attribute("isUat", "false")?], site)
}

fn credentials(attributes: &[String], site: &str) -> Result<String> {
    let site = attribute("contentUrl", site)?;
    Ok(format!("<tsRequest><credentials{}><site{site} /></credentials></tsRequest>", attributes.concat()))
}

fn secret(name: &str, value: &Secret) -> Result<String> {
    // The message of a refused attribute quotes its value, which a secret's must not.
    attribute(name, value.reveal())
        .map_err(|_| Error::new(Kind::SecretMissing, format!("the {name} has a character that cannot be sent")))
}

/// The body that creates a project.
pub(super) fn create_project(name: &str, parent: Option<&str>) -> Result<String> {
    let parent = parent.map(|id| attribute("parentProjectId", id)).transpose()?.unwrap_or_default();
    Ok(format!("<tsRequest><project{}{parent} /></tsRequest>", attribute("name", name)?))
}

/// The body that publishes a data source.
pub(super) fn publish(name: &str, project: Option<&str>) -> Result<String> {
    let name = attribute("name", name)?;
    Ok(match project {
        Some(id) => {
            format!("<tsRequest><datasource{name}><project{} /></datasource></tsRequest>", attribute("id", id)?)
        }
        None => format!("<tsRequest><datasource{name} /></tsRequest>"),
    })
}

/// The `<error>` of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    /// HTTP status × 1000 + a number; 0 when it is none.
    pub(super) code: u32,
    /// Summary and detail, in the language of the server's user.
    pub(super) text: String,
}

/// Finds the error in an answer.
pub(super) fn api_error(root: &Element) -> Option<ApiError> {
    let error = root.find("error")?;
    let text = |name| error.child(name).map(Element::text).filter(|t| !t.is_empty());
    let words: Vec<&str> = [text("summary"), text("detail")].into_iter().flatten().collect();
    let code = error.attribute("code").and_then(|c| c.trim().parse().ok()).unwrap_or(0);
    Some(ApiError { code, text: words.join(": ") })
}

/// The total number of entries of a paged answer, if told.
pub(super) fn total_available(root: &Element) -> Option<u64> {
    root.find("pagination")?.attribute("totalAvailable")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_by_local_name_with_any_namespace() {
        let root = parse(
            b"<?xml version='1.0'?>\n<t:tsResponse xmlns:t=\"http://tableausoftware.com/api\"><t:error code=\"403007\">\
              <t:summary>Verboten &amp; belegt</t:summary><t:detail>Caf&#233;<![CDATA[ <x>]]></t:detail></t:error></t:tsResponse>",
        )
        .unwrap();
        assert_eq!(root.name, "tsResponse");
        let error = api_error(&root).unwrap();
        assert_eq!(error, ApiError { code: 403_007, text: "Verboten & belegt: Café <x>".into() });
    }

    #[test]
    fn no_attribute_is_called_like_a_namespace() {
        assert_eq!(
            parse(b"<a :xmlns=\"u\" xmlns:b=\"v\" p:xmlns=\"w\" id=\"1\"/>").unwrap().attributes,
            [("id".into(), "1".into())]
        );
    }

    #[test]
    fn what_is_no_xml_is_an_error_and_never_a_panic() {
        for body in ["", "plain", "<a>", "<a></b>", "</a>", "<a/><b/>", "<a b=c/>", "<a>&nope;</a>", "{\"a\":1}"] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(parse(b"\xff\xfe").is_err());
        assert!(parse("<a>".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn attributes_are_ascii_and_come_back_the_same() {
        let name = "Café \"A & B\" <1>\t'ü' \u{1F600},:/";
        let written = format!("<x{} />", attribute("name", name).unwrap());
        assert!(written.is_ascii());
        assert_eq!(parse(written.as_bytes()).unwrap().attribute("name"), Some(name));
        assert!(attribute("name", "a\0b").is_err());
        assert!(!format!("{:?}", sign_in_token("n", &Secret::new("se\0cret"), "").unwrap_err()).contains("cret\0"));
    }

    #[test]
    fn bodies_have_the_shape_of_the_schema() {
        assert_eq!(publish("Orders", None).unwrap(), r#"<tsRequest><datasource name="Orders" /></tsRequest>"#);
        assert_eq!(
            publish("Orders", Some("p")).unwrap(),
            r#"<tsRequest><datasource name="Orders"><project id="p" /></datasource></tsRequest>"#
        );
        assert_eq!(create_project("B", Some("a")).unwrap(), r#"<tsRequest><project name="B" parentProjectId="a" /></tsRequest>"#);
    }
}
