//! The cost of a token: verified, found in the cache, or rejected.
//!
//! `cargo bench --bench token`; the budget for a whole request is in ARCHITECTURE.md.

#![allow(clippy::unwrap_used, reason = "the inputs are our own")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use portcullis::internals::compile::{self, Inputs};
use portcullis::internals::config::Environment;
use portcullis::internals::config::load::Format;
use portcullis::internals::ext::ReloadState;
use portcullis::internals::jose::{
    Algorithm, CacheLimits, KeyIdStrategy, KeySet, Origin, Rules, Serialization, Signer,
    TokenCache, Verifier,
};
use portcullis::internals::runtime::request::{Head, Host, Notes};
use portcullis::internals::runtime::step::{EndpointStep, Gate};
use portcullis::internals::upstream::{Clients, DnsTable};
use serde_json::{Value, json};

const NOW: Duration = Duration::from_secs(1_700_000_000);
const LEEWAY: Duration = Duration::from_secs(1);
const ORIGIN: Origin = Origin(1);
const PRIVATE: &[u8] = include_bytes!("../tests/data/keys/private.json");

fn public_document() -> String {
    let mut set: Value = serde_json::from_slice(PRIVATE).unwrap();
    for key in set["keys"].as_array_mut().unwrap() {
        for name in ["d", "p", "q", "dp", "dq", "qi"] {
            key.as_object_mut().unwrap().remove(name);
        }
    }
    set.to_string()
}

fn public() -> KeySet {
    KeySet::parse(public_document().as_bytes()).unwrap().set
}

fn token(algorithm: Algorithm, kid: &str, number: u32) -> String {
    let claims = json!({
        "iss": "https://issuer.example.com/", "aud": ["https://api.example.com"], "sub": format!("user-{number}"),
        "iat": 1_500_000_000, "exp": 4_102_444_800_u64, "jti": format!("id-{number}"), "scope": "read write",
        "roles": ["admin", "user"], "client_id": "web",
    });
    Signer::from_key_set(PRIVATE, kid, algorithm, "JWT", Serialization::Compact)
        .unwrap()
        .sign(claims.to_string().as_bytes())
        .unwrap()
}

fn verifier(algorithm: Algorithm) -> Verifier {
    Verifier::new(algorithm, KeyIdStrategy::Kid)
}

fn verify(c: &mut Criterion) {
    let keys = public();
    for (algorithm, kid) in [
        (Algorithm::Hs256, "oct"),
        (Algorithm::Rs256, "rsa"),
        (Algorithm::Ps256, "rsa"),
        (Algorithm::Es256, "ec256"),
        (Algorithm::Es384, "ec384"),
        (Algorithm::Es512, "ec521"),
        (Algorithm::EdDsa, "ed25519"),
    ] {
        let text = token(algorithm, kid, 0);
        let verifier = verifier(algorithm);
        c.bench_function(&format!("verify/{algorithm}"), |b| {
            b.iter(|| verifier.verify(black_box(&text), &keys).unwrap());
        });
    }
}

fn cached(c: &mut Criterion) {
    let keys = public();
    for (algorithm, kid) in [(Algorithm::Rs256, "rsa"), (Algorithm::Es256, "ec256")] {
        let cache = TokenCache::new(CacheLimits::default());
        let verifier = verifier(algorithm);
        let text = token(algorithm, kid, 0);
        let get = |text: &str| {
            verifier
                .verify_cached(text, &keys, ORIGIN, &cache, NOW, LEEWAY)
                .verdict
                .unwrap()
        };
        get(&text);
        c.bench_function(&format!("cached/{algorithm}/one"), |b| {
            b.iter(|| get(black_box(&text)));
        });
    }
    let cache = TokenCache::new(CacheLimits::default());
    let verifier = verifier(Algorithm::Hs256);
    let tokens: Vec<_> = (0..5000)
        .map(|n| token(Algorithm::Hs256, "oct", n))
        .collect();
    let mut turn = 0;
    c.bench_function("cached/HS256/5000 in turn", |b| {
        b.iter(|| {
            turn = (turn + 1) % tokens.len();
            verifier
                .verify_cached(&tokens[turn], &keys, ORIGIN, &cache, NOW, LEEWAY)
                .verdict
                .unwrap()
        });
    });
    let rules = Rules {
        issuer: Some("https://issuer.example.com/".into()),
        audience: Box::new(["https://api.example.com".into()]),
        roles: Box::new(["user".into()]),
        scopes: Box::new(["write".into()]),
        ..Rules::default()
    };
    let claims = verifier.verify(&tokens[0], &keys).unwrap();
    c.bench_function("rules", |b| {
        b.iter(|| rules.check(black_box(&claims), NOW).unwrap());
    });
}

fn rejected(c: &mut Criterion) {
    let keys = public();
    let verifier = verifier(Algorithm::Es256);
    let forged = token(Algorithm::Rs256, "rsa", 0);
    c.bench_function("refused/wrong alg", |b| {
        b.iter(|| verifier.verify(black_box(&forged), &keys).unwrap_err());
    });
    let dots = ".".repeat(8000);
    c.bench_function("refused/8000 dots", |b| {
        b.iter(|| verifier.verify(black_box(&dots), &keys).unwrap_err());
    });
}

/// A whole `auth/validator`: find the token, look it up in the cache, apply the rules, propagate a claim.
fn endpoint(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("keys.json"), public_document()).unwrap();
    let file = json!({
        "version": 3,
        "endpoints": [{
            "endpoint": "/x",
            "extra_config": {"auth/validator": {
                "alg": "RS256", "jwk_local_path": "keys.json", "issuer": "https://issuer.example.com/",
                "audience": ["https://api.example.com"], "roles": ["user"], "propagate_claims": [["sub", "x-user"]],
            }},
            "backend": [{"host": ["http://127.0.0.1:1"], "url_pattern": "/"}],
        }],
    });
    let inputs = Inputs {
        environment: &Environment::process(),
        clients: &Arc::new(Clients::new(Arc::new(DnsTable::default()))),
        before: &ReloadState::default(),
        port: None,
        debug: false,
    };
    let compiled = compile::text(&file.to_string(), Format::Json, folder.path(), &inputs);
    let blocks = compiled.compiled.unwrap().blocks;
    let guarded = blocks.validators.unwrap().list().remove(0);
    let mut headers = HeaderMap::new();
    let bearer = format!("Bearer {}", token(Algorithm::Rs256, "rsa", 0));
    headers.insert(http::header::AUTHORIZATION, bearer.parse().unwrap());
    let address = std::net::IpAddr::from([127, 0, 0, 1]);
    let head = Head {
        method: &http::Method::GET,
        path: "/x",
        query: None,
        headers: &headers,
        host: Host::Given("gateway"),
        peer: address,
        client: address,
        secure: false,
        certificate: None,
    };
    c.bench_function("validator/RS256/cached", |b| {
        b.iter(|| {
            let mut notes = Notes::default();
            let gate = guarded.validator.check(black_box(&head), &mut notes);
            assert!(matches!(gate, Gate::Pass));
        });
    });
}

criterion_group!(benches, verify, cached, rejected, endpoint);
criterion_main!(benches);
