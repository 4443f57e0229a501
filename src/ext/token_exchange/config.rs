//! The block as configured.

use std::time::Duration;

use crate::config::{Block, Key, Kind, Node, joined, key};
use crate::ext::client_credentials::lists;
use crate::ext::identity::CLIENT_AUTH_KEYS;

const GRANTS: &[&str] = &["token-exchange", "jwt-bearer"];

const OWN_KEYS: [Key; 11] = [
    key("token_url", Kind::Text, "–", "The URL of the token server."),
    key(
        "grant",
        Kind::Choice(GRANTS),
        "token-exchange",
        "`token-exchange` sends the client's token as `subject_token` (RFC 8693), `jwt-bearer` as `assertion` (RFC 7523). Entra ID has the second for on-behalf-of, with `requested_token_use` in `endpoint_params`.",
    ),
    key(
        "audience",
        Kind::TextOrTexts,
        "",
        "The service that the new token is meant for, by name.",
    ),
    key(
        "resource",
        Kind::TextOrTexts,
        "",
        "The service that the new token is meant for, by URL.",
    ),
    key(
        "scope",
        Kind::TextOrTexts,
        "",
        "The scopes of the new token.",
    ),
    key(
        "requested_token_type",
        Kind::Text,
        "",
        "The type of the new token, a URN of RFC 8693 §3.",
    ),
    key(
        "endpoint_params",
        Kind::Object,
        "{}",
        "Additional parameters of the request, each a list of strings.",
    ),
    key(
        "cache_duration",
        Kind::Duration,
        "5m",
        "How long a new token is used at most for the same client's token. Its own life may end it before.",
    ),
    key(
        "cache_bytes",
        Kind::Integer,
        "33554432",
        "The approximate maximum memory for new tokens.",
    ),
    key(
        "timeout",
        Kind::Duration,
        "5s",
        "How long a call waits for its token, within the endpoint's timeout.",
    ),
    key(
        "allow_insecure",
        Kind::Bool,
        "false",
        "Allow an `http://` URL. Tokens and secrets are then sent without encryption.",
    ),
];

pub(super) const KEYS: &[Key] = &joined::<11, 9, 20>(OWN_KEYS, CLIENT_AUTH_KEYS);

/// The block.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) block: Block<'a>,
    pub(super) token_url: Option<String>,
    pub(super) is_bearer: bool,
    pub(super) audience: Vec<String>,
    pub(super) resource: Vec<String>,
    pub(super) scope: Vec<String>,
    pub(super) requested_token_type: Option<String>,
    pub(super) endpoint_params: Vec<(String, Vec<String>)>,
    pub(super) cache_duration: Option<Duration>,
    pub(super) cache_bytes: Option<u64>,
    pub(super) allow_insecure: bool,
}

impl<'a> Exchange<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<Exchange<'a>> {
        let block = node.block(KEYS)?;
        let texts = |key: &str| {
            let value = block.text_or_texts(key);
            value.map_or_else(Vec::new, |value| value.texts().to_vec())
        };
        Some(Exchange {
            token_url: block.required("token_url"),
            is_bearer: block.choice("grant") == Some("jwt-bearer"),
            audience: texts("audience"),
            resource: texts("resource"),
            scope: texts("scope"),
            requested_token_type: block.string("requested_token_type"),
            endpoint_params: block
                .object("endpoint_params")
                .map(|params| lists(&params))
                .unwrap_or_default(),
            cache_duration: block.duration("cache_duration"),
            cache_bytes: block.count("cache_bytes"),
            allow_insecure: block.flag("allow_insecure"),
            block,
        })
    }
}
