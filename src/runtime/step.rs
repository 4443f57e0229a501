//! What an extension may do to a request, at service, endpoint and backend level.
//!
//! A step is a plain function of the request. One that may have to wait (a cold key set, a password hash) says so in
//! what it returns, so that the usual case allocates nothing.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::runtime::answer::Answer;
use crate::runtime::failure::Failure;
use crate::runtime::request::{Head, Notes};

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
    /// Looks for a stored answer to `GET`/`HEAD` of `url` with these outgoing headers.
    fn lookup(&self, method: &http::Method, url: &str, headers: &http::HeaderMap) -> Lookup;

    /// Offers an answer that came from upstream; `sent` are the headers of the call that fetched it.
    fn store(
        &self,
        method: &http::Method,
        url: &str,
        sent: &http::HeaderMap,
        answer: &crate::upstream::Incoming,
    );

    /// A 304 came for a stale entry that was revalidated: the stored answer with its fields updated.
    fn revalidated(
        &self,
        method: &http::Method,
        url: &str,
        sent: &http::HeaderMap,
        answer: &crate::upstream::Incoming,
    ) -> Option<crate::upstream::Incoming>;

    /// The upstream failed or answered 5xx: a stale answer that may stand in (`stale-if-error`).
    fn on_error(
        &self,
        method: &http::Method,
        url: &str,
        sent: &http::HeaderMap,
    ) -> Option<crate::upstream::Incoming>;
}

/// What [`ResponseCache::lookup`] found.
#[derive(Debug)]
pub enum Lookup {
    Fresh(crate::upstream::Incoming),
    /// Stored but not fresh: send these conditional fields along.
    Stale(crate::runtime::answer::Fields),
    /// Nothing stored, or the method is not cacheable.
    Miss,
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
