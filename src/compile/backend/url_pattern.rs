//! Compiles the `url_pattern` of a backend.

use super::Place;
use crate::compile::claims;
use crate::config::suggest::nearest;
use crate::config::{Backend, ConfigError, Node};
use crate::runtime::template::{Template, TemplateError};

/// The URL with what the `/*` of the endpoint took at its end. `None` if it says itself where that goes, or has a query.
fn appended(url: &str, place: &Place<'_>) -> Option<String> {
    let is_open = place.appends
        && place.pattern.is_wildcard()
        && !url.ends_with('*')
        && !url.contains(['?', '#']);
    is_open.then(|| format!("{}/*", url.strip_suffix('/').unwrap_or(url)))
}

pub(super) fn template(file: &Backend<'_>, place: &Place<'_>) -> Option<Template> {
    let written = file.url_pattern.as_deref().unwrap_or("/");
    let node = claims::url_node(file);
    let appended = appended(written, place);
    let written = appended.as_deref().unwrap_or(written);
    let mut template = Template::parse(written, place.pattern)
        .map_err(|error| {
            if place.message.is_some() {
                return of_agent(&node, &error, place);
            }
            let text = error.message(place.site.method, place.pattern, place.index);
            match undefined(&error, place.site.pattern) {
                Some(hint) => node.config_error_hint(ConfigError::invalid(text), hint),
                None => node.invalid(text),
            }
        })
        .ok()?;
    if node.value().masked {
        template.hide_all(written);
    }
    for (backend, path) in template.responses() {
        if !place.sequential || backend >= place.index {
            node.warn_hint(
                ConfigError::invalid(format!(
                    "{{resp{backend}_{path}}} has no value here: every call fails"
                )),
                "\"proxy\": {\"sequential\": true} in the endpoint, and an earlier backend",
            );
        }
    }
    Some(template)
}

/// Reports an error in a `url_pattern` of an agent, which has no endpoint.
fn of_agent(node: &Node<'_>, error: &TemplateError, place: &Place<'_>) {
    let (agent, index) = (place.site.pattern, place.index);
    let name = match error {
        TemplateError::Undefined { name, .. } => name,
        TemplateError::TooMany { output, .. } => output.first().map_or("", String::as_str),
        TemplateError::BadEscape(escape) => {
            return node.invalid(format!("invalid URL escape \"{escape}\""));
        }
    };
    node.config_error_hint(
        ConfigError::invalid(format!(
            "undefined output param '{name}'! async agent: {agent}, backend: {index}. An agent has no parameters"
        )),
        format!("remove {{{name}}}: the message is the body of the call"),
    );
}

/// The hint for a placeholder that is not a parameter of the endpoint at `path`.
fn undefined(error: &TemplateError, path: &str) -> Option<String> {
    let TemplateError::Undefined { name, input, .. } = error else {
        return None;
    };
    match &**name {
        "JWT" => return Some("a claim is {JWT.name}".to_owned()),
        "resp0" => return Some("a value of the first response is {resp0_name}".to_owned()),
        _ => {}
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.chars().all(is_name) || path.ends_with('*') {
        return None;
    }
    let add = format!(
        "add {{{name}}} to the \"endpoint\", such as \"{}/{{{name}}}\"",
        path.trim_end_matches('/')
    );
    Some(match nearest(name, input.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean {{{meant}}}? Otherwise {add}"),
        None => add,
    })
}
