//! Sends the files of a folder to clients.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use http::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::runtime::failure::{Failure, Guard, Kind};
use crate::runtime::files::{Asked, Body, Folder, Served, in_turn, read_piece, read_small};
use crate::runtime::request::Head;
use crate::runtime::response::{Fields, Response};
use crate::runtime::response_edits::ResponseEdits;
use crate::server::{respond, response_edits};
use crate::upstream::within;

/// A file of at most this size is read at once, and may be compressed.
const SMALL: u64 = 128 * 1024;
/// How long a client waits for one read, with its turn. Only a disk that hangs takes so long.
const READ_LIMIT: Duration = Duration::from_secs(30);

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
///
/// # Errors
/// The disk is too slow, or the thread could not do its work.
pub(super) async fn find(folder: Arc<Folder>, asked: Asked) -> Result<Found, Failure> {
    let is_head = asked.method == Method::HEAD;
    in_time(move || prepared(folder.serve(&asked), is_head)).await
}

async fn in_time<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let late = || Failure {
        status: StatusCode::SERVICE_UNAVAILABLE,
        ..Failure::new(Kind::Guarded(Guard::Busy), "a file is read too slowly")
    };
    let done = within(READ_LIMIT, in_turn(work)).await;
    done.unwrap_or_else(|| Err(late()))
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
        Body::Part(mut file, length) if length <= SMALL && !is_head => {
            match read_small(&mut file, length) {
                Ok(Some(bytes)) => bytes,
                // It takes less memory piece by piece.
                Ok(None) => {
                    return Found::Large(Large {
                        status,
                        headers,
                        file,
                        length,
                    });
                }
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
        Some(response_edits) if is_head && large.length <= SMALL => {
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
        // The client has taken the last piece: one that does not read holds no more than a piece.
        let reading = move || (read_piece(&mut file, left), file);
        let (piece, back) = match in_time(reading).await {
            Ok(done) => done,
            Err(failure) => {
                log::error!("[SERVICE: Gateway] a file was not sent completely: {failure}");
                return Error::e_explain(ErrorType::InternalError, "a file cannot be read");
            }
        };
        let piece = match piece {
            Ok(piece) => piece,
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
