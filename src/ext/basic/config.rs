//! The block as configured.

use crate::config::{Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "htpasswd_path",
        Kind::Text,
        "",
        "A file of `htpasswd -B`: one `name:hash` per line, with bcrypt hashes. Read at start and at each reload.",
    ),
    key(
        "users",
        Kind::TextMap,
        "{}",
        "Names and bcrypt hashes; they take precedence over those of the file.",
    ),
    key(
        "realm",
        Kind::Text,
        "portcullis",
        "Ours: the name that a browser shows in its password dialog.",
    ),
];

/// `auth/basic` as configured.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub(super) htpasswd_path: String,
    pub(super) htpasswd_path_at: Option<Node<'a>>,
    pub(super) users: Vec<(String, String)>,
    pub(super) users_at: Option<Node<'a>>,
    pub(super) realm: Option<String>,
    pub(super) realm_at: Option<Node<'a>>,
}

impl<'a> Block<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<Block<'a>> {
        let block = node.block(KEYS)?;
        Some(Block {
            htpasswd_path: block.string("htpasswd_path").unwrap_or_default(),
            htpasswd_path_at: block.get("htpasswd_path"),
            users: block.text_map("users"),
            users_at: block.get("users"),
            realm: block.string("realm"),
            realm_at: block.get("realm"),
        })
    }
}
