//! `telemetry/opencensus`, the older system: its sampling, layers, pages and collectors on the machinery of
//! `telemetry/opentelemetry`.
//!
//! Series have the names of that block. Jaeger takes OTLP by itself; for every other exporter one warning says what to
//! write instead.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::exporters::{Shared, jaeger};
use super::{Exporters, Page, Pages, environment};
use crate::config::{Block, ConfigError, Key, Kind, Node, key};
use crate::ext::context::{Compile, ServiceFacts};
use crate::ext::extension::ServicePart;
use crate::telemetry::observe::{BackendLayer, Layer, Layers, Native, Observer, Parts, Settings};
use crate::telemetry::series::{SIZE_BOUNDS, Store, TIME_BOUNDS};
use crate::telemetry::trace::context::Formats;
use crate::telemetry::trace::{Attribute, Value};

pub(super) const KEYS: &[Key] = &[
    key(
        "sample_rate",
        Kind::Integer,
        "0",
        "The percentage of requests without a parent that are traced.",
    ),
    key(
        "reporting_period",
        Kind::Integer,
        "10",
        "Seconds between two pushes.",
    ),
    key(
        "enabled_layers",
        Kind::Block(LAYERS),
        "all",
        "The layers that are reported.",
    ),
    key(
        "exporters",
        Kind::Block(EXPORTERS),
        "",
        "Where the data is sent.",
    ),
];

const LAYERS: &[Key] = &[
    key("router", Kind::Bool, "false", "Requests of clients."),
    key("pipe", Kind::Bool, "false", "The work of endpoints."),
    key("backend", Kind::Bool, "false", "Calls to backends."),
];

const EXPORTERS: &[Key] = &[
    key(
        "prometheus",
        Kind::Block(PROMETHEUS),
        "",
        "A page with the names of `telemetry/opentelemetry`.",
    ),
    key(
        "jaeger",
        Kind::Block(JAEGER),
        "",
        "The same host gets OTLP on port 4318, which Jaeger supports since 1.35.",
    ),
    key("zipkin", Kind::Object, "", "Not built."),
    key("ocagent", Kind::Object, "", "Not built."),
    key("influxdb", Kind::Object, "", "Not built."),
    key("datadog", Kind::Object, "", "Not built."),
    key("xray", Kind::Object, "", "Not built."),
    key("stackdriver", Kind::Object, "", "Not built."),
    key("logger", Kind::Object, "", "Has no effect, as in KrakenD."),
];

const PROMETHEUS: &[Key] = &[
    key("port", Kind::Integer, "9090", "The port of the page."),
    key(
        "namespace",
        Kind::Text,
        "",
        "No effect: names have no prefix.",
    ),
    key(
        "tag_host",
        Kind::Bool,
        "",
        "No effect: labels are always present.",
    ),
    key(
        "tag_path",
        Kind::Bool,
        "",
        "No effect: labels are always present.",
    ),
    key(
        "tag_method",
        Kind::Bool,
        "",
        "No effect: labels are always present.",
    ),
    key(
        "tag_statuscode",
        Kind::Bool,
        "",
        "No effect: labels are always present.",
    ),
];

const JAEGER: &[Key] = &[
    key(
        "endpoint",
        Kind::Text,
        "",
        "The collector; only its host is used.",
    ),
    key(
        "agent_endpoint",
        Kind::Text,
        "",
        "Not supported: the agent no longer exists.",
    ),
    key(
        "service_name",
        Kind::Text,
        "",
        "The `service.name` of the exported data.",
    ),
    key("buffer_max_count", Kind::Integer, "", "Has no effect."),
];

/// Exporters that have no counterpart.
const OTHERS: [&str; 6] = [
    "zipkin",
    "ocagent",
    "influxdb",
    "datadog",
    "xray",
    "stackdriver",
];

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = node.block(KEYS) else {
        return ServicePart::Nothing;
    };
    if cx.fact::<Observer>().is_some() {
        node.warn(ConfigError::invalid(
            "it has no effect together with \"telemetry/opentelemetry\"",
        ));
        return ServicePart::Nothing;
    }
    let exporters = block.block("exporters");
    warn(exporters.as_ref());
    let facts = cx.fact::<ServiceFacts>();
    let jaeger_block = exporters.as_ref().and_then(|block| block.block("jaeger"));
    let named = jaeger_block
        .as_ref()
        .and_then(|block| block.string("service_name"));
    let named = named.or_else(|| facts.as_ref().and_then(|facts| facts.name.clone()));
    let resource: Arc<[Attribute]> = [
        (
            "service.name".into(),
            Value::from(named.unwrap_or_else(|| "KrakenD".to_owned())),
        ),
        ("service.version".into(), env!("CARGO_PKG_VERSION").into()),
    ]
    .into();
    let store = cx.carry_over("telemetry/opencensus series", |_| {
        Arc::new(Store::new(TIME_BOUNDS, SIZE_BOUNDS))
    });
    let list: Vec<Page> = exporters.as_ref().and_then(page).into_iter().collect();
    let shared = Shared {
        resource: &resource,
        store: &store,
        period: Duration::from_secs(block.count("reporting_period").unwrap_or(10).max(1)),
        key: &format!("{resource:?}"),
    };
    let sent = jaeger_block.and_then(|block| jaeger(&block, &shared, cx));
    let sent: Box<[_]> = sent.into_iter().collect();
    cx.set_fact(Arc::new(Observer::new(
        settings(&block, facts.as_deref(), cx),
        (!list.is_empty()).then(|| Arc::clone(&store)),
        sent.clone(),
        cx.fact::<Native>(),
    )));
    cx.set_fact(Arc::new(Exporters(sent)));
    cx.set_fact(Arc::new(Pages {
        list,
        store,
        resource,
    }));
    ServicePart::Nothing
}

/// One warning for all that is not served.
fn warn(exporters: Option<&Block<'_>>) {
    let Some(exporters) = exporters else { return };
    let named: Vec<&str> = OTHERS
        .into_iter()
        .filter(|name| exporters.has(name))
        .collect();
    if !named.is_empty() {
        exporters.node().warn_hint(
            ConfigError::invalid(format!("these exporters are not supported: {}", named.join(", "))),
            "an OpenTelemetry Collector sends to all of them: \"telemetry/opentelemetry\": {\"exporters\": {\"otlp\": [{\"name\": \"collector\", \"host\": \"127.0.0.1\", \"port\": 4317}]}}",
        );
    }
}

fn page(exporters: &Block<'_>) -> Option<Page> {
    let block = exporters.block("prometheus")?;
    block.node().warn_hint(
        ConfigError::invalid(
            "the page has the names of \"telemetry/opentelemetry\", not OpenCensus'",
        ),
        "docs/observability.md lists them",
    );
    let port = block.within("port", 1, 65535).unwrap_or(9090) as u16;
    Some(Page {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        process: true,
    })
}

fn settings(block: &Block<'_>, facts: Option<&ServiceFacts>, cx: &Compile<'_>) -> Settings {
    let percent = block.within("sample_rate", 0, 100).unwrap_or(0);
    let usual = Formats {
        trace_context: false,
        b3_multi: true,
        ..Formats::default()
    };
    let health = facts.and_then(|facts| facts.health_path.clone());
    Settings {
        layers: layers(block.block("enabled_layers").as_ref()),
        skip: health.into_iter().collect(),
        rate: percent as f64 / 100.0,
        // Backends that read B3 go on reading it.
        formats: environment::formats(cx.environment, block.node()).unwrap_or(usual),
        reads: true,
        writes: true,
        keeps_decision: true,
        ..Settings::default()
    }
}

fn layers(block: Option<&Block<'_>>) -> Layers {
    let Some(block) = block else {
        return Layers::default();
    };
    let layer = |key| {
        if block.flag(key) {
            Layer::default()
        } else {
            Layer {
                metrics: false,
                traces: false,
                ..Layer::default()
            }
        }
    };
    Layers {
        global: layer("router"),
        proxy: layer("pipe"),
        backend: if block.flag("backend") {
            BackendLayer::default()
        } else {
            BackendLayer {
                metrics: Parts::NONE,
                traces: Parts::NONE,
            }
        },
    }
}
