//! A claim of the verified token as the name of a client.

use std::borrow::Cow;

use serde_json::Value;

use crate::jose::{ClaimPath, Claims};

/// The claim at `path` as text. Strings, numbers and booleans have a text; lists and objects do not.
pub(super) fn text<'a>(claims: &'a Claims, path: &ClaimPath) -> Option<Cow<'a, str>> {
    match path.find(claims)? {
        Value::String(text) => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(yes) => Some(if *yes { "true" } else { "false" }.into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
