//! Identifies the client of a request.

use std::borrow::Cow;
use std::net::IpAddr;

use http::HeaderName;

use crate::jose::ClaimPath;
use crate::runtime::address::Ipv6Prefix;
use crate::runtime::request::{Head, Notes};

/// How an endpoint distinguishes its clients (`strategy` and `key`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The client's address.
    Address(Ipv6Prefix),
    /// The address in this header, or the client's address if there is none.
    AddressIn(HeaderName, Ipv6Prefix),
    /// The value of this header: a claim that the validator propagated, or the value that the client sent.
    Header(HeaderName),
    /// The value of this path parameter, spelled as in the endpoint.
    Param(Box<str>),
    /// This claim of the verified token. Dots lead into objects unless a claim has the whole name.
    Claim(ClaimPath),
}

impl Identity {
    /// The name of the client. It is empty if the request has none, and the request is rejected then.
    ///
    /// Headers are those that earlier steps left: a header that the client sends in place of a propagated claim is
    /// not used.
    pub fn of<'a>(&self, head: &Head<'a>, notes: &'a Notes) -> Cow<'a, str> {
        match self {
            Identity::Address(prefix) => prefix.client(head.client).to_string().into(),
            Identity::AddressIn(name, prefix) => {
                let address = address_in(head, notes, name).unwrap_or(head.client);
                prefix.client(address).to_string().into()
            }
            Identity::Header(name) => notes
                .header_values(head, name)
                .next()
                .map_or("".into(), |value| String::from_utf8_lossy(value.as_bytes())),
            Identity::Param(name) => notes.params.get(name).unwrap_or_default().into(),
            Identity::Claim(path) => notes
                .claims
                .as_deref()
                .and_then(|claims| super::claim::text(claims, path))
                .unwrap_or_default(),
        }
    }
}

/// As in KrakenD: the first item of the first line, truncated at its first colon. Therefore an IPv6 address never
/// parses. It, and any other text that is not an address, falls back to the address of the connection.
fn address_in(head: &Head<'_>, notes: &Notes, name: &HeaderName) -> Option<IpAddr> {
    let value = notes.header_values(head, name).next()?;
    let first = std::str::from_utf8(value.as_bytes())
        .ok()?
        .split(',')
        .next()?
        .trim();
    first.split(':').next()?.parse().ok()
}
