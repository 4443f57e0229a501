//! The rules, with KrakenD's ids, and their conditions.

use std::time::Duration;

use crate::config::{Endpoint, Extra, Node, Service, Typing};
use crate::ext::registry;
use crate::ext::unsupported::unsupported;

/// The timeout of endpoints without a `timeout`, in a configuration without one.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// The severity of a recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Critical,
    High,
    Medium,
    Low,
}

impl Level {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Level::Critical => "CRITICAL",
            Level::High => "HIGH",
            Level::Medium => "MEDIUM",
            Level::Low => "LOW",
        }
    }
}

pub(super) struct Rule {
    pub(super) id: &'static str,
    pub(super) level: Level,
    pub(super) message: &'static str,
    pub(super) raised: fn(&Service<'_>) -> bool,
}

const fn rule(
    id: &'static str,
    level: Level,
    message: &'static str,
    raised: fn(&Service<'_>) -> bool,
) -> Rule {
    Rule {
        id,
        level,
        message,
        raised,
    }
}

pub(super) const RULES: &[Rule] = &[
    rule(
        "1.1.1",
        Level::High,
        "Basic authentication is in use: prefer tokens.",
        |file| anywhere(file, "auth/basic"),
    ),
    rule(
        "1.1.2",
        Level::Medium,
        "API keys are in use: prefer tokens.",
        |file| anywhere(file, "auth/api-keys"),
    ),
    rule(
        "1.2.1",
        Level::High,
        "No endpoint validates tokens (\"auth/validator\").",
        |file| {
            !file
                .endpoints
                .iter()
                .any(|endpoint| has(&endpoint.extra, "auth/validator"))
        },
    ),
    rule(
        "2.1.1",
        Level::High,
        "\"allow_insecure_connections\" accepts any certificate of a backend.",
        |file| {
            file.allow_insecure_connections
                || file
                    .client_tls
                    .as_ref()
                    .is_some_and(|tls| tls.allow_insecure_connections)
        },
    ),
    rule(
        "2.1.2",
        Level::High,
        "No \"tls\": unless a proxy in front terminates TLS, clients send clear text.",
        |file| file.tls.is_none(),
    ),
    rule(
        "2.1.3",
        Level::Critical,
        "\"tls\" is configured but disabled.",
        |file| file.tls.as_ref().is_some_and(|tls| tls.disabled),
    ),
    rule(
        "2.1.7",
        Level::High,
        "No security headers (\"security/http\").",
        |file| !has(&file.extra, "security/http"),
    ),
    rule(
        "2.1.8",
        Level::High,
        "\"use_h2c\" offers HTTP/2 in clear text.",
        |file| file.use_h2c || switched_on(&file.extra, "router", "use_h2c"),
    ),
    rule(
        "2.1.9",
        Level::Low,
        "The client of a backend accepts any certificate.",
        |file| backends(file).any(insecure_client),
    ),
    rule(
        "2.2.1",
        Level::Medium,
        "Responses contain the version: set \"hide_version_header\" in \"router\".",
        |file| !switched_on(&file.extra, "router", "hide_version_header"),
    ),
    rule(
        "2.2.2",
        Level::High,
        "No cross-origin rules (\"security/cors\").",
        |file| !has(&file.extra, "security/cors"),
    ),
    rule(
        "2.2.3",
        Level::High,
        "\"input_headers\" with \"*\" passes every header on: name those that are needed.",
        |file| {
            file.endpoints
                .iter()
                .any(|endpoint| star(&endpoint.input_headers))
        },
    ),
    rule(
        "2.2.4",
        Level::High,
        "\"input_query_strings\" with \"*\" passes every parameter on: name those that are needed.",
        |file| {
            file.endpoints
                .iter()
                .any(|endpoint| star(&endpoint.input_query_strings))
        },
    ),
    rule(
        "2.3.1",
        Level::Medium,
        "A response cache has no limit: set both \"max_size\" and \"max_items\".",
        |file| {
            backends(file)
                .filter_map(|extra| find(extra, "qos/http-cache"))
                .any(|cache| {
                    ["max_size", "max_items"]
                        .iter()
                        .any(|bound| count(&cache, bound) == 0)
                })
        },
    ),
    rule(
        "3.1.1",
        Level::Low,
        "No bot detector for the whole service (\"security/bot-detector\").",
        |file| !has(&file.extra, "security/bot-detector"),
    ),
    rule(
        "3.1.2",
        Level::High,
        "Nothing limits rates (\"qos/ratelimit/router\", \"qos/ratelimit/proxy\").",
        |file| !anywhere(file, "qos/ratelimit/router") && !anywhere(file, "qos/ratelimit/proxy"),
    ),
    rule(
        "3.1.3",
        Level::High,
        "No circuit breaker (\"qos/circuit-breaker\").",
        |file| !anywhere(file, "qos/circuit-breaker"),
    ),
    rule(
        "3.3.1",
        Level::Low,
        "An endpoint may take more than 3 seconds.",
        |file| slower_than(file, 3),
    ),
    rule(
        "3.3.2",
        Level::Medium,
        "An endpoint may take more than 5 seconds.",
        |file| slower_than(file, 5),
    ),
    rule(
        "3.3.3",
        Level::High,
        "An endpoint may take more than 30 seconds.",
        |file| slower_than(file, 30),
    ),
    rule(
        "3.3.4",
        Level::Critical,
        "An endpoint may take more than a minute.",
        |file| slower_than(file, 60),
    ),
    rule(
        "4.1.1",
        Level::Medium,
        "No metrics (\"portcullis/metrics\" or \"telemetry/metrics\").",
        |file| !has(&file.extra, "portcullis/metrics") && !has(&file.extra, "telemetry/metrics"),
    ),
    rule(
        "4.3.1",
        Level::Medium,
        "The log is not set up (\"telemetry/logging\").",
        |file| !has(&file.extra, "telemetry/logging") && !has(&file.extra, "telemetry/logstash"),
    ),
    rule(
        "5.1.1",
        Level::Low,
        "\"disable_rest\" allows paths that are not RESTful.",
        |file| file.disable_rest,
    ),
    rule("5.1.2", Level::Low, "The debug endpoint is on.", |file| {
        file.debug_endpoint
    }),
    rule("5.1.3", Level::Low, "The echo endpoint is on.", |file| {
        file.echo_endpoint
    }),
    rule(
        "5.1.4",
        Level::Low,
        "An endpoint matches any path below its own.",
        |file| path(file, |path| path.ends_with("/*")),
    ),
    rule(
        "5.1.5",
        Level::Medium,
        "\"/__catchall\" serves every path without an endpoint.",
        |file| path(file, |path| path == "/__catchall"),
    ),
    rule(
        "5.1.6",
        Level::Medium,
        "An endpoint writes to more than one backend: after a failure, only some of them are changed.",
        |file| file.endpoints.iter().any(|endpoint| writes(endpoint) > 1),
    ),
    rule(
        "5.1.7",
        Level::Medium,
        "Chained calls (\"sequential\") wait for one another.",
        |file| {
            file.endpoints
                .iter()
                .any(|endpoint| switched_on(&endpoint.extra, "proxy", "sequential"))
        },
    ),
    rule(
        "5.2.1",
        Level::Critical,
        "An endpoint has no backend.",
        |file| {
            file.endpoints
                .iter()
                .any(|endpoint| endpoint.backend.is_empty())
        },
    ),
    rule(
        "5.2.2",
        Level::Low,
        "No endpoint merges several backends.",
        |file| {
            !file
                .endpoints
                .iter()
                .any(|endpoint| endpoint.backend.len() > 1)
        },
    ),
    rule(
        "5.2.3",
        Level::Low,
        "Every endpoint is \"no-op\".",
        |file| {
            !file.endpoints.is_empty()
                && file.endpoints.iter().all(|endpoint| {
                    endpoint
                        .output_encoding
                        .as_ref()
                        .or(file.output_encoding.as_ref())
                        .is_some_and(|name| name == "no-op")
                })
        },
    ),
    rule(
        "7.2.1",
        Level::High,
        "\"telemetry/ganalytics\" is deprecated.",
        |file| has(&file.extra, "telemetry/ganalytics"),
    ),
    rule(
        "7.2.2",
        Level::High,
        "\"telemetry/instana\" is deprecated.",
        |file| has(&file.extra, "telemetry/instana"),
    ),
    rule(
        "7.2.3",
        Level::High,
        "\"telemetry/opencensus\" is deprecated.",
        |file| has(&file.extra, "telemetry/opencensus"),
    ),
    rule(
        "7.2.4",
        Level::High,
        "\"telemetry/influx\" is deprecated.",
        |file| has(&file.extra, "telemetry/influx"),
    ),
    rule(
        "7.3.1",
        Level::Medium,
        "\"public_key\" and \"private_key\" of \"tls\" are deprecated: use \"keys\".",
        |file| {
            file.tls
                .as_ref()
                .is_some_and(|tls| tls.block.has("public_key") || tls.block.has("private_key"))
        },
    ),
];

/// The block of a namespace, under any of its names.
fn find<'a>(extra: &Extra<'a>, name: &str) -> Option<Node<'a>> {
    let service = registry::SERVICE
        .iter()
        .map(|known| (known.namespace, known.aliases));
    let endpoint = registry::ENDPOINT
        .iter()
        .map(|known| (known.namespace, known.aliases));
    let backend = registry::BACKEND
        .iter()
        .map(|known| (known.namespace, known.aliases));
    let other = unsupported(name).map(|known| (known.namespace, known.aliases));
    let known = service.chain(endpoint).chain(backend).chain(other);
    let aliases = known
        .filter(|(namespace, _)| *namespace == name)
        .map(|(_, aliases)| aliases)
        .next();
    extra.find(name, aliases.unwrap_or_default())
}

fn has(extra: &Extra<'_>, name: &str) -> bool {
    find(extra, name).is_some()
}

/// Whether the service, an endpoint or a backend has the namespace.
fn anywhere(file: &Service<'_>, name: &str) -> bool {
    has(&file.extra, name)
        || file
            .endpoints
            .iter()
            .any(|endpoint| has(&endpoint.extra, name))
        || backends(file).any(|extra| has(extra, name))
}

fn backends<'f, 'a>(file: &'f Service<'a>) -> impl Iterator<Item = &'f Extra<'a>> {
    file.endpoints
        .iter()
        .flat_map(|endpoint| &endpoint.backend)
        .map(|backend| &backend.extra)
}

fn switched_on(extra: &Extra<'_>, namespace: &str, key: &str) -> bool {
    find(extra, namespace)
        .and_then(|block| block.get(key))
        .and_then(|on| on.bool(Typing::Weak))
        .unwrap_or(false)
}

fn count(block: &Node<'_>, key: &str) -> u64 {
    block
        .get(key)
        .and_then(|node| node.count(Typing::Weak))
        .unwrap_or(0)
}

fn insecure_client(extra: &Extra<'_>) -> bool {
    let tls = find(extra, "backend/http/client").and_then(|client| client.get("client_tls"));
    tls.and_then(|tls| tls.get("allow_insecure_connections"))
        .and_then(|on| on.bool(Typing::Weak))
        .unwrap_or(false)
}

fn star(names: &[String]) -> bool {
    names.iter().any(|name| name == "*")
}

fn path(file: &Service<'_>, fits: fn(&str) -> bool) -> bool {
    file.endpoints
        .iter()
        .filter_map(|endpoint| endpoint.endpoint.as_deref())
        .any(fits)
}

fn slower_than(file: &Service<'_>, seconds: u64) -> bool {
    let usual = file.timeout.unwrap_or(DEFAULT_TIMEOUT);
    let limit = Duration::from_secs(seconds);
    file.endpoints
        .iter()
        .any(|endpoint| endpoint.timeout.unwrap_or(usual) > limit)
}

/// The number of backends of an endpoint that are called with a method that writes.
fn writes(endpoint: &Endpoint<'_>) -> usize {
    let usual = endpoint.method.as_deref().unwrap_or("GET");
    let method = |own: &Option<String>| own.as_deref().unwrap_or(usual).to_ascii_uppercase();
    let writing = |method: String| matches!(method.as_str(), "POST" | "PUT" | "PATCH" | "DELETE");
    endpoint
        .backend
        .iter()
        .filter(|backend| writing(method(&backend.method)))
        .count()
}
