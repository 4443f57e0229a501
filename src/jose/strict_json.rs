//! Strict JSON: duplicate members are rejected at every level, and the depth is limited.
//!
//! If two parsers disagree on which of two members counts, a token means one thing here and another thing upstream
//! (RFC 7515 §4, RFC 7519 §4). Such a token is rejected.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Maximum nesting of arrays and objects. Deeper nesting is an attack on the stack of a parser.
pub(crate) const MAX_DEPTH: usize = 64;

/// Why JSON was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StrictError {
    #[error("invalid JSON")]
    Syntax,
    #[error("json: duplicate key in object")]
    Duplicate,
    #[error("JSON is nested too deeply")]
    Depth,
    #[error("json: cannot unmarshal a value that is no object")]
    NotObject,
}

/// Parses one JSON object that fills `bytes` except for surrounding whitespace.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, StrictError> {
    let mut map = Map::new();
    members(bytes, |name, value| {
        map.insert(name.into_owned(), value).is_none()
    })?;
    Ok(map)
}

/// Passes each member of such an object to `take`, which returns whether the name was new.
///
/// What `take` received is valid only if the result is `Ok`: a later member may break a rule.
pub(crate) fn members<'de>(
    bytes: &'de [u8],
    take: impl FnMut(Cow<'de, str>, Value) -> bool,
) -> Result<(), StrictError> {
    let mut fault = None;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let members = Members {
        fault: &mut fault,
        take,
    };
    match reader.deserialize_any(members).and_then(|()| reader.end()) {
        Ok(()) => Ok(()),
        // A data error without a recorded fault can only mean that the top-level value is not an object.
        Err(error) if error.is_data() => Err(fault.unwrap_or(StrictError::NotObject)),
        Err(_) => Err(StrictError::Syntax),
    }
}

/// The top-level object.
struct Members<'f, F> {
    fault: &'f mut Option<StrictError>,
    take: F,
}

impl<'de, F: FnMut(Cow<'de, str>, Value) -> bool> Visitor<'de> for Members<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<(), A::Error> {
        while let Some(name) = access.next_key_seed(Name)? {
            let value = access.next_value_seed(Strict {
                depth: MAX_DEPTH - 1,
                fault: self.fault,
            })?;
            if !(self.take)(name, value) {
                *self.fault = Some(StrictError::Duplicate);
                return Err(A::Error::custom("duplicate"));
            }
        }
        Ok(())
    }
}

/// The name of a member, borrowed unless it contains escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Builds a value and records which rule was broken, because a serde error can only carry text.
struct Strict<'f> {
    depth: usize,
    fault: &'f mut Option<StrictError>,
}

impl Strict<'_> {
    fn deeper<E: Error>(&mut self) -> Result<Strict<'_>, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Strict {
                depth,
                fault: self.fault,
            }),
            None => {
                *self.fault = Some(StrictError::Depth);
                Err(E::custom("depth"))
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self.deeper()?)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let value = access.next_value_seed(self.deeper()?)?;
            if map.insert(name, value).is_some() {
                *self.fault = Some(StrictError::Duplicate);
                return Err(A::Error::custom("duplicate"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn an_object_is_parsed_and_integers_stay_exact() {
        let map =
            object(br#" {"a":9007199254740993,"b":18446744073709551615,"c":[null,true,1.5,"x"]} "#);
        let map = map.unwrap();
        assert_eq!(map["a"], 9_007_199_254_740_993_u64);
        assert_eq!(map["b"], u64::MAX);
        assert_eq!(map["c"], serde_json::json!([null, true, 1.5, "x"]));
    }

    #[test]
    fn duplicates_are_rejected_at_every_level() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"x":[{"\u0061":1,"a":2}]}"#,
        ] {
            assert_eq!(
                object(text.as_bytes()),
                Err(StrictError::Duplicate),
                "{text}"
            );
        }
        assert!(
            object(br#"{"a":1,"A":2}"#).is_ok(),
            "letter case makes two names"
        );
    }

    #[test]
    fn depth_is_limited() {
        assert!(object(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert_eq!(
            object(nested(MAX_DEPTH).as_bytes()),
            Err(StrictError::Depth)
        );
        assert!(object(nested(100_000).as_bytes()).is_err());
    }

    #[test]
    fn everything_else_is_rejected() {
        for text in [
            "",
            "{",
            "{}x",
            "{} {}",
            r#"{"a":1e999}"#,
            "{\"a\":\"\u{1}\"}",
            r#"{"a":"\ud800"}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(object(text.as_bytes()), Err(StrictError::Syntax), "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(StrictError::Syntax));
        for text in ["null", "[1]", "1", "\"x\""] {
            assert_eq!(
                object(text.as_bytes()),
                Err(StrictError::NotObject),
                "{text}"
            );
        }
    }
}
