//! The blocks as configured.

use crate::config::{Block, Key, Kind, Node, key};

const STRATEGIES: &[&str] = &["header", "query_string"];

const IDENTIFIER: Key = key(
    "identifier",
    Kind::Text,
    "",
    "The header (`Authorization`, where `Bearer ` may precede the key) or the parameter (`key`) with the key.",
);

const STRATEGY: Key = key(
    "strategy",
    Kind::Choice(STRATEGIES),
    "header",
    "Where a request has its key. Query strings end up in logs and histories: prefer the header.",
);

/// Keys of the service's block.
pub(super) const SERVICE_KEYS: &[Key] = &[
    key("keys", Kind::Blocks(ENTRY_KEYS), "", "The API keys."),
    key(
        "hash",
        Kind::Choice(&["plain", "fnv128", "sha256", "sha1"]),
        "plain",
        "The form of the keys in the file: hexadecimal hashes, or the keys themselves. `sha256` is recommended.",
    ),
    key(
        "salt",
        Kind::Secret,
        "",
        "A prefix that is added to a key before it is hashed.",
    ),
    STRATEGY,
    IDENTIFIER,
    key(
        "propagate_role",
        Kind::Text,
        "",
        "A header for the backend with the role by which the key was accepted.",
    ),
];

/// Keys of one entry of `keys`.
const ENTRY_KEYS: &[Key] = &[
    key("key", Kind::Secret, "", "The key, or its hash."),
    key("roles", Kind::Texts, "[]", "The roles of the key."),
    key(
        "description",
        Kind::Text,
        "",
        "A note for people who read the file.",
    ),
    key(
        "enabled",
        Kind::Bool,
        "true",
        "Ours: `false` disables the key.",
    )
    .guarding()
    .also(&["enable", "active", "disabled"]),
];

/// Keys of an endpoint's block.
pub(super) const ENDPOINT_KEYS: &[Key] = &[
    key(
        "roles",
        Kind::Texts,
        "",
        "The roles that may call the endpoint. A key needs one of them.",
    )
    .guarding()
    .also(&["allowed_roles", "required_roles"]),
    STRATEGY,
    IDENTIFIER,
    key(
        "client_max_rate",
        Kind::Number,
        "0",
        "Requests per second for each key; more get 429. 0 sets no limit.",
    )
    .guarding()
    .also(&["client_rate", "client_limit", "max_client_rate"]),
];

/// `auth/api-keys` of the service, as configured.
#[derive(Debug)]
pub(super) struct ServiceBlock<'a> {
    pub(super) keys: Vec<Entry<'a>>,
    pub(super) keys_at: Option<Node<'a>>,
    pub(super) hash: Option<&'static str>,
    pub(super) salt: String,
    pub(super) place: Placed<'a>,
    pub(super) propagate_role: String,
    pub(super) propagate_role_at: Option<Node<'a>>,
}

/// One entry of `keys`.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) key: String,
    pub(super) roles: Vec<String>,
    pub(super) enabled: bool,
    pub(super) at: Node<'a>,
}

/// `strategy` and `identifier`.
#[derive(Debug, Clone)]
pub(super) struct Placed<'a> {
    pub(super) strategy: Option<&'static str>,
    pub(super) identifier: Option<String>,
    pub(super) at: Node<'a>,
}

/// `auth/api-keys` of an endpoint, as configured.
#[derive(Debug)]
pub(super) struct EndpointBlock<'a> {
    pub(super) roles: Vec<String>,
    pub(super) roles_at: Option<Node<'a>>,
    pub(super) place: Placed<'a>,
    pub(super) client_max_rate: f64,
}

impl<'a> ServiceBlock<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<ServiceBlock<'a>> {
        let block = node.block(SERVICE_KEYS)?;
        let entry = |entry: &Block<'a>| {
            Some(Entry {
                key: entry.required("key")?,
                roles: entry.texts("roles"),
                enabled: entry.bool("enabled").unwrap_or(true),
                at: entry.node().clone(),
            })
        };
        Some(ServiceBlock {
            keys: block.blocks("keys").iter().filter_map(entry).collect(),
            keys_at: block.get("keys"),
            hash: block.choice("hash"),
            salt: block.string("salt").unwrap_or_default(),
            place: placed(&block),
            propagate_role: block.string("propagate_role").unwrap_or_default(),
            propagate_role_at: block.get("propagate_role"),
        })
    }
}

impl<'a> EndpointBlock<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<EndpointBlock<'a>> {
        let block = node.block(ENDPOINT_KEYS)?;
        Some(EndpointBlock {
            roles: block.texts("roles"),
            roles_at: block.get("roles"),
            place: placed(&block),
            client_max_rate: block.number("client_max_rate").unwrap_or(0.0),
        })
    }
}

fn placed<'a>(block: &Block<'a>) -> Placed<'a> {
    Placed {
        strategy: block.choice("strategy"),
        identifier: block
            .string("identifier")
            .filter(|identifier| !identifier.is_empty()),
        at: block
            .get("identifier")
            .unwrap_or_else(|| block.node().clone()),
    }
}
