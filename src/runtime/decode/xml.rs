//! XML: elements become members, attributes `-name`, text next to either `#text`, and repeated elements arrays.

mod element;
mod members;

use std::borrow::Cow;

use bytes::Bytes;
use quick_xml::escape::{EscapeError, resolve_xml_entity, unescape_with};
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;

use crate::runtime::decode::{charset, lenient};
use crate::runtime::heavy::is_late;
use crate::runtime::json::{Growth, MAX_DEPTH, Object, Value};
use crate::upstream::budget::Full;
use members::Members;

pub(super) use element::{Element, Sink};

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
    /// XML 1.0 §2.2 does not allow it.
    #[error("XML syntax error: illegal character code U+{:04X}", u32::from(*.0))]
    Character(char),
    #[error("XML nested deeper than {MAX_DEPTH}")]
    TooDeep,
    #[error("XML with more than {MAX_PARTS} elements and attributes")]
    TooMany,
    /// The deadline of the request has passed.
    #[error("context deadline exceeded")]
    Late,
    #[error(transparent)]
    Full(#[from] Full),
}

/// Decodes a document to an object whose only member is the root element. As in KrakenD, all values are strings. The
/// memory of the result is known before.
pub(super) fn decode(body: &Bytes) -> Result<Value, Error> {
    let (mut growth, mut sink) = (Growth::uncounted(), ());
    let tree = Tree::<Members>::new(MAX_PARTS, Rules::Strict, &mut growth, &mut sink);
    let (name, value) = tree.read(body)?;
    Ok(Value::Object(Object::from([(name, value)])))
}

/// Decodes the first element of a feed, without what `sink` takes. The rest is ignored, and common mistakes are tolerated.
/// `growth` counts the memory.
pub(super) fn root(
    body: &Bytes,
    growth: &mut Growth,
    sink: &mut (dyn Sink + 'static),
) -> Result<Element, Error> {
    Tree::<Element>::new(MAX_PARTS, Rules::Lenient, growth, sink).read(body)
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
    type Sink: ?Sized;

    /// What an element takes besides its texts.
    const BYTES: usize;

    /// `bytes` were counted for it.
    fn open(start: &BytesStart<'_>, attributes: Vec<(Box<str>, Box<str>)>, bytes: usize) -> Self;

    /// Whether an end tag with this name, without a prefix, ends it.
    fn is_named(&self, name: &str) -> bool;

    /// Adds a piece of text. Pieces that are separated only by comments or references form one text.
    fn add_text(&mut self, text: &str, growth: &mut Growth) -> Result<(), Full>;

    fn add_child(&mut self, child: Self::Closed);

    /// `None` if `sink` has taken it.
    fn close(
        self,
        parents: &[Self],
        sink: &mut Self::Sink,
        growth: &mut Growth,
    ) -> Result<Option<Self::Closed>, Full>;
}

/// A document that is being read.
struct Tree<'t, O: Open> {
    open: Vec<O>,
    /// How many elements and attributes may follow.
    left: usize,
    rules: Rules,
    growth: &'t mut Growth,
    sink: &'t mut O::Sink,
}

impl<'t, O: Open> Tree<'t, O> {
    fn new(
        left: usize,
        rules: Rules,
        growth: &'t mut Growth,
        sink: &'t mut O::Sink,
    ) -> Tree<'t, O> {
        Tree {
            open: Vec::new(),
            left,
            rules,
            growth,
            sink,
        }
    }

    fn read(mut self, body: &[u8]) -> Result<O::Closed, Error> {
        let text = charset::text(body).map_err(Error::Charset)?;
        if let Cow::Owned(text) = &text {
            self.growth.add(text.capacity())?;
        }
        let mut reader = Reader::from_str(&text);
        let is_lenient = self.rules == Rules::Lenient;
        let config = reader.config_mut();
        config.check_end_names = !is_lenient;
        config.allow_unmatched_ends = is_lenient;
        config.allow_dangling_amp = is_lenient;
        loop {
            if is_late() {
                return Err(Error::Late);
            }
            let done = match reader
                .read_event()
                .map_err(|error| Error::Syntax(error.to_string()))?
            {
                Event::Start(_) if self.open.len() >= MAX_DEPTH => return Err(Error::TooDeep),
                Event::Start(start) => {
                    let element = self.opened(&start)?;
                    self.open.push(element);
                    None
                }
                Event::Empty(start) => {
                    let element = self.opened(&start)?;
                    self.closed(element)?
                }
                Event::End(end) if is_lenient => self.close_all(end.local_name().as_ref())?,
                Event::End(_) => match self.open.pop() {
                    Some(element) => self.closed(element)?,
                    None => return Err(Error::Syntax("unexpected end element".to_owned())),
                },
                Event::Text(text) => self.add_text(&text.xml10_content())?,
                Event::CData(text) => self.add_text(&text.xml10_content())?,
                Event::GeneralRef(reference) if is_lenient => {
                    match lenient::resolved_text(&reference) {
                        Some(text) => self.add_text(&text)?,
                        None => self.add_text(&format!("&{};", &*reference))?,
                    }
                }
                Event::GeneralRef(reference) => self.add_text(&resolved(&reference)?)?,
                Event::Eof if self.open.is_empty() => return Err(Error::Empty),
                Event::Eof => return Err(Error::Truncated),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => None,
            };
            if let Some(root) = done {
                if let Cow::Owned(text) = &text {
                    self.growth.release(text.capacity());
                }
                return Ok(root);
            }
        }
    }

    fn spend(&mut self, parts: usize) -> Result<(), Error> {
        self.left = self.left.checked_sub(parts).ok_or(Error::TooMany)?;
        Ok(())
    }

    /// Opens an element and counts it.
    fn opened(&mut self, start: &BytesStart<'_>) -> Result<O, Error> {
        self.spend(1)?;
        let mut bytes = O::BYTES + heap(start.name().as_ref().len());
        self.growth.add(bytes)?;
        let mut attributes = Vec::new();
        let mut all = match self.rules {
            Rules::Strict => start.attributes(),
            Rules::Lenient => start.html_attributes(),
        };
        // The library's check for equal names compares each with each, which a backend could exploit.
        for attribute in all.with_checks(false) {
            if is_late() {
                return Err(Error::Late);
            }
            self.spend(1)?;
            let attribute = attribute.map_err(|error| Error::Syntax(error.to_string()))?;
            let written = line_ends(&attribute.value);
            let value = match self.rules {
                Rules::Strict => {
                    unescape_with(&written, resolve_xml_entity).map_err(|error| match error {
                        EscapeError::UnrecognizedEntity(_, name) => Error::Entity(name),
                        other => Error::Syntax(other.to_string()),
                    })?
                }
                Rules::Lenient => lenient::unescaped(&written),
            };
            check(&value)?;
            let name = attribute.key.local_name();
            let more = ATTRIBUTE + heap(name.as_ref().len()) + heap(value.len());
            self.growth.add(more)?;
            bytes += more;
            attributes.push((name.as_ref().into(), value.as_ref().into()));
        }
        Ok(O::open(start, attributes, bytes))
    }

    /// Adds a finished element to its parent. The root is returned.
    fn closed(&mut self, element: O) -> Result<Option<O::Closed>, Error> {
        let Some(closed) = element.close(&self.open, self.sink, self.growth)? else {
            return Ok(None);
        };
        match self.open.last_mut() {
            Some(parent) => {
                parent.add_child(closed);
                Ok(None)
            }
            None => Ok(Some(closed)),
        }
    }

    /// Closes the innermost element with this name and all elements inside it.
    fn close_all(&mut self, name: &str) -> Result<Option<O::Closed>, Error> {
        let mut open = self.open.iter();
        let Some(at) = open.rposition(|element| element.is_named(name)) else {
            // Each one of these was compared with all open elements.
            return self.spend(self.open.len()).map(|()| None);
        };
        let mut root = None;
        while self.open.len() > at
            && let Some(element) = self.open.pop()
        {
            root = self.closed(element)?;
        }
        Ok(root)
    }

    /// Text outside the root is ignored.
    fn add_text(&mut self, text: &str) -> Result<Option<O::Closed>, Error> {
        check(text)?;
        if let Some(element) = self.open.last_mut() {
            element.add_text(text, self.growth)?;
        }
        Ok(None)
    }
}

/// A text with the line ends of XML 1.0 §2.11. Those that are written as references stay.
fn line_ends(text: &str) -> Cow<'_, str> {
    if text.contains('\r') {
        Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(text)
    }
}

/// What an attribute takes besides its texts, while the list of them grows.
const ATTRIBUTE: usize = 3 * size_of::<(Box<str>, Box<str>)>();

/// What a text of this length takes.
fn heap(bytes: usize) -> usize {
    bytes.next_multiple_of(16)
}

/// Rejects characters that XML 1.0 §2.2 does not allow, however they are written.
fn check(text: &str) -> Result<(), Error> {
    let is_illegal = |c: char| {
        matches!(c, '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}') && !matches!(c, '\t' | '\n' | '\r')
    };
    // One look at each byte: hardly any text has these.
    let is_suspicious = |byte: u8| byte < 0x20 || byte == 0xef;
    if !text.bytes().any(is_suspicious) {
        return Ok(());
    }
    match text.chars().find(|c| is_illegal(*c)) {
        Some(illegal) => Err(Error::Character(illegal)),
        None => Ok(()),
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

/// The name of an element, without its prefix.
fn name_of(start: &BytesStart<'_>) -> Box<str> {
    start.local_name().as_ref().into()
}

/// The text without the characters that KrakenD treats as layout.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(['\t', '\r', '\u{8}', '\n', ' '])
}

#[cfg(test)]
mod tests {
    use super::element::tests::element;
    use super::*;

    fn members(body: &[u8], left: usize, rules: Rules) -> Result<(Box<str>, Value), Error> {
        Tree::<Members>::new(left, rules, &mut Growth::default(), &mut ()).read(body)
    }

    #[test]
    fn the_number_of_parts_is_limited() {
        let body = b"<a k='1'><b/><b k='2'/></a>";
        for rules in [Rules::Strict, Rules::Lenient] {
            assert!(element(body, 5, rules).is_ok());
            assert!(members(body, 5, rules).is_ok());
            let few = members(body, 4, rules);
            assert!(matches!(few, Err(Error::TooMany)));
        }
    }

    #[test]
    fn an_end_tag_of_no_open_element_costs_what_it_was_compared_with() {
        let body = b"<a><b></c></c></b></a>";
        assert!(element(body, 6, Rules::Lenient).is_ok());
        let few = element(body, 5, Rules::Lenient);
        assert!(matches!(few, Err(Error::TooMany)));
    }

    #[test]
    fn line_ends_are_line_feeds_unless_they_are_references() {
        for rules in [Rules::Strict, Rules::Lenient] {
            let read = |text: &str| format!("{:?}", members(text.as_bytes(), 9, rules).unwrap());
            let expected = read("<a k='x\ny\nz'>b\nc<![CDATA[d\ne\n]]></a>");
            let written = "<a k='x\r\ny\rz'>b\r\nc<![CDATA[d\re\r\n]]></a>";
            assert_eq!(read(written), expected);
            assert!(read("<a k='x&#13;y'/>").contains("\\r"));
        }
    }

    #[test]
    fn characters_that_xml_does_not_allow_are_errors() {
        for text in [
            "\0",
            "\u{8}",
            "a\u{1b}b",
            "\u{fffe}",
            "<![CDATA[\u{1}]]>",
            "<b k='\u{2}'/>",
        ] {
            for rules in [Rules::Strict, Rules::Lenient] {
                let read = members(format!("<a>{text}</a>").as_bytes(), 9, rules);
                assert!(matches!(read, Err(Error::Character(_))), "{text:?}");
            }
        }
        let read = members(b"<a>&#8;</a>", 9, Rules::Strict);
        assert!(read.is_err());
        assert!(members("<a>\t\r\n\u{ff0f}\u{7f}</a>".as_bytes(), 9, Rules::Strict).is_ok());
        assert_eq!(
            Error::Character('\u{8}').to_string(),
            "XML syntax error: illegal character code U+0008"
        );
    }
}
