//! What is sent again, and what is not.

use http::Method;
use portcullis::internals::upstream::CallErrorKind;

use crate::stub::{OPTIONS, Reply, Stub, call, get, ok};

/// Answers the first request of the first connection, and closes it at the second.
async fn stale_after_one() -> Stub {
    Stub::start(|seen| match (seen.connection, seen.path()) {
        (1, "/first") => Reply::Keep(ok("first")),
        (1, _) => Reply::Close(Vec::new()),
        _ => Reply::Keep(ok("again")),
    })
    .await
}

#[tokio::test]
async fn a_safe_call_survives_a_dead_pooled_connection() {
    let stub = stale_after_one().await;
    let hosts = stub.hosts();
    hosts.call(get("/first"), &OPTIONS).await.unwrap();
    let incoming = hosts.call(get("/second"), &OPTIONS).await.unwrap();
    assert_eq!(&*incoming.body, b"again");
    assert_eq!(stub.connections(), 2);
}

#[tokio::test]
async fn unsafe_requests_are_never_sent_twice() {
    for (method, told, body) in [
        (Method::POST, "Post", "x"),
        (Method::PUT, "Put", ""),
        (Method::DELETE, "Delete", ""),
    ] {
        let stub = stale_after_one().await;
        let hosts = stub.hosts();
        hosts.call(get("/first"), &OPTIONS).await.unwrap();
        let out = call(method, "/second", &[], body);
        let error = hosts.call(out, &OPTIONS).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::Broken);
        let text = format!("{told} \"{}/second\": EOF", stub.url());
        assert_eq!(error.to_string(), text);
        assert_eq!(stub.seen().len(), 2);
    }
}

#[tokio::test]
async fn a_safe_call_is_sent_again_with_its_body() {
    let stub = stale_after_one().await;
    let hosts = stub.hosts();
    hosts.call(get("/first"), &OPTIONS).await.unwrap();
    let out = call(Method::GET, "/second", &[], "abc");
    let incoming = hosts.call(out, &OPTIONS).await.unwrap();
    assert_eq!(&*incoming.body, b"again");
    assert!(stub.seen()[1..].iter().all(|seen| seen.body == b"abc"));
}

#[tokio::test]
async fn a_retry_happens_once_and_never_on_a_fresh_connection() {
    let stub = Stub::start(|_| Reply::Close(Vec::new())).await;
    assert!(stub.hosts().call(get("/"), &OPTIONS).await.is_err());
    assert_eq!(stub.connections(), 1);
}
