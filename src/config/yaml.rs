//! Parses YAML to the tree.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Spanned};

use super::path::Path;
use super::report::{Report, SyntaxError};
use super::value::{Data, Member, Position, Value};

mod scalar;

/// Parses a text as KrakenD does: `yes` and `on` are strings, `010` is 8, `2020-01-02` is a time, and a duplicate key
/// in an object is an error. Aliases and depth are limited.
///
/// # Errors
/// The error of the parser, with its position.
pub(crate) fn parse(text: &str, report: &Report) -> Result<Value, SyntaxError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 128,
            max_events: 8_000_000,
            max_nodes: 4_000_000,
        },
        // Each alias repeats the whole cost of its anchor. A configuration with a thousand endpoints needs no more
        // than this.
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        // `scalar` decides their type.
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    let tree: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| SyntaxError {
            at: error.location().map_or(Position::UNKNOWN, position),
            text: first_line(&error.to_string()),
            hint: None,
        })?;
    Ok(value(tree, text, &Path::root(), report))
}

/// A value of the parser, before duplicate keys are detected.
enum Raw {
    Null,
    Bool(bool),
    Number(String),
    /// A float that JSON cannot represent.
    NoNumber,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Object(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn value(spanned: Spanned<Raw>, text: &str, path: &Path, report: &Report) -> Value {
    let at = position(spanned.referenced);
    let data = match spanned.value {
        Raw::Null => Data::Null,
        Raw::Bool(yes) => Data::Bool(yes),
        Raw::Number(read) => {
            let written = scalar::plain(spanned.defined, text);
            return scalar::number(at, written, read);
        }
        Raw::NoNumber => {
            let written = scalar::plain(spanned.defined, text);
            Data::Text(written.unwrap_or_default().into())
        }
        Raw::Text(read) => {
            return match scalar::plain(spanned.defined, text) {
                Some(written) if written == read => scalar::text(at, &read),
                _ => Value::new(at, Data::Text(read.into())),
            };
        }
        Raw::List(items) => Data::List(
            items
                .into_iter()
                .enumerate()
                .map(|(index, item)| value(item, text, &path.index(index), report))
                .collect(),
        ),
        Raw::Object(members) => object(members, text, path, report),
    };
    Value::new(at, data)
}

fn object(
    raw: Vec<(Spanned<String>, Spanned<Raw>)>,
    text: &str,
    path: &Path,
    report: &Report,
) -> Data {
    let mut members: Vec<Member> = Vec::with_capacity(raw.len());
    let mut seen = std::collections::HashMap::with_capacity(raw.len());
    for (name, inner) in raw {
        let inner_path = path.key(&name.value);
        let member = Member {
            at: position(name.referenced),
            value: value(inner, text, &inner_path, report),
            name: name.value.into(),
        };
        match seen.get(&member.name) {
            Some(index) => {
                let index: usize = *index;
                let first = members[index].at;
                report.key_twice(&member.name, member.at, first, &inner_path);
                members[index] = member;
            }
            None => {
                seen.insert(member.name.clone(), members.len());
                members.push(member);
            }
        }
    }
    Data::Object(members)
}

fn position(location: Location) -> Position {
    Position::new(location.line() as u32, location.column() as u32)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, yes: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(yes))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Number(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Number(number.to_string()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Raw, E> {
        Ok(Raw::Number(number.to_string()))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Raw, E> {
        Ok(Raw::Number(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(if number.is_finite() {
            Raw::Number(number.to_string())
        } else {
            Raw::NoNumber
        })
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Raw::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_becomes_the_same_tree_with_positions() {
        let report = Report::new();
        let text = "version: 3\ntimeout: 2s\nratio: 1.10\nhex: 0x1f\nnone: ~\nflag: true\nword: yes\nendpoints:\n  - endpoint: /é\n    input_headers: [\"a\", 'b']\n";
        let value = parse(text, &report).unwrap();
        assert_eq!(
            value.to_json(),
            r#"{"endpoints":[{"endpoint":"/é","input_headers":["a","b"]}],"flag":true,"hex":31,"none":null,"ratio":1.10,"timeout":"2s","version":3,"word":"yes"}"#
        );
        let timeout = &value.members()[1];
        assert_eq!(timeout.at, Position::new(2, 1));
        assert_eq!(timeout.value.at, Position::new(2, 10));
    }

    #[test]
    fn a_duplicate_key_is_an_error() {
        let report = Report::new();
        parse("a: 1\nb: {c: 1, c: 2}\na: 2\n", &report).unwrap();
        assert_eq!(report.config_errors(), 2);
        let findings = report.into_findings();
        assert_eq!(
            findings[1].config_error.to_string(),
            "mapping key \"a\" already defined at line 1"
        );
        assert_eq!(findings[1].at.line, 3);
    }

    #[test]
    fn merge_keys_add_missing_members() {
        let report = Report::new();
        let text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nl:\n  <<: *x\n  a: 9\nm:\n  a: 9\n  <<: [*x, *y]\n";
        let value = parse(text, &report).unwrap();
        assert_eq!(
            value.to_json(),
            r#"{"l":{"a":9,"b":2},"m":{"a":9,"b":2,"c":4},"x":{"a":1,"b":2},"y":{"b":3,"c":4}}"#
        );
        assert!(report.into_findings().is_empty());
    }

    #[test]
    fn scalars_have_the_same_types_as_in_krakend() {
        let on = |text: &str| {
            let report = Report::new();
            parse(&format!("k: {text}\n"), &report).unwrap().to_json()
        };
        for (text, json) in [
            ("010", "8"),
            ("-010", "-8"),
            ("08", "8"),
            ("0o17", "15"),
            ("0x1F", "31"),
            ("0b101", "5"),
            ("1_000", "1000"),
            ("+12", "12"),
            ("123456789012345678", "123456789012345678"),
            ("12345678901234567890", "12345678901234567890"),
            ("1.10", "1.10"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1e3", "1e3"),
            ("2020-01-02", r#""2020-01-02T00:00:00Z""#),
            ("2020-1-2", r#""2020-01-02T00:00:00Z""#),
            (
                "2020-01-02T03:04:05.60+01:00",
                r#""2020-01-02T03:04:05.6+01:00""#,
            ),
            ("2020-01-02 03:04:05", r#""2020-01-02T03:04:05Z""#),
            ("2020-02-30", r#""2020-02-30""#),
            ("\"2020-01-02\"", r#""2020-01-02""#),
            ("'010'", r#""010""#),
            ("!!str 010", r#""010""#),
            ("!!str 2020-01-02", r#""2020-01-02""#),
            ("|-\n  010", r#""010""#),
            ("1e400", r#""1e400""#),
            (".inf", r#"".inf""#),
            ("1:20", r#""1:20""#),
            ("1.2.3", r#""1.2.3""#),
            ("yes", r#""yes""#),
            ("off", r#""off""#),
            ("y", r#""y""#),
            ("True", "true"),
            ("NULL", "null"),
            ("~", "null"),
            ("", "null"),
            ("10s", r#""10s""#),
            ("a 010", r#""a 010""#),
        ] {
            assert_eq!(on(text), format!("{{\"k\":{json}}}"), "{text}");
        }
        assert_eq!(
            on("[010, 2020-01-02, '1', 0_7]"),
            r#"{"k":[8,"2020-01-02T00:00:00Z","1",7]}"#
        );
        assert_eq!(on("&a 010\nl: *a"), r#"{"k":8,"l":8}"#);
    }

    #[test]
    fn anchors_work_and_their_explosion_is_rejected() {
        let report = Report::new();
        let value = parse("a: &x {b: 1}\nc: *x\n", &report).unwrap();
        assert_eq!(value.to_json(), r#"{"a":{"b":1},"c":{"b":1}}"#);
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let previous = format!("*a{}", level - 1);
            bomb.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                vec![previous; 10].join(",")
            ));
        }
        assert!(parse(&bomb, &report).is_err());
    }

    #[test]
    fn yaml_errors_have_a_position() {
        let error = parse("version: 3\nname: [a\n", &Report::new()).unwrap_err();
        assert!(error.at.line >= 2, "{error:?}");
    }
}
