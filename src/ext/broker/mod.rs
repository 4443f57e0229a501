//! Connections to message brokers, which the drivers of NATS and RabbitMQ share.
//!
//! | module | content |
//! |---|---|
//! | `link` | one connection that is opened in the background, and again whenever it is lost |
//! | `inbox` | messages that wait for a request |

mod inbox;
mod link;

pub(super) use inbox::Inbox;
pub(super) use link::{Link, Opened};
