//! Drives an HTTP/2 connection: accepts its streams, and starts a task for each request.
//!
//! It does what Pingora's own driver does, which holds the library's connection four times in one future: where it is
//! made, twice where it is handed on, and where it is used. Here a connection holds it once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
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
/// How long a client may take to notice that its idle connection ends. Its requests of this time are still served.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long the last frames of a connection may take. A client that does not read does not keep its place.
const LAST_FRAMES: Duration = Duration::from_millis(300);

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
///
/// Whenever the gateway ends a connection that has begun, it sends GOAWAY first, so that the client knows which of its requests were not
/// processed (RFC 9113 §6.8).
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
    // The client was told that its idle connection ends.
    let mut is_ending = false;
    // `None` after `leaving`: the end of the process is the limit.
    let mut limit = Some(idle);
    // Not ended within the loop: the future would have room for a request meanwhile.
    let reason = loop {
        let accepting = HttpSession::from_h2_conn(&mut h2, Arc::clone(&digest));
        let accepted = tokio::select! {
            biased;
            _ = leaving.changed(), if limit.is_some() => {
                h2.graceful_shutdown();
                limit = None;
                continue;
            }
            accepted = accepting => accepted,
            () = open.idle(limit.unwrap_or_default()), if limit.is_some() => {
                if is_ending {
                    break Some(Reason::NO_ERROR);
                }
                // A request may be on its way. The connection ends when the client has responded to this, or after
                // the limit.
                h2.graceful_shutdown();
                is_ending = true;
                limit = Some(GOODBYE);
                continue;
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => {
                // The client may take as long as usual to read the response.
                limit = limit.map(|_| idle);
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
                    break Some(Reason::ENHANCE_YOUR_CALM);
                }
            }
            // The client has closed it.
            Ok(None) => break None,
            Err(error) => {
                log::debug!("an HTTP/2 connection ended: {error}");
                break is_ended_by_us(&error).then_some(Reason::NO_ERROR);
            }
        }
    };
    if let Some(reason) = reason {
        Box::pin(end(h2, reason)).await;
    }
}

/// Ends a connection now. Requests in progress are aborted.
async fn end(mut h2: Box<Connection<Stream, Bytes>>, reason: Reason) {
    h2.abrupt_shutdown(reason);
    let closed = std::future::poll_fn(|cx| h2.poll_closed(cx));
    let _ = pingora_timeout::timeout(LAST_FRAMES, closed).await;
}

/// Whether the connection itself has ended the reading: its place is needed, a head is too slow, the memory is short. The
/// library ends a connection with GOAWAY only for the errors that it finds itself.
fn is_ended_by_us(error: &pingora_core::Error) -> bool {
    let error = error.root_cause().downcast_ref::<h2::Error>();
    let kind = error.and_then(h2::Error::get_io).map(io::Error::kind);
    matches!(
        kind,
        Some(io::ErrorKind::TimedOut | io::ErrorKind::OutOfMemory)
    )
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
