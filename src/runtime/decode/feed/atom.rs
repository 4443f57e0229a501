//! Atom (RFC 4287). Names are compared in lower case.

use crate::runtime::decode::feed::shape::{Enclosure, Feed, Item, Person};
use crate::runtime::decode::xml::Element;

pub(super) fn decode(root: &Element) -> Feed {
    let mut feed = Feed {
        kind: "atom",
        language: root.attribute("lang").unwrap_or_default().to_owned(),
        ..Feed::default()
    };
    for child in root.children() {
        match &*child.name {
            "title" => feed.title = child.text(),
            "subtitle" | "tagline" => feed.description = child.text(),
            "rights" | "copyright" => feed.copyright = child.text(),
            "updated" | "modified" => feed.updated = child.text(),
            "author" => feed.author = feed.author.take().or_else(|| Some(person(child))),
            "category" => feed.categories.push(category(child)),
            "logo" => feed.image = child.text(),
            "icon" if feed.image.is_empty() => feed.image = child.text(),
            _ => {}
        }
    }
    feed
}

pub(super) fn entry(element: &Element) -> Item {
    let mut item = Item::default();
    for child in element.children() {
        match &*child.name {
            "title" => item.title = child.text(),
            "summary" => item.description = child.text(),
            "content" => item.content = child.text(),
            "id" => item.guid = child.text(),
            "updated" | "modified" => item.updated = child.text(),
            "published" | "issued" => item.published = child.text(),
            "author" => item.authors.push(person(child)),
            "category" => item.categories.push(category(child)),
            "link" => link(&mut item, child),
            _ => {}
        }
    }
    if item.published.is_empty() {
        item.published.clone_from(&item.updated);
    }
    item
}

fn link(item: &mut Item, element: &Element) {
    let value = |name| element.attribute(name).unwrap_or_default().to_owned();
    match element.attribute("rel") {
        None | Some("" | "alternate") => item.links.push(value("href")),
        Some("enclosure") => item.enclosures.push(Enclosure {
            url: value("href"),
            length: value("length"),
            kind: value("type"),
        }),
        Some(_) => {}
    }
}

fn category(element: &Element) -> String {
    let label = element.attribute("label").filter(|label| !label.is_empty());
    label
        .or_else(|| element.attribute("term"))
        .unwrap_or_default()
        .to_owned()
}

fn person(element: &Element) -> Person {
    let mut person = Person::default();
    for child in element.children() {
        match &*child.name {
            "name" => person.name = child.text(),
            "email" => person.email = child.text(),
            _ => {}
        }
    }
    person
}
