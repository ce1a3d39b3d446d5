//! The XML of the REST API: requests read by local name, answers written.
//!
//! Requests come with or without a namespace and with or without a prefix; both are ignored. Every document is small (the
//! caller bounds it), so it becomes a little tree.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// The namespace of every answer.
const NAMESPACE: &str = "http://tableau.com/api";
/// How deep a request may nest; the deepest real one has six levels.
const MAX_DEPTH: usize = 32;

/// One element with its attributes, text and children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// An empty element.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Adds an attribute.
    #[must_use]
    pub(crate) fn attr(mut self, name: &str, value: impl Into<String>) -> Self {
        self.attributes.push((name.to_owned(), value.into()));
        self
    }

    /// Adds an attribute if there is a value.
    #[must_use]
    pub(crate) fn attr_if(self, name: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// Sets the text.
    #[must_use]
    pub(crate) fn text(mut self, text: &str) -> Self {
        text.clone_into(&mut self.text);
        self
    }

    /// Adds a child.
    #[must_use]
    pub(crate) fn child(mut self, child: Element) -> Self {
        self.children.push(child);
        self
    }

    /// Adds children.
    #[must_use]
    pub(crate) fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children);
        self
    }

    /// The local name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The value of an attribute.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The first child of a name.
    pub(crate) fn find(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|c| c.name == name)
    }

    /// All children.
    pub(crate) fn all(&self) -> &[Element] {
        &self.children
    }

    pub(crate) fn write(&self, out: &mut String) {
        out.push('<');
        out.push_str(&self.name);
        for (name, value) in &self.attributes {
            out.push(' ');
            out.push_str(name);
            out.push_str("=\"");
            escape(value, out);
            out.push('"');
        }
        if self.text.is_empty() && self.children.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        escape(&self.text, out);
        for child in &self.children {
            child.write(out);
        }
        out.push_str("</");
        out.push_str(&self.name);
        out.push('>');
    }
}

/// Writes a `<tsResponse>` with these elements inside.
pub(crate) fn response(inside: &[Element]) -> String {
    let mut out = format!("<?xml version='1.0' encoding='UTF-8'?><tsResponse xmlns=\"{NAMESPACE}\">");
    for element in inside {
        element.write(&mut out);
    }
    out.push_str("</tsResponse>");
    out
}

/// Escapes for text and attributes alike; line ends would otherwise be normalised to spaces inside an attribute.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\t' => out.push_str("&#9;"),
            // XML 1.0 has no way to write these.
            '\0'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

/// Reads a request and gives its `<tsRequest>`.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn request(body: &[u8]) -> Result<Element, String> {
    let root = parse(body)?;
    if root.name == "tsRequest" { Ok(root) } else { Err(format!("expected the element tsRequest, found {}", root.name)) }
}

fn parse(body: &[u8]) -> Result<Element, String> {
    let mut reader = Reader::from_reader(body);
    let mut open: Vec<Element> = Vec::new();
    loop {
        let event = reader.read_event().map_err(|e| format!("malformed XML: {e}"))?;
        let closed = match event {
            Event::Start(start) => {
                if open.len() == MAX_DEPTH {
                    return Err(format!("XML nested deeper than {MAX_DEPTH} levels"));
                }
                open.push(element(&start)?);
                None
            }
            Event::Empty(start) => Some(element(&start)?),
            Event::End(_) => open.pop(),
            Event::Text(text) => {
                if let Some(parent) = open.last_mut() {
                    parent.text.push_str(&text.decode().map_err(|e| format!("malformed XML: {e}"))?);
                }
                None
            }
            Event::CData(data) => {
                if let Some(parent) = open.last_mut() {
                    parent.text.push_str(&data.decode().map_err(|e| format!("malformed XML: {e}"))?);
                }
                None
            }
            Event::GeneralRef(reference) => {
                if let Some(parent) = open.last_mut() {
                    let name = reference.decode().map_err(|e| format!("malformed XML: {e}"))?;
                    let text = quick_xml::escape::unescape(&format!("&{name};"))
                        .map_err(|e| format!("malformed XML: {e}"))?
                        .into_owned();
                    parent.text.push_str(&text);
                }
                None
            }
            Event::Eof => return Err("the XML ends before its root element does".to_owned()),
            Event::DocType(_) => return Err("a DOCTYPE is not accepted".to_owned()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => None,
        };
        if let Some(element) = closed {
            match open.last_mut() {
                Some(parent) => parent.children.push(element),
                None => return Ok(element),
            }
        }
    }
}

fn element(start: &BytesStart<'_>) -> Result<Element, String> {
    let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|e| format!("malformed attribute in {name}: {e}"))?;
        let key = String::from_utf8_lossy(attribute.key.local_name().as_ref()).into_owned();
        let value = attribute
            .decode_and_unescape_value(start.decoder())
            .map_err(|e| format!("malformed attribute {key} in {name}: {e}"))?;
        attributes.push((key, value.into_owned()));
    }
    Ok(Element { name, attributes, ..Element::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_with_and_without_a_namespace() {
        let bare = request(b"<tsRequest><project name=\"caf&#233; &amp; co\" /></tsRequest>").unwrap();
        let with = request(
            "<?xml version='1.0'?><t:tsRequest xmlns:t=\"http://tableau.com/api\">\n<t:project name='caf\u{e9} &amp; co'/></t:tsRequest>"
                .as_bytes(),
        )
        .unwrap();
        for root in [bare, with] {
            assert_eq!(root.find("project").and_then(|p| p.get("name")), Some("café & co"));
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let written = response(&[Element::new("a").attr("v", "<\"&'>\n\t日本 🏞").child(Element::new("b").text("x < y & z"))]);
        let root = parse(written.as_bytes()).unwrap();
        assert_eq!(root.find("a").and_then(|a| a.get("v")), Some("<\"&'>\n\t日本 🏞"));
        assert_eq!(root.find("a").and_then(|a| a.find("b")).map(|b| b.text.as_str()), Some("x < y & z"));
    }

    #[test]
    fn malformed_requests_are_refused() {
        let deep = "<a>".repeat(100_000);
        for body in ["", "not xml", "<tsRequest>", "<tsRequest><a></tsRequest>", "<other/>", "<!DOCTYPE a><tsRequest/>", &deep] {
            assert!(request(body.as_bytes()).is_err(), "{body:.40}");
        }
    }
}
