//! Decodes YAML 1.2 to a value. Depth, nodes, aliases and the bytes that these repeat are bounded.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

use crate::runtime::heavy::is_late;
use crate::runtime::json::{Object, Value};
use crate::upstream::budget::{Budget, Charge, FREE};

/// The memory of a node besides its text.
const NODE: usize = 160;
/// No tree may take more than this.
const MOST: usize = 128 << 20;
/// What is charged in advance, so that the budget is not asked for each node.
const STEP: usize = 16 * 1024;

/// Decodes a document. The charge is for the memory of the result.
///
/// # Errors
/// The text is not YAML, or too large once it is decoded.
pub(super) fn decode(body: &[u8]) -> Result<(Value, Charge), String> {
    let text = std::str::from_utf8(body).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 128,
            max_events: 8_000_000,
            max_nodes: 4_000_000,
            max_merge_keys: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        // `012` is 10, as for Go and in files of configuration.
        legacy_octal_numbers: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    let used = Used::new();
    let decoded = serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        Node(&used).deserialize(reader)
    });
    let value = decoded.map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        if line.contains("budget breached") {
            "yaml: the document nests, repeats or merges too much".to_owned()
        } else {
            format!("yaml: {line}")
        }
    })?;
    Ok((value, used.charge.take().unwrap_or_default()))
}

/// The memory of the tree so far, charged to the process.
struct Used {
    bytes: Cell<usize>,
    charge: Cell<Option<Charge>>,
}

impl Used {
    fn new() -> Used {
        Used {
            bytes: Cell::new(0),
            charge: Cell::new(Some(Budget::process().charge())),
        }
    }

    fn add<E: Error>(&self, text: usize) -> Result<(), E> {
        if is_late() {
            return Err(E::custom("the deadline has passed"));
        }
        let bytes = self.bytes.get() + NODE + text;
        self.bytes.set(bytes);
        if bytes <= FREE {
            return Ok(());
        }
        let Some(mut charge) = self.charge.take() else {
            return Ok(());
        };
        let is_covered = bytes <= charge.bytes();
        let covered = bytes <= MOST && (is_covered || charge.cover(bytes + STEP).is_ok());
        self.charge.set(Some(charge));
        if covered {
            Ok(())
        } else {
            Err(E::custom("the document is too large"))
        }
    }
}

struct Node<'u>(&'u Used);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl Node<'_> {
    fn number<E: Error>(&self, text: String) -> Result<Value, E> {
        self.0.add(text.len())?;
        Ok(Value::Number(text.into()))
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, yes: bool) -> Result<Value, E> {
        Ok(Value::Bool(yes))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        self.number(number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        self.number(number.to_string())
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Value, E> {
        self.number(number.to_string())
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Value, E> {
        self.number(number.to_string())
    }

    /// JSON has no number that is not finite.
    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        match serde_json::Number::from_f64(number) {
            Some(number) => self.number(number.to_string()),
            None => Ok(Value::Null),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.0.add(text.len())?;
        Ok(Value::string(text))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        self.deserialize(reader)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        self.0.add(0)?;
        while let Some(item) = seq.next_element_seed(Node(self.0))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Object::new();
        self.0.add(4 * NODE)?;
        while let Some(name) = map.next_key::<String>()? {
            self.0.add(name.len())?;
            let value = map.next_value_seed(Node(self.0))?;
            members.insert(name.into(), value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::runtime::heavy::{Cut, aside};
    use crate::runtime::json::{Style, to_bytes};

    fn json(text: &str) -> Result<String, String> {
        let (value, _) = decode(text.as_bytes())?;
        Ok(String::from_utf8(to_bytes(&value, Style::Canonical).to_vec()).unwrap())
    }

    #[test]
    fn yaml_becomes_json() {
        for (text, want) in [
            (
                "a: 1\nb: [x, 'y', ~]\nc:\n  d: true\n",
                r#"{"a":1,"b":["x","y",null],"c":{"d":true}}"#,
            ),
            (
                "- 1.5\n- yes\n- 9007199254740993\n- .inf\n",
                r#"[1.5,"yes",9007199254740993,null]"#,
            ),
            ("- 012\n- 0o12\n- -07\n- 0x1f\n", "[10,10,-7,31]"),
            ("1: a\n", r#"{"1":"a"}"#),
            ("a: &x {b: 1}\nc: *x\n", r#"{"a":{"b":1},"c":{"b":1}}"#),
            (r#"{"a": "json"}"#, r#"{"a":"json"}"#),
        ] {
            assert_eq!(json(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn the_charge_lasts_as_long_as_the_result() {
        let many = format!("a: [{}]", vec![r#"{"":1}"#; 500].join(","));
        let (_value, charge) = decode(many.as_bytes()).unwrap();
        assert!(charge.bytes() >= 500 * 5 * NODE);
        assert_eq!(decode(b"a: {b: 1}").unwrap().1.bytes(), 0);
    }

    #[test]
    fn a_large_document_ends_at_its_deadline() {
        let text = "- {a: 1, b: [x, y, z], c: 'some text'}\n".repeat(40_000);
        // The shortest of several times: a machine that stalls makes some of them long.
        let shortest = |work: &dyn Fn()| {
            let times = (0..3).map(|_| {
                let began = Instant::now();
                work();
                began.elapsed()
            });
            times.min().unwrap()
        };
        let whole = shortest(&|| drop(decode(text.as_bytes()).unwrap()));
        let cut = shortest(&|| {
            let end = Instant::now() + whole / 20;
            let cut = aside(text.len(), end, || decode(text.as_bytes()).is_ok());
            assert_eq!(cut, Err(Cut::Deadline));
        });
        assert!(cut < whole / 2, "{cut:?} of {whole:?}");
    }

    #[test]
    fn invalid_or_too_large_yaml_is_an_error() {
        let deep = "[".repeat(1000);
        let laughs = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
        let long = format!(
            "a: &a {}\nb: [{}]\n",
            "x".repeat(1 << 20),
            vec!["*a"; 2000].join(",")
        );
        let mut merges = "a0: &a0 {x: 1}\n".to_owned();
        for n in 1..20 {
            let all: Vec<String> = (0..n).map(|m| format!("*a{m}")).collect();
            merges += &format!("a{n}: &a{n} {{<<: [{}]}}\n", all.join(","));
        }
        for text in [
            "a: [",
            "a: 1\na: 2\n",
            "\u{1}",
            &deep,
            laughs,
            &long,
            &merges,
        ] {
            let error = json(text).unwrap_err();
            assert!(error.starts_with("yaml: "), "{error}");
            assert!(error.len() < 300, "{error}");
            assert!(!error.contains("MergeKeys"), "{error}");
        }
    }
}
