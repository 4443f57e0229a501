//! What an extension may do to a request, at service, endpoint and backend level.
//!
//! A step is a plain function of the request. One that may have to wait (a cold key set, a password hash) says so in
//! what it returns, so that the usual case allocates nothing.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::runtime::answer::{Answer, Fields};
use crate::runtime::failure::Failure;
use crate::runtime::flights::{Digest, Flights};
use crate::runtime::request::{Head, Notes};
use crate::upstream::{Incoming, Outgoing};

/// Around the router: sees every request, also those that end in 404 or 405.
pub trait ServiceStep: Send + Sync + fmt::Debug {
    /// Whether the built-in health endpoint is covered too: CORS does, the others do not (spec/modules.md §0.1).
    fn covers_health(&self) -> bool {
        false
    }

    /// Looks at a request before it is routed. Fields for the later answer go to [`Notes::response_fields`].
    /// `Some` is the answer, and the request goes no further.
    fn request(&self, head: &Head<'_>, notes: &mut Notes) -> Option<Answer>;
}

/// Around one endpoint: sees the requests that were routed to it.
pub trait EndpointStep: Send + Sync + fmt::Debug {
    /// Whether the client's body must be in [`Notes::body`] when the step runs; the endpoint does not stream it then.
    fn needs_body(&self) -> bool {
        false
    }

    /// Whether `telemetry/metrics` knows of requests that the step refuses: it stands within the outermost of them.
    fn is_counted(&self) -> bool {
        true
    }

    /// Lets the request pass, refuses it, or asks to be called again after a wait.
    ///
    /// `attempt` is 0 at first and counts the waits; a step waits at most once.
    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes, attempt: u8) -> Gate<'a>;
}

/// What an [`EndpointStep`] decided.
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack of one call; a box would cost every refusal"
)]
pub enum Gate<'a> {
    Pass,
    Refuse(Answer),
    /// Await this (bounded by the endpoint's deadline), then call `check` again with the next `attempt`.
    Wait(Pin<Box<dyn Future<Output = ()> + Send + 'a>>),
}

/// Around one call to a backend: circuit breaker, rate limit.
pub trait BackendStep: Send + Sync + fmt::Debug {
    /// Lets the call pass with a ticket that comes back in [`BackendStep::after`], or refuses it.
    fn before(&self) -> Result<Ticket, Failure>;

    /// Called once for every ticket. Not called for a call whose client went away: that counts for nothing.
    fn after(&self, ticket: Ticket, outcome: Outcome);
}

/// A step whose state outlives one compiled file is shared between the old service and the new one.
impl<T: BackendStep + ?Sized> BackendStep for Arc<T> {
    fn before(&self) -> Result<Ticket, Failure> {
        (**self).before()
    }

    fn after(&self, ticket: Ticket, outcome: Outcome) {
        (**self).after(ticket, outcome);
    }
}

/// What a [`BackendStep`] wants to remember of a call, for instance the generation of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// How a call to a backend ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer that counts as success.
    Success,
    /// An answer that counts as success though something is missing, for instance the details of an error.
    Incomplete,
    /// No answer, or one that counts as failure.
    Failure,
    /// A streamed answer (`no-op`) with this status, which by itself does not count as failure.
    Streamed { status: u16 },
}

/// A response cache in front of one backend, `qos/http-cache`: see `ext::http_cache`.
pub trait ResponseCache: Send + Sync + fmt::Debug {
    /// Under what an answer to `out` from `origin` is kept; `None` when it cannot be kept.
    fn key(&self, origin: &str, out: &Outgoing) -> Option<CacheKey>;

    /// Looks for a stored answer; `sent` are the headers that go out.
    fn lookup(&self, key: &CacheKey, sent: &HeaderMap) -> Lookup;

    /// Offers an answer that came from upstream; `sent` are the headers of the call that fetched it.
    fn store(&self, key: &CacheKey, sent: &HeaderMap, answer: &Incoming);

    /// A 304 came for a stale entry that was revalidated: the stored answer with its fields updated.
    fn revalidated(&self, key: &CacheKey, sent: &HeaderMap, answer: &Incoming) -> Option<Incoming>;

    /// The upstream failed or answered 5xx: a stale answer that may stand in (`stale-if-error`).
    fn on_error(&self, key: &CacheKey, sent: &HeaderMap) -> Option<Incoming>;

    /// The calls under way that fill the cache.
    fn flights(&self) -> &Flights;

    /// How long a call waits for an equal one, when its request ends in `remaining`; zero: not at all.
    fn patience(&self, remaining: Duration) -> Duration;
}

/// What tells stored answers apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheKey {
    /// Of everything that the answer may depend on.
    pub digest: Digest,
    /// Bytes of the URL, for the bound of the store.
    pub url_bytes: usize,
    pub is_get: bool,
}

/// What [`ResponseCache::lookup`] found.
#[derive(Debug)]
pub enum Lookup {
    Fresh(Incoming),
    /// Stored but not fresh: send these conditional fields along.
    Stale(Fields),
    /// Nothing stored.
    Miss,
    /// The client asked for an answer of the upstream (`no-cache`).
    Bypass,
    /// The client asked for `only-if-cached`, and there is nothing.
    Refused,
}

/// Where the `Authorization` of a backend call comes from: see `upstream::credentials`.
pub trait Credentials: Send + Sync + fmt::Debug {
    /// The value that is ready now, without waiting.
    fn ready(&self) -> Option<http::HeaderValue>;

    /// Fetches a value, at most `limit` long; shared by all who wait.
    fn fetch(
        &self,
        limit: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<http::HeaderValue, Failure>> + Send + '_>>;

    /// The upstream answered 401 to this value: drop it, if it is still the current one.
    /// Returns whether a retry with a new value makes sense.
    fn rejected(&self, value: &http::HeaderValue) -> bool;
}
