//! The block as configured. As in KrakenD, its keys are case-insensitive.

use crate::config::{Block as Open, Key, Kind, Node, Typing, key};
use crate::ext::auth_validator::PROVIDER_KEYS;

const REVOKE_SERVER: &str =
    "Ignored: it is for KrakenD's revoke server, which does not exist here.";

pub(super) const KEYS: &[Key] = &[
    key(
        "N",
        Kind::Integer,
        "",
        "How many revoked tokens are expected in one `TTL`.",
    ),
    key(
        "P",
        Kind::Number,
        "",
        "The share of valid tokens that may be wrongly rejected, such as 0.0000001.",
    ),
    key(
        "hash_name",
        Kind::Text,
        "",
        "`optimal` or `default`: how tokens are hashed into the filter. Use `optimal` unless other programs share the filter.",
    )
    .such_as(&["optimal", "default"]),
    key(
        "TTL",
        Kind::Integer,
        "",
        "Seconds. Use the longest lifetime of a token. An entry is kept for two to three times as long.",
    ),
    key(
        "port",
        Kind::Integer,
        "",
        "The port of the RPC server, with KrakenD's protocol. Without it, there is no RPC server.",
    ),
    key(
        "listen",
        Kind::Text,
        "127.0.0.1",
        "Ours: the address of that port. Addresses other than loopback need a `secret`.",
    ),
    key(
        "http_listen",
        Kind::Text,
        "",
        "Ours: address and port for `POST /revoke` and `POST /check`, such as 127.0.0.1:8081; needs a `secret`.",
    ),
    key(
        "secret",
        Kind::Secret,
        "",
        "Ours: what authorises revocations. At least 16 characters: a bearer token over HTTP, a first line `AUTH secret` over RPC (only if `listen` is not a loopback address).",
    ),
    key(
        "token_keys",
        Kind::Texts,
        "[]",
        "The claims that are looked up: with `jti` and a token whose jti is J1, `jti-J1`.",
    )
    .guarding()
    .also(&["keys", "claims"]),
    key(
        "redis",
        Kind::Bool,
        "false",
        "Ours: share revocations with all gateways that use the same `portcullis/redis` and `namespace`. The others learn of them within a second, and they outlive restarts.",
    ),
    key(
        "logout",
        Kind::Blocks(PROVIDER_KEYS),
        "[]",
        "Ours: providers that send logout tokens (OpenID Connect Back-Channel Logout) to `POST /logout` of `http_listen`, with the keys of a provider of `auth/validator`; `issuer` and `audience` are required. The tokens of the session (`sid`) or of the user (`sub`) are then rejected.",
    ),
    key("headers", Kind::Any, "", "Accepted and ignored."),
    key("revoke_server_ping_url", Kind::Any, "", REVOKE_SERVER),
    key("revoke_server_ping_interval", Kind::Any, "", REVOKE_SERVER),
    key("revoke_server_api_key", Kind::Secret, "", REVOKE_SERVER),
    key("revoke_server_max_workers", Kind::Any, "", REVOKE_SERVER),
    key("revoke_server_max_retries", Kind::Any, "", REVOKE_SERVER),
];

/// `auth/revoker` as configured.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub(super) elements: Option<u64>,
    pub(super) false_positives: Option<f64>,
    pub(super) hash_name: Option<String>,
    pub(super) hash_name_at: Option<Node<'a>>,
    pub(super) ttl_seconds: Option<u64>,
    pub(super) port: Option<u16>,
    pub(super) listen: Option<String>,
    pub(super) listen_at: Option<Node<'a>>,
    pub(super) http_listen: Option<String>,
    pub(super) http_listen_at: Option<Node<'a>>,
    pub(super) secret: String,
    pub(super) token_keys: Vec<String>,
    /// The place of `redis`, if it is on.
    pub(super) redis: Option<Node<'a>>,
    pub(super) logout: Vec<Open<'a>>,
    pub(super) ignored: Vec<Node<'a>>,
}

impl<'a> Block<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<Block<'a>> {
        let block = Open::open(node.clone(), KEYS, Typing::Weak)?;
        for required in ["N", "P", "hash_name", "TTL"] {
            if !block.has(required) {
                block.missing(required);
            }
        }
        let ignored = ["revoke_server_ping_url", "revoke_server_api_key"];
        Some(Block {
            elements: block.count("N"),
            false_positives: block.number("P"),
            hash_name: block.string("hash_name"),
            hash_name_at: block.get("hash_name"),
            ttl_seconds: block.count("TTL"),
            port: block
                .within("port", 0, 65535)
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port != 0),
            listen: block.string("listen").filter(|text| !text.is_empty()),
            listen_at: block.get("listen"),
            http_listen: block.string("http_listen").filter(|text| !text.is_empty()),
            http_listen_at: block.get("http_listen"),
            secret: block.string("secret").unwrap_or_default(),
            token_keys: block.texts("token_keys"),
            logout: block.blocks("logout"),
            redis: block.get("redis").filter(|_| block.flag("redis")),
            ignored: ignored.iter().filter_map(|key| block.get(key)).collect(),
        })
    }
}
