//! Sends the files of a folder to clients.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::runtime::files::{Asked, Body, Folder, Served, read_part};
use crate::runtime::request::Head;
use crate::runtime::response::{Fields, Response};
use crate::runtime::response_edits::ResponseEdits;
use crate::server::{respond, response_edits};

/// The size of one piece of a file. A smaller file is read at once.
const PIECE: usize = 128 * 1024;

/// The headers that a file may depend on.
const CONDITIONS: [HeaderName; 7] = [
    ACCEPT_ENCODING,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    RANGE,
];

/// The request for a file of a folder; `rest` is the path below the folder.
pub(super) fn asked(head: &Head<'_>, rest: &str) -> Asked {
    let mut headers = HeaderMap::new();
    for name in CONDITIONS {
        for value in head.headers.get_all(&name) {
            headers.append(&name, value.clone());
        }
    }
    Asked {
        method: head.method.clone(),
        rest: rest.into(),
        query: head.query.map(Box::from),
        last: head.path.rsplit('/').next().unwrap_or_default().into(),
        headers,
    }
}

/// The response of a folder: whole, or a large file that is sent piece by piece.
pub(super) enum Found {
    Whole(Response),
    Large(Large),
}

/// A file that is read while it is sent.
pub(super) struct Large {
    pub(super) status: StatusCode,
    headers: Fields,
    file: File,
    length: u64,
}

/// Finds the response on a thread for blocking work.
pub(super) async fn find(folder: Arc<Folder>, asked: Asked) -> Found {
    let is_head = asked.method == Method::HEAD;
    let found = tokio::task::spawn_blocking(move || prepared(folder.serve(&asked), is_head));
    found
        .await
        .unwrap_or_else(|_| Found::Whole(Response::empty(StatusCode::INTERNAL_SERVER_ERROR)))
}

fn prepared(served: Served, is_head: bool) -> Found {
    let Served {
        status,
        headers,
        body,
    } = served;
    let body = match body {
        Body::Whole(bytes) => bytes,
        // The length in the head of a HEAD is that of the file.
        Body::Part(mut file, length) if length <= PIECE as u64 && !is_head => {
            match read_part(&mut file, length, PIECE) {
                Ok(piece) => Bytes::from(piece),
                Err(error) => {
                    log::error!("[SERVICE: Gateway] a file cannot be read: {error}");
                    return Found::Whole(Response::empty(StatusCode::INTERNAL_SERVER_ERROR));
                }
            }
        }
        Body::Part(file, length) => {
            return Found::Large(Large {
                status,
                headers,
                file,
                length,
            });
        }
    };
    let mut response = Response::empty(status);
    response.fields = headers;
    response.body = body;
    Found::Whole(response)
}

/// Sends a large file, which is never compressed here. `extra` are the headers that steps left.
///
/// # Errors
/// The client does not read, or the file cannot be read to its end: the connection must end.
pub(super) async fn send(
    session: &mut Session,
    large: Large,
    extra: &Fields,
    response_edits: Option<&ResponseEdits>,
) -> Result<()> {
    let mut header = ResponseHeader::build(large.status, Some(large.headers.len() + extra.len()))?;
    for (name, value) in &large.headers {
        header.append_header(name, value)?;
    }
    respond::replace(&mut header, extra)?;
    header.insert_header(CONTENT_LENGTH, large.length)?;
    let is_head = session.req_header().method == Method::HEAD;
    match response_edits {
        // The head for a smaller file equals that of a GET, whose body may be compressed.
        Some(response_edits) if is_head && large.length <= PIECE as u64 => {
            response_edits::head(response_edits, session.req_header(), &mut header, true)?;
        }
        Some(response_edits) => response_edits::edit_all(response_edits, &mut header)?,
        None => {}
    }
    respond::keep_connection(session);
    let alone = is_head || large.length == 0;
    respond::write_header(session, header, alone).await?;
    if alone {
        return Ok(());
    }
    let (mut file, mut left) = (large.file, large.length);
    while left > 0 {
        let reading = move || (read_part(&mut file, left, PIECE), file);
        let Ok((piece, back)) = tokio::task::spawn_blocking(reading).await else {
            return Error::e_explain(ErrorType::InternalError, "a file cannot be read");
        };
        let piece = match piece {
            Ok(piece) => Bytes::from(piece),
            Err(error) => {
                log::error!("[SERVICE: Gateway] a file was not sent completely: {error}");
                return Error::e_explain(ErrorType::InternalError, "a file cannot be read");
            }
        };
        file = back;
        left -= piece.len() as u64;
        session.write_response_body(Some(piece), left == 0).await?;
    }
    Ok(())
}
