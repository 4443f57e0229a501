//! The gateway from outside: a process, a stub to stand behind it, a client that speaks bytes.
//!
//! Nothing here knows the library: a test that uses these parts sees what an operator's client sees.

// Each test binary compiles its own copy of this module and uses another part of it.
#![allow(dead_code, unused_imports)]

pub mod collector;
pub mod gateway;
pub mod http;
pub mod json;
pub mod peers;
pub mod ports;
pub mod redis;
pub mod sealed;
pub mod stub;
pub mod tls;
pub mod tokens;
pub mod upstream;

pub use collector::Collector;
pub use gateway::Gateway;
pub use http::{Answer, Client};
pub use json::Json;
pub use peers::Peer;
pub use redis::Redis;
pub use stub::Stub;
pub use tokens::Signer;
pub use upstream::Upstream;

use std::time::{Duration, Instant};

/// Asks `condition` until it holds; panics with `what` after `limit`.
///
/// This is how a test waits for something it cannot be told about: it goes on at once when the
/// condition holds, and a slow machine only makes it slower.
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        pause(Duration::from_millis(5));
    }
}

/// Sleeps. The clippy rule against it guards request threads; a test's thread is its own.
#[allow(clippy::disallowed_methods)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
