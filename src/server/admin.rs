//! Small listeners beside the gateway: metrics, statistics, orders, the demo's parts.
//!
//! Each is a function from a request to a whole answer. They are not on the path of clients' requests.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Response, StatusCode, header};
use pingora_core::apps::http_app::{HttpServer, ServeHttp};
use pingora_core::protocols::http::ServerSession;

/// How long a request's body may take: nobody who uses these pages is slow.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest request body that such a listener reads.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// What was asked.
#[derive(Debug)]
pub struct Asked {
    pub method: Method,
    /// Without query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Answers a request, without waiting for anything.
pub type Handler = Arc<dyn Fn(&Asked) -> Response<Vec<u8>> + Send + Sync>;

/// One such listener.
#[derive(Clone)]
pub struct SideListener {
    pub address: SocketAddr,
    pub handler: Handler,
    /// A port in use is logged instead of stopping the start, as the reference does with its statistics.
    pub optional: bool,
}

impl fmt::Debug for SideListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideListener")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A handler that serves one page under `path` and nothing else.
pub fn page(
    path: &'static str,
    content_type: &'static str,
    render: impl Fn() -> Vec<u8> + Send + Sync + 'static,
) -> Handler {
    Arc::new(
        move |asked: &Asked| match (asked.path == path, asked.method == Method::GET) {
            (true, true) => whole(StatusCode::OK, content_type, render()),
            (true, false) => plain(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed"),
            (false, _) => plain(StatusCode::NOT_FOUND, "404 page not found"),
        },
    )
}

/// An answer in plain text.
pub fn plain(status: StatusCode, text: &str) -> Response<Vec<u8>> {
    whole(
        status,
        "text/plain; charset=utf-8",
        text.as_bytes().to_vec(),
    )
}

/// An answer with this body.
pub fn whole(status: StatusCode, content_type: &str, body: Vec<u8>) -> Response<Vec<u8>> {
    let response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CONTENT_LENGTH, body.len())
        .body(body);
    response.unwrap_or_default()
}

/// The application that Pingora runs for a [`SideListener`].
pub struct Side {
    handler: Handler,
}

impl Side {
    /// The application for a listener.
    pub fn app(handler: Handler) -> HttpServer<Side> {
        HttpServer::new_app(Side { handler })
    }
}

#[async_trait]
impl ServeHttp for Side {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        session.set_read_timeout(Some(PATIENCE));
        let body = match pingora_timeout::timeout(PATIENCE, whole_body(session)).await {
            Ok(Ok(body)) => body,
            Ok(Err(refusal)) => return refusal,
            Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "408 request timeout"),
        };
        let request = session.req_header();
        let asked = Asked {
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
            headers: request.headers.clone(),
            body,
        };
        (self.handler)(&asked)
    }
}

async fn whole_body(session: &mut ServerSession) -> Result<Bytes, Response<Vec<u8>>> {
    let mut body = BytesMut::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY_BYTES => {
                return Err(plain(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "413 payload too large",
                ));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body.freeze()),
            Err(_) => return Err(plain(StatusCode::BAD_REQUEST, "400 Bad Request")),
        }
    }
}
