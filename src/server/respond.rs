//! Writes the gateway's own responses.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora_core::protocols::http::ServerSession;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use smallvec::SmallVec;

use crate::runtime::grpc;
use crate::runtime::response::{Branding, Fields, Response, X_KRAKEND, X_KRAKEND_COMPLETED};
use crate::runtime::response_edits::ResponseEdits;
use crate::runtime::service::Options;
use crate::server::gateway::Common;
use crate::server::http1_fast_path::{Wire, end_connection};
use crate::server::response_edits;
use crate::upstream::{content_length, spare_map, trimmed};

/// If a response is sent early, the rest of the request body is read up to this size, so that the connection can be
/// kept.
const MAX_DRAIN_BYTES: u64 = 64 * 1024;
/// Composed bodies up to this size carry `Content-Length`. KrakenD sends longer ones in chunks, which makes no
/// difference for clients.
const CHUNK_BYTES: usize = 64 * 1024;

/// Headers with which an upstream may have decided about origins.
const UPSTREAM_CORS: [header::HeaderName; 5] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// Writes `response`, with the headers in `extra` that service steps have added. `response_edits` come last. `wire` is the
/// connection of a usual request.
///
/// # Errors
/// Writing to the client failed.
pub(super) async fn write(
    session: &mut Session,
    options: &Options,
    response: Response,
    extra: &Fields,
    response_edits: Option<&ResponseEdits>,
    wire: Option<&Wire>,
) -> Result<()> {
    let mut response = if response.status.as_u16() >= 400
        && session.is_http2()
        && grpc::is_grpc(&session.req_header().headers)
    {
        grpc::rejection(response)
    } else {
        response
    };
    let head_only = session.req_header().method == Method::HEAD;
    let mut header = header_of(&response, options, extra)?;
    if let Some(response_edits) = response_edits {
        let body = std::mem::take(&mut response.body);
        response.body =
            response_edits::whole(response_edits, session.req_header(), &mut header, body).await?;
    }
    keep_connection(session);
    let body = if head_only || bodiless(response.status) {
        Bytes::new()
    } else {
        response.body
    };
    let written = write_header(session, header, body.is_empty()).await;
    written.map_err(of_client)?;
    if !body.is_empty() {
        write_body(session, wire, body).await.map_err(of_client)?;
    }
    Ok(())
}

/// A client that has left is no error of the gateway.
fn of_client(error: Box<Error>) -> Box<Error> {
    match error.etype() {
        ErrorType::WriteError | ErrorType::WriteTimedout => error.into_down(),
        _ => error,
    }
}

/// Writes the head of a response, which may be the whole response (`alone`). On HTTP/2 such a head ends the stream
/// itself: otherwise Pingora would send an empty frame after it, and gRPC clients would then look for the status in
/// trailers.
///
/// # Errors
/// Writing to the client failed.
pub(super) async fn write_header(
    session: &mut Session,
    mut header: ResponseHeader,
    alone: bool,
) -> Result<()> {
    if header.status.canonical_reason().is_none() {
        // As Go writes it: some clients require a reason phrase.
        header.set_reason_phrase(Some(&format!("status code {}", header.status.as_str())))?;
    }
    if session.req_header().version == Version::HTTP_10 {
        in_http10(session, &mut header, alone);
    }
    if alone && let ServerSession::H2(stream) = session.as_downstream_mut() {
        return stream.write_response_header(Box::new(header), true);
    }
    session.write_response_header(Box::new(header), alone).await
}

/// An HTTP/1.0 client gets a response in its version. Without a length, the response ends with the connection and
/// announces this.
fn in_http10(session: &mut Session, header: &mut ResponseHeader, alone: bool) {
    header.set_version(Version::HTTP_10);
    if !alone && !header.headers.contains_key(header::CONTENT_LENGTH) {
        end_connection(session);
    }
}

fn header_of(response: &Response, options: &Options, extra: &Fields) -> Result<ResponseHeader> {
    let size = response.fields.len() + extra.len() + 6;
    // Some clients look for these two names in their usual spelling, which needs a second map.
    let spelled =
        |name: &HeaderName| matches!(*name, header::WWW_AUTHENTICATE | header::RETRY_AFTER);
    let own = brand(options, response.branding);
    // What the gateway sets itself has one value, also if a script or a backend sets it.
    let is_own = |name: &HeaderName| own.iter().flatten().any(|(own, _)| own == name);
    let fields = response.fields.iter().filter(|(name, _)| !is_own(name));
    let mut header = if response.fields.iter().any(|(name, _)| spelled(name)) {
        let mut header = ResponseHeader::build(response.status, Some(size))?;
        for (name, value) in own.iter().flatten() {
            header.append_header(name, value)?;
        }
        for (name, value) in fields {
            match *name {
                header::WWW_AUTHENTICATE => header.append_header("WWW-Authenticate", value)?,
                header::RETRY_AFTER => header.append_header("Retry-After", value)?,
                _ => header.append_header(name, trimmed(value))?,
            };
        }
        header
    } else {
        // The setters of Pingora parse each name again.
        let mut parts = http::Response::new(()).into_parts().0;
        parts.status = response.status;
        parts.headers = spare_map::header_map(size);
        for (name, value) in own.iter().flatten() {
            parts.headers.append(name.clone(), value.clone());
        }
        for (name, value) in fields {
            parts.headers.append(name, trimmed(value));
        }
        if !bodiless(response.status) && extra.is_empty() {
            let length = HeaderValue::from(response.body.len());
            parts.headers.insert(header::CONTENT_LENGTH, length);
            return Ok(ResponseHeader::from(parts));
        }
        ResponseHeader::from(parts)
    };
    replace(&mut header, extra)?;
    if !bodiless(response.status) {
        header.insert_header(header::CONTENT_LENGTH, response.body.len())?;
    }
    Ok(header)
}

async fn write_body(session: &mut Session, wire: Option<&Wire>, mut body: Bytes) -> Result<()> {
    loop {
        let part = body.split_to(body.len().min(CHUNK_BYTES));
        let end = body.is_empty();
        match wire {
            Some(wire) => wire.put(&part, end).await?,
            None => session.write_response_body(Some(part), end).await?,
        }
        if end {
            return Ok(());
        }
    }
}

/// `X-Krakend` and `X-Krakend-Completed` according to the branding of the response.
fn brand(options: &Options, branding: Branding) -> [Option<(HeaderName, HeaderValue)>; 2] {
    let version = (branding != Branding::None).then(|| options.version_header.clone());
    let completed = match branding {
        Branding::Completed(true) => Some(HeaderValue::from_static("true")),
        Branding::Completed(false) => Some(HeaderValue::from_static("false")),
        Branding::None | Branding::Version => None,
    };
    [
        version.map(|value| (X_KRAKEND, value)),
        completed.map(|value| (X_KRAKEND_COMPLETED, value)),
    ]
}

/// Sets headers of a response, and replaces those with the same name. `Vary` is extended instead of replaced. If the
/// gateway decides about origins, the decision of the upstream is removed.
///
/// # Errors
/// Never for headers that are already valid.
pub(super) fn replace(header: &mut ResponseHeader, fields: &Fields) -> Result<()> {
    if fields.is_empty() {
        return Ok(());
    }
    if fields
        .iter()
        .any(|(name, _)| *name == header::ACCESS_CONTROL_ALLOW_ORIGIN)
    {
        for name in UPSTREAM_CORS {
            header.remove_header(&name);
        }
    }
    let mut upstream: SmallVec<[HeaderValue; 2]> = SmallVec::new();
    if fields.iter().any(|(name, _)| *name == header::VARY) {
        upstream.extend(header.headers.get_all(header::VARY).into_iter().cloned());
    }
    for (name, _) in fields {
        // Cookies of the gateway do not replace those of a backend.
        if *name != header::SET_COOKIE {
            header.remove_header(name);
        }
    }
    for (name, value) in fields {
        header.append_header(name, value)?;
    }
    for value in upstream {
        header.append_header(header::VARY, value)?;
    }
    Ok(())
}

/// Keeps the connection open after an early response if the rest of the request body is small.
///
/// A client that sent `Expect` and received no `100 Continue` may never send its body, and its next request would be
/// taken for the body. Its connection is closed, as in Go.
pub(super) fn keep_connection(session: &mut Session) {
    if session.as_downstream_mut().is_body_done()
        || session.req_header().headers.contains_key(header::EXPECT)
    {
        return;
    }
    let length = content_length(&session.req_header().headers);
    if length.is_some_and(|length| length <= MAX_DRAIN_BYTES) {
        session
            .as_downstream_mut()
            .set_close_on_response_before_downstream_finish(false);
    }
}

/// Adds `Connection: close` to a response that starts while the process is stopping, however early its request
/// arrived.
pub(super) fn announce_end(session: &mut Session, common: &Common) {
    if common.is_draining() {
        end_connection(session);
    }
}

fn bodiless(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || status.is_informational()
}
