//! Hostile bytes: the response to each class, and that none of it reaches a backend.

mod backends;
mod bodies;
mod heads;

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{
    Client, Gateway, Response, Signer, Stub, Upstream, eventually, pause, tokens,
};

/// A composed and a streamed endpoint, one with a parameter, one that needs a token.
fn config(backend: &str) -> Value {
    let to = |path: &str| json!([{ "host": [backend], "url_pattern": path }]);
    let streamed = json!([{ "host": [backend], "url_pattern": "/stream", "encoding": "no-op" }]);
    json!({
        "version": 3,
        "timeout": "20s",
        "endpoints": [
            { "endpoint": "/get", "input_headers": ["*"], "input_query_strings": ["*"], "backend": to("/get") },
            { "endpoint": "/json", "method": "POST", "input_headers": ["*"], "backend":
                [{ "host": [backend], "url_pattern": "/json", "method": "POST" }] },
            { "endpoint": "/stream", "method": "POST", "output_encoding": "no-op", "input_headers": ["*"],
              "backend": [{ "host": [backend], "url_pattern": "/stream", "method": "POST", "encoding": "no-op" }] },
            { "endpoint": "/streamed", "output_encoding": "no-op", "input_headers": ["*"], "backend": streamed },
            { "endpoint": "/items/{id}", "backend": to("/items/{id}") },
        ]
    })
}

const ANY: &str = r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#;

/// Sends raw requests. Each must get one of the statuses, be followed by a close, and not reach the backend.
fn rejected(cases: &[(&str, Vec<u8>, &[u16])]) {
    let stub = Stub::with(ANY);
    let gateway = Gateway::start(&config(&stub.url()).to_string());
    let mut wrong = Vec::new();
    for (what, bytes, statuses) in cases {
        let mut client = gateway.client();
        let _ = client.send(bytes);
        let fault = match client.response("GET") {
            Err(e) => Some(format!("no answer: {e}")),
            Ok(response) if !statuses.contains(&response.status) => Some(format!(
                "status {}, want one of {statuses:?}",
                response.status
            )),
            Ok(_) if !client.is_closed_by_peer() => Some("the connection stays open".to_owned()),
            Ok(_) => None,
        };
        wrong.extend(fault.map(|f| format!("{what}: {f}")));
        for seen in stub.take_seen() {
            wrong.push(format!(
                "{what}: the backend saw {} {}",
                seen.method, seen.path
            ));
        }
    }
    assert_eq!(gateway.get("/get").status, 200, "the gateway still serves");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn get(head: &str) -> Vec<u8> {
    format!("GET /get HTTP/1.1\r\n{head}\r\n").into_bytes()
}

fn post(path: &str, head: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{body}").into_bytes()
}

#[test]
fn an_ambiguous_body_length_is_400_and_ends_the_connection() {
    let bad: &[u16] = &[400];
    let coding: &[u16] = &[400, 501];
    let mut cases = Vec::new();
    for path in ["/json", "/stream"] {
        let both = "Content-Length: 5\r\nTransfer-Encoding: chunked";
        let te = |v: &str| format!("Transfer-Encoding: {v}");
        let cl = |v: &str| format!("Content-Length: {v}");
        cases.push(("length and chunked", post(path, both, "0\r\n\r\nX"), bad));
        cases.push((
            "chunked and length",
            post(path, &(te("chunked") + "\r\n" + &cl("5")), "0\r\n\r\n"),
            bad,
        ));
        cases.push((
            "two lengths",
            post(path, &(cl("2") + "\r\n" + &cl("3")), "{}x"),
            bad,
        ));
        cases.push((
            "two lengths in one field",
            post(path, &cl("2, 3"), "{}x"),
            bad,
        ));
        for value in [
            "+2",
            "-2",
            "0x2",
            "2.0",
            "abc",
            "",
            "2 2",
            "99999999999999999999999",
        ] {
            cases.push(("an odd length", post(path, &cl(value), "{}"), bad));
        }
        for value in [
            "gzip",
            "chunked, gzip",
            "identity",
            "xchunked",
            "chunked, chunked",
            "\"chunked\"",
        ] {
            cases.push(("an odd coding", post(path, &te(value), "0\r\n\r\n"), coding));
        }
        cases.push((
            "a coding twice",
            post(path, &(te("chunked") + "\r\n" + &te("gzip")), "0\r\n\r\n"),
            coding,
        ));
        let old = format!(
            "POST {path} HTTP/1.0\r\nHost: a\r\n{}\r\n\r\n0\r\n\r\n",
            te("chunked")
        );
        cases.push(("chunked in HTTP/1.0", old.into_bytes(), bad));
    }
    rejected(&cases);
}

#[test]
fn ambiguous_lines_of_a_head_are_400_and_end_the_connection() {
    let bad: &[u16] = &[400];
    let line = |l: &str| get(&format!("Host: a\r\n{l}\r\n"));
    rejected(&[
        ("obs-fold", line("X-A: 1\r\n 2"), bad),
        ("a blank before the colon", line("X-A : 1"), bad),
        ("a blank in a name", line("X A: 1"), bad),
        ("no colon", line("X-A"), bad),
        ("no name", line(": 1"), bad),
        ("a bare CR in a value", line("X-A: 1\r2"), bad),
        ("NUL in a value", line("X-A: 1\x002"), bad),
        ("NUL in a name", line("X\0A: 1"), bad),
        ("a bare LF", b"GET /get HTTP/1.1\nHost: a\n\n".to_vec(), bad),
        (
            "a bare LF inside",
            b"GET /get HTTP/1.1\r\nHost: a\nX-A: 1\r\n\r\n".to_vec(),
            bad,
        ),
        ("two Hosts", line("Host: b"), bad),
        ("the same Host twice", line("Host: a"), bad),
        ("no Host", get("X-A: 1\r\n"), bad),
        ("an odd Host", get("Host: a/b\r\n"), bad),
        (
            "an odd method",
            b"G@T{} /get HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            bad,
        ),
        (
            "NUL in the target",
            b"GET /get\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            bad,
        ),
        (
            "a version from the future",
            b"GET /get HTTP/3.7\r\nHost: a\r\n\r\n".to_vec(),
            &[400, 505],
        ),
        ("no version", b"GET /get\r\nHost: a\r\n\r\n".to_vec(), bad),
        (
            "CONNECT",
            b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".to_vec(),
            &[400, 405],
        ),
    ]);
}

#[test]
fn a_broken_chunk_is_400_and_never_a_complete_request() {
    let mut cases: Vec<(&str, Vec<u8>, &[u16])> = Vec::new();
    let long = format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "e".repeat(100_000));
    for path in ["/json", "/stream"] {
        for (what, body) in [
            ("0x before a size", "0x2\r\n{}\r\n0\r\n\r\n"),
            ("+ before a size", "+2\r\n{}\r\n0\r\n\r\n"),
            ("- before a size", "-2\r\n{}\r\n0\r\n\r\n"),
            ("a blank before a size", " 2\r\n{}\r\n0\r\n\r\n"),
            ("no size", "\r\n{}\r\n0\r\n\r\n"),
            (
                "a size beyond 64 bits",
                "10000000000000002\r\n{}\r\n0\r\n\r\n",
            ),
            ("a bare LF after a size", "2\n{}\r\n0\r\n\r\n"),
            ("a bare CR after a size", "2\r{}\r\n0\r\n\r\n"),
            ("no CRLF after the data", "2\r\n{}0\r\n\r\n"),
            ("other bytes after the data", "2\r\n{}xx0\r\n\r\n"),
            ("an endless extension", long.as_str()),
        ] {
            cases.push((
                what,
                post(path, "Transfer-Encoding: chunked", body),
                &[400, 413],
            ));
        }
    }
    rejected(&cases);
}

#[test]
fn a_head_too_large_is_431() {
    let stub = Stub::with(ANY);
    let mut file = config(&stub.url());
    file["max_header_bytes"] = json!(8192);
    let gateway = Gateway::start(&file.to_string());
    let large = request("GET", "/get", &[("X-Large", &"a".repeat(20_000))]);
    assert_eq!(gateway.send("GET", large).status, 431);
    let names: Vec<String> = (0..300).map(|i| format!("X-{i}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "1")).collect();
    assert_eq!(
        gateway.send("GET", request("GET", "/get", &many)).status,
        431
    );
    assert!(stub.take_seen().is_empty());
}

#[test]
fn a_head_that_trickles_is_cut_and_others_do_not_notice() {
    let stub = Stub::with(ANY);
    let mut file = config(&stub.url());
    file["read_header_timeout"] = json!("3s");
    let gateway = Gateway::start(&file.to_string());
    let start = Instant::now();
    let mut slow: Vec<Client> = (0..50).map(|_| gateway.client()).collect();
    for client in &mut slow {
        client.send("GET /get HTTP/1.1\r\nX-A: ").unwrap();
    }
    assert_eq!(gateway.get("/get").status, 200);
    for client in &mut slow {
        // One more byte now and then does not extend the timeout.
        pause(Duration::from_millis(10));
        let _ = client.send("a");
    }
    for client in &mut slow {
        match client.response("GET") {
            Ok(response) => assert_eq!(response.status, 408),
            Err(e) => assert_ne!(e.kind(), std::io::ErrorKind::WouldBlock, "it still waits"),
        }
    }
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(stub.take_seen().len(), 1);
}

#[test]
fn no_spelling_of_a_path_reaches_above_its_pattern() {
    let stub = Stub::with(ANY);
    let gateway = Gateway::start(&config(&stub.url()).to_string());
    for path in [
        "/items/..",
        "/items/.",
        "/items/%2e%2e",
        "/items/%2E%2e",
        "/items/.%2e",
        "/items/a%2f..%2fb",
        "/items/a%2Fb",
        "/items/a%5cb",
        "/items/a%00b",
        "/items/a%0d%0aX:1",
        "/items/a%3fadmin=1",
        "/items/a%23b",
        "/items/../get",
        "/items//a",
        "//items/a",
        "/items/..;/a",
        "/items/%zz",
        "/x/../items/a",
    ] {
        let response = gateway.get(path);
        for seen in stub.take_seen() {
            let rest = seen.path.strip_prefix("/items/").unwrap_or("/");
            let decoded = rest.replace("%2e", ".").replace("%2E", ".");
            let harmless = !rest.contains(['/', '\\', '\0']) && ![".", ".."].contains(&&*decoded);
            assert!(
                harmless && seen.query.is_empty(),
                "{path} became {}?{}",
                seen.path,
                seen.query
            );
        }
        if (300..400).contains(&response.status) {
            let to = response.header("location").unwrap_or("");
            assert!(
                to.starts_with('/') && !to.starts_with("//") && !to.starts_with("/\\"),
                "{path} → {to}"
            );
        }
    }
}

#[test]
fn fields_of_one_connection_stay_on_it() {
    let stub = Stub::with(ANY);
    let gateway = Gateway::start(&config(&stub.url()).to_string());
    for path in ["/get", "/streamed"] {
        let hop = [
            (
                "Connection",
                "Upgrade, HTTP2-Settings, X-Forwarded-For, X-Private",
            ),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
            ("X-Private", "1"),
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Real-IP", "203.0.113.9"),
            ("Forwarded", "for=203.0.113.9"),
            ("TE", "trailers"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authorization", "Basic eA=="),
            ("X-Original-URL", "/json"),
            ("X-HTTP-Method-Override", "POST"),
            ("X-Kept", "1"),
        ];
        assert_eq!(gateway.get_with(path, &hop).status, 200, "{path}");
        let seen = stub.take_seen();
        let [seen] = seen.as_slice() else {
            panic!("{path}: {} calls", seen.len())
        };
        for name in [
            "upgrade",
            "http2-settings",
            "x-private",
            "te",
            "keep-alive",
            "proxy-connection",
        ] {
            assert_eq!(seen.header(name), None, "{path}: {name}");
        }
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"), "{path}");
        assert_eq!(seen.header("x-kept"), Some("1"), "{path}");
        assert_eq!(seen.method, "GET", "{path}");
    }
}

#[test]
fn the_absolute_form_takes_the_same_route() {
    let stub = Stub::with(ANY);
    let gateway = Gateway::start(&config(&stub.url()).to_string());
    for (target, statuses) in [
        ("http://b/get", &[200][..]),
        ("http://b/nowhere", &[404]),
        ("http://b//get", &[301, 307, 404]),
    ] {
        let response = gateway.send("GET", format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(
            statuses.contains(&response.status),
            "{target}: {}",
            response.status
        );
    }
    let paths: Vec<String> = stub.take_seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/get"]);
}

#[test]
fn trailers_of_a_request_are_dropped() {
    let stub = Stub::with(ANY);
    let gateway = Gateway::start(&config(&stub.url()).to_string());
    for path in ["/json", "/stream"] {
        let head = "Transfer-Encoding: chunked\r\nTrailer: X-Admin";
        let body = "2\r\n{}\r\n0\r\nX-Admin: 1\r\nContent-Length: 7\r\n\r\n";
        let response = gateway.send("POST", post(path, head, body));
        let seen = stub.take_seen();
        if response.status == 400 {
            assert!(seen.is_empty());
            continue;
        }
        assert_eq!((response.status, seen.len()), (200, 1), "{path}");
        assert_eq!(seen[0].header("x-admin"), None, "{path}");
        assert_eq!(seen[0].body, b"{}", "{path}");
    }
}

#[test]
fn two_credentials_are_rejected() {
    let signer = Signer::es256("k");
    let stub = Stub::with(ANY);
    let keys = [("jwks.json", &*signer.jwks())];
    let file = json!({
        "version": 3,
        "endpoints": [{
            "endpoint": "/me",
            "input_headers": ["*"],
            "extra_config": { "auth/validator": {
                "alg": "ES256", "audience": ["api"], "jwk_local_path": "./jwks.json", "disable_jwk_security": true
            } },
            "backend": [{ "host": [stub.url()], "url_pattern": "/me" }]
        }]
    });
    let gateway = Gateway::start_with(&file.to_string(), &keys);
    let good = format!("Bearer {}", signer.token(&tokens::claims("api")));
    assert_eq!(
        gateway.get_with("/me", &[("Authorization", &good)]).status,
        200
    );
    stub.take_seen();
    for pair in [[&*good, "Bearer x"], ["Bearer x", &*good], [&*good, &*good]] {
        let response = gateway.get_with("/me", &pair.map(|v| ("Authorization", v)));
        assert_eq!((response.status, response.body.len()), (401, 0));
    }
    let forged = format!("Bearer {}", tokens::tampered(&good["Bearer ".len()..]));
    assert_eq!(
        gateway
            .get_with("/me", &[("Authorization", &forged)])
            .status,
        401
    );
    assert!(
        stub.take_seen().is_empty(),
        "a refused request was forwarded"
    );
    assert!(
        !gateway.output().contains(&good["Bearer ".len()..]),
        "the log holds a token"
    );
}
