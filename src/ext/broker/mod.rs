//! Connections to message brokers, which the drivers of NATS and RabbitMQ share.
//!
//! | module | content |
//! |---|---|
//! | `link` | one connection that is opened in the background, and again whenever it is lost |
//! | `backoff` | how long to wait before the next attempt |
//! | `inbox` | messages that wait for a request |
//! | `calm` | warnings that do not fill the log |
//! | `address`, `stream` | the parts of addresses, and the stream to a broker with or without TLS |

mod address;
mod backoff;
#[cfg(feature = "nats")]
mod calm;
mod inbox;
mod link;
mod stream;

#[cfg(feature = "amqp")]
use std::time::Duration;

use crate::ext::context::{Compile, ServiceLimits};
use crate::runtime::service::Options;

pub(super) use address::{port, without_brackets, without_secret};
pub(super) use backoff::Backoff;
#[cfg(feature = "nats")]
pub(super) use calm::Calm;
pub(super) use inbox::Inbox;
#[cfg(feature = "amqp")]
pub(super) use link::Connections;
pub(super) use link::{Failed, Link, Opened};
pub(super) use stream::{Input, Stream, dial, failed, secured};

/// How long a message for which there is no memory is kept without its body, before it is returned to its queue. Some
/// queues count deliveries and give a message up.
#[cfg(feature = "amqp")]
pub(super) const FULL_PAUSE: Duration = Duration::from_secs(10);

/// The most bytes of a message that is taken: those of a response of a backend.
pub(super) fn most_bytes(cx: &Compile<'_>) -> u64 {
    let limits = cx.fact::<ServiceLimits>();
    limits.map_or(Options::default().max_upstream_body_bytes, |limits| {
        limits.upstream_body
    })
}
