//! The keys of the blocks.

use crate::config::{Block, Key, Kind, Node, key};

const PATH: Key = key(
    "path",
    Kind::Text,
    "",
    "The folder, absolute or relative to the working directory. Required.",
);
const LISTING: Key = key(
    "directory_listing",
    Kind::Bool,
    "false",
    "Show the names in a folder that has no `index.html`.",
);
const CACHE_CONTROL: Key = key(
    "cache_control",
    Kind::Text,
    "no-cache",
    "Ours: the `Cache-Control` of files. `no-cache` lets clients cache them, but check for changes each time.",
);
const ALLOW_CONFIG_DIR: Key = key(
    "allow_config_dir",
    Kind::Bool,
    "false",
    "Ours: allow a folder that contains the configuration or a file with secrets that it names.",
);

pub(super) const SERVICE_KEYS: &[Key] = &[
    key(
        "prefix",
        Kind::Text,
        "",
        "Paths that begin with these segments are files: `/media` takes `/media` and `/media/…`. Required.",
    ),
    PATH,
    key(
        "skip",
        Kind::Texts,
        "[]",
        "Paths that begin with these segments go to the router nevertheless.",
    ),
    LISTING,
    CACHE_CONTROL,
    key(
        "fallback",
        Kind::Text,
        "",
        "Ours: the file for paths without one, such as `index.html` for an application that routes in the browser.",
    ),
    ALLOW_CONFIG_DIR,
];

pub(super) const BACKEND_KEYS: &[Key] = &[
    PATH,
    LISTING,
    CACHE_CONTROL,
    key(
        "prefix",
        Kind::Text,
        "",
        "Ours, as in the plugin of that name: cut off the beginning of the backend's path.",
    ),
    ALLOW_CONFIG_DIR,
];

/// A block as configured.
#[derive(Debug)]
pub(super) struct Written<'a> {
    pub(super) block: Block<'a>,
    pub(super) prefix: Option<String>,
    pub(super) path: Option<String>,
    pub(super) listing: bool,
    pub(super) cache_control: Option<Node<'a>>,
    pub(super) allow_config_dir: bool,
}

impl<'a> Written<'a> {
    pub(super) fn read(node: &Node<'a>, keys: &'static [Key]) -> Option<Written<'a>> {
        let block = node.block(keys)?;
        Some(Written {
            prefix: block.string("prefix"),
            path: block.required("path"),
            listing: block.flag("directory_listing"),
            cache_control: block.get("cache_control"),
            allow_config_dir: block.flag("allow_config_dir"),
            block,
        })
    }
}
