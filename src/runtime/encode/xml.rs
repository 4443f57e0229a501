//! The XML writer: members become elements, `-name` attributes, `#text` text, and arrays repeat their element.

use std::borrow::Cow;

use crate::runtime::heavy::is_late;
use crate::runtime::json::{Object, Out, Value};

/// Writes the document, without declaration or indentation, as in KrakenD.
///
/// A single member is the root. Anything else is wrapped in `<doc>`. Unlike in KrakenD, an array never becomes
/// several roots, and names that are invalid in XML are replaced by valid ones.
pub(super) fn write(out: &mut impl Out, data: &Object) {
    match root(data) {
        Some((name, value)) => element(out, name, value),
        None => object(out, "doc", data),
    }
}

fn root(data: &Object) -> Option<(&str, &Value)> {
    let (name, value) = data.first_key_value().filter(|_| data.len() == 1)?;
    let several = matches!(value, Value::Array(array) if !array.is_empty());
    let one = !several && !name.starts_with('-') && &**name != "#text";
    one.then_some((name, value))
}

fn element(out: &mut impl Out, member: &str, value: &Value) {
    named(out, &name_of(member), value);
}

/// An element for a value, or one for each item of a list.
fn named(out: &mut impl Out, name: &str, value: &Value) {
    match value {
        _ if is_late() => {}
        // An empty list becomes an empty element, so that its name is kept.
        Value::Array(array) if array.is_empty() => open(out, name, no_attributes(), true),
        Value::Array(array) => array.iter().for_each(|each| named(out, name, each)),
        Value::Object(members) => object(out, name, members),
        scalar => {
            let text = text_of(scalar);
            open(out, name, no_attributes(), text.is_empty());
            if !text.is_empty() {
                escape(out, &text);
                close(out, name);
            }
        }
    }
}

fn object(out: &mut impl Out, name: &str, members: &Object) {
    let attributes = members.iter().filter_map(|(member, value)| {
        let attribute = attribute_of(member, value)?;
        Some((name_of(attribute), text_of(value)))
    });
    open(out, name, attributes, false);
    let begin = out.size();
    if let Some(text) = members.get("#text") {
        escape(out, &text_of(text));
    }
    for (member, value) in members {
        if &**member != "#text" && attribute_of(member, value).is_none() {
            element(out, member, value);
        }
    }
    if out.size() > begin {
        close(out, name);
    } else {
        out.shorten(begin - 1);
        out.put(b"/>");
    }
}

/// The name of the attribute that a member becomes.
fn attribute_of<'m>(member: &'m str, value: &Value) -> Option<&'m str> {
    let is_scalar = !matches!(value, Value::Object(_) | Value::Array(_));
    let name = member.strip_prefix('-').filter(|name| !name.is_empty());
    name.filter(|_| is_scalar)
}

fn open<'a>(
    out: &mut impl Out,
    name: &str,
    attributes: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
    empty: bool,
) {
    out.put(b"<");
    out.put(name.as_bytes());
    for (name, value) in attributes {
        out.put(b" ");
        out.put(name.as_bytes());
        out.put(b"=\"");
        escape(out, &value);
        out.put(b"\"");
    }
    out.put(if empty { b"/>" } else { b">" });
}

fn no_attributes<'a>() -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
    std::iter::empty()
}

fn close(out: &mut impl Out, name: &str) {
    out.put(b"</");
    out.put(name.as_bytes());
    out.put(b">");
}

fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Bool(true) => Cow::Borrowed("true"),
        Value::Bool(false) => Cow::Borrowed("false"),
        Value::Number(text) | Value::String(text) => Cow::Borrowed(text),
        _ => Cow::Borrowed(""),
    }
}

fn escape(out: &mut impl Out, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(|c| escaped(c).is_some()) {
        let (plain, special) = rest.split_at(at);
        out.put(plain.as_bytes());
        let mut chars = special.chars();
        if let Some(escape) = chars.next().and_then(escaped) {
            out.put(escape.as_bytes());
        }
        rest = chars.as_str();
    }
    out.put(rest.as_bytes());
}

/// What is written for a character that cannot be written as it is.
fn escaped(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&apos;"),
        '\t' | '\n' | '\r' => None,
        // XML 1.0 §2.2 cannot represent these characters.
        '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => Some("\u{fffd}"),
        _ => None,
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
