//! The pipeline against a stand-in for upstreams.

mod calls;
mod group;
mod messages;
mod single;
mod streamed;
mod whole;

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use super::time_limit::TimeLimit;
use super::transport::{OpenResponse, Transport};
use super::*;
use crate::runtime::decode::{Decoder, Kind as Encoded};
use crate::runtime::encode::Encoding;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::flatmap::Flatmap;
use crate::runtime::forward::{HeaderRules, QueryRules};
use crate::runtime::json::Value;
use crate::runtime::request::Params;
use crate::runtime::response::{Branding, Fields};
use crate::runtime::router::Pattern;
use crate::runtime::service::*;
use crate::runtime::shape::{Shape, ShapeSpec};
use crate::runtime::signing::ResponseSigner;
use crate::runtime::step::{
    BackendStep, Credentials, Lookup, Outcome as CallOutcome, ResponseCache, Ticket,
};
use crate::runtime::template::Template;
use crate::upstream::{
    Call, CallError, CallErrorKind, CallOptions, Client, ConnectFailure, DnsTable, HostSet,
    Incoming, Outgoing, Piece, Settings, Source,
};

/// What a stand-in for an upstream does when it is called.
#[derive(Debug, Clone)]
enum Reply {
    Response(u16, &'static str),
    Streamed(Box<FakeResponse>),
    Fail(Failure),
    /// Waits until the call is dropped.
    Never,
}

/// Replies by target, each once; the last one stays.
#[derive(Debug, Clone, Default)]
struct Fake {
    replies: Arc<Mutex<HashMap<&'static str, VecDeque<Reply>>>>,
    seen: Arc<Mutex<Vec<Outgoing>>>,
    /// Pieces of clients' bodies, before there was a response.
    uploaded: Arc<Mutex<Vec<Bytes>>>,
}

impl Fake {
    fn new(replies: &[(&'static str, Reply)]) -> Fake {
        let fake = Fake::default();
        for (target, reply) in replies {
            let mut all = fake.replies.lock().unwrap();
            all.entry(target).or_default().push_back(reply.clone());
        }
        fake
    }

    fn targets(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|out| out.target.to_string()).collect()
    }

    fn next(&self, target: &str) -> Reply {
        let mut all = self.replies.lock().unwrap();
        match all.get_mut(target) {
            Some(list) if list.len() > 1 => list.pop_front().unwrap(),
            Some(list) => list[0].clone(),
            None => Reply::Response(404, "no such route"),
        }
    }
}

impl Transport for Fake {
    type Response<'a> = FakeResponse;

    async fn send<S: Source<Error = Failure>>(
        &self,
        _: &HostSet,
        call: Call,
        _: &CallOptions,
        source: &mut S,
    ) -> Result<FakeResponse, Failure> {
        let reply = self.next(&call.out.target);
        let streamed = !call.is_repeatable();
        self.seen.lock().unwrap().push(call.out);
        if streamed {
            self.upload(source).await?;
        }
        match reply {
            Reply::Response(status, body) => Ok(FakeResponse::json(status, body)),
            Reply::Streamed(response) => Ok(*response),
            Reply::Fail(failure) => Err(failure),
            Reply::Never => loop {
                source.next().await?;
            },
        }
    }
}

impl Fake {
    async fn upload<S: Source<Error = Failure>>(&self, source: &mut S) -> Result<(), Failure> {
        source.begin().await?;
        loop {
            let piece = source.next().await?;
            self.uploaded.lock().unwrap().push(piece.bytes);
            if piece.last {
                return Ok(());
            }
        }
    }
}

/// How the body of a stand-in's response ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// The connection breaks before.
    Early,
    /// Nothing more comes.
    Silence,
    /// The whole response waits until the client's body is complete.
    AfterBody,
}

/// A response whose head has arrived.
#[derive(Debug, Clone)]
struct FakeResponse {
    status: StatusCode,
    headers: HeaderMap,
    pieces: VecDeque<Bytes>,
    end: End,
    trailers: Option<HeaderMap>,
    /// What came of the client's body after the head.
    late: Arc<Mutex<Vec<Bytes>>>,
    uploading: bool,
}

impl FakeResponse {
    fn json(status: u16, body: &'static str) -> FakeResponse {
        FakeResponse {
            headers: HeaderMap::from_iter([
                (CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (ETAG, HeaderValue::from_static("\"v1\"")),
            ]),
            ..FakeResponse::new(status, &[body], End::Whole)
        }
    }

    fn new(status: u16, pieces: &[&'static str], end: End) -> FakeResponse {
        let pieces = pieces.iter().filter(|piece| !piece.is_empty());
        FakeResponse {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            pieces: pieces
                .map(|piece| Bytes::from_static(piece.as_bytes()))
                .collect(),
            end,
            trailers: None,
            late: Arc::default(),
            uploading: false,
        }
    }
}

impl OpenResponse for FakeResponse {
    fn head(&self) -> Option<(StatusCode, &HeaderMap)> {
        Some((self.status, &self.headers))
    }

    fn asked_by_head(&self) -> bool {
        false
    }

    fn is_done(&mut self) -> bool {
        self.pieces.is_empty() && self.end == End::Whole && self.trailers.is_none()
    }

    async fn read(&mut self) -> Result<Option<Bytes>, CallError> {
        if self.end == End::AfterBody && self.uploading {
            return std::future::pending().await;
        }
        match (self.pieces.pop_front(), self.end) {
            (Some(piece), _) => Ok(Some(piece)),
            (None, End::Whole | End::AfterBody) => Ok(None),
            (None, End::Early) => Err(CallError {
                kind: CallErrorKind::Broken,
                call: None,
                text: "unexpected EOF".into(),
            }),
            (None, End::Silence) => std::future::pending().await,
        }
    }

    fn lends(&self) -> bool {
        false
    }

    fn copies(&self) -> bool {
        false
    }

    async fn read_slice(&mut self) -> Result<Option<&[u8]>, CallError> {
        Ok(None)
    }

    async fn trailers(&mut self) -> Result<Option<HeaderMap>, CallError> {
        Ok(self.trailers.take())
    }

    async fn forward(&mut self, piece: Piece) {
        if self.uploading {
            self.late.lock().unwrap().push(piece.bytes);
            self.uploading = !piece.last;
        }
    }

    fn is_uploading(&self) -> bool {
        self.uploading
    }

    fn is_backed_up(&self) -> bool {
        false
    }

    async fn release(&mut self) {}

    fn has_stalled(&mut self) {}

    async fn collect(mut self, _: &CallOptions) -> Result<Incoming, CallError> {
        let mut body = Vec::new();
        while let Some(piece) = self.read().await? {
            body.extend_from_slice(&piece);
        }
        Ok(Incoming {
            status: self.status,
            headers: self.headers,
            body: body.into(),
            origin: Some("http://h:1".into()),
        })
    }
}

fn ok(body: &'static str) -> Reply {
    Reply::Response(200, body)
}

/// Never called, and one for all, since a client loads the system's certificates.
fn hosts() -> Arc<HostSet> {
    static HOSTS: OnceLock<Arc<HostSet>> = OnceLock::new();
    let made = HOSTS.get_or_init(|| {
        let dns = Arc::new(DnsTable::with_resolver(None));
        let client = Client::new(Settings::default(), dns).unwrap();
        Arc::new(HostSet::fixed(&client, &["http://h:1"]))
    });
    Arc::clone(made)
}

fn backend(url: &str) -> Backend {
    shaped(url, ShapeSpec::default())
}

fn shaped(url: &str, shape: ShapeSpec) -> Backend {
    Backend {
        index: 0,
        pattern: url.into(),
        method: Method::GET,
        url: Template::parse(url, &Pattern::parse("/m/{id}", true).unwrap()).unwrap(),
        hosts: hosts(),
        headers: None,
        query: None,
        decoder: Decoder {
            encoding: Encoded::Json,
            is_collection: false,
        },
        shape: Shape::compile(shape),
        errors: ErrorMode::Hide,
        steps: Box::default(),
        pipes: Box::default(),
        on_wire: None,
        credentials: None,
        cache: None,
        graphql: None,
        when: Default::default(),
        signer: None,
        send_body_on_redirect: false,
        compression: true,
        observer: None,
    }
}

fn grouped(url: &str, group: &str) -> Backend {
    let group = group.to_owned();
    shaped(
        url,
        ShapeSpec {
            group,
            ..ShapeSpec::default()
        },
    )
}

fn failing(url: &str, errors: ErrorMode) -> Backend {
    Backend {
        errors,
        ..backend(url)
    }
}

fn work(backends: impl IntoIterator<Item = Backend>) -> Composition {
    Composition {
        pipes: Box::default(),
        backends: (0..)
            .zip(backends)
            .map(|(index, backend)| Backend { index, ..backend })
            .collect(),
        shadows: Box::default(),
        order: Order::Parallel,
        flatmap: None,
        static_data: None,
        concurrent_calls: 1,
        encoding: Encoding::Json,
        signer: None,
    }
}

fn sequence(backends: impl IntoIterator<Item = Backend>) -> Composition {
    Composition {
        order: Order::Sequential {
            propagated: Box::default(),
        },
        ..work(backends)
    }
}

fn options() -> Options {
    Options {
        version_header: HeaderValue::from_static("Portcullis 0"),
        user_agent: HeaderValue::from_static("Portcullis/0"),
        max_request_body_bytes: 1 << 20,
        max_upstream_body_bytes: 1 << 20,
        canonical_json: true,
        ..Options::default()
    }
}

fn call() -> ClientCall {
    let mut params = Params::default();
    params.0.push(("id".into(), "7".to_owned()));
    ClientCall {
        line: None,
        method: None,
        headers: HeaderMap::new(),
        query: None,
        params,
        claims: None,
        client: std::net::IpAddr::from([127, 0, 0, 1]),
        subject: None,
        affinity: None,
        accept: None,
        body: Bytes::from_static(b"{\"in\":1}"),
        announce_length: false,
        made: false,
        peer: None,
        started: Instant::now(),
        kept: None,
    }
}

/// What a test looks at.
#[derive(Debug)]
struct Seen {
    status: u16,
    body: String,
    completed: Option<bool>,
    content_type: Option<String>,
    etag: Option<String>,
    cached: bool,
    errors: Vec<String>,
}

impl Seen {
    fn is(&self, status: u16, body: &str, completed: bool) {
        assert_eq!(
            (self.status, self.body.as_str(), self.completed),
            (status, body, Some(completed)),
            "{self:?}"
        );
    }
}

struct Run {
    options: Options,
    timeout: Duration,
}

/// Long enough never to pass, unless a test wants it to.
const AGES: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_millis(20);

impl Default for Run {
    fn default() -> Run {
        Run {
            options: options(),
            timeout: AGES,
        }
    }
}

impl Run {
    fn showing_errors() -> Run {
        let mut run = Run::default();
        run.options.return_error_msg = true;
        run
    }

    fn in_time(timeout: Duration) -> Run {
        Run {
            timeout,
            ..Run::default()
        }
    }

    fn ask(&self, fake: &Fake, mut work: Composition) -> Seen {
        // As for each endpoint of a configuration.
        mark_unread(&mut work);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let endpoint = Endpoint {
                pattern: "/m/{id}".into(),
                method: Method::GET,
                timeout: self.timeout,
                cache_control: Some(HeaderValue::from_static("public, max-age=5400")),
                steps: Box::default(),
                headers: HeaderRules::endpoint::<&str>(&[]).unwrap(),
                query: QueryRules::endpoint::<&str>(&[]),
                work: Work::Nothing,
                id: 0,
                observer: None,
                payload: Default::default(),
                response_edits: None,
            };
            let outcome = run_with(fake, &self.options, &endpoint, &work, &mut call()).await;
            // Lets shadows go out.
            tokio::task::yield_now().await;
            let Ending::Response(response) = outcome.ending else {
                panic!("a composed endpoint answers")
            };
            let field = |name| {
                let fields = &response.fields;
                fields
                    .iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, value)| value.to_str().unwrap().to_owned())
            };
            Seen {
                status: response.status.as_u16(),
                body: String::from_utf8(response.body.to_vec()).unwrap(),
                completed: match response.branding {
                    Branding::Completed(completed) => Some(completed),
                    _ => None,
                },
                content_type: field(CONTENT_TYPE),
                etag: field(ETAG),
                cached: field(CACHE_CONTROL).is_some(),
                errors: outcome.errors.iter().map(ToString::to_string).collect(),
            }
        })
    }
}

fn ask(replies: &[(&'static str, Reply)], work: Composition) -> Seen {
    Run::default().ask(&Fake::new(replies), work)
}
