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
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::tls::{SideTls, client_config};
use crate::upstream::client::ClientError;
use crate::upstream::head_writer::OUR_USER_AGENT;

/// The maximum size of a response.
const MAX_BYTES: usize = 1 << 20;

/// A client for one server.
#[derive(Debug)]
pub(crate) struct GrpcClient {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    connection: Mutex<Option<SendRequest<Bytes>>>,
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
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(grpc_response)) => Ok(grpc_response),
            Ok(Err(reason)) => {
                // The next call opens a new connection.
                *self.connection.lock().await = None;
                Err(reason)
            }
            Err(_) => {
                *self.connection.lock().await = None;
                Err(format!("no response within {} s", limit.as_secs()))
            }
        }
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
        let (response, mut stream) = sender
            .send_request(request, false)
            .map_err(|error| error.to_string())?;
        let mut framed = BytesMut::with_capacity(5 + message.len());
        framed.put_u8(u8::from(gzip));
        framed.put_u32(u32::try_from(message.len()).map_err(|error| error.to_string())?);
        framed.extend_from_slice(message);
        stream
            .send_data(framed.freeze(), true)
            .map_err(|error| error.to_string())?;
        let (head, mut body) = response
            .await
            .map_err(|error| error.to_string())?
            .into_parts();
        if head.status != StatusCode::OK {
            return Err(format!("HTTP status {}", head.status.as_u16()));
        }
        let mut bytes = BytesMut::new();
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(|error| error.to_string())?;
            let _ = body.flow_control().release_capacity(piece.len());
            if bytes.len() + piece.len() > MAX_BYTES {
                return Err(format!("a response larger than {MAX_BYTES} bytes"));
            }
            bytes.extend_from_slice(&piece);
        }
        let trailers = body.trailers().await.map_err(|error| error.to_string())?;
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
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
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
        sender.ready().await.map_err(|error| error.to_string())
    }
}

async fn handshake<T>(io: T) -> Result<SendRequest<Bytes>, String>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = h2::client::handshake(io)
        .await
        .map_err(|error| error.to_string())?;
    // This task ends with the connection.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
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
