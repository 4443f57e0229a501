//! How many key sets are fetched at a time, in all and from one host.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portcullis::internals::upstream::SideTls;
use portcullis::internals::upstream::keys::{Location, Schedule, SourceSpec};

use crate::keys::{LONG, Provider, Store, words};
use crate::stub::{Reply, Stub, response};

/// One of many documents of a server.
fn at(stub: &Stub, number: usize) -> SourceSpec {
    SourceSpec {
        location: Location::Url(format!("{}/{number}", stub.url())),
        tls: SideTls::default(),
    }
}

#[tokio::test]
async fn at_most_thirty_two_are_fetched_at_a_time_and_awaited_ones_first() {
    let mut stubs = Vec::new();
    for _ in 0..4 {
        stubs.push(Stub::start(|_| Reply::Hang).await);
    }
    let good = Provider::start("k1").await;
    let store = Store::start();
    let sources: Vec<_> = (0..100)
        .map(|number| store.source(&at(&stubs[number % 4], number), Schedule::default()))
        .collect();
    let connections = || stubs.iter().map(Stub::connections).sum::<usize>();
    while connections() < 24 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(connections(), 24, "the rest are kept for requests");
    let waited_for = store.source(&good.spec(), Schedule::default());
    waited_for.first_attempt(LONG).await;
    assert_eq!(words(&waited_for), ["k1"]);
    assert!(!store.store.have_arrived() && waited_for.has_arrived());
    drop(sources);
}

#[tokio::test]
async fn the_origins_of_a_union_are_fetched_within_the_same_limit() {
    let stub = Stub::start(|_| Reply::Hang).await;
    let store = Store::start();
    let origins = (0..100).map(|number| format!("{}/{number}", stub.url()));
    let spec = SourceSpec {
        location: Location::Union(origins.collect()),
        tls: SideTls::default(),
    };
    let source = store.source(&spec, Schedule::default());
    while stub.connections() < 12 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(stub.connections(), 12, "the rest are for other hosts");
    drop(source);
}

/// Nobody waits for any of them, as at a start.
#[tokio::test]
async fn a_host_that_hangs_does_not_delay_others() {
    let stub = Stub::start(|_| Reply::Hang).await;
    let good = Provider::start("k1").await;
    let store = Store::start();
    let sources: Vec<_> = (0..100)
        .map(|number| store.source(&at(&stub, number), Schedule::default()))
        .collect();
    let other = store.source(&good.spec(), Schedule::default());
    while !other.has_arrived() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Each of them lasts five seconds.
    assert!(stub.connections() <= 24, "{}", stub.connections());
    drop(sources);
}

#[tokio::test]
async fn providers_that_fail_leave_slots_to_others() {
    const SOURCES: usize = 100;
    let failed = Arc::new(AtomicUsize::new(0));
    let mut stubs = Vec::new();
    for _ in 0..4 {
        let failed = Arc::clone(&failed);
        let reply = move |_: &_| {
            if failed.fetch_add(1, Ordering::SeqCst) < SOURCES {
                Reply::Close(response(500, "", ""))
            } else {
                Reply::Hang
            }
        };
        stubs.push(Stub::start(reply).await);
    }
    let good = Provider::start("k1").await;
    let store = Store::start();
    let sources: Vec<_> = (0..SOURCES)
        .map(|number| store.source(&at(&stubs[number % 4], number), Schedule::default()))
        .collect();
    let connections = || stubs.iter().map(Stub::connections).sum::<usize>();
    while connections() < SOURCES + 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nobody waits for it.
    let other = store.source(&good.spec(), Schedule::default());
    while !other.has_arrived() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Each of them lasts five seconds.
    assert!(connections() <= SOURCES + 20, "{}", connections());
    drop(sources);
}

/// As at a start: none of them has failed before.
#[tokio::test]
async fn many_hosts_that_hang_delay_others_for_a_second_or_two() {
    let mut stubs = Vec::new();
    for _ in 0..8 {
        stubs.push(Stub::start(|_| Reply::Hang).await);
    }
    let good = Provider::start("k1").await;
    let store = Store::start();
    let sources: Vec<_> = (0..80)
        .map(|number| store.source(&at(&stubs[number % 8], number), Schedule::default()))
        .collect();
    let connections = || stubs.iter().map(Stub::connections).sum::<usize>();
    while connections() < 24 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let began = Instant::now();
    let other = store.source(&good.spec(), Schedule::default());
    while !other.has_arrived() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Each of the others would last five seconds, and three rounds come before it.
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    drop(sources);
}
