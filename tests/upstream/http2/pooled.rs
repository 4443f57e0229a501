//! How many connections to one peer are open, and which of them are used.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use portcullis::internals::upstream::{HostSet, HttpVersion, Settings};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Does, Server, says};
use crate::stub::client;

const LIMIT: Duration = Duration::from_secs(20);

/// Waits until `count` of open connections is at most `most`.
async fn falls_to(count: &AtomicUsize, most: usize) {
    let waits = async {
        while count.load(Ordering::SeqCst) > most {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, waits).await;
    assert!(waited.is_ok(), "{} are open", count.load(Ordering::SeqCst));
}

fn settings(per_host: usize) -> Settings {
    Settings {
        http_version: HttpVersion::H2,
        dialer_keep_alive: Some(Duration::from_secs(1)),
        max_idle_connections_per_host: per_host,
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_rejected_stream_is_sent_again_on_the_same_connection() {
    let server = Server::start(|_, nth| match nth % 3 {
        0 => Does::Reject,
        _ => Does::Response,
    })
    .await;
    let hosts = server.hosts();
    for _ in 0..10 {
        assert_eq!(says(&hosts, Method::POST, "body").await.unwrap(), "hello");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_peer_that_rejects_all_streams_has_few_connections() {
    let server = Server::start(|_, _| Does::Reject).await;
    let address = format!("http://{}", server.address);
    let hosts = HostSet::fixed(&client(settings(2)), &[address]);
    for _ in 0..30 {
        assert!(says(&hosts, Method::GET, "").await.is_err());
    }
    assert!(server.connections() > 10);
    // Surplus connections close when the next one is opened, and without a next one within about a second.
    assert!(server.open.load(Ordering::SeqCst) < 10);
    falls_to(&server.open, 2).await;
}

/// A server whose connections accept one stream at a time. When `silent` becomes true, those that are open neither read
/// nor write any more.
struct Narrow {
    url: String,
    open: Arc<AtomicUsize>,
    silent: watch::Sender<bool>,
}

impl Narrow {
    async fn start() -> Narrow {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let open = Arc::new(AtomicUsize::new(0));
        let (silent, _) = watch::channel(false);
        let (counted, becomes) = (Arc::clone(&open), silent.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (counted, mut silent) = (Arc::clone(&counted), becomes.subscribe());
                silent.mark_unchanged();
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut server = h2::server::Builder::new();
                    let shaking = server.max_concurrent_streams(1).handshake(stream);
                    let mut connection: h2::server::Connection<_, bytes::Bytes> =
                        shaking.await.unwrap();
                    loop {
                        tokio::select! {
                            _ = silent.changed() => std::future::pending().await,
                            accepted = connection.accept() => {
                                let Some(Ok((_, mut respond))) = accepted else { break };
                                tokio::spawn(async move {
                                    tokio::time::sleep(Duration::from_millis(300)).await;
                                    respond.send_response(http::Response::new(()), true)
                                });
                            }
                        }
                    }
                    counted.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Narrow { url, open, silent }
    }

    /// Makes eight calls at once, which need several connections.
    async fn burst(&self, hosts: &HostSet) {
        let calls = (0..8).map(|_| says(hosts, Method::GET, ""));
        for response in futures::future::join_all(calls).await {
            response.unwrap();
        }
        assert!(self.open.load(Ordering::SeqCst) > 3);
    }
}

#[tokio::test]
async fn connections_without_streams_beyond_the_limit_are_closed() {
    let server = Narrow::start().await;
    let hosts = HostSet::fixed(&client(settings(3)), std::slice::from_ref(&server.url));
    server.burst(&hosts).await;
    falls_to(&server.open, 3).await;
    says(&hosts, Method::GET, "").await.unwrap();
}

#[tokio::test]
async fn a_silent_peer_costs_one_request_and_not_one_for_each_connection() {
    let server = Narrow::start().await;
    let hosts = HostSet::fixed(&client(settings(20)), std::slice::from_ref(&server.url));
    server.burst(&hosts).await;
    server.silent.send(true).unwrap();
    let limit = Duration::from_secs(2);
    let _ = tokio::time::timeout(limit, says(&hosts, Method::POST, "")).await;
    for _ in 0..3 {
        let response = tokio::time::timeout(LIMIT, says(&hosts, Method::POST, "")).await;
        assert!(response.unwrap().is_ok());
    }
}
