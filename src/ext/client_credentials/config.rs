//! The block as configured.

use crate::config::{Key, Kind, Node, Typing, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "client_id",
        Kind::Text,
        "",
        "The client id of the gateway at the token server.",
    ),
    key(
        "client_secret",
        Kind::Secret,
        "",
        "The client secret. Use `@secret` files or environment variables for it.",
    ),
    key(
        "token_url",
        Kind::Text,
        "",
        "The URL of the token server; required unless `is_disabled`.",
    ),
    key(
        "scopes",
        Kind::Text,
        "",
        "Scopes to request, separated by commas. As in KrakenD, blanks around them are kept.",
    ),
    key(
        "trim_scopes",
        Kind::Bool,
        "false",
        "Ours: remove blanks around scopes, and send no `scope` if there are none. Some servers reject an empty one.",
    ),
    key(
        "endpoint_params",
        Kind::Object,
        "{}",
        "Additional parameters of the token request, each a list of strings: `{\"audience\": [\"a\"]}`.",
    ),
    key(
        "is_disabled",
        Kind::Bool,
        "false",
        "Call the backend without a token.",
    ),
    key(
        "drop_on_401",
        Kind::Bool,
        "true",
        "Ours: if the backend responds with 401, the token is dropped and the call is repeated once with a new one. On a `no-op` endpoint the 401 is passed on, and the next call uses a new token.",
    ),
];

/// `auth/client-credentials` as configured.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) token_url: Option<String>,
    pub(super) token_url_at: Option<Node<'a>>,
    pub(super) scopes: String,
    pub(super) trim_scopes: bool,
    pub(super) endpoint_params: Vec<(String, Vec<String>)>,
    pub(super) endpoint_params_at: Option<Node<'a>>,
    pub(super) is_disabled: bool,
    pub(super) drop_on_401: bool,
}

impl<'a> Block<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<Block<'a>> {
        let block = node.block(KEYS)?;
        Some(Block {
            client_id: block.string("client_id").unwrap_or_default(),
            client_secret: block.string("client_secret").unwrap_or_default(),
            token_url: block.string("token_url").filter(|url| !url.is_empty()),
            token_url_at: block.get("token_url"),
            scopes: block.string("scopes").unwrap_or_default(),
            trim_scopes: block.flag("trim_scopes"),
            endpoint_params: block
                .object("endpoint_params")
                .map(|params| lists(&params))
                .unwrap_or_default(),
            endpoint_params_at: block.get("endpoint_params"),
            is_disabled: block.flag("is_disabled"),
            drop_on_401: block.bool("drop_on_401").unwrap_or(true),
        })
    }
}

/// The members of `params`, each a list of strings.
pub(in crate::ext) fn lists(params: &Node<'_>) -> Vec<(String, Vec<String>)> {
    params
        .members()
        .iter()
        .filter_map(|(name, node)| Some(((*name).to_owned(), node.texts(Typing::Strict)?)))
        .collect()
}
