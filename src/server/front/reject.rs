//! Responses of the front loop itself, before a connection is closed.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use pingora_core::Error;
use pingora_core::server::ShutdownWatch;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::io::AsyncWriteExt;

use super::{FAREWELL, FIRST_REQUEST, Front};
use crate::runtime::errors::ErrorBodies;
use crate::runtime::request::RequestId;
use crate::runtime::response::Response;
use crate::server::conn::Conn;
use crate::server::head::BadHead;
use crate::telemetry::request_id;

/// How long a rejected client has to read the response before the connection is closed.
const LINGER: Duration = Duration::from_millis(500);

impl Front {
    /// Rejects what is not a request, with the body that the file gives to errors.
    ///
    /// There is no line in the access log. If the client gets an id, it is in a line of the log.
    pub(super) async fn reject(&self, conn: &mut Conn, status: &str, reason: &str) {
        let rejection = self.rejection(&peer(conn), status, reason);
        reject_with(conn, status, &rejection).await;
    }

    /// Rejects a head that the session cannot read. The response is written by the session, which has the connection.
    pub(super) async fn unreadable(&self, mut session: Session) {
        let bad = BadHead::Unreadable;
        self.shared.metrics.bad_request(bad.as_str());
        let peer = session.client_addr().map(ToString::to_string);
        let peer = peer.unwrap_or_default();
        let rejection = self.rejection(&peer, bad.status_line(), bad.as_str());
        let written = write_unread(&mut session, StatusCode::BAD_REQUEST, rejection);
        if let Err(error) = written.await {
            log::debug!("the client closed the connection before its error response: {error}");
        }
        session.downstream_session.shutdown().await;
    }

    /// The response to what is not a request. Logs the reason.
    fn rejection(&self, peer: &str, status: &str, reason: &str) -> Rejection {
        let active = self.shared.active.load_full();
        let errors = active.service.errors.as_deref();
        let given = active.service.new_id();
        let id = match &given {
            Some(given) => Some(given.id.value.clone()),
            None => errors.and_then(ErrorBodies::id),
        };
        let shown = id.as_ref().and_then(|id| id.to_str().ok());
        match (&id, shown) {
            (Some(id), Some(shown)) => request_id::within_sync(id.clone(), || {
                log::info!(
                    "[SERVICE: Gateway] rejected a request from {peer}: {reason}, request id {shown}"
                );
            }),
            _ => log::info!("[SERVICE: Gateway] rejected a request from {peer}: {reason}"),
        }
        let code = status.split(' ').next().unwrap_or_default();
        let dressed = match (errors, code.parse()) {
            (Some(errors), Ok(code)) => errors.dress(Response::empty(code), Some(reason), shown),
            _ => Response::empty(StatusCode::BAD_REQUEST),
        };
        let rejection = match dressed.fields.into_iter().next() {
            Some((_, kind)) => Rejection {
                kind,
                body: dressed.body,
                id: None,
            },
            None => Rejection::plain(status),
        };
        let id = given.filter(|given| given.respond).map(|given| given.id);
        Rejection { id, ..rejection }
    }
}

/// What a client gets beside the status.
struct Rejection {
    /// The content type of the body.
    kind: HeaderValue,
    body: Bytes,
    id: Option<RequestId>,
}

impl Rejection {
    fn plain(status: &str) -> Rejection {
        Rejection {
            kind: HeaderValue::from_static("text/plain; charset=utf-8"),
            body: Bytes::copy_from_slice(status.as_bytes()),
            id: None,
        }
    }
}

/// Writes a response on a session that has not read its request.
async fn write_unread(
    session: &mut Session,
    status: StatusCode,
    rejection: Rejection,
) -> Result<(), Box<Error>> {
    let Rejection { kind, body, id } = rejection;
    let mut header = ResponseHeader::build(status, Some(4))?;
    header.insert_header(CONTENT_TYPE, kind)?;
    header.insert_header(CONTENT_LENGTH, body.len())?;
    if let Some(id) = id {
        header.insert_header(id.header, id.value)?;
    }
    session
        .as_downstream_mut()
        .write_error_response(header, body)
        .await
}

/// Resolves after a stop, when clients have had time to notice it.
pub(in crate::server) async fn farewell(stopping: ShutdownWatch) {
    stopped_for(stopping, FAREWELL).await;
}

/// Resolves after a stop, when a client that has sent nothing yet has had time for its first request.
pub(in crate::server) async fn no_longer_new(stopping: ShutdownWatch) {
    stopped_for(stopping, FIRST_REQUEST).await;
}

/// Resolves some time after a stop.
async fn stopped_for(mut stopping: ShutdownWatch, time: Duration) {
    // An error means that the server itself was dropped, which is a stop too.
    let _ = stopping.wait_for(|stop| *stop).await;
    tokio::time::sleep(time).await;
}

pub(super) fn peer(conn: &Conn) -> String {
    pingora_core::protocols::GetSocketDigest::get_socket_digest(conn)
        .and_then(|digest| digest.peer_addr().map(ToString::to_string))
        .unwrap_or_default()
}

/// Writes a rejection without a session and ends the connection: there is no request that a session could handle.
pub(in crate::server) async fn reject(conn: &mut Conn, status: &str) {
    reject_with(conn, status, &Rejection::plain(status)).await;
}

async fn reject_with(conn: &mut Conn, status: &str, rejection: &Rejection) {
    let Rejection { kind, body, id } = rejection;
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Type: ").into_bytes();
    text.extend_from_slice(kind.as_bytes());
    if let Some(id) = id {
        text.extend_from_slice(format!("\r\n{}: ", id.header).as_bytes());
        text.extend_from_slice(id.value.as_bytes());
    }
    let rest = format!(
        "\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    text.extend_from_slice(rest.as_bytes());
    text.extend_from_slice(body);
    last_words(conn, &text).await;
}

/// Writes the last response on a connection.
pub(in crate::server) async fn last_words(conn: &mut Conn, text: &[u8]) {
    let write = async {
        conn.write_all(text).await?;
        conn.flush().await?;
        conn.shutdown().await?;
        // Unread data in the socket would turn the close into a reset that may discard the response.
        let mut ahead = 0;
        while ahead < 64 * 1024 {
            match conn.fill().await? {
                0 => break,
                count => ahead += count,
            }
            conn.ahead().clear();
        }
        std::io::Result::Ok(())
    };
    let _ = pingora_timeout::timeout(LINGER, write).await;
}
