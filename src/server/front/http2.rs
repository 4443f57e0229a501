//! HTTP/2 connections: their limits, and how they are recognised.

use std::sync::Arc;

use pingora_core::apps::HttpServerOptions;
use pingora_core::protocols::http::v2::server::default_h2_options;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;

use super::{FAREWELL, Front};
use crate::runtime::listen::Limits;
use crate::server::conn::Conn;
use crate::server::gateway::Gateway;
use crate::server::{http2_driver, http2_streams};

/// The first bytes of HTTP/2 with prior knowledge (RFC 9113 §3.4).
pub(super) const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Front {
    /// HTTP/2 that was negotiated in the TLS handshake still starts with its preface, which Pingora would await
    /// forever.
    pub(super) async fn preface(&self, conn: &mut Conn) -> bool {
        let whole = async {
            while conn.ahead().len() < H2_PREFACE.len() {
                match conn.fill().await {
                    Ok(count) if count > 0 => {}
                    _ => return false,
                }
            }
            conn.ahead().starts_with(H2_PREFACE)
        };
        matches!(
            pingora_timeout::timeout(self.limits.head, whole).await,
            Ok(true)
        )
    }

    /// Serves a connection over HTTP/2.
    pub(super) async fn http2(&self, mut conn: Box<Conn>, shutdown: &ShutdownWatch) {
        conn.become_h2(Arc::clone(&self.shared.metrics), self.limits.head);
        let is_leaving = *self.leaving.borrow();
        // A client that connects although the process is stopping has found no other gateway yet.
        let shutdown = if is_leaving {
            shutdown.clone()
        } else {
            self.leaving.clone()
        };
        if let Some(arrival) = conn.arrival.take().filter(|_| is_leaving) {
            // Its first request may come after its preface.
            tokio::spawn(async move {
                tokio::time::sleep(FAREWELL).await;
                drop(arrival);
            });
        }
        http2_driver::serve(&self.proxy, conn, shutdown, self.limits.idle).await;
    }
}

/// The maximum size of a request head over HTTP/2: Pingora's own limit, or the configured one if it is lower. There
/// may be a hundred such heads at a time on one connection.
const H2_HEAD_BYTES: usize = 64 * 1024;

/// The number of bytes that are added for each header (RFC 9113 §6.5.2). Pseudo-headers count as headers there.
const H2_FIELD_BYTES: usize = 32;

const H2_PSEUDO_FIELDS: usize = 10;

/// What a stream may have in its queue while the client does not read. The usual 400 KiB of many streams would exceed the
/// memory of a small container.
const QUEUED: usize = 32 * 1024;

/// Applies the limits to HTTP/2 connections, which Pingora reads itself.
pub(crate) fn limit_http2(proxy: &mut HttpProxy<Gateway>, limits: &Limits) {
    let bytes = limits
        .max_header_bytes
        .saturating_add(H2_PSEUDO_FIELDS * H2_FIELD_BYTES)
        .min(H2_HEAD_BYTES);
    let mut options = default_h2_options();
    options.max_header_list_size(u32::try_from(bytes).unwrap_or(u32::MAX));
    options
        .initial_connection_window_size(u32::try_from(http2_streams::window()).unwrap_or(u32::MAX));
    options.max_send_buffer_size(QUEUED);
    proxy.h2_options = Some(options);
    let mut server = HttpServerOptions::default();
    // Nothing is tunnelled: such a request gets a response of the gateway instead of Pingora's own.
    server.allow_connect_method_proxying = true;
    proxy.server_options = Some(server);
}
