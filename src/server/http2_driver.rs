//! Drives an HTTP/2 connection: accepts its streams, and starts a task for each request.
//!
//! It does what Pingora's own driver does, which holds the library's connection four times in one future: where it is
//! made, twice where it is handed on, and where it is used. Here a connection holds it once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::Connection;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Accept, HttpSession, handshake};
use pingora_core::protocols::{Digest, GetSocketDigest, Ssl, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::sync::Notify;

use super::conn::Conn;
use super::gateway::Gateway;

/// So many malformed requests end a connection, as in Pingora.
const MAX_MALFORMED: usize = 32;

/// The requests of a connection that have not ended.
#[derive(Debug, Default)]
struct Open {
    count: AtomicUsize,
    none: Notify,
}

impl Open {
    /// Waits until there has been no request for this long.
    async fn idle(&self, time: Duration) {
        while self.count.load(Ordering::Relaxed) != 0 {
            self.none.notified().await;
        }
        pingora_timeout::sleep(time).await;
    }
}

/// One of them.
struct OpenRequest(Arc<Open>);

impl OpenRequest {
    fn begin(open: &Arc<Open>) -> OpenRequest {
        open.count.fetch_add(1, Ordering::Relaxed);
        OpenRequest(Arc::clone(open))
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none.notify_one();
        }
    }
}

/// Serves `conn` until it ends, or until it had no request for `idle`. Once `leaving` is true, the client is told to
/// move to another gateway, and the connection ends with its last request.
pub(super) async fn serve(
    proxy: &Arc<HttpProxy<Gateway>>,
    conn: Box<Conn>,
    mut leaving: ShutdownWatch,
    idle: Duration,
) {
    let digest = Arc::new(Digest {
        ssl_digest: conn.get_ssl_digest(),
        socket_digest: conn.get_socket_digest(),
        ..Digest::default()
    });
    let Some(mut h2) = Box::pin(begin(proxy, conn)).await else {
        return;
    };
    let open = Arc::new(Open::default());
    let mut malformed = 0;
    let mut is_leaving = false;
    loop {
        let accepting = HttpSession::from_h2_conn(&mut h2, Arc::clone(&digest));
        let accepted = if is_leaving {
            accepting.await
        } else {
            tokio::select! {
                biased;
                _ = leaving.changed() => {
                    h2.graceful_shutdown();
                    is_leaving = true;
                    continue;
                }
                accepted = accepting => accepted,
                () = open.idle(idle) => return,
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => {
                let (proxy, leaving) = (Arc::clone(proxy), leaving.clone());
                let request = OpenRequest::begin(&open);
                tokio::spawn(async move {
                    let _request = request;
                    let session = ServerSession::new_http2(session);
                    proxy.process_new_http(session, &leaving).await;
                });
            }
            Ok(Some(H2Accept::Rejected)) => {
                malformed += 1;
                if malformed >= MAX_MALFORMED {
                    log::warn!(
                        "[SERVICE: Gateway] closed an HTTP/2 connection after {malformed} malformed requests"
                    );
                    return;
                }
            }
            // The client has closed it.
            Ok(None) => return,
            Err(error) => {
                log::debug!("an HTTP/2 connection ended: {error}");
                return;
            }
        }
    }
}

/// Sends the settings.
async fn begin(
    proxy: &Arc<HttpProxy<Gateway>>,
    conn: Box<Conn>,
) -> Option<Box<Connection<Stream, Bytes>>> {
    match handshake(conn, proxy.h2_options()).await {
        Ok(h2) => Some(Box::new(h2)),
        Err(error) => {
            log::debug!("an HTTP/2 connection could not begin: {error}");
            None
        }
    }
}
