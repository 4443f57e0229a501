//! The block as configured.

use crate::config::{Block as Open, Key, Kind, Node, key};

const PRE: Key = key(
    "pre",
    Kind::Text,
    "",
    "Lua code that runs before the request is passed on.",
);
const SOURCES: Key = key(
    "sources",
    Kind::Texts,
    "",
    "Files of Lua code, read at start, joined, and run before `pre` on each request.",
);
const MD5: Key = key(
    "md5",
    Kind::TextMap,
    "",
    "The MD5 of a source in hexadecimal, by the name it has in `sources`; a different file stops the start.",
);
const LIVE: Key = key(
    "live",
    Kind::Bool,
    "false",
    "Read the `sources` again for each request; `md5` is then ignored.",
);
const OPEN_LIBS: Key = key(
    "allow_open_libs",
    Kind::Bool,
    "false",
    "Also provide `string`, `math`, `os`, `io`, `debug` and `coroutine`.",
);

pub(super) const ENDPOINT_KEYS: &[Key] = &[
    PRE,
    key(
        "post",
        Kind::Text,
        "",
        "No effect here, as in KrakenD: this script runs before the endpoint only.",
    ),
    SOURCES,
    MD5,
    LIVE,
    OPEN_LIBS,
    key("skip_next", Kind::Bool, "false", "No effect here."),
];

pub(super) const PIPE_KEYS: &[Key] = &[
    PRE,
    key(
        "post",
        Kind::Text,
        "",
        "Lua code that runs when there is a response. It can read the globals of `pre`.",
    ),
    SOURCES,
    MD5,
    LIVE,
    OPEN_LIBS,
    key(
        "skip_next",
        Kind::Bool,
        "false",
        "Do not call the backends: `post` begins with an empty response.",
    ),
];

/// One of the three blocks as configured.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub(super) block: Open<'a>,
    pub(super) pre: Option<&'a str>,
    pub(super) post: Option<&'a str>,
    /// Each with its location in the configuration.
    pub(super) sources: Vec<(String, Node<'a>)>,
    pub(super) md5: Vec<(String, String)>,
    pub(super) live: bool,
    pub(super) open_libs: bool,
    pub(super) skip_next: bool,
}

impl<'a> Block<'a> {
    /// Reads `node` and reports its errors.
    pub(super) fn read(node: &Node<'a>, keys: &'static [Key]) -> Option<Block<'a>> {
        let block = node.block(keys)?;
        let code = |key| block.text(key).filter(|text| !text.trim().is_empty());
        Some(Block {
            pre: code("pre"),
            post: code("post"),
            sources: block.text_items("sources"),
            md5: block.text_map("md5"),
            live: block.flag("live"),
            open_libs: block.flag("allow_open_libs"),
            skip_next: block.flag("skip_next"),
            block,
        })
    }
}
