//! Compiles the layers and their options.

use http::HeaderName;

use crate::config::{Block, ConfigError, Node};
use crate::telemetry::observe::{BackendLayer, Convention, LABELS, Layer, Layers, Parts};
use crate::telemetry::series::label_name;
use crate::telemetry::trace::{Attribute, Value};

/// `layers` of the service, and the convention in its `global`.
pub(super) fn layers(block: Option<&Block<'_>>) -> (Layers, Convention) {
    let Some(block) = block else {
        return (Layers::default(), Convention::default());
    };
    let global = block.block("global");
    let convention = global.as_ref().map(convention).unwrap_or_default();
    let layers = Layers {
        global: global.as_ref().map(layer).unwrap_or_default(),
        proxy: block.block("proxy").as_ref().map(layer).unwrap_or_default(),
        backend: block
            .block("backend")
            .map(|block| backend(&block, &BackendLayer::default()))
            .unwrap_or_default(),
    };
    (layers, convention)
}

fn convention(block: &Block<'_>) -> Convention {
    match block.text("semantic_convention") {
        None | Some("") => Convention::Krakend,
        Some("1.27") => Convention::V1_27,
        Some("stable") => Convention::Stable,
        Some(_) => {
            if let Some(node) = block.get("semantic_convention") {
                node.warn_hint(
                    ConfigError::NotOneOf {
                        found: node.shown(),
                        allowed: "1.27, stable".to_owned(),
                    },
                    "KrakenD's own names are used instead",
                );
            }
            Convention::Krakend
        }
    }
}

/// `global` or `proxy`.
pub(super) fn layer(block: &Block<'_>) -> Layer {
    Layer {
        metrics: !block.flag("disable_metrics"),
        traces: !block.flag("disable_traces"),
        report_headers: block.flag("report_headers"),
        skip_headers: names(block),
        metric_attributes: labels(block, "metrics_static_attributes"),
        trace_attributes: attributes(block, "traces_static_attributes"),
    }
}

/// `backend`. Missing values come from `base`.
pub(super) fn backend(block: &Block<'_>, base: &BackendLayer) -> BackendLayer {
    let half = |key: &str, base: &Parts, read: fn(&Block<'_>, &str) -> Vec<Attribute>| {
        let block = block.block(key);
        block.map_or_else(|| base.clone(), |block| parts(&block, read))
    };
    BackendLayer {
        metrics: half("metrics", &base.metrics, labels),
        traces: half("traces", &base.traces, attributes),
    }
}

fn parts(block: &Block<'_>, read: fn(&Block<'_>, &str) -> Vec<Attribute>) -> Parts {
    Parts {
        stage: !block.flag("disable_stage"),
        round_trip: block.flag("round_trip"),
        read_payload: block.flag("read_payload"),
        detailed: block.flag("detailed_connection"),
        report_headers: block.flag("report_headers"),
        skip_headers: names(block),
        attributes: read(block, "static_attributes"),
    }
}

fn names(block: &Block<'_>) -> Vec<HeaderName> {
    let names = block.texts("skip_headers");
    names
        .iter()
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .collect()
}

/// Static attributes of spans. The last of several equal keys counts, and empty ones are dropped.
pub(super) fn attributes(block: &Block<'_>, key: &str) -> Vec<Attribute> {
    named(block, key, |_, name| name)
}

/// Static attributes of series, where the names are labels of Prometheus. One that is taken gets the prefix that
/// Prometheus uses for this: the page must stay readable.
pub(super) fn labels(block: &Block<'_>, key: &str) -> Vec<Attribute> {
    named(block, key, |node, name| {
        let label = label_name(&name);
        let is_reserved = name.starts_with("__");
        if !LABELS.contains(&&*label) && !is_reserved {
            return name;
        }
        let free = format!("exported_{}", name.trim_start_matches('_'));
        node.warn_hint(
            ConfigError::invalid(format!(
                "{label} is a label of the gateway or of Prometheus"
            )),
            format!("the attribute is renamed to {free}"),
        );
        free
    })
}

fn named(
    block: &Block<'_>,
    key: &str,
    rename: impl Fn(&Node<'_>, String) -> String,
) -> Vec<Attribute> {
    let mut all: Vec<Attribute> = Vec::new();
    for item in block.blocks(key) {
        let (Some(name), Some(value)) = (item.string("key"), item.string("value")) else {
            continue;
        };
        if name.is_empty() || value.is_empty() {
            continue;
        }
        let name = rename(item.node(), name);
        all.retain(|(known, _)| *known != name);
        all.push((name.into(), Value::from(value)));
    }
    all
}
