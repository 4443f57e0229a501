//! The keys of the blocks.

use crate::config::{Key, Kind, key};

pub(in crate::ext) const KEYS: &[Key] = &[
    key("path", Kind::Text, "", "A file with the template."),
    key(
        "template",
        Kind::Text,
        "",
        "The template itself, in base64. There is either a `path` or a `template`.",
    ),
    key(
        "content_type",
        Kind::Text,
        "application/json",
        "`Content-Type` of the body. A body of JSON is checked before it is sent.",
    ),
    key(
        "variables",
        Kind::Object,
        "",
        "Values for the template, under `.variables`.",
    ),
    key(
        "debug",
        Kind::Bool,
        "false",
        "Log what the template gets and makes at DEBUG. This shows bodies.",
    ),
];
