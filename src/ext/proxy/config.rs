//! The keys of the block.

use crate::config::{Key, Kind, Namespace, key};

pub(crate) const PROXY_ENDPOINT: Namespace = Namespace {
    name: "proxy",
    aliases: &["github.com/devopsfaith/krakend/proxy"],
    guard: false,
    doc: "How the calls of an endpoint are combined.",
    keys: &[
        key(
            "sequential",
            Kind::Bool,
            "false",
            "Call the backends one after another.",
        ),
        key(
            "strategy",
            Kind::Choice(&["parallel", "sequential", "fallback"]),
            "what `sequential` says",
            "Only in files of version 4, where it takes precedence. `fallback` calls the next backend only if those before it failed.",
        ),
        key(
            "sequential_propagated_params",
            Kind::Texts,
            "[]",
            "Values of earlier responses that later calls get as parameters.",
        ),
        key("combiner", Kind::Text, "", "Only the default exists."),
        key(
            "force_sandboxed_request",
            Kind::Bool,
            "false",
            "Accepted and ignored: every call always has its own copy of the request.",
        ),
        key(
            "max_payload",
            Kind::Integer,
            "0 (the service's)",
            "Largest request body in bytes (413). It cannot be larger than the service's limit.",
        )
        .guarding(),
        key(
            "decompress_gzip",
            Kind::Any,
            "the service's",
            "Decode request bodies whose last `Content-Encoding` is `gzip`.",
        ),
        key(
            "static",
            Kind::Block(STATIC),
            "",
            "Data to add to the response.",
        ),
        key(
            "flatmap_filter",
            Kind::Blocks(FLATMAP),
            "[]",
            "Operations on the merged response of two or more backends.",
        ),
    ],
};

const STATIC: &[Key] = &[
    key(
        "strategy",
        Kind::Choice(&["always", "success", "complete", "errored", "incomplete"]),
        "always",
        "When the data is added.",
    ),
    key("data", Kind::Object, "", "The data to add."),
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

pub(crate) const PROXY_BACKEND: Namespace = Namespace {
    name: "proxy",
    aliases: &["github.com/devopsfaith/krakend/proxy"],
    guard: false,
    doc: "One call of an endpoint.",
    keys: &[
        key(
            "flatmap_filter",
            Kind::Blocks(FLATMAP),
            "[]",
            "Operations on this response; `allow`, `deny` and `mapping` are then ignored.",
        ),
        key(
            "shadow",
            Kind::Bool,
            "false",
            "Call the backend and ignore the response.",
        ),
        key(
            "shadow_timeout",
            Kind::Duration,
            "the endpoint's",
            "Deadline of shadow calls.",
        ),
    ],
};
