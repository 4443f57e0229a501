//! `backend/http/client`: TLS, redirects and the proxy of one backend.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::support::tls::Authority;

/// A backend over TLS that says whether the client presents a certificate of `authority`. `/away` redirects to
/// `/shown` of `to`.
fn asking(authority: &Authority, to: &str) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier);
    let (certificate, key) = authority.pair("localhost");
    let config = Arc::new(certified(config, &certificate, &key));
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = to.to_owned();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let (config, to) = (Arc::clone(&config), to.clone());
            std::thread::spawn(move || {
                let session = ServerConnection::new(config).unwrap();
                let mut stream = StreamOwned::new(session, socket);
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    let head = String::from_utf8_lossy(&buffer[..count]).into_owned();
                    let shown = stream.conn.peer_certificates().is_some();
                    let body = json!({ "shown": shown }).to_string();
                    let response = if head.starts_with("GET /away ") {
                        format!(
                            "HTTP/1.1 302 Found\r\nLocation: {to}/shown\r\nContent-Length: 0\r\n\r\n"
                        )
                    } else {
                        format!(
                            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        )
                    };
                    let _ = stream.write_all(response.as_bytes());
                }
            });
        }
    });
    port
}

fn certified(
    builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    certificate: &str,
    key: &str,
) -> ServerConfig {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    builder.with_single_cert(vec![certificate], key).unwrap()
}

/// An endpoint whose backend has this `backend/http/client` block.
fn with_client(path: &str, host: &str, to: &str, block: Value) -> Value {
    let mut one = endpoint(path, host, to, "no-op");
    one["backend"][0]["extra_config"] = json!({ "backend/http/client": block });
    one
}

/// `client_tls` that trusts `ca.crt` only; with `me`, it presents `me.crt`.
fn tls(me: bool) -> Value {
    let mut tls = json!({ "ca_certs": ["ca.crt"], "disable_system_ca_pool": true });
    if me {
        tls["client_certs"] = json!([{ "certificate": "me.crt", "private_key": "me.key" }]);
    }
    tls
}

/// The files of [`tls`].
fn pems(authority: &Authority) -> [(&'static str, String); 3] {
    let (certificate, key) = authority.pair("gateway");
    [
        ("ca.crt", authority.pem()),
        ("me.crt", certificate),
        ("me.key", key),
    ]
}

fn borrowed<'f>(files: &'f [(&'static str, String); 3]) -> [(&'f str, &'f str); 3] {
    [0, 1, 2].map(|index| (files[index].0, &*files[index].1))
}

#[test]
fn each_backend_has_its_own_tls_and_shares_no_connection_with_another() {
    let authority = Authority::new();
    let host = format!("https://localhost:{}", asking(&authority, ""));
    let insecure = json!({ "client_tls": { "allow_insecure_connections": true } });
    let endpoints = [
        with_client("/me", &host, "/", json!({ "client_tls": tls(true) })),
        with_client("/nobody", &host, "/", json!({ "client_tls": tls(false) })),
        with_client("/insecure", &host, "/", insecure),
        with_client("/strict", &host, "/", json!({ "client_tls": {} })),
        endpoint("/root", &host, "/", "no-op"),
    ];
    let text = file(&endpoints, json!({})).to_string();
    let files = pems(&authority);
    let gateway = Gateway::start_with(&text, &borrowed(&files));
    // Twice, so that kept connections are used.
    for _ in 0..2 {
        for (path, shown) in [("/me", true), ("/nobody", false), ("/insecure", false)] {
            let response = gateway.get(path);
            assert_eq!(response.status, 200, "{path} {}", gateway.output());
            let expected = json!({ "shown": shown }).to_string();
            assert_eq!(response.text(), expected, "{path}");
        }
        // Nobody vouches for the backend here.
        for path in ["/strict", "/root"] {
            assert_eq!(gateway.get(path).status, 500, "{path}");
        }
    }
}

#[test]
fn the_block_of_a_backend_replaces_that_of_the_root() {
    let authority = Authority::new();
    let host = format!("https://localhost:{}", asking(&authority, ""));
    let endpoints = [
        endpoint("/root", &host, "/", "no-op"),
        with_client("/own", &host, "/", json!({ "client_tls": tls(false) })),
        with_client("/bare", &host, "/", json!({ "client_tls": {} })),
    ];
    let mut text = file(&endpoints, json!({}));
    text["client_tls"] = tls(true);
    text["client_tls"]["allow_insecure_connections"] = json!(true);
    let files = pems(&authority);
    let gateway = Gateway::start_with(&text.to_string(), &borrowed(&files));
    assert_eq!(gateway.get("/root").text(), r#"{"shown":true}"#);
    assert_eq!(gateway.get("/own").text(), r#"{"shown":false}"#);
    assert_eq!(gateway.get("/bare").status, 500, "it verifies");
    let dropped = "whose \"client_certs\" does not apply here";
    gateway.tells(dropped);
}

#[test]
fn a_redirect_to_another_origin_gets_no_certificate_and_must_stay_on_tls() {
    let authority = Authority::new();
    let there = format!("https://localhost:{}", asking(&authority, ""));
    let plain = Stub::with(r#"[{"body": "plain"}]"#);
    let here = format!("https://localhost:{}", asking(&authority, &there));
    let out = format!("https://localhost:{}", asking(&authority, &plain.url()));
    let same = format!("https://localhost:{}", asking(&authority, ""));
    let block = json!({ "client_tls": tls(true) });
    let endpoints = [
        with_client("/other", &here, "/away", block.clone()),
        with_client("/same", &same, "/away", block.clone()),
        with_client("/out", &out, "/away", block),
        with_client(
            "/anonymous",
            &out,
            "/away",
            json!({ "client_tls": tls(false) }),
        ),
    ];
    let text = file(&endpoints, json!({})).to_string();
    let files = pems(&authority);
    let gateway = Gateway::start_with(&text, &borrowed(&files));
    assert_eq!(gateway.get("/other").text(), r#"{"shown":false}"#);
    assert_eq!(gateway.get("/same").text(), r#"{"shown":true}"#);
    assert_eq!(gateway.get("/out").status, 302, "it would leave TLS");
    assert!(plain.take_seen().is_empty());
    assert_eq!(gateway.get("/anonymous").status, 200);
}

#[test]
fn an_invalid_client_stops_the_start() {
    let authority = Authority::new();
    let mut files = pems(&authority);
    let with = |block: Value| {
        let one = with_client("/a", "https://localhost:1", "/", block);
        file(&[one], json!({}))
    };
    for (block, words) in [
        (json!({ "client_tls": "x" }), "client_tls"),
        (
            json!({ "client_tls": { "ca_certs": ["missing.crt"] } }),
            "missing.crt",
        ),
        (json!({ "client_tls": { "ca_certs": 7.5 } }), "ca_certs"),
        (
            json!({ "client_tls": { "min_version": "TLS9" } }),
            "min_version",
        ),
        (
            json!({ "client_tls": { "allow_insecure_connections": "maybe" } }),
            "allow_insecure",
        ),
        (
            json!({ "client_tls": { "client_certs": [{ "certificate": "me.crt" }] } }),
            "private_key",
        ),
        (json!({ "no_redirect": "perhaps" }), "no_redirect"),
        (json!({ "no_redirect": {} }), "no_redirect"),
        (
            json!({ "send_body_on_redirect": [] }),
            "send_body_on_redirect",
        ),
        (
            json!({ "proxy_address": 7.5 }),
            "invalid address of a proxy",
        ),
        (json!({ "proxy_address": {} }), "proxy_address"),
        (json!({ "proxy_address": "proxy:3128" }), "it has no scheme"),
        (json!({ "proxy_address": "http://proxy" }), "it has no port"),
        (
            json!({ "proxy_address": "http://proxy:3128/x" }),
            "it has a path",
        ),
        (
            json!({ "proxy_address": "https://proxy:3128" }),
            "backends with TLS",
        ),
        (json!("x"), "backend~1http~1client"),
    ] {
        is_rejected(&with(block), &borrowed(&files), words);
    }
    // A key of another pair.
    files[2].1 = authority.pair("other").1;
    let block = json!({ "client_tls": tls(true) });
    is_rejected(
        &with(block),
        &borrowed(&files),
        "does not match the certificate",
    );
}

#[test]
fn settings_without_effect_are_reported() {
    let files = pems(&Authority::new());
    let with = |host: &str, block: Value| {
        let mut one = with_client("/a", host, "/", block);
        one["output_encoding"] = json!("json");
        file(&[one], json!({}))
    };
    starts(
        &with("http://localhost:1", json!({ "client_tls": tls(false) })),
        &borrowed(&files),
        "no host of this backend is called over TLS",
    );
    starts(
        &with("http://localhost:1", json!({ "no_redirect": true })),
        &[],
        "a redirect that is not followed is a failure here",
    );
}

#[test]
fn the_proxies_of_the_environment_can_be_switched_off() {
    let proxy =
        Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#);
    let host = "http://backend.invalid:8000";
    let usual = endpoint("/usual", host, "/b", "json");
    let mut direct = endpoint("/direct", host, "/b", "json");
    direct["backend"][0]["extra_config"] =
        json!({ "portcullis/upstream": { "proxy_from_env": false } });
    let variables = [("HTTP_PROXY", &*proxy.url()), ("NO_PROXY", "")];
    let text = file(&[usual, direct], json!({}));
    let gateway = Gateway::start_in(&variables, &text.to_string());
    assert_eq!(gateway.get("/usual").status, 200);
    assert_eq!(gateway.get("/direct").status, 500);
    let mut text = text;
    text["extra_config"] = json!({ "portcullis/upstream": { "proxy_from_env": false } });
    let gateway = Gateway::start_in(&variables, &text.to_string());
    assert_eq!(gateway.get("/usual").status, 500);
}

#[test]
fn dns_shared_is_dns() {
    let mut one = endpoint("/a", "http://backend.invalid", "/", "json");
    one["backend"][0]["sd"] = json!("dns-shared");
    let (code, said) = checked(&file(&[one], json!({})), &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("warning"), "{said}");
    let mut one = endpoint("/a", "x", "/", "json");
    one["backend"][0]["host"] = json!([]);
    one["backend"][0]["sd"] = json!("dns-shared");
    is_rejected(&file(&[one], json!({})), &[], "SRV");
}
