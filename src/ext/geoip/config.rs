//! The block as configured.

use crate::config::{Block, Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "citydb_path",
        Kind::Text,
        "",
        "Required: the path of a City database of MaxMind (`.mmdb`). It is read again, within a minute, when the file changes.",
    ),
    key(
        "languages",
        Kind::Texts,
        "",
        "Ours: the languages of names, such as `en`. The default is all of the database.",
    ),
];

/// `portcullis/geoip` as configured.
#[derive(Debug)]
pub(super) struct GeoBlock<'a> {
    pub(super) path: Option<String>,
    pub(super) path_at: Option<Node<'a>>,
    pub(super) languages: Vec<String>,
}

impl<'a> GeoBlock<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<GeoBlock<'a>> {
        let block: Block<'a> = node.block(KEYS)?;
        Some(GeoBlock {
            path: block.required("citydb_path"),
            path_at: block.get("citydb_path"),
            languages: block.texts("languages"),
        })
    }
}
