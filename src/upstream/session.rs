//! The connection of one exchange, in one of two forms.
//!
//! An HTTP/1 connection starts as [`FastPath`]. It becomes a session of Pingora as soon as the request or the response has
//! something that [`FastPath`] does not know.

use http::{HeaderMap, StatusCode};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1;
use pingora_core::protocols::http::v2::client::Http2Session;

use super::http1_fast_path::FastPath;
use super::link::Link;

/// A connection before and after its exchange.
pub(super) enum Connection {
    Http1(Box<Link>),
    Pingora(Box<HttpSession>),
}

impl Connection {
    /// A stream over HTTP/2.
    pub(super) fn http2(session: Http2Session) -> Connection {
        Connection::Pingora(Box::new(HttpSession::H2(session)))
    }
}

/// A connection that one exchange uses. The usual form is not boxed, because an exchange is.
#[allow(clippy::large_enum_variant)]
pub(super) enum Session {
    FastPath(FastPath),
    Pingora(Box<HttpSession>),
}

impl From<Connection> for Session {
    fn from(connection: Connection) -> Session {
        match connection {
            Connection::Http1(link) => Session::FastPath(FastPath::new(link)),
            Connection::Pingora(session) => Session::Pingora(session),
        }
    }
}

impl Session {
    /// The connection after the exchange, and whether it can serve another one, as far as that is known.
    pub(super) fn end(self) -> (Connection, bool) {
        match self {
            Session::FastPath(usual) => {
                let (link, is_reusable) = usual.end();
                (Connection::Http1(link), is_reusable)
            }
            Session::Pingora(session) => (Connection::Pingora(session), true),
        }
    }

    /// The same connection as a session of Pingora.
    pub(super) fn into_pingora(self) -> Box<HttpSession> {
        match self {
            Session::FastPath(usual) => Box::new(HttpSession::H1(Http1::new(usual.into_link()))),
            Session::Pingora(session) => session,
        }
    }

    /// The session of Pingora, if it is one.
    pub(super) fn pingora(&mut self) -> Option<&mut HttpSession> {
        match self {
            Session::FastPath(_) => None,
            Session::Pingora(session) => Some(session),
        }
    }

    /// Pingora's session over HTTP/1.
    pub(super) fn http1(&self) -> Option<&Http1> {
        match self {
            Session::FastPath(_) => None,
            Session::Pingora(session) => session.as_http1(),
        }
    }

    pub(super) fn http2_mut(&mut self) -> Option<&mut Http2Session> {
        match self.pingora() {
            Some(HttpSession::H2(session)) => Some(session),
            _ => None,
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self, Session::Pingora(session) if matches!(**session, HttpSession::H2(_)))
    }

    /// Status and headers of the response, after they were read.
    pub(super) fn response(&self) -> Option<(StatusCode, &HeaderMap)> {
        match self {
            Session::FastPath(usual) => usual.response(),
            Session::Pingora(session) => session
                .response_header()
                .map(|head| (head.status, &head.headers)),
        }
    }

    /// The number of bytes of the body that were not read, if it is known without a look at the headers.
    pub(super) fn body_bytes(&self) -> Option<u64> {
        match self {
            Session::FastPath(usual) => Some(usual.body_bytes()),
            Session::Pingora(_) => None,
        }
    }

    /// Whether the body of the response was read to its end.
    pub(super) fn is_done(&mut self) -> bool {
        match self {
            Session::FastPath(usual) => usual.is_done(),
            Session::Pingora(session) => session.response_done(),
        }
    }
}
