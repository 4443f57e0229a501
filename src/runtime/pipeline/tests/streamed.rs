//! Streamed endpoints, between a client and an upstream that are memory.

use std::net::IpAddr;

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRAILER, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderName, Version};

use super::calls::{counted, with_tokens};
use super::endpoint::stream_with;
use super::*;
use crate::runtime::failure::Report;
use crate::runtime::request::{Head, Host, Notes};

/// A client that is a list of pieces, and what it was sent.
#[derive(Debug)]
pub(super) struct Memory {
    method: Method,
    version: Version,
    headers: HeaderMap,
    /// Of its body.
    pieces: VecDeque<Result<Piece, Failure>>,
    has_body: bool,
    /// It closes its connection once all of them were read.
    disconnects: bool,
    head: Option<Parts>,
    alone: bool,
    written: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            method: Method::GET,
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
            pieces: VecDeque::new(),
            has_body: false,
            disconnects: false,
            head: None,
            alone: false,
            written: Vec::new(),
            trailers: None,
            ended: false,
        }
    }
}

impl Memory {
    /// A client that has or has not closed its connection.
    pub(super) fn that_has_disconnected(disconnects: bool) -> Memory {
        Memory {
            disconnects,
            ..Memory::default()
        }
    }

    fn sending(pieces: &[&'static str]) -> Memory {
        let last = pieces.len();
        let pieces = pieces.iter().enumerate().map(|(index, piece)| {
            Ok(Piece {
                bytes: Bytes::from_static(piece.as_bytes()),
                last: index + 1 == last,
            })
        });
        Memory {
            method: Method::POST,
            pieces: pieces.collect(),
            has_body: true,
            ..Memory::default()
        }
    }

    fn over_http2() -> Memory {
        Memory {
            version: Version::HTTP_2,
            ..Memory::default()
        }
    }

    fn body(&self) -> String {
        String::from_utf8(self.written.concat()).unwrap()
    }

    fn status(&self) -> u16 {
        self.head.as_ref().unwrap().status.as_u16()
    }

    fn field(&self, name: HeaderName) -> Option<&str> {
        let value = self.head.as_ref().unwrap().headers.get(name);
        value.map(|value| value.to_str().unwrap())
    }
}

impl Source for Memory {
    type Error = Failure;

    const WATCHED: bool = true;

    async fn begin(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn next(&mut self) -> Result<Piece, Failure> {
        match self.pieces.pop_front() {
            Some(piece) => piece,
            None if self.disconnects => Err(Failure::client_closed()),
            None => std::future::pending().await,
        }
    }
}

impl Downstream for Memory {
    fn head(&self) -> Option<Head<'_>> {
        Some(Head {
            method: &self.method,
            path: "/m/7",
            query: None,
            headers: &self.headers,
            host: Host::Given("h"),
            peer: IpAddr::from([127, 0, 0, 1]),
            client: IpAddr::from([127, 0, 0, 1]),
            secure: false,
            certificate: None,
        })
    }

    fn version(&self) -> Version {
        self.version
    }

    fn has_no_body(&mut self) -> bool {
        !self.has_body
    }

    async fn read_whole(&mut self, _: u64) -> Result<Bytes, Failure> {
        let mut body = Vec::new();
        while self.has_body {
            let piece = self.next().await?;
            body.extend_from_slice(&piece.bytes);
            if piece.last {
                break;
            }
        }
        Ok(body.into())
    }

    fn has_head(&self) -> bool {
        self.head.is_some()
    }

    async fn write_head(&mut self, head: Parts, alone: bool) -> Result<(), Failure> {
        assert!(self.head.is_none(), "one head for each request");
        self.head = Some(head);
        self.alone = alone;
        Ok(())
    }

    async fn write(&mut self, piece: Bytes, end: bool) -> Result<(), Failure> {
        assert!(!self.ended, "nothing follows the end");
        self.written.push(piece);
        self.ended = end;
        Ok(())
    }

    fn borrows(&self) -> bool {
        false
    }

    fn copies(&self) -> bool {
        false
    }

    async fn write_slice(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.write(Bytes::copy_from_slice(piece), false).await
    }

    async fn end(&mut self) -> Result<(), Failure> {
        assert!(!self.ended, "a body ends once");
        self.ended = true;
        Ok(())
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<(), Failure> {
        self.trailers = Some(trailers);
        self.end().await
    }
}

fn one(backend: Backend) -> StreamWork {
    StreamWork {
        pipes: Box::default(),
        backend,
        static_data: None,
        concurrent_calls: 1,
        upgrade: None,
    }
}

fn plain() -> StreamWork {
    one(backend("/a"))
}

fn streaming(response: FakeResponse) -> Fake {
    Fake::new(&[("/a", Reply::Streamed(Box::new(response)))])
}

/// Plays one request.
async fn play(fake: &Fake, client: &mut Memory, work: &StreamWork, options: &Options) -> Outcome {
    let endpoint = Endpoint {
        pattern: "/m/{id}".into(),
        method: Method::GET,
        timeout: Duration::from_millis(100),
        cache_control: None,
        steps: Box::default(),
        headers: HeaderRules::endpoint(&["*"]).unwrap(),
        query: QueryRules::endpoint::<&str>(&[]),
        work: Work::Nothing,
        id: 0,
        observer: None,
        payload: Default::default(),
        response_edits: None,
    };
    let request = Request {
        options,
        endpoint: &endpoint,
        notes: &Notes::default(),
        body: None,
    };
    stream_with(fake, client, request, work).await
}

fn status_of(outcome: &Outcome) -> u16 {
    match &outcome.ending {
        Ending::Response(response) => response.status.as_u16(),
        other => panic!("no answer: {other:?}"),
    }
}

#[tokio::test]
async fn a_response_passes_piece_by_piece() {
    let fake = streaming(FakeResponse::new(206, &["ab", "cd"], End::Whole));
    let mut client = Memory::default();
    let outcome = play(&fake, &mut client, &plain(), &options()).await;
    assert!(matches!(outcome.ending, Ending::Streamed));
    assert_eq!(outcome.ended, Some(Ended::WHOLE));
    assert_eq!((client.status(), client.written.len()), (206, 2));
    assert_eq!((client.body().as_str(), client.ended), ("abcd", true));
    assert_eq!(client.field(TRANSFER_ENCODING), Some("chunked"));
    assert_eq!(
        client.field(HeaderName::from_static("x-krakend-completed")),
        Some("false")
    );
}

#[tokio::test]
async fn headers_of_the_upstreams_connection_are_not_forwarded() {
    let mut response = FakeResponse::json(200, "12");
    for (name, value) in [
        (CONTENT_LENGTH, "2"),
        (CONNECTION, "close, x-hop"),
        (HeaderName::from_static("x-hop"), "1"),
        (HeaderName::from_static("x-krakend"), "another"),
    ] {
        response
            .headers
            .insert(name, HeaderValue::from_static(value));
    }
    let mut client = Memory::default();
    play(&streaming(response), &mut client, &plain(), &options()).await;
    assert_eq!(client.field(CONTENT_LENGTH), Some("2"));
    assert_eq!(client.field(TRANSFER_ENCODING), None);
    assert_eq!(client.field(CONNECTION), None);
    assert_eq!(client.field(HeaderName::from_static("x-hop")), None);
    assert_eq!(
        client.field(HeaderName::from_static("x-krakend")),
        Some("Portcullis 0")
    );
}

#[tokio::test]
async fn a_response_without_a_body_is_only_a_head() {
    for (method, status) in [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304)] {
        let mut client = Memory {
            method,
            ..Memory::default()
        };
        let fake = streaming(FakeResponse::new(status, &[], End::Whole));
        let outcome = play(&fake, &mut client, &plain(), &options()).await;
        assert!(matches!(outcome.ending, Ending::Streamed));
        assert!(client.alone && client.written.is_empty());
        assert_eq!(client.field(TRANSFER_ENCODING), None);
    }
}

#[tokio::test]
async fn a_truncated_response_closes_the_connection() {
    let mut options = options();
    options.stream_idle_timeout = Duration::from_millis(20);
    for (end, kind, why) in [
        (
            End::Early,
            Kind::CutOff,
            "the response ended early: unexpected EOF",
        ),
        (
            End::Silence,
            Kind::Silent,
            "the response ended early: the upstream was silent",
        ),
    ] {
        let mut client = Memory::default();
        let fake = streaming(FakeResponse::new(200, &["ab"], end));
        let outcome = play(&fake, &mut client, &plain(), &options).await;
        assert!(matches!(outcome.ending, Ending::Broken));
        assert_eq!(outcome.failure, Some(kind));
        assert_eq!(outcome.ended, Some(Ended::WHOLE));
        assert_eq!(outcome.errors[0], why);
        assert_eq!((client.body().as_str(), client.ended), ("ab", false));
    }
}

#[tokio::test]
async fn the_timeout_ends_with_the_head() {
    let mut client = Memory::default();
    let fake = Fake::new(&[("/a", Reply::Never)]);
    let outcome = play(&fake, &mut client, &plain(), &options()).await;
    assert_eq!(
        (status_of(&outcome), outcome.failure),
        (500, Some(Kind::Deadline))
    );
    assert_eq!(outcome.ended, Some(Ended::FAILED));
    let by_gateway = Options {
        gateway_status_codes: true,
        ..options()
    };
    let outcome = play(&fake, &mut client, &plain(), &by_gateway).await;
    assert_eq!(status_of(&outcome), 504);
    assert!(!client.has_head());
}

#[tokio::test]
async fn a_client_that_closes_its_connection_ends_the_call_and_is_not_counted() {
    let (backend, counter) = counted("/a", false);
    let mut client = Memory {
        disconnects: true,
        ..Memory::default()
    };
    let fake = Fake::new(&[("/a", Reply::Never)]);
    let outcome = play(&fake, &mut client, &one(backend), &options()).await;
    assert!(matches!(outcome.ending, Ending::Broken));
    assert_eq!(outcome.failure, Some(Kind::ClientGone));
    assert!(outcome.errors.is_empty() && counter.ended.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_clients_body_is_forwarded_as_it_arrives_before_and_after_the_head() {
    let mut response = FakeResponse::new(200, &["ok"], End::AfterBody);
    response.uploading = true;
    let late = Arc::clone(&response.late);
    let fake = streaming(response);
    let mut client = Memory::sending(&["a", "b"]);
    // Data that arrives after the response has begun.
    client.pieces.push_back(Ok(Piece {
        bytes: Bytes::from_static(b"c"),
        last: true,
    }));
    let outcome = play(&fake, &mut client, &plain(), &options()).await;
    assert!(matches!(outcome.ending, Ending::Streamed));
    assert_eq!(fake.uploaded.lock().unwrap().concat(), b"ab");
    assert!(fake.seen.lock().unwrap()[0].body.is_empty());
    assert_eq!(late.lock().unwrap().concat(), b"c");
    assert_eq!(client.body(), "ok");
}

#[tokio::test]
async fn a_body_that_is_not_http_is_the_clients_failure() {
    for (kind, status, report) in [
        (Kind::BodyMalformed, 400, Report::BadRequest("body")),
        (Kind::BodySlow, 408, Report::BadRequest("slow_body")),
        (Kind::BodyTooLarge, 413, Report::Note("body_too_large")),
        (Kind::BodyUnbuffered, 503, Report::Note("buffers_full")),
    ] {
        let (backend, counter) = counted("/a", false);
        let mut client = Memory::sending(&["a"]);
        client.pieces = VecDeque::from([Err(Failure::new(kind, "as it is"))]);
        let mut work = one(backend);
        work.static_data = Some(StaticData::compile("always", &serde_json::Map::new()));
        let fake = Fake::new(&[("/a", Reply::Never)]);
        let outcome = play(&fake, &mut client, &work, &options()).await;
        assert_eq!((status_of(&outcome), outcome.failure), (status, Some(kind)));
        assert_eq!((kind.report(), outcome.ended), (report, None));
        assert!(outcome.errors.is_empty() && counter.ended.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn static_data_replaces_a_failed_call() {
    let mut work = plain();
    work.static_data = Some(StaticData::compile("errored", &serde_json::Map::new()));
    let fake = Fake::new(&[(
        "/a",
        Reply::Fail(Failure::new(
            Kind::Connect(ConnectFailure::Refused),
            "refused",
        )),
    )]);
    let outcome = play(&fake, &mut Memory::default(), &work, &options()).await;
    assert_eq!(status_of(&outcome), 200);
    assert_eq!(outcome.ended, Some(Ended::PARTIAL));
    assert_eq!(
        (outcome.failure, &*outcome.errors[0]),
        (Some(Kind::Connect(ConnectFailure::Refused)), "refused")
    );
}

#[tokio::test]
async fn a_rejected_token_passes_once_and_is_not_used_again() {
    let fake = Fake::new(&[("/a", Reply::Response(401, "")), ("/a", ok("{}"))]);
    let work = one(with_tokens(&["Bearer old", "Bearer new"]));
    for (status, token) in [(401, "Bearer old"), (200, "Bearer new")] {
        let mut client = Memory::sending(&["a"]);
        play(&fake, &mut client, &work, &options()).await;
        assert_eq!(client.status(), status);
        let sent = fake.seen.lock().unwrap();
        assert_eq!(sent.last().unwrap().headers[AUTHORIZATION], token);
    }
}

#[tokio::test]
async fn the_first_head_of_several_calls_wins() {
    let mut work = plain();
    work.concurrent_calls = 2;
    let fake = Fake::new(&[("/a", Reply::Never), ("/a", ok("{}"))]);
    let mut client = Memory::sending(&["x"]);
    let outcome = play(&fake, &mut client, &work, &options()).await;
    assert!(matches!(outcome.ending, Ending::Streamed));
    assert_eq!(client.body(), "{}");
    let sent = fake.seen.lock().unwrap();
    assert!(sent.len() == 2 && sent.iter().all(|out| out.body == "x"));
}

#[tokio::test]
async fn announced_trailers_are_sent_only_over_http2() {
    let response = || FakeResponse {
        headers: HeaderMap::from_iter([(TRAILER, HeaderValue::from_static("x-sum"))]),
        trailers: Some(HeaderMap::from_iter([
            (
                HeaderName::from_static("x-sum"),
                HeaderValue::from_static("1"),
            ),
            (
                HeaderName::from_static("x-other"),
                HeaderValue::from_static("2"),
            ),
        ])),
        ..FakeResponse::new(200, &["ab"], End::Whole)
    };
    let mut client = Memory::over_http2();
    play(&streaming(response()), &mut client, &plain(), &options()).await;
    let trailers = client.trailers.take().unwrap();
    assert_eq!(trailers.len(), 1);
    assert_eq!(trailers["x-sum"], "1");
    let mut client = Memory::default();
    play(&streaming(response()), &mut client, &plain(), &options()).await;
    assert!(client.trailers.is_none() && client.ended);
}

#[tokio::test]
async fn grpc_clients_get_the_status_of_the_call() {
    let mut client = Memory::over_http2();
    client
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let fake = Fake::new(&[(
        "/a",
        Reply::Fail(Failure::new(
            Kind::Connect(ConnectFailure::Refused),
            "refused",
        )),
    )]);
    let outcome = play(&fake, &mut client, &plain(), &options()).await;
    assert_eq!(status_of(&outcome), 503);
}
