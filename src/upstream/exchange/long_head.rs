//! Response heads with more headers than Pingora's parser accepts.
//!
//! Pingora gives up at the 257th header. Its error contains what it had read, and the rest is read here, with a limit
//! in bytes. Pingora then receives a short head with only the headers that frame the body, and continues after it.

use bytes::{BufMut, Bytes, BytesMut};
use http::Method;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, TRANSFER_ENCODING};
use memchr::memmem;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1;
use pingora_core::{Error, ErrorType};
use tokio::io::AsyncReadExt;

use super::stream::Exchange;
use crate::upstream::budget::{Charge, SMALL};
use crate::upstream::link::Link;
use crate::upstream::session::Session;

/// The head is larger than the configuration allows.
pub(super) const HEAD_TOO_LARGE: ErrorType = ErrorType::new("ResponseHeadTooLarge");

/// The budget of memory has no space for the head.
pub(super) const HEAD_UNBUFFERED: ErrorType = ErrorType::new("ResponseHeadUnbuffered");

/// The head has more headers than [`MAX_FIELDS`].
pub(super) const TOO_MANY_FIELDS: ErrorType = ErrorType::new("ResponseFieldsTooMany");

/// The maximum number of headers in a response. `HeaderMap` has its own limit.
pub(super) const MAX_FIELDS: usize = 10_000;
/// The maximum number of headers that frame a response, all of which Pingora must parse.
const MAX_FRAMING: usize = 100;
const READ_BYTES: usize = 16 * 1024;

/// A head that is being read.
pub(super) struct LongHead {
    link: Box<Link>,
    held: Charge,
    read: BytesMut,
    /// How much of `read` was already searched for the end of the head.
    searched: usize,
}

/// A parsed head.
struct Parsed {
    fields: HeaderMap,
    /// The same response with only the headers that frame it, followed by the bytes of the body that were read.
    short: BytesMut,
}

impl Exchange<'_> {
    /// Reads the next header section, with any number of headers.
    pub(super) async fn next_header(&mut self) -> Result<(), Box<Error>> {
        if let Some(early) = self.early_head() {
            early?;
            return self.check_size();
        }
        if let Some(Session::FastPath(usual)) = &mut self.session {
            if usual.read_head(self.head.method == Method::HEAD).await? {
                return self.check_size();
            }
            Box::pin(self.hand_over()).await?;
        }
        if self.long.is_none() {
            let http1 = self.session.as_ref().and_then(Session::http1);
            if let Some(session) = http1 {
                Link::begin_head(session.stream());
            }
            let Some(session) = self.session.as_mut().and_then(Session::pingora) else {
                return Err(Error::new(ErrorType::ConnectionClosed));
            };
            match session.read_response_header().await {
                Ok(()) => return self.check_size(),
                Err(error) => match given_up(&error) {
                    Some(read) => self.set_aside(read),
                    None => return Err(error),
                },
            }
        }
        let result = Box::pin(self.long_header()).await;
        self.long = None;
        result
    }

    /// Pingora's own limit is in bytes too. This one may be lower.
    fn check_size(&mut self) -> Result<(), Box<Error>> {
        let most = self.client.settings.max_response_header_bytes;
        let http1 = self.session.as_ref().and_then(Session::http1);
        let size = match (&self.session, http1) {
            (Some(Session::FastPath(session)), _) => session.head_bytes(),
            (_, Some(session)) => {
                self.held = Link::end_head(session.stream());
                session.get_headers_raw_bytes().len()
            }
            _ => self.response().map_or(0, |(_, headers)| {
                let field = |(name, value): (&HeaderName, &http::HeaderValue)| {
                    name.as_str().len() + value.len() + 4
                };
                headers.iter().map(field).sum()
            }),
        };
        if size > most {
            return Err(Error::new(HEAD_TOO_LARGE));
        }
        if size > SMALL {
            self.hold_head(size)?;
        }
        Ok(())
    }

    /// Charges a large head as long as the exchange lasts.
    #[cold]
    fn hold_head(&mut self, size: usize) -> Result<(), Box<Error>> {
        let fields = self.response().map_or(0, |(_, headers)| headers.len());
        let charged = self.held.cover(head_memory(size, fields));
        charged.map_err(|_| Error::new(HEAD_UNBUFFERED))
    }

    /// Takes the connection out of a session that gave up.
    fn set_aside(&mut self, read: BytesMut) {
        let session = self.session.take().map(|session| *session.into_pingora());
        if let Some(HttpSession::H1(session)) = session {
            let link = Link::over(session.into_inner());
            self.long = link.map(|mut link| {
                Box::new(LongHead {
                    held: link.end_own_head(),
                    link,
                    read,
                    searched: 0,
                })
            });
        }
    }

    /// Reads the head to its end and creates a session for the rest. May be cancelled and called again while it
    /// reads.
    async fn long_header(&mut self) -> Result<(), Box<Error>> {
        let most = self.client.settings.max_response_header_bytes;
        let Some(long) = self.long.as_mut() else {
            return Err(Error::new(ErrorType::ConnectionClosed));
        };
        let end = long.read_to_end(most).await?;
        let parsed = parse(&long.read, end)?;
        self.held = std::mem::take(&mut long.held);
        let covered = self.held.cover(head_memory(end, parsed.fields.len()));
        covered.map_err(|_| Error::new(HEAD_UNBUFFERED))?;
        let Some(mut long) = self.long.take() else {
            return Err(Error::new(ErrorType::ConnectionClosed));
        };
        long.link.replay(parsed.short);
        let mut session = Http1::new(long.link);
        let head = self.wire_head(true).map_err(|_| invalid())?;
        session.write_request_header(head).await?;
        session.read_response().await?;
        let interim = session
            .resp_header()
            .is_some_and(|header| header.status.is_informational());
        self.fields = (!interim).then(|| Box::new(parsed.fields));
        self.session = Some(Session::Pingora(Box::new(HttpSession::H1(session))));
        Ok(())
    }
}

impl LongHead {
    /// Reads until the head is complete and returns its length.
    async fn read_to_end(&mut self, most: usize) -> Result<usize, Box<Error>> {
        loop {
            let from = self.searched.saturating_sub(3);
            let new = self.read.get(from..).unwrap_or_default();
            if let Some(end) = end_of_head(new) {
                let end = from + end;
                return if end > most {
                    Err(Error::new(HEAD_TOO_LARGE))
                } else {
                    Ok(end)
                };
            }
            self.searched = self.read.len();
            if self.searched > most {
                return Err(Error::new(HEAD_TOO_LARGE));
            }
            self.read.reserve(READ_BYTES);
            let covered = self.held.cover(self.read.capacity());
            covered.map_err(|_| Error::new(HEAD_UNBUFFERED))?;
            match self.link.read_buf(&mut self.read).await {
                Ok(0) => return Err(Error::new(ErrorType::ConnectionClosed)),
                Ok(_) => {}
                Err(error) => {
                    let text = "while reading response headers";
                    return Err(Error::because(ErrorType::ReadError, text, error));
                }
            }
        }
    }
}

/// What a head takes: its bytes, a copy of them, and entries in two maps.
fn head_memory(bytes: usize, fields: usize) -> usize {
    2 * bytes + 256 * fields
}

/// The length of a head including its empty line. Like the parser, it accepts a bare LF as the end of a line.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let usual = memmem::find(bytes, b"\n\r\n").map(|at| at + 3);
    let bare = memmem::find(bytes, b"\n\n").map(|at| at + 2);
    match (usual, bare) {
        (Some(usual), Some(bare)) => Some(usual.min(bare)),
        (usual, bare) => usual.or(bare),
    }
}

fn parse(read: &BytesMut, end: usize) -> Result<Parsed, Box<Error>> {
    let head = read.get(..end).unwrap_or_default();
    let lines = memchr::memchr_iter(b'\n', head).count();
    // The status line and the empty line are no headers.
    if lines > MAX_FIELDS + 2 {
        return Err(Error::new(TOO_MANY_FIELDS));
    }
    let mut found = vec![httparse::EMPTY_HEADER; lines];
    let mut response = httparse::Response::new(&mut found);
    // The same options as in Pingora.
    let mut parser = httparse::ParserConfig::default();
    parser.allow_spaces_after_header_name_in_responses(true);
    parser.allow_obsolete_multiline_headers_in_responses(true);
    let parsed = parser.parse_response(&mut response, head);
    let (Ok(httparse::Status::Complete(_)), Some(code), Some(version)) =
        (parsed, response.code, response.version)
    else {
        return Err(invalid());
    };
    let mut fields = HeaderMap::with_capacity(response.headers.len());
    let mut short = BytesMut::with_capacity(512 + read.len() - end);
    short.put_slice(format!("HTTP/1.{version} {code} \r\n").as_bytes());
    let mut framing = 0;
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| invalid())?;
        let value = pingora_http::header_value_from_raw(Bytes::copy_from_slice(field.value));
        if frames(&name) {
            framing += 1;
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                short.put_slice(part);
            }
        }
        fields.try_append(name, value).map_err(|_| invalid())?;
    }
    if framing > MAX_FRAMING {
        return Err(invalid());
    }
    if fields.contains_key(TRANSFER_ENCODING) {
        fields.remove(CONTENT_LENGTH); // RFC 9112 §6.3
    }
    short.put_slice(b"\r\n");
    short.put_slice(read.get(end..).unwrap_or_default());
    Ok(Parsed { fields, short })
}

fn frames(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | CONTENT_LENGTH | TRANSFER_ENCODING)
        || name.as_str() == "keep-alive"
}

fn invalid() -> Box<Error> {
    Error::new(ErrorType::InvalidHTTPHeader)
}

/// The bytes of a head that Pingora had read when it gave up because of the number of headers.
fn given_up(error: &Error) -> Option<BytesMut> {
    let cause = error.root_cause().downcast_ref::<httparse::Error>();
    if !matches!(cause, Some(httparse::Error::TooManyHeaders)) {
        return None;
    }
    unescaped(error.context.as_ref()?.as_str().strip_prefix("buf: ")?)
}

/// Reverses [`slice::escape_ascii`].
fn unescaped(text: &str) -> Option<BytesMut> {
    let mut out = BytesMut::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let meant = match byte {
            b'\\' => match bytes.next()? {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
                same => same,
            },
            plain => plain,
        };
        out.put_u8(meant);
    }
    Some(out)
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(fields: usize) -> BytesMut {
        let mut head = String::from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n");
        for i in 0..fields {
            head += &format!("X-{i}: a;\r\n b\r\n");
        }
        BytesMut::from(format!("{head}\r\n{{}}").as_bytes())
    }

    #[test]
    fn a_long_head_becomes_a_short_head_and_all_headers() {
        let read = head(700);
        let end = end_of_head(&read).unwrap();
        let parsed = parse(&read, end).unwrap();
        assert_eq!(parsed.fields.len(), 701);
        assert_eq!(parsed.fields["x-699"], "a; b");
        assert_eq!(parsed.short, "HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\n{}");
    }

    #[test]
    fn repeated_framing_headers_stay_in_the_short_head() {
        let read = BytesMut::from(
            &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
        );
        let parsed = parse(&read, read.len()).unwrap();
        assert!(!parsed.fields.contains_key(CONTENT_LENGTH));
        assert!(
            parsed
                .short
                .starts_with(b"HTTP/1.1 200 \r\ncontent-length: 2\r\n")
        );
    }

    proptest! {
        #[test]
        fn escaping_is_reversed(bytes: Vec<u8>) {
            let text = bytes.escape_ascii().to_string();
            prop_assert_eq!(unescaped(&text), Some(BytesMut::from(&bytes[..])));
        }

        #[test]
        fn arbitrary_bytes_are_a_head_or_rejected(bytes: Vec<u8>, end: usize) {
            let _ = parse(&BytesMut::from(&bytes[..]), end);
            let _ = unescaped(&String::from_utf8_lossy(&bytes));
        }
    }
}
