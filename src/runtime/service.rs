//! The compiled service: endpoints and backends.
//!
//! `compile` builds one [`Service`] per configuration. The server loads it once per request. State that changes at
//! run time (buckets, circuit breakers, key sets, DNS results) is referenced from here, never stored here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

use crate::runtime::agents::Agent;
use crate::runtime::condition::When;
use crate::runtime::decode::Decoder;
use crate::runtime::encode::Encoding;
use crate::runtime::errors::ErrorBodies;
use crate::runtime::flatmap::Flatmap;
use crate::runtime::forward::{HeaderRules, QueryRules};
use crate::runtime::graphql::GraphQl;
use crate::runtime::json::Value;
use crate::runtime::pipe::{CallStep, PipeStep, Substitute};
use crate::runtime::prerouting::Prerouting;
use crate::runtime::readiness::Readiness;
use crate::runtime::request::GivenId;
use crate::runtime::response_edits::ResponseEdits;
use crate::runtime::router::{CATCH_ALL, Router};
use crate::runtime::shape::Shape;
use crate::runtime::signing::ResponseSigner;
use crate::runtime::step::{
    BackendStep, CallSigner, Credentials, EndpointStep, ResponseCache, ServiceStep,
};
use crate::runtime::template::Template;
use crate::runtime::upgrade_state::UpgradeState;
use crate::telemetry::observe::{BackendObserver, EndpointObserver, Observer};
use crate::telemetry::sanitize::without_password;
use crate::upstream::{HostSet, OUR_USER_AGENT};

/// Everything in the configuration that requests need.
#[derive(Debug)]
pub struct Service {
    pub router: Arc<Router<Arc<Endpoint>>>,
    /// All endpoints, by [`Endpoint::id`].
    pub endpoints: Box<[Arc<Endpoint>]>,
    /// Steps around the router, outermost first.
    pub steps: Box<[Box<dyn ServiceStep>]>,
    /// Run after the steps, for every request that has no response yet. They may wait.
    pub gates: Box<[Box<dyn EndpointStep>]>,
    /// Run after the gates for requests that no endpoint takes: files, 404 and 405.
    pub unrouted: Box<[Box<dyn EndpointStep>]>,
    /// The conditions of `GET /__ready`, if there are any.
    pub readiness: Option<Arc<Readiness>>,
    /// What an upgrade passes to the new process.
    pub upgrade_states: Box<[Arc<dyn UpgradeState>]>,
    /// Traces and series of requests, in addition to logs and our own metrics. `None` if disabled.
    pub observer: Option<Arc<Observer>>,
    pub options: Arc<Options>,
    /// Bodies for the gateway's own errors (`portcullis/errors`).
    pub errors: Option<Arc<ErrorBodies>>,
    /// What is done to responses that no endpoint made.
    pub response_edits: Option<Arc<ResponseEdits>>,
    /// What happens to paths before the router. `None` if nothing does.
    pub prerouting: Option<Box<Prerouting>>,
    /// The consumers of queues that run beside the listeners.
    pub agents: Box<[Agent]>,
}

impl Service {
    /// The id for what is not a request that steps can see, if `portcullis/request-id` gives ids.
    pub fn new_id(&self) -> Option<GivenId> {
        self.steps.iter().find_map(|step| step.new_id())
    }

    /// Every backend with its endpoint, shadow backends included.
    pub fn backends(&self) -> impl Iterator<Item = (&Endpoint, &Backend)> {
        let agents = self.agents.iter().map(|agent| &agent.endpoint);
        self.endpoints.iter().chain(agents).flat_map(|endpoint| {
            let (stream, composed) = match &endpoint.work {
                Work::Stream(work) => (Some(&work.backend), None),
                Work::Compose(work) => (None, Some(work)),
                Work::Nothing => (None, None),
            };
            let composed = composed.into_iter().flat_map(|work| {
                let shadows = work.shadows.iter().map(|shadow| &shadow.backend);
                work.backends.iter().chain(shadows)
            });
            let all = stream.into_iter().chain(composed);
            all.map(move |backend| (&**endpoint, backend))
        })
    }
}

/// The options of the service (`router` namespace).
#[derive(Debug, Clone)]
pub struct Options {
    /// The value of `X-Krakend`. With `hide_version_header` it is only `Portcullis`.
    pub version_header: HeaderValue,
    /// The `User-Agent` sent to upstreams, `Portcullis/<version>`.
    pub user_agent: HeaderValue,
    /// Whether the response of a failed endpoint contains the text of the error (`return_error_msg`).
    pub return_error_msg: bool,
    /// Bodies of 404 and 405 (`error_body`), already encoded as JSON.
    pub error_body_404: Option<Bytes>,
    pub error_body_405: Option<Bytes>,
    /// The path of the health endpoint. `None` if it is disabled.
    pub health_path: Option<Arc<str>>,
    pub debug_endpoint: bool,
    pub echo_endpoint: bool,
    pub client_address: ClientAddress,
    /// Decodes path parameters once and rejects those that can be decoded again.
    pub check_path_params: bool,
    /// The maximum size of the request body of a composed endpoint. Larger ones get 413.
    pub max_request_body_bytes: u64,
    /// Of every request (`router.max_payload`, `router.decompress_gzip`).
    pub payload: Payload,
    /// The maximum size of a decoded upstream body of a composed endpoint.
    pub max_upstream_body_bytes: u64,
    /// How long a streamed response may be silent (`"portcullis/stream": {"idle_timeout"}`).
    pub stream_idle_timeout: Duration,
    /// Ends streams at the endpoint's timeout, as KrakenD does.
    pub stream_total_timeout: bool,
    /// Requests with exactly these paths are not in the access log.
    pub access_log_skip: Box<[Box<str>]>,
    pub access_log: bool,
    /// Writes composed JSON exactly as KrakenD does: sorted, compact, `<>&` escaped.
    pub canonical_json: bool,
    /// 502, 503 and 504 for backends that are unreachable, rejected or too slow, instead of 500.
    pub gateway_status_codes: bool,
    /// The maximum bytes of bodies that the whole process holds. `None` uses half of its memory.
    pub buffered_bytes: Option<u64>,
}

/// The options of a configuration that sets none of them.
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
            payload: Payload::default(),
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

/// Which peers and headers determine the client's address.
#[derive(Debug, Clone, Default)]
pub struct ClientAddress {
    /// Whether the headers below are used at all.
    pub by_header: bool,
    /// Trusted peers. Empty means that no peer is trusted.
    pub trusted: Box<[IpNet]>,
    /// Header names, in order of precedence.
    pub headers: Box<[http::HeaderName]>,
    /// `X-Appengine-Remote-Addr` without a check, for `app_engine`.
    pub app_engine: bool,
    /// Appends to `X-Forwarded-For` instead of replacing it.
    pub append_chain: bool,
    /// Sends the client's scheme to backends in `X-Forwarded-Proto`.
    pub proto: bool,
    /// Sends address, host and scheme to backends in `Forwarded` (RFC 7239).
    pub forwarded: bool,
}

/// How request bodies are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Payload {
    /// The maximum size of any body, also of a streamed one. Larger ones get 413.
    pub most: Option<u64>,
    /// Decodes bodies whose outermost coding is gzip. The decoded size counts then.
    pub gunzip: bool,
}

impl Payload {
    /// The maximum size of a body that is read whole.
    pub fn whole(&self, options: &Options) -> u64 {
        let most = self.most.unwrap_or(u64::MAX);
        options.max_request_body_bytes.min(most)
    }
}

impl StaticData {
    /// Compiles `strategy` and the object `data`. As in KrakenD, an unknown strategy means always.
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

    /// Whether a `no-op` response counts as complete, which is the only effect on a response that arrived.
    pub fn completes_stream(&self) -> bool {
        use StaticStrategy::{Always, Complete, Success};
        let members = matches!(&self.data, Value::Object(members) if !members.is_empty());
        members && matches!(self.strategy, Always | Success | Complete)
    }

    /// Whether it turns the failure of a `no-op` call into an empty response.
    pub fn covers_failure(&self) -> bool {
        use StaticStrategy::{Always, Errored, Incomplete};
        matches!(self.strategy, Always | Errored | Incomplete)
    }
}

impl ClientAddress {
    /// Whether `address` is a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }
}

/// A route of the gateway.
#[derive(Debug)]
pub struct Endpoint {
    /// As configured: `/a/{id}`. Used in log prefixes and metric labels.
    pub pattern: Arc<str>,
    pub method: Method,
    /// For the whole request.
    pub timeout: Duration,
    /// `Cache-Control` of complete responses. `None` without `cache_ttl`.
    pub cache_control: Option<HeaderValue>,
    /// Outermost first: bot detector, tokens, rate limits.
    pub steps: Box<[Box<dyn EndpointStep>]>,
    /// `input_headers` and `input_query_strings` of the endpoint.
    pub headers: HeaderRules,
    pub query: QueryRules,
    pub work: Work,
    /// The index of the metric handles of this endpoint, unique in the service.
    pub id: usize,
    pub observer: Option<Arc<EndpointObserver>>,
    /// How request bodies are read. The service's limits are in it.
    pub payload: Payload,
    /// What is done to the responses. The service's changes are in it.
    pub response_edits: Option<Box<ResponseEdits>>,
}

impl Endpoint {
    /// Whether it takes all paths and methods that no other endpoint has.
    pub fn is_catch_all(&self) -> bool {
        &*self.pattern == CATCH_ALL
    }
}

/// How an endpoint handles a request that passed its steps.
#[derive(Debug)]
pub enum Work {
    /// `no-op`: the response of the only backend, streamed.
    Stream(Box<StreamWork>),
    /// Fetch, decode, shape, merge, encode.
    Compose(Box<Composition>),
    /// An endpoint without a regular backend (all are shadow): 500, empty, no gateway headers.
    Nothing,
}

impl Work {
    /// Whether pipe steps or conditions of backends look at the request.
    pub fn is_watched(&self) -> bool {
        let conditional = |backend: &Backend| backend.when.is_conditional();
        match self {
            Work::Stream(work) => !work.pipes.is_empty() || conditional(&work.backend),
            Work::Compose(work) => {
                let shadows = || work.shadows.iter().map(|shadow| &shadow.backend);
                !work.pipes.is_empty() || work.backends.iter().chain(shadows()).any(conditional)
            }
            Work::Nothing => false,
        }
    }

    /// Whether a backend of a composed endpoint takes messages from a queue.
    pub fn takes_messages(&self) -> bool {
        matches!(self, Work::Compose(work) if work.backends.iter().any(Backend::takes_messages))
    }

    /// Whether a pipe step reads what the client's body says.
    pub fn parses_body(&self) -> bool {
        self.any_pipe(|step| step.parses_body())
    }

    /// Whether a pipe step asks for the other end of the client's connection.
    pub fn reads_peer(&self) -> bool {
        self.any_pipe(|step| step.reads_peer())
    }

    fn any_pipe(&self, is: impl Fn(&dyn PipeStep) -> bool) -> bool {
        let any = |pipes: &[Box<dyn PipeStep>]| pipes.iter().any(|step| is(&**step));
        match self {
            Work::Stream(work) => any(&work.pipes) || any(&work.backend.pipes),
            Work::Compose(work) => {
                let shadows = work.shadows.iter().map(|shadow| &shadow.backend);
                let mut backends = work.backends.iter().chain(shadows);
                any(&work.pipes) || backends.any(|backend| any(&backend.pipes))
            }
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
    /// The conditions for WebSocket tunnels, if they are allowed.
    pub upgrade: Option<Upgrade>,
}

/// The conditions for clients that request a WebSocket.
#[derive(Debug, Default)]
pub struct Upgrade {
    /// Accepted values of `Origin`. Empty accepts any.
    pub origins: Box<[Box<str>]>,
    /// The limit of open tunnels. `None` means no limit.
    pub permits: Option<Arc<tokio::sync::Semaphore>>,
    /// Closes the tunnel when the token of its handshake expires.
    pub until_expiry: bool,
    /// The endpoint is for WebSockets only.
    pub websocket: Option<WebSocket>,
}

/// The rules of an endpoint that is for WebSockets only (`websocket`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebSocket {
    /// Of the client's offer, only these reach the backend. Empty lets any pass.
    pub subprotocols: Box<[Box<str>]>,
    /// The most bytes of a client's message.
    pub max_message_bytes: Option<u64>,
    /// How long neither side may send anything.
    pub idle: Duration,
}

impl Upgrade {
    /// Whether a page of `origin` may connect. A client without `Origin` is not a browser, and the check protects
    /// only browsers.
    pub fn admits(&self, origin: Option<&HeaderValue>) -> bool {
        let Some(origin) = origin else { return true };
        let same = |known: &str| origin.as_bytes().eq_ignore_ascii_case(known.as_bytes());
        self.origins.is_empty() || self.origins.iter().any(|known| same(known))
    }
}

/// A composed endpoint.
#[derive(Debug)]
pub struct Composition {
    /// Around everything below, outermost first: scripts, expressions, schemas.
    pub pipes: Box<[Box<dyn PipeStep>]>,
    /// In the configured order. Never empty.
    pub backends: Box<[Backend]>,
    /// Called in parallel, without waiting for them.
    pub shadows: Box<[Arc<Shadow>]>,
    pub order: Order,
    /// The endpoint's `flatmap_filter`, if there are two backends or more.
    pub flatmap: Option<Flatmap>,
    pub static_data: Option<StaticData>,
    pub concurrent_calls: u32,
    pub encoding: Encoding,
    pub signer: Option<Arc<dyn ResponseSigner>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    Parallel,
    /// One after the other, with the names in `sequential_propagated_params`.
    Sequential {
        propagated: Box<[Box<str>]>,
    },
    /// One after the other until one succeeds, whose response is that of the endpoint.
    Fallback,
}

/// A backend that receives a copy of each request.
#[derive(Debug)]
pub struct Shadow {
    pub backend: Backend,
    pub timeout: Duration,
}

/// `proxy.static`.
#[derive(Debug, Clone)]
pub struct StaticData {
    pub strategy: StaticStrategy,
    /// Always an object, whose members are already serialized.
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

/// A compiled call to an upstream.
#[derive(Debug)]
pub struct Backend {
    /// The position in the list of the configuration, from 0.
    pub index: u16,
    /// `url_pattern` as configured, for log lines and metric labels.
    pub pattern: Arc<str>,
    pub method: Method,
    pub url: Template,
    pub hosts: Arc<HostSet>,
    /// A second filter of all headers that would be sent. `None` if there is no list.
    pub headers: Option<HeaderRules>,
    pub query: Option<QueryRules>,
    pub decoder: Decoder,
    pub shape: Shape,
    pub errors: ErrorMode,
    /// Outermost first: circuit breaker, rate limit.
    pub steps: Box<[Box<dyn BackendStep>]>,
    /// Inside the steps, in the same order: scripts, expressions.
    pub pipes: Box<[Box<dyn PipeStep>]>,
    /// Closest to the wire.
    pub on_wire: Option<Box<dyn CallStep>>,
    pub credentials: Option<Arc<dyn Credentials>>,
    pub cache: Option<Arc<dyn ResponseCache>>,
    /// Signs each call, last of all.
    pub signer: Option<Arc<dyn CallSigner>>,
    pub graphql: Option<GraphQl>,
    pub send_body_on_redirect: bool,
    /// Requests gzip (unless `disable_compression`).
    pub compression: bool,
    pub observer: Option<Arc<BackendObserver>>,
    /// Which requests it is called for.
    pub when: When,
}

impl Backend {
    /// Whether it takes messages from a queue.
    pub(crate) fn takes_messages(&self) -> bool {
        let step = self.on_wire.as_deref();
        step.is_some_and(|step| step.substitute() == Substitute::Receive)
    }

    /// The backend in a log line: `backend[2]: GET /users/{id} at http://users:8000`. A single host is shown, without secrets.
    pub fn shown(&self) -> String {
        let mut text = format!("backend[{}]: {} {}", self.index, self.method, self.pattern);
        let host = self.hosts.only().map(without_password);
        text.extend(host.iter().flat_map(|host| [" at ", host]));
        text
    }
}

/// A mode of our own: the status and some headers of the upstream are sent to the client while the body is still
/// decoded and shaped. Any 2xx is a success. Any other response is passed on with its own body and content type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassThrough {
    /// `Content-Type` and the headers that frame the body have no effect here.
    pub headers: Box<[HeaderName]>,
}

/// How error responses of the upstream are handled (`backend/http`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorMode {
    /// 500, whatever the status of the upstream.
    Hide,
    /// The status code of the upstream.
    Code,
    /// `error_<alias>` in the data.
    Details(Box<str>),
    /// Only for the single backend of an endpoint.
    PassThrough(PassThrough),
    /// For the messages of an agent: any 2xx is a success, whatever its body. It is decoded only if something uses it.
    Message { decoded: bool },
}
