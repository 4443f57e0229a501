//! The common shape of all feeds.

use bytes::Bytes;

use crate::runtime::decode::feed::{atom, date, json_feed, rss};
use crate::runtime::decode::xml::{self, Element, Sink};
use crate::runtime::json::{self, Count, Depth, Growth, Object, Out, Style, Value, write};
use crate::upstream::budget::Full;

/// Why a body is not a feed.
#[derive(Debug, thiserror::Error)]
pub(in crate::runtime::decode) enum Error {
    #[error("Failed to detect feed type")]
    NoFeed,
    #[error(transparent)]
    Xml(#[from] xml::Error),
    #[error(transparent)]
    Json(#[from] json::Error),
    #[error(transparent)]
    Full(#[from] Full),
}

/// Elements become a feed, or an item: their texts are copied, and then become members. So much more memory is taken
/// meanwhile.
const COPIES: usize = 3;

/// Decodes a feed of any of the three families. `growth` counts the result, and what is needed for a while.
pub(in crate::runtime::decode) fn decode(
    body: &Bytes,
    depth: Depth,
    growth: &mut Growth,
) -> Result<Value, Error> {
    let (mut items, mut needed) = (Items::default(), 0);
    let feed = match body.iter().find(|byte| matches!(byte, b'<' | b'{')) {
        Some(b'{') => json_feed::decode(body, &mut items, growth)?,
        Some(_) => {
            let root = xml::root(body, growth, &mut items).map_err(|error| match error {
                xml::Error::Full(full) => Error::Full(full),
                error => Error::Xml(error),
            })?;
            growth.add(COPIES * root.bytes)?;
            needed = (1 + COPIES) * root.bytes;
            match kind(&root) {
                Some("atom") => atom::decode(&root),
                Some(_) => rss::decode(&root),
                None => return Err(Error::NoFeed),
            }
        }
        None => return Err(Error::NoFeed),
    };
    let mut data = feed.into_members();
    growth.add(data.values().map(Value::weight).sum::<usize>() + json::OBJECT)?;
    growth.release(needed);
    data.insert("items".into(), items.into_value(depth, growth)?);
    growth.settle();
    Ok(Value::Object(data))
}

/// The family of a feed with this root.
fn kind(root: &Element) -> Option<&'static str> {
    let name = &*root.name;
    if name.eq_ignore_ascii_case("feed") {
        Some("atom")
    } else if name.eq_ignore_ascii_case("rss") || name.eq_ignore_ascii_case("rdf") {
        Some("rss")
    } else {
        None
    }
}

/// The items of a feed as JSON, because objects of their members would take many times as much memory.
#[derive(Debug, Default)]
pub(super) struct Items {
    text: Vec<u8>,
}

impl Items {
    pub(super) fn push(&mut self, item: Item, growth: &mut Growth) -> Result<(), Full> {
        let item = item.into_value();
        let mut count = Count::default();
        write(&mut count, &item, Style::Canonical);
        let (known, before) = (self.text.len(), self.text.capacity());
        let needed = known + count.size() + 2;
        if needed > before {
            let after = needed.max(before + before / 2);
            growth.add(after)?;
            self.text.reserve_exact(after - known);
            growth.release(before);
        }
        self.text.push(if known == 0 { b'[' } else { b',' });
        write(&mut self.text, &item, Style::Canonical);
        Ok(())
    }

    /// A list. Its text stays as it is if nothing will look at all of its items.
    fn into_value(mut self, depth: Depth, growth: &mut Growth) -> Result<Value, Full> {
        if self.text.is_empty() {
            return Ok(Value::Array(Vec::new()));
        }
        self.text.push(b']');
        let capacity = self.text.capacity();
        let text = Bytes::from(self.text);
        if depth != Depth::Full {
            return Ok(Value::raw_settled(text));
        }
        growth.tree(&text)?;
        let items = Value::raw_settled(text).expanded();
        growth.release(capacity);
        Ok(items)
    }
}

impl Sink for Items {
    fn take(
        &mut self,
        parents: &[Element],
        element: Element,
        growth: &mut Growth,
    ) -> Result<Option<Element>, Full> {
        let Some(kind) = parents.first().and_then(kind) else {
            return Ok(Some(element));
        };
        let item: fn(&Element) -> Item = match (kind, &*element.name, parents) {
            ("atom", "entry", [_]) => atom::entry,
            // In RDF, items are next to the channel, not inside it.
            ("rss", "item", [_]) => rss::item,
            ("rss", "item", [_, channel])
                if element.prefix.is_empty() && &*channel.name == "channel" =>
            {
                rss::item
            }
            _ => return Ok(Some(element)),
        };
        growth.add(COPIES * element.bytes)?;
        self.push(item(&element), growth)?;
        growth.release((1 + COPIES) * element.bytes);
        Ok(None)
    }
}

/// A feed before it becomes a value. An empty text counts as absent.
#[derive(Debug, Default)]
pub(super) struct Feed {
    pub(super) kind: &'static str,
    pub(super) title: String,
    pub(super) description: String,
    pub(super) language: String,
    pub(super) copyright: String,
    pub(super) published: String,
    pub(super) updated: String,
    pub(super) image: String,
    pub(super) author: Option<Person>,
    pub(super) categories: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Item {
    pub(super) title: String,
    pub(super) description: String,
    pub(super) content: String,
    /// The first one is the link of the feed.
    pub(super) links: Vec<String>,
    pub(super) updated: String,
    pub(super) published: String,
    pub(super) authors: Vec<Person>,
    pub(super) guid: String,
    pub(super) image: String,
    pub(super) categories: Vec<String>,
    pub(super) enclosures: Vec<Enclosure>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) email: String,
}

#[derive(Debug, Default)]
pub(super) struct Enclosure {
    pub(super) url: String,
    pub(super) length: String,
    pub(super) kind: String,
}

impl Feed {
    /// All members but the items.
    fn into_members(self) -> Object {
        let mut data = Object::new();
        for (name, text) in [
            ("title", self.title),
            ("description", self.description),
            ("language", self.language),
            ("copyright", self.copyright),
            ("published", self.published),
            ("updated", self.updated),
            ("type", self.kind.to_owned()),
        ] {
            data.insert(name.into(), Value::string(text));
        }
        let author = self.author.map_or(Value::Null, Person::into_value);
        data.insert("author".into(), author);
        data.insert("categories".into(), texts(self.categories));
        data.insert("custom".into(), Value::Null);
        add(&mut data, "img_url", self.image);
        data
    }
}

impl Item {
    fn into_value(self) -> Value {
        let mut data = Object::new();
        add_date(&mut data, "updated", self.updated);
        add_date(&mut data, "published", self.published);
        add(&mut data, "title", self.title);
        add(&mut data, "description", self.description);
        add(&mut data, "content", self.content);
        add(
            &mut data,
            "link",
            self.links.first().cloned().unwrap_or_default(),
        );
        add(&mut data, "guid", self.guid);
        if !self.links.is_empty() {
            data.insert("links".into(), texts(self.links));
        }
        if !self.categories.is_empty() {
            data.insert("categories".into(), texts(self.categories));
        }
        if let Some(first) = self.authors.first() {
            data.insert("author".into(), first.clone().into_value());
            let all = self.authors.into_iter().map(Person::into_value).collect();
            data.insert("authors".into(), Value::Array(all));
        }
        if !self.image.is_empty() {
            let mut image = Object::new();
            add(&mut image, "url", self.image);
            data.insert("image".into(), Value::Object(image));
        }
        if !self.enclosures.is_empty() {
            let all = self.enclosures.into_iter().map(Enclosure::into_value);
            data.insert("enclosures".into(), Value::Array(all.collect()));
        }
        Value::Object(data)
    }
}

impl Person {
    /// `ann@example.com (Ann)`, `Ann <ann@example.com>`, or one of the two parts.
    pub(super) fn parse(text: &str) -> Option<Person> {
        let text = text.trim();
        let inner = |open, close| {
            let (before, after) = text.split_once(open)?;
            Some((before.trim(), after.strip_suffix(close)?.trim()))
        };
        let (name, email) = match (inner('(', ')'), inner('<', '>')) {
            (Some((email, name)), _) => (name, email),
            (_, Some((name, email))) => (name, email),
            _ if text.contains('@') => ("", text),
            _ => (text, ""),
        };
        (!text.is_empty()).then(|| Person {
            name: name.to_owned(),
            email: email.to_owned(),
        })
    }

    fn into_value(self) -> Value {
        let mut data = Object::new();
        add(&mut data, "name", self.name);
        add(&mut data, "email", self.email);
        Value::Object(data)
    }
}

impl Enclosure {
    fn into_value(self) -> Value {
        let mut data = Object::new();
        add(&mut data, "url", self.url);
        add(&mut data, "length", self.length);
        add(&mut data, "type", self.kind);
        Value::Object(data)
    }
}

fn add(data: &mut Object, name: &str, text: String) {
    if !text.is_empty() {
        data.insert(name.into(), Value::string(text));
    }
}

/// Adds the original text, and the parsed date if it can be parsed.
fn add_date(data: &mut Object, name: &str, text: String) {
    if let Some(parsed) = date::to_rfc3339(&text) {
        add(data, &format!("{name}Parsed"), parsed);
    }
    add(data, name, text);
}

/// Null for no texts, as KrakenD represents an absent list.
fn texts(all: Vec<String>) -> Value {
    if all.is_empty() {
        Value::Null
    } else {
        Value::Array(all.into_iter().map(Value::string).collect())
    }
}
