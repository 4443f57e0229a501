//! How the gateway authenticates at a provider.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{active, echo, get, one, server, token_of};
use crate::support::tls::Authority;
use crate::support::{Gateway, Signer, ports, tokens};

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

#[test]
fn a_switch_for_the_certificates_of_backends_does_not_open_the_gateway() {
    let (authority, folder, backend) = (Authority::new(), tempfile::tempdir().unwrap(), echo());
    let (certificate, key) = authority.write(folder.path(), "server", "127.0.0.1");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let answers = server(|head, _| {
        if head.starts_with("POST /token") {
            return (
                200,
                json!({"access_token": "new", "token_type": "Bearer",
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})
                .to_string(),
            );
        }
        (200, active(json!({})))
    });
    // The gateway in front of it only adds TLS.
    let endpoint = |path: &str, method: &str| {
        json!({"endpoint": path, "method": method, "output_encoding": "no-op", "input_headers": ["*"],
            "backend": [{"host": [answers.url()], "url_pattern": path, "method": method,
                "encoding": "no-op"}]})
    };
    let front = json!({"version": 3,
        "tls": {"keys": [{"public_key": certificate, "private_key": key}]},
        "endpoints": [endpoint("/introspect", "POST"), endpoint("/token", "POST"),
            endpoint("/verify", "GET")]});
    let front = Gateway::start(&front.to_string());
    let url = format!("https://127.0.0.1:{}", front.port());
    let signer = Signer::es256("e");
    let config = |tls: Value| {
        let client = json!({"client_id": "gateway", "client_secret": "s3cret"});
        let with = |name: &str, path: &str| {
            let mut block = client.clone();
            block[name] = json!(format!("{url}{path}"));
            block
        };
        let validator = json!({"alg": "ES256", "jwk_local_path": "keys.json", "audience": ["api"]});
        let opaque = json!({"audience": ["api"], "introspection": with("url", "/introspect")});
        let endpoint = |path: &str, extra: Value, backend: Value| {
            json!({"endpoint": path, "extra_config": extra,
                "backend": [{"url_pattern": "/b", "extra_config": backend}]})
        };
        let mut config = json!({"version": 3, "host": [backend.url()], "endpoints": [
            endpoint("/opaque", json!({"auth/validator": opaque}), json!({})),
            endpoint("/asked", json!({"portcullis/forward-auth": {"url": format!("{url}/verify")}}), json!({})),
            endpoint("/exchanged", json!({"auth/validator": validator}),
                json!({"portcullis/token-exchange": with("token_url", "/token")})),
        ]});
        config["allow_insecure_connections"] = json!(true);
        if !tls.is_null() {
            config["client_tls"] = tls;
        }
        config.to_string()
    };
    let trusting = json!({"ca_certs": [ca], "allow_insecure_connections": true});
    for (tls, statuses) in [(Value::Null, [401, 503, 502]), (trusting, [200, 200, 200])] {
        let gateway = Gateway::start_with(&config(tls), &[("keys.json", &signer.jwks())]);
        let before = answers.calls();
        let token = token_of(&signer, "ada");
        let found = ["/opaque", "/asked", "/exchanged"].map(|path| {
            let token = if path == "/opaque" { "opaque" } else { &token };
            get(&gateway, path, token).status
        });
        assert_eq!(found, statuses);
        let calls = if statuses[0] == 200 { 3 } else { 0 };
        assert_eq!(
            answers.calls() - before,
            calls,
            "nothing was shown to a stranger"
        );
    }
}

/// RFC 8705 §2: the certificate of the connection is the proof, and the form names the client.
#[test]
fn a_certificate_proves_who_the_client_is() {
    let (authority, folder, backend) = (Authority::new(), tempfile::tempdir().unwrap(), echo());
    let (certificate, key) = authority.write(folder.path(), "server", "127.0.0.1");
    let own = authority.write(folder.path(), "gateway", "gateway");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let answers = server(move |head, body| {
        seen.lock().unwrap().push(format!("{head}{body}"));
        (200, active(json!({})))
    });
    // The gateway in front of the provider requires a certificate of each client.
    let front = json!({"version": 3,
        "tls": {"keys": [{"public_key": certificate, "private_key": key}], "enable_mtls": true,
            "ca_certs": [ca], "disable_system_ca_pool": true},
        "endpoints": [{"endpoint": "/introspect", "method": "POST", "output_encoding": "no-op",
            "input_headers": ["*"], "backend": [{"host": [answers.url()], "url_pattern": "/introspect",
                "method": "POST", "encoding": "no-op"}]}]});
    let port = ports::free();
    let front = Gateway::spawn(port, &front.to_string(), &[], &["-p", &port.to_string()]);
    assert!(front.listens(Duration::from_secs(30)), "{}", front.output());
    let status = |client: Value| {
        let mut block =
            json!({"url": format!("https://127.0.0.1:{port}/introspect"), "client_id": "gateway"});
        for (name, value) in client.as_object().unwrap() {
            block[name] = value.clone();
        }
        let extra = json!({"auth/validator": {"audience": ["api"], "introspection": block}});
        let mut config = one(&backend.url(), &extra);
        config["client_tls"] = json!({"ca_certs": [ca]});
        get(&Gateway::start(&config.to_string()), "/x", "opaque").status
    };
    assert_eq!(status(json!({"client_secret": "s3cret"})), 401);
    assert_eq!(asked.lock().unwrap().len(), 0, "no certificate");
    for method in ["tls_client_auth", "self_signed_tls_client_auth"] {
        let client = json!({"auth_method": method, "tls_cert": own.0, "tls_key": own.1});
        assert_eq!(status(client), 200, "{method}");
        let request = asked.lock().unwrap().remove(0);
        assert!(request.contains("client_id=gateway"), "{request}");
        assert!(
            !request.to_lowercase().contains("authorization:"),
            "{request}"
        );
    }
}
