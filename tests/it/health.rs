//! The health endpoint: the response of the front loop is the same as that of the gateway.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Gateway, Response};

fn ask(gateway: &Gateway, heads: &[&str]) -> Vec<Response> {
    let mut client = gateway.client();
    client.send(heads.concat().as_bytes()).unwrap();
    heads
        .iter()
        .map(|_| client.response("GET").unwrap())
        .collect()
}

fn shape(response: &Response) -> (u16, Vec<String>, Value) {
    let varying = |name: &str| name.eq_ignore_ascii_case("date");
    let mut fields: Vec<String> = response
        .headers
        .iter()
        .filter(|(name, _)| !varying(name))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    fields.sort();
    let mut body: Value = serde_json::from_slice(&response.body).unwrap();
    body["now"] = json!("then");
    (response.status, fields, body)
}

#[test]
fn both_implementations_of_health_send_the_same_bytes() {
    let gateway = Gateway::start(&json!({ "version": 3, "endpoints": [] }).to_string());
    let quick = "GET /__health HTTP/1.1\r\nHost: a\r\n\r\n";
    // A header about the connection sends the request through the gateway.
    let usual = "GET /__health HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let responses = ask(&gateway, &[quick, usual, quick, quick]);
    let expected = shape(&responses[1]);
    assert_eq!(expected.0, 200);
    assert_eq!(expected.2["status"], "ok");
    for response in &responses {
        assert_eq!(shape(response), expected);
    }
    gateway.stop(Duration::from_secs(30));
    let ended = gateway.output();
    let lines = ended.matches(r#"| GET      "/__health""#).count();
    assert_eq!(lines, 4, "{ended}");
}

#[test]
fn steps_that_see_every_request_see_probes_too() {
    let file = json!({
        "version": 3, "endpoints": [],
        "extra_config": { "security/cors": { "allow_origins": ["http://a.test"] } }
    });
    let gateway = Gateway::start(&file.to_string());
    let head = "GET /__health HTTP/1.1\r\nHost: a\r\nOrigin: http://a.test\r\n\r\n";
    let responses = ask(&gateway, &[head]);
    let allowed = |(name, value): &(String, String)| {
        name.eq_ignore_ascii_case("access-control-allow-origin") && value == "http://a.test"
    };
    assert!(responses[0].headers.iter().any(allowed));
    let post = "POST /__health HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(&gateway, &[post])[0].status, 405);
}

/// A port that accepts connections and never responds, like a provider that hangs.
fn hanging() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    (listener, url)
}

fn guarded(url: &str, server: &Value) -> Value {
    json!({ "version": 3,
        "extra_config": { "portcullis/server": server },
        "endpoints": [{ "endpoint": "/a", "timeout": "30s",
            "backend": [{ "host": ["http://127.0.0.1:1"], "url_pattern": "/" }],
            "extra_config": { "auth/validator": {
                "alg": "ES256", "jwk_url": url, "disable_jwk_security": true } } }] })
}

#[test]
fn a_gateway_is_not_ready_before_its_keys_have_come() {
    let (listener, url) = hanging();
    let gateway = Gateway::start(&guarded(&url, &json!({})).to_string());
    let response = gateway.get("/__ready");
    assert_eq!(response.status, 503, "{}", response.text());
    assert_eq!(response.text(), r#"{"status":"waiting for key sets"}"#);
    assert_eq!(gateway.get("/__health").status, 200, "it lives");
    // Now it responds, to the fetch that already waits and to those that follow.
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        // RFC 7515, appendix A.3.
        let keys = r#"{"keys":[{"kid":"k","kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
        for mut socket in listener.incoming().flatten() {
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{keys}", keys.len()).as_bytes(),
            );
        }
    });
    crate::support::eventually("it is ready", Duration::from_secs(30), || {
        gateway.get("/__ready").status == 200
    });
}

#[test]
fn the_key_of_a_signer_counts_like_those_of_validators() {
    let (listener, url) = hanging();
    let port = crate::support::ports::free();
    let mut file = guarded(&url, &json!({}));
    file["extra_config"]["portcullis/metrics"] = json!({ "listen": format!("127.0.0.1:{port}") });
    file["endpoints"][0]["extra_config"] = json!({ "auth/signer": {
        "alg": "HS256", "kid": "k", "keys_to_sign": ["a"], "jwk_url": url, "disable_jwk_security": true } });
    let gateway = Gateway::start(&file.to_string());
    let shows = |line: &str| {
        let mut client = crate::support::Client::connect(port).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        client.response("GET").unwrap().text().contains(line)
    };
    let keys =
        |count: u8| format!("portcullis_jwks_keys{{source=\"{url} (auth/signer /a)\"}} {count}\n");
    assert_eq!(gateway.get("/__ready").status, 503);
    assert!(shows(&keys(0)));
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let keys = r#"{"keys":[{"kid":"k","kty":"oct","k":"a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s"}]}"#;
        for mut socket in listener.incoming().flatten() {
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{keys}", keys.len()).as_bytes(),
            );
        }
    });
    crate::support::eventually("it is ready", Duration::from_secs(20), || {
        gateway.get("/__ready").status == 200
    });
    assert!(shows(&keys(1)));
}

#[test]
fn a_gateway_waits_for_keys_as_long_as_the_file_says() {
    for (wait, first) in [("0s", 200), ("1s", 503)] {
        let (_listener, url) = hanging();
        let file = guarded(&url, &json!({ "ready_wait": wait }));
        let gateway = Gateway::start(&file.to_string());
        if first == 200 {
            assert_eq!(gateway.get("/__ready").status, 200);
        }
        crate::support::eventually("it is ready", Duration::from_secs(30), || {
            gateway.get("/__ready").status == 200
        });
    }
}

#[test]
fn a_provider_that_hangs_costs_a_request_half_a_second() {
    let (_listener, url) = hanging();
    let gateway = Gateway::start(&guarded(&url, &json!({})).to_string());
    // The signature is invalid, which is not checked before there are keys.
    let token = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.eyJleHAiOjQwMDAwMDAwMDB9.c2ln";
    let began = std::time::Instant::now();
    let response = gateway.get_with("/a", &[("Authorization", &format!("Bearer {token}"))]);
    assert_eq!(response.status, 401);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}
