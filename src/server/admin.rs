//! Admin listeners: metrics, statistics, control, and parts of the demo.
//!
//! Each is a function from a request to a complete response. They are not in the path of client requests.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use tokio::sync::{Semaphore, watch};

use crate::runtime::listen::{MAX_FIELDS, ServerTls};
use crate::server::accept::{Accepted, App};
use crate::server::conn::Conn;
use crate::server::connection_limit::ConnectionSlot;
use crate::server::front::{HANDSHAKE_TIMEOUT, farewell, reject, take_request};
use crate::server::gateway;
use crate::server::handshakes::{HandshakeLimiter, TlsSide};
use crate::server::head::{BadHead, HeadFacts, HeadReader};
use crate::server::pages::{Body, Page, SharedPages};
use crate::server::tls::Certificates;

/// The timeout of a request head, of a request body, and of each write of the response. Users of these pages are
/// never slow.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of the body of a request that anyone may send, and of the rest of a body that is not read.
const ANONYMOUS_BODY: Duration = Duration::from_secs(5);
/// After this time, the connection of a request that anyone may send is closed if a new one needs its place: while the
/// client sends the body, and while it reads the response.
const BODY_GRACE: Duration = Duration::from_millis(50);
const RESPONSE_GRACE: Duration = Duration::from_secs(1);
/// The timeout of one whole request.
const EXCHANGE: Duration = Duration::from_secs(30);
/// How long a connection may be idle. Monitoring systems usually send a request every 15 seconds.
const IDLE: Duration = Duration::from_secs(60);
/// The maximum size of a request head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The maximum number of connections of an admin listener. A new connection replaces the one that has been silent for
/// the longest time, or one whose request is slow and not authenticated.
pub(crate) const MAX_CONNECTIONS: usize = 64;
/// The maximum size of a request body.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Responses that are made at the same time. Making a page can take many megabytes.
const MAX_BUILDING: usize = 2;

/// A request.
#[derive(Debug)]
pub(crate) struct AdminRequest {
    /// Never HEAD, whose response is that of GET without the body (RFC 9110 §9.3.2).
    pub method: Method,
    /// Without the query.
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What the head of a request shows.
pub(crate) enum Admission {
    /// The client has proved that it may send this request.
    Trusted,
    /// Anyone may send this request.
    Anyone,
    /// The response, for which the body is not needed.
    Rejected(Response<Body>),
}

/// Handles the requests of an admin listener. A function from a request to its response is one.
pub(crate) trait Handle: Send + Sync {
    /// Looks at the head, before the body is read: `head` has an empty one.
    fn admit(&self, _head: &AdminRequest) -> Admission {
        Admission::Anyone
    }

    /// Waits for what the response needs.
    fn prepare<'a>(&'a self, _asked: &'a AdminRequest) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Makes the response, on a thread for blocking work.
    fn respond(&self, asked: &AdminRequest) -> Response<Body>;
}

impl<F: Fn(&AdminRequest) -> Response<Body> + Send + Sync> Handle for F {
    fn respond(&self, asked: &AdminRequest) -> Response<Body> {
        self(asked)
    }
}

pub(crate) type Handler = Arc<dyn Handle>;

/// An admin listener.
#[derive(Clone)]
pub(crate) struct AdminListener {
    pub address: SocketAddr,
    /// What asks for it: a block of the configuration, for messages.
    pub block: &'static str,
    pub handler: Handler,
    /// The certificates, if the listener speaks TLS.
    pub tls: Option<ServerTls>,
    /// A port that is in use is logged and does not stop the start, as in KrakenD for its statistics.
    pub optional: bool,
}

impl fmt::Debug for AdminListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminListener")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A handler that serves only one page, under `path`.
pub(crate) fn page(
    path: &'static str,
    content_type: &'static str,
    render: impl Fn(&mut Page) + Send + Sync + 'static,
) -> Handler {
    let pages = SharedPages::default();
    Arc::new(
        move |asked: &AdminRequest| match (asked.path == path, asked.method == Method::GET) {
            (true, true) => pages.response((), &asked.headers, content_type, &render),
            (true, false) => not_allowed(),
            (false, _) => plain(StatusCode::NOT_FOUND, "404 page not found"),
        },
    )
}

/// The response to a method that a page does not have (RFC 9110 §15.5.6).
pub(crate) fn not_allowed() -> Response<Body> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed");
    let allowed = HeaderValue::from_static("GET, HEAD");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

/// A response in plain text.
pub(crate) fn plain(status: StatusCode, text: &str) -> Response<Body> {
    whole(
        status,
        "text/plain; charset=utf-8",
        text.as_bytes().to_vec(),
    )
}

/// A response with this body.
pub(crate) fn whole(status: StatusCode, content_type: &str, body: Vec<u8>) -> Response<Body> {
    let response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CONTENT_LENGTH, body.len())
        .body(Body::from(body));
    response.unwrap_or_default()
}

/// Serves an admin listener.
pub(crate) struct AdminServer {
    shared: Arc<Shared>,
    gateway: Arc<gateway::Shared>,
    certificates: Option<Arc<Certificates>>,
    handshakes: HandshakeLimiter,
}

/// What the connections of an admin listener share.
struct Shared {
    handler: Handler,
    building: Semaphore,
}

impl AdminServer {
    /// Serves with this handler, and over TLS if there are certificates.
    pub(super) fn new(
        handler: Handler,
        certificates: Option<Arc<Certificates>>,
        gateway: Arc<gateway::Shared>,
    ) -> AdminServer {
        AdminServer {
            gateway,
            certificates,
            // The listener has one thread.
            handshakes: HandshakeLimiter::new(1),
            shared: Arc::new(Shared {
                handler,
                building: Semaphore::new(MAX_BUILDING),
            }),
        }
    }

    async fn connection(&self, accepted: Accepted) -> Option<()> {
        let Accepted {
            stream,
            place,
            closing,
        } = accepted;
        // A process that stops waits for its requests like for those of clients.
        let _open = self.gateway.admin_connections.one();
        let mut arrival = Some(self.gateway.arriving.one());
        let place = Arc::new(place);
        let pages = Pages {
            shared: Arc::clone(&self.shared),
            place: Arc::clone(&place),
        };
        let stop = closing.clone();
        let mut conn = Box::new(Conn::plain(stream));
        if let Some(certificates) = &self.certificates {
            let side = TlsSide {
                certificates,
                limiter: &self.handshakes,
                timeout: HANDSHAKE_TIMEOUT,
                stopping: &closing,
            };
            conn = side.accept(conn, &place).await.ok()?;
        }
        let mut idle = TIMEOUT;
        loop {
            place.waits_for_client();
            if conn.ahead().is_empty() {
                let begun = tokio::select! {
                    read = conn.fill() => matches!(read, Ok(count) if count > 0),
                    () = tokio::time::sleep(idle) => false,
                    () = place.is_needed() => false,
                    () = farewell(closing.clone()) => false,
                };
                begun.then_some(())?;
            }
            arrival.get_or_insert_with(|| self.gateway.arriving.one());
            // An incomplete head counts as silence too, so such a connection can be replaced.
            let facts = tokio::select! {
                biased;
                facts = head(&mut conn) => facts?,
                () = place.is_needed() => return None,
            };
            place.sent_head();
            let request = take_request(&mut conn, facts).ok()?;
            let mut session = ServerSession::new_http1(conn);
            session.set_read_timeout(Some(TIMEOUT));
            session.set_write_timeout(Some(TIMEOUT));
            session.set_total_drain_timeout(Some(ANONYMOUS_BODY));
            session.set_pipelined_prefix(request);
            let answered = pages.serve(session, &stop);
            conn = tokio::select! {
                reused = pingora_timeout::timeout(EXCHANGE, answered) => reused.ok()??,
                () = place.is_needed() => return None,
            };
            idle = IDLE;
            arrival = None;
        }
    }
}

/// The next head, complete within [`TIMEOUT`]. Otherwise the client has received an error.
async fn head(conn: &mut Conn) -> Option<HeadFacts> {
    let mut reader = HeadReader::new(MAX_HEAD_BYTES, MAX_FIELDS);
    let whole = async {
        loop {
            match reader.advance(conn.ahead()) {
                Ok(Some(facts)) => return Ok(Some(facts)),
                Ok(None) => {}
                Err(bad) => return Err(bad),
            }
            if !matches!(conn.fill().await, Ok(count) if count > 0) {
                return Ok(None);
            }
        }
    };
    let status = match pingora_timeout::timeout(TIMEOUT, whole).await {
        Ok(Ok(facts)) => return facts,
        Ok(Err(bad)) => BadHead::status_line(bad),
        Err(_) => "408 Request Timeout",
    };
    reject(conn, status).await;
    None
}

impl App for AdminServer {
    type Held = ();

    fn admit(&self) -> Option<()> {
        Some(())
    }

    async fn serve(
        self: Arc<Self>,
        accepted: Accepted,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.connection(accepted).await;
        None::<std::future::Ready<()>>
    }
}

/// A handler, for one connection.
struct Pages {
    shared: Arc<Shared>,
    place: Arc<ConnectionSlot>,
}

impl Pages {
    /// Serves the request whose bytes the session has been given. Returns the connection if another request may follow.
    async fn serve(
        &self,
        mut session: ServerSession,
        stop: &watch::Receiver<bool>,
    ) -> Option<Box<Conn>> {
        if !session.read_request().await.ok()? {
            return None;
        }
        let is_stopping = *stop.borrow();
        session.set_keepalive((!is_stopping).then_some(IDLE.as_secs()));
        let (head, body) = self.response(&mut session).await.into_parts();
        let written = write(&mut session, head.into(), &body).await;
        if let Err(error) = written {
            log::debug!("the client closed the connection before the end of the page: {error}");
            return None;
        }
        let reusable = session.finish().await.ok().flatten()?;
        let (stream, _) = reusable.into_parts();
        stream.into_any().downcast::<Conn>().ok()
    }

    async fn response(&self, session: &mut ServerSession) -> Response<Body> {
        let request = session.req_header();
        let is_head = request.method == Method::HEAD;
        let mut asked = AdminRequest {
            method: if is_head {
                Method::GET
            } else {
                request.method.clone()
            },
            path: request.uri.path().to_owned(),
            query: request.uri.query().map(str::to_owned),
            headers: request.headers.clone(),
            body: Bytes::new(),
        };
        let admission = self.shared.handler.admit(&asked);
        let is_trusted = matches!(admission, Admission::Trusted);
        if !is_trusted {
            self.place.serves_anyone(BODY_GRACE);
        }
        if let Admission::Rejected(rejection) = admission {
            return rejection;
        }
        let limit = if is_trusted { TIMEOUT } else { ANONYMOUS_BODY };
        asked.body = match pingora_timeout::timeout(limit, whole_body(session)).await {
            Ok(Ok(body)) => body,
            Ok(Err(rejection)) => return rejection,
            Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "408 request timeout"),
        };
        self.shared.handler.prepare(&asked).await;
        self.place.is_active();
        let mut response = self.shared.respond(asked).await;
        if is_head {
            *response.body_mut() = Body::default();
        }
        if !is_trusted {
            self.place.serves_anyone(RESPONSE_GRACE);
        }
        response
    }
}

impl Shared {
    async fn respond(&self, asked: AdminRequest) -> Response<Body> {
        let Ok(_turn) = self.building.acquire().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "503 service unavailable");
        };
        // A page of metrics with thousands of endpoints takes a second, which requests of clients would wait for.
        let handler = Arc::clone(&self.handler);
        let made = tokio::task::spawn_blocking(move || handler.respond(&asked)).await;
        made.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "500 internal error"))
    }
}

/// Writes a response piece by piece, so that a slow client has no copy of the page.
async fn write(
    session: &mut ServerSession,
    head: ResponseHeader,
    body: &Body,
) -> pingora_core::Result<()> {
    session.write_response_header(Box::new(head)).await?;
    for piece in body.pieces() {
        session.write_response_body(piece.clone(), false).await?;
    }
    session.write_response_body(Bytes::new(), true).await
}

async fn whole_body(session: &mut ServerSession) -> Result<Bytes, Response<Body>> {
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
