//! JSON Feed 1.x. As in KrakenD, any JSON object is accepted: missing members are empty.

use bytes::Bytes;

use crate::runtime::decode::feed::shape::{Enclosure, Error, Feed, Item, Items, Person};
use crate::runtime::json::{Depth, Growth, Object, Value, parse};

/// Decodes a feed, whose tree is charged already.
pub(super) fn decode(body: &Bytes, items: &mut Items, growth: &mut Growth) -> Result<Feed, Error> {
    let Value::Object(root) = parse(body, Depth::Full)? else {
        return Err(Error::NoFeed);
    };
    for data in objects(&root, "items") {
        items.push(item(data), growth)?;
    }
    Ok(Feed {
        kind: "json",
        title: text(&root, "title"),
        description: text(&root, "description"),
        language: text(&root, "language"),
        image: first(&root, &["icon", "favicon"]),
        author: authors(&root).into_iter().next(),
        ..Feed::default()
    })
}

fn item(data: &Object) -> Item {
    let url = first(data, &["url", "external_url"]);
    Item {
        title: text(data, "title"),
        description: text(data, "summary"),
        content: first(data, &["content_html", "content_text"]),
        links: Some(url)
            .filter(|url| !url.is_empty())
            .into_iter()
            .collect(),
        updated: text(data, "date_modified"),
        published: text(data, "date_published"),
        authors: authors(data),
        guid: text(data, "id"),
        image: first(data, &["image", "banner_image"]),
        categories: list(data, "tags").iter().map(text_of).collect(),
        enclosures: objects(data, "attachments").map(enclosure).collect(),
    }
}

fn enclosure(data: &Object) -> Enclosure {
    Enclosure {
        url: text(data, "url"),
        length: text(data, "size_in_bytes"),
        kind: text(data, "mime_type"),
    }
}

/// `authors` of version 1.1, or the single `author` of version 1.
fn authors(data: &Object) -> Vec<Person> {
    let one = match data.get("author") {
        Some(Value::Object(author)) => Some(author),
        _ => None,
    };
    objects(data, "authors")
        .chain(one)
        .map(|author| Person {
            name: text(author, "name"),
            email: String::new(),
        })
        .collect()
}

fn text(data: &Object, name: &str) -> String {
    data.get(name).map(text_of).unwrap_or_default()
}

fn first(data: &Object, names: &[&str]) -> String {
    let mut texts = names.iter().map(|name| text(data, name));
    texts.find(|text| !text.is_empty()).unwrap_or_default()
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) | Value::Number(text) => text.to_string(),
        _ => String::new(),
    }
}

fn list<'d>(data: &'d Object, name: &str) -> &'d [Value] {
    match data.get(name) {
        Some(Value::Array(array)) => array,
        _ => &[],
    }
}

fn objects<'d>(data: &'d Object, name: &str) -> impl Iterator<Item = &'d Object> {
    list(data, name).iter().filter_map(|value| match value {
        Value::Object(object) => Some(object),
        _ => None,
    })
}
