//! Determines the client's address when proxies are in between.

use std::net::{IpAddr, Ipv6Addr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName};

use crate::runtime::service::ClientAddress;

/// Set by Google App Engine in front of the application.
const APP_ENGINE: HeaderName = HeaderName::from_static("x-appengine-remote-addr");

impl ClientAddress {
    /// The client's address: the address of the peer, unless the peer is trusted to name another one.
    ///
    /// As in KrakenD, the lines of each header are joined and read from the right, past all trusted addresses. Unlike
    /// in KrakenD, only listed peers are trusted, and the first header that is not empty is also the last one used:
    /// if an element is not an address, the peer's own address is used. Otherwise a client could invalidate the
    /// header that its proxy writes, and name itself in another one.
    pub fn of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.named(peer, headers)
            .unwrap_or_else(|| peer.to_canonical())
    }

    /// The client's address for guards that need it: `None` if the peer is trusted and sends no address.
    pub fn named(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        if self.app_engine
            && let Some(value) = headers.get(APP_ENGINE)
        {
            return parsed(value.as_bytes());
        }
        if !self.by_header || !self.trusts(peer) {
            return Some(peer);
        }
        let name = self.headers.iter().find(|name| is_said(headers, name))?;
        self.claimed(headers, name)
    }

    /// Whether no header has the client's address, as in a request of a proxy itself.
    pub fn is_silent(&self, headers: &HeaderMap) -> bool {
        !self.headers.iter().any(|name| is_said(headers, name))
    }

    /// The address in one header. The header is read as bytes: invalid text affects only its element and not the
    /// whole line.
    fn claimed(&self, headers: &HeaderMap, name: &HeaderName) -> Option<IpAddr> {
        let mut leftmost = None;
        for line in headers.get_all(name).iter().rev() {
            for element in line.as_bytes().rsplit(|byte| *byte == b',') {
                let address = if *name == FORWARDED {
                    parsed(forwarded_for(std::str::from_utf8(element).ok()?)?.as_bytes())?
                } else {
                    parsed(element)?
                };
                if !self.trusts(address) {
                    return Some(address);
                }
                leftmost = Some(address);
            }
        }
        leftmost
    }
}

/// Whether a header is present with more than spaces in it.
fn is_said(headers: &HeaderMap, name: &HeaderName) -> bool {
    let mut lines = headers.get_all(name).iter();
    lines.any(|line| !line.as_bytes().trim_ascii().is_empty())
}

/// The zone of an IPv6 address (RFC 4007 §11) names an interface of the proxy and is dropped.
fn parsed(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element.trim_ascii()).ok()?;
    let address = match text.split_once('%') {
        Some((address, _zone)) => IpAddr::V6(address.parse().ok()?),
        None => text.parse().ok()?,
    };
    Some(address.to_canonical())
}

/// How many bits of an IPv6 address distinguish one client from another. A provider gives 64 bits and more to one
/// customer (RFC 6177), who could otherwise appear as a new client with each request. IPv4 addresses count as a
/// whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ipv6Prefix(u8);

impl Default for Ipv6Prefix {
    fn default() -> Ipv6Prefix {
        Ipv6Prefix(64)
    }
}

impl Ipv6Prefix {
    /// `None` unless `bits` is between 1 and 128.
    pub(crate) fn new(bits: u8) -> Option<Ipv6Prefix> {
        (1..=128).contains(&bits).then_some(Ipv6Prefix(bits))
    }

    /// A representative of all addresses of one client: the address with the bits after the prefix cleared.
    pub(crate) fn client(self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => {
                let mask = u128::MAX << (128 - u32::from(self.0));
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        }
    }
}

/// The `for` parameter of one element, without quotes, brackets and port (RFC 7239 §6).
fn forwarded_for(element: &str) -> Option<&str> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    let value = value.trim_matches('"');
    match value.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => value.split(':').next(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PEER: &str = "127.0.0.1";

    fn rules(trusted: &[&str]) -> ClientAddress {
        ClientAddress {
            by_header: true,
            trusted: trusted.iter().map(|net| net.parse().unwrap()).collect(),
            headers: ["x-forwarded-for", "x-real-ip"]
                .map(HeaderName::from_static)
                .into(),
            ..ClientAddress::default()
        }
    }

    fn everybody() -> ClientAddress {
        rules(&["0.0.0.0/0", "::/0"])
    }

    fn address(rules: &ClientAddress, sent: &[(&'static str, &'static str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, HeaderValue::from_static(value));
        }
        rules.of(PEER.parse().unwrap(), &headers).to_string()
    }

    const BOTH: [(&str, &str); 2] = [
        ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
        ("x-real-ip", "3.3.3.3"),
    ];

    #[test]
    fn if_all_peers_are_trusted_the_leftmost_address_is_used() {
        assert_eq!(address(&everybody(), &BOTH), "1.1.1.1");
        assert_eq!(address(&everybody(), &BOTH[1..]), "3.3.3.3");
        for value in ["junk", "1.1.1.1, junk", ""] {
            assert_eq!(address(&everybody(), &[("x-forwarded-for", value)]), PEER);
        }
    }

    #[test]
    fn only_listed_peers_are_trusted() {
        assert_eq!(address(&rules(&[]), &BOTH), PEER);
        assert_eq!(address(&rules(&["10.0.0.0/8"]), &BOTH), PEER);
    }

    fn address_of_bytes(rules: &ClientAddress, sent: &[(&'static str, &[u8])]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        rules.of(PEER.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn a_byte_outside_ascii_invalidates_only_its_own_element() {
        let rules = rules(&["127.0.0.1/32", "10.0.0.0/8"]);
        let forged: (&str, &[u8]) = ("x-real-ip", b"6.6.6.6");
        for (value, want) in [
            (&b"\xff, 9.9.9.9"[..], "9.9.9.9"),
            (b"6.6.6.6\xff, 9.9.9.9, 10.0.0.1", "9.9.9.9"),
            (b"\xff", PEER),
            (b"9.9.9.9\xff", PEER),
            (b"9.9.9.9, \xff, 10.0.0.1", PEER),
            (b"9.9.9.9,", PEER),
            (b"unknown", PEER),
            ("９.9.9.9".as_bytes(), PEER),
        ] {
            let sent = [("x-forwarded-for", value), forged];
            assert_eq!(address_of_bytes(&rules, &sent), want, "{value:?}");
        }
        let lines: [(&str, &[u8]); 3] = [
            ("x-forwarded-for", b"\xfe"),
            ("x-forwarded-for", b"9.9.9.9"),
            forged,
        ];
        assert_eq!(address_of_bytes(&rules, &lines), "9.9.9.9");
        let blank: [(&str, &[u8]); 2] = [("x-forwarded-for", b" "), forged];
        assert_eq!(
            address_of_bytes(&rules, &blank),
            "6.6.6.6",
            "it says nothing"
        );
        let standard = ClientAddress {
            headers: [FORWARDED, HeaderName::from_static("x-real-ip")].into(),
            ..rules
        };
        for (value, want) in [
            (&b"for=\xff, for=9.9.9.9"[..], "9.9.9.9"),
            (b"for=\xff", PEER),
            (b"proto=https", PEER),
            (b"for=\"9.9.9.9", "9.9.9.9"),
        ] {
            let sent = [("forwarded", value), forged];
            assert_eq!(address_of_bytes(&standard, &sent), want, "{value:?}");
        }
    }

    #[test]
    fn an_ipv6_client_is_identified_by_its_prefix() {
        let client = |bits, address: &str| {
            let prefix = Ipv6Prefix::new(bits).unwrap();
            prefix.client(address.parse().unwrap()).to_string()
        };
        assert_eq!(client(64, "2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(client(48, "2001:db8:1:2:3:4:5:6"), "2001:db8:1::");
        assert_eq!(client(128, "2001:db8::1"), "2001:db8::1");
        assert_eq!(client(64, "192.0.2.7"), "192.0.2.7");
        assert_eq!(client(64, "::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(Ipv6Prefix::new(0), None);
        assert_eq!(Ipv6Prefix::new(129), None);
    }

    #[test]
    fn a_proxy_that_names_no_address_leaves_the_client_unknown() {
        let named = |rules: &ClientAddress, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", HeaderValue::from_static(value));
            let named = rules.named(PEER.parse().unwrap(), &headers);
            named.map(|address| address.to_string())
        };
        let trusting = rules(&["127.0.0.1/32"]);
        for (value, want) in [
            ("9.9.9.9", Some("9.9.9.9")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("", None),
            (" ", None),
            ("junk", None),
            ("9.9.9.9%eth0", None),
            ("9.9.9.9, junk", None),
        ] {
            assert_eq!(named(&trusting, value).as_deref(), want, "{value}");
        }
        assert_eq!(named(&rules(&[]), "junk").as_deref(), Some(PEER));
        assert_eq!(named(&rules(&[]), "").as_deref(), Some(PEER));
        let silent = trusting.named(PEER.parse().unwrap(), &HeaderMap::new());
        assert_eq!(silent, None, "no header");
    }

    #[test]
    fn headers_can_be_ignored() {
        let rules = ClientAddress {
            by_header: false,
            ..everybody()
        };
        assert_eq!(address(&rules, &BOTH), PEER);
    }

    #[test]
    fn trusted_addresses_are_skipped_from_the_right() {
        let rules = rules(&["127.0.0.1/32", "2.2.2.0/24", "10.0.0.0/8"]);
        assert_eq!(address(&rules, &BOTH), "1.1.1.1");
        let spoofed = [("x-forwarded-for", "1.1.1.1, 9.9.9.9")];
        assert_eq!(address(&rules, &spoofed), "9.9.9.9");
        let lines = [
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-for", "10.1.2.3"),
        ];
        assert_eq!(address(&rules, &lines), "9.9.9.9");
    }

    #[test]
    fn headers_are_read_in_the_configured_order() {
        let rules = ClientAddress {
            headers: [HeaderName::from_static("x-real-ip")].into(),
            ..everybody()
        };
        assert_eq!(address(&rules, &BOTH), "3.3.3.3");
    }

    #[test]
    fn an_ipv4_peer_on_an_ipv6_socket_is_the_same_peer() {
        let rules = rules(&["127.0.0.1/32"]);
        let mut headers = HeaderMap::new();
        headers.insert("x-real-ip", HeaderValue::from_static("3.3.3.3"));
        let peer = "::ffff:127.0.0.1".parse().unwrap();
        assert_eq!(rules.of(peer, &headers).to_string(), "3.3.3.3");
    }

    #[test]
    fn the_standard_header_is_read_when_listed() {
        let rules = ClientAddress {
            headers: [FORWARDED].into(),
            ..rules(&["127.0.0.1/32", "10.0.0.0/8"])
        };
        for (value, want) in [
            ("for=9.9.9.9;proto=https, For=\"10.0.0.1:80\"", "9.9.9.9"),
            ("for=\"[2001:db8::1]:99\"", "2001:db8::1"),
            ("for=unknown", PEER),
            ("proto=https", PEER),
        ] {
            assert_eq!(address(&rules, &[("forwarded", value)]), want);
        }
    }

    #[test]
    fn the_app_engine_header_names_the_client() {
        let rules = ClientAddress {
            app_engine: true,
            ..ClientAddress::default()
        };
        let sent = [("x-appengine-remote-addr", "4.4.4.4")];
        assert_eq!(address(&rules, &sent), "4.4.4.4");
        assert_eq!(address(&rules, &BOTH), PEER);
        let broken: [(&str, &[u8]); 1] = [("x-appengine-remote-addr", b"4.4.4.4\xff")];
        assert_eq!(address_of_bytes(&rules, &broken), PEER);
    }
}
