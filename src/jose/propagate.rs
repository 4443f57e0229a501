//! Copies claims into headers and into the path of an upstream request.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Number, Value};
use smallvec::{SmallVec, smallvec};

use crate::jose::reason::{Reason, Rejection};

/// How an array claim becomes headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrays {
    /// One header, with the elements joined by commas.
    Joined,
    /// One header for each element. An empty array gives none.
    Repeated,
}

/// How the elements of an array are formatted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elements {
    /// As in KrakenD, in Go's notation: `1e+06`, `<nil>`, `map[k:1]`.
    Go,
    /// As JSON scalars and strings: `1000000`, `null`, `{"k":1}`.
    Json,
}

/// The header values for a claim.
///
/// A missing claim yields one empty value, because the header must replace the one that the client sent under that
/// name.
///
/// # Errors
/// A value that the backend could read differently: it contains a control character, has surrounding whitespace,
/// which recipients remove (RFC 9110 §5.5), or is a list with a comma in an item. Recipients may split such an item
/// even if each item has a line of its own (RFC 9110 §5.3).
pub(crate) fn header_values(
    claim: Option<&Value>,
    arrays: Arrays,
    elements: Elements,
) -> Result<SmallVec<[String; 1]>, Rejection> {
    let values = texts(claim, arrays, elements)?;
    let padded = |value: &str| value.starts_with(is_blank) || value.ends_with(is_blank);
    let items_are_padded = claim
        .and_then(Value::as_array)
        .is_some_and(|items| items.iter().filter_map(Value::as_str).any(padded));
    if items_are_padded || values.iter().any(|value| padded(value)) {
        Err(bad("it has blanks at its start or end"))
    } else {
        Ok(values)
    }
}

fn texts(
    claim: Option<&Value>,
    arrays: Arrays,
    elements: Elements,
) -> Result<SmallVec<[String; 1]>, Rejection> {
    let values: SmallVec<[String; 1]> = match claim {
        None => smallvec![String::new()],
        Some(Value::Array(items)) if items.iter().any(has_comma) => {
            return Err(bad("an item of the list has a comma in it"));
        }
        Some(Value::Array(items)) => {
            let items = items.iter().map(|item| element(item, elements));
            match arrays {
                Arrays::Joined => smallvec![items.collect::<Vec<_>>().join(",")],
                Arrays::Repeated => items.collect(),
            }
        }
        Some(value) => smallvec![text(value)],
    };
    if values.iter().any(|value| value.contains(is_control)) {
        Err(bad("it has a control character"))
    } else {
        Ok(values)
    }
}

/// Recipients that decode UTF-8 trim more than ASCII whitespace. JavaScript's `trim` also removes U+FEFF.
fn is_blank(character: char) -> bool {
    character.is_whitespace() || character == '\u{feff}'
}

/// Whether a string within the value contains a comma. Commas between members and items do not count: the token does
/// not choose them.
fn has_comma(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(','),
        Value::Array(items) => items.iter().any(has_comma),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains(',') || has_comma(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn bad(why: &'static str) -> Rejection {
    Rejection::new(Reason::BadClaim, why)
}

/// A claim as one path segment, percent-encoded outside the unreserved characters (RFC 3986 §2.3).
///
/// `None` if the claim is absent. Empty values and dot segments are rejected: they would name another resource.
pub(crate) fn path_segment(claim: Option<&Value>) -> Result<Option<String>, Rejection> {
    let Some(claim) = claim else {
        return Ok(None);
    };
    let value = url_text(claim)?;
    // Also with parameters behind it: "..;x" (RFC 3986 §3.3).
    if value.is_empty() || matches!(value.split(';').next(), Some("." | "..")) {
        return Err(bad("it is empty or a dot segment"));
    }
    Ok(Some(utf8_percent_encode(&value, RESERVED).to_string()))
}

/// A claim as text for a URL, not yet encoded. Whitespace is kept, because encoding preserves it.
///
/// # Errors
/// A control character, or a list with a comma in an item.
pub(crate) fn url_text(claim: &Value) -> Result<String, Rejection> {
    texts(Some(claim), Arrays::Joined, Elements::Go).map(|values| values.concat())
}

/// Everything except letters, digits and `-._~`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Characters that RFC 9110 §5.5 forbids in a header value, and the C1 controls that some terminals interpret.
fn is_control(character: char) -> bool {
    character.is_control() && character != '\t'
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => top_number(number),
        other => json(other),
    }
}

/// As in KrakenD, a number within a millionth of an integer becomes that integer, and others have six decimals.
/// Unlike in KrakenD, integers beyond 2^53 stay exact.
fn top_number(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if !(number.is_i64() || number.is_u64()) => {
            let whole = float.round();
            if (float - whole).abs() < 1e-6 {
                // Adding zero turns minus zero into zero.
                format!("{:.0}", whole + 0.0)
            } else {
                format!("{float:.6}")
            }
        }
        _ => number.to_string(),
    }
}

fn element(value: &Value, style: Elements) -> String {
    match (style, value) {
        (_, Value::String(text)) => text.clone(),
        (Elements::Go, other) => go(other),
        (Elements::Json, other) => json(other),
    }
}

/// A value as Go's `%v` formats it.
fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => go_number(number),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(go).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let members: Vec<_> = map
                .iter()
                .map(|(name, value)| format!("{name}:{}", go(value)))
                .collect();
            format!("map[{}]", members.join(" "))
        }
    }
}

/// A number as Go's `%v` formats a float64: shortest digits, exponent form below 1e-4 and from 1e6 on. Unlike in
/// KrakenD, integers beyond 2^53 stay exact.
fn go_number(number: &Number) -> String {
    const EXACT: u64 = 1 << 53;
    let exact = number.as_i64().is_some_and(|n| n.unsigned_abs() > EXACT)
        || number.as_u64().is_some_and(|n| n > EXACT);
    let Some(float) = number.as_f64().filter(|_| !exact) else {
        return number.to_string();
    };
    exponent_form(float, -4, 6).unwrap_or_else(|| format!("{float}"))
}

/// `1.5e+07` when the decimal exponent is below `low` or at least `high`.
fn exponent_form(float: f64, low: i32, high: i32) -> Option<String> {
    let scientific = format!("{float:e}");
    let (mantissa, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    if float == 0.0 || (low..high).contains(&exponent) {
        return None;
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    Some(format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs()))
}

/// Compact JSON with sorted members, as Go's encoder writes it: `<`, `>`, `&` and the line separators are escaped.
fn json(value: &Value) -> String {
    let mut out = String::new();
    write_json(&mut out, value);
    out
}

fn write_json(out: &mut String, value: &Value) {
    match value {
        Value::Number(number) => out.push_str(&json_number(number)),
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (index, (name, item)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(out, name);
                out.push(':');
                write_json(out, item);
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
    }
}

fn json_number(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => exponent_form(float, -6, 21)
            // Go's JSON drops the leading zero of an exponent: 1e-07 becomes 1e-7.
            .map(|text| text.replace("e-0", "e-"))
            .unwrap_or_else(|| format!("{float}")),
        _ => number.to_string(),
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn joined(claim: Value) -> String {
        let values = header_values(Some(&claim), Arrays::Joined, Elements::Go).unwrap();
        assert_eq!(values.len(), 1);
        values.concat()
    }

    #[test]
    fn scalars_are_written_as_in_krakend() {
        for (claim, text) in [
            (json!("ñ ü"), "ñ ü"),
            (json!(42), "42"),
            (json!(1.5), "1.500000"),
            (json!(-7.25), "-7.250000"),
            (json!(1e-7), "0"),
            (json!(-1e-9), "0"),
            (json!(1.999_999_9), "2"),
            (json!(9_007_199_254_740_993_u64), "9007199254740993"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(1e20), "100000000000000000000"),
            (json!(true), "true"),
            (json!(null), "null"),
            (
                json!({"b": "<&>", "a": 1.0}),
                r#"{"a":1,"b":"\u003c\u0026\u003e"}"#,
            ),
            (
                json!({"n": [1e21, 1e-7, 0.000_001, 1e20]}),
                r#"{"n":[1e+21,1e-7,0.000001,100000000000000000000]}"#,
            ),
        ] {
            assert_eq!(joined(claim), text);
        }
    }

    #[test]
    fn arrays_are_joined_or_repeated() {
        let claim =
            json!(["a", 1, 2.5, true, null, {"k": 1}, 1_000_000, 123_456_789, 0.000_01, [1, "x"]]);
        assert_eq!(
            joined(claim.clone()),
            "a,1,2.5,true,<nil>,map[k:1],1e+06,1.23456789e+08,1e-05,[1 x]"
        );
        let repeated = header_values(Some(&claim), Arrays::Repeated, Elements::Json).unwrap();
        assert_eq!(
            repeated.as_slice(),
            [
                "a",
                "1",
                "2.5",
                "true",
                "null",
                r#"{"k":1}"#,
                "1000000",
                "123456789",
                "0.00001",
                r#"[1,"x"]"#
            ]
        );
        assert_eq!(joined(json!([])), "");
        assert!(
            header_values(Some(&json!([])), Arrays::Repeated, Elements::Go)
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            header_values(None, Arrays::Repeated, Elements::Go)
                .unwrap()
                .as_slice(),
            [""]
        );
    }

    #[test]
    fn a_value_that_a_backend_could_read_differently_is_rejected() {
        for claim in [
            json!(" admin"),
            json!("admin "),
            json!("\tadmin"),
            json!(" "),
            json!(["user", " admin"]),
            json!(["user,admin"]),
            json!(["user", "x, admin"]),
            json!([["x,admin,y"]]),
            json!([{"a": "x,admin"}]),
            json!([{"x,admin": 1}]),
        ] {
            for arrays in [Arrays::Joined, Arrays::Repeated] {
                for elements in [Elements::Go, Elements::Json] {
                    let rejection = header_values(Some(&claim), arrays, elements).unwrap_err();
                    assert_eq!(rejection.reason, Reason::BadClaim, "{claim}");
                }
            }
        }
        assert_eq!(joined(json!("a, b")), "a, b", "a text is no list");
        assert_eq!(joined(json!(["a b", "c"])), "a b,c");
        assert_eq!(
            path_segment(Some(&json!(" a "))).unwrap().unwrap(),
            "%20a%20",
            "what is encoded stays what it is"
        );
        assert!(path_segment(Some(&json!(["a,b"]))).is_err());
    }

    #[test]
    fn control_characters_never_reach_a_header() {
        for claim in [
            json!("a\r\nX: y"),
            json!("a\0"),
            json!(["ok", "a\nb"]),
            json!("\u{7f}"),
            json!("\u{85}"),
        ] {
            let rejection = header_values(Some(&claim), Arrays::Joined, Elements::Go).unwrap_err();
            assert_eq!(rejection.reason, Reason::BadClaim);
        }
        assert_eq!(
            joined(json!({"a": "x\ny"})),
            r#"{"a":"x\ny"}"#,
            "inside JSON it is escaped"
        );
    }

    #[test]
    fn a_path_segment_stays_one_segment() {
        let segment =
            |claim: Value| path_segment(Some(&claim)).map_err(|rejection| rejection.reason);
        assert_eq!(
            segment(json!("a/b?c#d%e f")).unwrap().unwrap(),
            "a%2Fb%3Fc%23d%25e%20f"
        );
        assert_eq!(segment(json!("../admin")).unwrap().unwrap(), "..%2Fadmin");
        assert_eq!(segment(json!(42)).unwrap().unwrap(), "42");
        for claim in [
            json!(""),
            json!("."),
            json!(".."),
            json!([]),
            json!([".."]),
            json!("a\0b"),
        ] {
            assert_eq!(segment(claim), Err(Reason::BadClaim));
        }
        assert_eq!(path_segment(None), Ok(None));
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_one_safe_segment_or_rejected(text in any::<String>()) {
            if let Ok(Some(segment)) = path_segment(Some(&Value::String(text.clone()))) {
                prop_assert!(segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
                let back = percent_encoding::percent_decode_str(&segment).decode_utf8().unwrap();
                prop_assert_eq!(back, text);
            }
        }
    }
}
