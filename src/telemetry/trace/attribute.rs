//! Names and values of attributes of spans and series.

use std::borrow::Cow;
use std::sync::Arc;

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(Cow<'static, str>),
    Shared(Arc<str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Texts(Vec<String>),
}

/// A name and a value.
pub(crate) type Attribute = (Cow<'static, str>, Value);

impl Value {
    /// The value as a label.
    pub fn label(&self) -> Cow<'_, str> {
        match self {
            Value::Text(text) => Cow::Borrowed(text),
            Value::Shared(text) => Cow::Borrowed(text),
            Value::Int(value) => value.to_string().into(),
            Value::Float(value) => value.to_string().into(),
            Value::Bool(true) => "true".into(),
            Value::Bool(false) => "false".into(),
            Value::Texts(all) => all.join(",").into(),
        }
    }

    /// Cuts texts to `most` characters.
    pub fn shorten(&mut self, most: usize) {
        match self {
            Value::Text(Cow::Borrowed(text)) => {
                let text: &'static str = text;
                *self = Value::from(&text[..length(text, most)]);
            }
            Value::Text(Cow::Owned(text)) => text.truncate(length(text, most)),
            Value::Shared(text) => {
                let length = length(text, most);
                if length < text.len() {
                    *self = Value::from(text[..length].to_owned());
                }
            }
            Value::Texts(all) => {
                for text in all {
                    text.truncate(length(text, most));
                }
            }
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => {}
        }
    }

    /// Its size in bytes, for the limits of queues.
    pub fn size(&self) -> usize {
        match self {
            Value::Text(text) => text.len(),
            Value::Shared(text) => text.len(),
            Value::Texts(all) => all.iter().map(|text| text.len() + 24).sum(),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => 8,
        }
    }
}

/// The bytes of the first `most` characters.
fn length(text: &str, most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    let end = text.char_indices().nth(most);
    end.map_or(text.len(), |(at, _)| at)
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Value {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(Cow::Owned(text))
    }
}

impl From<&Arc<str>> for Value {
    fn from(text: &Arc<str>) -> Value {
        Value::Shared(Arc::clone(text))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<u16> for Value {
    fn from(value: u16) -> Value {
        Value::Int(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Float(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_to_a_number_of_characters() {
        let shared: Arc<str> = "äbcd".into();
        for (value, most, expected) in [
            (Value::from("abcd"), 3, Value::from("abc")),
            (Value::from("abcd"), 4, Value::from("abcd")),
            (Value::from("äöü".to_owned()), 2, Value::from("äö")),
            (Value::from("äöü".to_owned()), 3, Value::from("äöü")),
            (Value::from(&shared), 2, Value::from("äb")),
            (Value::from(&shared), 4, Value::from(&shared)),
            (Value::from("abc"), 0, Value::from("")),
            (
                Value::Texts(vec!["abc".to_owned(), "ä".to_owned()]),
                1,
                Value::Texts(vec!["a".to_owned(), "ä".to_owned()]),
            ),
            (Value::Int(12345), 2, Value::Int(12345)),
        ] {
            let mut cut = value.clone();
            cut.shorten(most);
            assert_eq!(cut, expected, "{value:?} {most}");
        }
    }
}
