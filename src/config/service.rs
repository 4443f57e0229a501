//! The root of the configuration.

use std::time::Duration;

use super::agent::{AGENT, Agent};
use super::backend::HOST_DOC;
use super::block::Block;
use super::endpoint::{ENDPOINT, Endpoint, OUTPUT_ENCODINGS};
use super::extra_config::Extra;
use super::key::{Key, Kind, key};
use super::node::{Node, Typing};
use super::tls::{CLIENT_TLS, ClientTls, TLS, Tls};

/// The keys of the root.
pub(crate) const SERVICE: &[Key] = &[
    key(
        "version",
        Kind::Integer,
        "",
        "Version of the file format: 3, or 4 as KrakenD 3.0 writes it. Required.",
    ),
    key("name", Kind::Text, "", "A label for logs and metrics."),
    key(
        "port",
        Kind::Integer,
        "8080",
        "The port on which the gateway listens.",
    ),
    key(
        "listen_ip",
        Kind::Text,
        "all addresses",
        "The IPv4 or IPv6 address to listen on.",
    ),
    key("host", Kind::Texts, "", HOST_DOC),
    key(
        "timeout",
        Kind::Duration,
        "2s",
        "Default `timeout` of endpoints.",
    ),
    key(
        "cache_ttl",
        Kind::Duration,
        "0s",
        "Default `cache_ttl` of endpoints.",
    ),
    key(
        "output_encoding",
        Kind::Text,
        "json",
        "Default `output_encoding` of endpoints.",
    )
    .one_of(OUTPUT_ENCODINGS),
    key(
        "debug_endpoint",
        Kind::Bool,
        "false",
        "Serve `/__debug/`, which logs what it receives.",
    ),
    key(
        "echo_endpoint",
        Kind::Bool,
        "false",
        "Serve `/__echo/`, which responds with what it receives.",
    ),
    key(
        "disable_rest",
        Kind::Bool,
        "false",
        "Allow path parameters anywhere in a segment, and `.` and `:` in their names.",
    ),
    key(
        "sequential_start",
        Kind::Bool,
        "false",
        "Accepted and ignored: async agents start at the same time, and the gateway does not wait for them.",
    ),
    key(
        "max_shutdown_wait_time",
        Kind::Duration,
        "30s",
        "How long a stopping gateway waits for requests in flight. 0 means the default, which is less than the 35 s that the shipped systemd unit allows.",
    ),
    key(
        "read_timeout",
        Kind::Duration,
        "60s",
        "How long a client may pause within a body. If set, it is also the default of `read_header_timeout` and \
         `idle_timeout`.",
    ),
    key(
        "read_header_timeout",
        Kind::Duration,
        "10s",
        "The maximum time for the head of a request.",
    ),
    key(
        "write_timeout",
        Kind::Duration,
        "60s",
        "How long a client may pause while it reads a response.",
    ),
    key(
        "idle_timeout",
        Kind::Duration,
        "90s",
        "How long an idle client connection stays open.",
    ),
    key(
        "max_header_bytes",
        Kind::Integer,
        "1048576",
        "Largest request head. As in KrakenD, 4096 bytes are added. Larger heads get 431.",
    ),
    key("use_h2c", Kind::Bool, "false", "HTTP/2 without TLS."),
    key("tls", Kind::Block(TLS), "", "TLS for clients.")
        .guarding()
        .also(&["https", "mtls", "ssl", "tls_config"]),
    key(
        "client_tls",
        Kind::Block(CLIENT_TLS),
        "",
        "TLS to backends.",
    ),
    key(
        "allow_insecure_connections",
        Kind::Bool,
        "false",
        "Do not check the certificates of backends.",
    ),
    key(
        "dialer_timeout",
        Kind::Duration,
        "a third of the endpoint's timeout, at most 3s, while there is another host; else the endpoint's",
        "The maximum time to connect to a backend.",
    ),
    key(
        "dialer_keep_alive",
        Kind::Duration,
        "15s",
        "TCP keep-alive period towards backends, in whole seconds, rounded up; a negative value disables it.",
    ),
    key(
        "dialer_fallback_delay",
        Kind::Duration,
        "300ms",
        "How long to wait before the other address family is tried.",
    ),
    key(
        "idle_connection_timeout",
        Kind::Duration,
        "90s",
        "How long an idle backend connection is kept.",
    ),
    key(
        "response_header_timeout",
        Kind::Duration,
        "0s (none)",
        "The maximum time until a backend begins its response.",
    ),
    key(
        "expect_continue_timeout",
        Kind::Duration,
        "0s",
        "How long to wait for `100 Continue` from a backend.",
    ),
    key(
        "max_idle_connections",
        Kind::Integer,
        "16 × `max_idle_connections_per_host`",
        "The maximum number of idle backend connections.",
    ),
    key(
        "max_idle_connections_per_host",
        Kind::Integer,
        "250",
        "The maximum number of idle connections to one address of a backend host.",
    ),
    key(
        "disable_keep_alives",
        Kind::Bool,
        "false",
        "Use a new connection for each backend call.",
    ),
    key(
        "disable_compression",
        Kind::Bool,
        "false",
        "Do not request gzip from backends.",
    ),
    key(
        "dns_cache_ttl",
        Kind::Duration,
        "30s",
        "How often the names of `sd: dns` are looked up again; below 1s is ignored.",
    ),
    key(
        "plugin",
        Kind::Block(PLUGIN),
        "",
        "Go plugins, which this gateway cannot load.",
    ),
    key(
        "endpoints",
        Kind::Blocks(ENDPOINT),
        "",
        "The endpoints of the gateway.",
    ),
    key(
        "async_agent",
        Kind::Blocks(AGENT),
        "",
        "Consumers of message queues, whose messages start calls. Needs a build with the cargo feature `amqp`. See [queues.md](queues.md#agents-async_agent).",
    ),
    key(
        "extra_config",
        Kind::Object,
        "",
        "Namespaces of the service.",
    ),
    key(
        "oauth",
        Kind::Leftover,
        "",
        "write \"auth/validator\" in the endpoints' extra_config for tokens of clients, \"auth/client-credentials\" in the \
         backends' for tokens of the gateway",
    ),
    key(
        "websocket",
        Kind::Leftover,
        "",
        "write \"extra_config\": {\"portcullis/stream\": {\"upgrade\": true}} in a \"no-op\" endpoint",
    ),
    key(
        "cookie_keys",
        Kind::Leftover,
        "",
        "write \"input_headers\": [\"Cookie\"] in the endpoint to pass cookies on; \"cookie_key\" of \"auth/validator\" names the \
         cookie with the token",
    ),
];

/// The keys of `plugin`.
const PLUGIN: &[Key] = &[
    key("folder", Kind::Text, "", "The folder of the plugins."),
    key(
        "pattern",
        Kind::Text,
        "",
        "A text that their file names contain.",
    ),
];

/// The whole configuration. Absent keys are `None`, and so is 0 where KrakenD treats it as not set.
#[derive(Debug)]
pub struct Service<'a> {
    /// For errors that are found during compilation.
    pub block: Block<'a>,
    pub version: Option<i64>,
    pub name: Option<String>,
    pub port: Option<i64>,
    pub listen_ip: Option<String>,
    pub host: Vec<Node<'a>>,
    pub timeout: Option<Duration>,
    pub cache_ttl: Option<Duration>,
    pub output_encoding: Option<String>,
    pub debug_endpoint: bool,
    pub echo_endpoint: bool,
    pub disable_rest: bool,
    pub max_shutdown_wait_time: Option<Duration>,
    pub read_timeout: Option<Duration>,
    pub read_header_timeout: Option<Duration>,
    pub write_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub max_header_bytes: Option<u64>,
    pub use_h2c: bool,
    pub tls: Option<Tls<'a>>,
    pub client_tls: Option<ClientTls<'a>>,
    pub allow_insecure_connections: bool,
    pub dialer_timeout: Option<Duration>,
    pub dialer_keep_alive: KeepAlive,
    pub dialer_fallback_delay: Option<Duration>,
    pub idle_connection_timeout: Option<Duration>,
    pub response_header_timeout: Option<Duration>,
    pub expect_continue_timeout: Option<Duration>,
    pub max_idle_connections: Option<u64>,
    pub max_idle_connections_per_host: Option<u64>,
    pub disable_keep_alives: bool,
    pub disable_compression: bool,
    pub dns_cache_ttl: Option<Duration>,
    pub plugin: Option<Plugin<'a>>,
    pub endpoints: Vec<Endpoint<'a>>,
    pub async_agent: Vec<Agent<'a>>,
    pub extra: Extra<'a>,
}

/// `dialer_keep_alive`, the only duration that may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    Default,
    Every(Duration),
    Off,
}

/// The `plugin` object.
#[derive(Debug)]
pub struct Plugin<'a> {
    pub block: Block<'a>,
    pub folder: Option<String>,
    pub pattern: Option<String>,
}

impl<'a> Service<'a> {
    /// Reads the root, which is known to be an object.
    pub fn read(root: Node<'a>) -> Option<Service<'a>> {
        let block = Block::open(root, SERVICE, Typing::Weak)?;
        Some(Service {
            version: block.integer("version"),
            name: block.string("name"),
            port: block.integer("port").filter(|port| *port != 0),
            listen_ip: block.string("listen_ip").filter(|ip| !ip.is_empty()),
            host: texts(&block, "host"),
            timeout: block.set_duration("timeout"),
            cache_ttl: block.set_duration("cache_ttl"),
            output_encoding: filled(&block, "output_encoding"),
            debug_endpoint: block.flag("debug_endpoint"),
            echo_endpoint: block.flag("echo_endpoint"),
            disable_rest: block.flag("disable_rest"),
            max_shutdown_wait_time: block.set_duration("max_shutdown_wait_time"),
            read_timeout: block.set_duration("read_timeout"),
            read_header_timeout: block.set_duration("read_header_timeout"),
            write_timeout: block.set_duration("write_timeout"),
            idle_timeout: block.set_duration("idle_timeout"),
            max_header_bytes: block.count("max_header_bytes").filter(|bytes| *bytes > 0),
            use_h2c: block.flag("use_h2c"),
            tls: block.block("tls").map(Tls::read),
            client_tls: block.block("client_tls").map(ClientTls::read),
            allow_insecure_connections: block.flag("allow_insecure_connections"),
            dialer_timeout: block.set_duration("dialer_timeout"),
            dialer_keep_alive: keep_alive(&block),
            dialer_fallback_delay: block.set_duration("dialer_fallback_delay"),
            idle_connection_timeout: block.set_duration("idle_connection_timeout"),
            response_header_timeout: block.set_duration("response_header_timeout"),
            expect_continue_timeout: block.set_duration("expect_continue_timeout"),
            max_idle_connections: block.count("max_idle_connections").filter(|n| *n > 0),
            max_idle_connections_per_host: block
                .count("max_idle_connections_per_host")
                .filter(|n| *n > 0),
            disable_keep_alives: block.flag("disable_keep_alives"),
            disable_compression: block.flag("disable_compression"),
            dns_cache_ttl: block.set_duration("dns_cache_ttl"),
            plugin: block.block("plugin").map(Plugin::read),
            endpoints: block
                .blocks("endpoints")
                .into_iter()
                .map(Endpoint::read)
                .collect(),
            async_agent: block
                .blocks("async_agent")
                .into_iter()
                .map(Agent::read)
                .collect(),
            extra: Extra::read(&block),
            block,
        })
    }
}

impl<'a> Plugin<'a> {
    fn read(block: Block<'a>) -> Plugin<'a> {
        Plugin {
            folder: block.string("folder"),
            pattern: block.string("pattern"),
            block,
        }
    }
}

/// A string, where an empty one means not set.
pub(super) fn filled(block: &Block<'_>, key: &str) -> Option<String> {
    block.string(key).filter(|text| !text.is_empty())
}

/// The items of a list of strings with their locations. A single string is accepted as a list.
pub(super) fn texts<'a>(block: &Block<'a>, key: &str) -> Vec<Node<'a>> {
    let Some(node) = block.get(key) else {
        return Vec::new();
    };
    if node.texts(Typing::Weak).is_none() {
        return Vec::new();
    }
    match node.items() {
        items if items.is_empty() && node.text_like() => vec![node],
        items => items,
    }
}

fn keep_alive(block: &Block<'_>) -> KeepAlive {
    let Some(node) = block.get("dialer_keep_alive") else {
        return KeepAlive::Default;
    };
    if node
        .value()
        .to_json()
        .trim_start_matches('"')
        .starts_with('-')
    {
        return KeepAlive::Off;
    }
    match node.duration() {
        Some(Duration::ZERO) | None => KeepAlive::Default,
        Some(period) => KeepAlive::Every(period),
    }
}
