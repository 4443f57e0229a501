//! Identifies the client of a request.

use std::borrow::Cow;
use std::net::IpAddr;

use http::HeaderName;
use http::header::COOKIE;

use crate::jose::ClaimPath;
use crate::runtime::address::Ipv6Prefix;
use crate::runtime::forward::QueryRules;
use crate::runtime::request::{Head, Notes};

/// How an endpoint distinguishes its clients (`strategy` and `key`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
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
    /// Path and query, as the client sent them.
    Url,
    /// The path, as the client sent it.
    Path,
    /// The first value of this query parameter.
    Query(Box<str>),
    /// The value of this cookie.
    Cookie(Box<str>),
    /// The inner identity, or the client's address for requests that have none.
    OrAddress(Box<Identity>, Ipv6Prefix),
}

impl Identity {
    /// The name of the client. It is empty if the request has none, and the request is rejected then.
    ///
    /// Headers are those that earlier steps left: a header that the client sends in place of a propagated claim is
    /// not used.
    pub(crate) fn of<'a>(&self, head: &Head<'a>, notes: &'a Notes) -> Cow<'a, str> {
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
            Identity::Url => match head.query {
                Some(query) => format!("{}?{query}", head.path).into(),
                None => head.path.into(),
            },
            Identity::Path => head.path.into(),
            Identity::Query(name) => parameter(head.query, name).into(),
            Identity::Cookie(name) => cookie(head, notes, name).unwrap_or_default().into(),
            Identity::OrAddress(inner, prefix) => match inner.of(head, notes) {
                // No header, cookie or claim contains this character, so no client can take the place of an address.
                name if name.is_empty() => format!("\0{}", prefix.client(head.client)).into(),
                name => name,
            },
        }
    }
}

fn parameter(query: Option<&str>, name: &str) -> String {
    let pairs = QueryRules::All.pairs(query, None);
    let pair = pairs.iter().find(|pair| *pair.name == *name.as_bytes());
    pair.map_or_else(String::new, |pair| {
        String::from_utf8_lossy(&pair.value).into_owned()
    })
}

/// The first cookie with this name (RFC 6265 §5.4).
fn cookie<'a>(head: &Head<'a>, notes: &'a Notes, name: &str) -> Option<&'a str> {
    notes
        .header_values(head, &COOKIE)
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
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
