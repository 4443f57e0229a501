//! RSS 0.9x, 1.0 (RDF) and 2.0. Names are compared in lower case, those of extensions as they are.

use crate::runtime::decode::feed::shape::{Enclosure, Feed, Item, Person};
use crate::runtime::decode::xml::Element;

pub(super) fn decode(root: &Element) -> Feed {
    let mut feed = Feed {
        kind: "rss",
        ..Feed::default()
    };
    // In RDF, the image is next to the channel, not inside it.
    for child in root.children() {
        match &*child.name {
            "channel" => child.children().for_each(|child| member(&mut feed, child)),
            "image" => member(&mut feed, child),
            _ => {}
        }
    }
    feed
}

fn member(feed: &mut Feed, element: &Element) {
    match (&*element.prefix, &*element.name) {
        ("", "title") => feed.title = element.text(),
        ("", "description") => feed.description = element.text(),
        ("", "language") | ("dc", "language") => fill(&mut feed.language, element),
        ("", "copyright") | ("dc", "rights") => fill(&mut feed.copyright, element),
        ("", "pubdate") => feed.published = element.text(),
        ("", "lastbuilddate") => feed.updated = element.text(),
        ("dc", "date") => fill(&mut feed.updated, element),
        ("", "managingeditor" | "webmaster")
        | ("dc", "creator" | "author")
        | ("itunes", "author") => {
            let author = Person::parse(&element.text());
            feed.author = feed.author.take().or(author);
        }
        ("", "category") | ("dc", "subject") => feed.categories.push(element.text()),
        ("", "image") => {
            let mut urls = element.children().filter(|child| &*child.name == "url");
            feed.image = urls.next().map(Element::text).unwrap_or_default();
        }
        ("itunes", "image") if feed.image.is_empty() => feed.image = href(element),
        _ => {}
    }
}

pub(super) fn item(element: &Element) -> Item {
    let mut item = Item::default();
    for child in element.children() {
        match (&*child.prefix, &*child.name) {
            ("", "title") => item.title = child.text(),
            ("dc", "title") => fill(&mut item.title, child),
            ("", "description") => item.description = child.text(),
            ("dc", "description") => fill(&mut item.description, child),
            ("content", "encoded") | ("", "content") => fill(&mut item.content, child),
            ("", "link") => item
                .links
                .extend(Some(child.text()).filter(|link| !link.is_empty())),
            ("", "pubdate") => item.published = child.text(),
            ("dc", "date") => fill(&mut item.published, child),
            ("", "author") | ("dc", "creator" | "author") | ("itunes", "author") => {
                item.authors.extend(Person::parse(&child.text()));
            }
            ("", "guid") => item.guid = child.text(),
            ("", "category") | ("dc", "subject") => item.categories.push(child.text()),
            ("itunes", "image") => item.image = href(child),
            ("", "enclosure") => item.enclosures.push(enclosure(child)),
            _ => {}
        }
    }
    item
}

/// Fills a text from its second-best source, which must not replace the best one.
fn fill(text: &mut String, element: &Element) {
    if text.is_empty() {
        *text = element.text();
    }
}

fn href(element: &Element) -> String {
    element.attribute("href").unwrap_or_default().to_owned()
}

fn enclosure(element: &Element) -> Enclosure {
    let value = |name| element.attribute(name).unwrap_or_default().to_owned();
    Enclosure {
        url: value("url"),
        length: value("length"),
        kind: value("type"),
    }
}
