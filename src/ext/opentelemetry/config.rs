//! The blocks as the file has them.

use crate::config::{Key, Kind, key};

const GLOBAL_DOC: &str = "Requests of clients.";

/// `telemetry/opentelemetry` of the service.
pub(super) const KEYS: &[Key] = &[
    key(
        "service_name",
        Kind::Text,
        "the file's name, else KrakenD",
        "`service.name` of everything that is sent.",
    ),
    key(
        "service_version",
        Kind::Text,
        "the gateway's",
        "`service.version` of everything that is sent.",
    ),
    key(
        "deploy_env",
        Kind::Text,
        "",
        "`deployment.environment` of everything that is sent.",
    ),
    key(
        "metric_reporting_period",
        Kind::Integer,
        "30",
        "Seconds between two pushes of metrics to collectors.",
    ),
    key(
        "trace_sample_rate",
        Kind::Number,
        "1",
        "The share of requests that is traced, 0 to 1, if the client has not already decided. 0 traces none.",
    ),
    key(
        "skip_paths",
        Kind::Texts,
        "health path, /__debug/, /__echo/, /__stats/",
        "Paths and patterns of endpoints that are not reported; `/a/` means everything below it.",
    ),
    key(
        "exporters",
        Kind::Block(EXPORTERS),
        "",
        "Where the data is sent.",
    ),
    key(
        "layers",
        Kind::Block(LAYERS),
        "everything on",
        "The layers that are reported.",
    ),
    key(
        "histograms",
        Kind::Block(HISTOGRAMS),
        "",
        "Upper bounds of the buckets.",
    ),
    key(
        "max_series",
        Kind::Integer,
        "100000",
        "Ours: how many time series there can be, from 1000; each bucket of a histogram is one. The others are counted together (`otel_metric_overflow=\"true\"`).",
    ),
    key(
        "propagators",
        Kind::Texts,
        "[\"tracecontext\"]",
        "Ours: the header formats of trace contexts: `tracecontext`, `b3`, `b3multi`, `jaeger`, `baggage`. The environment variable `OTEL_PROPAGATORS` does the same.",
    )
    .such_as(&["tracecontext", "b3", "b3multi", "jaeger", "baggage"]),
    key(
        "propagate_baggage",
        Kind::Bool,
        "false",
        "Ours: pass the client's `baggage` on to backends, regardless of `input_headers`.",
    ),
    key(
        "disable_injection",
        Kind::Bool,
        "false",
        "Ours: send no trace context to backends.",
    ),
    key(
        "trust_incoming",
        Kind::Choice(&["always", "trusted_proxies", "never"]),
        "always",
        "Ours: whose trace context is continued. The trace context of others becomes a link.",
    ),
];

const EXPORTERS: &[Key] = &[
    key(
        "prometheus",
        Kind::Blocks(PROMETHEUS),
        "",
        "Pages at `/metrics` with KrakenD's names.",
    ),
    key("otlp", Kind::Blocks(OTLP), "", "Collectors."),
];

const PROMETHEUS: &[Key] = &[
    key(
        "name",
        Kind::Text,
        "",
        "Must be unique among all exporters.",
    ),
    key("port", Kind::Integer, "9090", "The port of the page."),
    key("host", Kind::Text, "127.0.0.1", "The address to listen on."),
    key("listen_ip", Kind::Text, "127.0.0.1", "The same."),
    key(
        "process_metrics",
        Kind::Bool,
        "false",
        "Add CPU, memory and file descriptors of the process.",
    ),
    key(
        "go_metrics",
        Kind::Bool,
        "false",
        "No effect, because there is no Go runtime.",
    ),
    key("disable_metrics", Kind::Bool, "false", "No page."),
    key(
        "custom_metric_reporting_period",
        Kind::Integer,
        "",
        "No effect: a page always shows the current values.",
    ),
];

const OTLP: &[Key] = &[
    key(
        "name",
        Kind::Text,
        "",
        "Must be unique among all exporters.",
    ),
    key(
        "host",
        Kind::Text,
        "localhost",
        "Name or address. With `https://` before it, TLS is used.",
    ),
    key(
        "port",
        Kind::Integer,
        "4317; 4318 with use_http",
        "The collector's port.",
    ),
    key(
        "use_http",
        Kind::Bool,
        "false",
        "Send Protobuf over HTTP instead of gRPC.",
    ),
    key(
        "disable_metrics",
        Kind::Bool,
        "false",
        "Send no metrics to it.",
    ),
    key(
        "disable_traces",
        Kind::Bool,
        "false",
        "Send no traces to it.",
    ),
    key(
        "custom_metric_reporting_period",
        Kind::Integer,
        "",
        "Seconds between two pushes to this collector.",
    ),
];

const HISTOGRAMS: &[Key] = &[
    key(
        "time_buckets",
        Kind::List,
        "KrakenD's 20",
        "In seconds, in ascending order.",
    ),
    key(
        "size_buckets",
        Kind::List,
        "KrakenD's 15",
        "In bytes, in ascending order.",
    ),
];

const LAYERS: &[Key] = &[
    key("global", Kind::Block(GLOBAL), "", GLOBAL_DOC),
    key("proxy", Kind::Block(PROXY), "", "The work of endpoints."),
    key("backend", Kind::Block(BACKEND), "", "Calls to backends."),
];

/// Keys of `global`.
const GLOBAL: &[Key] = &[
    key("disable_metrics", Kind::Bool, "false", "No metrics."),
    key("disable_traces", Kind::Bool, "false", "No spans."),
    key(
        "disable_propagation",
        Kind::Bool,
        "false",
        "Do not read the client's trace context.",
    ),
    REPORT_HEADERS,
    SKIP_HEADERS,
    key(
        "metrics_static_attributes",
        Kind::Blocks(ATTRIBUTE),
        "",
        "Added to each series.",
    ),
    key(
        "traces_static_attributes",
        Kind::Blocks(ATTRIBUTE),
        "",
        "Added to each span.",
    ),
    key(
        "semantic_convention",
        Kind::Text,
        "",
        "Names of series and spans: KrakenD's, `1.27`, or `stable` for OpenTelemetry's stable HTTP conventions.",
    ),
];

/// Keys of `proxy`.
pub(super) const PROXY: &[Key] = &[
    key("disable_metrics", Kind::Bool, "false", "No metrics."),
    key("disable_traces", Kind::Bool, "false", "No spans."),
    REPORT_HEADERS,
    SKIP_HEADERS,
    key(
        "metrics_static_attributes",
        Kind::Blocks(ATTRIBUTE),
        "",
        "Added to each series.",
    ),
    key(
        "traces_static_attributes",
        Kind::Blocks(ATTRIBUTE),
        "",
        "Added to each span.",
    ),
];

/// Keys of `backend`.
pub(super) const BACKEND: &[Key] = &[
    key(
        "metrics",
        Kind::Block(PARTS),
        "everything on",
        "What is counted. Keys that are missing here are off.",
    ),
    key(
        "traces",
        Kind::Block(PARTS),
        "everything on",
        "Which spans are recorded. Keys that are missing here are off.",
    ),
];

/// Keys of `backend.metrics` and `backend.traces`.
pub(super) const PARTS: &[Key] = &[
    key(
        "disable_stage",
        Kind::Bool,
        "false",
        "Leave out the call as a whole.",
    ),
    key("round_trip", Kind::Bool, "false", "Each round trip."),
    key(
        "read_payload",
        Kind::Bool,
        "false",
        "Reading responses; includes `round_trip`.",
    ),
    key(
        "detailed_connection",
        Kind::Bool,
        "false",
        "How long connections and TLS took.",
    ),
    key("static_attributes", Kind::Blocks(ATTRIBUTE), "", "Added."),
    REPORT_HEADERS,
    SKIP_HEADERS,
];

const REPORT_HEADERS: Key = key(
    "report_headers",
    Kind::Bool,
    "false",
    "Show headers in spans. Credentials and cookies are masked.",
);
const SKIP_HEADERS: Key = key(
    "skip_headers",
    Kind::Texts,
    "[]",
    "Headers that are not shown.",
);

const ATTRIBUTE: &[Key] = &[
    key("key", Kind::Text, "", "Its name."),
    key("value", Kind::Text, "", "Its value."),
];

/// `telemetry/opentelemetry` of an endpoint.
pub(super) const ENDPOINT_KEYS: &[Key] = &[
    key(
        "global",
        Kind::Block(GLOBAL),
        "",
        "Only the static attributes count here; they are added to the service's.",
    ),
    key(
        "proxy",
        Kind::Block(PROXY),
        "",
        "Replaces the service's `layers.proxy`.",
    ),
    key(
        "backend",
        Kind::Block(BACKEND),
        "",
        "Replaces the service's `layers.backend` for all backends of the endpoint.",
    ),
    key(
        "exporters_override",
        Kind::Object,
        "",
        "Not supported: all exporters get the data.",
    ),
];

/// `telemetry/opentelemetry` of a backend.
pub(super) const BACKEND_KEYS: &[Key] = &[
    key(
        "backend",
        Kind::Block(BACKEND),
        "",
        "Replaces the service's `layers.backend`; a missing part is the service's.",
    ),
    key("global", Kind::Block(GLOBAL), "", "No effect here."),
    key("proxy", Kind::Block(PROXY), "", "No effect here."),
];

pub(super) const SECURITY_KEYS: &[Key] = &[key(
    "otlp",
    Kind::Blocks(SECURITY),
    "",
    "One entry per exporter.",
)];

const SECURITY: &[Key] = &[
    key("name", Kind::Text, "", "The name of the exporter."),
    key(
        "headers",
        Kind::TextMap,
        "",
        "Headers of every request to it, for example credentials.",
    ),
];
