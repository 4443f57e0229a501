//! Tokens that are bound to a certificate or a key, with proofs that an attacker could have.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::{echo, one};
use crate::support::tls::{Authority, Speaker};
use crate::support::{Gateway, Response, Signer, Stub, ports, tokens};

fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, bytes))
}

/// The SHA-256 thumbprint of a certificate in PEM.
pub(super) fn thumbprint_of(pem: &str) -> String {
    hash(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
}

/// A client with its key.
pub(super) struct Holder {
    key: Signer,
    number: AtomicUsize,
}

impl Holder {
    pub(super) fn new() -> Holder {
        Holder {
            key: Signer::es256("unused"),
            number: AtomicUsize::new(0),
        }
    }

    fn jwk(&self) -> Value {
        let jwk = self.key.jwk();
        json!({"kty": "EC", "crv": "P-256", "x": jwk["x"], "y": jwk["y"]})
    }

    pub(super) fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        hash(
            format!(
                r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
                jwk["x"], jwk["y"]
            )
            .as_bytes(),
        )
    }

    /// The claims of a valid proof for `GET` of this URL with this token.
    pub(super) fn claims(&self, url: &str, token: &str) -> Value {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        json!({"jti": format!("proof-{number}"), "htm": "GET", "htu": url, "iat": tokens::now(),
            "ath": hash(token.as_bytes())})
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk()});
        self.key.token_with_header(&header, claims)
    }
}

struct Bench {
    gateway: Gateway,
    issuer: Signer,
    _backend: Stub,
}

impl Bench {
    fn start(binding: &Value) -> Bench {
        let (issuer, backend) = (Signer::es256("k"), echo());
        let validator = json!({"alg": "ES256", "jwk_local_path": "keys.json", "audience": ["api"],
            "binding": binding});
        let config = one(&backend.url(), &json!({"auth/validator": validator}));
        let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &issuer.jwks())]);
        Bench {
            gateway,
            issuer,
            _backend: backend,
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/x", self.gateway.port())
    }

    fn bound(&self, cnf: &Value) -> String {
        let mut claims = tokens::claims("api");
        if !cnf.is_null() {
            claims["cnf"] = cnf.clone();
        }
        self.issuer.token(&claims)
    }

    fn send(&self, scheme: &str, token: &str, proofs: &[&str]) -> Response {
        let host = format!("127.0.0.1:{}", self.gateway.port());
        let authorization = format!("{scheme} {token}");
        let mut headers = vec![
            ("Host", host.as_str()),
            ("Authorization", authorization.as_str()),
        ];
        headers.extend(proofs.iter().map(|proof| ("DPoP", *proof)));
        let mut request = String::from("GET /x?q=1 HTTP/1.1\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        self.gateway.send("GET", request + "\r\n")
    }
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

#[test]
fn a_token_that_is_bound_to_a_key_needs_a_proof_of_this_request() {
    let bench = Bench::start(&json!({"dpop": "required"}));
    let (holder, thief) = (Holder::new(), Holder::new());
    let token = bench.bound(&json!({"jkt": holder.thumbprint()}));
    let claims = || holder.claims(&bench.url(), &token);
    let status = |proofs: &[&str]| bench.send("DPoP", &token, proofs).status;
    assert_eq!(status(&[&holder.sign(&claims())]), 200);
    assert_eq!(
        bench
            .send("dpop", &token, &[&holder.sign(&claims())])
            .status,
        200
    );
    let elsewhere = bench.url().replace("127.0.0.1", "other.test");
    let now = tokens::now();
    for (what, proof) in [
        (
            "another method",
            holder.sign(&with(claims(), "htm", json!("POST"))),
        ),
        (
            "another path",
            holder.sign(&with(claims(), "htu", json!(format!("{}/y", bench.url())))),
        ),
        (
            "another host",
            holder.sign(&with(claims(), "htu", json!(elsewhere))),
        ),
        (
            "another scheme",
            holder.sign(&with(
                claims(),
                "htu",
                json!(bench.url().replace("http:", "https:")),
            )),
        ),
        ("no hash", holder.sign(&with(claims(), "ath", Value::Null))),
        (
            "the hash of another token",
            holder.sign(&with(claims(), "ath", json!(hash(b"x")))),
        ),
        (
            "too old",
            holder.sign(&with(claims(), "iat", json!(now - 100))),
        ),
        (
            "from the future",
            holder.sign(&with(claims(), "iat", json!(now + 100))),
        ),
        (
            "expired by its own word",
            holder.sign(&with(claims(), "exp", json!(now - 100))),
        ),
        (
            "not valid yet by its own word",
            holder.sign(&with(claims(), "nbf", json!(now + 100))),
        ),
        ("no id", holder.sign(&with(claims(), "jti", json!("")))),
        ("another key", thief.sign(&claims())),
        ("a private key", {
            let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": with(holder.jwk(), "d", json!("AAAA"))});
            holder.key.token_with_header(&header, &claims())
        }),
        ("another type in capitals", {
            let header = json!({"typ": "APPLICATION/JWT", "alg": "ES256", "jwk": holder.jwk()});
            holder.key.token_with_header(&header, &claims())
        }),
        ("another type", {
            let header = json!({"typ": "JWT", "alg": "ES256", "jwk": holder.jwk()});
            holder.key.token_with_header(&header, &claims())
        }),
        ("the key of another", {
            let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": holder.jwk()});
            thief.key.token_with_header(&header, &claims())
        }),
        ("no algorithm", {
            let header = json!({"typ": "dpop+jwt", "alg": "none", "jwk": holder.jwk()});
            holder.key.token_with_header(&header, &claims())
        }),
        (
            "a changed signature",
            tokens::tampered(&holder.sign(&claims())),
        ),
        ("no token at all", "x".to_owned()),
        ("the access token", token.clone()),
    ] {
        assert_eq!(status(&[&proof]), 401, "{what}");
    }
    assert_eq!(status(&[]), 401, "no proof");
    let (one, two) = (holder.sign(&claims()), holder.sign(&claims()));
    assert_eq!(status(&[&one, &two]), 401, "two proofs");
    assert_eq!(status(&[&one]), 200);
    assert_eq!(status(&[&one]), 401, "used before");
    let query = with(claims(), "htu", json!(format!("{}?other=1#f", bench.url())));
    assert_eq!(
        status(&[&holder.sign(&query)]),
        200,
        "query and fragment do not count"
    );
    let spelled = with(claims(), "htu", json!(bench.url().replace("/x", "/%78")));
    assert_eq!(
        status(&[&holder.sign(&spelled)]),
        200,
        "the same path, spelled differently"
    );
    // Types are media types, whose case does not matter and whose prefix may be left out (RFC 7515 §4.1.9).
    for kind in ["DPoP+JWT", "application/dpop+jwt"] {
        let header = json!({"typ": kind, "alg": "ES256", "jwk": holder.jwk()});
        let proof = holder.key.token_with_header(&header, &claims());
        assert_eq!(status(&[&proof]), 200, "{kind}");
    }
    // The scheme, and tokens without a binding.
    assert_eq!(
        bench
            .send("Bearer", &token, &[&holder.sign(&claims())])
            .status,
        401
    );
    let unbound = bench.bound(&Value::Null);
    let proof = holder.sign(&holder.claims(&bench.url(), &unbound));
    assert_eq!(bench.send("DPoP", &unbound, &[&proof]).status, 401);
    assert_eq!(bench.send("Bearer", &unbound, &[]).status, 401);
    for cnf in [
        json!("x"),
        json!({"jkt": 7}),
        json!({"jkt": ""}),
        json!({"jkt": thief.thumbprint()}),
    ] {
        let odd = bench.bound(&cnf);
        let proof = holder.sign(&holder.claims(&bench.url(), &odd));
        assert_eq!(bench.send("DPoP", &odd, &[&proof]).status, 401, "{cnf}");
    }
    let challenge = bench.send("DPoP", &token, &[]);
    let challenge = challenge.header("www-authenticate").unwrap();
    assert!(
        challenge.starts_with("DPoP error=\"invalid_dpop_proof\""),
        "{challenge}"
    );
    assert!(
        challenge.contains("algs=\"") && challenge.contains("ES256"),
        "{challenge}"
    );
}

#[test]
fn where_a_binding_is_optional_a_bound_token_is_still_bound() {
    let bench = Bench::start(&json!({"dpop": "optional"}));
    let holder = Holder::new();
    let plain = bench.bound(&Value::Null);
    assert_eq!(bench.send("Bearer", &plain, &[]).status, 200);
    let bound = bench.bound(&json!({"jkt": holder.thumbprint()}));
    assert_eq!(bench.send("Bearer", &bound, &[]).status, 401);
    let proof = holder.sign(&holder.claims(&bench.url(), &bound));
    assert_eq!(bench.send("DPoP", &bound, &[&proof]).status, 200);
    let off = Bench::start(&json!({}));
    let bound = off.bound(&json!({"jkt": holder.thumbprint()}));
    assert_eq!(
        off.send("DPoP", &bound, &[&proof]).status,
        401,
        "no scheme of this endpoint"
    );
}

#[test]
fn a_proof_needs_a_nonce_of_the_gateway_where_it_says_so() {
    let bench = Bench::start(&json!({"dpop": "required", "dpop_nonce": true}));
    let holder = Holder::new();
    let token = bench.bound(&json!({"jkt": holder.thumbprint()}));
    let claims = || holder.claims(&bench.url(), &token);
    let first = bench.send("DPoP", &token, &[&holder.sign(&claims())]);
    assert_eq!(first.status, 401);
    let challenge = first.header("www-authenticate").unwrap();
    assert!(
        challenge.contains("error=\"use_dpop_nonce\""),
        "{challenge}"
    );
    assert_eq!(first.header("cache-control"), Some("no-store"));
    let nonce = first.header("dpop-nonce").unwrap();
    let proof = holder.sign(&with(claims(), "nonce", json!(nonce)));
    assert_eq!(bench.send("DPoP", &token, &[&proof]).status, 200);
    assert_eq!(
        bench.send("DPoP", &token, &[&proof]).status,
        401,
        "used before"
    );
    for wrong in ["", "x", &nonce[1..]] {
        let proof = holder.sign(&with(claims(), "nonce", json!(wrong)));
        assert_eq!(bench.send("DPoP", &token, &[&proof]).status, 401, "{wrong}");
    }
}

#[test]
fn proofs_name_the_public_address() {
    let bench =
        Bench::start(&json!({"dpop": "required", "dpop_origins": ["https://API.example.com"]}));
    let holder = Holder::new();
    let token = bench.bound(&json!({"jkt": holder.thumbprint()}));
    for (url, status) in [
        ("https://api.example.com/x", 200),
        ("https://api.example.com:443/x", 200),
        ("https://api.example.com/x/", 401),
        ("http://api.example.com/x", 401),
        ("https://api.example.com.evil.test/x", 401),
        ("https://evil.test@api.example.com/x", 401),
        (bench.url().as_str(), 401),
    ] {
        let proof = holder.sign(&holder.claims(url, &token));
        assert_eq!(
            bench.send("DPoP", &token, &[&proof]).status,
            status,
            "{url}"
        );
    }
}

#[test]
fn a_token_that_is_bound_to_a_certificate_needs_its_connection() {
    let (authority, issuer, backend) = (Authority::new(), Signer::es256("k"), echo());
    let validator = json!({"alg": "ES256", "jwk_local_path": "keys.json", "audience": ["api"],
        "binding": {"certificate": "required"}});
    let mut config = one(&backend.url(), &json!({"auth/validator": validator}));
    let (certificate, key) = authority.pair("a.test");
    config["tls"] = json!({"keys": [{"public_key": "a.crt", "private_key": "a.key"}],
        "enable_mtls": true, "ca_certs": ["ca.crt"], "disable_system_ca_pool": true});
    let (port, keys, ca) = (ports::free(), issuer.jwks(), authority.pem());
    let files = [
        ("keys.json", keys.as_str()),
        ("ca.crt", &ca),
        ("a.crt", &certificate),
        ("a.key", &key),
    ];
    let gateway = Gateway::spawn(
        port,
        &config.to_string(),
        &files,
        &["-p", &port.to_string()],
    );
    assert!(
        gateway.listens(std::time::Duration::from_secs(20)),
        "{}",
        gateway.output()
    );
    let (holder, other) = (authority.pair("me"), authority.pair("me"));
    let thumbprint = thumbprint_of(&holder.0);
    let token = |cnf: Value| {
        let mut claims = tokens::claims("api");
        claims["cnf"] = cnf;
        issuer.token(&claims)
    };
    let bound = token(json!({"x5t#S256": thumbprint}));
    let status = |pair: &(String, String), token: &str| {
        let speaker = Speaker::default().showing(pair.clone());
        let mut client = speaker.connect(port, "a.test", &authority).unwrap();
        let request = format!(
            "GET /x HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        client.0.write_all(request.as_bytes()).unwrap();
        let mut head = [0; 12];
        client.0.read_exact(&mut head).unwrap();
        String::from_utf8_lossy(&head[9..]).into_owned()
    };
    assert_eq!(status(&holder, &bound), "200");
    assert_eq!(status(&other, &bound), "401");
    assert_eq!(status(&holder, &token(json!({}))), "401");
    assert_eq!(
        status(
            &holder,
            &token(json!({"x5t#S256": thumbprint.to_uppercase()}))
        ),
        "401"
    );
}

#[test]
fn a_certificate_in_a_header_is_used_only_from_a_trusted_proxy() {
    let issuer = Signer::es256("k");
    let authority = Authority::new();
    let (pem, _) = authority.pair("me");
    let thumbprint = thumbprint_of(&pem);
    let mut claims = tokens::claims("api");
    claims["cnf"] = json!({"x5t#S256": thumbprint});
    let bound = issuer.token(&claims);
    let plain = issuer.token(&tokens::claims("api"));
    let escaped = pem
        .replace('\n', "%0A")
        .replace(' ', "%20")
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    for (proxies, expected) in [("127.0.0.1/32", 200), ("192.0.2.1", 401)] {
        let backend = echo();
        let validator = json!({"alg": "ES256", "jwk_local_path": "keys.json", "audience": ["api"],
            "binding": {"certificate": "optional", "certificate_header": "X-Client-Cert"}});
        let mut config = one(&backend.url(), &json!({"auth/validator": validator}));
        config["extra_config"] = json!({"router": {"trusted_proxies": [proxies]}});
        let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &issuer.jwks())]);
        let status = |token: &str, certificate: &str| {
            let authorization = format!("Bearer {token}");
            let headers = [
                ("Authorization", authorization.as_str()),
                ("X-Client-Cert", certificate),
            ];
            gateway.get_with("/x", &headers).status
        };
        assert_eq!(status(&bound, &escaped), expected, "{proxies}");
        assert_eq!(status(&bound, &thumbprint), expected, "{proxies}");
        assert_eq!(status(&bound, &hash(b"other")), 401, "{proxies}");
        assert_eq!(status(&bound, ""), 401, "{proxies}");
        assert_eq!(status(&plain, ""), 200, "{proxies}");
    }
}

#[test]
fn endpoints_with_different_ages_of_proofs_do_not_disturb_each_other() {
    let (issuer, backend, holder) = (Signer::es256("k"), echo(), Holder::new());
    let endpoint = |path: &str, binding: Value| {
        let validator = json!({"alg": "ES256", "jwk_local_path": "keys.json", "audience": ["api"], "binding": binding});
        json!({"endpoint": path, "extra_config": {"auth/validator": validator},
            "backend": [{"host": [backend.url()], "url_pattern": "/b"}]})
    };
    let config = json!({"version": 3, "endpoints": [
        endpoint("/long", json!({"dpop": "required"})),
        endpoint("/short", json!({"dpop": "required", "dpop_max_age": "5s"})),
    ]});
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &issuer.jwks())]);
    let claims = with(
        tokens::claims("api"),
        "cnf",
        json!({"jkt": holder.thumbprint()}),
    );
    let token = issuer.token(&claims);
    let status = |path: &str, age: i64| {
        let host = format!("127.0.0.1:{}", gateway.port());
        let issued = i64::try_from(tokens::now()).unwrap() - age;
        let claims = holder.claims(&format!("http://{host}{path}"), &token);
        let proof = holder.sign(&with(claims, "iat", json!(issued)));
        let authorization = format!("DPoP {token}");
        let sent = [
            ("Host", &*host),
            ("Authorization", &*authorization),
            ("DPoP", &*proof),
        ];
        let lines: String = sent
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        gateway
            .send("GET", format!("GET {path} HTTP/1.1\r\n{lines}\r\n"))
            .status
    };
    assert_eq!(status("/short", 1), 200);
    assert_eq!(
        status("/long", 30),
        200,
        "the first proof was for the other endpoint"
    );
    assert_eq!(status("/long", 50), 200);
    // The time that the file says, and nothing on top of it.
    assert_eq!(status("/short", 7), 401);
    assert_eq!(status("/long", 62), 401);
    assert_eq!(status("/short", -3), 200, "the client's clock is ahead");
    assert_eq!(status("/short", -20), 401);
}
