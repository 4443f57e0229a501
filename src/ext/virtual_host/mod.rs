//! `server/virtualhost`: the paths of a host have a prefix in the router.

mod compile;
#[cfg(test)]
mod tests;

use super::extension::ServiceExtension;
use crate::config::{Kind, key};

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "server/virtualhost",
    aliases: &[],
    guard: true,
    doc: "Requests to these hosts go to the endpoints below `/__virtual/{host}/`, and to no others. Exactly one of the two keys.",
    keys: &[
        key(
            "hosts",
            Kind::Texts,
            "",
            "The hosts, with a port unless it is 80 or 443.",
        ),
        key(
            "aliased_hosts",
            Kind::TextMap,
            "",
            "Short names and their hosts: the endpoints are below `/__virtual/{name}/`.",
        ),
    ],
    compile: compile::service,
};
