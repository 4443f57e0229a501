//! The XML writer: members become elements, `-name` attributes, `#text` text, and arrays repeat their element.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::runtime::heavy::is_late;
use crate::runtime::json::{Object, Out, Value};

/// The maximum number of attributes of an element whose names are made valid. More of them become elements, which may
/// have equal names, so that few names have to be remembered.
const MAX_CHANGED: usize = 1000;

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
                escape(out, &text, Place::Text);
                close(out, name);
            }
        }
    }
}

fn object(out: &mut impl Out, name: &str, members: &Object) {
    let mut names = AttributeNames::new(members);
    let attributes = members.iter().filter_map(|(member, value)| {
        let attribute = attribute_of(member, value)?;
        Some((names.next(attribute)?, text_of(value)))
    });
    open(out, name, attributes, false);
    let mut changed = 0;
    let begin = out.size();
    if let Some(text) = members.get("#text") {
        escape(out, &text_of(text), Place::Text);
    }
    for (member, value) in members {
        if &**member == "#text" {
            continue;
        }
        if let Some(attribute) = attribute_of(member, value) {
            changed += usize::from(!is_name(attribute));
            if changed <= MAX_CHANGED || is_name(attribute) {
                continue;
            }
        }
        element(out, member, value);
    }
    if out.size() > begin {
        close(out, name);
    } else {
        out.shorten(begin - 1);
        out.put(b"/>");
    }
}

/// The names of an element's attributes. XML allows none twice, but two members may have the same valid name.
struct AttributeNames<'m> {
    members: &'m Object,
    /// Names that were made valid, with the last number that distinguishes equal ones.
    changed: HashMap<String, usize>,
    count: usize,
}

impl<'m> AttributeNames<'m> {
    fn new(members: &'m Object) -> AttributeNames<'m> {
        AttributeNames {
            members,
            changed: HashMap::new(),
            count: 0,
        }
    }

    /// The name of the next attribute: that of its member if it is valid, otherwise one that no other attribute has.
    /// `None` if there are too many of these.
    fn next<'a>(&mut self, attribute: &'a str) -> Option<Cow<'a, str>> {
        let Cow::Owned(name) = name_of(attribute) else {
            return Some(Cow::Borrowed(attribute));
        };
        self.count += 1;
        if self.count > MAX_CHANGED {
            return None;
        }
        let mut number = self.changed.get(&name).copied().unwrap_or(0);
        let mut free = name.clone();
        while number > 0 || self.is_taken(&free) {
            number = number.max(1) + 1;
            free = format!("{name}_{number}");
            if !self.is_taken(&free) {
                break;
            }
        }
        self.changed.insert(name, number.max(1));
        self.changed.entry(free.clone()).or_insert(1);
        Some(Cow::Owned(free))
    }

    fn is_taken(&self, name: &str) -> bool {
        let member = format!("-{name}");
        let value = self.members.get(member.as_str());
        self.changed.contains_key(name)
            || value.is_some_and(|value| attribute_of(&member, value).is_some())
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
        escape(out, &value, Place::Attribute);
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

/// Where a text is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    Attribute,
}

fn escape(out: &mut impl Out, text: &str, place: Place) {
    let escaped = |c| escaped(c, place);
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
fn escaped(c: char, place: Place) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&apos;"),
        // A reader makes a blank of these in an attribute (XML 1.0 §3.3.3), and a line feed of a carriage return anywhere
        // (§2.11). The spelling is that of Go.
        '\t' if place == Place::Attribute => Some("&#x9;"),
        '\n' if place == Place::Attribute => Some("&#xA;"),
        '\r' => Some("&#xD;"),
        '\t' | '\n' => None,
        // XML 1.0 §2.2 cannot represent these characters.
        '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => Some("\u{fffd}"),
        _ => None,
    }
}

/// The name of a member as an XML name. Invalid characters become `_`, so that no member can inject markup.
fn name_of(member: &str) -> Cow<'_, str> {
    if is_name(member) {
        return Cow::Borrowed(member);
    }
    let mut name = String::with_capacity(member.len() + 1);
    if !member.starts_with(starts_name) {
        name.push('_');
    }
    name.extend(member.chars().map(|c| if in_name(c) { c } else { '_' }));
    Cow::Owned(name)
}

/// Whether this is a valid name without a prefix.
fn is_name(member: &str) -> bool {
    member.starts_with(starts_name) && member.chars().all(in_name)
}

fn starts_name(c: char) -> bool {
    c == '_' || is_allowed(c) && c.is_alphabetic()
}

fn in_name(c: char) -> bool {
    matches!(c, '_' | '-' | '.' | '0'..='9') || is_allowed(c) && c.is_alphanumeric()
}

/// The range of letters in XML 1.0 §2.3. Some letters and digits of Unicode, such as `ª` and `²`, are outside.
fn is_allowed(c: char) -> bool {
    matches!(
        c,
        'A'..='Z' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
            | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{2070}'..='\u{218f}'
            | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}'
            | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}'
    )
}
