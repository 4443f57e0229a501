use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::runtime::decode::Kind;
use crate::runtime::json::{Depth, Value, parse};

const BASE: &str = r#"{"id":1,"name":"a","tags":["x","y"],"nested":{"k":1,"z":{"q":true,"w":null}},"arr":[{"id":1,"n":"a"},{"id":2,"n":"b"}],"e":{}}"#;

fn data(text: &str) -> Value {
    parse(&Bytes::copy_from_slice(text.as_bytes()), Depth::TopLevel).unwrap()
}

fn body(encoding: Encoding, text: &str) -> String {
    let (_, body) = encoding.encode(Some(&data(text)), None, true).unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

#[test]
fn unknown_names_use_the_encoding_of_the_single_backend() {
    for (name, backend, want) in [
        ("json", Some(Kind::Xml), Encoding::Json),
        ("", Some(Kind::String), Encoding::Json),
        ("fast-json", Some(Kind::String), Encoding::Json),
        ("JSON", Some(Kind::String), Encoding::String),
        ("bogus", Some(Kind::Xml), Encoding::Xml),
        ("bogus", Some(Kind::NoOp), Encoding::NoOp),
        ("bogus", Some(Kind::Rss), Encoding::Json),
        ("bogus", None, Encoding::Json),
        ("no-op", None, Encoding::NoOp),
    ] {
        assert_eq!(Encoding::parse(name, backend), want, "{name}");
    }
}

#[test]
fn each_encoding_names_its_type() {
    for (encoding, want) in [
        (Encoding::Json, "application/json; charset=utf-8"),
        (Encoding::JsonCollection, "application/json; charset=utf-8"),
        (Encoding::String, "text/plain; charset=utf-8"),
        (Encoding::Xml, "application/xml"),
        (Encoding::Yaml, "application/yaml; charset=utf-8"),
        (Encoding::Negotiate, "application/json; charset=utf-8"),
    ] {
        assert_eq!(encoding.encode(None, None, false).unwrap().0, want);
    }
}

#[test]
fn no_data_has_a_shape_in_every_encoding() {
    for (encoding, want) in [
        (Encoding::Json, "null"),
        (Encoding::JsonCollection, "[]"),
        (Encoding::String, ""),
        (Encoding::Xml, "<doc/>"),
        (Encoding::Yaml, "{}\n"),
    ] {
        assert_eq!(encoding.encode(None, None, false).unwrap().1, want);
        assert_eq!(
            encoding.encode(Some(&Value::Null), None, false).unwrap().1,
            want
        );
    }
    assert_eq!(body(Encoding::Xml, "{}"), "<doc/>");
    assert_eq!(body(Encoding::Yaml, "{}"), "{}\n");
}

#[test]
fn a_collection_is_the_member_with_its_name() {
    let of = |text| body(Encoding::JsonCollection, text);
    assert_eq!(
        of(r#"{"collection":[{"a":1},{"a":2}],"x":1}"#),
        r#"[{"a":1},{"a":2}]"#
    );
    assert_eq!(of(BASE), "[]");
}

#[test]
fn content_is_written_raw_if_it_is_a_string() {
    let of = |text| body(Encoding::String, text);
    assert_eq!(
        of(r#"{"content":"plain <text> & \"more\"\n","x":1}"#),
        "plain <text> & \"more\"\n"
    );
    assert_eq!(of(r#"{"content":{"a":1}}"#), "");
    assert_eq!(of(BASE), "");
}

#[test]
fn xml_has_one_root() {
    let of = |text| body(Encoding::Xml, text);
    assert_eq!(
        of(BASE),
        "<doc><arr><id>1</id><n>a</n></arr><arr><id>2</id><n>b</n></arr><e/><id>1</id><name>a</name>\
         <nested><k>1</k><z><q>true</q><w/></z></nested><tags>x</tags><tags>y</tags></doc>"
    );
    assert_eq!(
        of(
            r##"{"doc":{"-at":"v","e":"","item":[{"#text":"one","-id":"1"},{"#text":"two","-id":"2"}],"n":"3"}}"##
        ),
        r#"<doc at="v"><e/><item id="1">one</item><item id="2">two</item><n>3</n></doc>"#
    );
    assert_eq!(
        of(r#"{"content":"plain text"}"#),
        "<content>plain text</content>"
    );
    assert_eq!(
        of(r#"{"collection":[{"id":1},{"id":2}]}"#),
        "<doc><collection><id>1</id></collection><collection><id>2</id></collection></doc>"
    );
    assert_eq!(of(r#"{"-a":1}"#), r#"<doc a="1"/>"#);
}

#[test]
fn xml_keeps_the_names_of_empty_lists() {
    let of = |text| body(Encoding::Xml, text);
    assert_eq!(of(r#"{"el":[]}"#), "<el/>");
    assert_eq!(of(r#"{"collection":[]}"#), "<collection/>");
    assert_eq!(
        of(r#"{"a":[],"o":{"l":[]},"n":[[],[1,[]]],"e":{},"z":null}"#),
        "<doc><a/><e/><n/><n>1</n><n/><o><l/></o><z/></doc>"
    );
    assert_eq!(of(r#"{"-a":[],"b":1}"#), "<doc><_-a/><b>1</b></doc>");
    let (_, negotiated) = Encoding::Negotiate
        .encode(Some(&data(r#"{"el":[]}"#)), Some("text/xml"), false)
        .unwrap();
    assert_eq!(negotiated, "<el/>");
}

#[test]
fn xml_stays_well_formed_whatever_the_names_and_values_are() {
    let of = |text| body(Encoding::Xml, text);
    assert_eq!(
        of(r#"{"a":"<&>\"'\u0001"}"#),
        "<a>&lt;&amp;&gt;&quot;&apos;\u{fffd}</a>"
    );
    assert_eq!(
        of(r#"{"1 x><y":"v","":2}"#),
        "<doc><_>2</_><_1_x__y>v</_1_x__y></doc>"
    );
    assert_eq!(of(r#"{"r":{"-k":{"a":1}}}"#), "<r><_-k><a>1</a></_-k></r>");
}

#[test]
fn white_space_in_xml_is_kept_by_readers() {
    assert_eq!(
        body(
            Encoding::Xml,
            r##"{"a":{"-k":"1\t2\n3\r\n4 5","#text":"1\t2\n3\r\n4 5"}}"##
        ),
        "<a k=\"1&#x9;2&#xA;3&#xD;&#xA;4 5\">1\t2\n3&#xD;\n4 5</a>"
    );
}

#[test]
fn attributes_in_xml_have_different_names() {
    for (text, want) in [
        (
            r#"{"el":{"-a b":"1","-a_b":"2"}}"#,
            r#"<el a_b_2="1" a_b="2"/>"#,
        ),
        (
            r#"{"el":{"-x:y":1,"-x_y":2}}"#,
            r#"<el x_y_2="1" x_y="2"/>"#,
        ),
        (r#"{"-a$":1,"-a_":2}"#, r#"<doc a__2="1" a_="2"/>"#),
        (
            r#"{"-a!b":1,"-a b":2,"-a?b":3,"-a_b_2":4,"-a_b!2":5}"#,
            r#"<doc a_b="2" a_b_3="1" a_b_4="3" a_b_2_2="5" a_b_2="4"/>"#,
        ),
        (
            r#"{"el":{"-xmlns":"u","-xmlns:a":"v","-xmlns_a":"w","-b":[],"-b ":1}}"#,
            r#"<el b_="1" xmlns="u" xmlns_a_2="v" xmlns_a="w"><_-b/></el>"#,
        ),
        (r#"{"el":{"-a b":"1"}}"#, r#"<el a_b="1"/>"#),
        (
            r#"{"el":{"a b":"1","a_b":2}}"#,
            "<el><a_b>1</a_b><a_b>2</a_b></el>",
        ),
        (
            "{\"el\":{\"m²\":1,\"ªb\":2,\"é٣\":3}}",
            "<el><m_>1</m_><__b>2</__b><é٣>3</é٣></el>",
        ),
    ] {
        assert_eq!(body(Encoding::Xml, text), want);
        let (_, negotiated) = Encoding::Negotiate
            .encode(Some(&data(text)), Some("text/xml"), false)
            .unwrap();
        assert_eq!(negotiated, want);
    }
}

#[test]
fn many_attributes_with_equal_names_become_elements() {
    let many: Vec<String> = (0..3000)
        .map(|n| {
            let name: String = (0..12)
                .map(|bit| if n >> bit & 1 == 0 { ' ' } else { '!' })
                .collect();
            format!("\"-{name}\":{n}")
        })
        .collect();
    let text = body(Encoding::Xml, &format!("{{\"-ok\":0,{}}}", many.join(",")));
    let (start, rest) = text.split_once('>').unwrap();
    let mut names: Vec<&str> = start.split('"').step_by(2).collect();
    assert_eq!(
        names.len(),
        1002,
        "999 more, the name of the element, and ok"
    );
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 1002);
    assert_eq!(rest.matches("</").count(), 2001, "the others and the end");
}

#[test]
fn yaml_uses_block_style_and_plain_numbers() {
    assert_eq!(
        body(Encoding::Yaml, BASE),
        "arr:\n- id: 1\n  \"n\": a\n- id: 2\n  \"n\": b\ne: {}\nid: 1\nname: a\nnested:\n  k: 1\n  z:\n    q: true\n    w: null\ntags:\n- x\n- \"y\"\n"
    );
    assert_eq!(
        body(
            Encoding::Yaml,
            r#"{"a":[[1,[]],{}],"k: v":"1e5","m":1.10,"s":" x\n","t":"true","u":"a: b"}"#
        ),
        "a:\n- - 1\n  - []\n- {}\n\"k: v\": \"1e5\"\nm: 1.10\ns: \" x\\n\"\nt: \"true\"\nu: \"a: b\"\n"
    );
}

#[test]
fn yaml_quotes_only_where_needed() {
    let line = |text: &str| {
        body(
            Encoding::Yaml,
            &serde_json::json!({ "k": text }).to_string(),
        )
    };
    for plain in [
        "http://a.example:80/x?y=1&z=2#f",
        "a, b [c] {d}",
        "caf\u{e9} \u{1f600}",
        "Tom & Jerry's \"x\"",
        "1.2.3",
        "10.0.0.1/8",
        "550e8400-e29b-41d4-a716-446655440000",
        "2020-01-02-x",
        "-a",
        ":a",
        "?a",
        "a:b",
        "a#b",
        "$1 <b> 50%",
        "(x)",
        "/path",
        "\\d+",
        "_",
        "yes please",
        "nothing",
        "12 monkeys",
        "..",
    ] {
        assert_eq!(line(plain), format!("k: {plain}\n"));
    }
    for quoted in [
        "",
        " a",
        "a ",
        "a:",
        "a: b",
        "a #b",
        "#a",
        "- a",
        "-",
        "--- a",
        "...",
        "? a",
        "[a",
        "{a",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "'a",
        "\"a",
        "%a",
        "@a",
        "`a",
        ",a",
        "~",
        "null",
        "Null",
        "TRUE",
        "no",
        "Off",
        "y",
        "N",
        "1",
        "-1",
        "+1",
        "0x1F",
        "0o17",
        "010",
        "0b1",
        "1_000",
        "1.5",
        ".5",
        "5.",
        "1e5",
        "1E-5",
        "-1.5e+3",
        ".inf",
        "-.INF",
        ".NaN",
        "1:20",
        "190:20:30.5",
        "2020-01-02",
        "2020-1-2",
        "2020-01-02T03:04:05Z",
        "2020-01-02 03:04:05",
        "<<",
        "=",
    ] {
        let text = quoted.replace('"', "\\\"");
        assert_eq!(line(quoted), format!("k: \"{text}\"\n"));
    }
    assert_eq!(
        line("a\tb\n\u{1}\u{85}\u{2028}\u{feff}\\\u{7f}"),
        "k: \"a\\tb\\n\\u0001\\u0085\\u2028\\ufeff\\\\\\u007f\"\n"
    );
}

#[test]
fn the_client_may_choose() {
    let chosen = |accept: &str| {
        let (kind, _) = Encoding::Negotiate
            .encode(None, Some(accept), false)
            .unwrap();
        let kind = kind.to_str().unwrap().split(';').next().unwrap().to_owned();
        kind.trim_start_matches("application/").to_owned()
    };
    for (accept, want) in [
        ("", "json"),
        ("application/json", "json"),
        ("*/*", "json"),
        ("text/html", "json"),
        ("text/plain", "yaml"),
        ("text/*", "yaml"),
        ("application/x-yaml", "yaml"),
        ("application/yaml", "yaml"),
        ("text/xml", "xml"),
        ("Application/XML", "xml"),
        ("text/html, application/xml;q=0.9, */*;q=0.8", "xml"),
        ("application/xml;q=0.1, application/json", "json"),
        ("application/json;q=0, */*;q=0.5", "yaml"),
        ("application/xml;q=nan, text/plain;q=0.001", "yaml"),
        (
            "application/xml; charset=utf-8; q=0.5 , application/json;q=0.4",
            "xml",
        ),
    ] {
        assert_eq!(chosen(accept), want, "{accept}");
    }
}

proptest! {
    #[test]
    fn written_yaml_parses_back(
        text in "\\PC{0,16}|[-+.:#?0-9a-fxoTZ_~ ,'\"\\[\\]{}&*!|>%@`<=\\\\\t\n\u{85}\u{2028}]{0,9}",
        key in "\\PC{1,8}|[-+.:#?0-9eo_ ]{1,5}",
        number in any::<i32>(),
    ) {
        let quoted = |text: &str| {
            let mut out = Vec::new();
            crate::runtime::json::write_string(&mut out, text);
            String::from_utf8(out).unwrap()
        };
        let json = format!(r#"{{{}:[{},{{"n":{number}}},[]],"z":null}}"#, quoted(&key), quoted(&text));
        let yaml = body(Encoding::Yaml, &json);
        let read: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
        prop_assert_eq!(read, serde_json::from_str::<serde_json::Value>(&json).unwrap());
    }

    #[test]
    fn an_arbitrary_accept_does_not_panic(accept in "\\PC{0,40}") {
        Encoding::Negotiate.encode(None, Some(&accept), false).unwrap();
    }
}
