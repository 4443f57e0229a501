//! Tokens of `auth/signer`, verified by another implementation of JOSE (npm's `jose`), which also makes the keys.

use serde_json::{Value, json};

use crate::support::{Gateway, Stub, peers};

const ALGORITHMS: [&str; 13] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "ES512", "EdDSA",
];

/// The backend's data to sign: with characters that the signer escapes, and others that are not ASCII.
const CLAIMS: &str = r#"{"sub": "ada", "exp": 4102444800, "aud": ["a", "b"], "ratio": 1.10, "html": "<&>",
    "name": "Łukasz", "nested": {"roles": ["x"], "none": null}}"#;

/// Makes keys and verifies tokens.
struct Jose {
    private: String,
    public: Value,
}

impl Jose {
    fn new() -> Self {
        let sets = peers::ask("jose.mjs", "keys", &Value::Null);
        Self {
            private: sets["private"].to_string(),
            public: sets["public"].clone(),
        }
    }

    /// One result for each algorithm and token.
    fn judge(&self, tokens: &[(&str, String)]) -> Vec<Value> {
        let ask = |(alg, token): &(&str, String)| json!({ "alg": alg, "token": token, "keys": self.public });
        let asked: Vec<Value> = tokens.iter().map(ask).collect();
        let verdicts = peers::ask("jose.mjs", "verify", &Value::from(asked));
        verdicts.as_array().unwrap().clone()
    }
}

/// A gateway with an endpoint `/<alg>` for each algorithm, whose response has a token in `token`.
fn start(jose: &Jose, full: bool) -> (Stub, Gateway) {
    let route = r#"[{"headers": {"Content-Type": "application/json"},
        "body": {"token": CLAIMS, "list": [1], "plain": {"a": 1}}}]"#;
    let stub = Stub::with(&route.replace("CLAIMS", CLAIMS));
    let endpoint = |alg: &&str| {
        json!({
            "endpoint": format!("/{alg}"),
            "extra_config": { "auth/signer": {
                "alg": alg, "kid": alg, "full": full, "jwk_local_path": "keys.json",
                "keys_to_sign": ["token", "list", "absent"]
            } },
            "backend": [{ "host": [stub.url()], "url_pattern": "/" }]
        })
    };
    let endpoints: Vec<Value> = ALGORITHMS.iter().map(endpoint).collect();
    let file = json!({ "version": 3, "endpoints": endpoints }).to_string();
    let gateway = Gateway::start_with(&file, &[("keys.json", &jose.private)]);
    (stub, gateway)
}

/// The token of each algorithm.
fn tokens(gateway: &Gateway) -> Vec<(&'static str, String)> {
    let token = |alg: &&'static str| {
        let response = gateway.get(&format!("/{alg}"));
        assert_eq!(response.status, 200, "{alg}: {}", gateway.output());
        let body = response.json();
        assert_eq!(body["list"], json!([1]), "only objects are signed");
        assert_eq!(body["plain"], json!({ "a": 1 }), "only what is listed");
        assert_eq!(body.get("absent"), None);
        (*alg, body["token"].as_str().unwrap().to_owned())
    };
    ALGORITHMS.iter().map(token).collect()
}

fn assert_all_good(jose: &Jose, tokens: &[(&str, String)]) {
    let claims: Value = serde_json::from_str(CLAIMS).unwrap();
    for ((alg, token), verdict) in tokens.iter().zip(jose.judge(tokens)) {
        let header = json!({ "alg": alg, "kid": alg, "typ": "JWT" });
        let expected = json!({ "header": header, "claims": claims });
        assert_eq!(verdict, expected, "{alg}: {token}");
    }
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn compact_tokens_of_every_algorithm_are_good_elsewhere() {
    let jose = Jose::new();
    let (_stub, gateway) = start(&jose, false);
    assert_all_good(&jose, &tokens(&gateway));
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn tokens_in_json_are_good_elsewhere() {
    let jose = Jose::new();
    let (_stub, gateway) = start(&jose, true);
    let tokens = tokens(&gateway);
    for (alg, token) in &tokens {
        assert!(token.starts_with(r#"{"payload":""#), "{alg}: {token}");
    }
    assert_all_good(&jose, &tokens);
}

/// The same token, with the letter at `at` (of its part) replaced by another base64url letter.
fn flipped(token: &str, part: usize, at: usize) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let other = if parts[part][at..].starts_with('A') {
        "B"
    } else {
        "A"
    };
    parts[part].replace_range(at..=at, other);
    parts.join(".")
}

/// Without this test, the other side might not verify anything.
#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn other_libraries_detect_one_changed_letter() {
    const FORGED: &str = "ERR_JWS_SIGNATURE_VERIFICATION_FAILED";
    let jose = Jose::new();
    let (_stub, gateway) = start(&jose, false);
    let tokens = tokens(&gateway);
    for part in [1, 2] {
        let changed: Vec<_> = tokens
            .iter()
            .map(|(alg, token)| (*alg, flipped(token, part, 5)))
            .collect();
        for ((alg, token), verdict) in changed.iter().zip(jose.judge(&changed)) {
            assert_eq!(verdict, json!({ "refused": FORGED }), "{alg}: {token}");
        }
    }
    let strangers = Jose::new();
    for ((alg, _), verdict) in tokens.iter().zip(strangers.judge(&tokens)) {
        assert_eq!(verdict["refused"], FORGED, "{alg}, another key");
    }
}
