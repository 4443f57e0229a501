//! Reading the header of an answer, and refusing answers that two readers could understand in two ways.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::{Error, ErrorType};
use pingora_http::ResponseHeader;

use super::stream::Exchange;
use crate::upstream::error::CallError;

impl Exchange<'_> {
    /// Reads one header section. `false`: it was an interim one.
    pub(super) async fn read_one_header(&mut self) -> Result<bool, Box<Error>> {
        let deadline = self.header_deadline;
        let Some(session) = self.session.as_mut() else {
            return Err(Error::new(ErrorType::ConnectionClosed));
        };
        match deadline {
            None => session.read_response_header().await?,
            Some(at) => tokio::time::timeout_at(at, session.read_response_header())
                .await
                .map_err(|_| Error::new(ErrorType::ReadTimedout))??,
        }
        let status = session.response_header().map(|header| header.status);
        Ok(status.is_none_or(|status| {
            !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
        }))
    }

    /// Framing that two readers could understand in two ways is refused (RFC 9112 §6.3), and so is a change of
    /// protocol that nobody asked for.
    pub(super) fn check_header(&mut self) -> Result<(), CallError> {
        let Some(response) = self.response() else {
            return Err(CallError::truncated());
        };
        let doubt = if response.status == StatusCode::SWITCHING_PROTOCOLS {
            Some("net/http: unexpected 101 Switching Protocols response")
        } else if response.headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
            Some("http: message cannot contain multiple Content-Length headers")
        } else if response.headers.contains_key(TRANSFER_ENCODING) && self.raw_length() {
            Some("http: message cannot contain both Content-Length and Transfer-Encoding")
        } else if response.headers.contains_key(TRANSFER_ENCODING) && !is_plainly_chunked(response)
        {
            Some("net/http: unsupported transfer encoding")
        } else {
            None
        };
        match doubt {
            Some(text) => {
                let error = self.failed(CallError::framing(text));
                self.session = None;
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// Whether the raw header has a `Content-Length`: Pingora removes it next to a `Transfer-Encoding`.
    fn raw_length(&self) -> bool {
        let Some(session) = self.session.as_deref().and_then(HttpSession::as_http1) else {
            return false;
        };
        let name = CONTENT_LENGTH.as_str().as_bytes();
        session
            .get_headers_raw_bytes()
            .split(|byte| *byte == b'\n')
            .filter_map(|line| line.get(..name.len()))
            .any(|start| start.eq_ignore_ascii_case(name))
    }

    /// Whether the upstream sent more than its framing announced. Pingora does not say so, but does not want to keep
    /// such a connection, though nothing else speaks against it.
    pub(super) fn has_surplus(&mut self) -> bool {
        let bodiless = self.head.method == Method::HEAD;
        let Some(HttpSession::H1(session)) = self.session.as_deref_mut() else {
            return false;
        };
        let keepable = session.resp_header().is_some_and(|response| {
            let headers = &response.headers;
            response.version == Version::HTTP_11
                && !matches!(response.status.as_u16(), 204 | 304)
                && !headers.contains_key(CONNECTION)
                && (headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING))
        });
        if bodiless || !keepable || self.set.client.settings.disable_keep_alives {
            return false;
        }
        session.respect_keepalive();
        !session.will_keepalive()
    }
}

/// Whether the one transfer coding is `chunked`, which HTTP/1.0 does not have: anything else would leave us guessing
/// where the body ends (RFC 9112 §6.1).
fn is_plainly_chunked(response: &ResponseHeader) -> bool {
    let mut codings = response.headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = codings.next().is_some_and(|coding| {
        coding
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked")
    });
    chunked && codings.next().is_none() && response.version != Version::HTTP_10
}
