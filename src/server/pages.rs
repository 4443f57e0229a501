//! The body of a page of an admin listener. It is compressed while it is written, if the client accepts that: a page of
//! metrics can have many megabytes, nearly all of them repetitions.

use std::fmt;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Response};

use crate::runtime::compression::accepts_gzip;

/// A body while it is written.
pub(crate) enum Page {
    Plain(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Page {
    /// An empty body for the client with these headers.
    pub(crate) fn asked_by(client: &HeaderMap) -> Page {
        if accepts_gzip(client) {
            Page::Gzip(GzEncoder::new(Vec::new(), Compression::fast()))
        } else {
            Page::Plain(Vec::new())
        }
    }

    /// Appends to the body.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        match self {
            Page::Plain(body) => body.extend_from_slice(piece),
            Page::Gzip(encoder) => {
                // Writing to memory does not fail.
                let _ = encoder.write_all(piece);
            }
        }
    }

    /// The response 200 with this body.
    pub(crate) fn response(self, content_type: &str) -> Response<Vec<u8>> {
        let (body, is_encoded) = match self {
            Page::Plain(body) => (body, false),
            Page::Gzip(encoder) => (encoder.finish().unwrap_or_default(), true),
        };
        let response = Response::builder()
            .header(CONTENT_TYPE, content_type)
            .header(CONTENT_LENGTH, body.len())
            .header(VARY, "Accept-Encoding");
        let mut response = response.body(body).unwrap_or_default();
        if is_encoded {
            let gzip = HeaderValue::from_static("gzip");
            response.headers_mut().insert(CONTENT_ENCODING, gzip);
        }
        response
    }
}

impl fmt::Write for Page {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use http::header::ACCEPT_ENCODING;

    use super::*;

    fn response(accepted: Option<&'static str>) -> Response<Vec<u8>> {
        let mut client = HeaderMap::new();
        if let Some(accepted) = accepted {
            client.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepted));
        }
        let mut page = Page::asked_by(&client);
        for _ in 0..1000 {
            page.push(b"the same line\n");
        }
        page.response("text/plain")
    }

    #[test]
    fn a_page_is_compressed_for_a_client_that_accepts_it() {
        for accepted in [
            None,
            Some("identity"),
            Some("gzip;q=0"),
            Some("br"),
            Some("gzip;q=0.1, identity"),
        ] {
            let response = response(accepted);
            assert_eq!(response.body().len(), 14_000, "{accepted:?}");
            assert!(!response.headers().contains_key(CONTENT_ENCODING));
            assert_eq!(response.headers()[VARY], "Accept-Encoding");
        }
        for accepted in ["gzip", "GZIP", "br, gzip;q=0.5", "*"] {
            let response = response(Some(accepted));
            assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
            assert!(response.body().len() < 1000);
            let length = response.body().len().to_string();
            assert_eq!(response.headers()[CONTENT_LENGTH], *length);
            let mut plain = String::new();
            let mut decoder = flate2::read::GzDecoder::new(&**response.body());
            decoder.read_to_string(&mut plain).unwrap();
            assert_eq!(plain.len(), 14_000);
        }
    }
}
