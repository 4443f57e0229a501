//! The rule of leniency: a configuration that KrakenD starts is started with a warning, unless the invalid part is a
//! guard.
//!
//! A guard decides who may pass, how much, or from where. The table of a namespace states whether it is one
//! (`guard`), and so does the table of single keys in other namespaces. In both cases, a value of another type with a
//! clear meaning is accepted with a warning: `"100"` is 100 where a number is required. If the meaning is not clear,
//! a guard stops the start, and anything else is ignored with a warning.

use super::report::Severity;
use super::value::{Data, Value};

/// The kind of a location, for the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Service, endpoint and backend: their keys are accepted and rejected as in KrakenD.
    Core,
    /// A namespace that is not a guard.
    Free,
    /// A namespace or a key that is a guard.
    Guard,
}

impl Rule {
    /// The rule of a namespace, depending on whether it is a guard.
    pub fn of(guard: bool) -> Rule {
        if guard { Rule::Guard } else { Rule::Free }
    }

    /// The severity of a value whose meaning is not clear.
    pub fn severity(self) -> Severity {
        match self {
            Rule::Free => Severity::Warning,
            Rule::Core | Rule::Guard => Severity::ConfigError,
        }
    }
}

/// The hint for an ignored value.
pub(crate) const IGNORED: &str = "it is ignored";

/// The clear meaning of a value where a string is required: a number, or a list of one string.
pub(super) fn text(value: &Value) -> Option<&str> {
    match &value.data {
        Data::Number(text) => Some(text),
        Data::List(items) => match items.as_slice() {
            [
                Value {
                    data: Data::Text(text),
                    ..
                },
            ] => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// The clear meaning of a value where a boolean is required: `true` or `false`, in the spellings that KrakenD accepts
/// at the core levels.
pub(super) fn boolean(value: &Value) -> Option<bool> {
    match &value.data {
        Data::Text(text) => match text.trim() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        },
        Data::Number(text) => match &**text {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// The clear meaning of a text where a number is required: digits in quotes.
pub(super) fn number(value: &Value) -> Option<&str> {
    match &value.data {
        Data::Text(text) => {
            let text = text.trim();
            let digits = text.trim_start_matches(['-', '+']);
            digits
                .starts_with(|c: char| c.is_ascii_digit() || c == '.')
                .then_some(text)
        }
        _ => None,
    }
}

/// The clear meaning of a text where a duration is required: only digits, which count as seconds, or spaces around a
/// duration.
pub(super) fn duration(text: &str) -> Option<String> {
    let trimmed = text.trim();
    let digits = !trimmed.is_empty() && trimmed.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        return Some(format!("{trimmed}s"));
    }
    let is_padded = trimmed.len() < text.len();
    (is_padded && super::duration::parse(trimmed).is_ok()).then(|| trimmed.to_owned())
}

/// The clear meaning of a text where a word from a list is required: the word in any letter case, and with spaces
/// around it.
pub(super) fn choice(text: &str, allowed: &[&'static str]) -> Option<&'static str> {
    let text = text.trim();
    allowed
        .iter()
        .find(|known| known.eq_ignore_ascii_case(text))
        .copied()
}

/// The letters and digits of a key: equal for `max_rate`, `maxRate` and `Max-Rate`.
pub(super) fn folded(key: &str) -> impl Iterator<Item = char> {
    key.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .map(|c| c.to_ascii_lowercase())
}

/// A canonical form of a namespace, independent of letter case, spaces, and `github_com` for `github.com`.
pub(crate) fn spelling(namespace: &str) -> String {
    let lower = namespace.trim().to_ascii_lowercase();
    match lower.strip_prefix("github_com/") {
        Some(rest) => format!("github.com/{rest}"),
        None => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Node;
    use super::super::json;
    use super::super::key::{Key, Kind, key};
    use super::super::report::Report;
    use super::*;

    const KEYS: &[Key] = &[
        key("rate", Kind::Number, "", ""),
        key("count", Kind::Integer, "", ""),
        key("on", Kind::Bool, "", ""),
        key("name", Kind::Text, "", ""),
        key("names", Kind::Texts, "", ""),
        key("every", Kind::Duration, "", ""),
        key("how", Kind::Choice(&["ip", "header"]), "", ""),
        key("from", Kind::Texts, "", "").guarding(),
    ];

    /// The findings in a block with `rule`. Errors have a `!` before them.
    fn findings(text: &str, rule: Rule) -> Vec<String> {
        let report = Report::new();
        let value = json::parse(text, &report).unwrap();
        let block = Node::root(&value, &report).ruled(rule).block(KEYS);
        if let Some(block) = block {
            block.number("rate");
            block.integer("count");
            block.bool("on");
            block.text("name");
            block.texts("names");
            block.duration("every");
            block.choice("how");
            block.texts("from");
        }
        let findings = report.into_findings().into_iter();
        findings
            .map(|f| {
                let mark = match f.severity {
                    Severity::ConfigError => "!",
                    Severity::Warning => "",
                };
                format!("{mark}{}", f.config_error)
            })
            .collect()
    }

    #[test]
    fn a_clear_meaning_is_accepted_with_a_warning_everywhere() {
        for (text, taken) in [
            (r#"{"rate": "100"}"#, "treated as 100"),
            (r#"{"rate": " 1.5 "}"#, "treated as 1.5"),
            (r#"{"count": "7"}"#, "treated as 7"),
            (r#"{"on": "true"}"#, "treated as true"),
            (r#"{"on": 0}"#, "treated as false"),
            (r#"{"name": 7}"#, "treated as \"7\""),
            (r#"{"name": ["x"]}"#, "treated as \"x\""),
            (r#"{"names": "x"}"#, "treated as [\"x\"]"),
            (r#"{"every": "3600"}"#, "treated as \"3600s\""),
            (r#"{"every": 60}"#, "treated as \"60s\""),
            (r#"{"every": " 1m"}"#, "treated as \"1m\""),
            (r#"{"how": "IP"}"#, "treated as \"ip\""),
            (r#"{"Rate": 1}"#, "treated as \"rate\""),
            (r#"{"ra-te": 1}"#, "treated as \"rate\""),
        ] {
            for rule in [Rule::Guard, Rule::Free] {
                let found = findings(text, rule);
                assert_eq!(found.len(), 1, "{text}: {found:?}");
                assert!(found[0].contains(taken), "{text}: {found:?}");
                assert!(!found[0].starts_with('!'), "{text}: {found:?}");
            }
        }
    }

    #[test]
    fn an_unclear_meaning_stops_the_start_only_in_a_guard() {
        for text in [
            r#"{"rate": "many"}"#,
            r#"{"rate": "100/s"}"#,
            r#"{"rate": "inf"}"#,
            r#"{"count": 1.5}"#,
            r#"{"on": "yes"}"#,
            r#"{"on": ""}"#,
            r#"{"name": true}"#,
            r#"{"name": ["a", "b"]}"#,
            r#"{"names": {}}"#,
            r#"{"names": ["a", {}]}"#,
            r#"{"every": "1 minute"}"#,
            r#"{"every": "-1s"}"#,
            r#"{"every": ""}"#,
            r#"{"every": -1}"#,
            r#"{"every": 1.5}"#,
            r#"{"how": "cookie"}"#,
            "7",
            "[]",
        ] {
            let (free, guard) = (findings(text, Rule::Free), findings(text, Rule::Guard));
            assert!(free.iter().all(|f| !f.starts_with('!')), "{text}: {free:?}");
            assert_eq!(free.len(), 1, "{text}: {free:?}");
            assert_eq!(guard.len(), 1, "{text}: {guard:?}");
            assert!(guard[0].starts_with('!'), "{text}: {guard:?}");
        }
    }

    #[test]
    fn a_key_may_be_a_guard_in_a_namespace_that_is_not() {
        assert!(findings(r#"{"from": {}}"#, Rule::Free)[0].starts_with('!'));
        assert!(findings(r#"{"from": [7, {}]}"#, Rule::Free)[1].starts_with('!'));
    }

    #[test]
    fn a_namespace_has_one_canonical_form_in_any_letter_case() {
        for text in ["Auth/Validator", " auth/validator\n"] {
            assert_eq!(spelling(text), "auth/validator");
        }
        assert_eq!(
            spelling("github_com/devopsfaith/krakend-cors"),
            spelling("github.com/devopsfaith/krakend-cors")
        );
    }
}
