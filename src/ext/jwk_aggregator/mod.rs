//! `portcullis/jwk-aggregator`: several key sets as one. It is what KrakenD's plugin `jwk-aggregator` does, but no port is
//! opened: a validator whose `jwk_url` is the plugin's address gets the keys of all origins.

mod compile;
#[cfg(test)]
mod tests;

pub(crate) use compile::Aggregator;

use super::extension::ServiceExtension;
use crate::config::{Key, Kind, key};

const KEYS: &[Key] = &[
    key(
        "port",
        Kind::Integer,
        "",
        "Required: validators with `jwk_url` `http://localhost:PORT` get the keys of all origins. The port is not opened.",
    ),
    key(
        "origins",
        Kind::Texts,
        "",
        "Required: the URLs of the key sets. Those with http need `disable_jwk_security` of the validator.",
    ),
    key(
        "cache",
        Kind::Bool,
        "false",
        "Has no effect: key sets are always cached, and their `Cache-Control` is respected.",
    ),
];

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "portcullis/jwk-aggregator",
    aliases: &[],
    guard: true,
    doc: "Ours, with the keys of KrakenD's plugin `jwk-aggregator`: several key sets as one. `providers` of `auth/validator` are safer, because each key set speaks only for its own issuer.",
    keys: KEYS,
    compile: compile::service,
};
