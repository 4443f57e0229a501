//! Unary gRPC calls over one HTTP/2 connection, for our own calls.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use http::{Method, Request, StatusCode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::tls::{SideTls, client_config};
use crate::upstream::client::ClientError;
use crate::upstream::head_writer::OUR_USER_AGENT;
use crate::upstream::race::{self, Turn};

/// The maximum size of a response.
const MAX_BYTES: usize = 1 << 20;

/// A client for one server.
#[derive(Debug)]
pub(crate) struct GrpcClient {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    connection: Mutex<Option<SendRequest<Bytes>>>,
    turn: Turn,
}

/// The response of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrpcResponse {
    /// `grpc-status`. 0 means success.
    pub status: u32,
    pub message: String,
    /// When the server allows another attempt (`grpc-retry-pushback-ms`).
    pub again_after: Option<Duration>,
    /// A `google.rpc.Status` with details (`grpc-status-details-bin`), or nothing.
    pub details: Vec<u8>,
    /// The message without its frame.
    pub body: Bytes,
}

impl GrpcClient {
    /// A client for `host`, a name or an address. `tls` is for a server with TLS. It connects with the first call.
    ///
    /// # Errors
    /// Files of the TLS settings are not usable.
    pub(crate) fn new(
        host: &str,
        port: u16,
        tls: Option<&SideTls>,
    ) -> Result<GrpcClient, ClientError> {
        let tls = match tls {
            Some(tls) => {
                let mut config = (*client_config(tls)?).clone();
                config.alpn_protocols = vec![b"h2".to_vec()];
                Some(Arc::new(config))
            }
            None => None,
        };
        Ok(GrpcClient {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            tls,
            connection: Mutex::new(None),
            turn: Turn::default(),
        })
    }

    /// Makes one call, for at most `limit`. With `gzip` the message is compressed.
    ///
    /// # Errors
    /// Why there was no response, for the log. The call may be repeated.
    pub(crate) async fn call(
        &self,
        path: &str,
        headers: &HeaderMap,
        message: &[u8],
        gzip: bool,
        limit: Duration,
    ) -> Result<GrpcResponse, String> {
        let call = self.exchange(path, headers, message, gzip);
        let outcome = tokio::time::timeout(limit, call).await;
        let outcome =
            outcome.unwrap_or_else(|_| Err(format!("no response within {} s", limit.as_secs())));
        if outcome.is_err() {
            // The next call opens a new connection.
            *self.connection.lock().await = None;
            self.turn.next();
        }
        outcome
    }

    async fn exchange(
        &self,
        path: &str,
        headers: &HeaderMap,
        message: &[u8],
        gzip: bool,
    ) -> Result<GrpcResponse, String> {
        let mut sender = self.sender().await?;
        let request = self.request(path, headers, gzip)?;
        let (response, mut stream) = sender.send_request(request, false).map_err(h2_reason)?;
        let mut framed = BytesMut::with_capacity(5 + message.len());
        framed.put_u8(u8::from(gzip));
        framed.put_u32(u32::try_from(message.len()).map_err(|error| error.to_string())?);
        framed.extend_from_slice(message);
        stream.send_data(framed.freeze(), true).map_err(h2_reason)?;
        let (head, mut body) = response.await.map_err(h2_reason)?.into_parts();
        if head.status != StatusCode::OK {
            return Err(format!("HTTP status {}", head.status.as_u16()));
        }
        let mut bytes = BytesMut::new();
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(h2_reason)?;
            let _ = body.flow_control().release_capacity(piece.len());
            if bytes.len() + piece.len() > MAX_BYTES {
                return Err(format!("a response larger than {MAX_BYTES} bytes"));
            }
            bytes.extend_from_slice(&piece);
        }
        let trailers = body.trailers().await.map_err(h2_reason)?;
        grpc_response(&trailers.unwrap_or(head.headers), bytes.freeze())
    }

    fn request(&self, path: &str, more: &HeaderMap, gzip: bool) -> Result<Request<()>, String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{scheme}://{host}:{}{path}", self.port))
            .body(())
            .map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        headers.extend(
            more.iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(USER_AGENT, OUR_USER_AGENT);
        if gzip {
            headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
        }
        Ok(request)
    }

    /// The existing connection, or a new one.
    async fn sender(&self) -> Result<SendRequest<Bytes>, String> {
        let mut place = self.connection.lock().await;
        if let Some(sender) = place.clone()
            && let Ok(ready) = sender.ready().await
        {
            return Ok(ready);
        }
        let rejected =
            |error: std::io::Error| format!("dial tcp {}:{}: {error}", self.host, self.port);
        let tcp = race::connect(&self.host, self.port, &self.turn)
            .await
            .map_err(rejected)?;
        let _ = tcp.set_nodelay(true);
        let sender = match &self.tls {
            None => handshake(tcp).await?,
            Some(config) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|e| e.to_string())?;
                let connector = TlsConnector::from(Arc::clone(config));
                handshake(connector.connect(name, tcp).await.map_err(rejected)?).await?
            }
        };
        *place = Some(sender.clone());
        sender.ready().await.map_err(h2_reason)
    }
}

async fn handshake<T>(io: T) -> Result<SendRequest<Bytes>, String>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = h2::client::handshake(io).await.map_err(h2_reason)?;
    // This task ends with the connection.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// What the library says, without the text in a GOAWAY: the server may repeat what it got.
fn h2_reason(error: h2::Error) -> String {
    match error.reason() {
        Some(reason) if error.is_go_away() => format!("the connection was ended: {reason}"),
        _ => error.to_string(),
    }
}

/// The status is in the trailers, or in the head of a response without a body.
fn grpc_response(fields: &HeaderMap, body: Bytes) -> Result<GrpcResponse, String> {
    let text = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    let status = text("grpc-status").and_then(|status| status.trim().parse().ok());
    let message = text("grpc-message").unwrap_or_default();
    let message = percent_encoding::percent_decode_str(message).decode_utf8_lossy();
    let pushback = text("grpc-retry-pushback-ms").and_then(|text| text.trim().parse().ok());
    let details = text("grpc-status-details-bin").map(|text| text.trim_end_matches('='));
    let details = details.and_then(|text| STANDARD_NO_PAD.decode(text).ok());
    Ok(GrpcResponse {
        status: status.ok_or("a response without grpc-status")?,
        message: message.into_owned(),
        again_after: pushback.map(Duration::from_millis),
        details: details.unwrap_or_default(),
        body: body
            .get(5..)
            .map(|message| body.slice_ref(message))
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::upstream::race::tests::{full_and_listener, two_listeners};

    const PATH: &str = "/package.Service/Method";
    const LONG: Duration = Duration::from_secs(20);

    fn client(name: &str, listener: &std::net::TcpListener) -> GrpcClient {
        let port = listener.local_addr().unwrap().port();
        GrpcClient::new(name, port, None).unwrap()
    }

    #[tokio::test]
    async fn an_address_that_drops_packets_does_not_hide_the_next_one() {
        let (name, _full, second) = full_and_listener();
        let client = client(name, &second);
        let headers = HeaderMap::new();
        let call = client.call(PATH, &headers, b"", false, LONG);
        let second = tokio::net::TcpListener::from_std(second).unwrap();
        let serve = async { second.accept().await.map(drop) };
        let (outcome, accepted) = tokio::join!(call, serve);
        accepted.unwrap();
        assert!(!outcome.unwrap_err().contains("no response"));
    }

    #[tokio::test]
    async fn after_an_address_without_responses_the_next_one_has_its_turn() {
        let (name, _first, second) = two_listeners();
        let client = client(name, &second);
        let headers = HeaderMap::new();
        let short = Duration::from_millis(500);
        let silence = client.call(PATH, &headers, b"", false, short).await;
        assert!(silence.unwrap_err().contains("no response"));
        second.accept().unwrap_err();
        let call = client.call(PATH, &headers, b"", false, LONG);
        let second = tokio::net::TcpListener::from_std(second).unwrap();
        let serve = async { second.accept().await.map(drop) };
        let (_, accepted) = tokio::join!(call, serve);
        accepted.unwrap();
    }

    #[tokio::test]
    async fn the_words_of_a_server_that_ends_the_connection_are_not_shown() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = GrpcClient::new("127.0.0.1", port, None).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let said = b"no: geheim";
            // SETTINGS and GOAWAY with ENHANCE_YOUR_CALM (RFC 9113 §6.5, §6.8).
            let mut frames = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
            frames.extend([0, 0, 8 + said.len() as u8, 7, 0, 0, 0, 0, 0]);
            frames.extend([0, 0, 0, 0, 0, 0, 0, 11]);
            frames.extend(said);
            stream.write_all(&frames).await.unwrap();
            // Until the client has closed it.
            let _ = stream.read_to_end(&mut Vec::new()).await;
            std::future::pending::<()>().await;
        };
        let headers = HeaderMap::new();
        let call = client.call(PATH, &headers, b"", false, LONG);
        let why = tokio::select! {
            outcome = call => outcome.unwrap_err(),
            () = serve => unreachable!(),
        };
        assert!(
            why.starts_with("the connection was ended") && !why.contains("geheim"),
            "{why}"
        );
    }
}
