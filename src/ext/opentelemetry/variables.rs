//! Warnings about `OTEL_…` variables that have no effect, or a value that cannot be read.

use super::environment::text;
use crate::config::{ConfigError, Environment, Node};

/// Numbers, the least possible one, and what applies in place of one that cannot be read.
const NUMBERS: [(&str, u64, &str); 7] = [
    ("OTEL_BSP_SCHEDULE_DELAY", 1, "5000"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1, "512"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", 1, "2048"),
    ("OTEL_METRIC_EXPORT_INTERVAL", 1, "the usual period"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", 1, "10000"),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", 0, "8192"),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", 0, "8192"),
];

/// Words, the known ones, and what applies in place of another one.
const WORDS: [(&str, &[&str], &str); 7] = [
    ("OTEL_SDK_DISABLED", &["true", "false"], "false"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", &["gzip", "none"], "gzip"),
    (
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        &["grpc", "http/protobuf"],
        "http/protobuf",
    ),
    (
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        &["cumulative"],
        "cumulative",
    ),
    (
        "OTEL_METRICS_EXEMPLAR_FILTER",
        &["always_on", "always_off", "trace_based"],
        "trace_based",
    ),
    (
        "OTEL_TRACES_EXPORTER",
        &["otlp"],
        "the exporters of the file",
    ),
    (
        "OTEL_METRICS_EXPORTER",
        &["otlp", "prometheus"],
        "the exporters of the file",
    ),
];

/// Variables of the specification that have no effect.
const UNUSED: [&str; 9] = [
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_CONFIG_FILE",
    "OTEL_EXPORTER_OTLP_INSECURE",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
    "OTEL_METRIC_EXPORT_TIMEOUT",
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
];

/// The settings of an exporter that the specification also has for a single signal. They have no effect here.
const OF_A_SIGNAL: [&str; 8] = [
    "ENDPOINT",
    "PROTOCOL",
    "HEADERS",
    "TIMEOUT",
    "COMPRESSION",
    "CERTIFICATE",
    "CLIENT_CERTIFICATE",
    "CLIENT_KEY",
];

/// Warns about each of these variables, at the block that they belong to.
pub(super) fn check(environment: &Environment, node: &Node<'_>) {
    check_numbers(environment, node);
    check_words(environment, node);
    let endpoint = text(environment, "OTEL_EXPORTER_OTLP_ENDPOINT");
    let has_host = |url: &str| url.parse().is_ok_and(|uri: http::Uri| uri.host().is_some());
    if endpoint.is_some_and(|endpoint| !has_host(endpoint)) {
        node.warn_hint(
            ConfigError::invalid("OTEL_EXPORTER_OTLP_ENDPOINT is not a URL"),
            "http://collector:4318",
        );
    }
    check_unused(environment, node);
}

fn check_numbers(environment: &Environment, node: &Node<'_>) {
    for (name, least, usual) in NUMBERS {
        let Some(written) = text(environment, name) else {
            continue;
        };
        if !written.parse().is_ok_and(|number: u64| number >= least) {
            node.warn_hint(
                ConfigError::invalid(format!("{name} is not a number of at least {least}")),
                format!("{usual} applies"),
            );
        }
    }
}

fn check_words(environment: &Environment, node: &Node<'_>) {
    for (name, known, usual) in WORDS {
        let Some(written) = text(environment, name) else {
            continue;
        };
        if !known
            .iter()
            .any(|known| known.eq_ignore_ascii_case(written))
        {
            let known = known.join(", ");
            node.warn_hint(
                ConfigError::invalid(format!("{name} has a value other than {known}")),
                format!("{usual} applies"),
            );
        }
    }
}

fn check_unused(environment: &Environment, node: &Node<'_>) {
    let of_signals = ["TRACES", "METRICS"].into_iter().flat_map(|signal| {
        let named = move |what: &&str| format!("OTEL_EXPORTER_OTLP_{signal}_{what}");
        OF_A_SIGNAL.iter().map(named)
    });
    let unused = UNUSED.into_iter().map(str::to_owned).chain(of_signals);
    for name in unused.filter(|name| text(environment, name).is_some()) {
        node.warn_hint(
            ConfigError::invalid(format!("{name} has no effect")),
            "docs/observability.md lists the variables that have one",
        );
    }
}
