//! The elements of a feed.

use quick_xml::events::BytesStart;

use super::{Open, heap, name_of, trimmed};
use crate::runtime::json::Growth;
use crate::upstream::budget::Full;

/// An element with its content.
#[derive(Debug, Default)]
pub(in crate::runtime::decode) struct Element {
    pub(in crate::runtime::decode) prefix: Box<str>,
    /// Without its prefix. In lower case, unless the prefix is that of an extension: feeds are not consistent.
    pub(in crate::runtime::decode) name: Box<str>,
    /// Names without prefixes. The last of several equal ones wins.
    pub(in crate::runtime::decode) attributes: Vec<(Box<str>, Box<str>)>,
    pub(in crate::runtime::decode) content: Vec<Content>,
    /// The most memory that it takes with its content, and with its place in the content of another one.
    pub(in crate::runtime::decode) bytes: usize,
}

/// Takes elements as soon as they end, so that not all of them are in memory at the same time.
pub(in crate::runtime::decode) trait Sink {
    /// Takes an element of these open ones, or returns it.
    ///
    /// # Errors
    /// There is no memory for what it becomes.
    fn take(
        &mut self,
        parents: &[Element],
        element: Element,
        growth: &mut Growth,
    ) -> Result<Option<Element>, Full>;
}

#[derive(Debug)]
pub(in crate::runtime::decode) enum Content {
    Text(String),
    Element(Element),
}

impl Open for Element {
    type Closed = Element;
    type Sink = dyn Sink;

    const BYTES: usize = GROWING;

    fn open(
        start: &BytesStart<'_>,
        attributes: Vec<(Box<str>, Box<str>)>,
        bytes: usize,
    ) -> Element {
        let prefix = start.name();
        let prefix = prefix.prefix().map_or("", |prefix| prefix.into_inner());
        let mut name = name_of(start);
        if matches!(prefix, "" | "rss" | "rdf" | "content") {
            name.make_ascii_lowercase();
        }
        Element {
            prefix: prefix.into(),
            name,
            attributes,
            content: Vec::new(),
            bytes,
        }
    }

    fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn add_text(&mut self, text: &str, growth: &mut Growth) -> Result<(), Full> {
        if let Some(Content::Text(known)) = self.content.last_mut() {
            let (needed, before) = (known.len() + text.len(), known.capacity());
            if needed > before {
                let after = needed.max(2 * before);
                // Both exist for a moment.
                growth.add(heap(after))?;
                known.reserve_exact(after - known.len());
                growth.release(heap(before));
                self.bytes += heap(after) - heap(before);
            }
            known.push_str(text);
        } else {
            let bytes = GROWING + heap(text.len());
            growth.add(bytes)?;
            self.push(Content::Text(text.to_owned()));
            self.bytes += bytes;
        }
        Ok(())
    }

    fn add_child(&mut self, child: Element) {
        self.bytes += child.bytes;
        self.push(Content::Element(child));
    }

    fn close(
        self,
        parents: &[Element],
        sink: &mut (dyn Sink + 'static),
        growth: &mut Growth,
    ) -> Result<Option<Element>, Full> {
        sink.take(parents, self, growth)
    }
}

/// What a piece of content takes in a list, while the list grows.
const GROWING: usize = 3 * size_of::<Content>();

impl Element {
    /// Most elements contain one text and nothing else.
    fn push(&mut self, content: Content) {
        if self.content.is_empty() {
            self.content.reserve_exact(1);
        }
        self.content.push(content);
    }

    /// The child elements.
    pub(in crate::runtime::decode) fn children(&self) -> impl Iterator<Item = &Element> {
        self.content.iter().filter_map(|content| match content {
            Content::Element(element) => Some(element),
            Content::Text(_) => None,
        })
    }

    /// All text inside, trimmed. Of markup inside, only its text remains.
    pub(in crate::runtime::decode) fn text(&self) -> String {
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
    pub(in crate::runtime::decode) fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter().rev();
        attributes
            .find(|(known, _)| &**known == name)
            .map(|(_, value)| &**value)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Error, MAX_PARTS, Rules, Tree};
    use super::*;

    /// Takes nothing.
    struct Nothing;

    impl Sink for Nothing {
        fn take(
            &mut self,
            _parents: &[Element],
            element: Element,
            _growth: &mut Growth,
        ) -> Result<Option<Element>, Full> {
            Ok(Some(element))
        }
    }

    pub(in crate::runtime::decode::xml) fn element(
        body: &[u8],
        left: usize,
        rules: Rules,
    ) -> Result<Element, Error> {
        Tree::<Element>::new(left, rules, &mut Growth::default(), &mut Nothing).read(body)
    }

    /// What an element holds: lists with their capacity, texts in pieces of 16 bytes.
    fn held(element: &Element) -> usize {
        let attributes = element.attributes.iter();
        let texts = attributes.map(|(name, value)| heap(name.len()) + heap(value.len()));
        let content = element.content.iter().map(|content| match content {
            Content::Text(text) => heap(text.capacity()),
            Content::Element(child) => held(child),
        });
        heap(element.prefix.len())
            + heap(element.name.len())
            + element.attributes.capacity() * size_of::<(Box<str>, Box<str>)>()
            + element.content.capacity() * size_of::<Content>()
            + texts.sum::<usize>()
            + content.sum::<usize>()
    }

    #[test]
    fn an_element_counts_at_least_the_memory_that_it_takes() {
        let attributes: String = (0..5000).map(|n| format!(" e{n}='1'")).collect();
        for text in [
            "<a/>".repeat(5000),
            "<a>text</a>".repeat(5000),
            "<a b='1'>t</a>".repeat(5000),
            "<a><b><c>1</c></b></a>".repeat(5000),
            "<a><b/><b/><b/></a>".repeat(5000),
            "x<b/>".repeat(5000),
            "x&amp;<!-- -->".repeat(5000),
            format!("<a{attributes}/>"),
        ] {
            let root = element(
                format!("<r>{text}</r>").as_bytes(),
                MAX_PARTS,
                Rules::Lenient,
            );
            let root = root.unwrap();
            let (held, counted) = (held(&root), root.bytes);
            assert!(counted >= held, "{}: {counted}, {held}", &text[..14]);
            assert!(counted <= 4 * held, "{}: {counted}, {held}", &text[..14]);
        }
    }
}
