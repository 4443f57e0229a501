//! The last changes to a response: those of its headers, and the coding of its body (see [`ResponseEdits`]).

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Version, header};
use pingora_core::{ErrorType, OrErr as _, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::Instant;

use crate::runtime::compression::{Choice, Coding, Encoder, encode};
use crate::runtime::failure::Failure;
use crate::runtime::heavy::turn;
use crate::runtime::response::has_one_value;
use crate::runtime::response_edits::{HeaderEdits, Name, ResponseEdits};
use crate::upstream::content_length;

/// Fields that describe the bytes of a body, and are wrong about an encoded one.
const OF_PLAIN_BODY: [HeaderName; 5] = [
    header::ACCEPT_RANGES,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// How long a large body waits for its turn to be compressed.
const MAX_WAITING: Duration = Duration::from_secs(1);

/// Finishes a response whose body is at hand, and returns the body as it is sent.
///
/// # Errors
/// Never for headers that are already valid.
pub(super) async fn whole(
    response_edits: &ResponseEdits,
    asked: &RequestHeader,
    header: &mut ResponseHeader,
    body: Bytes,
) -> Result<Bytes> {
    edit_all(response_edits, header)?;
    let Some(compression) = &response_edits.compression else {
        return Ok(body);
    };
    let length = Some(body.len() as u64);
    let choice = compression.choose(&asked.headers, header.status, &header.headers, length);
    let Choice::Encode(setting) = choice else {
        describe(header, choice)?;
        return Ok(body);
    };
    if asked.method == Method::HEAD {
        // The length of the body that GET would get is not known.
        describe(header, choice)?;
        header.remove_header(&header::CONTENT_LENGTH);
        return Ok(body);
    }
    // If too many others are compressed, the client gets the body as it is, and soon.
    let Ok(_turn) = turn(body.len(), Instant::now() + MAX_WAITING).await else {
        describe(header, Choice::Varies)?;
        return Ok(body);
    };
    let encoded = encode(setting, &body).or_err(ErrorType::InternalError, "compression failed")?;
    let Some(encoded) = encoded else {
        describe(header, Choice::Varies)?;
        return Ok(body);
    };
    describe(header, choice)?;
    header.insert_header(header::CONTENT_LENGTH, encoded.len())?;
    Ok(encoded)
}

/// Finishes the head of a response that is streamed, and returns the encoder of its body. `alone`: there is no body.
///
/// # Errors
/// Never for headers that are already valid.
pub(super) fn head(
    response_edits: &ResponseEdits,
    asked: &RequestHeader,
    header: &mut ResponseHeader,
    alone: bool,
) -> Result<Option<Encoder>> {
    edit_all(response_edits, header)?;
    let Some(compression) = &response_edits.compression else {
        return Ok(None);
    };
    let by_head = asked.method == Method::HEAD;
    let length = if alone && !by_head {
        Some(0)
    } else {
        content_length(&header.headers)
    };
    let mut choice = compression.choose(&asked.headers, header.status, &header.headers, length);
    let mut held = None;
    if let (Choice::Encode(setting), false) = (choice, alone) {
        held = Encoder::charge(setting);
        if held.is_none() {
            choice = Choice::Varies;
        }
    }
    describe(header, choice)?;
    let Choice::Encode(setting) = choice else {
        return Ok(None);
    };
    header.remove_header(&header::CONTENT_LENGTH);
    let Some(held) = held else {
        return Ok(None);
    };
    if asked.version == Version::HTTP_11 {
        let chunked = HeaderValue::from_static("chunked");
        header.insert_header(header::TRANSFER_ENCODING, chunked)?;
    }
    let encoder =
        Encoder::new(setting, held).or_err(ErrorType::InternalError, "compression failed")?;
    Ok(Some(encoder))
}

/// Sets the headers that describe the coding of the body.
fn describe(header: &mut ResponseHeader, choice: Choice) -> Result<()> {
    match choice {
        Choice::Untouched => return Ok(()),
        Choice::Varies => {}
        Choice::NotModified => weaken(header)?,
        Choice::Encode(setting) => encoded(header, setting.coding)?,
    }
    vary(header)
}

fn encoded(header: &mut ResponseHeader, coding: Coding) -> Result<()> {
    header.insert_header(header::CONTENT_ENCODING, coding.header())?;
    for name in &OF_PLAIN_BODY {
        if header.headers.contains_key(name) {
            header.remove_header(name);
        }
    }
    weaken(header)
}

/// A strong validator promises the same bytes (RFC 9110 §8.8.1), which an encoded body does not have.
fn weaken(header: &mut ResponseHeader) -> Result<()> {
    let Some(tag) = header.headers.get(header::ETAG) else {
        return Ok(());
    };
    if tag.as_bytes().starts_with(b"W/") {
        return Ok(());
    }
    let weak = [b"W/", tag.as_bytes()].concat();
    let weak = HeaderValue::try_from(weak).or_err(ErrorType::InternalError, "an ETag")?;
    header.insert_header(header::ETAG, weak)
}

/// Adds `Accept-Encoding` to `Vary`, unless it is there.
fn vary(header: &mut ResponseHeader) -> Result<()> {
    let values = header.headers.get_all(header::VARY).iter();
    let mut names = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim);
    if names.any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding")) {
        return Ok(());
    }
    let name = HeaderValue::from_static("Accept-Encoding");
    header.append_header(header::VARY, name).map(|_| ())
}

/// Changes the headers only.
///
/// # Errors
/// Never for headers that are already valid.
pub(super) fn edit_all(response_edits: &ResponseEdits, header: &mut ResponseHeader) -> Result<()> {
    response_edits
        .edits
        .iter()
        .try_for_each(|edits| edit(edits, header))
}

fn edit(edits: &HeaderEdits, header: &mut ResponseHeader) -> Result<()> {
    for name in &edits.delete {
        header.remove_header(name);
    }
    for (old, new) in &edits.rename {
        let values: Vec<HeaderValue> = header.headers.get_all(old).iter().cloned().collect();
        if !values.is_empty() {
            header.remove_header(old);
            header.remove_header(&new.name);
            append(header, new, &values)?;
        }
    }
    for (name, values) in &edits.replace {
        header.remove_header(&name.name);
        append(header, name, values)?;
    }
    for (name, values) in &edits.add {
        // `replace` is for a header that has one value, and has it already.
        if has_one_value(&name.name) && header.headers.contains_key(&name.name) {
            continue;
        }
        append(header, name, values)?;
    }
    Ok(())
}

fn append(header: &mut ResponseHeader, name: &Name, values: &[HeaderValue]) -> Result<()> {
    for value in values {
        header.append_header(name.spelled.clone(), value.clone())?;
    }
    Ok(())
}

/// If the encoder fails, the response is aborted.
pub(super) fn broken(error: &io::Error) -> Failure {
    log::error!("[SERVICE: Gateway] compression failed: {error}");
    Failure::cut_off("the response ended early: it cannot be compressed")
}
