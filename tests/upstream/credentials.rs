//! Tokens for ourselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use portcullis::internals::upstream::{ClientCredentials, SideTls, TokenSource, TokenStore};
use tokio::sync::watch;

use crate::stub::{Reply, Seen, Stub, dead_port, response};

const LONG: Duration = Duration::from_secs(20);

/// A store with its background task.
struct Store {
    store: Arc<TokenStore>,
    _stop: watch::Sender<bool>,
}

impl Store {
    fn start() -> Store {
        let store = Arc::new(TokenStore::new(HeaderValue::from_static("Portcullis/test")));
        let (stop, stopped) = watch::channel(false);
        let running = Arc::clone(&store);
        tokio::spawn(async move { running.run(stopped).await });
        Store { store, _stop: stop }
    }

    fn source(&self, base: &str) -> Arc<TokenSource> {
        self.store.source(&credentials(base)).unwrap()
    }
}

fn credentials(base: &str) -> ClientCredentials {
    ClientCredentials {
        client_id: "id".to_owned(),
        client_secret: "secret".to_owned(),
        token_url: format!("{base}/token"),
        scope: Some(String::new()),
        params: Vec::new(),
        tls: SideTls::default(),
    }
}

#[tokio::test]
async fn a_secret_goes_to_no_other_server() {
    let elsewhere = issuer(60).await;
    let location = format!("Location: {}/token\r\n", elsewhere.url());
    let stub = Stub::start(move |_| Reply::Close(response(307, &location, ""))).await;
    let store = Store::start();
    let source = store.source(&stub.url());
    let error = source.fetch(LONG).await.unwrap_err();
    assert!(error.to_string().contains("307"), "{error}");
    assert!(elsewhere.seen().is_empty());
}

/// Numbers its tokens; they live `seconds`.
async fn issuer(seconds: u64) -> Stub {
    let count = AtomicUsize::new(0);
    Stub::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::Keep(token(&format!(
            r#"{{"access_token":"t{number}","expires_in":{seconds}}}"#
        )))
    })
    .await
}

fn token(body: &str) -> Vec<u8> {
    response(200, "Content-Type: application/json\r\n", body)
}

fn is_basic(seen: &Seen) -> bool {
    seen.head.contains("authorization: Basic aWQ6c2VjcmV0")
}

#[tokio::test]
async fn the_first_token_is_fetched_on_first_use_and_shared() {
    let stub = issuer(3600).await;
    let store = Store::start();
    let source = store.source(&stub.url());
    assert!(Arc::ptr_eq(&source, &store.source(&stub.url())));
    assert!(source.ready().is_none());
    let waits: Vec<_> = (0..50).map(|_| source.fetch(LONG)).collect();
    for value in futures::future::join_all(waits).await {
        assert_eq!(value.unwrap(), "Bearer t1");
    }
    assert_eq!(source.ready().unwrap(), "Bearer t1");
    let seen = stub.seen();
    assert_eq!((seen.len(), is_basic(&seen[0])), (1, true));
    assert!(seen[0].head.starts_with("POST /token HTTP/1.1"));
    assert_eq!(seen[0].body, b"grant_type=client_credentials&scope=");
}

#[tokio::test]
async fn a_server_that_needs_the_secret_in_the_form_gets_it_there_afterwards() {
    let stub = Stub::start(|seen| {
        Reply::Keep(if is_basic(seen) {
            response(401, "", "no")
        } else {
            token(r#"{"access_token":"t","expires_in":5}"#)
        })
    })
    .await;
    let store = Store::start();
    let source = store.source(&stub.url());
    assert_eq!(source.fetch(LONG).await.unwrap(), "Bearer t");
    assert!(
        source.ready().is_none(),
        "five seconds are within the margin"
    );
    assert_eq!(source.fetch(LONG).await.unwrap(), "Bearer t");
    let seen = stub.seen();
    assert_eq!(
        seen.iter().map(is_basic).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert_eq!(
        seen[2].body,
        b"client_id=id&client_secret=secret&grant_type=client_credentials&scope="
    );
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_moment() {
    let stub = Stub::start(|_| Reply::Keep(response(503, "", "down"))).await;
    let store = Store::start();
    let source = store.source(&stub.url());
    let began = std::time::Instant::now();
    for _ in 0..10 {
        let error = source.fetch(LONG).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "oauth2: cannot fetch token: 503 Service Unavailable; its body of 4 bytes is not shown"
        );
    }
    // Two calls, and two more for each second that a slow machine takes for this.
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    let calls = stub.seen().len();
    assert!((2..=2 + 2 * seconds).contains(&calls), "{calls} calls");
}

#[tokio::test]
async fn a_missing_endpoint_is_named() {
    let dead = dead_port().await;
    let store = Store::start();
    let source = store.source(&format!("http://{dead}"));
    let error = source.fetch(LONG).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!("Post \"http://{dead}/token\": dial tcp {dead}: connect: connection refused")
    );
}

#[tokio::test]
async fn an_unresponsive_endpoint_costs_a_call_no_more_than_its_own_time() {
    let stub = Stub::start(|_| Reply::Hang).await;
    let store = Store::start();
    let source = store.source(&stub.url());
    let error = source.fetch(Duration::from_millis(30)).await.unwrap_err();
    assert_eq!(error.to_string(), "context deadline exceeded");
}

#[tokio::test]
async fn a_token_in_use_is_renewed_before_it_expires() {
    let stub = issuer(11).await;
    let store = Store::start();
    let source = store.source(&stub.url());
    source.fetch(LONG).await.unwrap();
    let renewed = async {
        while stub.seen().len() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, renewed).await.unwrap();
}

#[tokio::test]
async fn a_rejected_token_is_dropped_once() {
    let stub = issuer(3600).await;
    let store = Store::start();
    let source = store.source(&stub.url());
    let began = std::time::Instant::now();
    let value = source.fetch(LONG).await.unwrap();
    let dropped = source.rejected(&value);
    if began.elapsed() >= Duration::from_secs(1) {
        eprintln!("not tested: this machine is too slow to be in time");
        return;
    }
    assert!(!dropped, "it is brand new");
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert!(source.rejected(&HeaderValue::from_static("Bearer old")));
    assert!(source.ready().is_some());
    assert!(source.rejected(&value));
    assert!(source.ready().is_none());
    assert_eq!(source.fetch(LONG).await.unwrap(), "Bearer t2");
}
