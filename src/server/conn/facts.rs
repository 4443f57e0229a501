//! The facts about a connection that Pingora needs.

use std::sync::Arc;

use aws_lc_rs::digest;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{SslDigest, TlsRef};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};

use super::{Conn, Wire};

/// The SHA-256 of the client's certificate, for tokens that are bound to it (RFC 8705 §3.1). Empty without one. It is
/// computed once for the connection.
pub(super) fn thumbprint(session: &rustls::ServerConnection) -> Vec<u8> {
    let shown = session.peer_certificates().and_then(<[_]>::first);
    shown.map_or_else(Vec::new, |certificate| {
        digest::digest(&digest::SHA256, certificate)
            .as_ref()
            .to_vec()
    })
}

impl UniqueID for Conn {
    fn id(&self) -> UniqueIDType {
        match &self.wire {
            Wire::Plain(stream) => stream.id(),
            Wire::Tls(stream) => stream.get_ref().0.id(),
        }
    }
}

impl Ssl for Conn {
    fn get_ssl(&self) -> Option<&TlsRef> {
        None
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.tls.clone()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.alpn.clone()
    }
}

impl GetTimingDigest for Conn {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Conn {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Conn {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.socket.clone()
    }
}
