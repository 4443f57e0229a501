//! A tree whose branches may still be unread slices of the body.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::parse;

/// An object's members, sorted by name as they are written.
pub type Object = BTreeMap<Box<str>, Value>;

/// A JSON value. Numbers keep the text in which they came.
///
/// Equality is that of the representation: a slice equals only a slice of the same text. Compare
/// [`Value::expanded`] values to compare what they mean.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    /// The literal as the upstream wrote it: `1.10`, `1e400`.
    Number(Box<str>),
    String(Box<str>),
    Array(Vec<Value>),
    Object(Object),
    /// Not read yet.
    Raw(Raw),
}

/// A slice of a body that holds exactly one value: valid JSON, valid UTF-8, bounded in depth, no name twice in an
/// object, no half surrogate pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    text: Bytes,
    /// Whether the text is already as the reference would write it, order of members included.
    settled: bool,
}

/// The type of a value, by the names of the reference's error texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    /// `array`, `object`, …
    pub fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "bool",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Array => "array",
            Kind::Object => "object",
        }
    }
}

impl Raw {
    /// A slice that the scanner has passed as faithful.
    pub(super) fn checked(text: Bytes) -> Raw {
        Raw {
            text,
            settled: false,
        }
    }

    /// The text as it was written.
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// Whether the text may be copied even where the reference's own bytes are asked for.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    fn kind(&self) -> Kind {
        match self.text.first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') | None => Kind::Null,
            Some(_) => Kind::Number,
        }
    }
}

impl Value {
    /// The type, without reading a slice.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Bool,
            Value::Number(_) => Kind::Number,
            Value::String(_) => Kind::String,
            Value::Array(_) => Kind::Array,
            Value::Object(_) => Kind::Object,
            Value::Raw(raw) => raw.kind(),
        }
    }

    /// Reads one level of a slice in place: members and elements stay slices. Anything else is left as it is.
    pub fn open(&mut self) -> &mut Value {
        if let Value::Raw(raw) = self {
            // A slice was checked when it was cut, so that reading it again cannot fail.
            *self = parse::open(&raw.text).unwrap_or_default();
        }
        self
    }

    /// The members of an object, opened if it was a slice; `None` for any other value.
    pub fn as_object_mut(&mut self) -> Option<&mut Object> {
        match self.kind() {
            Kind::Object => match self.open() {
                Value::Object(object) => Some(object),
                _ => None,
            },
            _ => None,
        }
    }

    /// The elements of an array, opened if it was a slice; `None` for any other value.
    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self.kind() {
            Kind::Array => match self.open() {
                Value::Array(array) => Some(array),
                _ => None,
            },
            _ => None,
        }
    }

    /// The same value as a tree without slices.
    pub fn expanded(&self) -> Value {
        match self {
            Value::Raw(raw) => parse::expand(&raw.text).unwrap_or_default(),
            Value::Array(array) => Value::Array(array.iter().map(Value::expanded).collect()),
            Value::Object(object) => Value::Object(
                object
                    .iter()
                    .map(|(name, value)| (name.clone(), value.expanded()))
                    .collect(),
            ),
            other => other.clone(),
        }
    }

    /// Text of our own making that is written as it stands, for instance because its members have an order.
    /// It must be exactly one valid JSON value without blanks around it.
    pub(in crate::runtime) fn raw_settled(text: Bytes) -> Value {
        Value::Raw(Raw {
            text,
            settled: true,
        })
    }

    /// What an element leaves behind that is taken out of an array while the others keep their positions. It reads as
    /// null, and has no text: whoever makes holes closes them before anybody writes the value.
    pub(in crate::runtime) fn hole() -> Value {
        Value::Raw(Raw {
            text: Bytes::new(),
            settled: true,
        })
    }

    /// Whether it is a hole rather than a value: no value has an empty text.
    pub(in crate::runtime) fn is_hole(&self) -> bool {
        matches!(self, Value::Raw(raw) if raw.text.is_empty())
    }

    /// A string.
    pub fn string(text: impl Into<Box<str>>) -> Value {
        Value::String(text.into())
    }
}
