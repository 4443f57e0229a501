//! Compiles the collectors and the metrics pages.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::transport::{Common, OverGrpc, OverHttp};
use super::{Page, environment};
use crate::config::{Block, ConfigError, Environment, Node};
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::ext::reload_state::Task;
use crate::telemetry::otlp::{Exporter, Settings, Transport};
use crate::telemetry::series::Store;
use crate::telemetry::trace::Attribute;
use crate::upstream::{CertificatePair, GrpcClient, OUR_USER_AGENT, SideClient, SideTls};

/// Headers by exporter, from `telemetry/opentelemetry-security`.
#[derive(Debug, Default)]
pub(in crate::ext) struct Secrets(Vec<(String, HeaderMap)>);

/// The common settings of all exporters.
pub(super) struct Shared<'a> {
    pub(super) resource: &'a Arc<[Attribute]>,
    pub(super) store: &'a Arc<Store>,
    /// The interval between two pushes of metrics.
    pub(super) period: Duration,
    /// Also part of the key that must be unchanged for a reload to keep queue and connection.
    pub(super) key: &'a str,
}

/// A collector from the configuration or the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Collector {
    name: String,
    host: String,
    port: u16,
    secure: bool,
    over_http: bool,
    /// The path before `/v1/traces`.
    base: String,
    metrics: bool,
    traces: bool,
    period: Option<Duration>,
}

pub(super) fn security(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = node.block(super::config::SECURITY_KEYS) else {
        return ServicePart::Nothing;
    };
    let mut secrets = Secrets::default();
    for item in block.blocks("otlp") {
        let mut headers = HeaderMap::new();
        for (name, value) in item.text_map("headers") {
            let name_read = HeaderName::from_bytes(name.as_bytes());
            match (name_read, HeaderValue::from_str(&value)) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.insert(name, value);
                }
                _ => item
                    .node()
                    .invalid(format!("{name:?} is not a header that can be sent")),
            }
        }
        secrets
            .0
            .push((item.string("name").unwrap_or_default(), headers));
    }
    cx.set_fact(Arc::new(secrets));
    ServicePart::Nothing
}

/// Checks that every exporter has a unique name.
pub(super) fn check_names(exporters: Option<&Block<'_>>) {
    let Some(exporters) = exporters else { return };
    let mut seen = HashSet::new();
    for key in ["otlp", "prometheus"] {
        for block in exporters.blocks(key) {
            let name = block.string("name").unwrap_or_default();
            if !seen.insert(name.clone()) {
                block.node().config_error_hint(
                    ConfigError::invalid(format!("another exporter also has the name {name:?}")),
                    "give each one its own \"name\"",
                );
            }
        }
    }
}

/// The configured metrics pages.
pub(super) fn pages(exporters: Option<&Block<'_>>) -> Vec<Page> {
    let blocks = exporters
        .map(|block| block.blocks("prometheus"))
        .unwrap_or_default();
    blocks.iter().filter_map(page).collect()
}

fn page(block: &Block<'_>) -> Option<Page> {
    let port = block.within("port", 1, 65535).unwrap_or(9090) as u16;
    let address = match block.get("listen_ip").or_else(|| block.get("host")) {
        None => None,
        Some(node) => match block.text("listen_ip").or_else(|| block.text("host")) {
            None | Some("") => None,
            Some("localhost") => Some(Ipv4Addr::LOCALHOST.into()),
            Some(text) => match text.parse::<IpAddr>() {
                Ok(ip) => Some(ip),
                Err(_) => {
                    node.config_error(ConfigError::Address(text.to_owned()));
                    return None;
                }
            },
        },
    };
    if block.flag("go_metrics")
        && let Some(node) = block.get("go_metrics")
    {
        node.warn(ConfigError::invalid(
            "there is no Go runtime here to report on",
        ));
    }
    if block.flag("disable_metrics") {
        return None;
    }
    if address.is_none() {
        log::info!(
            "[SERVICE: OpenTelemetry] The page at port {port} is for this machine only: \"listen_ip\" opens it for others"
        );
    }
    Some(Page {
        address: SocketAddr::new(address.unwrap_or(Ipv4Addr::LOCALHOST.into()), port),
        process: block.flag("process_metrics"),
    })
}

/// The configured exporters, or the one of the environment.
pub(super) fn exporters(
    whole: &Block<'_>,
    list: Option<&Block<'_>>,
    shared: &Shared<'_>,
    cx: &mut Compile<'_>,
) -> Vec<Arc<Exporter>> {
    let blocks = list.map(|list| list.blocks("otlp")).unwrap_or_default();
    let mut made = Vec::new();
    let mut known = Vec::new();
    for block in &blocks {
        let Some(collector) = collector(block) else {
            continue;
        };
        known.push(collector.name.clone());
        made.extend(exporter(&collector, block.node(), shared, cx));
    }
    if blocks.is_empty()
        && let Some(collector) = of_environment(cx.environment)
    {
        made.extend(exporter(&collector, whole.node(), shared, cx));
    }
    if let Some(secrets) = cx.fact::<Secrets>() {
        for (name, _) in secrets.0.iter().filter(|(name, _)| !known.contains(name)) {
            log::warn!(
                "[SERVICE: OpenTelemetry] \"telemetry/opentelemetry-security\" names an exporter that does not exist: {name:?}"
            );
        }
    }
    made
}

fn collector(block: &Block<'_>) -> Option<Collector> {
    let over_http = block.flag("use_http");
    let written = block.text("host").unwrap_or_default();
    let (secure, rest) = match written.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        Some(_) => (false, written),
        None => (false, written),
    };
    let (host, base) = match rest.split_once('/') {
        Some((host, path)) => (host, path.trim_end_matches('/')),
        None => (rest, ""),
    };
    let port = block.within("port", 1, 65535);
    if port.is_none() && over_http && !block.has("port") {
        block.node().warn_hint(
            ConfigError::Missing("port"),
            "4318 is used, as documented; KrakenD uses 4317",
        );
    }
    let collector = Collector {
        name: block.string("name").unwrap_or_default(),
        host: if host.is_empty() { "localhost" } else { host }.to_owned(),
        port: port.unwrap_or(if over_http { 4318 } else { 4317 }) as u16,
        secure,
        over_http,
        base: base.to_owned(),
        metrics: !block.flag("disable_metrics"),
        traces: !block.flag("disable_traces"),
        period: block
            .count("custom_metric_reporting_period")
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs),
    };
    let good = collector.url("").parse::<http::Uri>().is_ok() && !collector.host.contains('%');
    if !good && let Some(node) = block.get("host") {
        node.config_error_hint(
            ConfigError::Host { host: node.shown() },
            "a name or an address, perhaps with \"http://\" or \"https://\" before it",
        );
    }
    good.then_some(collector)
}

/// A Jaeger collector of `telemetry/opencensus`: its host takes OTLP on another port.
pub(super) fn jaeger(
    block: &Block<'_>,
    shared: &Shared<'_>,
    cx: &mut Compile<'_>,
) -> Option<Arc<Exporter>> {
    let Some(node) = block.get("endpoint") else {
        block.node().warn_hint(
            ConfigError::Missing("endpoint"),
            "agents no longer exist: name a collector, or write \"telemetry/opentelemetry\"",
        );
        return None;
    };
    let uri: Option<http::Uri> = block.text("endpoint").and_then(|text| text.parse().ok());
    let host = uri.as_ref().and_then(|uri| uri.host());
    let Some(host) = host.map(str::to_owned) else {
        node.config_error(ConfigError::Host { host: node.shown() });
        return None;
    };
    let collector = Collector {
        name: "jaeger".to_owned(),
        host,
        port: 4318,
        secure: uri.as_ref().and_then(|uri| uri.scheme_str()) == Some("https"),
        over_http: true,
        base: String::new(),
        metrics: false,
        traces: true,
        period: None,
    };
    node.warn_hint(
        ConfigError::invalid(format!(
            "traces go to {} as OTLP",
            collector.url("/v1/traces")
        )),
        "\"telemetry/opentelemetry\" has the same settings without this warning",
    );
    exporter(&collector, &node, shared, cx)
}

/// `OTEL_EXPORTER_OTLP_ENDPOINT`, for a configuration without exporters.
fn of_environment(environment: &Environment) -> Option<Collector> {
    let endpoint = environment::text(environment, "OTEL_EXPORTER_OTLP_ENDPOINT")?;
    let uri: http::Uri = endpoint.parse().ok()?;
    let protocol = environment::text(environment, "OTEL_EXPORTER_OTLP_PROTOCOL");
    let over_http = protocol != Some("grpc");
    Some(Collector {
        name: "environment".to_owned(),
        host: uri.host()?.to_owned(),
        port: uri
            .port_u16()
            .unwrap_or(if over_http { 4318 } else { 4317 }),
        secure: uri.scheme_str() == Some("https"),
        over_http,
        base: uri.path().trim_matches('/').to_owned(),
        metrics: true,
        traces: true,
        period: None,
    })
}

impl Collector {
    fn url(&self, path: &str) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        let base = match self.base.as_str() {
            "" => String::new(),
            base => format!("/{base}"),
        };
        format!("{scheme}://{}:{}{base}{path}", self.host, self.port)
    }
}

fn exporter(
    collector: &Collector,
    node: &Node<'_>,
    shared: &Shared<'_>,
    cx: &mut Compile<'_>,
) -> Option<Arc<Exporter>> {
    let environment = cx.environment;
    let secrets = cx.fact::<Secrets>();
    let mut headers = environment::headers(environment);
    if let Some(secrets) = secrets {
        let own = secrets.0.iter().filter(|(name, _)| *name == collector.name);
        own.for_each(|(_, own)| headers.extend(own.clone()));
    }
    if !headers.is_empty() && !collector.secure {
        node.warn_hint(
            ConfigError::invalid("headers for the collector are sent in plain text"),
            "\"host\": \"https://…\" enables TLS",
        );
    }
    let common = Common {
        headers,
        gzip: environment::text(environment, "OTEL_EXPORTER_OTLP_COMPRESSION") != Some("none"),
        timeout: environment::millis(environment, "OTEL_EXPORTER_OTLP_TIMEOUT")
            .unwrap_or(Duration::from_secs(10)),
    };
    let key = format!(
        "telemetry/opentelemetry {collector:?} {common:?} {}",
        shared.key
    );
    let settings = settings(collector, shared, environment);
    let tls = collector.secure.then(|| trust(environment));
    let made = cx.try_carry_over(key, |tasks| {
        let transport = transport(collector, common, tls)?;
        let exporter = Arc::new(Exporter::new(settings, transport));
        let starting = Arc::clone(&exporter);
        tasks.push(Task::opening("otlp", move || starting.start()));
        Ok::<_, String>(exporter)
    });
    made.map_err(|reason| node.invalid(reason)).ok()
}

fn settings(collector: &Collector, shared: &Shared<'_>, environment: &Environment) -> Settings {
    let period = collector.period.unwrap_or(shared.period);
    Settings {
        name: collector.name.as_str().into(),
        traces: collector.traces,
        metrics: collector.metrics.then(|| Arc::clone(shared.store)),
        period,
        delay: environment::millis(environment, "OTEL_BSP_SCHEDULE_DELAY")
            .unwrap_or(Duration::from_secs(5)),
        batch: environment::count(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
            .unwrap_or(512)
            .min(8192),
        queue: environment::count(environment, "OTEL_BSP_MAX_QUEUE_SIZE")
            .unwrap_or(2048)
            .min(65_536),
        longest_value: environment::longest_value(environment),
        resource: Arc::clone(shared.resource),
    }
}

fn trust(environment: &Environment) -> SideTls {
    let path = |name| environment::text(environment, name).map(PathBuf::from);
    let own = path("OTEL_EXPORTER_OTLP_CERTIFICATE");
    let certificate = path("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
    let key = path("OTEL_EXPORTER_OTLP_CLIENT_KEY");
    SideTls {
        ca_certs: own.into_iter().collect(),
        client_cert: certificate
            .zip(key)
            .map(|(certificate, private_key)| CertificatePair {
                certificate,
                private_key,
            }),
        ..SideTls::default()
    }
}

fn transport(
    collector: &Collector,
    common: Common,
    tls: Option<SideTls>,
) -> Result<Arc<dyn Transport>, String> {
    if !collector.over_http {
        let client = GrpcClient::new(&collector.host, collector.port, tls.as_ref());
        return Ok(Arc::new(OverGrpc {
            client: client.map_err(|error| error.to_string())?,
            common,
        }));
    }
    let client = SideClient::without_redirects(&tls.unwrap_or_default(), &OUR_USER_AGENT);
    Ok(Arc::new(OverHttp {
        client: client.map_err(|error| error.to_string())?,
        urls: [collector.url("/v1/traces"), collector.url("/v1/metrics")],
        common,
    }))
}
