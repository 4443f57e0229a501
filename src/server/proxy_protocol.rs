//! The PROXY protocol, versions 1 and 2, in which a load balancer sends the client's address.
//!
//! It is disabled by default. If enabled, it is required from the listed peers only. For all other peers their own
//! address is used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use pingora_core::protocols::{GetSocketDigest, SocketDigest, UniqueID};

use crate::server::conn::Conn;

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The maximum length of a version 1 line, as in the specification, and our limit for version 2.
const V1_MAX: usize = 107;
const V2_MAX: usize = 16 + 1024;

/// Why a preamble was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    #[error("a listed peer sent no preamble")]
    Missing,
    #[error("the preamble is malformed")]
    Malformed,
    #[error("the connection ended inside the preamble")]
    Ended,
}

/// The content of a preamble: the client's address, or none (`LOCAL`, `UNKNOWN`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    pub length: usize,
    pub client: Option<SocketAddr>,
}

/// Reads the preamble of a connection from a trusted peer and sets the connection's client address.
///
/// # Errors
/// A trusted peer did not send a complete and valid one.
pub(crate) async fn read(conn: &mut Conn, trusted: &[IpNet]) -> Result<(), ProxyError> {
    let peer = conn
        .get_socket_digest()
        .and_then(|digest| digest.peer_addr()?.as_inet().map(|inet| inet.ip()));
    if !peer.is_some_and(|ip| trusted.iter().any(|net| net.contains(&ip.to_canonical()))) {
        return Ok(());
    }
    loop {
        if let Some(preamble) = parse(conn.ahead())? {
            let _ = conn.ahead().split_to(preamble.length);
            if let Some(client) = preamble.client {
                let digest = SocketDigest::from_raw_fd(conn.id());
                // A new digest has no address yet, so setting it cannot fail.
                let _ = digest.peer_addr.set(Some(client.into()));
                conn.set_socket(Arc::new(digest));
            }
            return Ok(());
        }
        match conn.fill().await {
            Ok(0) | Err(_) => return Err(ProxyError::Ended),
            Ok(_) => {}
        }
    }
}

/// Parses a preamble from the first bytes of a connection. `None` if more bytes are needed.
///
/// # Errors
/// The bytes are not a valid preamble.
pub fn parse(bytes: &[u8]) -> Result<Option<Preamble>, ProxyError> {
    let signature = bytes.len().min(V2_SIGNATURE.len());
    if bytes.get(..signature) == V2_SIGNATURE.get(..signature) {
        return parse_v2(bytes);
    }
    let word = bytes.len().min(6);
    if bytes.get(..word) == b"PROXY ".get(..word) {
        return parse_v1(bytes);
    }
    Err(ProxyError::Missing)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Preamble>, ProxyError> {
    let Some(end) = bytes.iter().take(V1_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() >= V1_MAX {
            Err(ProxyError::Malformed)
        } else {
            Ok(None)
        };
    };
    let line = bytes
        .get(..end)
        .and_then(|line| line.strip_suffix(b"\r"))
        .ok_or(ProxyError::Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let words: Vec<&str> = line.split(' ').collect();
    let client = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        [
            "PROXY",
            family @ ("TCP4" | "TCP6"),
            source,
            target,
            source_port,
            target_port,
        ] => {
            let ip: IpAddr = source.parse().map_err(|_| ProxyError::Malformed)?;
            let other: IpAddr = target.parse().map_err(|_| ProxyError::Malformed)?;
            let port: u16 = source_port.parse().map_err(|_| ProxyError::Malformed)?;
            let _: u16 = target_port.parse().map_err(|_| ProxyError::Malformed)?;
            if ip.is_ipv4() != (*family == "TCP4") || other.is_ipv4() != ip.is_ipv4() {
                return Err(ProxyError::Malformed);
            }
            Some(SocketAddr::new(ip, port))
        }
        _ => return Err(ProxyError::Malformed),
    };
    Ok(Some(Preamble {
        length: end + 1,
        client,
    }))
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Preamble>, ProxyError> {
    let Some(head) = bytes.get(..16) else {
        return Ok(None);
    };
    let length = 16 + usize::from(u16::from_be_bytes([head[14], head[15]]));
    if head[12] >> 4 != 2 || length > V2_MAX {
        return Err(ProxyError::Malformed);
    }
    let Some(body) = bytes.get(16..length) else {
        return Ok(None);
    };
    let client = match (head[12] & 0x0f, head[13]) {
        (0, _) => None,
        (1, 0x11) => Some(address_v4(body).ok_or(ProxyError::Malformed)?),
        (1, 0x21) => Some(address_v6(body).ok_or(ProxyError::Malformed)?),
        (1, _) => None,
        _ => return Err(ProxyError::Malformed),
    };
    Ok(Some(Preamble { length, client }))
}

fn address_v4(body: &[u8]) -> Option<SocketAddr> {
    let ip: [u8; 4] = body.get(..4)?.try_into().ok()?;
    let port = u16::from_be_bytes(body.get(8..10)?.try_into().ok()?);
    Some(SocketAddr::new(Ipv4Addr::from(ip).into(), port))
}

fn address_v6(body: &[u8]) -> Option<SocketAddr> {
    let ip: [u8; 16] = body.get(..16)?.try_into().ok()?;
    let port = u16::from_be_bytes(body.get(32..34)?.try_into().ok()?);
    Some(SocketAddr::new(Ipv6Addr::from(ip).into(), port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn version_1_names_the_client() {
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET / ";
        let preamble = parse(line).unwrap().unwrap();
        assert_eq!(preamble.client, Some("192.0.2.1:56324".parse().unwrap()));
        assert_eq!(&line[preamble.length..], b"GET / ");
        assert_eq!(parse(b"PROXY UNKNOWN\r\n").unwrap().unwrap().client, None);
        assert_eq!(parse(b"PROXY TCP4 192.0"), Ok(None));
        assert_eq!(
            parse(b"PROXY TCP4 ::1 ::1 1 2\r\n"),
            Err(ProxyError::Malformed)
        );
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(ProxyError::Missing));
    }

    #[test]
    fn version_2_names_the_client() {
        let mut bytes = V2_SIGNATURE.to_vec();
        bytes.extend([
            0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb,
        ]);
        assert_eq!(parse(&bytes[..20]), Ok(None));
        let preamble = parse(&bytes).unwrap().unwrap();
        assert_eq!(
            (preamble.length, preamble.client),
            (28, Some("192.0.2.1:56324".parse().unwrap()))
        );
        bytes[12] = 0x20; // LOCAL: a health check by the load balancer itself
        assert_eq!(parse(&bytes).unwrap().unwrap().client, None);
        bytes[12] = 0x31;
        assert_eq!(parse(&bytes), Err(ProxyError::Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = parse(&[V2_SIGNATURE, &bytes].concat());
        }
    }
}
