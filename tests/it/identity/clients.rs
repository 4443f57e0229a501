//! How the gateway authenticates at a provider.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{active, echo, get, one, server};
use crate::support::{Gateway, tokens};

#[test]
fn a_signed_assertion_names_the_client_and_the_endpoint() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let provider = server(move |head, body| {
        seen.lock()
            .unwrap()
            .push((head.to_lowercase(), body.to_owned()));
        (200, active(json!({})))
    });
    let backend = echo();
    let url = format!("{}/introspect", provider.url());
    let block = json!({"audience": ["api"], "introspection": {
        "url": url, "allow_insecure": true, "client_id": "gateway",
        "auth_method": "private_key_jwt", "private_key_path": "client.json",
        "private_key_id": "ec256", "private_key_alg": "ES256", "cache_duration": "0s",
    }});
    let config = one(&backend.url(), &json!({"auth/validator": block}));
    let keys = include_str!("../../data/keys/private.json");
    let gateway = Gateway::start_with(&config.to_string(), &[("client.json", keys)]);
    for _ in 0..2 {
        assert_eq!(get(&gateway, "/x", "opaque").status, 200);
    }
    let mut ids = Vec::new();
    for (head, body) in asked.lock().unwrap().iter() {
        assert!(!head.contains("authorization:"), "{head}");
        let form: Vec<_> = body.split('&').collect();
        assert!(form.contains(&"client_id=gateway"), "{body}");
        assert!(
            form.contains(&"client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"),
            "{body}"
        );
        let assertion = form
            .iter()
            .find_map(|field| field.strip_prefix("client_assertion="));
        let payload = assertion.unwrap().split('.').nth(1).unwrap();
        let claims: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        assert_eq!(
            (&claims["iss"], &claims["sub"]),
            (&json!("gateway"), &json!("gateway"))
        );
        assert_eq!(claims["aud"], url.as_str());
        let lives = claims["exp"].as_u64().unwrap() - tokens::now();
        assert!(lives <= 60, "{claims}");
        ids.push(claims["jti"].clone());
    }
    assert_eq!(
        ids.len(),
        2,
        "with no time to keep an answer, each request is asked about"
    );
    assert_ne!(ids[0], ids[1]);
}
