use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn body(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn both(text: &[u8]) -> (Result<Value, Error>, Result<Value, Error>) {
    let body = Bytes::copy_from_slice(text);
    (parse(&body, Depth::TopLevel), parse(&body, Depth::Full))
}

fn rewritten(text: &str, depth: Depth, style: Style) -> String {
    let value = parse(&body(text), depth).expect("valid JSON");
    String::from_utf8(to_bytes(&value, style).to_vec()).expect("UTF-8")
}

#[test]
fn invalid_bodies_are_rejected_in_the_words_of_krakend() {
    let cases = [
        ("", "EOF"),
        (" \n", "EOF"),
        ("{", "unexpected EOF"),
        (r#"{"a"#, "unexpected EOF"),
        (r#"{"a":"\u00"#, "unexpected EOF"),
        (r#"{"a":tr"#, "unexpected EOF"),
        (
            "plain",
            "invalid character 'p' looking for beginning of value",
        ),
        (
            "<html>",
            "invalid character '<' looking for beginning of value",
        ),
        (
            "{'a':1}",
            "invalid character '\\'' looking for beginning of object key string",
        ),
        (
            r#"{"a":1,}"#,
            "invalid character '}' looking for beginning of object key string",
        ),
        (
            "[1,]",
            "invalid character ']' looking for beginning of value",
        ),
        (
            r#"{"a":012}"#,
            "invalid character '1' after object key:value pair",
        ),
        (r#"{"a" 1}"#, "invalid character '1' after object key"),
        ("[1 2]", "invalid character '2' after array element"),
        (
            r#"{"a":NaN}"#,
            "invalid character 'N' looking for beginning of value",
        ),
        (
            r#"{"a":nul!}"#,
            "invalid character '!' in literal null (expecting 'l')",
        ),
        (
            r#"{"a":1.}"#,
            "invalid character '}' after decimal point in numeric literal",
        ),
        (
            r#"{"a":1e}"#,
            "invalid character '}' in exponent of numeric literal",
        ),
        (r#"{"a":-}"#, "invalid character '}' in numeric literal"),
        (
            "{\"a\":\"x\ny\"}",
            "invalid character '\\n' in string literal",
        ),
        (
            r#"{"a":"\x"}"#,
            "invalid character 'x' in string escape code",
        ),
        (
            r#"{"a":"\u00zz"}"#,
            "invalid character 'z' in \\u hexadecimal character escape",
        ),
    ];
    for (text, expected) in cases {
        let (lazy, full) = both(text.as_bytes());
        assert_eq!(lazy.expect_err(text).to_string(), expected, "{text}");
        assert_eq!(full.expect_err(text).to_string(), expected, "{text}");
    }
}

#[test]
fn only_the_first_value_is_parsed() {
    for depth in [Depth::TopLevel, Depth::Full] {
        let value = parse(&body(r#"{"a":1} garbage"#), depth).expect("first value");
        assert_eq!(to_bytes(&value, Style::Canonical), r#"{"a":1}"#);
    }
}

#[test]
fn numbers_keep_their_text() {
    let text = r#"{"a":12345678901234567890,"b":1.10,"c":1e5,"d":-0,"e":0.1234567890123456789012345,"f":1E+2}"#;
    for depth in [Depth::TopLevel, Depth::Full] {
        assert_eq!(rewritten(text, depth, Style::Canonical), text);
    }
}

#[test]
fn canonical_text_is_sorted_compact_and_escaped() {
    let text = r#"{ "z": "<a href=\"x\">&</a>", "a": {"y": "é\u2028", "b": ["\/", "\u00e9"]}, "A": "\b\u0001" }"#;
    let expected = r#"{"A":"\b\u0001","a":{"b":["/","é"],"y":"é\u2028"},"z":"\u003ca href=\"x\"\u003e\u0026\u003c/a\u003e"}"#;
    for depth in [Depth::TopLevel, Depth::Full] {
        assert_eq!(rewritten(text, depth, Style::Canonical), expected);
    }
}

#[test]
fn slices_are_copied_unchanged() {
    let text = r#"{"b": {"z": 1, "a": "<"}, "a": [1,  2]}"#;
    assert_eq!(
        rewritten(text, Depth::TopLevel, Style::Verbatim),
        r#"{"a":[1,  2],"b":{"z": 1, "a": "<"}}"#
    );
}

#[test]
fn the_members_of_an_indexed_object_are_sorted() {
    let text = " {\"b<\": {\"z\": 1, \"a\": \"<\"} , \"\": null, \"a\":[1,  2]} rest";
    assert_eq!(
        rewritten(text, Depth::Index, Style::Verbatim),
        r#"{"":null,"a":[1,  2],"b\u003c":{"z": 1, "a": "<"}}"#
    );
    let mut value = parse(&body(text), Depth::Index).expect("valid");
    assert!(matches!(value, Value::Raw(_)));
    assert_eq!(value.as_object_mut().expect("object").len(), 3);
}

#[test]
fn the_last_of_several_members_wins_at_every_level() {
    let text = r#"{"a":1,"b":{"x":1,"\u0078":2},"c":[{"k":1,"k":{"k":3}}],"a":2}"#;
    assert_eq!(
        rewritten(text, Depth::TopLevel, Style::Verbatim),
        r#"{"a":2,"b":{"x":2},"c":[{"k":{"k":3}}]}"#
    );
}

#[test]
fn duplicates_are_found_in_large_objects_too() {
    let mut text = String::from(r#"{"o":{"#);
    for at in 0..100 {
        text.push_str(&format!("\"k{at}\":{at},"));
    }
    text.push_str(r#""k50":"last"}}"#);
    let value = rewritten(&text, Depth::TopLevel, Style::Verbatim);
    assert!(value.contains(r#""k50":"last""#));
    assert!(!value.contains(r#""k50":50"#));
}

#[test]
fn lone_surrogates_and_bad_bytes_become_replacement_characters() {
    let (lazy, full) = both(
        b"{\"a\":\"\\ud83d\",\"b\":[\"\\udc00x\"],\"c\":\"\xff\xe2\x80\",\"d\":\"\\ud83d\\ude00\"}",
    );
    let expected = "{\"a\":\"\u{fffd}\",\"b\":[\"\u{fffd}x\"],\"c\":\"\u{fffd}\u{fffd}\u{fffd}\",\"d\":\"\u{1f600}\"}";
    assert_eq!(to_bytes(&full.expect("valid"), Style::Verbatim), expected);
    assert_eq!(to_bytes(&lazy.expect("valid"), Style::Canonical), expected);
}

#[test]
fn nesting_is_limited() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [Depth::TopLevel, Depth::Full] {
        assert!(parse(&body(&nested(MAX_DEPTH)), depth).is_ok());
        assert_eq!(
            parse(&body(&nested(MAX_DEPTH + 1)), depth),
            Err(Error::TooDeep)
        );
        let inside = format!(r#"{{"a":{}}}"#, nested(MAX_DEPTH - 1));
        assert!(parse(&body(&inside), depth).is_ok());
        let inside = format!(r#"{{"a":{}}}"#, nested(MAX_DEPTH));
        assert_eq!(parse(&body(&inside), depth), Err(Error::TooDeep));
    }
}

#[test]
fn opening_parses_one_level() {
    let mut value = parse(&body(r#"{"a":{"b":[1,{"c":"x"}]}}"#), Depth::TopLevel).expect("valid");
    let object = value.as_object_mut().expect("object");
    let inner = object
        .get_mut("a")
        .expect("a")
        .as_object_mut()
        .expect("object");
    assert!(matches!(inner.get("b"), Some(Value::Raw(_))));
    let list = inner
        .get_mut("b")
        .expect("b")
        .as_array_mut()
        .expect("array");
    assert_eq!(list.len(), 2);
    assert_eq!(
        to_bytes(&value, Style::Canonical),
        r#"{"a":{"b":[1,{"c":"x"}]}}"#
    );
}

/// Any JSON text, with white space, escapes and repeated names.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
        any_string(),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6)
                .prop_map(|elements| format!("[ {}]", elements.join(" ,"))),
            prop::collection::vec((any_string(), inner), 0..6).prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, value)| format!("{name}:\t{value}"))
                    .collect();
                format!("{{{}}}", members.join(", "))
            }),
        ]
    })
}

fn any_string() -> impl Strategy<Value = String> {
    prop_oneof![
        "[abc]{0,2}".prop_map(|text| format!("\"{text}\"")),
        Just(r#""\u0061""#.to_owned()),
        Just(r#""\ud800x\udc00""#.to_owned()),
        Just(r#""\ud83d\ude00 \/ \\ \" \u2028 <&>""#.to_owned()),
        "[ -!#-\\[\\]-~é\u{2028}\u{1f600}]{0,24}".prop_map(|text| format!("\"{text}\"")),
    ]
}

proptest! {
    #[test]
    fn both_depths_give_the_same_value(text in any_json()) {
        let (lazy, full) = both(text.as_bytes());
        let (lazy, full) = (lazy.expect("valid"), full.expect("valid"));
        prop_assert_eq!(&lazy.expanded(), &full);
        prop_assert_eq!(to_bytes(&lazy, Style::Canonical), to_bytes(&full, Style::Canonical));
    }

    #[test]
    fn an_indexed_object_is_written_like_its_slices(text in any_json()) {
        let indexed = parse(&body(&text), Depth::Index).expect("valid");
        let slices = parse(&body(&text), Depth::TopLevel).expect("valid");
        for style in [Style::Verbatim, Style::Canonical] {
            prop_assert_eq!(to_bytes(&indexed, style), to_bytes(&slices, style));
        }
        prop_assert_eq!(indexed.expanded(), slices.expanded());
        let members = matches!(&slices, Value::Object(members) if !members.is_empty());
        prop_assert_eq!(indexed.has_members(), members);
    }

    #[test]
    fn written_values_parse_back(text in any_json()) {
        let full = both(text.as_bytes()).1.expect("valid");
        for style in [Style::Verbatim, Style::Canonical] {
            let lazy = both(text.as_bytes()).0.expect("valid");
            prop_assert_eq!(&parse(&to_bytes(&lazy, style), Depth::Full).expect("ours"), &full);
        }
    }

    #[test]
    fn arbitrary_bytes_are_accepted_or_rejected_by_both_depths(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let (lazy, full) = both(&bytes);
        let indexed = parse(&Bytes::from(bytes), Depth::Index);
        prop_assert_eq!(indexed.map(|value| value.expanded()), full.clone());
        prop_assert_eq!(lazy.map(|value| value.expanded()), full);
    }

    #[test]
    fn damaged_json_is_accepted_or_rejected_by_both_depths(text in any_json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let (lazy, full) = both(&bytes);
        let indexed = parse(&Bytes::from(bytes), Depth::Index);
        prop_assert_eq!(indexed.map(|value| value.expanded()), full.clone());
        prop_assert_eq!(lazy.map(|value| value.expanded()), full);
    }
}
