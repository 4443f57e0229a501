//! Names in any case, and the memory of feeds with many items.

use bytes::Bytes;

use super::shape::{Error, decode};
use crate::runtime::json::{Depth, Growth, OBJECT, Style, Value, to_bytes};

fn read(body: &str, depth: Depth) -> (Value, usize) {
    let mut growth = Growth::default();
    let value = decode(&Bytes::from(body.to_owned()), depth, &mut growth).unwrap();
    (value, growth.into_charge().bytes())
}

fn json(body: &str) -> serde_json::Value {
    let (value, _) = read(body, Depth::TopLevel);
    serde_json::from_slice(&to_bytes(&value, Style::Verbatim)).unwrap()
}

#[test]
fn names_of_elements_have_any_case() {
    for body in [
        "<rss><channel><title>T</title><ITEM><TITLE>u</TITLE><PUBDATE>p</PUBDATE></ITEM></channel></rss>",
        "<RSS><Channel><Title>T</Title><item><Title>u</title><PubDate>p</pubdate></ITEM></CHANNEL></Rss>",
        "<rdf:RDF><CHANNEL><TITLE>T</TITLE></CHANNEL><Item><title>u</title><pubDate>p</pubDate></Item></rdf:RDF>",
        "<FEED><Title>T</Title><Entry><TITLE>u</TITLE><Published>p</Published></Entry></FEED>",
    ] {
        let feed = json(body);
        assert_eq!(feed["title"], "T", "{body}");
        let item = serde_json::json!([{"title": "u", "published": "p"}]);
        assert_eq!(feed["items"], item, "{body}");
    }
    // The names of extensions are compared as they are.
    let body = "<rss><channel><item><dc:Creator>x</dc:Creator><content:ENCODED>c</content:ENCODED></item></channel></rss>";
    assert_eq!(json(body)["items"], serde_json::json!([{"content": "c"}]));
}

#[test]
fn what_is_not_an_item_of_the_feed_is_none() {
    for body in [
        "<rss><channel><title>a<item>b</item></title><entry/></channel><entry/></rss>",
        "<feed><title>a<item>b</item></title><item/></feed>",
    ] {
        let feed = json(body);
        assert_eq!(
            (&feed["title"], &feed["items"]),
            (&"ab".into(), &serde_json::json!([]))
        );
    }
}

#[test]
fn characters_that_xml_does_not_allow_are_errors() {
    let body = Bytes::from("<rss><channel><title>a\u{8}</title></channel></rss>");
    let error = decode(&body, Depth::Full, &mut Growth::default()).unwrap_err();
    assert!(matches!(error, Error::Xml(_)));
    assert_eq!(
        error.to_string(),
        "XML syntax error: illegal character code U+0008"
    );
}

#[test]
fn a_feed_of_many_items_takes_little_more_than_their_texts() {
    let usual = format!(
        "<item><title>A title</title><link>https://example.com/a/b/c</link><description>{}</description>\
         <pubDate>Mon, 02 Jan 2006 15:04:05 GMT</pubDate><guid>g</guid><category>news</category></item>",
        "Some text. ".repeat(25)
    );
    for (item, most) in [
        ("<item><title>t</title></item>", 1),
        ("<item/>", 1),
        (&*usual, 2),
    ] {
        let body = format!("<rss><channel>{}</channel></rss>", item.repeat(20_000));
        let (value, charged) = read(&body, Depth::TopLevel);
        assert!(charged < most * body.len(), "{charged} of {}", body.len());
        assert!(
            charged >= to_bytes(&value, Style::Verbatim).len(),
            "{charged}"
        );
        let (tree, all) = read(&body, Depth::Full);
        assert!(all >= 20_000 * OBJECT, "{all}");
        assert_eq!(
            to_bytes(&tree, Style::Canonical),
            to_bytes(&value, Style::Canonical)
        );
    }
}
