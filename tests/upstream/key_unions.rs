//! Key sets that consist of those of several origins.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use portcullis::internals::upstream::SideTls;
use portcullis::internals::upstream::keys::{
    KeyDocument, KeySetStore, KeySource, Location, Schedule, SourceSpec,
};
use tokio::sync::watch;

use crate::keys::{LONG, Store, words};
use crate::stub::{Reply, Stub, response};

static SOURCE: OnceLock<Arc<KeySource<Observed>>> = OnceLock::new();
/// Whether a fetch was in progress each time that sets were joined.
static FETCHING: Mutex<Vec<bool>> = Mutex::new(Vec::new());

/// A key set that observes its source while it becomes a part of the union.
#[derive(Debug)]
struct Observed;

impl KeyDocument for Observed {
    type Error = &'static str;

    fn parse(_: &Bytes) -> Result<Observed, &'static str> {
        Ok(Observed)
    }

    fn join(_: &[Arc<Observed>]) -> Observed {
        FETCHING
            .lock()
            .unwrap()
            .extend(SOURCE.get().map(|source| source.is_fetching()));
        Observed
    }

    fn key_count(&self) -> usize {
        1
    }
}

/// A request that finds no fetch in progress, and may not start one, must have seen all keys that were fetched.
#[tokio::test]
async fn keys_of_an_origin_are_usable_before_its_fetch_ends() {
    let stub =
        Stub::start(|_| Reply::Close(response(200, "Content-Type: application/json\r\n", "keys")))
            .await;
    let store = Arc::new(KeySetStore::new(HeaderValue::from_static(
        "Portcullis/test",
    )));
    let origins = (0..3).map(|number| format!("{}/{number}", stub.url()));
    let spec = SourceSpec {
        location: Location::Union(origins.collect()),
        tls: SideTls::default(),
    };
    let source = store.source(&spec, Schedule::default()).unwrap();
    SOURCE.set(Arc::clone(&source)).unwrap();
    let (_stop, stopped) = watch::channel(false);
    let running = Arc::clone(&store);
    tokio::spawn(async move { running.run(stopped).await });
    source.first_attempt(LONG).await;
    let fetching = FETCHING.lock().unwrap().clone();
    assert_eq!(fetching, [true; 3]);
}

/// The request saw no keys, and those of one origin came before it began to wait.
#[tokio::test]
async fn a_request_for_a_first_key_waits_for_the_origins_that_are_still_fetched() {
    let stub = Stub::start(|seen| match seen.path() {
        "/slow" => Reply::Hang,
        _ => Reply::Close(response(200, "Content-Type: application/json\r\n", "k1")),
    })
    .await;
    let store = Store::start();
    let origins = ["fast", "slow"].map(|name| format!("{}/{name}", stub.url()));
    let spec = SourceSpec {
        location: Location::Union(origins.into()),
        tls: SideTls::default(),
    };
    let source = store.source(&spec, Schedule::default());
    while words(&source).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    source.ready(LONG, |_| false).await;
    assert!(began.elapsed() >= Duration::from_millis(350));
}
