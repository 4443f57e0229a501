//! `KRAKEND_<KEY>`: root keys from the environment. `PORTCULLIS_<KEY>` has the same effect and takes precedence.

use std::collections::BTreeMap;

use super::key::Kind;
use super::report::{ConfigError, Finding, Report, Severity};
use super::service::SERVICE;
use super::value::{Data, Member, Position, Value};

/// The environment variables of a load. Tests create their own.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The environment of this process. Variables that are not UTF-8 are omitted.
    pub fn process() -> Environment {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Environment { variables }
    }

    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Environment {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Environment { variables }
    }

    /// This environment with one more variable.
    pub fn with(mut self, name: &str, value: &str) -> Environment {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Whether warnings stop the start: `PORTCULLIS_STRICT`, which `--strict` sets.
    pub fn is_strict(&self) -> bool {
        !matches!(
            self.get("PORTCULLIS_STRICT"),
            None | Some("" | "0" | "false")
        )
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        f.debug_list().entries(self.variables.keys()).finish()
    }
}

/// Replaces root keys by values from the environment. Variables that name no root key are ignored.
pub(super) fn apply(root: &mut Value, environment: &Environment, report: &Report) {
    for prefix in ["KRAKEND_", "PORTCULLIS_"] {
        for (variable, text) in &environment.variables {
            let Some(name) = variable.strip_prefix(prefix) else {
                continue;
            };
            let name = name.to_ascii_lowercase();
            let Some(key) = SERVICE.iter().find(|key| key.name == name) else {
                continue;
            };
            if text.starts_with("tcp://") {
                // Kubernetes sets such a variable in every pod if there is a service called "krakend".
                report.add(Finding {
                    severity: Severity::Warning,
                    pointer: format!("/{name}"),
                    at: Position::UNKNOWN,
                    config_error: ConfigError::invalid(format!("{variable}={text} is ignored")),
                    hint: Some("it looks like a Kubernetes service link: \"enableServiceLinks: false\" stops them".into()),
                });
                continue;
            }
            set(root, key.name, key.kind, text);
        }
    }
}

fn set(root: &mut Value, name: &str, kind: Kind, text: &str) {
    let Data::Object(members) = &mut root.data else {
        return;
    };
    let data = match kind {
        Kind::Texts => Data::List(
            text.split(',')
                .map(|item| Value::text(item.trim()))
                .collect(),
        ),
        _ => Data::Text(text.into()),
    };
    members.retain(|member| !member.name.eq_ignore_ascii_case(name));
    members.push(Member {
        name: name.into(),
        at: Position::UNKNOWN,
        value: Value::new(Position::UNKNOWN, data),
    });
}

#[cfg(test)]
mod tests {
    use super::super::load::{Format, parse};
    use super::*;

    #[test]
    fn variables_override_root_keys_and_ours_take_precedence() {
        let report = Report::new();
        let environment = Environment::of([
            ("KRAKEND_PORT", "81"),
            ("KRAKEND_NAME", "theirs"),
            ("PORTCULLIS_NAME", "ours"),
            ("KRAKEND_HOST", "http://a,http://b"),
            ("KRAKEND_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ]);
        let root = parse(r#"{"Port": 80}"#, Format::Json, &environment, &report).unwrap();
        assert_eq!(
            root.to_json(),
            r#"{"host":["http://a","http://b"],"name":"ours","port":"81"}"#
        );
        assert!(report.into_findings().is_empty());
    }

    #[test]
    fn a_kubernetes_service_link_is_not_a_port() {
        let report = Report::new();
        let environment = Environment::of([("KRAKEND_PORT", "tcp://10.0.0.1:8080")]);
        let root = parse(r#"{"port": 80}"#, Format::Json, &environment, &report).unwrap();
        assert_eq!(root.to_json(), r#"{"port":80}"#);
        assert_eq!(report.into_findings().len(), 1);
    }
}
