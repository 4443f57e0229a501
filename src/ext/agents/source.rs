//! What the queue of an agent must be able to do.

use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::HeaderValue;

use crate::upstream::collect::Overflow;

/// A queue.
#[async_trait]
pub(in crate::ext) trait Source: Send + Sync + fmt::Debug {
    /// The queue in messages, without secrets.
    fn name(&self) -> &str;

    /// Connects, and begins to take messages.
    ///
    /// # Errors
    /// The reason, without secrets.
    async fn open(&self) -> Result<Opened, String>;
}

/// A connection that delivers messages.
pub(in crate::ext) struct Opened {
    /// The number of messages that wait here is bounded by the queue.
    pub(in crate::ext) deliveries: BoxStream<'static, Delivery>,
    /// Resolves, with the reason, when the connection is lost.
    pub(in crate::ext) lost: Pin<Box<dyn Future<Output = String> + Send>>,
    pub(in crate::ext) session: Box<dyn Session>,
}

/// The connection itself. Dropping it closes it.
#[async_trait]
pub(in crate::ext) trait Session: Send + Sync {
    /// Asks for no more messages. Returns whether the queue has agreed.
    async fn cancel(&self) -> bool;

    /// Closes the connection after all outcomes have been sent.
    async fn close(self: Box<Self>);
}

/// A message that was taken.
pub(in crate::ext) struct Delivery {
    /// Or why it was not kept.
    pub(in crate::ext) body: Result<Bytes, Overflow>,
    pub(in crate::ext) bytes: u64,
    pub(in crate::ext) content_type: Option<HeaderValue>,
    /// The message id that the sender set. May be empty.
    pub(in crate::ext) id: String,
    pub(in crate::ext) redelivered: bool,
    /// How often it was delivered before this time, if the queue counts.
    pub(in crate::ext) earlier: Option<u32>,
    pub(in crate::ext) receipt: Box<dyn Receipt>,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ext) enum Disposition {
    /// It is done.
    Done,
    /// It is returned to the queue and redelivered.
    Return,
    /// It is rejected. A dead-letter exchange gets it, if there is one.
    Reject,
}

/// Reports the outcome of a message to the queue. A message whose receipt is dropped is returned to the queue when the
/// connection ends.
#[async_trait]
pub(in crate::ext) trait Receipt: Send {
    async fn tell(self: Box<Self>, disposition: Disposition);
}
