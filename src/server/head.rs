//! The head of an HTTP/1 request, checked byte by byte before it is interpreted.
//!
//! Everything that two parsers could interpret differently is rejected (RFC 9112 §2.2, §3.2, §5, §6): the client gets
//! a 400 and the connection ends. A head that passes has only one interpretation.

use memchr::memchr;

use crate::upstream::budget::SMALL;

/// The maximum length of a target in the `http` crate.
const MAX_TARGET_BYTES: usize = 65_534;
/// The maximum length of a header's name in the `http` crate.
const MAX_NAME_BYTES: usize = 65_535;

/// Why a head was rejected. It is the label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHead {
    /// The request line is not `METHOD SP target SP HTTP/1.x`.
    RequestLine,
    /// The target contains a byte or an escape that is invalid in a URI.
    Target,
    /// HTTP/2 or later as text, or a version that does not exist.
    Version,
    /// A line that ends with LF alone, or contains a CR or NUL.
    LineEnding,
    /// A continued line (obs-fold).
    Fold,
    /// A header line without a name, with white space before the colon, or with an invalid byte.
    Field,
    /// HTTP/1.1 without `Host`.
    HostMissing,
    /// More than one `Host`, or an invalid one.
    Host,
    /// A `CONNECT` to another host: nothing is tunnelled.
    Connect,
    /// `Content-Length` is not a number, or occurs more than once.
    ContentLength,
    /// `Transfer-Encoding` is not exactly `chunked`, occurs together with `Content-Length`, or in HTTP/1.0.
    TransferEncoding,
    /// More bytes than `max_header_bytes` allows.
    TooLarge,
    /// More headers than `max_fields` allows.
    TooMany,
    /// The session of the HTTP library does not read what passed these checks.
    Unreadable,
}

impl BadHead {
    /// The label of the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            BadHead::RequestLine => "request_line",
            BadHead::Target => "target",
            BadHead::Version => "version",
            BadHead::LineEnding => "line_ending",
            BadHead::Fold => "fold",
            BadHead::Field => "field",
            BadHead::HostMissing => "host_missing",
            BadHead::Host => "host",
            BadHead::Connect => "connect",
            BadHead::ContentLength => "content_length",
            BadHead::TransferEncoding => "transfer_encoding",
            BadHead::TooLarge => "too_large",
            BadHead::TooMany => "too_many",
            BadHead::Unreadable => "unreadable",
        }
    }

    /// Status line and body of the rejection, in the words of Go's server.
    pub fn status_line(self) -> &'static str {
        match self {
            BadHead::HostMissing => "400 Bad Request: missing required Host header",
            BadHead::Version => "505 HTTP Version Not Supported",
            BadHead::Connect => "405 Method Not Allowed",
            BadHead::TooLarge | BadHead::TooMany => "431 Request Header Fields Too Large",
            _ => "400 Bad Request",
        }
    }
}

/// Properties of an accepted head that the front needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadFacts {
    /// The length of the head, including its empty line.
    pub length: usize,
    /// The number of headers.
    pub fields: usize,
    pub body: BodyFraming,
    /// The target is in absolute form (`GET http://host/path`).
    pub absolute: bool,
    /// The target contains bytes that clients send although they are invalid in a URI.
    pub raw_target: bool,
    /// `Connection` occurs more than once.
    pub many_connections: bool,
    /// The client requests another protocol: bytes after the head may belong to that protocol.
    pub upgrade: bool,
    /// HTTP/1.1 in origin form, without `Expect`, and without headers that change the connection.
    pub simple: bool,
}

/// A head with no more headers is not charged to the budget of memory, if it is short.
const FEW_FIELDS: usize = 32;
/// The memory of a header besides its text: an entry in each of two maps, and one in the call to a backend.
const FIELD: usize = 512;

impl HeadFacts {
    /// The memory of the head as long as its request lasts: its bytes, a copy of them, and maps. 0 if it is small.
    pub(crate) fn memory(&self) -> usize {
        if self.length > SMALL || self.fields > FEW_FIELDS {
            2 * self.length + FIELD * self.fields
        } else {
            0
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    None,
    Length(u64),
    Chunked,
}

/// Reads a head line by line as its bytes arrive. Each byte is read once.
#[derive(Debug)]
pub struct HeadReader {
    max_bytes: usize,
    max_fields: usize,
    /// The start of the current incomplete line.
    line: usize,
    /// The position up to which all line ends are processed.
    seen: usize,
    lines: usize,
    http10: bool,
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    absolute: bool,
    raw_target: bool,
    upgrade: bool,
    connections: usize,
    special: bool,
}

impl HeadReader {
    /// A reader for one head of at most `max_bytes` and `max_fields`.
    pub fn new(max_bytes: usize, max_fields: usize) -> HeadReader {
        HeadReader {
            max_bytes,
            max_fields,
            line: 0,
            seen: 0,
            lines: 0,
            http10: false,
            hosts: 0,
            length: None,
            chunked: false,
            absolute: false,
            raw_target: false,
            upgrade: false,
            connections: 0,
            special: false,
        }
    }

    /// Continues with all bytes read so far. `None` means that more are needed.
    ///
    /// # Errors
    /// The first problem of the head.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Option<HeadFacts>, BadHead> {
        while let Some(offset) = bytes.get(self.seen..).and_then(|rest| memchr(b'\n', rest)) {
            let end = self.seen + offset;
            if end >= self.max_bytes {
                return Err(BadHead::TooLarge);
            }
            let line = bytes.get(self.line..end).unwrap_or_default();
            let Some((b'\r', line)) = line.split_last() else {
                return Err(BadHead::LineEnding);
            };
            self.seen = end + 1;
            self.line = end + 1;
            if line.is_empty() && self.lines > 0 {
                return self.finish().map(Some);
            }
            self.one_line(line)?;
        }
        self.seen = bytes.len();
        if bytes.len() > self.max_bytes {
            Err(BadHead::TooLarge)
        } else {
            Ok(None)
        }
    }

    fn one_line(&mut self, line: &[u8]) -> Result<(), BadHead> {
        self.lines += 1;
        if self.lines == 1 {
            return self.request_line(line);
        }
        if self.lines > self.max_fields + 1 {
            return Err(BadHead::TooMany);
        }
        self.field(line)
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), BadHead> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadHead::RequestLine);
        };
        if !is_name(method) {
            return Err(BadHead::RequestLine);
        }
        self.http10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ if version.starts_with(b"HTTP/") => return Err(BadHead::Version),
            _ => return Err(BadHead::RequestLine),
        };
        check_target(target)?;
        if method == b"CONNECT" && !target.starts_with(b"/") {
            return Err(BadHead::Connect);
        }
        let raw = raw_bytes(target);
        if target.len() + 2 * raw > MAX_TARGET_BYTES {
            return Err(BadHead::TooLarge);
        }
        self.raw_target = raw > 0;
        self.absolute = !target.starts_with(b"/") && target != b"*";
        if self.absolute && !is_absolute_form(target) {
            return Err(BadHead::Target);
        }
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), BadHead> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(BadHead::Fold);
        }
        let colon = memchr(b':', line).ok_or(BadHead::Field)?;
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        if name.len() > MAX_NAME_BYTES {
            return Err(BadHead::TooLarge);
        }
        if !is_name(name) {
            return Err(BadHead::Field);
        }
        if may_hold_control(value)
            && holds(value, |byte| byte < b' ' && byte != b'\t' || byte == 127)
        {
            return Err(if memchr(b'\r', value).is_some() {
                BadHead::LineEnding
            } else {
                BadHead::Field
            });
        }
        self.known_field(name, value.trim_ascii())
    }

    /// Checks the headers that determine the end and the destination of a message.
    fn known_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadHead> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                if self.hosts > 1 || !is_authority(value) {
                    return Err(BadHead::Host);
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(BadHead::ContentLength);
                }
                self.length = Some(decimal(value).ok_or(BadHead::ContentLength)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(BadHead::TransferEncoding);
                }
                self.chunked = true;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connections += 1;
                self.special |= !value.eq_ignore_ascii_case(b"keep-alive");
            }
            6 if name.eq_ignore_ascii_case(b"expect") => self.special = true,
            _ => {}
        }
        Ok(())
    }

    fn finish(&self) -> Result<HeadFacts, BadHead> {
        if self.chunked && (self.length.is_some() || self.http10) {
            return Err(BadHead::TransferEncoding);
        }
        if self.hosts == 0 && !self.http10 {
            return Err(BadHead::HostMissing);
        }
        let body = match (self.chunked, self.length) {
            (true, _) => BodyFraming::Chunked,
            (false, None | Some(0)) => BodyFraming::None,
            (false, Some(length)) => BodyFraming::Length(length),
        };
        Ok(HeadFacts {
            length: self.line,
            fields: self.lines.saturating_sub(1),
            body,
            absolute: self.absolute,
            raw_target: self.raw_target,
            many_connections: self.connections > 1,
            upgrade: self.upgrade,
            simple: !self.special
                && self.connections <= 1
                && !self.upgrade
                && !self.absolute
                && !self.http10,
        })
    }
}

fn check_target(target: &[u8]) -> Result<(), BadHead> {
    if target.is_empty() || holds(target, |byte| byte <= b' ' || byte == 127) {
        return Err(BadHead::Target);
    }
    let path = target
        .split(|byte| *byte == b'?')
        .next()
        .unwrap_or_default();
    let mut at = 0;
    while let Some(offset) = path.get(at..).and_then(|rest| memchr(b'%', rest)) {
        let hex = path
            .get(at + offset + 1..at + offset + 3)
            .unwrap_or_default();
        if hex.len() < 2 || !hex.iter().all(u8::is_ascii_hexdigit) {
            return Err(BadHead::Target);
        }
        at += offset + 3;
    }
    Ok(())
}

/// The number of bytes in a target that must be escaped to make it a URI.
fn raw_bytes(target: &[u8]) -> usize {
    let odd = target.iter().filter(|byte| is_raw(**byte)).count();
    if target.is_ascii() || std::str::from_utf8(target).is_ok() {
        odd
    } else {
        odd + target.iter().filter(|byte| !byte.is_ascii()).count()
    }
}

/// Visible ASCII characters that are invalid in a URI, though clients send them.
pub(crate) fn is_raw(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`')
}

fn is_absolute_form(target: &[u8]) -> bool {
    let Some(colon) = memchr(b':', target) else {
        return false;
    };
    let (scheme, rest) = target.split_at(colon);
    let known = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    let Some(rest) = rest.strip_prefix(b"://") else {
        return false;
    };
    let authority = rest
        .split(|byte| matches!(byte, b'/' | b'?'))
        .next()
        .unwrap_or_default();
    known && !authority.is_empty() && is_authority(authority)
}

/// Host and port without user information: letters, digits, and the characters of IPv6 literals and names.
fn is_authority(value: &[u8]) -> bool {
    const CHARACTERS: Set = set(b"-._~:[]%!$&'()*+,;=");
    value
        .iter()
        .all(|byte| has(&CHARACTERS, *byte) || *byte >= 128)
}

fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A set of bytes. A look into it costs less than a search in a list.
type Set = [bool; 256];

/// ASCII letters and digits, and these bytes.
const fn set(others: &[u8]) -> Set {
    let mut set = [false; 256];
    let mut byte = 0;
    while byte < set.len() {
        set[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        set[others[at] as usize] = true;
        at += 1;
    }
    set
}

fn has(set: &Set, byte: u8) -> bool {
    set[usize::from(byte)]
}

/// Whether a value may hold a control character. Nearly all values hold only visible ASCII and blanks, not even a tab,
/// and this costs less than to look for the bytes that are invalid.
fn may_hold_control(value: &[u8]) -> bool {
    // Behind the last visible character are DEL and all that is not ASCII, and, as the subtraction wraps, the control
    // characters.
    let most = value
        .iter()
        .fold(0, |most: u8, byte| most.max(byte.wrapping_sub(b' ')));
    most > b'~' - b' '
}

/// Whether one of the bytes is `bad`. It looks at all of them, many at a time: a header with a token has a thousand bytes,
/// and nearly all requests are good.
fn holds(bytes: &[u8], bad: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(false, |found, byte| found | bad(*byte))
}

/// `token` of RFC 9110 §5.6.2.
fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token)
}

/// `tchar` of RFC 9110 §5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    const CHARACTERS: Set = set(b"!#$%&'*+-.^_`|~");
    has(&CHARACTERS, byte)
}

#[cfg(test)]
mod tests;
