//! What a topic and a queue must be able to do.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;

use crate::runtime::failure::Failure;
use crate::runtime::json;
use crate::upstream::budget::{Charge, Full};

/// A message to send.
#[derive(Debug, Clone)]
pub(in crate::ext) struct Outbound {
    pub(in crate::ext) body: Bytes,
    /// Names in Go's canonical form, each with one value.
    pub(in crate::ext) metadata: Vec<(String, String)>,
}

impl Outbound {
    /// Charges what is made of the body to send it: `copies` of it.
    ///
    /// # Errors
    /// The process holds too much already.
    pub(super) fn charge(&self, copies: usize) -> Result<Charge, Failure> {
        json::charge_bytes(copies * self.body.len()).map_err(|Full| Failure::full())
    }
}

/// A destination for messages.
#[async_trait]
pub(in crate::ext) trait Topic: Send + Sync + fmt::Debug {
    /// Sends one message, and waits until it is there.
    ///
    /// # Errors
    /// It was not sent, or this is unknown.
    async fn publish(&self, message: Outbound, deadline: Instant) -> Result<(), Unsent>;
}

/// Why a message is not confirmed.
#[derive(Debug)]
pub(in crate::ext) struct Unsent {
    pub(in crate::ext) failure: Failure,
    /// The service was given the message, and has not rejected it: it may have been sent.
    pub(in crate::ext) is_unknown: bool,
}

impl Unsent {
    /// The service was given the message.
    pub(in crate::ext) fn unknown(failure: Failure) -> Unsent {
        Unsent {
            failure,
            is_unknown: true,
        }
    }
}

impl From<Failure> for Unsent {
    fn from(failure: Failure) -> Unsent {
        Unsent {
            failure,
            is_unknown: false,
        }
    }
}

impl From<Unsent> for Failure {
    fn from(unsent: Unsent) -> Failure {
        unsent.failure
    }
}

/// Whether a message was given to a broker. The half of a connection that writes sets it.
#[cfg(any(feature = "nats", feature = "amqp"))]
#[derive(Debug, Clone, Default)]
pub(in crate::ext) struct Given(std::sync::Arc<std::sync::atomic::AtomicBool>);

#[cfg(any(feature = "nats", feature = "amqp"))]
impl Given {
    /// To be called before it is checked whether anybody still waits for the message.
    pub(in crate::ext) fn set(&self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// The failure of the message, after waiting for it has ended.
    pub(in crate::ext) fn unsent(&self, failure: Failure) -> Unsent {
        Unsent {
            failure,
            is_unknown: self.0.load(std::sync::atomic::Ordering::SeqCst),
        }
    }
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

/// The content type of a message as a header. `None` if it cannot be one, or is empty.
pub(in crate::ext) fn content_type(text: &[u8]) -> Option<HeaderValue> {
    let text = text.trim_ascii();
    let value = HeaderValue::from_bytes(text).ok();
    value.filter(|value| !value.is_empty())
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
