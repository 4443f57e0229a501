//! Key sets kept fresh in the background.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use portcullis::internals::upstream::SideTls;
use portcullis::internals::upstream::keys::{
    KeyDocument, KeySetStore, KeySource, Location, Schedule, SourceSpec,
};
use tokio::sync::watch;

use crate::stub::{Reply, Stub, response};

/// A key set for tests: the document's words.
#[derive(Debug, PartialEq)]
pub struct Words(Vec<String>);

impl KeyDocument for Words {
    type Error = &'static str;

    fn parse(document: &Bytes) -> Result<Words, &'static str> {
        let text = std::str::from_utf8(document).map_err(|_| "no text")?;
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            return Err("no Keys has been found");
        }
        Ok(Words(words))
    }

    fn join(sets: &[Arc<Words>]) -> Words {
        Words(sets.iter().flat_map(|set| set.0.clone()).collect())
    }

    fn key_count(&self) -> usize {
        self.0.len()
    }
}

/// A provider whose answer can be changed.
pub struct Provider {
    stub: Stub,
    response: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Provider {
    pub async fn start(keys: &str) -> Provider {
        let response: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
        let stub = Stub::start({
            let response = Arc::clone(&response);
            move |_| match &*response.lock().unwrap() {
                Some(bytes) => Reply::Close(bytes.clone()),
                None => Reply::Hang,
            }
        })
        .await;
        let provider = Provider { stub, response };
        provider.publish(keys);
        provider
    }

    fn publish(&self, keys: &str) {
        self.say(response(
            200,
            "Content-Type: application/json; charset=utf-8\r\n",
            keys,
        ));
    }

    fn say(&self, bytes: Vec<u8>) {
        *self.response.lock().unwrap() = Some(bytes);
    }

    fn hang(&self) {
        *self.response.lock().unwrap() = None;
    }

    fn fetches(&self) -> usize {
        self.stub.connections()
    }

    pub fn spec(&self) -> SourceSpec {
        SourceSpec {
            location: Location::Url(format!("{}/jwks", self.stub.url())),
            tls: SideTls::default(),
        }
    }
}

/// A store with its background task.
pub struct Store {
    pub store: Arc<KeySetStore<Words>>,
    _stop: watch::Sender<bool>,
}

impl Store {
    pub fn start() -> Store {
        let store = Arc::new(KeySetStore::new(HeaderValue::from_static(
            "Portcullis/test",
        )));
        let (stop, stopped) = watch::channel(false);
        let running = Arc::clone(&store);
        tokio::spawn(async move { running.run(stopped).await });
        Store { store, _stop: stop }
    }

    pub fn source(&self, spec: &SourceSpec, schedule: Schedule) -> Arc<KeySource<Words>> {
        self.store.source(spec, schedule).unwrap()
    }
}

pub const SECOND: Duration = Duration::from_secs(1);
pub const LONG: Duration = Duration::from_secs(20);

pub fn words(source: &KeySource<Words>) -> Vec<String> {
    source
        .current()
        .as_ref()
        .map(|now| now.set.0.clone())
        .unwrap_or_default()
}

/// Waits for keys as requests do that come one after the other: after a failure the provider is asked once a second.
pub async fn after_outage(source: &KeySource<Words>) {
    let end = tokio::time::Instant::now() + LONG;
    while source.current().is_none() && tokio::time::Instant::now() < end {
        source.ready(LONG, |_| true).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A fetch for an unknown key, and its end. Requests wait for a shorter time.
pub async fn look_for_unknown(source: &KeySource<Words>) {
    source.refresh_for_unknown(LONG, |_| false).await;
    while source.is_fetching() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn generation(source: &KeySource<Words>) -> u64 {
    source.current().as_ref().unwrap().generation
}

#[tokio::test]
async fn many_cold_requests_cost_one_fetch() {
    let provider = Provider::start("k1 k2").await;
    let store = Store::start();
    let source = store.source(&provider.spec(), Schedule::default());
    let waits: Vec<_> = (0..50).map(|_| source.ready(LONG, |_| true)).collect();
    futures::future::join_all(waits).await;
    source.first_attempt(LONG).await;
    assert_eq!(words(&source), ["k1", "k2"]);
    assert_eq!(provider.fetches(), 1);
    let head = &provider.stub.seen()[0];
    assert!(head.head.starts_with("GET /jwks HTTP/1.1"), "{}", head.head);
    assert!(
        head.head
            .to_lowercase()
            .contains("user-agent: portcullis/test")
    );
}

#[tokio::test]
async fn a_new_key_is_found_at_once_and_a_storm_of_unknown_ones_costs_nothing() {
    let provider = Provider::start("k1").await;
    let store = Store::start();
    let source = store.source(&provider.spec(), Schedule::default());
    source.first_attempt(LONG).await;
    let before = generation(&source);
    let began = std::time::Instant::now();
    provider.publish("k1 k2");
    let storm: Vec<_> = (0..100)
        .map(|_| source.refresh_for_unknown(LONG, |_| false))
        .collect();
    futures::future::join_all(storm).await;
    look_for_unknown(&source).await;
    assert_eq!(words(&source), ["k1", "k2"]);
    assert_ne!(generation(&source), before);
    assert_eq!(provider.fetches(), 2);
    for _ in 0..100 {
        // The next one may be a second later, which passes only on a machine that stalls.
        let looked = source.refresh_for_unknown(LONG, |_| false).await;
        assert!(!looked || began.elapsed() >= SECOND);
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!(provider.fetches() <= 2 + seconds);
}

#[tokio::test]
async fn the_same_document_keeps_its_generation() {
    let provider = Provider::start("k1").await;
    let store = Store::start();
    let source = store.source(&provider.spec(), Schedule::default());
    source.first_attempt(LONG).await;
    let before = generation(&source);
    look_for_unknown(&source).await;
    assert_eq!((generation(&source), provider.fetches()), (before, 2));
}

#[tokio::test]
async fn a_hanging_provider_does_not_delay_requests_with_a_known_key() {
    let provider = Provider::start("k1").await;
    let other = Provider::start("o1").await;
    let store = Store::start();
    let source = store.source(&provider.spec(), Schedule::default());
    source.first_attempt(LONG).await;
    provider.hang();
    let started = std::time::Instant::now();
    assert!(
        !source
            .refresh_for_unknown(Duration::from_millis(50), |_| false)
            .await
    );
    assert_eq!(words(&source), ["k1"]);
    let cold = store.source(&other.spec(), Schedule::default());
    cold.first_attempt(LONG).await;
    assert_eq!(words(&cold), ["o1"]);
    assert!(started.elapsed() < 15 * SECOND);
}

#[tokio::test]
async fn requests_get_keys_a_second_after_an_outage() {
    let provider = Provider::start("k1").await;
    provider.say(response(500, "Content-Type: application/json\r\n", "k1"));
    let store = Store::start();
    let source = store.source(&provider.spec(), Schedule::default());
    source.first_attempt(LONG).await;
    assert!(source.current().is_none(), "a 500 is no key set");
    let status = source.status();
    assert!(status.last_error.unwrap().contains("500"));
    provider.publish("k1");
    after_outage(&source).await;
    assert_eq!(words(&source), ["k1"]);
    assert_eq!(source.status().last_error, None);
}

#[tokio::test]
async fn the_last_good_set_stays_until_its_stale_limit() {
    let provider = Provider::start("k1").await;
    let store = Store::start();
    let schedule = Schedule {
        life: SECOND,
        stale: 6 * SECOND,
        cooldown: Duration::ZERO,
    };
    let source = store.source(&provider.spec(), schedule);
    source.first_attempt(LONG).await;
    provider.say(response(503, "", ""));
    while !source.status().stale {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(source.current().is_some());
    }
    let dropped = async {
        while source.current().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, dropped).await.unwrap();
}

#[tokio::test]
async fn a_document_that_cannot_be_trusted_is_not_used() {
    let json = "Content-Type: application/json\r\n";
    let large = "x".repeat((1 << 20) + 1);
    for bad in [
        response(200, "Content-Type: text/html\r\n", "k1"),
        response(200, "", "k1"),
        response(404, json, "k1"),
        response(200, json, ""),
        response(200, json, &large),
        format!("HTTP/1.1 200 OK\r\n{json}\r\n{large}").into(),
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\nk1"
            .to_vec(),
    ] {
        let provider = Provider::start("k1").await;
        provider.say(bad);
        let store = Store::start();
        let source = store.source(&provider.spec(), Schedule::default());
        source.first_attempt(LONG).await;
        assert!(source.current().is_none());
        assert_eq!(source.status().failures, 1);
    }
    let provider = Provider::start("").await;
    provider.say(response(
        200,
        "Content-Type: application/jwk-set+json\r\n",
        "k1",
    ));
    let store = Store::start();
    let source = store.source(&provider.spec(), Schedule::default());
    source.first_attempt(LONG).await;
    assert!(source.current().is_some());
}

#[tokio::test]
async fn sources_are_shared_only_if_their_whole_specification_is_equal() {
    let provider = Provider::start("k1").await;
    let store = Store::start();
    let spec = provider.spec();
    let source = store.source(&spec, Schedule::default());
    assert!(Arc::ptr_eq(
        &source,
        &store.source(&spec, Schedule::default())
    ));
    let pinned = SourceSpec {
        tls: SideTls {
            pins: vec![[1; 32]],
            ..SideTls::default()
        },
        ..spec
    };
    let other = store.source(&pinned, Schedule::default());
    assert!(!Arc::ptr_eq(&source, &other));
    source.first_attempt(LONG).await;
    other.first_attempt(LONG).await;
    assert_ne!(generation(&source), generation(&other));
    assert_eq!(store.store.status().len(), 2);
}

#[tokio::test]
async fn an_issuer_is_discovered_and_must_name_itself() {
    static WRONG: AtomicUsize = AtomicUsize::new(0);
    let stub = Stub::start(|seen| {
        let host = seen
            .head
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .unwrap();
        let json = "Content-Type: application/json\r\n";
        Reply::Close(match seen.path() {
            "/realm/.well-known/openid-configuration" => {
                let path = ["realm", "other"][WRONG.load(Ordering::SeqCst)];
                let body =
                    format!(r#"{{"issuer":"http://{host}/{path}","jwks_uri":"http://{host}/k"}}"#);
                response(200, json, &body)
            }
            "/k" => response(200, json, "k1"),
            _ => response(404, "", ""),
        })
    })
    .await;
    let spec = SourceSpec {
        location: Location::Issuer {
            issuer: format!("{}/realm", stub.url()),
            document: None,
        },
        tls: SideTls::default(),
    };
    let store = Store::start();
    let source = store.source(&spec, Schedule::default());
    source.first_attempt(LONG).await;
    assert_eq!(words(&source), ["k1"], "{:?}", source.status());
    WRONG.store(1, Ordering::SeqCst);
    let fresh = Store::start();
    let source = fresh.source(&spec, Schedule::default());
    source.first_attempt(LONG).await;
    assert!(source.current().is_none());
    assert!(source.status().last_error.unwrap().contains("names issuer"));
}

#[tokio::test]
async fn a_file_is_read_at_start_and_a_missing_one_is_an_error() {
    let store = Store::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let spec = SourceSpec {
        location: Location::File(path.clone()),
        tls: SideTls::default(),
    };
    assert!(store.store.source(&spec, Schedule::default()).is_err());
    std::fs::write(&path, "k1").unwrap();
    let source = store.source(&spec, Schedule::default());
    assert_eq!(words(&source), ["k1"]);
}

#[tokio::test]
async fn a_key_that_is_used_before_it_is_published_is_found_within_a_second_or_two() {
    let provider = Provider::start("k1").await;
    let store = Store::start();
    let source = store.source(&provider.spec(), Schedule::default());
    source.first_attempt(LONG).await;
    // Somebody shows a token with the new key too early, and again and again.
    look_for_unknown(&source).await;
    assert_eq!(words(&source), ["k1"]);
    provider.publish("k1 k2");
    let published = std::time::Instant::now();
    while words(&source) != ["k1", "k2"] {
        source.refresh_for_unknown(LONG, |_| false).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(published.elapsed() < LONG, "it waits for the cool-down");
    }
}

#[tokio::test]
async fn forged_ids_cost_few_fetches_and_fewer_the_longer_they_come() {
    let provider = Provider::start("k1").await;
    let store = Store::start();
    let source = store.source(&provider.spec(), Schedule::default());
    source.first_attempt(LONG).await;
    let began = std::time::Instant::now();
    while began.elapsed() < 4 * SECOND {
        source.refresh_for_unknown(LONG, |_| false).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // One at once, and one a second.
    let forced = provider.fetches() - 1;
    let most = 1 + usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!((2..=most).contains(&forced), "{forced} fetches");
}

#[tokio::test]
async fn a_document_that_trickles_ends_at_its_deadline() {
    let stub = Stub::start(|_| {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n";
        Reply::Trickle(head.into(), b"k1 ".repeat(300), Duration::from_millis(100))
    })
    .await;
    let spec = SourceSpec {
        location: Location::Url(format!("{}/jwks", stub.url())),
        tls: SideTls::default(),
    };
    let store = Store::start();
    let source = store.source(&spec, Schedule::default());
    let began = std::time::Instant::now();
    source.first_attempt(2 * LONG).await;
    while source.status().last_error.is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(began.elapsed() < LONG, "nobody ends it");
    }
    let error = source.status().last_error.unwrap();
    assert!(error.contains("no complete response within 5s"), "{error}");
}

#[tokio::test]
async fn an_origin_without_keys_counts_as_failed_and_does_not_affect_the_others() {
    let (good, empty) = (Provider::start("k1").await, Provider::start("").await);
    let store = Store::start();
    let url = |provider: &Provider| format!("{}/jwks", provider.stub.url());
    let spec = SourceSpec {
        location: Location::Union(vec![url(&empty), url(&good)]),
        tls: SideTls::default(),
    };
    let source = store.source(&spec, Schedule::default());
    source.first_attempt(LONG).await;
    assert_eq!(words(&source), ["k1"]);
    let status = source.status();
    assert!(status.failures > 0 && status.stale, "{status:?}");
    assert!(!source.has_arrived() && !store.store.have_arrived());
    let expected = format!("{}: no Keys has been found", url(&empty));
    assert_eq!(status.last_error, Some(expected));
}
