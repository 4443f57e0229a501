//! YAML into the tree.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, Spanned};

use super::path::Path;
use super::report::{Report, SyntaxError};
use super::value::{Data, Member, Position, Value};

/// Reads a whole text (YAML 1.2: `yes` and `on` are texts). Aliases and depth are bounded; of two equal keys the last
/// counts, with a warning.
///
/// # Errors
/// What the parser says, with the position where it says it.
pub fn parse(text: &str, report: &Report) -> Result<Value, SyntaxError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 128,
            max_events: 8_000_000,
            max_nodes: 4_000_000,
        },
        // Each repeats the whole cost of what it stands for: a file of a thousand endpoints has no need for more.
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
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

/// A value as the parser gives it, before duplicate keys are looked for.
enum Raw {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Object(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn value(spanned: Spanned<Raw>, text: &str, path: &Path, report: &Report) -> Value {
    let at = position(spanned.referenced);
    let data = match spanned.value {
        Raw::Null => Data::Null,
        Raw::Bool(yes) => Data::Bool(yes),
        Raw::Number(number) => Data::Number(written(spanned.defined, text, number).into()),
        Raw::Text(string) => Data::Text(string.into()),
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
                report.duplicate(&member.name, member.at, &inner_path);
                let index: usize = *index;
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

/// The number as the file has it (`1.10`), where that is a JSON number; else as the parser reads it (`0x1f` is 31).
fn written(at: Location, text: &str, read: String) -> String {
    let span = at.span();
    let slice = match (span.byte_offset(), span.byte_len()) {
        (Some(start), Some(len)) => text.get(start as usize..(start + len) as usize),
        _ => None,
    };
    match slice.map(str::trim) {
        Some(slice) if serde_json::from_str::<&serde_json::value::RawValue>(slice).is_ok() => {
            slice.to_owned()
        }
        _ => read,
    }
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
        Ok(match number.is_finite() {
            true => Raw::Number(number.to_string()),
            false => Raw::Text(number.to_string()),
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
    fn of_two_equal_keys_the_last_counts_with_a_warning() {
        let report = Report::new();
        let value = parse("a: 1\na: 2\n", &report).unwrap();
        assert_eq!(value.to_json(), r#"{"a":2}"#);
        assert_eq!(report.into_findings().len(), 1);
    }

    #[test]
    fn anchors_work_and_their_explosion_is_refused() {
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
    fn yaml_errors_say_where() {
        let error = parse("version: 3\nname: [a\n", &Report::new()).unwrap_err();
        assert!(error.at.line >= 2, "{error:?}");
    }
}
