//! Which address the client has, when proxies stand between.

use std::net::IpAddr;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName};

use crate::runtime::service::ClientAddress;

/// Set by Google App Engine in front of the application.
const APP_ENGINE: HeaderName = HeaderName::from_static("x-appengine-remote-addr");

impl ClientAddress {
    /// The client's address: the peer's, unless the peer is trusted to name another.
    ///
    /// As KrakenD does: each header's lines are joined and read from the right, past all trusted addresses; an element
    /// that is no address discards the header. Unlike it, nobody is trusted unless listed.
    pub fn of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if self.app_engine
            && let Some(value) = headers.get(APP_ENGINE).and_then(|v| v.to_str().ok())
            && let Ok(address) = value.trim().parse::<IpAddr>()
        {
            return address;
        }
        if !self.by_header || !self.trusts(peer) {
            return peer;
        }
        self.headers
            .iter()
            .find_map(|name| self.claimed(headers, name))
            .unwrap_or(peer)
    }

    /// What one header says.
    fn claimed(&self, headers: &HeaderMap, name: &HeaderName) -> Option<IpAddr> {
        let mut leftmost = None;
        for line in headers.get_all(name).iter().rev() {
            for element in line.to_str().ok()?.rsplit(',') {
                let element = match *name == FORWARDED {
                    true => forwarded_for(element)?,
                    false => element.trim(),
                };
                let address = element.parse::<IpAddr>().ok()?.to_canonical();
                if !self.trusts(address) {
                    return Some(address);
                }
                leftmost = Some(address);
            }
        }
        leftmost
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
    fn with_everybody_trusted_the_leftmost_address_counts() {
        assert_eq!(address(&everybody(), &BOTH), "1.1.1.1");
        assert_eq!(address(&everybody(), &BOTH[1..]), "3.3.3.3");
        for value in ["junk", "1.1.1.1, junk", ""] {
            assert_eq!(address(&everybody(), &[("x-forwarded-for", value)]), PEER);
        }
    }

    #[test]
    fn nobody_is_trusted_unless_listed() {
        assert_eq!(address(&rules(&[]), &BOTH), PEER);
        assert_eq!(address(&rules(&["10.0.0.0/8"]), &BOTH), PEER);
    }

    #[test]
    fn headers_can_be_ignored_altogether() {
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
    fn the_list_of_headers_is_followed() {
        let rules = ClientAddress {
            headers: [HeaderName::from_static("x-real-ip")].into(),
            ..everybody()
        };
        assert_eq!(address(&rules, &BOTH), "3.3.3.3");
    }

    #[test]
    fn an_ipv4_peer_seen_through_an_ipv6_socket_is_the_same_peer() {
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
    fn app_engine_names_the_client_itself() {
        let rules = ClientAddress {
            app_engine: true,
            ..ClientAddress::default()
        };
        let sent = [("x-appengine-remote-addr", "4.4.4.4")];
        assert_eq!(address(&rules, &sent), "4.4.4.4");
        assert_eq!(address(&rules, &BOTH), PEER);
    }
}
