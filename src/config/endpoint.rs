//! One entry of `endpoints`.

use std::time::Duration;

use super::backend::{BACKEND, Backend};
use super::block::Block;
use super::extra_config::Extra;
use super::key::{Key, Kind, key};
use super::service::filled;

/// The accepted values of `output_encoding`.
pub(crate) const OUTPUT_ENCODINGS: &[&str] = &[
    "json",
    "fast-json",
    "json-collection",
    "xml",
    "yaml",
    "string",
    "negotiate",
    "no-op",
];

/// The methods of endpoints.
pub(crate) const METHODS: &[&str] = &[
    "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "QUERY",
];

/// The keys of an endpoint.
pub(crate) const ENDPOINT: &[Key] = &[
    key(
        "endpoint",
        Kind::Text,
        "/",
        "The path, with parameters as `{name}`. `/*` at its end matches every path below.",
    ),
    key(
        "method",
        Kind::Text,
        "GET",
        "GET, POST, PUT, PATCH or DELETE; ours: HEAD, OPTIONS and QUERY.",
    )
    .in_any_case(METHODS),
    key(
        "backend",
        Kind::Blocks(BACKEND),
        "",
        "The calls from which the response is composed; at least one.",
    ),
    key(
        "timeout",
        Kind::Duration,
        "the service's",
        "Deadline of the whole request.",
    ),
    key(
        "cache_ttl",
        Kind::Duration,
        "the service's",
        "`max-age` of complete responses.",
    ),
    key(
        "concurrent_calls",
        Kind::Integer,
        "1",
        "Send each call this many times and use the first successful response.",
    ),
    key(
        "input_headers",
        Kind::Texts,
        "[]",
        "Request headers that are passed on; `*` for all.",
    ),
    key(
        "input_query_strings",
        Kind::Texts,
        "[]",
        "Query parameters that are passed on; `*` for all.",
    ),
    key(
        "output_encoding",
        Kind::Text,
        "the service's",
        "`json`, `fast-json`, `json-collection`, `xml`, `yaml`, `string`, `negotiate` or `no-op`.",
    )
    .one_of(OUTPUT_ENCODINGS),
    key(
        "extra_config",
        Kind::Object,
        "",
        "Namespaces of the endpoint.",
    ),
    key(
        "headers_to_pass",
        Kind::Leftover,
        "",
        "write \"input_headers\" instead",
    ),
    key(
        "querystring_params",
        Kind::Leftover,
        "",
        "write \"input_query_strings\" instead",
    ),
    key(
        "max_rate",
        Kind::Leftover,
        "",
        "write \"extra_config\": {\"qos/ratelimit/router\": {\"max_rate\": …}} instead",
    ),
    key(
        "client_max_rate",
        Kind::Leftover,
        "",
        "write \"extra_config\": {\"qos/ratelimit/router\": {\"client_max_rate\": …}} instead",
    ),
    key(
        "cookie_keys",
        Kind::Leftover,
        "",
        "write \"input_headers\": [\"Cookie\"] to pass cookies on; \"cookie_key\" of \"auth/validator\" names the \
         cookie with the token",
    ),
];

/// An endpoint as configured.
#[derive(Debug)]
pub struct Endpoint<'a> {
    /// For errors that are found during compilation.
    pub block: Block<'a>,
    pub endpoint: Option<String>,
    pub method: Option<String>,
    pub backend: Vec<Backend<'a>>,
    pub timeout: Option<Duration>,
    pub cache_ttl: Option<Duration>,
    pub concurrent_calls: Option<i64>,
    pub input_headers: Vec<String>,
    pub input_query_strings: Vec<String>,
    pub output_encoding: Option<String>,
    pub extra: Extra<'a>,
}

impl<'a> Endpoint<'a> {
    pub fn read(block: Block<'a>) -> Endpoint<'a> {
        Endpoint {
            endpoint: block.string("endpoint"),
            method: filled(&block, "method"),
            backend: block
                .blocks("backend")
                .into_iter()
                .map(Backend::read)
                .collect(),
            timeout: block.set_duration("timeout"),
            cache_ttl: block.set_duration("cache_ttl"),
            concurrent_calls: block.integer("concurrent_calls"),
            input_headers: block.texts("input_headers"),
            input_query_strings: block.texts("input_query_strings"),
            output_encoding: filled(&block, "output_encoding"),
            extra: Extra::read(&block),
            block,
        }
    }
}
