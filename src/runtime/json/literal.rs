//! Values from the configuration.

use super::value::{Object, Value};
use super::write::{Style, to_bytes};

impl Value {
    /// A value from the configuration. Floats are written as in KrakenD: `1000000.0` as `1000000`. Integers are
    /// exact. Integers in JSON files are floats, because KrakenD parses them as such.
    pub fn literal(value: &serde_json::Value) -> Value {
        match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(bool) => Value::Bool(*bool),
            serde_json::Value::Number(number) if number.is_f64() => {
                Value::Number(float(number.as_f64().unwrap_or_default()).into())
            }
            serde_json::Value::Number(number) => Value::Number(number.to_string().into()),
            serde_json::Value::String(text) => Value::String(text.as_str().into()),
            serde_json::Value::Array(array) => {
                Value::Array(array.iter().map(Value::literal).collect())
            }
            serde_json::Value::Object(members) => Value::Object(literal_object(members)),
        }
    }

    /// The same value in serialized form, so that a copy only increments a counter and writing it is a `memcpy`.
    pub fn settled(&self) -> Value {
        Value::raw_settled(to_bytes(self, Style::Canonical))
    }
}

fn literal_object(members: &serde_json::Map<String, serde_json::Value>) -> Object {
    members
        .iter()
        .map(|(name, value)| (name.as_str().into(), Value::literal(value)))
        .collect()
}

/// A float as Go's JSON encoder writes it: with an exponent only below 1e-6 and from 1e21 on, and always with the
/// sign of the exponent.
fn float(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        return if text.contains("e-") {
            text
        } else {
            text.replace('e', "e+")
        };
    }
    number.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_of_the_configuration_are_written_as_krakend_does() {
        let text = r#"{"a":1000000.0,"b":1e21,"c":12345678901234567890.0,"d":123456789012345678.0,"e":1.5,"f":0.0,"g":-2.50,"h":1e-7,"i":0.000001,"j":12345678901234567890}"#;
        let value = Value::literal(&serde_json::from_str(text).expect("valid JSON"));
        let expected = r#"{"a":1000000,"b":1e+21,"c":12345678901234567000,"d":123456789012345680,"e":1.5,"f":0,"g":-2.5,"h":1e-7,"i":0.000001,"j":12345678901234567890}"#;
        assert_eq!(to_bytes(&value, Style::Canonical), expected);
        assert_eq!(to_bytes(&value.settled(), Style::Canonical), expected);
    }
}
