//! The three levels of identity against a real OpenID provider (npm's `oidc-provider`).

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Gateway, Peer, Signer, eventually, ports, tokens};

const API: &str = "https://api.example.com";
const KINDS: [(&str, &str, &str); 3] = [
    ("/rs", "RS256", ""),
    ("/ec", "ES256", "/ec"),
    ("/ed", "EdDSA", "/ed"),
];

/// A running provider.
struct Provider(Peer);

impl Provider {
    fn start() -> Self {
        Self::start_with(ports::free(), &[])
    }

    fn start_with(port: u16, variables: &[(&str, &str)]) -> Self {
        Self(Peer::start("provider.mjs", port, variables))
    }

    /// Starts it again at the same address with other keys and other ids.
    fn rotate(mut self, ending: &str) -> Self {
        self.0.kill();
        Self::start_with(self.0.port(), &[("KID", ending)])
    }

    fn url(&self) -> String {
        self.0.url()
    }

    /// A token for a machine, by client credentials.
    fn token(&self, resource: &str) -> String {
        let body = format!(
            "grant_type=client_credentials&scope=read&resource={}",
            resource.replace(':', "%3A").replace('/', "%2F")
        );
        let response = self.0.send(format!(
            "POST /token HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Basic {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            self.0.port(),
            STANDARD.encode("m2m:m2m-secret"),
            body.len()
        ));
        let text = response.text();
        response.json()["access_token"]
            .as_str()
            .unwrap_or_else(|| panic!("{text}"))
            .to_owned()
    }

    /// How often a path was requested.
    fn asked(&self, path: &str) -> u64 {
        self.0.get("/test/asked").json()[path].as_u64().unwrap()
    }

    fn slow(&self, delay: Duration) {
        self.0.get(&format!("/test/slow?ms={}", delay.as_millis()));
    }
}

fn validator(provider: &str, alg: &str, audience: &str) -> Value {
    json!({
        "alg": alg, "audience": [audience], "issuer": provider, "jwk_url": format!("{provider}/jwks"),
        "disable_jwk_security": true, "cache": true
    })
}

/// One endpoint for each kind of key; the gateway is its own backend.
fn config(provider: &str, port: u16, change: impl Fn(&mut Value)) -> Value {
    let own = format!("http://127.0.0.1:{port}");
    let endpoint = |(path, alg, ending): &(&str, &str, &str)| {
        let mut validator = validator(provider, alg, &format!("{API}{ending}"));
        change(&mut validator);
        json!({
            "endpoint": path,
            "extra_config": { "auth/validator": validator },
            "backend": [{ "host": [own], "url_pattern": "/__health" }]
        })
    };
    let endpoints: Vec<Value> = KINDS.iter().map(endpoint).collect();
    json!({ "version": 3, "timeout": "20s", "endpoints": endpoints })
}

fn start(provider: &Provider, change: impl Fn(&mut Value)) -> Gateway {
    let port = ports::free();
    spawn(port, &config(&provider.url(), port, change)).ready()
}

fn spawn(port: u16, config: &Value) -> Gateway {
    let gateway = Gateway::spawn(port, &config.to_string(), &[], &["-p", &port.to_string()]);
    assert!(
        gateway.listens(Duration::from_secs(30)),
        "{}",
        gateway.output()
    );
    gateway
}

fn status(gateway: &Gateway, path: &str, token: &str) -> u16 {
    gateway
        .get_with(path, &[("Authorization", &format!("Bearer {token}"))])
        .status
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn a_machine_with_a_token_of_any_kind_is_accepted() {
    let provider = Provider::start();
    let gateway = start(&provider, |_| {});
    for (path, alg, ending) in KINDS {
        let token = provider.token(&format!("{API}{ending}"));
        assert_eq!(
            status(&gateway, path, &token),
            200,
            "{alg}: {}",
            gateway.output()
        );
        assert_eq!(gateway.get(path).status, 401, "{alg} without a token");
        assert_eq!(
            status(&gateway, path, &tokens::tampered(&token)),
            401,
            "{alg} tampered"
        );
    }
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn a_token_for_others_stays_outside() {
    let provider = Provider::start();
    let gateway = start(&provider, |_| {});
    for (path, alg, _) in KINDS {
        let token = provider.token(&format!("{API}/other"));
        assert_eq!(status(&gateway, path, &token), 401, "{alg}, wrong audience");
    }
    let elsewhere = start(&provider, |v| v["issuer"] = json!("http://127.0.0.1/other"));
    for (path, alg, ending) in KINDS {
        let token = provider.token(&format!("{API}{ending}"));
        assert_eq!(status(&elsewhere, path, &token), 401, "{alg}, wrong issuer");
    }
    let stranger = Provider::start();
    let token = stranger.token(API);
    assert_eq!(
        status(&gateway, "/rs", &token),
        401,
        "another provider's token"
    );
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn a_token_expires_at_its_time() {
    let provider = Provider::start_with(ports::free(), &[("TTL", "12")]);
    let gateway = start(&provider, |_| {});
    let token = provider.token(API);
    assert_eq!(status(&gateway, "/rs", &token), 200, "{}", gateway.output());
    eventually("the token expires", Duration::from_secs(30), || {
        status(&gateway, "/rs", &token) == 401
    });
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn requests_are_served_while_the_provider_is_down() {
    let mut provider = Provider::start();
    let gateway = start(&provider, |v| v["cache_duration"] = json!(1));
    let token = provider.token(API);
    assert_eq!(status(&gateway, "/rs", &token), 200);
    provider.0.kill();
    // Three lifetimes of the key set.
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        assert_eq!(status(&gateway, "/rs", &token), 200, "{}", gateway.output());
    }
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn a_gateway_starts_while_the_provider_is_down() {
    let port = ports::free();
    let gateway_port = ports::free();
    let gateway = spawn(
        gateway_port,
        &config(&format!("http://127.0.0.1:{port}"), gateway_port, |_| {}),
    );
    assert_eq!(gateway.get("/rs").status, 401);
    let provider = Provider::start_with(port, &[]);
    let token = provider.token(API);
    eventually("the keys are there", Duration::from_secs(30), || {
        status(&gateway, "/rs", &token) == 200
    });
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn the_first_token_after_a_rotation_is_accepted() {
    let provider = Provider::start();
    let gateway = start(&provider, |_| {});
    assert_eq!(status(&gateway, "/rs", &provider.token(API)), 200);
    let provider = provider.rotate("2");
    assert_eq!(
        status(&gateway, "/rs", &provider.token(API)),
        200,
        "{}",
        gateway.output()
    );
}

/// A plausible token with an unknown key id.
fn forged(forger: &Signer, provider: &Provider, kid: &str) -> String {
    let mut claims = tokens::claims(API);
    claims["iss"] = json!(provider.url());
    forger.token_with_header(&json!({"alg": "RS256", "kid": kid}), &claims)
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn a_slow_provider_does_not_delay_requests_with_a_known_key() {
    let provider = Provider::start();
    let gateway = start(&provider, |_| {});
    let token = provider.token(API);
    assert_eq!(status(&gateway, "/rs", &token), 200);
    provider.slow(Duration::from_secs(4));
    let before = provider.asked("/jwks");
    let forged = forged(&Signer::rs256("f"), &provider, "unknown");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| status(&gateway, "/rs", &forged));
        eventually("the provider is asked", Duration::from_secs(30), || {
            provider.asked("/jwks") > before || waits.is_finished()
        });
        let mut times: Vec<Duration> = (0..21)
            .map(|_| {
                let start = Instant::now();
                assert_eq!(status(&gateway, "/rs", &token), 200);
                start.elapsed()
            })
            .collect();
        times.sort();
        // A machine that stalls makes a few of them slow.
        assert!(times[10] < Duration::from_millis(500), "{times:?}");
        assert_eq!(waits.join().unwrap(), 401);
    });
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn a_thousand_unknown_key_ids_cause_few_fetches() {
    let provider = Provider::start();
    let gateway = start(&provider, |_| {});
    assert_eq!(status(&gateway, "/rs", &provider.token(API)), 200);
    let (before, start) = (provider.asked("/jwks"), Instant::now());
    let forger = Signer::rs256("f");
    for i in 0..1000 {
        let forged = forged(&forger, &provider, &format!("kid-{i}"));
        assert_eq!(status(&gateway, "/rs", &forged), 401);
    }
    // One per second at first, then fewer and fewer while they bring nothing new, down to one in ten seconds.
    let allowed = 6 + start.elapsed().as_secs() / 10;
    let fetched = provider.asked("/jwks") - before;
    assert!(
        fetched <= allowed,
        "{fetched} fetches in {:?}",
        start.elapsed()
    );
}

#[test]
#[ignore = "needs Node: scripts/test runs it"]
fn the_gateway_gets_a_token_of_its_own_for_a_backend() {
    let provider = Provider::start();
    let port = ports::free();
    let own = format!("http://127.0.0.1:{port}");
    let mut file = config(&provider.url(), port, |_| {});
    for client in ["m2m", "m2m-post"] {
        file["endpoints"].as_array_mut().unwrap().push(json!({
            "endpoint": format!("/machine/{client}"),
            "backend": [{
                "host": [own],
                "url_pattern": "/rs",
                "extra_config": { "auth/client-credentials": {
                    "client_id": client,
                    "client_secret": "m2m-secret",
                    "token_url": format!("{}/token", provider.url()),
                    "scopes": "read",
                    "endpoint_params": { "resource": [API] }
                } }
            }]
        }));
    }
    // The protected backend gets the caller's header only if the endpoint passes it on.
    for endpoint in file["endpoints"].as_array_mut().unwrap() {
        endpoint["input_headers"] = json!(["Authorization"]);
    }
    let gateway = spawn(port, &file);
    for client in ["m2m", "m2m-post"] {
        for _ in 0..5 {
            let response = gateway.get(&format!("/machine/{client}"));
            assert_eq!(response.status, 200, "{client}: {}", gateway.output());
            assert_eq!(response.json()["status"], "ok");
        }
    }
    // One token each. The server that expects the secret in the body costs one more attempt, as with KrakenD.
    assert!(
        provider.asked("/token") <= 3,
        "{} token requests",
        provider.asked("/token")
    );
    assert!(
        !gateway.output().contains("m2m-secret"),
        "the secret stands in the log"
    );
}
