//! What an outsider tries: providers that misbehave, proofs that are used twice, headers that are forged or sent twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Request;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::bound::{Holder, thumbprint_of};
use super::{active, asking, echo, get, one, server};
use crate::cluster::revoke;
use crate::support::tls::Authority;
use crate::support::{Gateway, Signer, Stub, Upstream, ports, tokens};

#[test]
fn a_provider_that_redirects_or_sends_half_or_too_much_opens_nothing() {
    let elsewhere = server(|_, _| (200, active(json!({}))));
    let target = elsewhere.url();
    let provider = Upstream::start(move |mut call| {
        let body = String::from_utf8(call.body()?).unwrap_or_default();
        let kind = body.trim_start_matches("token=").split('&').next();
        let good = active(json!({}));
        let whole = |status: &str, fields: &str, body: &str| {
            let length = body.len();
            format!(
                "HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        };
        let moved =
            |status: &str| whole(status, &format!("Location: {target}/introspect\r\n"), &good);
        match kind.unwrap_or_default() {
            "moved-302" => call.send(moved("302 Found")),
            "moved-307" => call.send(moved("307 Temporary Redirect")),
            "moved-308" => call.send(moved("308 Permanent Redirect")),
            "half" => call.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{good}"
            )),
            "announced" => call.send("HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n{"),
            "endless" => {
                call.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                loop {
                    call.chunk(&" ".repeat(1 << 16))?;
                }
            }
            "drops" => {
                call.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    good.len()
                ))?;
                for byte in good.bytes() {
                    call.send([byte])?;
                    crate::support::pause(Duration::from_millis(50));
                }
                Ok(())
            }
            "list" => call.send(whole("200 OK", "", &format!("[{good}]"))),
            "twice" => call.send(whole("200 OK", "", &format!("{good}{good}"))),
            "repeated" => call.send(whole(
                "200 OK",
                "",
                &good.replacen('{', r#"{"active":false,"#, 1),
            )),
            "created" => call.send(whole("203 Odd", "", "")),
            "no-http" => call.send(&good),
            _ => call.send(whole("200 OK", "", &good)),
        }
    });
    let backend = echo();
    let gateway = asking(&provider.url(), &backend, &json!({"timeout": "3s"}));
    for (number, kind) in [
        "moved-302",
        "moved-307",
        "moved-308",
        "half",
        "announced",
        "endless",
        "drops",
        "list",
        "twice",
        "repeated",
        "created",
        "no-http",
    ]
    .into_iter()
    .enumerate()
    {
        let began = Instant::now();
        assert_eq!(get(&gateway, "/x", kind).status, 401, "{kind}");
        assert!(began.elapsed() < Duration::from_secs(15), "{kind}");
        let good = format!("good{number}");
        assert_eq!(get(&gateway, "/x", &good).status, 200, "after {kind}");
    }
    assert_eq!(elsewhere.calls(), 0, "no token was sent elsewhere");
}

#[test]
fn an_opaque_token_stays_bound_when_its_answer_is_cached() {
    let holder = Holder::new();
    let thumbprint = holder.thumbprint();
    let provider = server(move |_, body| {
        let more = if body.contains("token=bound&") {
            json!({"token_type": "DPoP", "cnf": {"jkt": thumbprint}})
        } else if body.contains("token=nameless&") {
            json!({"token_type": "DPoP"})
        } else if body.contains("token=refresh&") {
            json!({"token_use": "refresh_token"})
        } else {
            json!({"token_type": "Bearer"})
        };
        (200, active(more))
    });
    let backend = echo();
    let block = json!({"issuer": "https://as.example", "audience": ["api"],
        "binding": {"dpop": "optional"},
        "introspection": {"url": provider.url(), "allow_insecure": true,
            "client_id": "gateway", "client_secret": "s3cret"}});
    let config = one(&backend.url(), &json!({"auth/validator": block}));
    let gateway = Gateway::start(&config.to_string());
    let url = format!("http://127.0.0.1:{}/x", gateway.port());
    let host = format!("127.0.0.1:{}", gateway.port());
    let send = |token: &str, proof: &str| {
        let authorization = format!("DPoP {token}");
        let headers = [
            ("Host", host.as_str()),
            ("Authorization", authorization.as_str()),
            ("DPoP", proof),
        ];
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let request = format!("GET /x HTTP/1.1\r\n{lines}\r\n");
        gateway.send("GET", request).status
    };
    let proof = |token: &str| holder.sign(&holder.claims(&url, token));
    assert_eq!(get(&gateway, "/x", "bound").status, 401, "without a proof");
    assert_eq!(send("bound", &proof("bound")), 200, "from the cache");
    assert_eq!(get(&gateway, "/x", "bound").status, 401, "still bound");
    assert_eq!(send("bound", &proof("other")), 401, "for another token");
    assert_eq!(provider.calls(), 1);
    // The provider does not say which key it is.
    assert_eq!(get(&gateway, "/x", "nameless").status, 401);
    assert_eq!(send("nameless", &proof("nameless")), 401);
    assert_eq!(get(&gateway, "/x", "plain").status, 200);
    let refresh = get(&gateway, "/x", "refresh");
    assert_eq!(refresh.status, 401, "a refresh token opens no endpoint");
}

#[test]
fn equal_tokens_and_proofs_at_the_same_time_are_not_confused() {
    // Each token is its own user, and the answers of all are on their way at once.
    let provider = server(|_, body| {
        crate::support::pause(Duration::from_millis(200));
        let token = body.trim_start_matches("token=").split('&').next();
        (200, active(json!({"sub": token})))
    });
    let backend = echo();
    let gateway = asking(&provider.url(), &backend, &json!({}));
    std::thread::scope(|scope| {
        for number in 0..24 {
            let gateway = &gateway;
            scope.spawn(move || {
                let token = format!("user{}", number % 8);
                assert_eq!(get(gateway, "/x", &token).status, 200);
            });
        }
    });
    assert_eq!(provider.calls(), 8);
    let mut users: Vec<String> = backend
        .take_seen()
        .iter()
        .map(|seen| seen.header("x-user").unwrap().to_owned())
        .collect();
    users.sort();
    let expected: Vec<String> = (0..8)
        .flat_map(|number| std::iter::repeat_n(format!("user{number}"), 3))
        .collect();
    assert_eq!(users, expected);
}

/// A gateway with HTTP/2 whose endpoint `/x` requires proofs, a token of the holder, and its key.
fn bound_gateway(backend: &Stub) -> (Gateway, Holder, String) {
    let (issuer, holder) = (Signer::es256("k"), Holder::new());
    let validator = json!({"alg": "ES256", "jwk_local_path": "keys.json", "audience": ["api"],
        "binding": {"dpop": "required"}});
    let mut config = one(&backend.url(), &json!({"auth/validator": validator}));
    config["use_h2c"] = json!(true);
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &issuer.jwks())]);
    let mut claims = tokens::claims("api");
    claims["cnf"] = json!({"jkt": holder.thumbprint()});
    let token = issuer.token(&claims);
    (gateway, holder, token)
}

#[test]
fn one_proof_passes_once_however_many_requests_bring_it_at_once() {
    let backend = echo();
    let (gateway, holder, token) = bound_gateway(&backend);
    let host = format!("127.0.0.1:{}", gateway.port());
    let proof = holder.sign(&holder.claims(&format!("http://{host}/x"), &token));
    let authorization = format!("DPoP {token}");
    let passed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                let lines = format!(
                    "GET /x HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\nDPoP: {proof}\r\n\r\n"
                );
                let status = gateway.send("GET", lines).status;
                assert!(matches!(status, 200 | 401), "{status}");
                passed.fetch_add(usize::from(status == 200), Ordering::SeqCst);
            });
        }
    });
    assert_eq!(passed.load(Ordering::SeqCst), 1);
    assert_eq!(backend.take_seen().len(), 1);
    // The same proof over HTTP/2, and fields that are sent twice.
    let fresh = || holder.sign(&holder.claims(&format!("http://{host}/x"), &token));
    let (first, second) = (fresh(), fresh());
    for (what, status, fields) in [
        (
            "used over HTTP/1.1",
            401,
            vec![("authorization", &authorization), ("dpop", &proof)],
        ),
        (
            "two proofs",
            401,
            vec![
                ("authorization", &authorization),
                ("dpop", &first),
                ("dpop", &second),
            ],
        ),
        (
            "two tokens",
            401,
            vec![
                ("authorization", &authorization),
                ("authorization", &authorization),
                ("dpop", &first),
            ],
        ),
        (
            "one of each",
            200,
            vec![("authorization", &authorization), ("dpop", &first)],
        ),
        (
            "used over HTTP/2",
            401,
            vec![("authorization", &authorization), ("dpop", &first)],
        ),
    ] {
        assert_eq!(over_http2(&gateway, &fields), status, "{what}");
    }
}

/// The status of `GET /x` with these fields over HTTP/2.
fn over_http2(gateway: &Gateway, fields: &[(&str, &String)]) -> u16 {
    let port = gateway.port();
    let mut request = Request::builder().uri(format!("http://127.0.0.1:{port}/x"));
    for (name, value) in fields {
        request = request.header(*name, value.as_str());
    }
    let request = request.body(()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (client, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        response.await.unwrap().status().as_u16()
    })
}

#[test]
fn a_client_cannot_forge_the_header_with_the_certificate_in_any_spelling() {
    let (issuer, authority, backend) = (Signer::es256("k"), Authority::new(), echo());
    let (pem, _) = authority.pair("me");
    let thumbprint = thumbprint_of(&pem);
    let mut claims = tokens::claims("api");
    claims["cnf"] = json!({"x5t#S256": thumbprint});
    let authorization = format!("Bearer {}", issuer.token(&claims));
    let plain = format!("Bearer {}", issuer.token(&tokens::claims("api")));
    let gateway = |proxies: &str| {
        let validator = json!({"alg": "ES256", "jwk_local_path": "keys.json", "audience": ["api"],
            "optional": true,
            "binding": {"certificate": "optional", "certificate_header": "X-Client-Cert"}});
        let mut config = one(&backend.url(), &json!({"auth/validator": validator}));
        config["endpoints"][0]["input_headers"] = json!(["*"]);
        config["extra_config"] = json!({"router": {"trusted_proxies": [proxies]}});
        Gateway::start_with(&config.to_string(), &[("keys.json", &issuer.jwks())])
    };
    let names = ["x-client-cert", "x_client_cert", "x.client.cert"];
    let send = |gateway: &Gateway, authorization: &str, names: &[&str]| {
        let mut fields: Vec<(&str, &str)> = names
            .iter()
            .map(|name| (*name, thumbprint.as_str()))
            .collect();
        fields.push(("Authorization", authorization));
        gateway.get_with("/x", &fields).status
    };
    let arrived = || {
        let seen = backend.take_seen();
        let names = names.iter().copied();
        let arrived = names.filter(|name| seen.iter().any(|seen| seen.headers.contains_key(*name)));
        arrived.collect::<Vec<_>>()
    };
    let stranger = gateway("192.0.2.1");
    for name in names {
        assert_eq!(send(&stranger, &authorization, &[name]), 401, "{name}");
    }
    assert_eq!(send(&stranger, &plain, &names), 200);
    assert_eq!(arrived(), [""; 0], "no backend gets what a client wrote");
    let fields = [("X-Client-Cert", thumbprint.as_str())];
    assert_eq!(stranger.get_with("/x", &fields).status, 200, "anonymous");
    assert_eq!(arrived(), [""; 0]);
    let proxy = gateway("127.0.0.1/32");
    for name in &names[1..] {
        assert_eq!(send(&proxy, &authorization, &[name]), 401, "{name}");
    }
    assert_eq!(send(&proxy, &authorization, &names), 200);
    assert_eq!(arrived(), ["x-client-cert"], "only what the proxy wrote");
    let twice = ["x-client-cert", "X-Client-Cert"];
    assert_eq!(send(&proxy, &authorization, &twice), 401);
    let joined = format!("{thumbprint}, {thumbprint}");
    let fields = [
        ("Authorization", authorization.as_str()),
        ("X-Client-Cert", joined.as_str()),
    ];
    assert_eq!(proxy.get_with("/x", &fields).status, 401);
}

#[test]
fn a_stranger_cannot_change_the_decision_for_others() {
    let service = server(|head, _| {
        let lower = head.to_lowercase();
        if lower.contains("cookie: broken") {
            (431, String::new())
        } else if lower.contains("x-b: x-b") {
            (403, String::new())
        } else {
            (200, String::new())
        }
    });
    let backend = echo();
    let block = json!({"url": service.url(), "request_headers": ["Cookie", "X-A", "X-B"],
        "response_headers": ["X-User"], "cache_duration": "60s", "cache_key": ["X-A", "X-B"]});
    let config = one(&backend.url(), &json!({"portcullis/forward-auth": block}));
    let gateway = Gateway::start(&config.to_string());
    let send = |fields: &[(&str, &str)]| gateway.get_with("/x", fields).status;
    assert_eq!(send(&[("Cookie", "broken")]), 431);
    assert_eq!(send(&[]), 200, "the stranger's own request was at fault");
    // A value that looks like the name of the next header.
    assert_eq!(send(&[("X-A", "x-b")]), 200);
    assert_eq!(send(&[("X-B", "x-b")]), 403, "another question");
    let hop = [("Connection", "X-User"), ("X-User", "root"), ("X-A", "hop")];
    assert_eq!(send(&hop), 200);
    let seen = backend.take_seen();
    assert!(seen.iter().all(|seen| seen.header("x-user").is_none()));
}

#[test]
fn a_service_and_a_backend_see_the_same_credential() {
    let service = server(|head, _| {
        let is_good = head.to_lowercase().contains("x-api-key: good");
        (if is_good { 200 } else { 401 }, String::new())
    });
    let backend = echo();
    let block =
        json!({"url": service.url(), "request_headers": ["Authorization", "X-Api-Key", "Cookie"]});
    let mut config = one(&backend.url(), &json!({"portcullis/forward-auth": block}));
    config["endpoints"][0]["input_headers"] = json!(["*"]);
    config["use_h2c"] = json!(true);
    let gateway = Gateway::start(&config.to_string());
    let send = |fields: &[(&str, &str)]| gateway.get_with("/x", fields).status;
    assert_eq!(send(&[("X-Api-Key", "good")]), 200);
    assert_eq!(send(&[("X-Api-Key", "evil")]), 401);
    for fields in [
        [("X-Api-Key", "good"), ("X-Api-Key", "evil")],
        [("X-Api-Key", "evil"), ("x-api-key", "good")],
    ] {
        assert_eq!(send(&fields), 400, "{fields:?}");
    }
    let double = [
        ("X-Api-Key", "good"),
        ("Authorization", "a"),
        ("Authorization", "b"),
    ];
    assert_eq!(send(&double), 400);
    let (good, evil) = ("good".to_owned(), "evil".to_owned());
    let fields = [("x-api-key", &good), ("x-api-key", &evil)];
    assert_eq!(over_http2(&gateway, &fields), 400);
    backend.take_seen();
    let cookies = [("X-Api-Key", "good"), ("Cookie", "a=1"), ("Cookie", "b=2")];
    assert_eq!(send(&cookies), 200, "a list");
    assert_eq!(send(&[("X-Api-Key", "good"), ("X_Api_Key", "evil")]), 200);
    let seen = backend.take_seen();
    assert_eq!(seen.len(), 2);
    assert!(
        seen.iter()
            .all(|seen| !seen.headers.contains_key("x_api_key"))
    );
}

#[test]
fn a_revoked_token_is_rejected_although_its_answer_is_cached() {
    let provider = server(|_, body| {
        let token = body.trim_start_matches("token=").split('&').next();
        (200, active(json!({"jti": token})))
    });
    let (backend, port) = (echo(), ports::free());
    let block = json!({"issuer": "https://as.example", "audience": ["api"],
        "introspection": {"url": provider.url(), "allow_insecure": true,
            "client_id": "gateway", "client_secret": "s3cret", "cache_duration": "10m"}});
    let mut config = one(&backend.url(), &json!({"auth/validator": block}));
    config["extra_config"] = json!({"auth/revoker": {"N": 1000, "P": 0.000_001,
        "hash_name": "optimal", "TTL": 600, "token_keys": ["jti"],
        "http_listen": format!("127.0.0.1:{port}"), "secret": "a secret of many letters"}});
    let gateway = Gateway::start(&config.to_string());
    for token in ["one", "two"] {
        assert_eq!(get(&gateway, "/x", token).status, 200);
    }
    revoke(port, "one");
    assert_eq!(get(&gateway, "/x", "one").status, 401);
    assert_eq!(get(&gateway, "/x", "two").status, 200);
    assert_eq!(provider.calls(), 2, "both answers are cached");
}

#[test]
fn endpoints_with_the_same_provider_keep_their_own_requirements() {
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let provider = server(move |_, _| {
        *count.lock().unwrap() += 1;
        (200, active(json!({"aud": ["a"], "scope": "read"})))
    });
    let backend = echo();
    let endpoint = |path: &str, more: Value| {
        let mut block = json!({"issuer": "https://as.example",
            "introspection": {"url": provider.url(), "allow_insecure": true,
                "client_id": "gateway", "client_secret": "s3cret"}});
        for (key, value) in more.as_object().unwrap() {
            block[key] = value.clone();
        }
        json!({"endpoint": path, "extra_config": {"auth/validator": block},
            "backend": [{"url_pattern": "/b"}]})
    };
    let config = json!({"version": 3, "host": [backend.url()], "endpoints": [
        endpoint("/a", json!({"audience": ["a"]})),
        endpoint("/b", json!({"audience": ["b"]})),
        endpoint("/write", json!({"audience": ["a"], "scopes_key": "scope", "scopes": ["write"]})),
        endpoint("/foreign", json!({"audience": ["a"], "issuer": "https://other.example"})),
    ]});
    let gateway = Gateway::start(&config.to_string());
    for (path, status) in [("/a", 200), ("/b", 401), ("/write", 403), ("/a", 200)] {
        assert_eq!(get(&gateway, path, "token").status, status, "{path}");
    }
    assert_eq!(*asked.lock().unwrap(), 1, "they share what they know");
    // The endpoint belongs to another issuer, so it does not share the answer.
    assert_eq!(get(&gateway, "/foreign", "token").status, 200);
    assert_eq!(*asked.lock().unwrap(), 2);
}
