use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::runtime::heavy::LARGE;
use crate::runtime::json::{Depth, Style, Value, to_bytes};

/// The decoded value as JSON, or the text of the error.
fn told(encoding: &str, is_collection: bool, body: &[u8], depth: Depth) -> String {
    let decoder = Decoder {
        encoding: Kind::parse(encoding),
        is_collection,
    };
    match decoder.decode(&Bytes::copy_from_slice(body), depth) {
        Ok((value, _)) => String::from_utf8(to_bytes(&value, Style::Canonical).to_vec()).unwrap(),
        Err(failure) => format!("! {failure}"),
    }
}

fn decoded(encoding: &str, body: &str) -> String {
    let full = told(encoding, false, body.as_bytes(), Depth::Full);
    assert_eq!(
        full,
        told(encoding, false, body.as_bytes(), Depth::TopLevel)
    );
    full
}

#[test]
fn names_are_parsed_as_in_krakend() {
    for (name, kind) in [
        ("", Kind::Json),
        ("JSON", Kind::Json),
        ("fast-json", Kind::Json),
        ("YAML", Kind::Yaml),
        ("bogus", Kind::Json),
        ("SafeJSON", Kind::SafeJson),
        ("String", Kind::String),
        ("XML", Kind::Xml),
        ("rss", Kind::Rss),
        ("no-op", Kind::NoOp),
        ("No-Op", Kind::Json),
    ] {
        assert_eq!(Kind::parse(name), kind, "{name}");
    }
}

#[test]
fn json_is_an_object_or_null() {
    assert_eq!(
        decoded("json", r#"{"b":1.10,"a":[1]} trailing"#),
        r#"{"a":[1],"b":1.10}"#
    );
    assert_eq!(decoded("json", "null"), "null");
    assert_eq!(
        decoded("json", "[1]"),
        "! json: cannot unmarshal array into Go value of type map[string]interface {}"
    );
    assert_eq!(
        decoded("json", "12"),
        "! json: cannot unmarshal number into Go value of type map[string]interface {}"
    );
    assert_eq!(decoded("json", ""), "! EOF");
    assert_eq!(decoded("json", "{\"a\":"), "! unexpected EOF");
    assert_eq!(
        decoded("json", "plain"),
        "! invalid character 'p' looking for beginning of value"
    );
}

#[test]
fn a_collection_is_an_array_or_null() {
    let collection = |body: &str| told("json", true, body.as_bytes(), Depth::TopLevel);
    assert_eq!(collection("[{\"id\":1}]"), r#"{"collection":[{"id":1}]}"#);
    assert_eq!(collection("null"), r#"{"collection":null}"#);
    assert_eq!(
        collection("{}"),
        "! json: cannot unmarshal object into Go value of type []interface {}"
    );
}

#[test]
fn safe_json_accepts_any_json() {
    for (body, want) in [
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        ("[1,2]", r#"{"collection":[1,2]}"#),
        ("null", r#"{"content":null}"#),
        ("true", r#"{"content":true}"#),
        ("\"x\"", r#"{"content":"x"}"#),
    ] {
        assert_eq!(decoded("safejson", body), want);
    }
    assert!(decoded("safejson", "\u{feff}{}").starts_with('!'));
}

#[test]
fn text_is_unchanged() {
    assert_eq!(
        decoded("string", "Hello\nworld"),
        r#"{"content":"Hello\nworld"}"#
    );
    assert_eq!(decoded("string", ""), r#"{"content":""}"#);
    let odd = told("string", false, b"a\xff\xfeb", Depth::Full);
    assert_eq!(odd, "{\"content\":\"a\u{fffd}\u{fffd}b\"}");
    assert_eq!(decoded("no-op", "anything"), "{}");
}

#[test]
fn xml_becomes_nested_objects_of_strings() {
    for (body, want) in [
        (
            r#"<doc at="v"><item id="1">one</item><item id="2">two</item><n>3</n><e/></doc>"#,
            r##"{"doc":{"-at":"v","e":"","item":[{"#text":"one","-id":"1"},{"#text":"two","-id":"2"}],"n":"3"}}"##,
        ),
        (
            "<?xml version=\"1.0\"?><!DOCTYPE r><r> \n<a> x </a><b></b>\n</r> trailing",
            r#"{"r":{"a":"x","b":""}}"#,
        ),
        (
            r#"<n:a xmlns:n="u" n:k="1"><n:b>t</n:b></n:a>"#,
            r#"{"a":{"-k":"1","-n":"u","b":"t"}}"#,
        ),
        (
            "<a><![CDATA[<x>&]]></a>",
            "{\"a\":\"\\u003cx\\u003e\\u0026\"}",
        ),
        (
            "<a>1 &lt; 2 &#233;&amp;</a>",
            "{\"a\":\"1 \\u003c 2 é\\u0026\"}",
        ),
        ("<a>x<!-- c -->y</a>", r#"{"a":"xy"}"#),
        ("<a>t<b/>u</a>", r##"{"a":{"#text":"t","b":""}}"##),
        ("<a><b/>u</a>", r##"{"a":{"#text":"u","b":""}}"##),
        (r#"<a k="&quot;x&#10;y"/>"#, r#"{"a":{"-k":"\"x\ny"}}"#),
        ("<a/>", r#"{"a":""}"#),
    ] {
        assert_eq!(decoded("xml", body), want);
    }
    let collection = told("xml", true, b"<r><a>1</a></r>", Depth::Full);
    assert_eq!(collection, r#"{"collection":{"r":{"a":"1"}}}"#);
}

#[test]
fn declared_charsets_other_than_utf8_are_decoded() {
    let body = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a>K\xe4se</a>";
    assert_eq!(told("xml", false, body, Depth::Full), r#"{"a":"Käse"}"#);
    assert!(told("xml", false, b"<a>K\xe4se</a>", Depth::Full).starts_with('!'));
    let quotes = b"<?xml version='1.0' encoding = 'windows-1252' ?><a>\x80\x93</a>";
    assert_eq!(told("xml", false, quotes, Depth::Full), "{\"a\":\"€“\"}");
    let wide: Vec<u8> = "\u{feff}<a>é😀</a>"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(told("xml", false, &wide, Depth::Full), r#"{"a":"é😀"}"#);
    assert!(told("xml", false, &wide[..wide.len() - 1], Depth::Full).starts_with('!'));
    assert_eq!(decoded("xml", "\u{feff}<a>é</a>"), r#"{"a":"é"}"#);
    assert_eq!(
        decoded("xml", "<?xml version='1.0' encoding='EBCDIC'?><a/>"),
        "! XML syntax error: unknown encoding \"EBCDIC\""
    );
    let late = format!(
        "<!--{}--><?xml version='1.0' encoding='EUC-JP'?><a/>",
        "x".repeat(9000)
    );
    assert_eq!(decoded("xml", &late), r#"{"a":""}"#);
}

#[test]
fn invalid_xml_is_rejected() {
    for body in [
        "",
        "no xml",
        "<a><b></a>",
        "<a>",
        "<a",
        "</a>",
        "<a>&nope;</a>",
        "<a k=\"&nope;\"/>",
        "<a k=v/>",
        "<!DOCTYPE a [<!ENTITY x \"boom\">]><a>&x;</a>",
    ] {
        assert!(decoded("xml", body).starts_with('!'), "{body}");
    }
    assert_eq!(decoded("xml", ""), "! EOF");
    let deep = "<a>".repeat(600);
    assert_eq!(decoded("xml", &deep), "! XML nested deeper than 512");
    let fine = format!("{}{}", "<a>".repeat(512), "</a>".repeat(512));
    assert!(!decoded("xml", &fine).starts_with('!'));
}

#[test]
fn rss_is_decoded_to_the_shape_of_krakend() {
    let body = r#"<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"><channel><title>News</title><link>http://example.com/</link><description>All of it</description><language>en</language><item><title>First</title><link>http://example.com/1</link><description>One</description><guid>1</guid><pubDate>Mon, 06 Sep 2021 00:01:00 +0000</pubDate></item><item><title>Second</title><link>http://example.com/2</link><description>Two</description></item></channel></rss>"#;
    let want = concat!(
        r#"{"author":null,"categories":null,"copyright":"","custom":null,"description":"All of it","items":["#,
        r#"{"description":"One","guid":"1","link":"http://example.com/1","links":["http://example.com/1"],"#,
        r#""published":"Mon, 06 Sep 2021 00:01:00 +0000","publishedParsed":"2021-09-06T00:01:00Z","title":"First"},"#,
        r#"{"description":"Two","link":"http://example.com/2","links":["http://example.com/2"],"title":"Second"}],"#,
        r#""language":"en","published":"","title":"News","type":"rss","updated":""}"#,
    );
    assert_eq!(decoded("rss", body), want);
}

#[test]
fn optional_parts_of_rss_are_kept() {
    let body = r#"<rss xmlns:dc="d" xmlns:content="c"><channel><managingEditor>ann@example.com (Ann)</managingEditor><category>a</category><image><url>u</url></image><item><dc:creator>Bob</dc:creator><content:encoded><![CDATA[<p>x</p>]]></content:encoded><enclosure url="e" length="3" type="audio/x"/><category>k</category></item></channel></rss>"#;
    let want = concat!(
        r#"{"author":{"email":"ann@example.com","name":"Ann"},"categories":["a"],"copyright":"","custom":null,"#,
        r#""description":"","img_url":"u","items":[{"author":{"name":"Bob"},"authors":[{"name":"Bob"}],"#,
        "\"categories\":[\"k\"],\"content\":\"\\u003cp\\u003ex\\u003c/p\\u003e\",",
        r#""enclosures":[{"length":"3","type":"audio/x","url":"e"}]}],"language":"","published":"","#,
        r#""title":"","type":"rss","updated":""}"#,
    );
    assert_eq!(decoded("rss", body), want);
}

#[test]
fn atom_and_json_feeds_have_the_same_shape() {
    let atom = r#"<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="de"><title>T</title><subtitle>S</subtitle><updated>2021-09-06T00:01:00Z</updated><author><name>Ann</name></author><entry><title type="xhtml"><div>a<b>b</b></div></title><id>i</id><link href="l"/><link rel="self" href="s"/><updated>2021-09-06T00:01:00+01:00</updated><content>c</content></entry></feed>"#;
    let want = concat!(
        r#"{"author":{"name":"Ann"},"categories":null,"copyright":"","custom":null,"description":"S","items":["#,
        r#"{"content":"c","guid":"i","link":"l","links":["l"],"published":"2021-09-06T00:01:00+01:00","#,
        r#""publishedParsed":"2021-09-05T23:01:00Z","title":"ab","updated":"2021-09-06T00:01:00+01:00","#,
        r#""updatedParsed":"2021-09-05T23:01:00Z"}],"language":"de","published":"","title":"T","type":"atom","#,
        r#""updated":"2021-09-06T00:01:00Z"}"#,
    );
    assert_eq!(decoded("rss", atom), want);
    let json = r#"{"version":"https://jsonfeed.org/version/1.1","title":"T","items":[{"id":1,"url":"u","content_text":"c","tags":["x"]}]}"#;
    let want = concat!(
        r#"{"author":null,"categories":null,"copyright":"","custom":null,"description":"","items":["#,
        r#"{"categories":["x"],"content":"c","guid":"1","link":"u","links":["u"]}],"language":"","#,
        r#""published":"","title":"T","type":"json","updated":""}"#,
    );
    assert_eq!(decoded("rss", json), want);
    for body in ["", "<a/>", "[]", "{", "text", "<rss>"] {
        assert!(decoded("rss", body).starts_with('!'), "{body}");
    }
}

/// The title of a feed in each of the three languages.
fn titles(title: &str) -> [String; 3] {
    let feeds = [
        ("<rss><channel>", "</channel></rss>"),
        ("<rdf:RDF xmlns:rdf='r'><channel>", "</channel></rdf:RDF>"),
        ("<feed>", "</feed>"),
    ];
    feeds.map(|(begin, end)| {
        let body = format!("{begin}<title>{title}</title><x/>{end}");
        let told = told("rss", false, body.as_bytes(), Depth::Full);
        match serde_json::from_str::<serde_json::Value>(&told) {
            Ok(feed) => feed["title"].as_str().unwrap().to_owned(),
            Err(_) => told,
        }
    })
}

#[test]
fn references_of_html_and_single_ampersands_in_feeds_are_read() {
    for (title, want) in [
        ("a&nbsp;b", "a\u{a0}b"),
        (" &nbsp;x &apos;&quot;&hellip; ", "\u{a0}x '\"…"),
        ("R&D", "R&D"),
        ("R & D; x", "R & D; x"),
        ("&", "&"),
        ("a&&amp;&", "a&&&"),
        ("caf&eacute; &mdash; &copy;", "café — ©"),
        ("&unknown; &amp;eacute; &lt;b&gt;", "&unknown; &eacute; <b>"),
        (
            "it&#146;s &#233;&#xE9; &#0;&#xD800;&#99999999;",
            "it’s éé &#0;&#xD800;&#99999999;",
        ),
        ("<![CDATA[&eacute; R&D]]>", "&eacute; R&D"),
    ] {
        assert_eq!(titles(title), [want, want, want], "{title}");
    }
    for (title, strict) in [("&nbsp;", "&nbsp;"), ("&copy;", "&copy;")] {
        let body = format!("<a>{title}</a>");
        let want = format!("! XML syntax error: invalid character entity {strict}");
        assert_eq!(decoded("xml", &body), want);
        let body = format!("<a k='{title}'/>");
        assert_eq!(decoded("xml", &body), want);
    }
    assert!(decoded("xml", "<a>R&D</a>").starts_with('!'));
}

#[test]
fn entities_of_a_document_type_are_not_expanded_in_feeds() {
    let body =
        "<!DOCTYPE rss [<!ENTITY x \"boom\">]><rss><channel><title>&x;</title></channel></rss>";
    let told = decoded("rss", body);
    assert!(told.contains(r#""title":"\u0026x;""#), "{told}");
}

#[test]
fn tags_of_feeds_that_do_not_match_are_closed() {
    for (title, want) in [
        ("a<br>b<br>c", "abc"),
        ("<p>a<p>b", "ab"),
        ("a</p>b", "ab"),
        ("<b><i>a</b></i>b", "ab"),
        ("<img src=x alt>a<b k = v w>b</b>", "ab"),
    ] {
        assert_eq!(titles(title), [want, want, want], "{title}");
    }
    let body = "<feed><entry><link rel=alternate href='?a=1&b=2&amp;c=3'><title>t</title></entry><entry><title>u";
    let whole = format!("{body}</title></feed>");
    let told = decoded("rss", &whole);
    assert!(
        told.contains(r#""link":"?a=1\u0026b=2\u0026c=3""#),
        "{told}"
    );
    assert!(told.contains(r#""title":"u""#), "{told}");
    assert_eq!(decoded("rss", body), "! XML syntax error: unexpected EOF");
    for body in [
        "<rss></channel>",
        "</rss>",
        "<rss><channel></channel>",
        "<rss k='",
    ] {
        assert!(decoded("rss", body).starts_with('!'), "{body}");
    }
    let deep = format!("<rss>{}</rss>", "<p>".repeat(600));
    assert_eq!(decoded("rss", &deep), "! XML nested deeper than 512");
}

#[test]
fn any_json_object_is_accepted_as_a_feed() {
    for body in ["{}", r#" {"id":1,"tags":["x"],"el":[]}"#] {
        let want = concat!(
            r#"{"author":null,"categories":null,"copyright":"","custom":null,"description":"","items":[],"#,
            r#""language":"","published":"","title":"","type":"json","updated":""}"#,
        );
        assert_eq!(decoded("rss", body), want, "{body}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(
        body in prop::collection::vec(any::<u8>(), 0..64),
        markup in "[<>/a!?&;=\"' \\[\\]-]{0,48}",
    ) {
        for encoding in [Kind::Json, Kind::SafeJson, Kind::String, Kind::Xml, Kind::Rss] {
            let _ = decode_anything(encoding, &body);
            let _ = decode_anything(encoding, markup.as_bytes());
        }
    }

    #[test]
    fn written_xml_decodes_back(names in prop::collection::vec("[a-z]{1,3}", 1..5), text in "[ -~é]{0,12}") {
        let members = names.iter().map(|name| (name.as_str().into(), Value::string(text.as_str())));
        let data = Value::Object([("root".into(), Value::Object(members.collect()))].into());
        let (_, body) = crate::runtime::encode::Encoding::Xml.encode(Some(&data), None, false).unwrap();
        let again = told("xml", false, &body, Depth::Full);
        let trimmed: Vec<(Box<str>, Value)> =
            names.iter().map(|name| (name.as_str().into(), Value::string(text.trim_matches(' ')))).collect();
        let want = Value::Object([("root".into(), Value::Object(trimmed.into_iter().collect()))].into());
        prop_assert_eq!(again.as_bytes(), &to_bytes(&want, Style::Canonical)[..]);
    }
}

#[test]
fn yaml_that_may_repeat_itself_counts_as_a_large_body() {
    let work = |encoding: Kind, body: &'static [u8]| {
        let decoder = Decoder {
            encoding,
            is_collection: false,
        };
        decoder.work(&Bytes::from_static(body))
    };
    assert_eq!(work(Kind::Yaml, b"a: 1"), 4);
    assert_eq!(work(Kind::Yaml, b"a: &a 1\nb: *a"), LARGE);
    assert_eq!(work(Kind::Json, b"{\"a\": \"*\"}"), 10);
}
