//! The data of responses and the claims of tokens as values.

use std::collections::BTreeMap;

use super::language::{Budget, Elements, Failed, List, Map, Members, Value};
use crate::runtime::json;

/// Data of a response. As in KrakenD, whose decoder keeps their text, numbers are strings.
fn data(value: &json::Value) -> Value<'_> {
    match value {
        json::Value::Null => Value::Null,
        json::Value::Bool(yes) => Value::Bool(*yes),
        json::Value::Number(text) | json::Value::String(text) => Value::text(text),
        json::Value::Array(items) => Value::List(List::Foreign(items)),
        json::Value::Object(members) => Value::Map(Map::Foreign(members)),
        // The data that an expression reads was opened before it runs.
        json::Value::Raw(raw) => field_text(raw.text()),
    }
}

fn field_text(text: &[u8]) -> Value<'_> {
    Value::made(String::from_utf8_lossy(text))
}

impl Members for json::Object {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, name: &str, _: &Budget) -> Result<Option<Value<'_>>, Failed> {
        Ok(BTreeMap::get(self, name).map(data))
    }

    fn names(&self, _: &Budget) -> Result<Vec<Value<'_>>, Failed> {
        Ok(self.keys().map(|name| Value::text(name)).collect())
    }
}

impl Elements for Vec<json::Value> {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> Option<Value<'_>> {
        self.as_slice().get(index).map(data)
    }
}

/// A number of a token: a double, as in KrakenD, unless that would make two different numbers equal.
fn number(number: &serde_json::Number) -> Value<'_> {
    const EXACT: u64 = 1 << 53;
    match (number.as_i64(), number.as_u64()) {
        (Some(whole), _) if whole.unsigned_abs() > EXACT => Value::Int(whole),
        (None, Some(whole)) => Value::Uint(whole),
        _ => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// A claim.
fn claim(value: &serde_json::Value) -> Value<'_> {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(yes) => Value::Bool(*yes),
        serde_json::Value::Number(written) => number(written),
        serde_json::Value::String(text) => Value::text(text),
        serde_json::Value::Array(items) => Value::List(List::Foreign(items)),
        serde_json::Value::Object(members) => Value::Map(Map::Foreign(members)),
    }
}

impl Members for serde_json::Map<String, serde_json::Value> {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, name: &str, _: &Budget) -> Result<Option<Value<'_>>, Failed> {
        Ok(serde_json::Map::get(self, name).map(claim))
    }

    fn names(&self, _: &Budget) -> Result<Vec<Value<'_>>, Failed> {
        Ok(self.keys().map(|name| Value::text(name)).collect())
    }
}

impl Elements for Vec<serde_json::Value> {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> Option<Value<'_>> {
        self.as_slice().get(index).map(claim)
    }
}
