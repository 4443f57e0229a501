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

/// Whether each `%` is followed by two hexadecimal digits (RFC 3986 §2.1).
pub(super) fn is_escaped(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'%', bytes).all(|at| {
        let digits = bytes.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}
