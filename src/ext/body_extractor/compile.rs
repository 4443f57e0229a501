//! Compiles the blocks.

use std::sync::Arc;

use http::HeaderName;

use super::config::KEYS;
use super::runtime::{Extractor, OnConflict, Operation, Source, Target};
use crate::config::{Block, ConfigError, Node};
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::extension::{EndpointPart, ServicePart};
use crate::ext::jmespath::Expression;
use crate::telemetry::mask::{add_secret_name, is_secret};

/// Fields that the gateway or the connection decides.
const REFUSED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-real-ip",
];

/// The headers that the blocks of the service set, for each endpoint.
#[derive(Debug, Default, Clone)]
pub(crate) struct TakenByService(pub Vec<HeaderName>);

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let extractor = extractor(node, false);
    gate(extractor, cx)
}

pub(super) fn service_early(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let extractor = extractor(node, true);
    gate(extractor, cx)
}

pub(super) fn endpoint(
    node: &Node<'_>,
    _site: &EndpointSite<'_>,
    _cx: &mut Compile<'_>,
) -> EndpointPart {
    taking(extractor(node, false), false)
}

pub(super) fn endpoint_early(
    node: &Node<'_>,
    _site: &EndpointSite<'_>,
    _cx: &mut Compile<'_>,
) -> EndpointPart {
    taking(extractor(node, true), true)
}

fn gate(extractor: Option<Extractor>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(extractor) = extractor else {
        return ServicePart::Nothing;
    };
    let mut taken = cx
        .fact::<TakenByService>()
        .map(|taken| (*taken).clone())
        .unwrap_or_default();
    taken.0.extend(targets(&extractor));
    cx.set_fact(Arc::new(taken));
    ServicePart::Gate(Box::new(extractor))
}

/// Headers of the client that a backend could take for the targets do not pass.
fn taking(extractor: Option<Extractor>, early: bool) -> EndpointPart {
    match extractor {
        Some(extractor) => EndpointPart::Taking {
            headers: targets(&extractor),
            steps: vec![Box::new(extractor)],
            early,
        },
        None => EndpointPart::Nothing,
    }
}

fn targets(extractor: &Extractor) -> Vec<HeaderName> {
    let targets = extractor.operations.iter();
    let headers = targets.filter_map(|operation| match &operation.target {
        Target::Header(name) => Some(name.clone()),
        Target::Query(_) => None,
    });
    headers.collect()
}

fn extractor(node: &Node<'_>, early: bool) -> Option<Extractor> {
    let block = node.block(KEYS)?;
    let operations = block.blocks("operations");
    if operations.is_empty() {
        block.missing("operations");
        return None;
    }
    let compiled = operations
        .iter()
        .filter_map(|block| operation(block, early));
    Some(Extractor {
        operations: compiled.collect(),
    })
}

fn operation(block: &Block<'_>, early: bool) -> Option<Operation> {
    for key in ["type", "strategy", "expression", "target", "on_conflict"] {
        if !block.has(key) {
            block.missing(key);
            return None;
        }
    }
    let on_conflict = match block.choice("on_conflict")? {
        "skip" => OnConflict::Skip,
        "replace" => OnConflict::Replace,
        _ => OnConflict::Append,
    };
    let written = block.required("target")?;
    let target = match block.choice("type")? {
        "header" => Target::Header(header(&written, block)?),
        _ => Target::Query(written.into()),
    };
    if early
        && on_conflict == OnConflict::Append
        && matches!(&target, Target::Header(name) if *name == http::header::AUTHORIZATION)
    {
        block.node().config_error_hint(
            ConfigError::invalid("this would add a second credential to that of the client"),
            "\"on_conflict\": \"replace\" or \"skip\"",
        );
        return None;
    }
    let expression = block.required("expression")?;
    // The value is as secret as the member of the body that it comes from.
    if let Target::Query(name) = &target
        && is_secret(&expression)
    {
        add_secret_name(name);
    }
    Some(Operation {
        source: source(&expression, block)?,
        target,
        on_conflict,
    })
}

fn source(text: &str, block: &Block<'_>) -> Option<Source> {
    let node = block.get("expression")?;
    if block.choice("strategy")? == "jmespath" {
        let parsed = Expression::parse(text);
        return parsed
            .map(Source::Jmespath)
            .map_err(|error| node.invalid(format!("not a JMESPath expression: {error}")))
            .ok();
    }
    let path: Box<[Box<str>]> = text.split('.').map(Box::from).collect();
    if path.iter().any(|part| part.is_empty()) {
        node.invalid(format!("{text:?} is not a dotted path"));
        return None;
    }
    Some(Source::Path(path))
}

/// The header that an operation sets. Whether it is one of those that identify the client is checked when all blocks of
/// the endpoint are compiled.
fn header(written: &str, block: &Block<'_>) -> Option<HeaderName> {
    let node = block.get("target")?;
    let Ok(name) = HeaderName::from_bytes(written.as_bytes()) else {
        node.config_error(ConfigError::header_name(written));
        return None;
    };
    // Many backends do not tell `X_Real_IP` from `X-Real-IP`.
    let text = name
        .as_str()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    if REFUSED.contains(&&*text) || text.starts_with("x-forwarded-") {
        node.invalid(format!(
            "{written} is set by the gateway or belongs to the connection"
        ));
        return None;
    }
    Some(name)
}
