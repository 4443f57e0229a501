//! `auth/client-credentials` with another OAuth2 server (npm's `@node-oauth/oauth2-server`), which is also the backend:
//! it must recognise the tokens that it issued.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Gateway, Peer, Response, eventually, ports};

/// The limit for a broken build. It is long enough for a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The token endpoint and the API.
struct Server(Peer);

impl Server {
    fn start(variables: &[(&str, &str)]) -> Self {
        Self(Peer::start("oauth2.mjs", ports::free(), variables))
    }

    fn log(&self, what: &str) -> Vec<Value> {
        let log = self.0.get("/test/log").json();
        log[what].as_array().unwrap().clone()
    }

    /// The token requests so far.
    fn asked(&self) -> Vec<Value> {
        self.log("token")
    }

    /// The calls to the API so far.
    fn called(&self) -> Vec<Value> {
        self.log("api")
    }

    /// The statuses of the calls since the first `before`.
    fn statuses(&self, before: usize) -> Vec<u64> {
        let called = self.called();
        let status = |call: &Value| call["status"].as_u64().unwrap();
        called[before..].iter().map(status).collect()
    }
}

fn client() -> Value {
    json!({ "client_id": "m2m", "client_secret": "m2m-secret", "scopes": "read" })
}

/// A gateway whose `/api` and, as a stream, `/raw` call the API with these credentials.
fn start(server: &Server, mut credentials: Value) -> Gateway {
    credentials["token_url"] = json!(format!("{}/token", server.0.url()));
    let endpoint = |path: &str, encoding: &str| {
        json!({
            "endpoint": path, "output_encoding": encoding, "timeout": "10s",
            "input_headers": ["Authorization"],
            "backend": [{
                "host": [server.0.url()], "url_pattern": "/api", "encoding": encoding,
                "extra_config": { "auth/client-credentials": credentials }
            }]
        })
    };
    let endpoints = [endpoint("/api", "json"), endpoint("/raw", "no-op")];
    Gateway::start(&json!({ "version": 3, "endpoints": endpoints }).to_string())
}

fn assert_answered(gateway: &Gateway, response: &Response) {
    assert_eq!(response.status, 200, "{}", gateway.output());
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn the_backend_sees_the_token_that_the_server_issued() {
    let server = Server::start(&[]);
    let mut credentials = client();
    credentials["scopes"] = json!("read,write");
    credentials["endpoint_params"] = json!({
        "audience": ["https://api.example.com"], "resource": ["a", "b c"]
    });
    let gateway = start(&server, credentials);
    for path in ["/api", "/raw", "/api"] {
        let response = gateway.get_with(path, &[("Authorization", "Bearer of-the-client")]);
        assert_answered(&gateway, &response);
        let expected = json!({ "client": "m2m", "scope": ["read", "write"] });
        assert_eq!(response.json(), expected, "{path}");
    }
    let asked = server.asked();
    assert_eq!(asked.len(), 1, "one token serves all: {asked:?}");
    assert_eq!(
        (&asked[0]["basic"], &asked[0]["form"]),
        (
            &json!(true),
            &json!(
                "audience=https%3A%2F%2Fapi.example.com&grant_type=client_credentials&resource=a&resource=b+c\
                 &scope=read+write"
            )
        )
    );
    let bearer = format!("Bearer {}", asked[0]["bearer"].as_str().unwrap());
    for call in server.called() {
        assert_eq!(call["authorization"], bearer);
    }
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn the_form_takes_over_where_the_header_is_not_understood() {
    // As short as the margin before its end in which a token is no longer sent: every call requests a new one.
    let server = Server::start(&[("LIFE", "10")]);
    let odd = json!({ "client_id": "a machine", "client_secret": "s3c/ret+", "scopes": "read" });
    let gateway = start(&server, odd);
    for _ in 0..3 {
        let response = gateway.get("/api");
        assert_answered(&gateway, &response);
        assert_eq!(response.json()["client"], "a machine");
    }
    let asked = server.asked();
    let basic: Vec<_> = asked.iter().map(|ask| ask["basic"] == true).collect();
    assert_eq!(basic, [true, false, false, false], "{asked:?}");
    assert_eq!(asked[0]["refused"], "invalid_client");
    assert_eq!(
        asked[1]["form"],
        "client_id=a+machine&client_secret=s3c%2Fret%2B&grant_type=client_credentials&scope=read"
    );
    assert!(!gateway.output().contains("s3c"), "{}", gateway.output());
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn a_scope_decides_which_endpoints_accept_the_token() {
    let server = Server::start(&[]);
    let with = |scopes: &str| {
        let mut credentials = client();
        credentials["scopes"] = json!(scopes);
        start(&server, credentials)
    };
    let writer = with("write");
    assert_eq!(writer.get("/raw").status, 403);
    assert_eq!(server.statuses(0), [403]);
    let stranger = with("read,admin");
    assert_eq!(stranger.get("/api").status, 500);
    assert_eq!(server.called().len(), 1, "no call without a token");
    let log = r#"oauth2: "invalid_scope" "Invalid scope: Requested scope is invalid""#;
    eventually("the refusal is logged", LIMIT, || {
        stranger.output().contains(log)
    });
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn a_server_that_rejects_an_empty_scope_can_be_called_without_it() {
    let server = Server::start(&[]);
    let mut credentials = client();
    credentials["scopes"] = json!("");
    // As KrakenD requests it.
    assert_eq!(start(&server, credentials.clone()).get("/raw").status, 500);
    credentials["trim_scopes"] = json!(true);
    // It is a token, although it permits nothing.
    assert_eq!(start(&server, credentials.clone()).get("/raw").status, 403);
    credentials["scopes"] = json!(" read, ");
    let gateway = start(&server, credentials);
    assert_answered(&gateway, &gateway.get("/raw"));
    let asked = server.asked();
    let rejected: Vec<_> = asked
        .iter()
        .filter_map(|ask| ask["refused"].as_str())
        .collect();
    // Once with the header, once with the form.
    assert_eq!(rejected, ["invalid_scope"; 2], "{asked:?}");
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn a_token_is_replaced_while_it_is_still_good() {
    // Little more than the margin of ten seconds before its end in which a token is no longer sent.
    let server = Server::start(&[("LIFE", "12")]);
    let gateway = start(&server, client());
    eventually("a token is replaced before it ends", LIMIT, || {
        assert_answered(&gateway, &gateway.get("/api"));
        server.asked().windows(2).any(|pair| {
            let (end, next) = (pair[0]["until"].as_u64(), pair[1]["at"].as_u64());
            next < end
        })
    });
    assert!(server.statuses(0).iter().all(|status| *status == 200));
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn a_rejected_token_is_replaced_and_the_call_made_again() {
    let server = Server::start(&[]);
    let gateway = start(&server, client());
    assert_answered(&gateway, &gateway.get("/api"));
    server.0.get("/test/forget");
    // A brand-new token is kept for a second, because its successor would be rejected too.
    eventually("the token is replaced", LIMIT, || {
        let before = server.called().len();
        let response = gateway.get("/api");
        match &*server.statuses(before) {
            [401] => false,
            [401, 200] => {
                assert_answered(&gateway, &response);
                true
            }
            other => panic!("{other:?}: {}", gateway.output()),
        }
    });
    let asked = server.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let last = format!("Bearer {}", asked[1]["bearer"].as_str().unwrap());
    assert_eq!(server.called().last().unwrap()["authorization"], last);
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn a_stream_forwards_a_rejection_and_the_next_one_has_a_new_token() {
    let server = Server::start(&[]);
    let gateway = start(&server, client());
    assert_answered(&gateway, &gateway.get("/raw"));
    server.0.get("/test/forget");
    eventually("the token is replaced", LIMIT, || {
        let before = server.called().len();
        let response = gateway.get("/raw");
        assert_eq!(server.statuses(before), [u64::from(response.status)]);
        response.status == 200
    });
    assert_eq!(server.asked().len(), 2);
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn an_api_that_rejects_every_token_is_not_called_forever() {
    let server = Server::start(&[]);
    let gateway = start(&server, client());
    assert_answered(&gateway, &gateway.get("/api"));
    server.0.get("/test/refuse");
    eventually("a call is made again, once", LIMIT, || {
        let before = server.called().len();
        assert_eq!(gateway.get("/api").status, 500);
        match server.statuses(before).len() {
            1 => false,
            2 => true,
            more => panic!("{more} calls: {}", gateway.output()),
        }
    });
}
