//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub(crate) const HTTP: Namespace = Namespace {
    name: "backend/http",
    aliases: &["github.com/devopsfaith/krakend/http"],
    guard: false,
    doc: "What clients get if a backend fails.",
    keys: &[
        key(
            "return_error_details",
            Kind::Text,
            "",
            "Put status and body under `error_<this text>`.",
        ),
        key(
            "return_error_code",
            Kind::Bool,
            "false",
            "Respond with the backend's status code.",
        ),
    ],
};
