//! What a topic and a queue must be able to do.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;

use crate::runtime::failure::Failure;

/// A message to send.
#[derive(Debug, Clone)]
pub(in crate::ext) struct Outbound {
    pub(in crate::ext) body: Bytes,
    /// Names in Go's canonical form, each with one value.
    pub(in crate::ext) metadata: Vec<(String, String)>,
}

/// A destination for messages.
#[async_trait]
pub(in crate::ext) trait Topic: Send + Sync + fmt::Debug {
    /// Sends one message, and waits until it is there.
    ///
    /// # Errors
    /// It does not exist, or this is unknown.
    async fn publish(&self, message: Outbound, deadline: Instant) -> Result<(), Failure>;
}

/// A source of messages.
#[async_trait]
pub(in crate::ext) trait Subscription: Send + Sync + fmt::Debug {
    /// Takes one message. `None` if none arrives before `deadline`. A message that is taken after the caller has ended goes
    /// back to its queue.
    ///
    /// # Errors
    /// The queue cannot be asked.
    async fn receive(&self, deadline: Instant) -> Result<Option<Taken>, Failure>;
}

/// A message that was taken and is not confirmed yet.
#[derive(Debug)]
pub(in crate::ext) struct Taken {
    /// Or why the message cannot become a response.
    pub(in crate::ext) body: Result<Bytes, &'static str>,
    pub(in crate::ext) content_type: Option<HeaderValue>,
    pub(in crate::ext) claim: Claim,
}

/// The outcome of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ext) enum Verdict {
    /// It is done.
    Done,
    /// It could not become a response: it is redelivered once.
    Bad,
    /// No client received it: it is returned to the queue at once.
    Return,
}

/// Reports the outcome of a message to the queue. Must not block.
pub(in crate::ext) trait Confirm: Send + fmt::Debug {
    fn confirm(self: Box<Self>, verdict: Verdict);
}

/// A message that is dropped goes back to its queue.
#[derive(Debug)]
pub(in crate::ext) struct Claim(Option<Box<dyn Confirm>>);

impl Claim {
    pub(in crate::ext) fn new(confirm: impl Confirm + 'static) -> Claim {
        Claim(Some(Box::new(confirm)))
    }

    pub(in crate::ext) fn end(mut self, verdict: Verdict) {
        if let Some(confirm) = self.0.take() {
            confirm.confirm(verdict);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(confirm) = self.0.take() {
            confirm.confirm(Verdict::Return);
        }
    }
}

/// Runs work of the gateway's own. Without a runtime, which is when the process ends, nothing runs.
pub(in crate::ext) fn aside(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(work);
    }
}
