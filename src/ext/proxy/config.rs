//! The keys of the block.

use crate::config::{Key, Kind, Namespace, key};

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
