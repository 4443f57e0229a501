//! Metadata as attributes of SQS and SNS, in the form that KrakenD's messages have: letters that AWS does not allow in a
//! name are `__0x2a__`, values are escaped as in a query, and bodies that are not UTF-8 are Base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// The attribute that marks a body as Base64.
pub(super) const ENCODED: &str = "base64encoded";

/// The body as text, and the attributes of the message.
pub(super) fn written(
    body: &[u8],
    metadata: &[(String, String)],
) -> (String, Vec<(String, String)>) {
    let mut attributes: Vec<(String, String)> = metadata
        .iter()
        // AWS rejects empty values.
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (escaped(name), query_escaped(value)))
        .collect();
    let text = match std::str::from_utf8(body) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            attributes.push((ENCODED.to_owned(), "true".to_owned()));
            STANDARD.encode(body)
        }
    };
    (text, attributes)
}

/// The body of a message with these attributes.
pub(super) fn read(body: String, is_encoded: bool) -> Bytes {
    if is_encoded && let Ok(bytes) = STANDARD.decode(body.as_bytes()) {
        return bytes.into();
    }
    body.into()
}

/// A value as it was before it was escaped.
pub(super) fn unescaped(value: &str) -> String {
    let mut pairs = form_urlencoded::parse(value.as_bytes());
    // `=` and `&` are escaped, so there is one name without a value.
    match (pairs.next(), pairs.next()) {
        (Some((text, empty)), None) if empty.is_empty() => text.into_owned(),
        _ => value.to_owned(),
    }
}

/// Attributes in the form of SQS's JSON.
pub(super) fn json_of(attributes: &[(String, String)]) -> Value {
    let pairs = attributes.iter().map(|(name, value)| {
        let typed = json!({ "DataType": "String", "StringValue": value });
        (name.clone(), typed)
    });
    Value::Object(pairs.collect::<Map<String, Value>>())
}

fn query_escaped(value: &str) -> String {
    form_urlencoded::byte_serialize(value.as_bytes()).collect()
}

fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut before = '.';
    for c in name.chars() {
        let allowed =
            c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || c == '.' && before != '.';
        if allowed {
            text.push(c);
        } else {
            text.push_str(&format!("__0x{:x}__", u32::from(c)));
        }
        before = c;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_have_the_form_of_krakend() {
        let pairs = [
            ("X-A".to_owned(), "a b&c".to_owned()),
            ("X*B".to_owned(), "ä".to_owned()),
            ("X-Empty".to_owned(), String::new()),
        ];
        let (text, attributes) = written(b"{}", &pairs);
        assert_eq!(text, "{}");
        let expected = [("X-A", "a+b%26c"), ("X__0x2a__B", "%C3%A4")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(attributes, expected);
        for (_, value) in &pairs {
            assert_eq!(unescaped(&query_escaped(value)), *value);
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_base64_in_both_directions() {
        let (text, attributes) = written(&[0xff, 0x00], &[]);
        assert_eq!(attributes, [(ENCODED.to_owned(), "true".to_owned())]);
        assert_eq!(read(text, true), &[0xff, 0x00][..]);
        assert_eq!(read("plain".to_owned(), false), "plain");
    }
}
