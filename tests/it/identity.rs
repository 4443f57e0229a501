//! Tokens as providers issue them, opaque tokens, exchange for backends, and services that decide: over sockets.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Gateway, Response, Signer, Stub, Upstream, tokens};

mod bound;
mod clients;
mod decisions;
mod exchanged;
mod hostile;
mod logout;
mod others;
mod providers;
mod shared_proofs;
mod signed;

const DOCUMENT: &str = include_str!("../../docs/identity.md");

/// The JSON block number `index` under the heading `heading` of the document.
fn shown(heading: &str, index: usize) -> Value {
    let section = DOCUMENT
        .split("\n## ")
        .find(|section| section.starts_with(&format!("{heading}\n")))
        .unwrap_or_else(|| panic!("no section {heading:?}"));
    let block = section.split("```json\n").nth(index + 1);
    let block = block.unwrap_or_else(|| panic!("{heading:?} has no block {index}"));
    let block = block.split("```").next().unwrap();
    serde_json::from_str(block).unwrap_or_else(|e| panic!("{heading:?} {index}: {e}"))
}

/// A backend that answers with what it got.
fn echo() -> Stub {
    Stub::with(
        &json!([{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}])
            .to_string(),
    )
}

/// A server that answers each request with a status and a JSON body, after some time.
fn server(answer: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |mut call| {
        let body = String::from_utf8(call.body()?).map_err(io::Error::other)?;
        let (status, body) = answer(&call.head, &body);
        call.send(format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    })
}

fn get(gateway: &Gateway, path: &str, token: &str) -> Response {
    gateway.get_with(path, &[("Authorization", &format!("Bearer {token}"))])
}

/// A file with one endpoint `/x` and this `extra_config`.
fn one(backend: &str, extra: &Value) -> Value {
    json!({
        "version": 3, "host": [backend],
        "endpoints": [{
            "endpoint": "/x", "extra_config": extra, "input_headers": ["X-User"],
            "backend": [{"url_pattern": "/b"}],
        }],
    })
}

#[test]
fn a_list_of_algorithms_accepts_each_with_its_own_key_and_no_other() {
    let (rs, es, other) = (Signer::rs256("r"), Signer::es256("e"), Signer::es256("o"));
    let keys = json!({"keys": [rs.jwk(), es.jwk()]}).to_string();
    let backend = echo();
    for names in [
        json!({"alg": ["RS256", "ES256"]}),
        json!({"algs": ["RS256", "ES256"]}),
    ] {
        let mut block = json!({"jwk_local_path": "keys.json", "audience": ["api"]});
        block
            .as_object_mut()
            .unwrap()
            .extend(names.as_object().unwrap().clone());
        let config = one(&backend.url(), &json!({"auth/validator": block}));
        let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &keys)]);
        let claims = tokens::claims("api");
        for token in [rs.token(&claims), es.token(&claims)] {
            assert_eq!(get(&gateway, "/x", &token).status, 200);
            assert_eq!(get(&gateway, "/x", &token).status, 200, "from the cache");
        }
        // The header of one with the key of the other, and a name that is not in the list.
        for (signer, header) in [
            (&rs, json!({"alg": "ES256", "kid": "r"})),
            (&es, json!({"alg": "RS256", "kid": "e"})),
            (&rs, json!({"alg": "RS512", "kid": "r"})),
            (&es, json!({"alg": "none", "kid": "e"})),
            (&other, json!({"alg": "ES256", "kid": "e"})),
            (&es, json!({"alg": "ES256"})),
        ] {
            let token = signer.token_with_header(&header, &claims);
            assert_eq!(get(&gateway, "/x", &token).status, 401, "{header}");
        }
    }
}

#[test]
fn a_token_without_a_key_id_passes_only_with_the_switch() {
    let (signer, backend) = (Signer::es256("e"), echo());
    let token = signer.token_with_header(&json!({"alg": "ES256"}), &tokens::claims("api"));
    for (switch, status) in [(false, 401), (true, 200)] {
        let block = json!({"alg": "ES256", "jwk_local_path": "keys.json", "audience": ["api"],
            "single_key_without_kid": switch});
        let config = one(&backend.url(), &json!({"auth/validator": block}));
        let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &signer.jwks())]);
        assert_eq!(get(&gateway, "/x", &token).status, status);
    }
}

#[test]
fn post_quantum_tokens_pass() {
    let tokens: Value =
        serde_json::from_str(include_str!("../data/keys/ml-dsa-tokens.json")).unwrap();
    let private: Value = serde_json::from_str(include_str!("../data/keys/private.json")).unwrap();
    let mut keys: Vec<Value> = private["keys"].as_array().unwrap().clone();
    keys.retain(|key| key["kty"] == "AKP");
    for key in &mut keys {
        key.as_object_mut().unwrap().remove("priv");
    }
    let keys = json!({"keys": keys}).to_string();
    let backend = echo();
    let block =
        json!({"alg": ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"], "jwk_local_path": "keys.json"});
    let config = one(&backend.url(), &json!({"auth/validator": block}));
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &keys)]);
    for (name, token) in tokens.as_object().unwrap() {
        let token = token.as_str().unwrap();
        assert_eq!(get(&gateway, "/x", token).status, 200, "{name}");
        assert_eq!(
            get(&gateway, "/x", &tokens::tampered(token)).status,
            401,
            "{name}"
        );
    }
}

/// A gateway that asks `provider` about tokens, with these more members of the block.
fn asking(provider: &str, backend: &Stub, more: &Value) -> Gateway {
    Gateway::start(&asks(provider, backend, more).to_string())
}

/// The file of such a gateway.
fn asks(provider: &str, backend: &Stub, more: &Value) -> Value {
    let mut introspection = json!({
        "url": format!("{provider}/introspect"), "allow_insecure": true,
        "client_id": "gateway", "client_secret": "s3cret",
    });
    for (key, value) in more.as_object().unwrap() {
        introspection[key] = value.clone();
    }
    let block = json!({
        "issuer": "https://as.example", "audience": ["api"], "introspection": introspection,
        "roles_key": "scope", "roles": ["read"], "propagate_claims": [["sub", "X-User"]],
    });
    one(&backend.url(), &json!({"auth/validator": block}))
}

fn active(more: Value) -> String {
    let mut claims = json!({"active": true, "sub": "ada", "aud": "api", "scope": "read write",
        "exp": tokens::now() + 600});
    for (key, value) in more.as_object().unwrap() {
        claims[key] = value.clone();
    }
    claims.to_string()
}

#[test]
fn an_opaque_token_is_introspected_once_and_its_claims_are_used() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let provider = server(move |head, body| {
        seen.lock().unwrap().push(format!("{head}{body}"));
        let body = if body.contains("token=good&") {
            active(json!({}))
        } else if body.contains("token=bob&") {
            active(json!({"aud": "other"}))
        } else if body.contains("token=foreign&") {
            active(json!({"iss": "https://other.example"}))
        } else if body.contains("token=old&") {
            active(json!({"exp": tokens::now() - 60}))
        } else if body.contains("token=unread&") {
            active(json!({"scope": "write"}))
        } else {
            r#"{"active":false}"#.to_owned()
        };
        (200, body)
    });
    let backend = echo();
    let gateway = asking(&provider.url(), &backend, &json!({}));
    for _ in 0..5 {
        assert_eq!(get(&gateway, "/x", "good").status, 200);
    }
    assert_eq!(provider.calls(), 1);
    let request = asked.lock().unwrap().remove(0).to_lowercase();
    assert!(request.starts_with("post /introspect "), "{request}");
    assert!(
        request.contains("authorization: basic z2f0zxdhetpzm2nyzxq="),
        "{request}"
    );
    assert!(
        request.contains("token=good&token_type_hint=access_token"),
        "{request}"
    );
    let sent = backend.take_seen();
    assert_eq!(sent[0].header("x-user"), Some("ada"));
    assert_eq!(sent[0].header("authorization"), None);
    for (token, status) in [
        ("bad", 401),
        ("bob", 401),
        ("foreign", 401),
        ("old", 401),
        ("unread", 403),
    ] {
        assert_eq!(get(&gateway, "/x", token).status, status, "{token}");
        let calls = provider.calls();
        if token != "old" {
            assert_eq!(get(&gateway, "/x", token).status, status, "{token}");
            assert_eq!(provider.calls(), calls, "{token}: the answer is kept");
        }
    }
    let calls = provider.calls();
    for token in ["a b", "a&token=good", "%67ood", "\"good\""] {
        assert_eq!(get(&gateway, "/x", token).status, 401, "{token:?}");
    }
    assert_eq!(provider.calls(), calls, "what is no token is not sent");
    assert!(!gateway.output().contains("s3cret"));
}

#[test]
fn equal_opaque_tokens_at_the_same_time_are_one_call() {
    let provider = server(|_, _| {
        crate::support::pause(Duration::from_millis(300));
        (200, active(json!({})))
    });
    let backend = echo();
    let gateway = asking(&provider.url(), &backend, &json!({}));
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| get(&gateway, "/x", "good").status))
            .collect();
        assert!(all.into_iter().all(|one| one.join().unwrap() == 200));
    });
    assert_eq!(provider.calls(), 1);
}

#[test]
fn a_failing_provider_rejects_all_and_is_not_called_for_a_while() {
    let broken = Arc::new(AtomicUsize::new(0));
    let what = Arc::clone(&broken);
    let provider = server(move |_, _| match what.load(Ordering::SeqCst) {
        0 => (500, active(json!({}))),
        1 => (200, "{}".to_owned()),
        2 => (
            200,
            r#"{"active":"true","sub":"ada","aud":"api"}"#.to_owned(),
        ),
        3 => (401, r#"{"error":"invalid_client"}"#.to_owned()),
        _ => {
            crate::support::pause(Duration::from_secs(60));
            (200, active(json!({})))
        }
    });
    let backend = echo();
    let gateway = asking(&provider.url(), &backend, &json!({"timeout": "300ms"}));
    for kind in 0..5 {
        broken.store(kind, Ordering::SeqCst);
        let began = Instant::now();
        assert_eq!(
            get(&gateway, "/x", &format!("t{kind}")).status,
            401,
            "{kind}"
        );
        assert!(began.elapsed() < Duration::from_secs(15), "{kind}");
    }
    broken.store(0, Ordering::SeqCst);
    for number in 0..5 {
        assert_eq!(get(&gateway, "/x", &format!("f{number}")).status, 401);
    }
    let calls = provider.calls();
    for number in 0..20 {
        assert_eq!(get(&gateway, "/x", &format!("n{number}")).status, 401);
    }
    assert_eq!(provider.calls(), calls, "the breaker is open");
    assert!(backend.take_seen().is_empty());
}

#[test]
fn a_provider_with_keys_introspects_only_opaque_tokens() {
    let (signer, other) = (Signer::es256("e"), Signer::es256("e"));
    let provider = server(|_, _| (200, active(json!({"iss": "https://as.example"}))));
    let backend = echo();
    let block = json!({"providers": [{
        "issuer": "https://as.example", "audience": ["api"], "alg": "ES256",
        "jwk_local_path": "keys.json",
        "introspection": {"url": provider.url(), "allow_insecure": true,
            "client_id": "gateway", "client_secret": "s3cret", "auth_method": "client_secret_post"},
    }]});
    let config = one(&backend.url(), &json!({"auth/validator": block}));
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &signer.jwks())]);
    let mut claims = tokens::claims("api");
    claims["iss"] = json!("https://as.example");
    assert_eq!(get(&gateway, "/x", &signer.token(&claims)).status, 200);
    assert_eq!(get(&gateway, "/x", &other.token(&claims)).status, 401);
    claims["iss"] = json!("https://other.example");
    assert_eq!(get(&gateway, "/x", &signer.token(&claims)).status, 401);
    assert_eq!(provider.calls(), 0);
    assert_eq!(get(&gateway, "/x", "opaque").status, 200);
    assert_eq!(provider.calls(), 1);
}

/// An endpoint whose backend gets an exchanged token, in `grant`.
fn exchanging(server: &str, backend: &Stub, more: &Value) -> (Gateway, Signer) {
    let signer = Signer::es256("e");
    let mut exchange = json!({
        "token_url": format!("{server}/token"), "allow_insecure": true, "client_id": "gateway",
        "client_secret": "s3cret", "audience": "orders", "scope": ["a", "b"],
    });
    for (key, value) in more.as_object().unwrap() {
        exchange[key] = value.clone();
    }
    let validator = json!({"alg": "ES256", "jwk_local_path": "keys.json", "audience": ["api"]});
    let endpoint = |path: &str, encoding: &str| {
        json!({
            "endpoint": path, "output_encoding": encoding,
            "extra_config": {"auth/validator": validator}, "input_headers": ["Authorization"],
            "backend": [{"url_pattern": "/b", "encoding": encoding,
                "extra_config": {"portcullis/token-exchange": exchange}}],
        })
    };
    let mut config = json!({"version": 3, "host": [backend.url()],
        "endpoints": [endpoint("/x", "json"), endpoint("/raw", "no-op")]});
    config["timeout"] = json!("5s");
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &signer.jwks())]);
    (gateway, signer)
}

fn token_of(signer: &Signer, subject: &str) -> String {
    let mut claims = tokens::claims("api");
    claims["sub"] = json!(subject);
    signer.token(&claims)
}

#[test]
fn a_backend_gets_a_token_that_was_exchanged_for_the_clients() {
    let issued = Arc::new(AtomicUsize::new(0));
    let number = Arc::clone(&issued);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let server = server(move |_, body| {
        seen.lock().unwrap().push(body.to_owned());
        let n = number.fetch_add(1, Ordering::SeqCst) + 1;
        (
            200,
            json!({"access_token": format!("new{n}"), "token_type": "Bearer", "expires_in": 300,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})
            .to_string(),
        )
    });
    let backend = echo();
    let (gateway, signer) = exchanging(&server.url(), &backend, &json!({}));
    let (ada, bob) = (token_of(&signer, "ada"), token_of(&signer, "bob"));
    for (path, token) in [
        ("/x", &ada),
        ("/raw", &ada),
        ("/x", &bob),
        ("/x", &ada),
        ("/x", &bob),
    ] {
        assert_eq!(get(&gateway, path, token).status, 200);
    }
    let sent: Vec<_> = backend
        .take_seen()
        .into_iter()
        .map(|one| one.headers["authorization"].clone())
        .collect();
    assert_eq!(
        sent,
        [
            ["Bearer new1"],
            ["Bearer new1"],
            ["Bearer new2"],
            ["Bearer new1"],
            ["Bearer new2"]
        ]
    );
    let form = asked.lock().unwrap()[0].clone();
    for part in [
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange",
        &format!("subject_token={ada}"),
        "subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token",
        "audience=orders",
        "scope=a+b",
    ] {
        assert!(form.split('&').any(|one| one == part), "{part} in {form}");
    }
    // Without a valid token nothing is exchanged.
    assert_eq!(get(&gateway, "/x", &tokens::tampered(&ada)).status, 401);
    assert_eq!(gateway.get("/x").status, 401);
    assert_eq!(server.calls(), 2);
}

#[test]
fn an_assertion_grant_is_sent_as_rfc_7523_has_it() {
    let asked = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&asked);
    let server = server(move |_, body| {
        *seen.lock().unwrap() = body.to_owned();
        (
            200,
            json!({"access_token": "obo", "token_type": "Bearer", "expires_in": 300}).to_string(),
        )
    });
    let backend = echo();
    let more = json!({"grant": "jwt-bearer", "auth_method": "client_secret_post",
        "endpoint_params": {"requested_token_use": ["on_behalf_of"]}});
    let (gateway, signer) = exchanging(&server.url(), &backend, &more);
    let ada = token_of(&signer, "ada");
    assert_eq!(get(&gateway, "/x", &ada).status, 200);
    let form = asked.lock().unwrap().clone();
    for part in [
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer",
        &format!("assertion={ada}"),
        "requested_token_use=on_behalf_of",
        "client_id=gateway",
        "client_secret=s3cret",
    ] {
        assert!(form.split('&').any(|one| one == part), "{part} in {form}");
    }
}

#[test]
fn errors_of_the_token_server_have_their_status_and_reach_no_backend() {
    let error = Arc::new(Mutex::new((400, "")));
    let what = Arc::clone(&error);
    let server = server(move |_, _| {
        let (status, error) = *what.lock().unwrap();
        (status, json!({"error": error}).to_string())
    });
    let backend = echo();
    let (gateway, signer) = exchanging(&server.url(), &backend, &json!({}));
    for (number, (answer, status)) in [
        ((400, "invalid_grant"), 401),
        ((400, "invalid_request"), 401),
        ((400, "invalid_target"), 403),
        ((403, "access_denied"), 403),
        ((401, "invalid_client"), 500),
        ((503, "temporarily_unavailable"), 502),
        ((200, ""), 502),
    ]
    .into_iter()
    .enumerate()
    {
        *error.lock().unwrap() = answer;
        let token = token_of(&signer, &format!("u{number}"));
        assert_eq!(get(&gateway, "/x", &token).status, status, "{answer:?}");
    }
    assert!(backend.take_seen().is_empty());
    crate::support::eventually(
        "the log names the exchange",
        Duration::from_secs(30),
        || gateway.output().contains("token exchange"),
    );
    assert!(!gateway.output().contains("s3cret"));
}

#[test]
fn the_retry_time_of_a_key_server_is_respected() {
    let (signer, backend) = (Signer::es256("k"), echo());
    let server = Upstream::raw(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3600\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    let block = json!({"alg": "ES256", "audience": ["api"], "jwk_url": server.url(),
        "disable_jwk_security": true});
    let config = one(&backend.url(), &json!({"auth/validator": block}));
    let gateway = Gateway::start(&config.to_string());
    let token = signer.token(&tokens::claims("api"));
    assert_eq!(get(&gateway, "/x", &token).status, 401);
    let calls = server.calls();
    assert_eq!(calls, 1);
    // Without the header the next attempt follows within about a second.
    for _ in 0..6 {
        crate::support::pause(Duration::from_millis(500));
        assert_eq!(get(&gateway, "/x", &token).status, 401);
    }
    assert_eq!(server.calls(), calls);
}
