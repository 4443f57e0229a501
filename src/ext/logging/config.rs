//! The blocks as configured.

use crate::config::{Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "level",
        Kind::Choice(&["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
        "",
        "Less important lines are not logged. Required; case-insensitive.",
    ),
    key("prefix", Kind::Text, "", "A text before each line."),
    key("stdout", Kind::Bool, "false", "Log to standard output."),
    key(
        "syslog",
        Kind::Bool,
        "false",
        "Log to the local syslog daemon.",
    ),
    key(
        "syslog_facility",
        Kind::Text,
        "local3",
        "`local0` to `local7`.",
    ),
    key(
        "format",
        Kind::Choice(&["default", "logstash", "custom"]),
        "default",
        "The format of a line.",
    ),
    key(
        "custom_format",
        Kind::Text,
        "",
        "The template of `custom`: `%{time} %{level} %{message}`. Ours: `%{requestid}` and `%{traceid}`.",
    ),
    key(
        "color",
        Kind::Choice(&["auto", "always", "never"]),
        "auto",
        "Ours: colour codes. `auto` means only on a terminal.",
    ),
    key(
        "access_log_format",
        Kind::Text,
        "KrakenD's line",
        "`default`, `httpdCommon`, `httpdCombined`, `json` or `custom`, as in KrakenD Enterprise. `portcullis/access-log` has a different JSON format.",
    )
    .one_of(&["default", "httpdCommon", "httpdCombined", "json", "custom"]),
    key(
        "access_log_custom_format",
        Kind::Text,
        "",
        "The pattern of `custom`: `%{clientIP} %{method} %{path} %{statusCode} %{header.X} %{jwt.sub}`. Ours: `%{requestID}` and `%{traceID}`.",
    ),
    key(
        "access_log_missing_key_marker",
        Kind::Text,
        "-",
        "The text for a missing value.",
    ),
    key(
        "backend",
        Kind::Leftover,
        "",
        "backend calls are not logged one by one",
    ),
];

pub(super) const ACCESS_KEYS: &[Key] = &[
    key(
        "format",
        Kind::Choice(&["gin", "json"]),
        "gin",
        "KrakenD's line, or one JSON object for each request.",
    ),
    key(
        "output",
        Kind::Text,
        "stdout",
        "`stdout`, `syslog`, or a path; SIGUSR1 reopens the file.",
    ),
    key(
        "query",
        Kind::Choice(&["keep", "drop"]),
        "keep",
        "Whether query strings are logged. The values of `access_token`, `token` and `jwt` never are.",
    ),
    key(
        "sample",
        Kind::Number,
        "1",
        "The share of requests that is logged, 0 to 1. Responses with status 500 and above are always logged.",
    ),
    key(
        "fields",
        Kind::Texts,
        "all",
        "The members of a JSON line, in this order: `time`, `client`, `method`, `scheme`, `host`, `path`, `query`, `protocol`, `status`, `grpc_status`, `duration_ms`, `bytes_in`, `bytes_out`, `endpoint`, `refused`, `request_id`, `user_agent`, `upstream`, `upstream_status`, `upstream_ms`, `trace_id`, `span_id`, `trace_flags`, `claim`, `errors`.",
    ),
    key(
        "claim",
        Kind::Text,
        "",
        "A claim of the verified token, for example `sub`, which a JSON line has under its own name.",
    ),
];

pub(super) const GELF_KEYS: &[Key] = &[
    key(
        "address",
        Kind::Text,
        "",
        "`host:port` of the collector. Required.",
    ),
    key(
        "enable_tcp",
        Kind::Bool,
        "false",
        "Use TCP instead of UDP. An unreachable collector does not delay requests: lines are dropped and counted.",
    ),
];

/// `telemetry/logging` as configured.
#[derive(Debug)]
pub(super) struct Logging {
    pub(super) level: Option<String>,
    pub(super) prefix: String,
    pub(super) stdout: bool,
    pub(super) syslog: bool,
    pub(super) syslog_facility: Option<String>,
    pub(super) format: Option<String>,
    pub(super) custom_format: String,
    pub(super) color: Option<&'static str>,
    pub(super) access_format: Option<String>,
    pub(super) access_custom: String,
    pub(super) access_missing: Option<String>,
}

impl Logging {
    pub(super) fn read(node: &Node<'_>) -> Option<Logging> {
        let block = node.block(KEYS)?;
        Some(Logging {
            level: block.string("level"),
            prefix: block.string("prefix").unwrap_or_default(),
            stdout: block.flag("stdout"),
            syslog: block.flag("syslog"),
            syslog_facility: block.string("syslog_facility"),
            format: block.string("format"),
            custom_format: block.string("custom_format").unwrap_or_default(),
            color: block.choice("color"),
            access_format: block
                .string("access_log_format")
                .filter(|name| !name.is_empty()),
            access_custom: block.string("access_log_custom_format").unwrap_or_default(),
            access_missing: block.string("access_log_missing_key_marker"),
        })
    }
}

/// `portcullis/access-log` as configured.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) format: Option<&'static str>,
    pub(super) output: Option<String>,
    pub(super) query: Option<&'static str>,
    pub(super) sample: Option<f64>,
    pub(super) claim: Option<String>,
}

impl Access {
    pub(super) fn read(node: &Node<'_>) -> Option<Access> {
        let block = node.block(ACCESS_KEYS)?;
        Some(Access {
            format: block.choice("format"),
            output: block.string("output"),
            query: block.choice("query"),
            sample: block.number("sample"),
            claim: block.string("claim").filter(|claim| !claim.is_empty()),
        })
    }
}
