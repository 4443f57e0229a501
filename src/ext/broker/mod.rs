//! Connections to message brokers, which the drivers of NATS and RabbitMQ share.
//!
//! | module | content |
//! |---|---|
//! | `link` | one connection that is opened in the background, and again whenever it is lost |
//! | `backoff` | how long to wait before the next attempt |
//! | `inbox` | messages that wait for a request |

mod backoff;
mod inbox;
mod link;

pub(super) use backoff::Backoff;
pub(super) use inbox::Inbox;
#[cfg(feature = "amqp")]
pub(super) use link::Connections;
pub(super) use link::{Failed, Link, Opened};
