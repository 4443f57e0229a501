//! Converts values of the configuration to values of a response.

use serde_json::{Map, Number, Value};

use crate::config::{Data, Node, Value as FileValue};

/// The members of a configured object, for data in responses or calls.
pub(super) fn object(node: &Node<'_>) -> Map<String, Value> {
    node.value()
        .members()
        .iter()
        .map(|member| (member.name.to_string(), value(&member.value)))
        .collect()
}

/// As in KrakenD, numbers are converted to a 64-bit float, except the integers of YAML and TOML. A number beyond the
/// range of a float becomes the largest float.
fn value(file: &FileValue) -> Value {
    match &file.data {
        Data::Null => Value::Null,
        Data::Bool(yes) => Value::Bool(*yes),
        Data::Number(text) => match (file.exact, text.parse::<Number>()) {
            (true, Ok(number)) => Value::Number(number),
            _ => float(text).map_or(Value::Null, Value::Number),
        },
        Data::Text(text) => Value::String(text.to_string()),
        Data::List(items) => Value::Array(items.iter().map(value).collect()),
        Data::Object(members) => members
            .iter()
            .map(|member| (member.name.to_string(), value(&member.value)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

fn float(text: &str) -> Option<Number> {
    let float: f64 = text.parse().ok()?;
    Number::from_f64(float.clamp(f64::MIN, f64::MAX))
}

#[cfg(test)]
mod tests {
    use crate::config::{Report, json, yaml};
    use crate::runtime::json::{Style, Value, to_bytes};

    use super::*;

    #[test]
    fn numbers_are_converted_to_a_float() {
        let report = Report::new();
        let text = r#"{"a":1000000.0,"b":1e21,"c":12345678901234567890,"d":[1.10,1e-7,true,null]}"#;
        let root = json::parse(text, &report).unwrap();
        let members = Value::Object(
            object(&Node::root(&root, &report))
                .iter()
                .map(|(name, value)| (name.as_str().into(), Value::literal(value)))
                .collect(),
        );
        assert_eq!(
            to_bytes(&members, Style::Canonical),
            r#"{"a":1000000,"b":1e+21,"c":12345678901234567000,"d":[1.1,1e-7,true,null]}"#
        );
    }

    #[test]
    fn integers_of_yaml_are_exact() {
        let report = Report::new();
        let text = "a: 123456789012345678\nb: 12345678901234567890\nc: 123456789012345678901\nd: 010\ne: 1.10\nf: 2020-01-02\n";
        let root = yaml::parse(text, &report).unwrap();
        let members = object(&Node::root(&root, &report))
            .iter()
            .map(|(name, value)| (name.as_str().into(), Value::literal(value)))
            .collect();
        assert_eq!(
            to_bytes(&Value::Object(members), Style::Canonical),
            r#"{"a":123456789012345678,"b":12345678901234567890,"c":123456789012345680000,"d":8,"e":1.1,"f":"2020-01-02T00:00:00Z"}"#
        );
    }
}
