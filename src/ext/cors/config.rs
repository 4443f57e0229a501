//! The block as configured.

use crate::config::endpoint::METHODS;
use crate::config::{Block as Open, Key, Kind, Node, key};

/// The keys of both levels.
const SHARED: [Key; 10] = [
    key(
        "allow_origins",
        Kind::Texts,
        "[\"*\"]",
        "Origins that may call; each may contain one `*`.",
    )
    .guarding()
    .also(&["origin", "origins", "allowed_origin", "allowed_origins"]),
    key(
        "allow_methods",
        Kind::Texts,
        "GET, POST, HEAD",
        "Methods that they may use.",
    )
    .guarding()
    .also(&["methods", "allowed_methods"])
    .such_as(METHODS),
    key(
        "allow_headers",
        Kind::Texts,
        "any",
        "Headers that they may send.",
    )
    .guarding()
    .also(&["headers", "allowed_headers"]),
    key(
        "expose_headers",
        Kind::Texts,
        "",
        "Response headers that the page may read.",
    ),
    key(
        "allow_credentials",
        Kind::Bool,
        "false",
        "Cookies and client certificates may be sent along.",
    ),
    key(
        "allow_private_network",
        Kind::Bool,
        "false",
        "Pages of public networks may call this private one.",
    ),
    key(
        "max_age",
        Kind::Any,
        "",
        "How long a browser may cache the response to a preflight request.",
    ),
    key(
        "options_passthrough",
        Kind::Bool,
        "false",
        "Preflight requests are passed on to the endpoints.",
    ),
    key(
        "options_success_status",
        Kind::Integer,
        "204",
        "Status of the response to a preflight request.",
    ),
    key(
        "debug",
        Kind::Bool,
        "false",
        "Log decisions at level DEBUG.",
    ),
];

/// Keys of an endpoint's block.
pub(super) const KEYS: &[Key] = &SHARED;

/// Keys of the service's block: the shared ones, and one of our own.
pub(super) const SERVICE_KEYS: &[Key] = &{
    let mut all = [ENDPOINTS_ONLY; SHARED.len() + 1];
    let mut at = 0;
    while at < SHARED.len() {
        all[at] = SHARED[at];
        at += 1;
    }
    all
};

const ENDPOINTS_ONLY: Key = key(
    "endpoints_only",
    Kind::Bool,
    "false",
    "Ours: the block itself applies to no endpoint. Only endpoints with their own block may be called.",
).guarding();

/// `security/cors` as configured.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub(super) block: Open<'a>,
    pub(super) allow_origins: Vec<String>,
    pub(super) allow_methods: Vec<String>,
    pub(super) allow_headers: Vec<String>,
    pub(super) expose_headers: Vec<String>,
    pub(super) allow_credentials: bool,
    pub(super) allow_private_network: bool,
    pub(super) max_age: Option<Node<'a>>,
    pub(super) options_passthrough: bool,
    pub(super) options_success_status: Option<i64>,
    pub(super) debug: bool,
    pub(super) endpoints_only: bool,
}

impl<'a> Block<'a> {
    pub(super) fn read(node: &Node<'a>, keys: &'static [Key]) -> Option<Block<'a>> {
        let block = node.block(keys)?;
        let of_service = keys.len() == SERVICE_KEYS.len();
        Some(Block {
            allow_origins: block.texts("allow_origins"),
            allow_methods: block.texts("allow_methods"),
            allow_headers: block.texts("allow_headers"),
            expose_headers: block.texts("expose_headers"),
            allow_credentials: block.flag("allow_credentials"),
            allow_private_network: block.flag("allow_private_network"),
            max_age: block.get("max_age"),
            options_passthrough: block.flag("options_passthrough"),
            options_success_status: block.within("options_success_status", 200, 299),
            debug: block.flag("debug"),
            endpoints_only: of_service && block.flag("endpoints_only"),
            block,
        })
    }
}
