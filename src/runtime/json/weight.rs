//! The memory that a tree takes, estimated before it is built.
//!
//! A tree may be a hundred times as large as its text: each `{"":1}` becomes a node with room for eleven members. So
//! a small body could take all memory, although the body itself is charged. The estimate is an upper bound: it counts
//! the characters that start objects, lists and elements.

use once_cell::sync::Lazy;

use super::scan::plain_run;
use super::value::Value;
use crate::telemetry::calm::Calm;
use crate::upstream::budget::{Budget, Charge, FREE, Full};

/// A node of a map, for each object. A map of many members has at least six in each node.
pub(crate) const OBJECT: usize = 640;
/// The first allocation of a list.
pub(crate) const LIST: usize = 176;
/// An element or a member, with room for the growth of what holds it.
pub(crate) const ITEM: usize = 160;
/// An element of XML that becomes a text, with a place in a list that grows. One with attributes or elements also takes
/// [`OBJECT`].
const ELEMENT: usize = 128;
const ATTRIBUTE: usize = 128;
/// What a growing tree is charged in advance, so that the budget is not asked for each member.
const STEP: usize = 64 * 1024;
/// No single tree may take more than this, because it takes time to free, too.
const MOST: usize = 1 << 30;

/// Charges the tree that is about to be built from a JSON text. The charge ends when the result is dropped. Small
/// trees are not charged, as in [`crate::upstream::budget`].
///
/// # Errors
/// The process holds too much already, or the tree would be too large.
pub(crate) fn charge(text: &[u8]) -> Result<Charge, Full> {
    if text.len() <= FREE {
        charge_bytes(quick_weight(text))
    } else {
        covered(weight(text))
    }
}

/// Charges the tree that is about to be built from an XML text.
///
/// # Errors
/// As `charge`.
pub(crate) fn charge_xml(text: &[u8]) -> Result<Charge, Full> {
    // Most short texts are small whatever they contain.
    let each = ELEMENT + OBJECT + ATTRIBUTE;
    if text.len() <= FREE && each * count(text, b'<') <= FREE {
        charge_bytes(0)
    } else {
        covered(text.len() + elements_weight(text))
    }
}

/// Counts what is built from a text while it is built, and charges it in steps. What is small is not charged.
///
/// An object of many members needs this even if its values stay slices: each member takes more memory than its text.
#[derive(Debug, Default)]
pub struct Growth {
    bytes: usize,
    charge: Charge,
    uncounted: bool,
}

impl Growth {
    /// A counter that never charges, for data that is already charged or small.
    pub(crate) fn uncounted() -> Growth {
        Growth {
            uncounted: true,
            ..Growth::default()
        }
    }

    /// Counts one member or element more, and `bytes` of its name.
    pub(super) fn item(&mut self, bytes: usize) -> Result<(), Full> {
        self.add(ITEM + bytes)
    }

    /// Counts the tree that is about to be built from `text`.
    pub(crate) fn tree(&mut self, text: &[u8]) -> Result<(), Full> {
        self.add(weight(text))
    }

    /// Counts `bytes` more.
    ///
    /// # Errors
    /// As `charge`.
    pub fn add(&mut self, bytes: usize) -> Result<(), Full> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= FREE || self.bytes <= self.charge.bytes() || self.uncounted {
            return Ok(());
        }
        if self.bytes > MOST {
            return Err(too_large());
        }
        self.charge.cover(self.bytes.saturating_add(STEP))
    }

    /// Charges `bytes` that are about to be made, and that will be counted when they are.
    ///
    /// # Errors
    /// As `charge`.
    pub(crate) fn prepare(&mut self, bytes: usize) -> Result<(), Full> {
        match self.bytes.saturating_add(bytes) {
            all if all <= FREE || self.uncounted => Ok(()),
            all => self.charge.cover(all),
        }
    }

    /// Takes `bytes` back that were counted, and that are free now.
    pub(crate) fn release(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Lowers the charge to what is counted.
    pub(crate) fn settle(&mut self) {
        let bytes = if self.bytes > FREE { self.bytes } else { 0 };
        self.charge.lower(bytes as u64);
    }

    /// Takes over a charge for what was counted elsewhere.
    pub(crate) fn adopt(&mut self, charge: Charge) {
        self.charge = charge;
    }

    /// The charge for all of it.
    pub fn into_charge(self) -> Charge {
        self.charge
    }
}

impl Value {
    /// Charges a copy of this value without slices ([`Value::expanded`]).
    ///
    /// # Errors
    /// As `charge`.
    pub fn charge_expanded(&self) -> Result<Charge, Full> {
        charge_bytes(self.weight())
    }

    pub(crate) fn weight(&self) -> usize {
        match self {
            Value::Null | Value::Bool(_) => 0,
            Value::Number(text) | Value::String(text) => text.len(),
            Value::Raw(raw) if raw.text().len() <= FREE => raw.text().len(),
            Value::Raw(raw) => weight(raw.text()),
            Value::Array(items) => {
                let inner = items.iter().map(Value::weight).sum::<usize>();
                inner + LIST + ITEM * items.len()
            }
            Value::Object(members) => {
                let inner = members.values().map(Value::weight).sum::<usize>();
                inner + OBJECT + ITEM * members.len()
            }
        }
    }
}

/// Charges `bytes` that are about to be made. Few bytes are not charged.
///
/// # Errors
/// As [`charge`].
pub(crate) fn charge_bytes(bytes: usize) -> Result<Charge, Full> {
    if bytes <= FREE {
        Ok(Budget::process().charge())
    } else {
        covered(bytes)
    }
}

fn covered(bytes: usize) -> Result<Charge, Full> {
    if bytes > MOST {
        return Err(too_large());
    }
    let mut charge = Budget::process().charge();
    charge.cover(bytes)?;
    Ok(charge)
}

/// A tree would take more than [`MOST`], however much memory is free.
fn too_large() -> Full {
    static CALM: Lazy<Calm> = Lazy::new(Calm::default);
    CALM.warn(|| {
        "[SERVICE: Gateway] 503 for a body that may take more than 1 GiB once it is parsed"
            .to_owned()
    });
    Budget::process().count_rejection();
    Full
}

/// An upper bound of [`weight`] for a short text: it also counts characters within strings.
fn quick_weight(text: &[u8]) -> usize {
    OBJECT * count(text, b'{') + LIST * count(text, b'[') + ITEM * count(text, b',') + text.len()
}

fn count(text: &[u8], byte: u8) -> usize {
    memchr::memchr_iter(byte, text).count()
}

fn weight(text: &[u8]) -> usize {
    let mut bytes = text.len();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at),
            b'{' => bytes += OBJECT,
            b'[' => bytes += LIST,
            b',' => bytes += ITEM,
            _ => {}
        }
        at += 1;
    }
    bytes
}

/// The closing quotation mark of the string at `at`.
fn end_of_string(text: &[u8], at: usize) -> usize {
    let mut at = plain_run(text, at + 1);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at = plain_run(text, at + 2),
            _ => at = plain_run(text, at + 1),
        }
    }
    at
}

/// What the elements of a text become, roughly: the tags are not parsed.
fn elements_weight(text: &[u8]) -> usize {
    let mut bytes: usize = 0;
    // Whether the last tag was a start tag, so that its element contains no other one yet.
    let mut is_open = false;
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'<', rest) {
        rest = rest.get(at + 1..).unwrap_or_default();
        let end = memchr::memchr2(b'>', b'<', rest).unwrap_or(rest.len());
        let (tag, after) = rest.split_at(end);
        rest = after;
        if tag.starts_with(b"/") {
            if !is_open {
                bytes = bytes.saturating_add(OBJECT);
            }
            is_open = false;
            continue;
        }
        is_open = !tag.ends_with(b"/");
        bytes = bytes.saturating_add(ELEMENT);
        let attributes = count(tag, b'=');
        if attributes > 0 {
            bytes = bytes.saturating_add(OBJECT + ATTRIBUTE * attributes);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::value::Raw;
    use super::super::{Depth, parse, parse_within};
    use super::*;
    use crate::runtime::decode::{Kind, decode_anything};

    /// What a tree holds: nodes of maps with eleven places, lists with their capacity, texts in pieces of 16 bytes.
    fn held(value: &Value) -> usize {
        let text = |text: &str| text.len().next_multiple_of(16);
        match value {
            Value::Null | Value::Bool(_) | Value::Raw(_) => 0,
            Value::Number(number) => text(number),
            Value::String(string) => text(string),
            Value::Array(items) => {
                items.capacity() * size_of::<Value>() + items.iter().map(held).sum::<usize>()
            }
            Value::Object(members) => {
                let node = 11 * size_of::<(Box<str>, Value)>() + 16;
                let nodes = members.len().div_ceil(6) * node;
                let inner = members.iter().map(|(name, value)| text(name) + held(value));
                nodes + inner.sum::<usize>()
            }
        }
    }

    #[test]
    fn the_estimate_is_not_below_the_memory_of_a_tree() {
        let list = |item: &str| format!("[{}]", vec![item; 5000].join(","));
        let names: Vec<String> = (0..5000).map(|n| format!("\"{n}\":1")).collect();
        for text in [
            list(r#"{"":1}"#),
            list(r#"{"a":{"b":{"c":[1]}}}"#),
            list("[]"),
            list("[1]"),
            list("[[[1]]]"),
            list("1"),
            list(r#""x""#),
            format!("{{{}}}", names.join(",")),
        ] {
            let tree = parse(&Bytes::from(text.clone()), Depth::Full).unwrap();
            let told = weight(text.as_bytes());
            assert!(told >= held(&tree), "{}: {told}", &text[..30]);
            assert!(quick_weight(text.as_bytes()) >= told, "{}", &text[..30]);
            assert!(tree.weight() >= held(&tree), "{}", &text[..30]);
        }
    }

    #[test]
    fn the_tree_of_a_short_text_is_charged_if_it_is_large() {
        let many = format!("[{}]", vec![r#"{"":1}"#; 500].join(","));
        assert!(charge(many.as_bytes()).unwrap().bytes() > 300_000);
        assert_eq!(charge(br#"{"a":[1,{"b":2}]}"#).unwrap().bytes(), 0);
        let many = "<a/>".repeat(500);
        assert!(charge_xml(many.as_bytes()).unwrap().bytes() >= 64_000);
        assert_eq!(charge_xml(b"<a><b/></a>").unwrap().bytes(), 0);
    }

    #[test]
    fn the_estimate_is_not_below_the_memory_of_a_document() {
        let names: String = (0..5000).map(|n| format!("<e{n}/>")).collect();
        let attributes: String = (0..5000).map(|n| format!(" e{n}='1'")).collect();
        for text in [
            "<a/>".repeat(5000),
            "<a>text</a>".repeat(5000),
            r#"<a b="1">t</a>"#.repeat(5000),
            "<a><b><c>1</c></b></a>".repeat(5000),
            "<a><b/><b/><b/></a>".repeat(5000),
            names,
            format!("<a{attributes}/>"),
        ] {
            let text = format!("<r>{text}</r>");
            let tree = decode_anything(Kind::Xml, text.as_bytes()).unwrap();
            let told = charge_xml(text.as_bytes()).unwrap().bytes();
            assert!(told >= held(&tree), "{}: {told}", &text[..30]);
        }
    }

    #[test]
    fn a_document_of_a_megabyte_has_space_in_a_small_container() {
        let text = format!("<r>{}</r>", "<a>text</a>".repeat(95_000));
        assert!(charge_xml(text.as_bytes()).unwrap().bytes() < 14 << 20);
        let text = format!("<r>{}</r>", r#"<a b="1">t</a>"#.repeat(75_000));
        assert!(charge_xml(text.as_bytes()).unwrap().bytes() < 70 << 20);
    }

    #[test]
    fn trees_built_in_addition_to_slices_are_counted_as_they_grow() {
        let list = |item: &str| format!("[{}]", vec![item; 5000].join(","));
        let names: Vec<String> = (0..5000).map(|n| format!("\"{n}\":1")).collect();
        let object = format!("{{{}}}", names.join(","));
        // A lone surrogate makes a tree of what would have stayed a slice.
        let broken = format!(r#"{{"a":{}}}"#, list(r#"{"b":"\ud800"}"#));
        for text in [object, broken] {
            let mut growth = Growth::default();
            let value = parse_within(&text.clone().into(), Depth::TopLevel, &mut growth).unwrap();
            let charge = growth.into_charge();
            assert!(charge.bytes() >= held(&value), "{}", &text[..30]);
        }
        let mut growth = Growth::default();
        let mut value = Value::Raw(Raw::checked(Bytes::from(list("1"))));
        value.open_within(&mut growth).unwrap();
        assert!(growth.into_charge().bytes() >= held(&value));
        let mut growth = Growth::default();
        parse_within(
            &Bytes::from_static(b"{\"a\":1}"),
            Depth::TopLevel,
            &mut growth,
        )
        .unwrap();
        assert_eq!(growth.into_charge().bytes(), 0);
    }

    #[test]
    fn an_object_that_would_be_too_large_is_rejected_while_it_is_read() {
        let mut growth = Growth::default();
        let before = Budget::process().rejected();
        assert_eq!(growth.add(MOST + 1), Err(Full));
        assert!(Budget::process().rejected() > before, "it is counted");
        // Bytes that were counted before are never rejected.
        assert_eq!(Growth::uncounted().add(MOST + 1), Ok(()));
    }

    #[test]
    fn text_in_strings_is_ignored() {
        let plain = format!(r#"["{}\"\\", 1]"#, "x".repeat(40));
        let odd = format!(r#"["{}\"\\", 1]"#, "{[,:".repeat(10));
        assert_eq!(weight(odd.as_bytes()), weight(plain.as_bytes()));
        assert_eq!(weight(br#""{{{"#), 4);
    }

    #[test]
    fn a_tree_that_would_be_too_large_is_rejected() {
        let text = vec![b'{'; MOST / OBJECT + 1];
        assert_eq!(charge(&text).unwrap_err(), Full);
        assert!(charge(b"{}").is_ok());
        let text = b"<a>".repeat(MOST / ELEMENT + 1);
        assert_eq!(charge_xml(&text).unwrap_err(), Full);
    }
}
