//! The parts of an end-to-end test: the gateway as a process, a stub backend, a client that sends raw bytes.
//!
//! Nothing here uses the library: a test with these parts sees what a real client sees.

// Each test binary compiles its own copy of this module and uses a different part of it.
#![allow(dead_code, unused_imports)]

pub mod amqp;
pub mod collector;
pub mod gateway;
pub mod http;
pub mod json;
pub mod nats;
pub mod ocsp;
pub mod peers;
pub mod ports;
#[cfg(feature = "amqp")]
pub mod rabbit;
pub mod redis;
pub mod sealed;
pub mod stub;
pub mod tls;
pub mod tokens;
pub mod upstream;

pub use collector::Collector;
pub use gateway::Gateway;
pub use http::{Client, Response};
pub use json::Json;
pub use peers::Peer;
pub use redis::Redis;
pub use stub::Stub;
pub use tokens::Signer;
pub use upstream::Upstream;

use std::time::{Duration, Instant};

/// Checks `condition` until it is true; panics with `what` after `limit`.
///
/// Tests use this to wait for something that sends no notification. The test continues as soon as the
/// condition is true, and a slow machine only makes it slower.
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        pause(Duration::from_millis(5));
    }
}

/// Sleeps. The clippy rule against it is for request threads; a test has its own thread.
#[allow(clippy::disallowed_methods)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
