//! The connection of one exchange, in one of two forms.
//!
//! An HTTP/1 connection starts as [`FastPath`]. It becomes a session of Pingora as soon as the request or the response has
//! something that [`FastPath`] does not know.

use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1;
use pingora_core::protocols::http::v2::client::Http2Session;
use pingora_http::ResponseHeader;

use super::http1_fast_path::FastPath;
use super::link::Link;

/// A connection that one exchange uses.
pub(super) enum Session {
    FastPath(Box<FastPath>),
    Pingora(Box<HttpSession>),
}

impl Session {
    /// An exchange over HTTP/1.
    pub(super) fn over(link: Box<Link>) -> Session {
        Session::FastPath(Box::new(FastPath::new(link)))
    }

    /// An exchange over HTTP/2.
    pub(super) fn http2(session: Http2Session) -> Session {
        Session::Pingora(Box::new(HttpSession::H2(session)))
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

    /// The head of the response, after it was read.
    pub(super) fn response(&self) -> Option<&ResponseHeader> {
        match self {
            Session::FastPath(usual) => usual.response(),
            Session::Pingora(session) => session.response_header(),
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
