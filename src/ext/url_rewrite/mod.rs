//! `portcullis/url-rewrite`: rewrites paths before the router. It is what KrakenD's plugin `url-rewrite` does.

mod compile;
mod config;
#[cfg(test)]
mod tests;

use super::extension::ServiceExtension;

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "portcullis/url-rewrite",
    aliases: &[],
    // A guard of a path must also protect the paths that are rewritten to it.
    guard: true,
    doc: "Ours, with the keys of KrakenD's plugin `url-rewrite`: rewrites paths before the router. Guards and metrics see the new path, the access log shows the requested path.",
    keys: config::KEYS,
    compile: compile::service,
};
