//! The common shape of all feeds.

use bytes::Bytes;

use crate::runtime::decode::feed::{atom, date, json_feed, rss};
use crate::runtime::decode::xml;
use crate::runtime::json::{self, Object, Value};

/// Why a body is not a feed.
#[derive(Debug, thiserror::Error)]
pub(in crate::runtime::decode) enum Error {
    #[error("Failed to detect feed type")]
    NoFeed,
    #[error(transparent)]
    Xml(#[from] xml::Error),
    #[error(transparent)]
    Json(#[from] json::Error),
}

/// Decodes a feed of any of the three families.
pub(in crate::runtime::decode) fn decode(body: &Bytes) -> Result<Value, Error> {
    match body.iter().find(|byte| matches!(byte, b'<' | b'{')) {
        Some(b'{') => json_feed::decode(body),
        Some(_) => {
            let root = xml::root(body)?;
            match &*root.name {
                "feed" => Ok(atom::decode(&root).into_value()),
                "rss" | "RDF" => Ok(rss::decode(&root).into_value()),
                _ => Err(Error::NoFeed),
            }
        }
        None => Err(Error::NoFeed),
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
    pub(super) items: Vec<Item>,
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
    pub(super) fn into_value(self) -> Value {
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
        let items = self.items.into_iter().map(Item::into_value).collect();
        data.insert("items".into(), Value::Array(items));
        add(&mut data, "img_url", self.image);
        Value::Object(data)
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
