//! Values of the file as values of an answer.

use crate::config::{Data, Value as FileValue};
use crate::runtime::json::{Object, Value};

/// The value as it will be written into answers.
///
/// As KrakenD does, numbers of the file go through a 64-bit float: `1000000.0` becomes `1000000`, `1e21` `1e+21`.
pub fn value(file: &FileValue) -> Value {
    match &file.data {
        Data::Null => Value::Null,
        Data::Bool(yes) => Value::Bool(*yes),
        Data::Number(text) => Value::Number(number(text).into()),
        Data::Text(text) => Value::String(text.clone()),
        Data::List(items) => Value::Array(items.iter().map(value).collect()),
        Data::Object(members) => Value::Object(
            members
                .iter()
                .map(|member| (member.name.clone(), value(&member.value)))
                .collect::<Object>(),
        ),
    }
}

/// A number as Go's JSON encoder writes a float64: shortest digits, an exponent below 1e-6 and from 1e21.
fn number(text: &str) -> String {
    let Some(float) = text.parse::<f64>().ok().filter(|float| float.is_finite()) else {
        return text.to_owned();
    };
    let size = float.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let short = format!("{float:e}");
        return match short.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                format!("{digits}e+{exponent:0>2}")
            }
            Some((digits, exponent)) => {
                // Go drops the zero that it pads negative exponents with: 1e-7, not 1e-07.
                format!("{digits}e{exponent}")
            }
            None => short,
        };
    }
    format!("{float}")
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_go_through_a_float() {
        for (text, written) in [
            ("1000000.0", "1000000"),
            ("1e21", "1e+21"),
            ("12345678901234567890", "12345678901234567000"),
            ("0.000001", "0.000001"),
            ("1e-7", "1e-7"),
            ("1.10", "1.1"),
            ("-0", "-0"),
            ("1e400", "1e400"),
        ] {
            assert_eq!(number(text), written, "{text}");
        }
    }
}
