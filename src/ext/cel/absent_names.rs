//! Finds names in an expression that no request of the endpoint can have, from the configuration alone.

use http::HeaderName;

use super::facts::{REQ_HEADERS, REQ_PARAMS, REQ_QUERY, variables};
use super::language::Program;
use crate::config::{ConfigError, Node};
use crate::ext::context::{Compile, EndpointSite};
use crate::upstream::title_case;

/// Headers that every request has here, regardless of `input_headers`.
const ALWAYS: [&str; 8] = [
    "content-type",
    "forwarded",
    "traceparent",
    "user-agent",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-via",
];

/// Warns about names in `program` that cannot exist, so that expressions with them fail or are never true.
pub(super) fn missing(
    node: &Node<'_>,
    program: &Program,
    site: &EndpointSite<'_>,
    cx: &Compile<'_>,
) {
    params(node, program, site);
    let Some(inputs) = site.inputs else { return };
    if !is_scripted(site) {
        headers(node, program, inputs.headers, cx);
    }
    if !inputs.query.iter().any(|name| name == "*") {
        for name in program.members(REQ_QUERY) {
            if !inputs.query.contains(&name) {
                say(
                    node,
                    REQ_QUERY,
                    &name,
                    format!("\"input_query_strings\" of the endpoint does not name {name:?}"),
                );
            }
        }
    }
}

fn params(node: &Node<'_>, program: &Program, site: &EndpointSite<'_>) {
    let known: Vec<String> = names(site.pattern).map(upper).collect();
    for name in program.members(REQ_PARAMS) {
        if known.contains(&name) || name.starts_with("Resp") {
            continue;
        }
        let hint = match known.iter().find(|known| known.eq_ignore_ascii_case(&name)) {
            Some(meant) => format!("names of parameters begin with a capital: {meant:?}"),
            None => format!("the path of the endpoint is {}", site.pattern),
        };
        say(node, REQ_PARAMS, &name, hint);
    }
}

fn headers(node: &Node<'_>, program: &Program, passed: &[String], cx: &Compile<'_>) {
    let all = passed.iter().any(|name| name == "*");
    for name in program.members(REQ_HEADERS) {
        let spelled = title_case(&name);
        if spelled != name {
            let hint = format!("header names are spelled so: {spelled:?}");
            say(node, REQ_HEADERS, &name, hint);
            continue;
        }
        let same = |known: &str| known.eq_ignore_ascii_case(&name);
        let set = cx.identity_headers().iter().map(HeaderName::as_str);
        let mut known = passed.iter().map(String::as_str).chain(ALWAYS).chain(set);
        if !all && !known.any(same) {
            let hint = format!("\"input_headers\" of the endpoint does not name {name:?}");
            say(node, REQ_HEADERS, &name, hint);
        }
    }
}

fn say(node: &Node<'_>, variable: usize, name: &str, hint: String) {
    let variables = variables();
    let variable = variables.get(variable).map_or("", |known| known.name);
    node.warn_hint(
        ConfigError::invalid(format!("{variable:?} never has {name:?}")),
        hint,
    );
}

/// Whether there are scripts, which may set any header before the expressions run.
fn is_scripted(site: &EndpointSite<'_>) -> bool {
    let members = site.extra.as_ref().map(Node::members).unwrap_or_default();
    members.iter().any(|(name, _)| name.contains("lua"))
}

/// The parameters of `/a/{id}/{name}.json`.
fn names(pattern: &str) -> impl Iterator<Item = &str> {
    let parts = pattern.split('{').skip(1);
    parts.filter_map(|part| part.split_once('}').map(|(name, _)| name))
}

fn upper(name: &str) -> String {
    let mut name = name.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    name
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use http::Method;

    use super::super::language;
    use super::*;
    use crate::ext::context::EndpointInputs;
    use crate::ext::testing::File;

    fn told(expression: &str) -> String {
        let mut file = File::new("{}");
        let program = language::compile(expression, &variables()).unwrap();
        let pattern: Arc<str> = "/a/{id}".into();
        let site = EndpointSite {
            pattern: &pattern,
            method: &Method::GET,
            timeout: Duration::from_secs(1),
            extra: None,
            streams: false,
            url_claims: &[],
            inputs: Some(EndpointInputs {
                headers: &["X-User".to_owned()],
                query: &["page".to_owned()],
            }),
        };
        let node = file.node();
        missing(&node, &program, &site, file.compile());
        file.findings()
    }

    #[test]
    fn names_that_no_request_has_are_reported() {
        for (expression, words) in [
            ("req_params.id != ''", "begin with a capital: \\\"Id\\\""),
            ("req_params['nope'] != ''", "the path of the endpoint is"),
            (
                "req_headers['x-user'][0] != ''",
                "are spelled so: \\\"X-User\\\"",
            ),
            (
                "'Authorization' in req_headers",
                "does not name \\\"Authorization\\\"",
            ),
            ("has(req_headers.Cookie)", "does not name \\\"Cookie\\\""),
            (
                "req_querystring.limit[0] == '1'",
                "does not name \\\"limit\\\"",
            ),
        ] {
            let found = told(expression);
            assert!(found.contains(words), "{expression}: {found}");
        }
        for expression in [
            "req_params.Id != '' && req_headers['X-User'][0] == 'a' && req_querystring.page.size() == 1",
            "'User-Agent' in req_headers && size(req_headers) > 0",
            "req_params.Resp0_id == '1'",
        ] {
            let found = told(expression);
            assert!(!found.contains("Warning"), "{expression}: {found}");
        }
    }
}
