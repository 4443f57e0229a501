//! Signed answers of an introspection (RFC 9701).

use std::io;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{echo, get, one};
use crate::support::{Gateway, Signer, Upstream, tokens};

const MEDIA_TYPE: &str = "application/token-introspection+jwt";

#[test]
fn only_responses_signed_by_the_provider_for_this_gateway_are_accepted() {
    let (signer, other, backend) = (Signer::es256("k"), Signer::es256("k"), echo());
    let answers: Arc<Mutex<(String, String)>> = Arc::default();
    let says = Arc::clone(&answers);
    let provider = Upstream::start(move |mut call| {
        call.body()?;
        if !call
            .head
            .to_lowercase()
            .contains(&format!("accept: {MEDIA_TYPE}"))
        {
            return Err(io::Error::other(call.head.clone()));
        }
        let (kind, body) = says.lock().unwrap().clone();
        call.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    });
    let block = json!({"alg": "ES256", "jwk_local_path": "keys.json", "audience": ["api"],
        "issuer": "https://as.example", "introspection": {"url": provider.url(),
            "allow_insecure": true, "client_id": "gateway", "client_secret": "s3cret",
            "signed_answers": true}});
    let config = one(&backend.url(), &json!({"auth/validator": block}));
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &signer.jwks())]);
    let about = json!({"active": true, "sub": "ada", "aud": "api", "exp": tokens::now() + 60});
    let claims = |more: Value| {
        let mut claims = json!({"iss": "https://as.example", "aud": "gateway",
            "iat": tokens::now(), "token_introspection": about});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    };
    let header = json!({"alg": "ES256", "kid": "k", "typ": "token-introspection+jwt"});
    let sign = |more: Value| signer.token_with_header(&header, &claims(more));
    let untyped = json!({"alg": "ES256", "kid": "k"});
    let nobody = json!({"alg": "none", "kid": "k", "typ": "token-introspection+jwt"});
    let right = sign(json!({}));
    let mut number = 0;
    let mut ask = |kind: &str, body: String| {
        *answers.lock().unwrap() = (kind.to_owned(), body);
        number += 1;
        get(&gateway, "/x", &format!("opaque{number}")).status
    };
    assert_eq!(ask(MEDIA_TYPE, right.clone()), 200);
    assert_eq!(
        ask(MEDIA_TYPE, sign(json!({"aud": ["other", "gateway"]}))),
        200
    );
    for (what, kind, body) in [
        ("not signed", "application/json", about.to_string()),
        ("not signed, in disguise", MEDIA_TYPE, about.to_string()),
        ("another media type", "application/jwt", right.clone()),
        (
            "another key",
            MEDIA_TYPE,
            other.token_with_header(&header, &claims(json!({}))),
        ),
        (
            "no type",
            MEDIA_TYPE,
            signer.token_with_header(&untyped, &claims(json!({}))),
        ),
        (
            "no algorithm",
            MEDIA_TYPE,
            signer.token_with_header(&nobody, &claims(json!({}))),
        ),
        (
            "another issuer",
            MEDIA_TYPE,
            sign(json!({"iss": "https://other"})),
        ),
        ("another audience", MEDIA_TYPE, sign(json!({"aud": "api"}))),
        ("no time", MEDIA_TYPE, sign(json!({"iat": null}))),
        (
            "expired",
            MEDIA_TYPE,
            sign(json!({"exp": tokens::now() - 10})),
        ),
        (
            "not active",
            MEDIA_TYPE,
            sign(json!({"token_introspection": {"active": false}})),
        ),
        (
            "no answer",
            MEDIA_TYPE,
            sign(json!({"token_introspection": null})),
        ),
        ("changed", MEDIA_TYPE, tokens::tampered(&right)),
    ] {
        assert_eq!(ask(kind, body), 401, "{what}");
    }
    // The answer itself is no token of the endpoint.
    assert_eq!(get(&gateway, "/x", &right).status, 401);
}
