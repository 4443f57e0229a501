//! Lists where an object is expected, as KrakenD reads them at the core levels: an empty list is an empty object (PHP
//! writes one for the other), and a list of objects is one object with the members of all.

use super::path::Path;
use super::report::{ConfigError, Finding, Report, Severity};
use super::value::{Data, Member, Value};

/// The keys that hold objects, at any core level.
const OBJECTS: [&str; 2] = ["extra_config", "mapping"];

/// The keys that hold the objects of the next level.
const LEVELS: [&str; 3] = ["endpoints", "async_agent", "backend"];

/// Turns such lists into objects, with a warning.
pub(super) fn apply(root: &mut Value, report: &Report) {
    level(root, &Path::root(), report);
}

fn level(value: &mut Value, path: &Path, report: &Report) {
    match &mut value.data {
        Data::Object(members) => {
            for member in members {
                let inner = path.key(&member.name);
                if is_one_of(&OBJECTS, &member.name) {
                    joined(&mut member.value, &inner, report);
                } else if is_one_of(&LEVELS, &member.name) {
                    level(&mut member.value, &inner, report);
                }
            }
        }
        Data::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                level(item, &path.index(index), report);
            }
        }
        _ => {}
    }
}

fn is_one_of(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn joined(value: &mut Value, path: &Path, report: &Report) {
    let Data::List(items) = &mut value.data else {
        return;
    };
    let is_object = |item: &Value| matches!(item.data, Data::Object(_));
    if !items.iter().all(is_object) {
        return;
    }
    let count = items.len();
    let mut all: Vec<Member> = Vec::new();
    for item in std::mem::take(items) {
        let Data::Object(members) = item.data else {
            continue;
        };
        for member in members {
            add(&mut all, member, path, report);
        }
    }
    value.data = Data::Object(all);
    report.add(Finding {
        severity: Severity::Warning,
        pointer: path.pointer(),
        at: value.at,
        config_error: ConfigError::invalid(match count {
            0 => "found an empty list, but an object is expected: treated as {}".to_owned(),
            _ => format!(
                "found a list of {count}, but an object is expected: treated as one object with the members of all"
            ),
        }),
        hint: None,
    });
}

/// Adds a member. The last one of a name counts.
fn add(all: &mut Vec<Member>, member: Member, path: &Path, report: &Report) {
    let Some(old) = all.iter_mut().find(|old| old.name == member.name) else {
        all.push(member);
        return;
    };
    let inner = path.key(&member.name);
    report.duplicate(&member.name, member.at, &inner);
    let lost = std::mem::replace(old, member);
    if lost.value.to_json() != old.value.to_json() {
        report.lose(&inner, lost);
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    fn applied(text: &str) -> (String, usize, usize) {
        let report = Report::new();
        let mut value = json::parse(text, &report).unwrap();
        apply(&mut value, &report);
        let lost = report.lost().len();
        (value.to_json(), report.into_findings().len(), lost)
    }

    #[test]
    fn lists_become_objects_as_in_krakend() {
        for (text, want, findings, lost) in [
            (r#"{"extra_config":[]}"#, r#"{"extra_config":{}}"#, 1, 0),
            (
                r#"{"endpoints":[{"Extra_Config":[{"a":1},{"b":2}],"backend":[{"mapping":[]}]}]}"#,
                r#"{"endpoints":[{"Extra_Config":{"a":1,"b":2},"backend":[{"mapping":{}}]}]}"#,
                2,
                0,
            ),
            (
                r#"{"extra_config":[{"a":1},{"a":2}]}"#,
                r#"{"extra_config":{"a":2}}"#,
                2,
                1,
            ),
            // No objects, and keys of others.
            (r#"{"extra_config":[1]}"#, r#"{"extra_config":[1]}"#, 0, 0),
            (r#"{"x":{"mapping":[]}}"#, r#"{"x":{"mapping":[]}}"#, 0, 0),
        ] {
            assert_eq!(applied(text), (want.to_owned(), findings, lost), "{text}");
        }
    }
}
