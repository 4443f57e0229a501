//! The block as configured.

use crate::config::{Key, Kind, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "address",
        Kind::Text,
        "",
        "`http://` or `https://` URL of the database. Required.",
    ),
    key("db", Kind::Text, "krakend", "The database."),
    key("username", Kind::Text, "", "For basic authentication."),
    key("password", Kind::Secret, "", "For basic authentication."),
    key("ttl", Kind::Duration, "1m", "The time between two pushes."),
    key(
        "buffer_size",
        Kind::Integer,
        "0",
        "Failed pushes that are kept and sent again; at most 100.",
    ),
];
