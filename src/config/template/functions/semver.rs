//! Versions and constraints, with the rules of Masterminds' library: <https://semver.org>, where missing parts are
//! zero.

use std::cmp::Ordering;
use std::fmt;
use std::rc::Rc;

use super::Kind::{Any, Text};
use super::{Call, Function, Outcome, fixed, string};
use crate::config::template::value::{Object, Value};

pub(super) static TABLE: &[Function] = &[
    fixed("semver", &[Text], parse),
    fixed("semverCompare", &[Text, Text], compare),
];

pub(super) static METHODS: &[Function] = &[
    fixed("Major", &[Any], |_, arguments| {
        part(&arguments, |version| {
            Value::Int64(version.numbers[0] as i64)
        })
    }),
    fixed("Minor", &[Any], |_, arguments| {
        part(&arguments, |version| {
            Value::Int64(version.numbers[1] as i64)
        })
    }),
    fixed("Patch", &[Any], |_, arguments| {
        part(&arguments, |version| {
            Value::Int64(version.numbers[2] as i64)
        })
    }),
    fixed("Prerelease", &[Any], |_, arguments| {
        part(&arguments, |version| Value::text(&version.prerelease))
    }),
    fixed("Metadata", &[Any], |_, arguments| {
        part(&arguments, |version| Value::text(&version.metadata))
    }),
    fixed("Original", &[Any], |_, arguments| {
        part(&arguments, |version| Value::text(&version.original))
    }),
    fixed("String", &[Any], |_, arguments| {
        part(&arguments, |version| Value::text(version.to_string()))
    }),
    fixed("Compare", &[Any, Any], |_, arguments| {
        match (version(&arguments[0]), version(&arguments[1])) {
            (Some(left), Some(right)) => Ok(Value::Int(left.order(right) as i64)),
            _ => Err("not a version".to_owned()),
        }
    }),
    fixed("Equal", &[Any, Any], |_, arguments| {
        ordered(&arguments, Ordering::Equal)
    }),
    fixed("LessThan", &[Any, Any], |_, arguments| {
        ordered(&arguments, Ordering::Less)
    }),
    fixed("GreaterThan", &[Any, Any], |_, arguments| {
        ordered(&arguments, Ordering::Greater)
    }),
    fixed("IncMajor", &[Any], |_, arguments| next(&arguments, 0)),
    fixed("IncMinor", &[Any], |_, arguments| next(&arguments, 1)),
    fixed("IncPatch", &[Any], |_, arguments| next(&arguments, 2)),
];

fn ordered(arguments: &[Value], wanted: Ordering) -> Outcome {
    match (version(&arguments[0]), version(&arguments[1])) {
        (Some(left), Some(right)) => Ok(Value::Bool(left.order(right) == wanted)),
        _ => Err("not a version".to_owned()),
    }
}

/// The next version at one of its three numbers. That of a pre-release is its release.
fn next(arguments: &[Value], part: usize) -> Outcome {
    let old = version(&arguments[0]).ok_or("not a version")?;
    let mut new = Version {
        numbers: old.numbers,
        ..Version::default()
    };
    if part < 2 || old.prerelease.is_empty() {
        new.numbers[part] = new.numbers[part].saturating_add(1);
    }
    new.numbers[part + 1..].fill(0);
    new.original = new.to_string();
    if old.original.starts_with('v') {
        new.original.insert(0, 'v');
    }
    Ok(Value::Object(Rc::new(Object::Semver(new))))
}

/// A version with its parts.
#[derive(Debug, Clone, Default)]
pub(in crate::config::template) struct Version {
    numbers: [u64; 3],
    prerelease: String,
    metadata: String,
    original: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if !self.prerelease.is_empty() {
            write!(f, "-{}", self.prerelease)?;
        }
        if !self.metadata.is_empty() {
            write!(f, "+{}", self.metadata)?;
        }
        Ok(())
    }
}

impl Version {
    fn read(text: &str) -> Option<Version> {
        let body = text.strip_prefix('v').unwrap_or(text);
        let (body, metadata) = body.split_once('+').unwrap_or((body, ""));
        let (core, prerelease) = body.split_once('-').unwrap_or((body, ""));
        let mut numbers = [0; 3];
        let parts: Vec<&str> = core.split('.').collect();
        if parts.len() > 3 {
            return None;
        }
        for (number, part) in numbers.iter_mut().zip(&parts) {
            if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            *number = part.parse().ok()?;
        }
        let fits = |text: &str| {
            text.split('.').all(|part| {
                !part.is_empty()
                    && part
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            })
        };
        if (body.contains('-') && !fits(prerelease)) || (text.contains('+') && !fits(metadata)) {
            return None;
        }
        Some(Version {
            numbers,
            prerelease: prerelease.to_owned(),
            metadata: metadata.to_owned(),
            original: text.to_owned(),
        })
    }

    /// Precedence (semver 2.0 §11): build metadata does not count.
    fn order(&self, other: &Version) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.prerelease.is_empty(), other.prerelease.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => prereleases(&self.prerelease, &other.prerelease),
            }
        })
    }
}

fn prereleases(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(left), Some(right)) => match (left.parse::<u64>(), right.parse::<u64>()) {
                (Ok(left), Ok(right)) => left.cmp(&right),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => left.cmp(right),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn version(value: &Value) -> Option<&Version> {
    match value {
        Value::Object(object) => match &**object {
            Object::Semver(version) => Some(version),
            Object::Named(_) => None,
        },
        _ => None,
    }
}

fn part(arguments: &[Value], read: fn(&Version) -> Value) -> Outcome {
    version(&arguments[0])
        .map(read)
        .ok_or_else(|| "not a version".to_owned())
}

fn parse(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let version = Version::read(&string(&arguments, 0)).ok_or("Invalid Semantic Version")?;
    Ok(Value::Object(Rc::new(Object::Semver(version))))
}

fn compare(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let constraint = string(&arguments, 0);
    let alternatives: Option<Vec<Vec<Rule>>> = constraint.split("||").map(rules).collect();
    let Some(alternatives) = alternatives else {
        return Err(format!("improper constraint: {constraint}"));
    };
    let version = Version::read(&string(&arguments, 1)).ok_or("Invalid Semantic Version")?;
    Ok(Value::Bool(alternatives.iter().any(|rules| {
        rules.iter().all(|rule| rule.admits(&version))
    })))
}

/// One comparison. `given` is the number of written parts, 0 for `*`.
struct Rule {
    operator: String,
    version: Version,
    given: usize,
}

fn rules(text: &str) -> Option<Vec<Rule>> {
    let text = text.trim();
    if let Some((low, high)) = text.split_once(" - ") {
        return Some(vec![
            rule(&format!(">={}", low.trim()))?,
            rule(&format!("<={}", high.trim()))?,
        ]);
    }
    let mut out = Vec::new();
    for part in text
        .split([',', ' '])
        .filter(|part| !part.is_empty())
        .fold(Vec::<String>::new(), joined)
    {
        out.push(rule(&part)?);
    }
    (!out.is_empty()).then_some(out)
}

/// `>= 1.2` is one rule although it contains a space.
fn joined(mut parts: Vec<String>, next: &str) -> Vec<String> {
    match parts
        .last_mut()
        .filter(|last| last.bytes().all(|byte| b"=!<>~^".contains(&byte)))
    {
        Some(operator) => operator.push_str(next),
        None => parts.push(next.to_owned()),
    }
    parts
}

fn rule(text: &str) -> Option<Rule> {
    let end = text
        .find(|c: char| !"=!<>~^".contains(c))
        .unwrap_or(text.len());
    let (operator, body) = text.split_at(end);
    if !matches!(
        operator,
        "" | "=" | "==" | "!=" | ">" | "<" | ">=" | "=>" | "<=" | "=<" | "~" | "~>" | "^"
    ) {
        return None;
    }
    let body = body.trim();
    let bare = body.strip_prefix('v').unwrap_or(body);
    let core = bare.split(['-', '+']).next().unwrap_or(bare);
    let is_wild = |part: &str| matches!(part, "x" | "X" | "*");
    let given = core.split('.').take_while(|part| !is_wild(part)).count();
    let wild = core.split('.').any(is_wild);
    let read = if wild {
        core.split('.').take(given).collect::<Vec<_>>().join(".")
    } else {
        bare.to_owned()
    };
    let version = if given == 0 {
        Version::default()
    } else {
        Version::read(&read)?
    };
    Some(Rule {
        operator: operator.to_owned(),
        version,
        given,
    })
}

impl Rule {
    fn admits(&self, version: &Version) -> bool {
        // A pre-release matches only a constraint that has one.
        if !version.prerelease.is_empty() && self.version.prerelease.is_empty() {
            return false;
        }
        let order = version.order(&self.version);
        let same_prefix = |count: usize| version.numbers[..count] == self.version.numbers[..count];
        let partial = self.given < 3;
        match self.operator.as_str() {
            "!=" if partial => !same_prefix(self.given),
            "!=" => order != Ordering::Equal,
            ">" if partial => order == Ordering::Greater && !same_prefix(self.given),
            ">" => order == Ordering::Greater,
            "<" => order == Ordering::Less,
            ">=" | "=>" => order != Ordering::Less,
            "<=" | "=<" if partial => order != Ordering::Greater || same_prefix(self.given),
            "<=" | "=<" => order != Ordering::Greater,
            "~" | "~>" => order != Ordering::Less && same_prefix(self.given.min(2)),
            "^" => order != Ordering::Less && self.caret(version),
            _ if partial => order != Ordering::Less && same_prefix(self.given),
            _ => order == Ordering::Equal,
        }
    }

    /// Up to the next change of the leftmost part that is not zero.
    fn caret(&self, version: &Version) -> bool {
        let fixed = match self.version.numbers {
            [major, _, _] if major > 0 => 1,
            [0, minor, _] if minor > 0 => 2,
            [0, 0, _] if self.given >= 3 => 3,
            _ => self.given.min(2),
        };
        version.numbers[..fixed] == self.version.numbers[..fixed]
    }
}
