//! XML: elements become members, attributes `-name`, text next to either `#text`, and repeated elements arrays.

use bytes::Bytes;
use quick_xml::escape::{EscapeError, resolve_xml_entity, unescape_with};
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;

use crate::runtime::decode::{charset, lenient};
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
    let (name, value) = bounded::<Members>(body, MAX_PARTS, Rules::Strict)?;
    Ok(Value::Object(Object::from([(name, value)])))
}

/// Decodes the first element of a feed. The rest is ignored, and common mistakes are tolerated.
pub(super) fn root(body: &Bytes) -> Result<Element, Error> {
    bounded::<Element>(body, MAX_PARTS, Rules::Lenient)
}

/// What happens with a document that is not well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// It is an error.
    Strict,
    /// References that cannot be resolved and single `&` are text, HTML's entities are known, an end tag also closes
    /// the elements inside, an end tag of no open element is ignored, and attributes need no quotes and no value.
    Lenient,
}

/// An element that is open, and what it becomes when it ends. A document that becomes members is never an [`Element`],
/// which takes many times as much memory.
trait Open: Sized {
    type Closed;

    fn open(start: &BytesStart<'_>, attributes: Vec<(Box<str>, Box<str>)>) -> Self;

    /// Without its prefix.
    fn name(&self) -> &str;

    /// Adds a piece of text. Pieces that are separated only by comments or references form one text.
    fn add_text(&mut self, text: &str);

    fn add_child(&mut self, child: Self::Closed);

    fn close(self) -> Self::Closed;
}

fn bounded<O: Open>(body: &[u8], mut left: usize, rules: Rules) -> Result<O::Closed, Error> {
    let text = charset::text(body).map_err(Error::Charset)?;
    let mut reader = Reader::from_str(&text);
    let is_lenient = rules == Rules::Lenient;
    let config = reader.config_mut();
    config.check_end_names = !is_lenient;
    config.allow_unmatched_ends = is_lenient;
    config.allow_dangling_amp = is_lenient;
    let mut open: Vec<O> = Vec::new();
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
                open.push(opened(&start, &mut left, rules)?);
                None
            }
            Event::Empty(start) => closed(&mut open, opened(&start, &mut left, rules)?),
            Event::End(end) if is_lenient => {
                close_all(&mut open, end.local_name().as_ref(), &mut left)?
            }
            Event::End(_) => match open.pop() {
                Some(element) => closed(&mut open, element),
                None => return Err(Error::Syntax("unexpected end element".to_owned())),
            },
            Event::Text(text) => add_text(&mut open, &text.xml10_content()),
            Event::CData(text) => add_text(&mut open, &text.into_inner()),
            Event::GeneralRef(reference) if is_lenient => {
                match lenient::resolved_text(&reference) {
                    Some(text) => add_text(&mut open, &text),
                    None => add_text(&mut open, &format!("&{};", &*reference)),
                }
            }
            Event::GeneralRef(reference) => add_text(&mut open, &resolved(&reference)?),
            Event::Eof if open.is_empty() => return Err(Error::Empty),
            Event::Eof => return Err(Error::Truncated),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => None,
        };
        if let Some(root) = done {
            return Ok(root);
        }
    }
}

/// The text of a reference in strict XML.
fn resolved(reference: &BytesRef<'_>) -> Result<String, Error> {
    match reference.resolve_char_ref() {
        Ok(Some(character)) => Ok(character.to_string()),
        Ok(None) => resolve_xml_entity(reference)
            .map(str::to_owned)
            .ok_or_else(|| Error::Entity(reference.to_string())),
        Err(error) => Err(Error::Syntax(error.to_string())),
    }
}

fn spend(left: &mut usize, parts: usize) -> Result<(), Error> {
    *left = left.checked_sub(parts).ok_or(Error::TooMany)?;
    Ok(())
}

/// Opens an element and subtracts its cost from `left`.
fn opened<O: Open>(start: &BytesStart<'_>, left: &mut usize, rules: Rules) -> Result<O, Error> {
    spend(left, 1)?;
    let mut attributes = Vec::new();
    let mut all = match rules {
        Rules::Strict => start.attributes(),
        Rules::Lenient => start.html_attributes(),
    };
    // The library's check for equal names compares each with each, which a backend could exploit.
    for attribute in all.with_checks(false) {
        if is_late() {
            return Err(Error::Late);
        }
        spend(left, 1)?;
        let attribute = attribute.map_err(|error| Error::Syntax(error.to_string()))?;
        let value = match rules {
            Rules::Strict => unescape_with(&attribute.value, resolve_xml_entity).map_err(
                |error| match error {
                    EscapeError::UnrecognizedEntity(_, name) => Error::Entity(name),
                    other => Error::Syntax(other.to_string()),
                },
            )?,
            Rules::Lenient => lenient::unescaped(&attribute.value),
        };
        let name = attribute.key.local_name();
        attributes.push((name.as_ref().into(), value.as_ref().into()));
    }
    Ok(O::open(start, attributes))
}

/// Adds a finished element to its parent. The root is returned.
fn closed<O: Open>(open: &mut [O], element: O) -> Option<O::Closed> {
    match open.last_mut() {
        Some(parent) => {
            parent.add_child(element.close());
            None
        }
        None => Some(element.close()),
    }
}

/// Closes the innermost element with this name and all elements inside it.
fn close_all<O: Open>(
    open: &mut Vec<O>,
    name: &str,
    left: &mut usize,
) -> Result<Option<O::Closed>, Error> {
    let Some(at) = open.iter().rposition(|element| element.name() == name) else {
        // Each one of these was compared with all open elements.
        return spend(left, open.len()).map(|()| None);
    };
    let mut root = None;
    while open.len() > at
        && let Some(element) = open.pop()
    {
        root = closed(open, element);
    }
    Ok(root)
}

/// Text outside the root is ignored.
fn add_text<O: Open>(open: &mut [O], text: &str) -> Option<O::Closed> {
    open.last_mut()?.add_text(text);
    None
}

/// The name of an element, without its prefix.
fn name_of(start: &BytesStart<'_>) -> Box<str> {
    start.local_name().as_ref().into()
}

impl Open for Element {
    type Closed = Element;

    fn open(start: &BytesStart<'_>, attributes: Vec<(Box<str>, Box<str>)>) -> Element {
        let prefix = start.name();
        let prefix = prefix.prefix().map_or("", |prefix| prefix.into_inner());
        Element {
            prefix: prefix.into(),
            name: name_of(start),
            attributes,
            content: Vec::new(),
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn add_text(&mut self, text: &str) {
        match self.content.last_mut() {
            Some(Content::Text(known)) => known.push_str(text),
            _ => self.content.push(Content::Text(text.to_owned())),
        }
    }

    fn add_child(&mut self, child: Element) {
        self.content.push(Content::Element(child));
    }

    fn close(self) -> Element {
        self
    }
}

/// The members that an element becomes.
#[derive(Default)]
struct Members {
    name: Box<str>,
    members: Object,
    /// A text before any member.
    alone: Option<Box<str>>,
    /// The text since the last element.
    text: String,
}

impl Members {
    fn end_text(&mut self) {
        match trimmed(&self.text) {
            "" => {}
            text if self.members.is_empty() => self.alone = Some(text.into()),
            text => {
                self.members.insert("#text".into(), Value::string(text));
            }
        }
        self.text.clear();
    }
}

impl Open for Members {
    type Closed = (Box<str>, Value);

    fn open(start: &BytesStart<'_>, attributes: Vec<(Box<str>, Box<str>)>) -> Members {
        let attributes = attributes.into_iter();
        let members =
            attributes.map(|(name, value)| (format!("-{name}").into(), Value::String(value)));
        Members {
            name: name_of(start),
            members: members.collect(),
            ..Members::default()
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn add_text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The value of an element is never an array, so an array always holds earlier elements of the same name.
    fn add_child(&mut self, (name, new): (Box<str>, Value)) {
        self.end_text();
        match self.members.get_mut(&name) {
            None => {
                self.members.insert(name, new);
            }
            Some(Value::Array(known)) => known.push(new),
            Some(known) => {
                let first = std::mem::take(known);
                *known = Value::Array(vec![first, new]);
            }
        }
    }

    fn close(mut self) -> (Box<str>, Value) {
        self.end_text();
        let value = match self.alone {
            alone if self.members.is_empty() => Value::String(alone.unwrap_or_default()),
            Some(text) => {
                self.members.insert("#text".into(), Value::String(text));
                Value::Object(self.members)
            }
            None => Value::Object(self.members),
        };
        (self.name, value)
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

    /// All text inside, trimmed. Of markup inside, only its text remains.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        self.gather(&mut text);
        trimmed(&text).to_owned()
    }

    /// The recursion is limited by the depth that the parser accepts.
    fn gather(&self, text: &mut String) {
        for content in &self.content {
            match content {
                Content::Text(piece) => text.push_str(piece),
                Content::Element(child) => child.gather(text),
            }
        }
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
        for rules in [Rules::Strict, Rules::Lenient] {
            assert!(bounded::<Element>(body, 5, rules).is_ok());
            assert!(bounded::<Members>(body, 5, rules).is_ok());
            let few = bounded::<Members>(body, 4, rules);
            assert!(matches!(few, Err(Error::TooMany)));
        }
    }

    #[test]
    fn an_end_tag_of_no_open_element_costs_what_it_was_compared_with() {
        let body = b"<a><b></c></c></b></a>";
        assert!(bounded::<Element>(body, 6, Rules::Lenient).is_ok());
        let few = bounded::<Element>(body, 5, Rules::Lenient);
        assert!(matches!(few, Err(Error::TooMany)));
    }
}
