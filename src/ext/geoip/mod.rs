//! `portcullis/geoip`, in the service: gives backends, policies and scripts the location of a client, as KrakenD's plugin
//! `geoip` does.

mod compile;
mod config;
mod lenient;
mod record;
mod runtime;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use runtime::{HEADER, Locator};
#[cfg(test)]
pub(crate) use tests::broken_later;

use super::extension::ServiceExtension;

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "portcullis/geoip",
    aliases: &[],
    guard: true,
    doc: "Ours, with the keys of KrakenD's plugin `geoip`: sets `X-Geoip` on every request, a JSON object with the place of the client's address. List it in `input_headers` to pass it to backends; policies have `geoIP()`. A client's own header of this name is removed.",
    keys: config::KEYS,
    compile: compile::service,
};
