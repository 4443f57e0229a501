//! XML: elements become members, attributes `-name`, text next to either `#text`, and repeated elements arrays.

use bytes::Bytes;
use quick_xml::escape::{EscapeError, resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use crate::runtime::decode::charset;
use crate::runtime::heavy::is_late;
use crate::runtime::json::{MAX_DEPTH, Object, Value};

/// The maximum number of elements and attributes in a document, because bodies may grow twentyfold in memory.
const MAX_PARTS: usize = 1 << 21;

/// Why a body is not the expected XML.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// There is no element.
    #[error("EOF")]
    Empty,
    #[error("XML syntax error: unexpected EOF")]
    Truncated,
    #[error("XML syntax error: {0}")]
    Syntax(String),
    /// Entities of a document type are never expanded, because they turn small bodies into large ones.
    #[error("XML syntax error: invalid character entity &{0};")]
    Entity(String),
    #[error("XML syntax error: {0}")]
    Charset(charset::Error),
    #[error("XML nested deeper than {MAX_DEPTH}")]
    TooDeep,
    #[error("XML with more than {MAX_PARTS} elements and attributes")]
    TooMany,
    /// The deadline of the request has passed.
    #[error("context deadline exceeded")]
    Late,
}

/// An element with its content.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) prefix: Box<str>,
    /// Without its prefix.
    pub(super) name: Box<str>,
    /// Names without prefixes. The last of several equal ones wins.
    pub(super) attributes: Vec<(Box<str>, Box<str>)>,
    pub(super) content: Vec<Content>,
}

#[derive(Debug)]
pub(super) enum Content {
    Text(String),
    Element(Element),
}

/// Decodes a document to an object whose only member is the root element. As in KrakenD, all values are strings.
pub(super) fn decode(body: &Bytes) -> Result<Value, Error> {
    let root = root(body)?;
    let name = root.name.clone();
    Ok(Value::Object(Object::from([(name, value(root))])))
}

/// Decodes the first element of a document. The rest is ignored.
pub(super) fn root(body: &Bytes) -> Result<Element, Error> {
    bounded(body, MAX_PARTS)
}

fn bounded(body: &[u8], mut left: usize) -> Result<Element, Error> {
    let text = charset::text(body).map_err(Error::Charset)?;
    let mut reader = Reader::from_str(&text);
    reader.config_mut().check_end_names = true;
    let mut open: Vec<Element> = Vec::new();
    loop {
        if is_late() {
            return Err(Error::Late);
        }
        let done = match reader
            .read_event()
            .map_err(|error| Error::Syntax(error.to_string()))?
        {
            Event::Start(_) if open.len() >= MAX_DEPTH => return Err(Error::TooDeep),
            Event::Start(start) => {
                open.push(element(&start, &mut left)?);
                None
            }
            Event::Empty(start) => close(&mut open, element(&start, &mut left)?),
            Event::End(_) => match open.pop() {
                Some(element) => close(&mut open, element),
                None => return Err(Error::Syntax("unexpected end element".to_owned())),
            },
            Event::Text(text) => add_text(&mut open, &text.xml10_content()),
            Event::CData(text) => add_text(&mut open, &text.into_inner()),
            Event::GeneralRef(reference) => {
                let text = match reference.resolve_char_ref() {
                    Ok(Some(character)) => character.to_string(),
                    Ok(None) => resolve_predefined_entity(&reference)
                        .ok_or_else(|| Error::Entity(reference.to_string()))?
                        .to_owned(),
                    Err(error) => return Err(Error::Syntax(error.to_string())),
                };
                add_text(&mut open, &text)
            }
            Event::Eof if open.is_empty() => return Err(Error::Empty),
            Event::Eof => return Err(Error::Truncated),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => None,
        };
        if let Some(root) = done {
            return Ok(root);
        }
    }
}

/// Opens an element and subtracts its cost from `left`.
fn element(start: &BytesStart<'_>, left: &mut usize) -> Result<Element, Error> {
    let mut spend = || {
        *left = left.checked_sub(1).ok_or(Error::TooMany)?;
        Ok::<_, Error>(())
    };
    spend()?;
    let mut attributes = Vec::new();
    // The library's check for equal names compares each with each, which a backend could exploit.
    for attribute in start.attributes().with_checks(false) {
        if is_late() {
            return Err(Error::Late);
        }
        spend()?;
        let attribute = attribute.map_err(|error| Error::Syntax(error.to_string()))?;
        let value = unescape(&attribute.value).map_err(|error| match error {
            EscapeError::UnrecognizedEntity(_, name) => Error::Entity(name),
            other => Error::Syntax(other.to_string()),
        })?;
        let name = attribute.key.local_name();
        attributes.push((name.as_ref().into(), value.as_ref().into()));
    }
    let name = start.name();
    Ok(Element {
        prefix: name
            .prefix()
            .map_or("", |prefix| prefix.into_inner())
            .into(),
        name: start.local_name().as_ref().into(),
        attributes,
        content: Vec::new(),
    })
}

/// Adds a finished element to its parent. The root is returned.
fn close(open: &mut [Element], element: Element) -> Option<Element> {
    match open.last_mut() {
        Some(parent) => {
            parent.content.push(Content::Element(element));
            None
        }
        None => Some(element),
    }
}

/// Text outside the root is ignored. Pieces that are separated only by comments or references form one text.
fn add_text(open: &mut [Element], text: &str) -> Option<Element> {
    let content = &mut open.last_mut()?.content;
    match content.last_mut() {
        Some(Content::Text(known)) => known.push_str(text),
        _ => content.push(Content::Text(text.to_owned())),
    }
    None
}

fn value(element: Element) -> Value {
    let mut members = Object::new();
    for (name, value) in element.attributes {
        members.insert(format!("-{name}").into(), Value::String(value));
    }
    let mut alone = None;
    for content in element.content {
        if is_late() {
            break;
        }
        match content {
            Content::Text(text) => match trimmed(&text) {
                "" => {}
                text if members.is_empty() => alone = Some(Value::string(text)),
                text => {
                    members.insert("#text".into(), Value::string(text));
                }
            },
            Content::Element(child) => add_child(&mut members, child),
        }
    }
    match alone {
        text if members.is_empty() => text.unwrap_or_else(|| Value::string("")),
        Some(text) => {
            members.insert("#text".into(), text);
            Value::Object(members)
        }
        None => Value::Object(members),
    }
}

/// The value of an element is never an array, so an array always holds earlier elements of the same name.
fn add_child(members: &mut Object, child: Element) {
    let name = child.name.clone();
    let new = value(child);
    match members.get_mut(&name) {
        None => {
            members.insert(name, new);
        }
        Some(Value::Array(known)) => known.push(new),
        Some(known) => {
            let first = std::mem::take(known);
            *known = Value::Array(vec![first, new]);
        }
    }
}

/// The text without the characters that KrakenD treats as layout.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(['\t', '\r', '\u{8}', '\n', ' '])
}

impl Element {
    /// The child elements.
    pub(super) fn children(&self) -> impl Iterator<Item = &Element> {
        self.content.iter().filter_map(|content| match content {
            Content::Element(element) => Some(element),
            Content::Text(_) => None,
        })
    }

    /// All text directly inside, trimmed.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for content in &self.content {
            if let Content::Text(piece) = content {
                text.push_str(piece);
            }
        }
        trimmed(&text).to_owned()
    }

    /// The value of an attribute.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter().rev();
        attributes
            .find(|(known, _)| &**known == name)
            .map(|(_, value)| &**value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_parts_is_limited() {
        let body = b"<a k='1'><b/><b k='2'/></a>";
        assert!(bounded(body, 5).is_ok());
        assert!(matches!(bounded(body, 4), Err(Error::TooMany)));
    }
}
