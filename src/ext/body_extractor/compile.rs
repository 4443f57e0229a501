//! Compiles the blocks.

use http::HeaderName;

use super::config::KEYS;
use super::runtime::{Extractor, OnConflict, Operation, Source, Target};
use crate::config::{Block, ConfigError, Node};
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::extension::{EndpointPart, ServicePart};
use crate::ext::jmespath::Expression;

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

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    gate(extractor(node, false, cx))
}

pub(super) fn service_early(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    gate(extractor(node, true, cx))
}

pub(super) fn endpoint(
    node: &Node<'_>,
    _site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    setting(extractor(node, false, cx))
}

pub(super) fn endpoint_early(
    node: &Node<'_>,
    _site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    setting(extractor(node, true, cx))
}

fn gate(extractor: Option<Extractor>) -> ServicePart {
    match extractor {
        Some(extractor) => ServicePart::Gate(Box::new(extractor)),
        None => ServicePart::Nothing,
    }
}

/// Headers of the client that a backend could take for the targets do not pass.
fn setting(extractor: Option<Extractor>) -> EndpointPart {
    let Some(extractor) = extractor else {
        return EndpointPart::Nothing;
    };
    let targets = extractor.operations.iter();
    let headers = targets.filter_map(|operation| match &operation.target {
        Target::Header(name) => Some(name.clone()),
        Target::Query(_) => None,
    });
    EndpointPart::Setting {
        headers: headers.collect(),
        steps: vec![Box::new(extractor)],
    }
}

fn extractor(node: &Node<'_>, early: bool, cx: &Compile<'_>) -> Option<Extractor> {
    let block = node.block(KEYS)?;
    let operations = block.blocks("operations");
    if operations.is_empty() {
        block.missing("operations");
        return None;
    }
    let compiled = operations
        .iter()
        .filter_map(|block| operation(block, early, cx));
    Some(Extractor {
        operations: compiled.collect(),
    })
}

fn operation(block: &Block<'_>, early: bool, cx: &Compile<'_>) -> Option<Operation> {
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
        "header" => Target::Header(header(&written, block, cx)?),
        _ => Target::Query(written.into()),
    };
    if early
        && on_conflict == OnConflict::Append
        && matches!(&target, Target::Header(name) if *name == http::header::AUTHORIZATION)
    {
        block.node().config_error_hint(
            ConfigError::invalid("a second credential beside that of the client"),
            "\"on_conflict\": \"replace\" or \"skip\"",
        );
        return None;
    }
    Some(Operation {
        source: source(block)?,
        target,
        on_conflict,
    })
}

fn source(block: &Block<'_>) -> Option<Source> {
    let text = block.required("expression")?;
    let node = block.get("expression")?;
    if block.choice("strategy")? == "jmespath" {
        let parsed = Expression::parse(&text);
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

fn header(written: &str, block: &Block<'_>, cx: &Compile<'_>) -> Option<HeaderName> {
    let node = block.get("target")?;
    let Ok(name) = HeaderName::from_bytes(written.as_bytes()) else {
        node.invalid(format!("{written:?} is not the name of a header"));
        return None;
    };
    let text = name.as_str();
    if REFUSED.contains(&text) || text.starts_with("x-forwarded-") {
        node.invalid(format!(
            "{written} is decided by the gateway or the connection"
        ));
        return None;
    }
    if cx.identity_headers().contains(&name) {
        node.invalid(format!(
            "{written} tells backends who the client is: a body must not set it"
        ));
        return None;
    }
    Some(name)
}
