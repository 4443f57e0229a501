//! A peer with a precomputed pool key.

use std::fmt;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use ahash::RandomState;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::upstreams::peer::{HttpPeer, Peer, PeerOptions, Proxy, Tracer};
use pingora_core::utils::tls::CertKey;

use super::tunnel::Tunnel;
use super::usage::Usage;

/// A peer to connect to, with the key of its pooled connections.
///
/// Pingora computes the pool key again for each lookup, with a hash whose keys are the same in every process. Because
/// an attacker could provoke a collision, it then asks the kernel where the found connection leads. Here the key is
/// computed once, with random hash keys of this process, so that the system call for each request is not needed.
#[derive(Debug, Clone)]
pub(super) struct PooledPeer {
    peer: HttpPeer,
    key: u64,
    /// Only TCP is connected. TLS is added elsewhere.
    bare: bool,
}

impl PooledPeer {
    /// The peer with its key. All peers of one pool need the same `keys`.
    pub(super) fn new(peer: HttpPeer, keys: &RandomState) -> PooledPeer {
        let key = keys.hash_one(&peer);
        PooledPeer {
            peer,
            key,
            bare: false,
        }
    }

    /// The same peer as a plain TCP connection.
    pub(super) fn bare(&self) -> PooledPeer {
        PooledPeer {
            bare: true,
            ..self.clone()
        }
    }

    /// The same peer, reached through a tunnel. Its connections are kept apart from those of the same proxy to other
    /// hosts.
    pub(super) fn through(mut self, tunnel: Tunnel, keys: &RandomState) -> PooledPeer {
        self.peer.group_key ^= keys.hash_one((&tunnel.proxy, &tunnel.name, tunnel.port));
        self.peer.options.custom_l4 = Some(Arc::new(tunnel));
        PooledPeer::new(self.peer, keys)
    }

    /// Counts the connections to this peer.
    pub(super) fn count(&mut self, usage: &Arc<Usage>) {
        self.peer.options.tracer = Some(usage.tracer());
    }

    /// Uses HTTP/1 with this peer, whatever the client prefers.
    pub(super) fn speak_http1(&mut self) {
        self.peer.options.set_http_version(1, 1);
    }
}

impl fmt::Display for PooledPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

impl Peer for PooledPeer {
    fn address(&self) -> &SocketAddr {
        self.peer.address()
    }

    fn tls(&self) -> bool {
        !self.bare && self.peer.tls()
    }

    fn sni(&self) -> &str {
        self.peer.sni()
    }

    fn reuse_hash(&self) -> u64 {
        self.key
    }

    fn matches_fd<V: AsRawFd>(&self, _fd: V) -> bool {
        true
    }

    fn get_proxy(&self) -> Option<&Proxy> {
        self.peer.get_proxy()
    }

    fn get_peer_options(&self) -> Option<&PeerOptions> {
        self.peer.get_peer_options()
    }

    fn get_mut_peer_options(&mut self) -> Option<&mut PeerOptions> {
        self.peer.get_mut_peer_options()
    }

    fn get_client_cert_key(&self) -> Option<&Arc<CertKey>> {
        self.peer.get_client_cert_key()
    }

    fn get_tracer(&self) -> Option<Tracer> {
        self.peer.get_tracer()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str, sni: &str) -> HttpPeer {
        HttpPeer::new(address, !sni.is_empty(), sni.to_owned())
    }

    #[test]
    fn equal_peers_share_connections_and_others_do_not() {
        let keys = RandomState::new();
        let key = |peer: HttpPeer| PooledPeer::new(peer, &keys).reuse_hash();
        let plain = key(peer("127.0.0.1:80", ""));
        assert_eq!(plain, key(peer("127.0.0.1:80", "")));
        assert_ne!(plain, key(peer("127.0.0.1:81", "")));
        assert_ne!(plain, key(peer("127.0.0.1:80", "a.test")));
        let mut grouped = peer("127.0.0.1:80", "");
        grouped.group_key = 1;
        assert_ne!(plain, key(grouped));
    }
}
