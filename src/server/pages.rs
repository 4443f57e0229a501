//! The pages of admin listeners: metrics, statistics, the status page.
//!
//! A page of metrics can have many megabytes. So it is made once for all that ask for it at the same time, they read the
//! same bytes, and its bytes are charged to a budget until the last of them has read it. It is compressed while it is
//! written, if the client accepts that: nearly all of it are repetitions.

use std::fmt;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::runtime::compression::accepts_gzip;
use crate::telemetry::calm::Calm;
use crate::upstream::budget::{Budget, Charge, FREE};

/// How long a page that somebody still reads is given to others, too. One that nobody reads is not kept: who asks again
/// after a page sees what has happened since.
const FRESH: Duration = Duration::from_secs(1);
/// The size of the pieces that a page is made and sent in.
const PIECE: usize = 32 * 1024;

/// A body that does not change, in pieces. Copies share the bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body(Arc<Pieces>);

/// The pieces of a body, and the charge for them.
#[derive(Debug)]
pub(crate) struct Pieces {
    whole: Vec<Bytes>,
    /// Empty unless the body is finished.
    last: Vec<u8>,
    len: usize,
    charge: Charge,
    /// The budget had no place for another piece.
    is_refused: bool,
}

impl Default for Pieces {
    fn default() -> Pieces {
        Pieces {
            whole: Vec::new(),
            last: Vec::new(),
            len: 0,
            charge: Budget::pages().charge(),
            is_refused: false,
        }
    }
}

impl Pieces {
    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_refused {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.last.len()));
            self.last.extend_from_slice(now);
            self.len += now.len();
            bytes = later;
            if self.last.len() == PIECE {
                self.end_piece();
            }
        }
    }

    /// Charges the last piece, and begins another.
    fn end_piece(&mut self) {
        let piece = std::mem::take(&mut self.last);
        if self.len > FREE && self.charge.cover(self.len).is_err() {
            // What was made of the page is of no use.
            *self = Pieces {
                is_refused: true,
                ..Pieces::default()
            };
            return;
        }
        if !piece.is_empty() {
            self.whole.push(Bytes::from(piece));
        }
    }

    /// The body, or `None` if the budget has no place for it.
    fn finish(mut self) -> Option<Body> {
        self.end_piece();
        (!self.is_refused).then(|| Body(Arc::new(self)))
    }
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Body {
    pub(crate) fn pieces(&self) -> &[Bytes] {
        &self.0.whole
    }
}

/// A body that a handler made itself. Handlers limit those.
impl From<Vec<u8>> for Body {
    fn from(body: Vec<u8>) -> Body {
        Body(Arc::new(Pieces {
            len: body.len(),
            whole: vec![Bytes::from(body)],
            ..Pieces::default()
        }))
    }
}

/// A body while it is written.
pub(crate) enum Page {
    Plain(Pieces),
    Gzip(GzEncoder<Pieces>),
}

impl Page {
    fn new(is_compressed: bool) -> Page {
        if is_compressed {
            Page::Gzip(GzEncoder::new(Pieces::default(), Compression::fast()))
        } else {
            Page::Plain(Pieces::default())
        }
    }

    /// Appends to the body.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        match self {
            Page::Plain(body) => body.push(piece),
            Page::Gzip(encoder) => {
                // Writing to memory does not fail.
                let _ = encoder.write_all(piece);
            }
        }
    }

    fn finish(self) -> Option<Body> {
        match self {
            Page::Plain(body) => body.finish(),
            Page::Gzip(encoder) => encoder.finish().ok()?.finish(),
        }
    }
}

impl fmt::Write for Page {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// The pages of a listener that somebody reads, by what was asked for. `K` says which pages there are, in addition to
/// whether they are compressed.
#[derive(Debug)]
pub(crate) struct SharedPages<K> {
    read: Mutex<Vec<Shared<K>>>,
    refused: Calm,
}

#[derive(Debug)]
struct Shared<K> {
    of: K,
    is_compressed: bool,
    made: Instant,
    /// Those who send it hold it.
    body: Weak<Pieces>,
}

impl<K> Default for SharedPages<K> {
    fn default() -> Self {
        SharedPages {
            read: Mutex::default(),
            refused: Calm::default(),
        }
    }
}

impl<K: PartialEq> SharedPages<K> {
    /// The response 200 with the page `of`, for the client with these headers. It is made by `render` unless it is there
    /// already. 503 if the pages that are read now take all the memory for pages.
    ///
    /// Requests that come meanwhile wait for it: all run on threads for blocking work.
    pub(crate) fn response(
        &self,
        of: K,
        client: &HeaderMap,
        content_type: &str,
        render: impl FnOnce(&mut Page),
    ) -> Response<Body> {
        let is_compressed = accepts_gzip(client);
        let asked = Instant::now();
        let Some(body) = self.body(of, is_compressed, asked, render) else {
            self.refused.warn(|| {
                "a page is refused with 503, because clients still read too many others".to_owned()
            });
            return refused();
        };
        let response = Response::builder()
            .header(CONTENT_TYPE, content_type)
            .header(CONTENT_LENGTH, body.0.len)
            .header(VARY, "Accept-Encoding");
        let mut response = response.body(body).unwrap_or_default();
        if is_compressed {
            let gzip = HeaderValue::from_static("gzip");
            response.headers_mut().insert(CONTENT_ENCODING, gzip);
        }
        response
    }

    fn body(
        &self,
        of: K,
        is_compressed: bool,
        asked: Instant,
        render: impl FnOnce(&mut Page),
    ) -> Option<Body> {
        let mut pages = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        pages.retain(|page| page.body.strong_count() > 0);
        let known = pages.iter().find(|page| {
            let age = asked.saturating_duration_since(page.made);
            page.of == of && page.is_compressed == is_compressed && age < FRESH
        });
        if let Some(body) = known.and_then(|page| page.body.upgrade()) {
            return Some(Body(body));
        }
        let mut page = Page::new(is_compressed);
        render(&mut page);
        let body = page.finish()?;
        pages.push(Shared {
            of,
            is_compressed,
            made: Instant::now(),
            body: Arc::downgrade(&body.0),
        });
        Some(body)
    }
}

fn refused() -> Response<Body> {
    const TEXT: &str = "503 clients still read too many other pages";
    let response = Response::builder()
        .status(StatusCode::SERVICE_UNAVAILABLE)
        .header(CONTENT_TYPE, "text/plain; charset=utf-8")
        .header(CONTENT_LENGTH, TEXT.len())
        .header(RETRY_AFTER, "1");
    let response = response.body(Body::from(TEXT.as_bytes().to_vec()));
    response.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use http::header::ACCEPT_ENCODING;

    use super::*;

    fn client(accepted: Option<&'static str>) -> HeaderMap {
        let mut client = HeaderMap::new();
        if let Some(accepted) = accepted {
            client.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepted));
        }
        client
    }

    fn text(response: &Response<Body>) -> Vec<u8> {
        response.body().pieces().concat()
    }

    fn response(accepted: Option<&'static str>) -> Response<Body> {
        let pages = SharedPages::default();
        pages.response((), &client(accepted), "text/plain", |page| {
            for _ in 0..10_000 {
                page.push(b"the same line\n");
            }
        })
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
            assert_eq!(text(&response).len(), 140_000, "{accepted:?}");
            assert!(!response.headers().contains_key(CONTENT_ENCODING));
            assert_eq!(response.headers()[VARY], "Accept-Encoding");
        }
        for accepted in ["gzip", "GZIP", "br, gzip;q=0.5", "*"] {
            let response = response(Some(accepted));
            assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
            let body = text(&response);
            assert!(body.len() < 10_000);
            assert_eq!(response.headers()[CONTENT_LENGTH], *body.len().to_string());
            let mut plain = String::new();
            let mut decoder = flate2::read::GzDecoder::new(&*body);
            decoder.read_to_string(&mut plain).unwrap();
            assert_eq!(plain, "the same line\n".repeat(10_000));
        }
    }

    #[test]
    fn those_who_ask_at_the_same_time_read_the_same_bytes() {
        let (pages, made) = (SharedPages::default(), Mutex::new(0));
        let ask = |of, accepted| {
            pages.response(of, &client(accepted), "text/plain", |page| {
                *made.lock().unwrap() += 1;
                page.push(&[7; 100_000]);
            })
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..20).map(|_| scope.spawn(|| ask(1, None))).collect();
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(*made.lock().unwrap(), 1);
        let first = all[0].body().pieces();
        let is_shared = |other: &Response<Body>| std::ptr::eq(first, other.body().pieces());
        assert!(all.iter().all(is_shared));
        // Another page, and the same one in another coding.
        let others = [ask(2, None), ask(1, Some("gzip")), ask(1, Some("gzip"))];
        assert_eq!(*made.lock().unwrap(), 3);
        // Nobody reads it any more.
        drop((all, others));
        ask(1, None);
        assert_eq!(*made.lock().unwrap(), 4);
    }

    #[test]
    fn a_page_that_is_older_than_a_second_is_made_again() {
        let pages = SharedPages::default();
        let start = Instant::now();
        let ask = |after, text: &str| {
            let page = pages.body((), false, start + after, |page| page.push(text.as_bytes()));
            page.unwrap()
        };
        let first = ask(Duration::ZERO, "1");
        assert_eq!(ask(FRESH / 2, "2").pieces(), ["1"]);
        assert_eq!(ask(FRESH * 2, "3").pieces(), ["3"]);
        assert_eq!(first.pieces(), ["1"]);
    }

    #[test]
    fn pages_that_are_read_are_charged_to_the_budget_of_pages() {
        let page = response(None);
        assert_eq!(page.body().0.charge.bytes(), 140_000);
        let mut pieces = Pieces::default();
        pieces.push(&[7; 100_000]);
        assert_eq!((pieces.whole.len(), pieces.charge.bytes()), (3, 3 * PIECE));
        let body = pieces.finish().unwrap();
        assert_eq!((body.pieces().len(), body.0.charge.bytes()), (4, 100_000));
        let small = Body::from(vec![7; 100]);
        assert_eq!(small.0.charge.bytes(), 0);
    }
}
