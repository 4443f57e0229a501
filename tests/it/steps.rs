//! Spans of steps that wait, and the trace of a WebSocket.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::collector::Span;
use crate::support::{Client, Signer, Stub, Upstream, tokens};
use crate::telemetry::{CLIENT, CLIENTS, CLIENTS_TRACE, INTERNAL, Rig, SERVER, a, find, grpc};

/// The span whose id is the parent of `span`.
fn parent<'s>(spans: &'s [Span], span: &Span) -> &'s Span {
    let found = spans.iter().find(|it| it.id == span.parent);
    found.unwrap_or_else(|| panic!("no parent of {span:?}"))
}

#[test]
fn a_token_check_that_waits_for_keys_is_a_span() {
    let signer = Signer::es256("k");
    let keys = Stub::with(
        &json!([{"path": "/jwks", "delay_ms": 300, "headers": {"Content-Type": "application/json"},
            "body": signer.jwks()}])
        .to_string(),
    );
    let endpoint = json!({"endpoint": "/me", "backend": [{"url_pattern": "/x/me"}],
        "extra_config": {"auth/validator": {"alg": "ES256", "audience": ["api"],
            "jwk_url": format!("{}/jwks", keys.url()), "disable_jwk_security": true}}});
    let rig = Rig::of(grpc(), json!([endpoint]));
    let bearer = format!("Bearer {}", signer.token(&tokens::claims("api")));
    // An unknown key makes the gateway look for newer ones.
    let other = Signer::es256("other");
    let unknown = format!("Bearer {}", other.token(&tokens::claims("api")));
    assert_eq!(rig.get("/me", &[("Authorization", &unknown)]), 401);
    assert_eq!(rig.get("/me", &[("Authorization", &bearer)]), 200);
    let spans = rig.collector.wait_for_spans(7);
    let waits: Vec<&Span> = spans
        .iter()
        .filter(|span| span.name == "auth/validator")
        .collect();
    assert_eq!(
        waits.len(),
        1,
        "a token whose key is there does not wait: {spans:#?}"
    );
    let wait = waits[0];
    assert_eq!(
        (wait.kind, &wait.attributes["krakend.stage"]),
        (INTERNAL, &json!("step"))
    );
    assert!(wait.end - wait.start >= 100_000_000, "{wait:?}");
    let server = parent(&spans, wait);
    assert_eq!(
        (server.kind, &server.attributes["http.response.status_code"]),
        (SERVER, &json!(401))
    );
    assert!(server.start <= wait.start && wait.end <= server.end);
}

#[cfg(feature = "lua")]
#[test]
fn scripts_are_spans_where_they_run() {
    let script = |pre: &str, post: &str| json!({"pre": pre, "post": post, "allow_open_libs": true});
    let endpoint = json!({"endpoint": "/l",
    "extra_config": {
        "modifier/lua-endpoint": {"pre": "local c = ctx.load(); c:headers('x-a', '1')"},
        "modifier/lua-proxy": script("local r = request.load(); r:method('GET')", "local r = response.load(); r:isComplete(true)"),
    },
    "backend": [{"url_pattern": "/x/l", "extra_config": {
        "modifier/lua-backend": script("local r = request.load(); r:method('GET')", "local r = response.load(); r:isComplete(true)")
    }}]});
    let rig = Rig::of(grpc(), json!([endpoint, a()]));
    assert_eq!(rig.get("/l", &[]), 200);
    let spans = rig.collector.wait_for_spans(10);
    let named = |name: &str| -> Vec<&Span> { spans.iter().filter(|it| it.name == name).collect() };
    let of_endpoint = named("modifier/lua-endpoint");
    assert_eq!(of_endpoint.len(), 1, "{spans:#?}");
    assert_eq!(parent(&spans, of_endpoint[0]).kind, SERVER);
    for (name, stage) in [
        ("modifier/lua-proxy", "proxy"),
        ("modifier/lua-backend", "backend"),
    ] {
        let runs = named(name);
        assert_eq!(runs.len(), 2, "before and after: {name}");
        for run in runs {
            assert_eq!(
                parent(&spans, run).attributes["krakend.stage"],
                stage,
                "{name}"
            );
        }
    }
    rig.collector.forget();
    assert_eq!(rig.get("/a", &[]), 200);
    assert_eq!(rig.collector.wait_for_spans(5).len(), 5, "no step, no span");
}

#[test]
fn a_token_that_must_be_fetched_for_a_backend_is_a_span_of_its_call() {
    let issuer = Stub::with(
        &json!([{"path": "/token", "delay_ms": 200, "headers": {"Content-Type": "application/json"},
            "body": {"access_token": "t", "token_type": "Bearer", "expires_in": 3600}}])
        .to_string(),
    );
    let endpoint = json!({"endpoint": "/c", "backend": [{"url_pattern": "/x/c", "extra_config": {
        "auth/client-credentials": {"client_id": "i", "client_secret": "s", "token_url": format!("{}/token", issuer.url())}
    }}]});
    let rig = Rig::of(grpc(), json!([endpoint]));
    assert_eq!(rig.get("/c", &[]), 200);
    let spans = rig.collector.wait_for_spans(5);
    // A token that came before the request needs no wait.
    if let Some(wait) = spans.iter().find(|it| it.name == "auth/client-credentials") {
        assert_eq!(parent(&spans, wait).attributes["krakend.stage"], "backend");
    }
}

fn upgrade() -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\ntraceparent: {CLIENTS}\r\n\r\n"
    )
}

#[test]
fn a_websocket_belongs_to_its_clients_trace() {
    let backend = Upstream::start(|mut call| {
        call.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        )?;
        crate::support::pause(Duration::from_millis(300));
        Ok(())
    });
    let endpoint: Value = json!({"endpoint": "/ws", "output_encoding": "no-op",
        "backend": [{"host": [backend.url()], "url_pattern": "/ws"}],
        "extra_config": {"portcullis/stream": {"upgrade": true}}});
    let rig = Rig::of(grpc(), json!([endpoint]));
    let mut client: Client = rig.gateway.client();
    client.send(upgrade()).unwrap();
    assert_eq!(client.any_head().unwrap().status, 101);
    let spans = rig.collector.wait_for_spans(4);
    let trip = find(&spans, "/ws", CLIENT);
    assert_eq!(trip.trace, CLIENTS_TRACE);
    assert_eq!(trip.attributes["http.response.status_code"], 101);
    assert_eq!(parent(&spans, trip).attributes["krakend.stage"], "backend");
    let heads = backend.heads();
    let wanted = format!("traceparent: 00-{CLIENTS_TRACE}-{}-01", trip.id);
    assert!(
        heads[0].to_lowercase().contains(&wanted),
        "{wanted}\n{}",
        heads[0]
    );
}

#[test]
fn a_rejected_websocket_is_a_failed_round_trip() {
    let backend = Upstream::raw("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let endpoint = json!({"endpoint": "/ws", "output_encoding": "no-op",
        "backend": [{"host": [backend.url()], "url_pattern": "/ws"}],
        "extra_config": {"portcullis/stream": {"upgrade": true}}});
    let rig = Rig::of(grpc(), json!([endpoint]));
    let mut client = rig.gateway.client();
    client.send(upgrade()).unwrap();
    assert_eq!(client.response("GET").unwrap().status, 403);
    let spans = rig.collector.wait_for_spans(4);
    let trip = find(&spans, "/ws", CLIENT);
    assert_eq!(
        (trip.status, &trip.attributes["error.type"]),
        (2, &json!("403"))
    );
}
