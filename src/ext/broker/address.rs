//! What the addresses of all brokers have in common.

use http::uri::Authority;

/// The port, if the address names one.
///
/// # Errors
/// It is not a port. The text contains no part of the address.
pub(in crate::ext) fn port(authority: &Authority) -> Result<Option<u16>, String> {
    let place = authority.as_str();
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    if place == authority.host() {
        return Ok(None);
    }
    let port = authority.port_u16().filter(|port| *port > 0);
    match port {
        Some(port) => Ok(Some(port)),
        None => Err("the port must be a number from 1 to 65535".to_owned()),
    }
}

/// A host without the brackets of an IPv6 address.
pub(in crate::ext) fn without_brackets(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}
