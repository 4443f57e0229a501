//! Connections to message brokers, which the drivers of NATS and RabbitMQ share.
//!
//! | module | content |
//! |---|---|
//! | `link` | one connection that is opened in the background, and again whenever it is lost |
//! | `part` | what is opened on a connection, as soon as there is one |
//! | `inbox` | messages that wait for a request |
//! | `memory` | messages for which there is no memory |
//! | `address`, `stream` | the parts of addresses, and the stream to a broker with or without TLS |

mod address;
mod inbox;
mod link;
#[cfg(feature = "amqp")]
mod memory;
mod part;
mod stream;

use std::time::Duration;

use crate::backoff::Backoff;
use crate::ext::context::{Compile, ServiceLimits};
use crate::runtime::service::Options;

pub(super) use address::{port, without_brackets};
pub(super) use inbox::Inbox;
#[cfg(feature = "amqp")]
pub(super) use link::LINES;
pub(super) use link::{Failed, Link, Opened};
#[cfg(feature = "amqp")]
pub(super) use memory::{FULL_PAUSE, Skipped, has_room, share};
#[cfg(feature = "amqp")]
pub(super) use part::SETUP;
pub(super) use part::{lost, on_connection};
pub(super) use stream::{Input, Stream, dial, failed, secured};

/// The pauses of connections whose addresses name no strategy.
pub(super) const QUICK: Backoff =
    Backoff::doubling(Duration::from_millis(250), Duration::from_secs(60));

/// The most bytes of a message that is taken: those of a response of a backend.
pub(super) fn most_bytes(cx: &Compile<'_>) -> u64 {
    let limits = cx.fact::<ServiceLimits>();
    limits.map_or(Options::default().max_upstream_body_bytes, |limits| {
        limits.upstream_body
    })
}
