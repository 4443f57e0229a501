//! WebSocket: checks the conditions at the handshake, then copies bytes in both directions.
//!
//! This does not use Pingora's proxy path: if the upstream responds fast, it takes the end of a request without a body
//! for the end of the tunnel, and it limits the silence of each direction separately.

use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderValue, StatusCode, header};
use pingora_core::{ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipeline::{
    Downstream, Ended, Ending, Outcome, Request, declined, open_tunnel,
};
use crate::runtime::request::Notes;
use crate::runtime::response::{Fields, Response};
use crate::runtime::service::{StreamWork, Upgrade};
use crate::server::client::Client;
use crate::server::http1_fast_path::{self, Wire, end_connection};
use crate::server::respond;
use crate::server::websocket_frames::{Fault, Frames, Reason, close};
use crate::telemetry::timestamp::now;
use crate::upstream::{Switched, Upgraded, connection_upgrades, has_surplus, is_websocket};

const EXPIRED: &str = "the token of the WebSocket has expired";
const TOO_LARGE: &str = "a message of the client is too large";
const CONTROL: &str = "a control frame of the client is invalid (RFC 6455 §5.5)";
const STOPPING: &str = "the gateway stops";
/// How long a client may take to read why its WebSocket ends.
const CLOSING: Duration = Duration::from_secs(1);
/// The most that a client may send before it knows that it gets no WebSocket.
const MAX_EARLY_BYTES: u32 = 4096;

/// Whether this process is about to end.
static ENDING: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

/// Ends the WebSockets whose clients can be told so, because this process is about to end.
pub(super) fn end_all() {
    ENDING.send_if_modified(|is_ending| !std::mem::replace(is_ending, true));
}

/// Whether the client asks for a WebSocket. The gateway does not switch to other protocols: it drops their `Upgrade`,
/// like a server that does not know them (RFC 9110 §7.8). It also drops an `Upgrade` that `Connection` does not name.
pub(super) fn is_asked_for(session: &Session) -> bool {
    let headers = &session.req_header().headers;
    session.is_upgrade_req() && is_websocket(headers) && connection_upgrades(headers)
}

/// The response of an endpoint that is for WebSockets only to another request (RFC 9110 §15.5.22). Over HTTP/2 there is
/// no upgrade.
pub(super) fn wants_upgrade(session: &Session) -> Response {
    if session.is_http2() {
        return Response::empty(StatusCode::NOT_IMPLEMENTED);
    }
    Response::empty(StatusCode::UPGRADE_REQUIRED)
        .with(header::UPGRADE, HeaderValue::from_static("websocket"))
        .with(header::CONNECTION, HeaderValue::from_static("Upgrade"))
}

/// Opens a WebSocket and copies until it ends, or responds with the reason why it cannot be opened.
pub(super) async fn run(
    client: &mut Client<'_>,
    request: Request<'_>,
    work: &StreamWork,
    upgrade: &Upgrade,
) -> Outcome {
    let Request {
        options,
        endpoint,
        notes,
        ..
    } = request;
    let _place = match admit(client.session, upgrade) {
        Ok(place) => place,
        Err(kind) => {
            let response = Response::empty(kind.status());
            return Outcome {
                failure: Some(kind),
                ..Outcome::response(response)
            };
        }
    };
    let Some(head) = client.head() else {
        return Outcome::rejected(options, endpoint, Failure::bad_target());
    };
    let upgraded = match open_tunnel(request, &head, work).await {
        Ok(upgraded) => upgraded,
        Err(failure) => {
            let outcome = Outcome::rejected(options, endpoint, failure);
            return Outcome {
                ended: Some(Ended::FAILED),
                ..outcome
            };
        }
    };
    // One direction may be silent, and the connection is not used for anything else afterwards.
    client.session.as_downstream_mut().set_read_timeout(None);
    end_connection(client.session);
    let rules = upgrade.websocket.as_ref();
    let idle = rules.map_or(options.stream_idle_timeout, |rules| rules.idle);
    let mut outcome = Outcome {
        ending: Ending::Streamed,
        ended: Some(Ended::WHOLE),
        ..Outcome::response(Response::empty(StatusCode::OK))
    };
    let passed = if upgraded.session.was_upgraded() {
        let end = end_of(notes, upgrade);
        let frames = rules.map(|rules| Both::new(rules.max_message_bytes));
        switch(client, upgraded, idle, end, frames).await
    } else {
        let head = declined(options, work, client.version(), &upgraded);
        decline(client, upgraded, head, idle).await.map(|()| None)
    };
    match passed {
        Ok(why) => outcome.errors.extend(why.map(Into::into)),
        Err(failure) => {
            let broken = Outcome::rejected(options, endpoint, failure);
            outcome.errors = broken.errors;
            outcome.failure = broken.failure;
            outcome.ending = Ending::Broken;
        }
    }
    outcome
}

/// Checks the origin and the number of tunnels. The place is freed when the tunnel ends.
fn admit(
    session: &Session,
    upgrade: &Upgrade,
) -> std::result::Result<Option<OwnedSemaphorePermit>, Kind> {
    if !upgrade.admits(session.req_header().headers.get(header::ORIGIN)) {
        return Err(Kind::Origin);
    }
    let Some(permits) = &upgrade.permits else {
        return Ok(None);
    };
    match Arc::clone(permits).try_acquire_owned() {
        Ok(place) => Ok(Some(place)),
        Err(_) => Err(Kind::Tunnels),
    }
}

/// Sends the upstream's response about the new protocol to the client, and copies in both directions.
async fn switch(
    client: &mut Client<'_>,
    upgraded: Upgraded,
    idle: Duration,
    end: Option<Instant>,
    frames: Option<Both>,
) -> std::result::Result<Option<&'static str>, Failure> {
    let header = switched(&upgraded, client.fields).map_err(|_| Failure::client_closed())?;
    let written = client
        .session
        .write_response_header(Box::new(header), false);
    written.await.map_err(|_| Failure::client_closed())?;
    let mut upstream = upgraded.into_connection();
    let Some((client, early)) = http1_fast_path::tunnel(client.session) else {
        return Ok(None);
    };
    let sides = (&client, &mut upstream);
    let Some(mut frames) = frames else {
        return Ok(pump(sides, early, (idle, end), std::future::pending(), &mut ()).await);
    };
    let mut ending = ENDING.subscribe();
    let stopping = async {
        let _ = ending.wait_for(|is_ending| *is_ending).await;
    };
    let why = pump(sides, early, (idle, end), stopping, &mut frames).await;
    if let Some(reason) = frames.reason(why) {
        // The client may have closed its connection, or may not read.
        let frame = close(reason);
        let _ = tokio::time::timeout(CLOSING, client.write(&frame)).await;
    }
    Ok(why)
}

fn switched(upgraded: &Upgraded, fields: &Fields) -> Result<ResponseHeader> {
    let status = StatusCode::SWITCHING_PROTOCOLS;
    let mut header = ResponseHeader::build(status, Some(upgraded.headers.len() + 2))?;
    for (name, value) in &upgraded.headers {
        if !matches!(
            *name,
            header::CONNECTION
                | header::UPGRADE
                | header::CONTENT_LENGTH
                | header::TRANSFER_ENCODING
        ) {
            header.append_header(name, value)?;
        }
    }
    header.insert_header(header::UPGRADE, HeaderValue::from_static("websocket"))?;
    header.insert_header(header::CONNECTION, HeaderValue::from_static("Upgrade"))?;
    respond::replace(&mut header, fields)?;
    Ok(header)
}

/// The time at which the token of the handshake expires, if that ends the tunnel.
fn end_of(notes: &Notes, upgrade: &Upgrade) -> Option<Instant> {
    let expiry = notes.claims.as_ref()?.expiry()?;
    let left = expiry.since_epoch().saturating_sub(now());
    // A time beyond the range of the clock never arrives.
    Instant::now()
        .checked_add(left)
        .filter(|_| upgrade.until_expiry)
}

/// Inspects the data that passes through the tunnel.
trait Passing {
    /// `Some`: the tunnel must end, for this reason.
    fn client_sent(&mut self, bytes: &[u8]) -> Option<&'static str>;

    fn upstream_sent(&mut self, bytes: &[u8]);
}

/// Does not inspect the data.
impl Passing for () {
    fn client_sent(&mut self, _: &[u8]) -> Option<&'static str> {
        None
    }

    fn upstream_sent(&mut self, _: &[u8]) {}
}

/// The frames of both directions.
struct Both {
    from_client: Frames,
    from_upstream: Frames,
}

impl Both {
    fn new(most: Option<u64>) -> Both {
        Both {
            from_client: Frames::of_client(most),
            from_upstream: Frames::of_backend(),
        }
    }

    /// The close frame for the client. It can be sent only between the frames of the backend.
    fn reason(&self, why: Option<&'static str>) -> Option<Reason> {
        let has_said_goodbye = self.from_client.is_closed() && why != Some(CONTROL);
        if !self.from_upstream.is_between() || has_said_goodbye {
            return None;
        }
        Some(match why {
            Some(TOO_LARGE) => Reason::TooBig,
            Some(CONTROL) => Reason::Protocol,
            Some(EXPIRED) => Reason::Policy,
            Some(_) => Reason::GoingAway,
            None => Reason::Internal,
        })
    }
}

impl Passing for Both {
    fn client_sent(&mut self, bytes: &[u8]) -> Option<&'static str> {
        let fault = self.from_client.pass(bytes).err()?;
        Some(match fault {
            Fault::TooLarge => TOO_LARGE,
            Fault::Control => CONTROL,
        })
    }

    fn upstream_sent(&mut self, bytes: &[u8]) {
        let _ = self.from_upstream.pass(bytes);
    }
}

/// Copies in both directions until one side closes. Otherwise returns the reason for closing the tunnel. `early` is what
/// the client has sent before. `stopping` resolves when the process is about to end.
async fn pump(
    (client, upstream): (&Wire, &mut Switched),
    mut early: Bytes,
    (idle, end): (Duration, Option<Instant>),
    stopping: impl Future<Output = ()>,
    passing: &mut impl Passing,
) -> Option<&'static str> {
    let mut stopping = pin!(stopping);
    loop {
        let silent = Instant::now() + idle;
        let due = end.map_or(silent, |end| end.min(silent));
        let from_client = async {
            match std::mem::take(&mut early) {
                bytes if bytes.is_empty() => client.read().await,
                bytes => Ok(bytes),
            }
        };
        let passed = tokio::select! {
            sent = from_client => match sent {
                Ok(bytes) if !bytes.is_empty() => {
                    if let Some(why) = passing.client_sent(&bytes) {
                        return Some(why);
                    }
                    timeout_at(due, async { upstream.write(&bytes).await.is_ok() }).await
                }
                _ => return None,
            },
            sent = upstream.read() => match sent {
                Ok(bytes) if !bytes.is_empty() => {
                    passing.upstream_sent(&bytes);
                    timeout_at(due, async { client.write(&bytes).await.is_ok() }).await
                }
                _ => return None,
            },
            () = &mut stopping => return Some(STOPPING),
            () = sleep_until(due) => return Some(if due < silent {
                EXPIRED
            } else {
                "the WebSocket was silent for too long"
            }),
        };
        match passed {
            Ok(true) => {}
            Ok(false) => return None,
            Err(_) => return Some("one side of the WebSocket does not read"),
        }
    }
}

/// Passes on the response of an upstream that does not switch.
async fn decline(
    client: &mut Client<'_>,
    mut upgraded: Upgraded,
    head: Parts,
    idle: Duration,
) -> std::result::Result<(), Failure> {
    client.write_head(head, false).await?;
    let upstream = &mut upgraded.session;
    let mut early = 0;
    let mut alive = Instant::now();
    loop {
        let reading = timeout_at(alive + idle, upstream.read_body_bytes());
        let read = tokio::select! {
            biased;
            read = reading => read,
            // What was written goes out when the client is read.
            Err(error) = client.session.as_downstream_mut().read_body_or_idle(true) => {
                // A frame that it sent too early is discarded, byte by byte. Otherwise it is gone.
                if *error.etype() != ErrorType::ConnectError || early == MAX_EARLY_BYTES {
                    return Err(Failure::client_closed());
                }
                early += 1;
                continue;
            }
        };
        let silent = |_| Failure::cut_off("the response ended early: the upstream was silent");
        let ended = |_| Failure::cut_off("the response ended early: unexpected EOF");
        match read.map_err(silent)?.map_err(ended)? {
            // What has arrived is no data: a part of the size of a chunk, or of trailers.
            Some(bytes) if bytes.is_empty() => {}
            Some(bytes) => {
                client.write(bytes, false).await?;
                alive = Instant::now();
            }
            None => break,
        }
    }
    if has_surplus(upstream, false) {
        log::warn!(
            "[SERVICE: Gateway] the backend of a WebSocket sent more bytes than its response has"
        );
    }
    client.end().await
}
