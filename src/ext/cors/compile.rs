//! Compiles the block.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::config::{Block, KEYS, SERVICE_KEYS};
use super::policy::{Allowed, Origins, Policy};
use super::runtime::{Cors, Own};
use crate::config::{ConfigError, Data, Node};
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::extension::{EndpointPart, ServicePart};
use crate::upstream::title_case;

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = Block::read(node, SERVICE_KEYS) else {
        return ServicePart::Nothing;
    };
    let policy = policy(node, &block);
    let own = Arc::new(Own::default());
    cx.set_fact(Arc::clone(&own));
    let service = (!block.endpoints_only).then_some(policy);
    log::debug!("[SERVICE: Gin][CORS] Enabled CORS for all requests");
    ServicePart::Step(Box::new(Cors::new(service, own)))
}

pub(super) fn endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    let Some(block) = Block::read(node, KEYS) else {
        return EndpointPart::Nothing;
    };
    let policy = policy(node, &block);
    let Some(own) = cx.fact::<Own>() else {
        node.config_error_hint(
            ConfigError::invalid("rules of one endpoint need a block in the service, too"),
            "add to the service's extra_config: \"security/cors\": {\"endpoints_only\": true}",
        );
        return EndpointPart::Nothing;
    };
    own.add(site.method.clone(), Arc::clone(site.pattern), policy);
    EndpointPart::Nothing
}

fn policy(node: &Node<'_>, block: &Block<'_>) -> Policy {
    doubts(node, block);
    let at = block.block.get("allow_origins");
    let is_empty = at
        .as_ref()
        .is_none_or(|at| matches!(&at.value().data, Data::List(items) if items.is_empty()));
    if is_empty && !block.endpoints_only {
        at.unwrap_or_else(|| node.clone()).warn_hint(
            ConfigError::invalid("without \"allow_origins\" every origin is allowed"),
            "name the origins, or write \"allow_origins\": [\"*\"]",
        );
    }
    let origins = origins(node, &block.allow_origins);
    if origins == Origins::Any && block.allow_credentials {
        node.warn_hint(
            ConfigError::invalid("browsers reject credentials if every origin is allowed"),
            "name the origins in \"allow_origins\"",
        );
    }
    Policy {
        origins,
        methods: methods(&block.allow_methods),
        headers: headers(&block.allow_headers),
        expose: expose(node, &block.expose_headers),
        credentials: block.allow_credentials,
        private_network: block.allow_private_network,
        max_age: max_age(block),
        passthrough: block.options_passthrough,
        success: block
            .options_success_status
            .and_then(|status| u16::try_from(status).ok())
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(StatusCode::NO_CONTENT),
        debug: block.debug,
    }
}

/// Warns about values that a browser never sends, so that they never match.
fn doubts(node: &Node<'_>, block: &Block<'_>) {
    let at = |key: &str| node.get(key).unwrap_or_else(|| node.clone());
    let origins = block.allow_origins.iter().filter(|origin| *origin != "*");
    for origin in origins {
        let rest = origin.split_once("://").map(|(_, rest)| rest);
        let blank_or_comma = |c: char| c == ',' || c.is_whitespace();
        if origin.contains(blank_or_comma) {
            let parts = origin.split(blank_or_comma).filter(|part| !part.is_empty());
            let parts: Vec<String> = parts.map(|part| format!("{part:?}")).collect();
            at("allow_origins").warn_hint(
                ConfigError::invalid(format!(
                    "{origin:?} never matches: an origin has no blanks and no commas"
                )),
                format!("write [{}]", parts.join(", ")),
            );
            continue;
        }
        let (why, hint) = match rest {
            _ if origin == "null" => continue,
            Some(_) if usual_port(origin).is_some() => (
                "browsers omit the default port",
                usual_port(origin).unwrap_or_default().to_owned(),
            ),
            Some(rest) if rest.contains('/') => {
                let end = origin.len() - rest.len() + rest.find('/').unwrap_or(rest.len());
                let whole = origin.get(..end).unwrap_or(origin).to_owned();
                ("an origin has no path and no trailing slash", whole)
            }
            // `*.example.com` and `*example.com` match whole origins.
            None if !origin.starts_with('*') => (
                "an origin begins with its scheme",
                format!("https://{origin}"),
            ),
            _ => continue,
        };
        at("allow_origins").warn_hint(
            ConfigError::invalid(format!("{origin:?} never matches: {why}")),
            format!("write {hint:?}"),
        );
    }
    let no_token = |method: &&String| method.contains([',', ' ', '\n', '\t']);
    if let Some(method) = block.allow_methods.iter().find(no_token) {
        let parts = method.split([',', ' ', '\n', '\t']);
        let parts = parts.filter(|part| !part.is_empty());
        let parts: Vec<String> = parts.map(|part| format!("{part:?}")).collect();
        at("allow_methods").warn_hint(
            ConfigError::invalid(format!("{method:?} is not a method, and allows none")),
            format!("write [{}]", parts.join(", ")),
        );
    }
    if block.allow_methods.iter().any(|method| method == "*") {
        at("allow_methods").warn_hint(
            ConfigError::invalid("\"*\" is not a method here, and allows none, as in KrakenD"),
            "name the methods: [\"GET\", \"POST\", \"PUT\", \"PATCH\", \"DELETE\"]",
        );
    }
}

/// The origin without the port, if that is the usual one of its scheme.
fn usual_port(origin: &str) -> Option<&str> {
    let pairs = [("https://", ":443"), ("http://", ":80")];
    let mut pairs = pairs
        .iter()
        .filter(|(scheme, _)| origin.starts_with(scheme));
    pairs.find_map(|(_, port)| origin.strip_suffix(port))
}

fn origins(node: &Node<'_>, list: &[String]) -> Origins {
    if list.is_empty() || list.iter().any(|origin| origin == "*") {
        return Origins::Any;
    }
    let (mut exact, mut wild) = (Vec::new(), Vec::new());
    for origin in list.iter().map(|origin| origin.to_lowercase()) {
        match origin.split_once('*') {
            None => exact.push(origin.into()),
            Some((_, end)) if end.contains('*') => {
                let at = node.get("allow_origins").unwrap_or_else(|| node.clone());
                at.invalid(format!("{origin:?} has more than one *"));
            }
            Some((start, end)) => wild.push((start.into(), end.into())),
        }
    }
    Origins::Some {
        exact: exact.into(),
        wild: wild.into(),
    }
}

fn methods(list: &[String]) -> Allowed {
    if list.is_empty() {
        return Allowed::Some(["GET", "POST", "HEAD"].map(Box::from).into());
    }
    Allowed::Some(list.iter().map(|name| name.to_uppercase().into()).collect())
}

fn headers(list: &[String]) -> Allowed {
    if list.is_empty() || list.iter().any(|name| name == "*") {
        return Allowed::Any;
    }
    Allowed::Some(list.iter().map(|name| name.to_lowercase().into()).collect())
}

/// As KrakenD writes them: capitalised words, joined by a comma and a space.
fn expose(node: &Node<'_>, list: &[String]) -> Option<HeaderValue> {
    let mut names = Vec::new();
    for name in list {
        if name != "*" {
            let at = node.get("expose_headers").unwrap_or_else(|| node.clone());
            at.header_name(name)?;
        }
        names.push(title_case(name));
    }
    if names.is_empty() {
        return None;
    }
    HeaderValue::try_from(names.join(", ")).ok()
}

/// A negative duration counts as 0, and 0 sends no header.
fn max_age(block: &Block<'_>) -> Option<HeaderValue> {
    let node = block.max_age.as_ref()?;
    if let Data::Text(text) = &node.value().data
        && text.starts_with('-')
    {
        return Some(HeaderValue::from_static("0"));
    }
    let seconds = node.duration()?.as_secs();
    (seconds > 0).then(|| HeaderValue::from(seconds))
}
