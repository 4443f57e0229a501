//! The keys of the block.

use crate::config::{Key, Kind, key};

pub(super) const KEYS: &[Key] = &[
    key("schema", Kind::Any, "", "The schema."),
    key(
        "error",
        Kind::Block(ERROR),
        "",
        "The response to the client if the response does not match.",
    ),
];

const ERROR: &[Key] = &[
    key(
        "body",
        Kind::Text,
        "the validator's text",
        "Shown to the client. The validator's text is shown only with `return_error_msg` of `router`.",
    ),
    key("status", Kind::Integer, "500", "400 to 599."),
    key("content_type", Kind::Text, "text/plain", "Of `body`."),
];
