//! The XML writer: members become elements, `-name` attributes, `#text` text, and arrays repeat their element.

use std::borrow::Cow;

use bytes::Bytes;

use crate::runtime::heavy::is_late;
use crate::runtime::json::{Object, Value};

/// The document, without declaration or indentation, as in KrakenD.
///
/// A single member is the root. Anything else is wrapped in `<doc>`. Unlike in KrakenD, an array never becomes
/// several roots, and names that are invalid in XML are replaced by valid ones.
pub(super) fn document(data: &Object) -> Bytes {
    let mut out = String::with_capacity(256);
    match root(data) {
        Some((name, value)) => element(&mut out, name, value),
        None => object(&mut out, "doc", data),
    }
    Bytes::from(out)
}

fn root(data: &Object) -> Option<(&str, &Value)> {
    let (name, value) = data.first_key_value().filter(|_| data.len() == 1)?;
    let several = matches!(value, Value::Array(array) if !array.is_empty());
    let one = !several && !name.starts_with('-') && &**name != "#text";
    one.then_some((name, value))
}

fn element(out: &mut String, name: &str, value: &Value) {
    match value {
        _ if is_late() => {}
        // An empty list becomes an empty element, so that its name is kept.
        Value::Array(array) if array.is_empty() => open(out, &name_of(name), &[], true),
        Value::Array(array) => array.iter().for_each(|each| element(out, name, each)),
        Value::Object(members) => object(out, &name_of(name), members),
        scalar => {
            let (name, text) = (name_of(name), text_of(scalar));
            open(out, &name, &[], text.is_empty());
            if !text.is_empty() {
                escape(out, &text);
                close(out, &name);
            }
        }
    }
}

fn object(out: &mut String, name: &str, members: &Object) {
    let mut attributes = Vec::new();
    let mut inner = String::new();
    if let Some(text) = members.get("#text") {
        escape(&mut inner, &text_of(text));
    }
    for (member, value) in members {
        match (member.strip_prefix('-'), value) {
            _ if &**member == "#text" => {}
            (None | Some(""), _) | (_, Value::Object(_) | Value::Array(_)) => {
                element(&mut inner, member, value);
            }
            (Some(attribute), scalar) => attributes.push((name_of(attribute), text_of(scalar))),
        }
    }
    open(out, name, &attributes, inner.is_empty());
    if !inner.is_empty() {
        out.push_str(&inner);
        close(out, name);
    }
}

fn open(out: &mut String, name: &str, attributes: &[(Cow<'_, str>, Cow<'_, str>)], empty: bool) {
    out.push('<');
    out.push_str(name);
    for (name, value) in attributes {
        out.push(' ');
        out.push_str(name);
        out.push_str("=\"");
        escape(out, value);
        out.push('"');
    }
    out.push_str(if empty { "/>" } else { ">" });
}

fn close(out: &mut String, name: &str) {
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Bool(true) => Cow::Borrowed("true"),
        Value::Bool(false) => Cow::Borrowed("false"),
        Value::Number(text) | Value::String(text) => Cow::Borrowed(text),
        _ => Cow::Borrowed(""),
    }
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' | '\n' | '\r' => out.push(c),
            // XML 1.0 §2.2 cannot represent these characters.
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
}

/// The name of a member as an XML name. Invalid characters become `_`, so that no member can inject markup.
fn name_of(member: &str) -> Cow<'_, str> {
    let first = member.chars().next();
    if first.is_some_and(starts_name) && member.chars().all(in_name) {
        return Cow::Borrowed(member);
    }
    let mut name = String::with_capacity(member.len() + 1);
    if !first.is_some_and(starts_name) {
        name.push('_');
    }
    name.extend(member.chars().map(|c| if in_name(c) { c } else { '_' }));
    Cow::Owned(name)
}

fn starts_name(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}
