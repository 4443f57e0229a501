//! A tree whose branches may be unparsed slices of the body.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::index::Index;
use super::out::Out;
use super::parse;
use super::weight::Growth;
use crate::runtime::heavy::is_late;
use crate::upstream::budget::Full;

/// The members of an object, sorted by name, which is the order in which they are written.
pub type Object = BTreeMap<Box<str>, Value>;

/// A JSON value. Numbers keep their original text.
///
/// Equality compares the representation: a slice equals only a slice with the same text. To compare meanings, compare
/// [`Value::expanded`] values.
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
    /// Not parsed yet.
    Raw(Raw),
}

/// A slice of a body that contains exactly one value: valid JSON, valid UTF-8, limited in depth, without duplicate
/// names in an object and without half surrogate pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Slice {
        text: Bytes,
        /// Whether the text is already as KrakenD would write it, including the order of members.
        settled: bool,
    },
    /// An object whose members are written in the order of their names.
    Indexed(Box<Index>),
}

/// The type of a value, with the names in KrakenD's error texts.
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
    /// A slice that the scanner reported as faithful.
    pub(super) fn checked(text: Bytes) -> Raw {
        Raw(Form::Slice {
            text,
            settled: false,
        })
    }

    /// An object that is only written.
    pub(super) fn indexed(index: Box<Index>) -> Raw {
        Raw(Form::Indexed(index))
    }

    /// The original text.
    pub fn text(&self) -> &Bytes {
        match &self.0 {
            Form::Slice { text, .. } => text,
            Form::Indexed(index) => index.text(),
        }
    }

    /// Whether the text may be copied even if KrakenD's exact bytes are required.
    pub fn is_settled(&self) -> bool {
        matches!(self.0, Form::Slice { settled: true, .. })
    }

    /// Appends it as the upstream wrote it, except that the members of an indexed object are sorted.
    pub(super) fn write(&self, out: &mut impl Out) {
        match &self.0 {
            Form::Slice { text, .. } => out.put(text),
            Form::Indexed(index) => index.write(out),
        }
    }

    fn kind(&self) -> Kind {
        match self.text().first() {
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
    /// The type. A slice is not parsed.
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

    /// Parses one level of a slice in place: members and elements stay slices. Other values are unchanged.
    pub fn open(&mut self) -> &mut Value {
        if let Value::Raw(raw) = self {
            // The slice was checked when it was created, so parsing it again cannot fail.
            *self = parse::open(raw.text(), &mut Growth::uncounted()).unwrap_or_default();
        }
        self
    }

    /// Parses one level of a slice in place. What is built is charged to `growth`.
    ///
    /// # Errors
    /// There is no memory for it. The value is unchanged.
    pub fn open_within(&mut self, growth: &mut Growth) -> Result<&mut Value, Full> {
        if let Value::Raw(raw) = self {
            *self = match parse::open(raw.text(), growth) {
                Err(super::Error::Full(full)) => return Err(full),
                opened => opened.unwrap_or_default(),
            };
        }
        Ok(self)
    }

    /// The members of an object. A slice is opened. `None` for any other value.
    pub fn as_object_mut(&mut self) -> Option<&mut Object> {
        match self.kind() {
            Kind::Object => match self.open() {
                Value::Object(object) => Some(object),
                _ => None,
            },
            _ => None,
        }
    }

    /// The elements of an array. A slice is opened. `None` for any other value.
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
            _ if is_late() => Value::Null,
            Value::Raw(raw) => parse::expand(raw.text()).unwrap_or_default(),
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

    /// Our own text, which is written unchanged, for example because the order of its members matters. It must be
    /// exactly one valid JSON value without white space around it.
    pub(in crate::runtime) fn raw_settled(text: Bytes) -> Value {
        Value::Raw(Raw(Form::Slice {
            text,
            settled: true,
        }))
    }

    /// The placeholder of an element that was removed from an array while the others keep their positions. It reads
    /// as null and has no text. The code that creates holes must remove them before the value is written.
    pub(in crate::runtime) fn hole() -> Value {
        Value::raw_settled(Bytes::new())
    }

    /// Whether this is a hole. A real value never has an empty text.
    pub(in crate::runtime) fn is_hole(&self) -> bool {
        matches!(self, Value::Raw(raw) if raw.text().is_empty())
    }

    /// Whether this is an object with members. A slice without an index counts as none: it is not data of its own.
    pub(in crate::runtime) fn has_members(&self) -> bool {
        match self {
            Value::Object(object) => !object.is_empty(),
            Value::Raw(Raw(Form::Indexed(index))) => !index.is_empty(),
            _ => false,
        }
    }

    /// A string.
    pub fn string(text: impl Into<Box<str>>) -> Value {
        Value::String(text.into())
    }
}
