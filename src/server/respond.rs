//! Writing an answer that was made here.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use pingora_core::Result;
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use smallvec::SmallVec;

use crate::runtime::answer::{Answer, Branding, Fields};
use crate::runtime::service::Options;
use crate::server::grpc;
use crate::upstream::trimmed;

/// Bodies of requests that are answered early are read to their end up to this size, so that the connection lives on.
const MAX_DRAIN_BYTES: u64 = 64 * 1024;
/// Composed bodies up to this size carry `Content-Length`; the reference chunks longer ones, which no client can tell.
const CHUNK_BYTES: usize = 64 * 1024;

/// The gateway's own field names, spelled as the reference does on the wire.
pub const X_KRAKEND: &str = "X-Krakend";
pub const X_KRAKEND_COMPLETED: &str = "X-Krakend-Completed";

/// What an upstream may have decided about origins.
const UPSTREAM_CORS: [header::HeaderName; 5] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// Writes `answer`, with `extra` fields that service steps left for whatever answer comes.
///
/// # Errors
/// When the client cannot be written to.
pub async fn write(
    session: &mut Session,
    options: &Options,
    answer: Answer,
    extra: &Fields,
) -> Result<()> {
    let answer = if answer.status.as_u16() >= 400
        && session.is_http2()
        && grpc::is_grpc(&session.req_header().headers)
    {
        grpc::refusal(answer)
    } else {
        answer
    };
    let head_only = session.req_header().method == Method::HEAD;
    let header = header_of(&answer, options, extra)?;
    keep_connection(session);
    let body = if head_only || bodiless(answer.status) {
        Bytes::new()
    } else {
        answer.body
    };
    write_header(session, header, body.is_empty()).await?;
    if !body.is_empty() {
        write_body(session, body).await?;
    }
    Ok(())
}

/// Writes the header of an answer, which may be all of it (`alone`). On HTTP/2 such a header ends the stream itself: Pingora
/// would send an empty frame behind it, and gRPC clients look for the status in trailers then.
///
/// # Errors
/// When the client cannot be written to.
pub async fn write_header(
    session: &mut Session,
    mut header: ResponseHeader,
    alone: bool,
) -> Result<()> {
    if header.status.canonical_reason().is_none() {
        // As Go writes it: some clients want a reason phrase.
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

/// A client of HTTP/1.0 gets an answer in its version. Without a length the answer ends with the connection, and says so.
fn in_http10(session: &mut Session, header: &mut ResponseHeader, alone: bool) {
    header.set_version(Version::HTTP_10);
    if !alone && !header.headers.contains_key(header::CONTENT_LENGTH) {
        session.set_keepalive(None);
    }
}

fn header_of(answer: &Answer, options: &Options, extra: &Fields) -> Result<ResponseHeader> {
    let size = answer.fields.len() + extra.len() + 6;
    // Spelling is kept for the names that people look for; the usual ones Pingora knows how to spell.
    let usual = answer.branding == Branding::None
        && answer
            .fields
            .iter()
            .all(|(name, _)| *name == header::CONTENT_TYPE);
    let mut header = if usual {
        let mut parts = http::Response::new(()).into_parts().0;
        parts.status = answer.status;
        parts.headers = HeaderMap::with_capacity(size);
        for (name, value) in &answer.fields {
            parts.headers.append(name, trimmed(value));
        }
        ResponseHeader::from(parts)
    } else {
        let mut header = ResponseHeader::build(answer.status, Some(size))?;
        brand(&mut header, options, answer.branding)?;
        for (name, value) in &answer.fields {
            match *name {
                header::WWW_AUTHENTICATE => header.append_header("WWW-Authenticate", value)?,
                header::RETRY_AFTER => header.append_header("Retry-After", value)?,
                _ => header.append_header(name, trimmed(value))?,
            };
        }
        header
    };
    replace(&mut header, extra)?;
    if !bodiless(answer.status) {
        header.insert_header(header::CONTENT_LENGTH, answer.body.len())?;
    }
    Ok(header)
}

async fn write_body(session: &mut Session, mut body: Bytes) -> Result<()> {
    while body.len() > CHUNK_BYTES {
        let part = body.split_to(CHUNK_BYTES);
        session.write_response_body(Some(part), false).await?;
    }
    session.write_response_body(Some(body), true).await
}

/// Puts `X-Krakend` and `X-Krakend-Completed` on an answer, as its branding says.
///
/// # Errors
/// Never for values that `compile` made.
pub fn brand(header: &mut ResponseHeader, options: &Options, branding: Branding) -> Result<()> {
    if branding != Branding::None {
        header.insert_header(X_KRAKEND, options.version_header.clone())?;
    }
    if let Branding::Completed(complete) = branding {
        header.insert_header(X_KRAKEND_COMPLETED, if complete { "true" } else { "false" })?;
    }
    Ok(())
}

/// Sets fields on an answer; they replace what stands there under the same names. `Vary` only grows, from the gateway's
/// to the upstream's, and where the gateway decides about origins an upstream's own decision goes.
///
/// # Errors
/// Never for fields that are valid already.
pub fn replace(header: &mut ResponseHeader, fields: &Fields) -> Result<()> {
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
        header.remove_header(name);
    }
    for (name, value) in fields {
        header.append_header(name, value)?;
    }
    for value in upstream {
        header.append_header(header::VARY, value)?;
    }
    Ok(())
}

/// Lets an early answer leave the connection open when what is left of the request's body is small.
///
/// A client that asked whether to go on, and was not told so, may never send its body: what comes next would be taken
/// for it. Its connection ends, as with the reference's runtime.
pub fn keep_connection(session: &mut Session) {
    if session.req_header().headers.contains_key(header::EXPECT)
        && !session.as_downstream_mut().is_body_done()
    {
        return;
    }
    let length = session.req_header().headers.get(header::CONTENT_LENGTH);
    let length = length
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if length.is_some_and(|length| length <= MAX_DRAIN_BYTES) {
        session
            .as_downstream_mut()
            .set_close_on_response_before_downstream_finish(false);
    }
}

fn bodiless(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || status.is_informational()
}
