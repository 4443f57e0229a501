//! `portcullis/wildcard`: all paths below a prefix go to one endpoint. It is what KrakenD's plugin `wildcard` does.

mod compile;

use super::extension::ServiceExtension;
use crate::config::{Kind, key};

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "portcullis/wildcard",
    aliases: &[],
    guard: true,
    doc: "Ours, with the key of KrakenD's plugin `wildcard`, which came before endpoints that end in `/*`.",
    keys: &[key(
        "endpoints",
        Kind::Object,
        "",
        "Endpoints, each with the list of prefixes whose paths it serves. Clients cannot call these endpoints by their own paths.",
    )],
    compile: compile::service,
};
