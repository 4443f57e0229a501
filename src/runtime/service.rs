//! The compiled service: endpoints and backends with nothing left to decide.
//!
//! `compile` builds one [`Service`] per configuration file; the server loads it once per request. State that changes
//! while running (buckets, breakers, key sets, DNS answers) is referenced from here, never stored here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

use crate::runtime::decode::Decoder;
use crate::runtime::encode::Encoding;
use crate::runtime::flatmap::Flatmap;
use crate::runtime::forward::{HeaderRules, QueryRules};
use crate::runtime::graphql::GraphQl;
use crate::runtime::json::Value;
use crate::runtime::pipe::{CallStep, PipeStep};
use crate::runtime::readiness::Readiness;
use crate::runtime::router::Router;
use crate::runtime::shape::Shape;
use crate::runtime::signing::ResponseSigner;
use crate::runtime::step::{BackendStep, Credentials, EndpointStep, ResponseCache, ServiceStep};
use crate::runtime::template::Template;
use crate::upstream::{HostSet, OUR_USER_AGENT};

/// Everything a request needs to know of the configuration.
#[derive(Debug)]
pub struct Service {
    pub router: Arc<Router<Arc<Endpoint>>>,
    /// All endpoints, by [`Endpoint::id`].
    pub endpoints: Box<[Arc<Endpoint>]>,
    /// Around the router, outermost first.
    pub steps: Box<[Box<dyn ServiceStep>]>,
    /// After them, around every request that was not answered yet; they may wait.
    pub gates: Box<[Box<dyn EndpointStep>]>,
    /// What `GET /__ready` waits for, if anything.
    pub readiness: Option<Arc<Readiness>>,
    pub options: Options,
}

/// The service's own switches (`router` namespace, spec/gateway.md §2.7).
#[derive(Debug, Clone)]
pub struct Options {
    /// Value of `X-Krakend`; `Portcullis` alone with `hide_version_header`.
    pub version_header: HeaderValue,
    /// `User-Agent` towards upstreams, `Portcullis/<version>`.
    pub user_agent: HeaderValue,
    /// Whether failed endpoints show the error's text (`return_error_msg`).
    pub return_error_msg: bool,
    /// Bodies for 404 and 405 (`error_body`), already encoded as JSON.
    pub error_body_404: Option<Bytes>,
    pub error_body_405: Option<Bytes>,
    /// Path of the health endpoint; `None` when disabled.
    pub health_path: Option<Arc<str>>,
    pub debug_endpoint: bool,
    pub echo_endpoint: bool,
    pub client_address: ClientAddress,
    /// Decode path parameters once and refuse what decodes twice (spec/gateway.md §2.4).
    pub check_path_params: bool,
    /// Largest request body of a composed endpoint; larger ones get 413.
    pub max_request_body_bytes: u64,
    /// Largest decoded upstream body of a composed endpoint.
    pub max_upstream_body_bytes: u64,
    /// How long a streamed answer may be silent (`"portcullis/stream": {"idle_timeout"}`).
    pub stream_idle_timeout: Duration,
    /// Cut streams at the endpoint's timeout, as the reference does.
    pub stream_total_timeout: bool,
    /// Requests whose exact path is not in the access log.
    pub access_log_skip: Box<[Box<str>]>,
    pub access_log: bool,
    /// Write composed JSON as the reference does to the byte: sorted, compact, `<>&` escaped.
    pub canonical_json: bool,
    /// 502, 503 and 504 for backends that are away, spared or late, instead of 500.
    pub gateway_status_codes: bool,
    /// Bytes of bodies that the whole process may hold; `None` takes half of its memory.
    pub buffered_bytes: Option<u64>,
}

/// The switches of a configuration that sets none of them.
impl Default for Options {
    fn default() -> Self {
        Self {
            version_header: HeaderValue::from_static(concat!(
                "Portcullis ",
                env!("CARGO_PKG_VERSION")
            )),
            user_agent: OUR_USER_AGENT,
            return_error_msg: false,
            error_body_404: None,
            error_body_405: None,
            health_path: Some(Arc::from("/__health")),
            debug_endpoint: false,
            echo_endpoint: false,
            client_address: ClientAddress::default(),
            check_path_params: true,
            max_request_body_bytes: 8 << 20,
            max_upstream_body_bytes: 64 << 20,
            stream_idle_timeout: Duration::from_secs(60),
            stream_total_timeout: false,
            access_log_skip: Box::default(),
            access_log: true,
            canonical_json: false,
            gateway_status_codes: false,
            buffered_bytes: None,
        }
    }
}

/// Who may say which address the client has (spec/gateway.md §2.7, spec/security.md finding 1).
#[derive(Debug, Clone, Default)]
pub struct ClientAddress {
    /// Whether the headers below are looked at at all.
    pub by_header: bool,
    /// Peers that are believed. Empty: nobody.
    pub trusted: Box<[IpNet]>,
    /// Header names in the order of trust.
    pub headers: Box<[http::HeaderName]>,
    /// `X-Appengine-Remote-Addr` without a check, for `app_engine`.
    pub app_engine: bool,
    /// Append the chain to `X-Forwarded-For` instead of replacing it.
    pub append_chain: bool,
    /// Tell backends the client's scheme in `X-Forwarded-Proto`.
    pub proto: bool,
    /// Tell backends address, host and scheme in `Forwarded` (RFC 7239).
    pub forwarded: bool,
}

impl StaticData {
    /// Compiles `strategy` and the object `data`; as KrakenD does, an unknown strategy means always.
    pub fn compile(
        strategy: &str,
        data: &serde_json::Map<String, serde_json::Value>,
    ) -> StaticData {
        let strategy = match strategy {
            "success" => StaticStrategy::Success,
            "complete" => StaticStrategy::Complete,
            "errored" => StaticStrategy::Errored,
            "incomplete" => StaticStrategy::Incomplete,
            _ => StaticStrategy::Always,
        };
        let members = data
            .iter()
            .map(|(name, value)| (name.as_str().into(), Value::literal(value).settled()));
        StaticData {
            strategy,
            data: Value::Object(members.collect()),
        }
    }

    /// Whether a `no-op` answer counts as complete for it, which is all that it does to an answer that came.
    pub fn completes_stream(&self) -> bool {
        use StaticStrategy::{Always, Complete, Success};
        let members = matches!(&self.data, Value::Object(members) if !members.is_empty());
        members && matches!(self.strategy, Always | Success | Complete)
    }

    /// Whether it turns the failure of a `no-op` call into an empty answer.
    pub fn covers_failure(&self) -> bool {
        use StaticStrategy::{Always, Errored, Incomplete};
        matches!(self.strategy, Always | Errored | Incomplete)
    }
}

impl ClientAddress {
    /// Whether `address` is a proxy that we believe.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }
}

/// One route that we offer.
#[derive(Debug)]
pub struct Endpoint {
    /// As in the file: `/a/{id}`. Log prefixes and metric labels use it.
    pub pattern: Arc<str>,
    pub method: Method,
    /// For the whole request.
    pub timeout: Duration,
    /// `Cache-Control` of complete answers; `None` without `cache_ttl`.
    pub cache_control: Option<HeaderValue>,
    /// Outermost first: bot detector, tokens, rate limits.
    pub steps: Box<[Box<dyn EndpointStep>]>,
    /// `input_headers` and `input_query_strings` of the endpoint.
    pub headers: HeaderRules,
    pub query: QueryRules,
    pub work: Work,
    /// Index into per-endpoint metric handles, unique in the service.
    pub id: usize,
}

/// What an endpoint does with a request that passed its steps.
#[derive(Debug)]
pub enum Work {
    /// `no-op`: the answer of the one backend, streamed.
    Stream(Box<StreamWork>),
    /// Fetch, decode, shape, merge, encode.
    Compose(Box<Composition>),
    /// An endpoint without a regular backend (all are shadow): 500, empty, no gateway fields.
    Nothing,
}

impl Work {
    /// Whether pipe steps stand around it.
    pub fn is_piped(&self) -> bool {
        match self {
            Work::Stream(work) => !work.pipes.is_empty(),
            Work::Compose(work) => !work.pipes.is_empty(),
            Work::Nothing => false,
        }
    }
}

#[derive(Debug)]
pub struct StreamWork {
    /// Around the call, outermost first.
    pub pipes: Box<[Box<dyn PipeStep>]>,
    pub backend: Backend,
    pub static_data: Option<StaticData>,
    pub concurrent_calls: u32,
    /// WebSocket tunnels are allowed, on these terms.
    pub upgrade: Option<Upgrade>,
}

/// What clients that ask for a WebSocket must put up with.
#[derive(Debug, Default)]
pub struct Upgrade {
    /// Values of `Origin` that browsers may come with; empty: any.
    pub origins: Box<[Box<str>]>,
    /// Room for open tunnels; `None`: no limit.
    pub room: Option<Arc<tokio::sync::Semaphore>>,
    /// Close the tunnel when the token of its handshake expires.
    pub until_expiry: bool,
}

impl Upgrade {
    /// Whether a page of `origin` may connect. Who sends none is no browser, and the check protects browsers only.
    pub fn admits(&self, origin: Option<&HeaderValue>) -> bool {
        let Some(origin) = origin else { return true };
        let same = |known: &str| origin.as_bytes().eq_ignore_ascii_case(known.as_bytes());
        self.origins.is_empty() || self.origins.iter().any(|known| same(known))
    }
}

/// A composed endpoint.
#[derive(Debug)]
pub struct Composition {
    /// Around all of the below, outermost first: scripts, expressions, schemas.
    pub pipes: Box<[Box<dyn PipeStep>]>,
    /// In the file's order; never empty.
    pub backends: Box<[Backend]>,
    /// Called beside the answer, never waited for.
    pub shadows: Box<[Arc<Shadow>]>,
    pub order: Order,
    /// Endpoint-level `flatmap_filter`, with two backends or more.
    pub flatmap: Option<Flatmap>,
    pub static_data: Option<StaticData>,
    pub concurrent_calls: u32,
    pub encoding: Encoding,
    /// `auth/signer`.
    pub signer: Option<Arc<dyn ResponseSigner>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    Parallel,
    /// One after the other; the names in `sequential_propagated_params`.
    Sequential {
        propagated: Box<[Box<str>]>,
    },
}

/// A backend that gets a copy of each request.
#[derive(Debug)]
pub struct Shadow {
    pub backend: Backend,
    pub timeout: Duration,
}

/// `proxy.static` (spec/gateway.md §5.4).
#[derive(Debug, Clone)]
pub struct StaticData {
    pub strategy: StaticStrategy,
    /// Always an object; its members are written already.
    pub data: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaticStrategy {
    Always,
    Success,
    Complete,
    Errored,
    Incomplete,
}

/// One call to an upstream, with nothing left to decide.
#[derive(Debug)]
pub struct Backend {
    /// `url_pattern` as the file has it, for log lines and metric labels.
    pub pattern: Arc<str>,
    pub method: Method,
    pub url: Template,
    pub hosts: Arc<HostSet>,
    /// A second filter over everything that would be sent; `None` when the file has no list.
    pub headers: Option<HeaderRules>,
    pub query: Option<QueryRules>,
    pub decoder: Decoder,
    pub shape: Shape,
    pub errors: ErrorMode,
    /// Outermost first: circuit breaker, rate limit.
    pub steps: Box<[Box<dyn BackendStep>]>,
    /// Within the steps, outermost first: scripts, expressions.
    pub pipes: Box<[Box<dyn PipeStep>]>,
    /// Closest to the wire.
    pub on_wire: Option<Box<dyn CallStep>>,
    pub credentials: Option<Arc<dyn Credentials>>,
    pub cache: Option<Arc<dyn ResponseCache>>,
    pub graphql: Option<GraphQl>,
    pub send_body_on_redirect: bool,
    /// Ask for gzip (`disable_compression` off).
    pub compression: bool,
}

/// A mode of ours: the upstream's status and some of its header fields reach the client while the body is still
/// decoded and shaped. Any 2xx is success; any other answer is passed on with its own body and content type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassThrough {
    /// `Content-Type` and what frames the body have no effect here.
    pub headers: Box<[HeaderName]>,
}

/// `backend/http` (spec/gateway.md §4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorMode {
    /// 500 whatever the upstream said.
    Hide,
    /// The upstream's status code.
    Code,
    /// `error_<alias>` in the data.
    Details(Box<str>),
    /// Only for the one backend of an endpoint.
    PassThrough(PassThrough),
}
