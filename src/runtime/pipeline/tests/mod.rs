//! The pipeline against a stand-in for upstreams.

mod calls;
mod group;
mod single;
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

use super::limit::Limit;
use super::*;
use crate::runtime::answer::{Branding, Fields};
use crate::runtime::decode::{Decoder, Kind as Encoded};
use crate::runtime::encode::Encoding;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::flatmap::Flatmap;
use crate::runtime::forward::{HeaderRules, QueryRules};
use crate::runtime::json::Value;
use crate::runtime::request::Params;
use crate::runtime::router::Pattern;
use crate::runtime::service::*;
use crate::runtime::shape::{Shape, ShapeSpec};
use crate::runtime::signing::ResponseSigner;
use crate::runtime::step::{
    BackendStep, Credentials, Lookup, Outcome as CallOutcome, ResponseCache, Ticket,
};
use crate::runtime::template::Template;
use crate::upstream::{CallOptions, Client, DnsTable, HostSet, Incoming, Outgoing, Settings};

/// What a stand-in for an upstream does when it is called.
#[derive(Debug, Clone)]
enum Reply {
    Answer(u16, &'static str),
    Fail(Failure),
    /// Waits until the call is dropped.
    Never,
}

/// Replies by target, each once; the last one stays.
#[derive(Debug, Clone, Default)]
struct Fake {
    replies: Arc<Mutex<HashMap<&'static str, VecDeque<Reply>>>>,
    seen: Arc<Mutex<Vec<Outgoing>>>,
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
        seen.iter().map(|out| out.target.clone()).collect()
    }

    fn next(&self, target: &str) -> Reply {
        let mut all = self.replies.lock().unwrap();
        match all.get_mut(target) {
            Some(list) if list.len() > 1 => list.pop_front().unwrap(),
            Some(list) => list[0].clone(),
            None => Reply::Answer(404, "no such route"),
        }
    }
}

impl Carrier for Fake {
    async fn call(&self, _: &HostSet, out: Outgoing, _: &CallOptions) -> Result<Incoming, Failure> {
        let reply = self.next(&out.target);
        self.seen.lock().unwrap().push(out);
        match reply {
            Reply::Answer(status, body) => Ok(Incoming {
                status: StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::from_iter([
                    (CONTENT_TYPE, HeaderValue::from_static("application/json")),
                    (ETAG, HeaderValue::from_static("\"v1\"")),
                ]),
                body: Bytes::from_static(body.as_bytes()),
                origin: Some("http://h:1".into()),
            }),
            Reply::Fail(failure) => Err(failure),
            Reply::Never => std::future::pending().await,
        }
    }
}

fn ok(body: &'static str) -> Reply {
    Reply::Answer(200, body)
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
        backends: backends.into_iter().collect(),
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
        headers: HeaderMap::new(),
        query: None,
        params,
        claims: None,
        accept: None,
        body: Bytes::from_static(b"{\"in\":1}"),
        announce_length: false,
        started: Instant::now(),
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

    fn ask(&self, fake: &Fake, work: Composition) -> Seen {
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
            };
            let outcome = run_with(fake, &self.options, &endpoint, &work, &call()).await;
            // Lets shadows go out.
            tokio::task::yield_now().await;
            let field = |name| {
                let fields = &outcome.answer.fields;
                fields
                    .iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, value)| value.to_str().unwrap().to_owned())
            };
            Seen {
                status: outcome.answer.status.as_u16(),
                body: String::from_utf8(outcome.answer.body.to_vec()).unwrap(),
                completed: match outcome.answer.branding {
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
