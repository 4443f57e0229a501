//! Which client a request counts for.

use std::borrow::Cow;
use std::net::IpAddr;

use http::HeaderName;

use crate::jose::ClaimPath;
use crate::runtime::address::Ipv6Prefix;
use crate::runtime::request::{Head, Notes};

/// How an endpoint tells its clients apart (`strategy` and `key`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The client's address.
    Address(Ipv6Prefix),
    /// The address in this header, and the client's when there is none.
    AddressIn(HeaderName, Ipv6Prefix),
    /// The value of this header: a claim that the validator propagated under the name, or what the client sent.
    Header(HeaderName),
    /// The value of this path parameter, spelled as in the endpoint.
    Param(Box<str>),
    /// This claim of the verified token; dots lead into objects unless a claim has the whole name.
    Claim(ClaimPath),
}

impl Identity {
    /// The client's name; empty when the request has none, and then it is refused.
    ///
    /// Headers are those that earlier steps left: what a client sends in place of a propagated claim is not it.
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

/// As KrakenD does: the first item of the first line, cut at its first colon. An IPv6 address never parses, therefore;
/// it and anything else that is no address leave the choice to the connection.
fn address_in(head: &Head<'_>, notes: &Notes, name: &HeaderName) -> Option<IpAddr> {
    let value = notes.header_values(head, name).next()?;
    let first = std::str::from_utf8(value.as_bytes())
        .ok()?
        .split(',')
        .next()?
        .trim();
    first.split(':').next()?.parse().ok()
}
