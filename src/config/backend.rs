//! One entry of an endpoint's `backend` list.

use super::block::Block;
use super::endpoint::METHODS;
use super::extra_config::Extra;
use super::key::{Key, Kind, key};
use super::node::Node;
use super::service::{filled, texts};

pub(super) const HOST_DOC: &str = "Hosts as `http://name:port`, called in turn. Backends without a list use the service's list. Without hosts, every call fails.";

/// The accepted values of `encoding`, in any letter case.
pub(crate) const ENCODINGS: &[&str] = &[
    "json",
    "safejson",
    "xml",
    "rss",
    "yaml",
    "string",
    "no-op",
    "fast-json",
];

/// The keys of a backend.
pub(crate) const BACKEND: &[Key] = &[
    key("host", Kind::Texts, "the service's", HOST_DOC),
    key(
        "disable_host_sanitize",
        Kind::Bool,
        "false",
        "Use the `host` values unchanged.",
    ),
    key(
        "url_pattern",
        Kind::Text,
        "/",
        "Path and query of the call, with `{name}` for the endpoint's parameters, `{JWT.claim}`, and `{resp0_field}` in sequences.",
    ),
    key("method", Kind::Text, "the endpoint's", "Any method.").such_as(METHODS),
    key(
        "encoding",
        Kind::Text,
        "json",
        "`json`, `safejson`, `xml`, `rss`, `yaml`, `string` or `no-op`.",
    )
    .in_any_case(ENCODINGS),
    key(
        "is_collection",
        Kind::Bool,
        "false",
        "The response is a list, which is put under `collection`.",
    ),
    key(
        "target",
        Kind::Text,
        "",
        "Keep only the value at this dotted path.",
    ),
    key("allow", Kind::Texts, "[]", "Keep only these dotted paths."),
    key("deny", Kind::Texts, "[]", "Remove these dotted paths."),
    key(
        "mapping",
        Kind::TextMap,
        "",
        "Rename members of the first level.",
    ),
    key(
        "group",
        Kind::Text,
        "",
        "Put the complete response under this name.",
    ),
    key(
        "sd",
        Kind::Text,
        "static",
        "`static`, or `dns` for SRV records; `dns-shared` is the same as `dns`.",
    )
    .one_of(&["static", "dns", "dns-shared"]),
    key(
        "sd_scheme",
        Kind::Text,
        "http",
        "Scheme of hosts found by `sd: dns`.",
    )
    .such_as(&["http", "https"]),
    key(
        "input_headers",
        Kind::Texts,
        "no filter",
        "A second filter for all headers that would be sent.",
    ),
    key(
        "input_query_strings",
        Kind::Texts,
        "no filter",
        "A second filter for the query parameters.",
    ),
    key(
        "extra_config",
        Kind::Object,
        "",
        "Namespaces of the backend.",
    ),
    key("whitelist", Kind::Leftover, "", "write \"allow\" instead"),
    key("blacklist", Kind::Leftover, "", "write \"deny\" instead"),
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
        "timeout",
        Kind::Leftover,
        "",
        "a backend has the endpoint's timeout",
    ),
    key(
        "concurrent_calls",
        Kind::Leftover,
        "",
        "write it in the endpoint",
    ),
    key("cache_ttl", Kind::Leftover, "", "write it in the endpoint"),
    key(
        "max_rate",
        Kind::Leftover,
        "",
        "write \"extra_config\": {\"qos/ratelimit/proxy\": {\"max_rate\": …}} instead",
    ),
];

/// A backend as configured.
#[derive(Debug)]
pub struct Backend<'a> {
    /// For errors that are found during compilation.
    pub block: Block<'a>,
    /// Empty uses the service's own list.
    pub host: Vec<Node<'a>>,
    pub disable_host_sanitize: bool,
    pub url_pattern: Option<String>,
    pub method: Option<String>,
    pub encoding: Option<String>,
    pub is_collection: bool,
    pub target: Option<String>,
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    pub mapping: Vec<(String, String)>,
    pub group: Option<String>,
    pub sd: Option<String>,
    pub sd_scheme: Option<String>,
    pub input_headers: Vec<String>,
    pub input_query_strings: Vec<String>,
    pub extra: Extra<'a>,
}

impl<'a> Backend<'a> {
    pub fn read(block: Block<'a>) -> Backend<'a> {
        Backend {
            host: texts(&block, "host"),
            disable_host_sanitize: block.flag("disable_host_sanitize"),
            url_pattern: block.string("url_pattern"),
            method: filled(&block, "method"),
            encoding: filled(&block, "encoding"),
            is_collection: block.flag("is_collection"),
            target: filled(&block, "target"),
            allow: block.texts("allow"),
            deny: block.texts("deny"),
            mapping: block.text_map("mapping"),
            group: filled(&block, "group"),
            sd: filled(&block, "sd"),
            sd_scheme: filled(&block, "sd_scheme"),
            input_headers: block.texts("input_headers"),
            input_query_strings: block.texts("input_query_strings"),
            extra: Extra::read(&block),
            block,
        }
    }
}
