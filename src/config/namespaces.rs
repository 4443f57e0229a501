//! The namespaces of the core: their tables, by level.

use super::key::{Key, Kind, key};

/// A namespace that `compile` reads itself.
#[derive(Debug)]
pub struct Namespace {
    pub name: &'static str,
    /// Older names.
    pub aliases: &'static [&'static str],
    /// Whether it is a guard: it decides who may pass, how much, or from where. All our own namespaces are parsed as
    /// strictly. See [`super::rule`].
    pub guard: bool,
    pub doc: &'static str,
    pub keys: &'static [Key],
}

/// The core's namespaces of the service.
pub const SERVICE_NAMESPACES: &[&Namespace] = &[
    &ROUTER,
    &SECRETS,
    &STREAM,
    &JSON,
    &COMPAT,
    &FORWARDING,
    &LIMITS,
    &METRICS,
    &SERVER,
    &UPSTREAM_SERVICE,
];

/// The core's namespaces of an endpoint.
pub const ENDPOINT_NAMESPACES: &[&Namespace] = &[&PROXY_ENDPOINT, &STREAM_ENDPOINT];

/// The core's namespaces of a backend.
pub const BACKEND_NAMESPACES: &[&Namespace] = &[
    &PROXY_BACKEND,
    &HTTP,
    &HTTP_CLIENT,
    &GRAPHQL,
    &UPSTREAM,
    &PASS_THROUGH,
    &COMPAT_BACKEND,
];

pub const ROUTER: Namespace = Namespace {
    name: "router",
    aliases: &["github_com/luraproject/lura/router/gin"],
    guard: false,
    doc: "Switches of the router and of what clients see.",
    keys: &[
        key(
            "return_error_msg",
            Kind::Bool,
            "false",
            "Failed endpoints answer with the error's text, which may name internal hosts.",
        ),
        key(
            "hide_version_header",
            Kind::Bool,
            "false",
            "`X-Krakend` without the version.",
        ),
        key(
            "error_body",
            Kind::Block(ERROR_BODY),
            "",
            "JSON bodies for 404 and 405.",
        ),
        key("disable_health", Kind::Bool, "false", "No health endpoint."),
        key(
            "health_path",
            Kind::Text,
            "/__health",
            "Path of the health endpoint.",
        ),
        key(
            "auto_options",
            Kind::Bool,
            "false",
            "Answer OPTIONS for every endpoint's path.",
        ),
        key("disable_access_log", Kind::Bool, "false", "No access log."),
        key(
            "logger_skip_paths",
            Kind::Texts,
            "[]",
            "Exact request paths that are not logged.",
        ),
        key(
            "disable_redirect_trailing_slash",
            Kind::Bool,
            "false",
            "`/a/` for `/a` is 404 instead of a redirect.",
        ),
        key(
            "disable_redirect_fixed_path",
            Kind::Bool,
            "false",
            "`/A` or `//a` for `/a` is 404 instead of a redirect.",
        ),
        key(
            "disable_handle_method_not_allowed",
            Kind::Bool,
            "false",
            "404 instead of 405.",
        ),
        key(
            "remove_extra_slash",
            Kind::Bool,
            "false",
            "`//a` is `/a` without a redirect.",
        ),
        key(
            "keep_slashes",
            Kind::Bool,
            "false",
            "Ours: what a `*` takes goes on with its repeated slashes (`/img/https://host/a.png`); otherwise they are merged.",
        ),
        key(
            "disable_path_decoding",
            Kind::Bool,
            "false",
            "Accept path parameters that decode twice, or hold `?` or `#`.",
        ),
        key(
            "forwarded_by_client_ip",
            Kind::Bool,
            "true",
            "Take the client's address from headers of trusted proxies.",
        ),
        key(
            "remote_ip_headers",
            Kind::Texts,
            "[\"X-Forwarded-For\", \"X-Real-IP\"]",
            "The headers, in the order of trust.",
        )
        .guarding(),
        key(
            "trusted_proxies",
            Kind::Texts,
            "[] (nobody)",
            "Addresses and networks (CIDR) that are believed.",
        )
        .guarding(),
        key(
            "app_engine",
            Kind::Bool,
            "false",
            "Take the client's address from `X-Appengine-Remote-Addr`, whoever sends it.",
        ),
        key("use_h2c", Kind::Bool, "false", "The same as the root key."),
        key("max_multipart_memory", Kind::Leftover, "", ""),
        key(
            "max_payload",
            Kind::Leftover,
            "",
            "write \"portcullis/limits\": {\"request_body\": …} in the service's extra_config",
        ),
        key("decompress_gzip", Kind::Leftover, "", ""),
        key("disable_gzip", Kind::Leftover, "", ""),
    ],
};

const ERROR_BODY: &[Key] = &[
    key("404", Kind::Object, "", "Body of 404."),
    key("405", Kind::Object, "", "Body of 405."),
];

pub const SECRETS: Namespace = Namespace {
    name: "portcullis/secrets",
    aliases: &[],
    guard: true,
    doc: "Fills in `${NAME}`, `${file:/path}` and `${credential:name}` in every text of the file.",
    keys: &[key(
        "expand",
        Kind::Bool,
        "false",
        "Whether it does. A literal `${` is then written `$${`.",
    )],
};

pub const STREAM: Namespace = Namespace {
    name: "portcullis/stream",
    aliases: &[],
    guard: true,
    doc: "Answers of `no-op` endpoints, which pass as they arrive.",
    keys: &[
        key(
            "idle_timeout",
            Kind::Duration,
            "60s",
            "How long a stream may be silent.",
        ),
        key(
            "total_timeout",
            Kind::Bool,
            "false",
            "Cut streams at the endpoint's timeout, as KrakenD does.",
        ),
    ],
};

pub const STREAM_ENDPOINT: Namespace = Namespace {
    name: "portcullis/stream",
    aliases: &[],
    guard: true,
    doc: "The answer of a `no-op` endpoint.",
    keys: &[
        key(
            "upgrade",
            Kind::Bool,
            "false",
            "Let clients open a WebSocket to the backend. Token and limits are checked at the handshake; the service's `idle_timeout` ends a tunnel in which neither side speaks.",
        ),
        key(
            "origins",
            Kind::Texts,
            "[] (any)",
            "Web pages that may open a WebSocket, such as `https://app.example.com` (403 for others). Clients that send no `Origin` are no browsers and pass.",
        ),
        key(
            "connections",
            Kind::Integer,
            "0 (no limit)",
            "WebSockets of this endpoint at a time (503).",
        ),
        key(
            "until_expiry",
            Kind::Bool,
            "false",
            "Close a WebSocket when the token of its handshake expires.",
        ),
    ],
};

pub const JSON: Namespace = Namespace {
    name: "portcullis/json",
    aliases: &[],
    guard: true,
    doc: "How composed JSON is written.",
    keys: &[key(
        "canonical",
        Kind::Bool,
        "false",
        "Byte for byte as KrakenD: all levels sorted, compact, `<`, `>` and `&` escaped.",
    )],
};

pub const COMPAT: Namespace = Namespace {
    name: "portcullis/compat",
    aliases: &[],
    guard: true,
    doc: "Where to do as KrakenD does although it is not safe, and where not to although it is common.",
    keys: &[
        key(
            "trust_all_proxies",
            Kind::Bool,
            "false",
            "Believe the client address that anyone sends.",
        ),
        key(
            "gateway_status_codes",
            Kind::Bool,
            "false",
            "When no backend has answered: 502 for one that cannot be reached or breaks off, 504 for one that is late, 503 for an open circuit breaker or a backend's rate limit, instead of KrakenD's 500.",
        ),
    ],
};

pub const COMPAT_BACKEND: Namespace = Namespace {
    name: "portcullis/compat",
    aliases: &[],
    guard: true,
    doc: "Ways of KrakenD that trust the backends before this one.",
    keys: &[key(
        "raw_response_params",
        Kind::Bool,
        "false",
        "Values of earlier answers (`{resp0_href}`) go into the URL with their slashes and their query, not as one segment or one value. Dot segments are refused all the same.",
    )],
};

pub const FORWARDING: Namespace = Namespace {
    name: "portcullis/forwarding",
    aliases: &[],
    guard: true,
    doc: "What backends learn about the client.",
    keys: &[
        key(
            "append_chain",
            Kind::Bool,
            "false",
            "From a trusted proxy, send its whole `X-Forwarded-For` chain, not only the client's address; with `forwarded` its `Forwarded`, too.",
        ),
        key(
            "proto",
            Kind::Bool,
            "false",
            "Send `X-Forwarded-Proto`: `https` or `http`, as the client reached us, or as a trusted proxy says.",
        ),
        key(
            "forwarded",
            Kind::Bool,
            "false",
            "Send `Forwarded` (RFC 7239) with the client's address, its `Host` and its scheme. What a client sends under that name does not pass.",
        ),
    ],
};

pub const LIMITS: Namespace = Namespace {
    name: "portcullis/limits",
    aliases: &[],
    guard: true,
    doc: "Upper bounds. Sizes are bytes, or a text such as `\"8MiB\"`.",
    keys: &[
        key(
            "request_body",
            Kind::Any,
            "8MiB",
            "Largest request body of a composed endpoint (413); `no-op` streams without one.",
        ),
        key(
            "upstream_body",
            Kind::Any,
            "64MiB",
            "Largest decoded backend answer of a composed endpoint.",
        ),
        key(
            "buffered",
            Kind::Any,
            "half of the memory",
            "Bytes of request bodies and backend answers that the whole process holds at a time; beyond it requests get 503, streams go on. By default half of what the control group or the machine grants.",
        ),
        key(
            "upstream_headers",
            Kind::Any,
            "1MiB",
            "Largest head of a backend's answer, status line and header fields, whatever their number; 1 MiB at most.",
        ),
        key(
            "connections",
            Kind::Integer,
            "65536",
            "Client connections at a time; more are closed at once.",
        ),
        key(
            "headers",
            Kind::Integer,
            "256",
            "Header fields of a request (431); 256 at most.",
        ),
        key(
            "ipv6_prefix",
            Kind::Integer,
            "64",
            "Bits of an IPv6 address that make one client, 1 to 128, for rate limits by address and for guesses at passwords.",
        ),
    ],
};

pub const METRICS: Namespace = Namespace {
    name: "portcullis/metrics",
    aliases: &[],
    guard: true,
    doc: "A page for Prometheus at `/metrics`. Off unless this block, or a Prometheus exporter in `telemetry/opentelemetry`, is there.",
    keys: &[
        key("listen", Kind::Text, "127.0.0.1:9090", "Address and port."),
        key(
            "per_endpoint",
            Kind::Bool,
            "true",
            "Counters for each endpoint; without them the page stays small with thousands of routes.",
        ),
    ],
};

pub const SERVER: Namespace = Namespace {
    name: "portcullis/server",
    aliases: &[],
    guard: true,
    doc: "The process.",
    keys: &[
        key(
            "threads",
            Kind::Integer,
            "as many as processors",
            "Worker threads. A quota of the control group counts, rounded up.",
        ),
        key(
            "session_ticket_keys",
            Kind::Text,
            "own keys, replaced every 6 hours",
            "Path of a file with the keys of TLS session tickets, for gateways behind one address: 32 bytes in hexadecimal or base64 in each line. The first encrypts, all decrypt. Read again at a reload.",
        ),
        key(
            "session_tickets_in_redis",
            Kind::Bool,
            "false",
            "The keys of TLS session tickets come from the Redis of `portcullis/redis`, where gateways make a new one together every 6 hours.",
        ),
        key(
            "ready_wait",
            Kind::Duration,
            "30s",
            "How long `GET /__ready` answers 503 at start while key sets have not come yet; `0s` switches that off.",
        ),
        key(
            "shutdown_delay",
            Kind::Duration,
            "0s",
            "On `SIGTERM`, connections are accepted for this time, while `/__ready` answers 503: time for a load balancer to move away. Then `max_shutdown_wait_time` begins.",
        ),
        key(
            "proxy_protocol",
            Kind::Texts,
            "[] (not spoken)",
            "Load balancers, by address or network, that must open each connection with a PROXY protocol preamble (version 1 or 2). Who is not listed is taken at its own address.",
        ),
    ],
};

pub const PROXY_ENDPOINT: Namespace = Namespace {
    name: "proxy",
    aliases: &["github.com/devopsfaith/krakend/proxy"],
    guard: false,
    doc: "How the calls of an endpoint work together.",
    keys: &[
        key(
            "sequential",
            Kind::Bool,
            "false",
            "One call after the other.",
        ),
        key(
            "strategy",
            Kind::Choice(&["parallel", "sequential", "fallback"]),
            "what `sequential` says",
            "Version 4's word for it, which wins. `fallback` is not supported by this version.",
        ),
        key(
            "sequential_propagated_params",
            Kind::Texts,
            "[]",
            "Values of earlier answers that later calls get as parameters.",
        ),
        key("combiner", Kind::Text, "", "Only the default exists."),
        key(
            "force_sandboxed_request",
            Kind::Bool,
            "false",
            "Accepted: every call has its own copy of the request.",
        ),
        key(
            "static",
            Kind::Block(STATIC),
            "",
            "Data to add to the answer.",
        ),
        key(
            "flatmap_filter",
            Kind::Blocks(FLATMAP),
            "[]",
            "Operations on the merged answer of two backends or more.",
        ),
    ],
};

const STATIC: &[Key] = &[
    key(
        "strategy",
        Kind::Choice(&["always", "success", "complete", "errored", "incomplete"]),
        "always",
        "When.",
    ),
    key("data", Kind::Object, "", "What."),
];

const FLATMAP: &[Key] = &[
    key(
        "type",
        Kind::Choice(&["move", "append", "del"]),
        "",
        "The operation.",
    ),
    key(
        "args",
        Kind::Texts,
        "",
        "Dotted paths; `*` for every child.",
    ),
];

pub const PROXY_BACKEND: Namespace = Namespace {
    name: "proxy",
    aliases: &["github.com/devopsfaith/krakend/proxy"],
    guard: false,
    doc: "One call of an endpoint.",
    keys: &[
        key(
            "flatmap_filter",
            Kind::Blocks(FLATMAP),
            "[]",
            "Operations on this answer; `allow`, `deny` and `mapping` are then ignored.",
        ),
        key("shadow", Kind::Bool, "false", "Call and ignore the answer."),
        key(
            "shadow_timeout",
            Kind::Duration,
            "the endpoint's",
            "Deadline of shadow calls.",
        ),
    ],
};

pub const HTTP: Namespace = Namespace {
    name: "backend/http",
    aliases: &["github.com/devopsfaith/krakend/http"],
    guard: false,
    doc: "What clients learn when a backend fails.",
    keys: &[
        key(
            "return_error_details",
            Kind::Text,
            "",
            "Put status and body under `error_<this text>`.",
        ),
        key(
            "return_error_code",
            Kind::Bool,
            "false",
            "Answer with the backend's status code.",
        ),
    ],
};

pub const HTTP_CLIENT: Namespace = Namespace {
    name: "backend/http/client",
    aliases: &[],
    guard: false,
    doc: "The HTTP client of one backend.",
    keys: &[
        key(
            "send_body_on_redirect",
            Kind::Bool,
            "false",
            "Send the body again after 307 and 308.",
        ),
        key(
            "client_tls",
            Kind::Leftover,
            "",
            "write \"client_tls\" at the root",
        ),
        key(
            "no_redirect",
            Kind::Bool,
            "false",
            "Redirects are answers like any other, as with `redirects` `none` of `portcullis/upstream`.",
        ),
        key(
            "proxy_address",
            Kind::Text,
            "",
            "The proxy for this backend, `[http://][user:password@]host:port`; also `socks5://`, and `https://` for plain http backends. Without it the environment variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY are honoured.",
        )
        .guarding(),
    ],
};

pub const GRAPHQL: Namespace = Namespace {
    name: "backend/graphql",
    aliases: &["github.com/devopsfaith/krakend/transport/http/client/graphql"],
    guard: false,
    doc: "Turns the call into a GraphQL request.",
    keys: &[
        key("type", Kind::Text, "", "`query` or `mutation`. Required."),
        key("method", Kind::Text, "POST", "`GET` or `POST`."),
        key("query", Kind::Text, "", "The document."),
        key("query_path", Kind::Text, "", "A file with the document."),
        key(
            "operationName",
            Kind::Text,
            "",
            "Which operation of the document.",
        ),
        key(
            "variables",
            Kind::Object,
            "",
            "Values; `\"{name}\"` is the endpoint's parameter.",
        ),
    ],
};

pub const UPSTREAM: Namespace = Namespace {
    name: "portcullis/upstream",
    aliases: &[],
    guard: true,
    doc: "How one backend is spoken to.",
    keys: &[
        key(
            "http_version",
            Kind::Choice(&["h1", "h2", "auto"]),
            "h1",
            "`h2` is HTTP/2 throughout, without TLS by prior knowledge; `auto` is what the TLS handshake agrees on.",
        ),
        REDIRECTS,
        BODY_TO_OTHER_ORIGINS,
    ],
};

pub const UPSTREAM_SERVICE: Namespace = Namespace {
    name: "portcullis/upstream",
    aliases: &[],
    guard: true,
    doc: "How backends are spoken to that say nothing else themselves.",
    keys: &[REDIRECTS, BODY_TO_OTHER_ORIGINS],
};

const REDIRECTS: Key = key(
    "redirects",
    Kind::Choice(&["follow", "same-origin", "none"]),
    "follow",
    "Which redirects of a backend the gateway follows itself; `same-origin` is the same scheme, host and port. Others are answers like any other. To another origin goes only what the client sent, without credentials.",
);

const BODY_TO_OTHER_ORIGINS: Key = key(
    "send_body_to_other_origins",
    Kind::Bool,
    "false",
    "With `send_body_on_redirect`: send it to another origin, too.",
);

pub const PASS_THROUGH: Namespace = Namespace {
    name: "portcullis/pass-through",
    aliases: &[],
    guard: true,
    doc: "Clients get the backend's status while its body is still decoded and shaped: any 2xx is success, any other answer passes with its own body. For the one backend of an endpoint.",
    keys: &[key(
        "headers",
        Kind::Texts,
        "[]",
        "Header fields of the answer that reach the client, too; not `Content-Type` and what frames the body.",
    )],
};
