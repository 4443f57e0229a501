//! What the addresses of all brokers have in common.

use http::uri::Authority;
use percent_encoding::percent_decode_str;

use crate::runtime::template::escape::is_well_formed;

/// A part of an address without its escapes.
///
/// # Errors
/// An escape is not one. The text contains no part of the address.
pub(in crate::ext) fn decoded(text: &str) -> Result<String, String> {
    if !is_well_formed(text) {
        return Err("a % is not followed by two hexadecimal digits".to_owned());
    }
    let text = percent_decode_str(text).decode_utf8();
    text.map(|text| text.into_owned())
        .map_err(|_| "an escaped part is not UTF-8".to_owned())
}

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
