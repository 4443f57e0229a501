//! Responses of the front loop itself, before a connection is closed.

use std::time::Duration;

use pingora_core::server::ShutdownWatch;
use tokio::io::AsyncWriteExt;

use super::{FAREWELL, Front};
use crate::runtime::response::Response;
use crate::server::conn::Conn;

/// How long a rejected client has to read the response before the connection is closed.
const LINGER: Duration = Duration::from_millis(500);

impl Front {
    /// Rejects what is not a request, with the body that the file gives to errors.
    pub(super) async fn reject(&self, conn: &mut Conn, status: &str, reason: &str) {
        let code = status.split(' ').next().unwrap_or_default();
        let active = self.shared.active.load_full();
        let (Some(errors), Ok(code)) = (&active.service.errors, code.parse()) else {
            return reject(conn, status).await;
        };
        let id = errors.id();
        let id = id.as_ref().and_then(|id| id.to_str().ok());
        let response = errors.dress(Response::empty(code), Some(reason), id);
        let Some((_, kind)) = response.fields.first() else {
            return reject(conn, status).await;
        };
        reject_with(conn, status, kind.as_bytes(), &response.body).await;
    }
}

/// Resolves after a stop, when clients have had time to notice it.
pub(super) async fn farewell(mut stopping: ShutdownWatch) {
    // An error means that the server itself was dropped, which is a stop too.
    let _ = stopping.wait_for(|stop| *stop).await;
    tokio::time::sleep(FAREWELL).await;
}

pub(super) fn peer(conn: &Conn) -> String {
    pingora_core::protocols::GetSocketDigest::get_socket_digest(conn)
        .and_then(|digest| digest.peer_addr().map(ToString::to_string))
        .unwrap_or_default()
}

/// Writes a rejection without a session and ends the connection: there is no request that a session could handle.
pub(in crate::server) async fn reject(conn: &mut Conn, status: &str) {
    reject_with(
        conn,
        status,
        b"text/plain; charset=utf-8",
        status.as_bytes(),
    )
    .await;
}

async fn reject_with(conn: &mut Conn, status: &str, content_type: &[u8], body: &[u8]) {
    let status = format!("HTTP/1.1 {status}\r\nContent-Type: ");
    let rest = format!(
        "\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let text = [status.as_bytes(), content_type, rest.as_bytes(), body].concat();
    last_words(conn, &text).await;
}

/// Writes the last response on a connection.
pub(super) async fn last_words(conn: &mut Conn, text: &[u8]) {
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
