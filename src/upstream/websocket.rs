//! The handshake of a WebSocket (RFC 6455 §4).

use std::io;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::poll_fn;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_http::RequestHeader;
use tokio::io::AsyncWriteExt;

use super::call::Call;
use super::error::{CallError, CallErrorKind};
use super::exchange::{context, handshake, write_context};
use super::head_writer::trimmed;
use super::hosts::{HostSet, Target};
use super::message::{Outgoing, is_of_connection};
use super::read_buffer;
use super::usage::InUse;
use crate::telemetry::observe::{RoundTrip, Unseen};

/// The headers of the handshake that the upstream must receive, whatever `input_headers` lists.
const HANDSHAKE: [HeaderName; 5] = [
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::ORIGIN,
];

/// An upstream that responded to a handshake, in any way.
pub struct Upgraded {
    pub session: Box<HttpSession>,
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Counts the connection as used until the end.
    in_use: InUse,
}

/// The connection to an upstream that has switched.
pub(crate) struct Switched {
    stream: Stream,
    /// What came with the head of the response.
    early: Bytes,
    /// The last read was a long one.
    flows: bool,
    /// Counts the connection as used until the end.
    _in_use: InUse,
}

impl Upgraded {
    /// The connection alone. The session has read its last head, and would keep its buffers and the heads as long as the
    /// WebSocket is open.
    pub(crate) fn into_connection(mut self) -> Switched {
        self.session.maybe_upgrade_body_writer();
        // Returns at once what the session has already read. An error or an end shows at the next read, too.
        let early = self.session.read_body_bytes().now_or_never();
        let early = early.and_then(Result::ok).flatten();
        Switched {
            stream: self.session.into_inner(),
            early: early.unwrap_or_default(),
            flows: false,
            _in_use: self.in_use,
        }
    }
}

impl Switched {
    /// The next bytes, which are none at the end. May be cancelled.
    pub(crate) async fn read(&mut self) -> io::Result<Bytes> {
        if !self.early.is_empty() {
            return Ok(std::mem::take(&mut self.early));
        }
        poll_fn(|cx| read_buffer::poll_piece(&mut self.stream, cx, &mut self.flows)).await
    }

    /// Sends these bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }
}

/// The headers of a client that belong to the handshake.
pub(crate) fn handshake_fields(sent: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for name in &HANDSHAKE {
        for value in sent.get_all(name) {
            fields.append(name, value.clone());
        }
    }
    fields
}

/// Whether a message asks for a WebSocket, or agrees to one.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Whether the message means its `Upgrade` for this hop: `Connection` names it (RFC 6455 §4.2.1, RFC 9110 §7.8).
pub(crate) fn connection_upgrades(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CONNECTION).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

impl HostSet {
    /// Requests a WebSocket on a separate connection, and waits for the head of the response.
    ///
    /// # Errors
    /// No host accepts the connection, the handshake cannot be written, or the response is invalid.
    pub async fn upgrade(&self, call: Call, handshake: &HeaderMap) -> Result<Upgraded, CallError> {
        let mut trip = RoundTrip::begin(&call.out.method, &call.out.target);
        let upgraded = self.shake_hands(call, handshake, &mut trip).await;
        if let Some(trip) = &mut trip {
            match &upgraded {
                Ok(upgraded) => {
                    trip.answered(upgraded.status.as_u16(), &upgraded.headers, || None);
                }
                Err(error) => trip.failed(error.observed()),
            }
        }
        upgraded
    }

    async fn shake_hands(
        &self,
        call: Call,
        fields: &HeaderMap,
        trip: &mut Option<Box<RoundTrip>>,
    ) -> Result<Upgraded, CallError> {
        let set = call.elsewhere.as_deref().unwrap_or(self);
        let hosts = set.observed_list(trip).await;
        let dialed = set.dial_for(&hosts, call.out.affinity, trip).await?;
        let (mut session, target, wait) = dialed;
        let mut request = request(&call.out, &target, fields)
            .map_err(|_| CallError::new(CallErrorKind::Request, "the request cannot be written"))?;
        if let Some(trip) = trip {
            let handshake = handshake(session.digest()).unwrap_or_default();
            trip.connected(Some(handshake), false);
            trip.sends_agent(|| request.headers.get(header::USER_AGENT).cloned());
            trip.sends_headers(&request.headers);
        }
        if let Some(context) = context(trip, &Unseen::begin()) {
            write_context(&context, &mut request, true);
        }
        let broken = |_| CallError::new(CallErrorKind::Broken, "EOF");
        session
            .write_request_header(Box::new(request))
            .await
            .map_err(broken)?;
        loop {
            if let Err(error) = session.read_response().await {
                wait.failed();
                return Err(broken(error));
            }
            let Some(response) = session.resp_header() else {
                return Err(CallError::new(CallErrorKind::Broken, "EOF"));
            };
            match response.status {
                StatusCode::SWITCHING_PROTOCOLS if !is_websocket(&response.headers) => {
                    let text = "the upstream switched to another protocol than WebSocket";
                    return Err(CallError::new(CallErrorKind::Broken, text));
                }
                StatusCode::SWITCHING_PROTOCOLS => {}
                status if status.is_informational() => continue,
                _ => {}
            }
            wait.answered();
            let (status, headers) = (response.status, response.headers.clone());
            return Ok(Upgraded {
                session,
                status,
                headers,
                in_use: target.in_use,
            });
        }
    }
}

/// The headers that the endpoint passes on, and the handshake.
fn request(
    out: &Outgoing,
    target: &Target,
    handshake: &HeaderMap,
) -> pingora_core::Result<RequestHeader> {
    let path = format!("{}{}", target.base, out.target);
    let mut request = RequestHeader::build(out.method.clone(), path.as_bytes(), Some(16))?;
    let host = out.headers.get(header::HOST).unwrap_or(&target.authority);
    request.insert_header(header::HOST, host.clone())?;
    // A step may have set a body, but a handshake has none.
    let is_left_out = |name: &HeaderName| {
        matches!(
            *name,
            header::ACCEPT_ENCODING
                | header::HOST
                | header::CONTENT_LENGTH
                | header::TRANSFER_ENCODING
        )
    };
    for (name, value) in &out.headers {
        let silent = *name == header::USER_AGENT && value.is_empty();
        let ours = is_left_out(name) || is_of_connection(name) || HANDSHAKE.contains(name);
        if !ours && !silent {
            request.append_header(name, trimmed(value))?;
        }
    }
    for (name, value) in handshake {
        request.append_header(name, value.clone())?;
    }
    request.insert_header(header::UPGRADE, HeaderValue::from_static("websocket"))?;
    request.insert_header(header::CONNECTION, HeaderValue::from_static("Upgrade"))?;
    Ok(request)
}
