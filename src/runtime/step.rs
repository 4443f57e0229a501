//! The interfaces of extensions at service, endpoint and backend level.
//!
//! A step is a plain function of the request. A step that may have to wait (for a missing key set, for a password
//! hash) reports this in its return value, so that the common case allocates nothing.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, StatusCode};

use crate::jose::SubjectToken;
use crate::runtime::failure::Failure;
use crate::runtime::request::{GivenId, Head, Notes};
use crate::runtime::response::{Fields, Response};
use crate::runtime::single_flights::{Digest, Patience, SingleFlights};
use crate::upstream::{CallBody, Incoming, Outgoing};

/// A step around the router. It sees every request, including those that end in 404 or 405.
pub trait ServiceStep: Send + Sync + fmt::Debug {
    /// Whether the step also applies to the built-in health endpoint. As in KrakenD, this is true only for steps before
    /// the router: CORS, and the former plugins.
    fn covers_health(&self) -> bool {
        false
    }

    /// Whether the access log omits requests to which the step responds, as KrakenD omits preflights.
    fn is_silent(&self) -> bool {
        false
    }

    /// A new id for what is not a request that the step can see. `None` if the step gives no ids.
    fn new_id(&self) -> Option<GivenId> {
        None
    }

    /// Inspects a request before it is routed. Headers for the later response are added to
    /// [`Notes::response_fields`]. `Some` is the response, and the request is not processed further.
    fn request(&self, head: &Head<'_>, notes: &mut Notes) -> Option<Response>;
}

/// A step around one endpoint. It sees the requests that were routed to it.
pub trait EndpointStep: Send + Sync + fmt::Debug {
    /// Whether the client's body must be in [`Notes::body`] when the step runs. The endpoint does not stream it then.
    fn needs_body(&self) -> bool {
        false
    }

    /// Whether the step reads what the body says, so that it must not be compressed.
    fn parses_body(&self) -> bool {
        false
    }

    /// Whether `telemetry/metrics` counts the requests that the step rejects. It does not count those of the
    /// outermost steps.
    fn is_counted(&self) -> bool {
        true
    }

    /// The name of the span of its wait, usually that of its namespace.
    fn name(&self) -> &'static str {
        "step"
    }

    /// Lets the request pass, rejects it, or returns what to wait for before the decision.
    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a>;
}

/// A step that several endpoints share.
impl<T: EndpointStep + ?Sized> EndpointStep for Arc<T> {
    fn needs_body(&self) -> bool {
        (**self).needs_body()
    }

    fn parses_body(&self) -> bool {
        (**self).parses_body()
    }

    fn is_counted(&self) -> bool {
        (**self).is_counted()
    }

    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        (**self).check(head, notes)
    }
}

/// The decision of an [`EndpointStep`].
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack of one call; a box would cost every rejection"
)]
pub enum Gate<'a> {
    Pass,
    Reject(Response),
    /// The decision comes later: see [`Gate::wait`].
    Wait(Wait<'a>),
}

impl<'a> Gate<'a> {
    /// Waits for `work` and decides by its result. `None` if the time was up before.
    pub fn wait<T: Send + 'a>(
        work: impl Future<Output = T> + Send + 'a,
        decide: impl FnOnce(Option<T>, &Head<'_>, &mut Notes) -> Gate<'a> + Send + 'a,
    ) -> Gate<'a> {
        Gate::Wait(Wait(Box::new(Waiting {
            work: Some(Box::pin(work)),
            came: None,
            decide,
        })))
    }
}

/// A decision that has to wait.
pub struct Wait<'a>(Box<dyn Later<'a> + Send + 'a>);

impl<'a> Wait<'a> {
    /// Ends when there is nothing more to wait for. A caller without time may decide before.
    pub async fn done(&mut self) {
        poll_fn(|cx| self.0.poll(cx)).await;
    }

    /// The decision, which may be to wait for something else.
    pub fn decide(self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        self.0.decide(head, notes)
    }
}

trait Later<'a> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    fn decide(self: Box<Self>, head: &Head<'_>, notes: &mut Notes) -> Gate<'a>;
}

struct Waiting<'a, T, N> {
    /// `None` once it is done.
    work: Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>,
    came: Option<T>,
    decide: N,
}

impl<'a, T, N> Later<'a> for Waiting<'a, T, N>
where
    N: FnOnce(Option<T>, &Head<'_>, &mut Notes) -> Gate<'a>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(work) = &mut self.work else {
            return Poll::Ready(());
        };
        match work.as_mut().poll(cx) {
            Poll::Ready(came) => {
                self.came = Some(came);
                self.work = None;
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn decide(self: Box<Self>, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        (self.decide)(self.came, head, notes)
    }
}

/// A step around one call to a backend: circuit breaker, rate limit.
pub trait BackendStep: Send + Sync + fmt::Debug {
    /// Lets the call pass with a ticket, which is returned in [`BackendStep::after`], or rejects it.
    fn before(&self) -> Result<Ticket, Failure>;

    /// Called once for every ticket, except for a call whose client closed its connection, which does not count.
    fn after(&self, ticket: Ticket, outcome: Outcome);

    /// Called instead of [`BackendStep::after`] for a call that does not count at all.
    fn release(&self, _ticket: Ticket) {}

    /// Like [`BackendStep::after`], with the status of the upstream. Called instead of it.
    fn ended(&self, ticket: Ticket, outcome: Outcome, _answer: Answer) {
        self.after(ticket, outcome);
    }

    /// The state of a circuit breaker, for metrics. `None` for other steps.
    fn breaker(&self) -> Option<Breaker<'_>> {
        None
    }
}

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker<'b> {
    pub name: &'b str,
    pub circuit: Circuit,
}

/// Ordered from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Circuit {
    Closed,
    /// One call may try whether the host works again.
    HalfOpen,
    Open,
}

/// A step whose state outlives a configuration is shared between the old service and the new one.
impl<T: BackendStep + ?Sized> BackendStep for Arc<T> {
    fn before(&self) -> Result<Ticket, Failure> {
        (**self).before()
    }

    fn after(&self, ticket: Ticket, outcome: Outcome) {
        (**self).after(ticket, outcome);
    }

    fn release(&self, ticket: Ticket) {
        (**self).release(ticket);
    }

    fn breaker(&self) -> Option<Breaker<'_>> {
        (**self).breaker()
    }

    fn ended(&self, ticket: Ticket, outcome: Outcome, answer: Answer) {
        (**self).ended(ticket, outcome, answer);
    }
}

/// A value that a [`BackendStep`] keeps for a call, for example the generation of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// The outcome of a call at the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A response with this status, after redirects.
    Status(StatusCode),
    /// No response, or none that is whole.
    Nothing,
    /// A step of the gateway rejected the call.
    NotAsked,
}

/// How a call to a backend ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A response that counts as success.
    Success,
    /// A response that counts as success although something is missing, for example the details of an error.
    Incomplete,
    /// No response, or one that counts as a failure.
    Failure,
    /// The gateway rejected the request. This says nothing about the upstream.
    Rejected,
    /// A streamed response (`no-op`) with this status, which by itself does not count as a failure.
    Streamed { status: u16 },
}

/// A response cache in front of one backend, `qos/http-cache`: see `ext::http_cache`.
pub trait ResponseCache: Send + Sync + fmt::Debug {
    /// The cache key of a response to `out` from `origin`. `None` if it cannot be cached.
    fn key(&self, origin: &str, out: &Outgoing) -> Option<CacheKey>;

    /// Looks up a stored response. `sent` are the headers of the call.
    fn lookup(&self, key: &CacheKey, sent: &HeaderMap) -> Lookup;

    /// The maximum size of the body of a response with this head, if the response may be stored and be of use later.
    /// `None`: it is not stored, and what was stored under `key` is dropped.
    fn space(
        &self,
        key: &CacheKey,
        sent: &HeaderMap,
        head: (StatusCode, &HeaderMap),
    ) -> Option<u64>;

    /// Offers a response of the upstream. `sent` are the headers of the call that fetched it, and `took` is its time.
    fn store(&self, key: &CacheKey, sent: &HeaderMap, response: &Incoming, took: Duration);

    /// Called with a 304 for a stale entry. Returns the stored response with its headers updated.
    fn revalidated(
        &self,
        key: &CacheKey,
        sent: &HeaderMap,
        response: &Incoming,
        took: Duration,
    ) -> Option<Incoming>;

    /// Called if the upstream failed or responded with 5xx. Returns a stale response that may be used instead
    /// (`stale-if-error`).
    fn on_error(&self, key: &CacheKey, sent: &HeaderMap) -> Option<Incoming>;

    /// The calls in progress that fill the cache.
    fn single_flights(&self) -> &SingleFlights;

    /// The store behind it, for metrics.
    fn usage(&self) -> Option<CacheUsage> {
        None
    }

    /// Called after the response to a call that equal calls could wait for: the time until it could be used, and whether
    /// they could use it. `sent` are the headers of the call.
    fn learn(&self, sent: &HeaderMap, took: Duration, is_shared: bool);

    /// How long a call waits for an equal one, if its request ends in `remaining`. With zero it does not wait, but uses
    /// the response to an equal call if that arrives first. `None`: it does not take part.
    fn wait(
        &self,
        key: &CacheKey,
        sent: &HeaderMap,
        found: &Lookup,
        remaining: Duration,
    ) -> Option<Patience>;
}

/// The content of a store of responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheUsage {
    /// Equal for all caches that share a store.
    pub store: usize,
    pub bytes: usize,
    pub responses: usize,
}

/// The key of a stored response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheKey {
    /// A digest of everything that the response may depend on.
    pub digest: Digest,
    /// The size of the URL in bytes, for the limit of the store.
    pub url_bytes: usize,
    pub is_get: bool,
}

/// The result of [`ResponseCache::lookup`].
#[derive(Debug)]
pub enum Lookup {
    Fresh(Incoming),
    /// Stored but not fresh. These conditional headers must be sent.
    Stale(Fields),
    /// Nothing is stored.
    Miss,
    /// The client requires a response of the upstream (`no-cache`).
    Bypass,
    /// The client requires `only-if-cached`, and nothing is stored.
    Rejected,
}

/// Signs the calls to a backend: `auth/aws-sigv4`. It is the last that changes a call.
#[async_trait]
pub trait CallSigner: Send + Sync + fmt::Debug {
    /// Whether the body must be at hand. Otherwise it may stream.
    fn needs_body(&self) -> bool;

    /// Signs `out`, whose body comes as `body` says. Waits for keys up to `limit`.
    ///
    /// # Errors
    /// There are no keys. The call is not made.
    async fn sign(
        &self,
        out: &mut Outgoing,
        body: CallBody,
        limit: Duration,
    ) -> Result<(), Failure>;
}

/// The source of the `Authorization` of a backend call: see `upstream::credentials`.
pub trait Credentials: Send + Sync + fmt::Debug {
    /// The current value, without waiting. `subject` is the verified token of the request, if it is kept.
    fn ready(&self, subject: Option<&SubjectToken>) -> Option<http::HeaderValue>;

    /// Whether the value replaces the client's token: no part of the call may then carry that token.
    fn replaces_subject(&self) -> bool {
        false
    }

    /// Fetches a value within `limit`. All waiting calls share the fetch.
    fn fetch<'a>(
        &'a self,
        subject: Option<&'a SubjectToken>,
        limit: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<http::HeaderValue, Failure>> + Send + 'a>>;

    /// Called when the upstream responded with 401 to this value. Drops it if it is still the current one. Returns
    /// whether a retry with a new value makes sense.
    fn rejected(&self, subject: Option<&SubjectToken>, value: &http::HeaderValue) -> bool;
}
