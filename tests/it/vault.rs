//! Encrypted key files whose passphrase is in a Vault: the transit engine, replaced by a stub.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};

use crate::support::gateway::command;
use crate::support::sealed::{seal, seal_box};
use crate::support::tls::Authority;
use crate::support::{Gateway, Json, Signer, Stub, eventually, ports, tokens};

const LIMIT: Duration = Duration::from_secs(30);
const TOKEN: &str = "hvs.CAESIJ-the-token";
const PASSPHRASE: &str = "correct horse battery staple";
const CIPHERTEXT: &str = "vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM13ok481zoCmHnSeDX9vyf";
const DECRYPT: &str = "/v1/transit/decrypt/gate";

/// A Vault that decrypts for clients with the token.
fn decrypts() -> Value {
    json!([
        { "method": "POST", "path": DECRYPT, "when_header": { "X-Vault-Token": TOKEN },
          "headers": { "Content-Type": "application/json" },
          "body": { "request_id": "r", "data": { "plaintext": STANDARD.encode(PASSPHRASE) } } },
        { "status": 403, "headers": { "Content-Type": "application/json" },
          "body": { "errors": [format!("permission denied for {TOKEN}")] } },
    ])
}

fn say(stub: &Stub, routes: &Value) {
    let routes = Json::parse(&routes.to_string()).unwrap();
    stub.load(routes.items().to_vec(), Arc::new(str::to_owned));
}

/// Two key files, and the configuration of a gateway that uses them.
struct Site {
    folder: tempfile::TempDir,
    signer: Signer,
    backend: Stub,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
            signer: Signer::es256("k"),
            backend: Stub::with(
                r#"[{"headers": {"Content-Type": "application/json"}, "body": {"token": {"sub": "ada"}}}]"#,
            ),
        };
        let secret =
            json!({ "keys": [{ "kty": "oct", "kid": "s", "k": URL_SAFE.encode([b'k'; 32]) }] });
        for (name, document) in [
            ("keys.enc", site.signer.jwks()),
            ("sign.enc", secret.to_string()),
        ] {
            let file = seal(PASSPHRASE.as_bytes(), document.as_bytes());
            std::fs::write(site.folder.path().join(name), file).unwrap();
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `/me` needs a token of the encrypted set, `/sign` signs with an encrypted key, `/signed` verifies the result.
    fn config(&self) -> Value {
        let sealed = |name: &str, mut block: Value| {
            block["jwk_local_path"] = json!(self.path(name));
            block["secret_url"] = json!("hashivault://gate");
            block["cypher_key"] = json!(STANDARD.encode(CIPHERTEXT));
            block
        };
        let endpoint = |path: &str, extra: Value| {
            json!({ "endpoint": path, "extra_config": extra,
                "backend": [{ "host": [self.backend.url()], "url_pattern": "/" }] })
        };
        let me = json!({ "alg": "ES256", "audience": ["api"], "operation_debug": true });
        let sign = json!({ "alg": "HS256", "kid": "s", "keys_to_sign": ["token"] });
        let signed = json!({ "alg": "HS256" });
        json!({
            "version": 3,
            "extra_config": { "telemetry/logging": { "level": "DEBUG", "stdout": true } },
            "endpoints": [
                endpoint("/me", json!({ "auth/validator": sealed("keys.enc", me) })),
                endpoint("/sign", json!({ "auth/signer": sealed("sign.enc", sign) })),
                endpoint("/signed", json!({ "auth/validator": sealed("sign.enc", signed) })),
            ]
        })
    }

    fn start(&self, vault: &str, token: &str) -> Gateway {
        let variables = [("VAULT_SERVER_URL", vault), ("VAULT_SERVER_TOKEN", token)];
        Gateway::start_in(&variables, &self.config().to_string())
    }

    fn token(&self) -> String {
        self.signer.token(&tokens::claims("api"))
    }

    fn me(&self, gateway: &Gateway) -> u16 {
        status(gateway, "/me", &self.token())
    }
}

fn status(gateway: &Gateway, path: &str, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    gateway.get_with(path, &[("Authorization", &bearer)]).status
}

/// Secrets that must not be in a log.
fn assert_quiet(text: &str) {
    for secret in [TOKEN, PASSPHRASE, CIPHERTEXT, &STANDARD.encode(CIPHERTEXT)] {
        assert!(!text.contains(secret), "{secret} is in:\n{text}");
    }
}

#[test]
fn tokens_are_verified_and_signed_with_keys_that_vault_opened() {
    let (site, vault) = (Site::new(), Stub::with(&decrypts().to_string()));
    let gateway = site.start(&format!("{}/", vault.url()), TOKEN).ready();
    assert_eq!(site.me(&gateway), 200, "{}", gateway.output());
    let stranger = Signer::es256("k").token(&tokens::claims("api"));
    assert_eq!(status(&gateway, "/me", &stranger), 401);

    eventually("a signature", LIMIT, || gateway.get("/sign").status == 200);
    let response = gateway.get("/sign");
    assert_eq!(response.status, 200, "{}", gateway.output());
    let token = response.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(status(&gateway, "/signed", &token), 200);
    assert_eq!(status(&gateway, "/signed", &tokens::tampered(&token)), 401);

    let seen = vault.take_seen();
    assert_eq!(seen.len(), 3, "each file is asked for once");
    for one in seen {
        let asked: Value = serde_json::from_slice(&one.body).unwrap();
        assert_eq!(asked, json!({ "ciphertext": CIPHERTEXT }));
        assert_eq!(one.header("x-vault-request"), Some("true"));
    }
    assert_quiet(&gateway.output());
}

#[test]
fn a_gateway_starts_without_vault_and_serves_once_it_is_there() {
    let (site, port) = (Site::new(), ports::free());
    let gateway = site.start(&format!("http://127.0.0.1:{port}"), TOKEN);
    assert_eq!(gateway.get("/__health").status, 200);
    assert_eq!(site.me(&gateway), 401);
    assert_eq!(gateway.get("/sign").status, 401);
    eventually("the reason in the log", LIMIT, || {
        gateway.output().contains("connection refused")
    });
    let vault = Stub::start_at(port);
    say(&vault, &decrypts());
    eventually("a token", LIMIT, || site.me(&gateway) == 200);
    eventually("a signature", LIMIT, || gateway.get("/sign").status == 200);

    assert_quiet(&gateway.output());
}

#[test]
fn a_reload_reads_the_files_again_without_vault() {
    let (site, vault) = (Site::new(), Stub::with(&decrypts().to_string()));
    let gateway = site.start(&vault.url(), TOKEN).ready();
    assert_eq!(site.me(&gateway), 200, "{}", gateway.output());
    eventually("a signature", LIMIT, || gateway.get("/sign").status == 200);
    drop(vault);

    let next = Signer::es256("next");
    let token = next.token(&tokens::claims("api"));
    let sealed = |passphrase: &str| seal(passphrase.as_bytes(), next.jwks().as_bytes());
    std::fs::write(site.path("keys.enc"), sealed(PASSPHRASE)).unwrap();
    gateway.signal("HUP");
    eventually("the reload", LIMIT, || {
        gateway.output().contains("Configuration reloaded")
    });
    assert_eq!(status(&gateway, "/me", &token), 200);
    assert_eq!(gateway.get("/sign").status, 200);

    for (name, index) in [("keys.enc", 0), ("sign.enc", 1)] {
        let good = std::fs::read(site.path(name)).unwrap();
        let before = gateway.mark();
        std::fs::write(site.path(name), sealed("another passphrase")).unwrap();
        gateway.signal("HUP");
        let place = format!("/endpoints/{index}/extra_config/");
        eventually("the refusal", LIMIT, || {
            let log = &gateway.output_since(before);
            log.contains("Reload rejected") && log.contains(&place) && log.contains(name)
        });
        std::fs::write(site.path(name), good).unwrap();
        assert_eq!(status(&gateway, "/me", &token), 200);
        assert_eq!(gateway.get("/sign").status, 200);
    }
    assert_quiet(&gateway.output());
}

#[test]
fn a_token_that_vault_rejects_does_not_open_the_file() {
    let (site, vault) = (Site::new(), Stub::with(&decrypts().to_string()));
    let gateway = site.start(&vault.url(), "hvs.expired");
    assert_eq!(site.me(&gateway), 401);
    assert_eq!(gateway.get("/sign").status, 401);
    assert_eq!(gateway.get("/__health").status, 200);
    eventually("the reason in the log", LIMIT, || {
        let log = gateway.output();
        log.contains("Vault responds with 403 Forbidden")
    });
    let log = gateway.output();
    assert!(!log.contains("hvs.expired"), "{log}");
    // Vault's error messages may contain anything, and are not logged.
    assert_quiet(&log);
}

#[test]
fn a_response_that_is_not_from_vault_does_not_open_the_file() {
    let (site, vault) = (Site::new(), Stub::start());
    let plaintext = |text: &str| json!({ "data": { "plaintext": STANDARD.encode(text) } });
    let wrongs = [
        json!([{ "body": format!("<html>{PASSPHRASE}</html>") }]),
        json!([{ "body": { "data": { "plaintext": PASSPHRASE } } }]),
        json!([{ "body": plaintext("another passphrase") }]),
        json!([{ "body": plaintext(PASSPHRASE), "truncate": true }]),
        json!([{ "body": "x", "body_repeat": (1 << 20) + 1 }]),
        json!([{ "body": "x", "body_repeat": (1 << 20) + 1, "chunked": true }]),
        json!([{ "status": 500, "body": plaintext(PASSPHRASE) }]),
        json!([{ "close": true }]),
    ];
    // A gateway for each, because one that fails asks again less and less often.
    let mut asked = 0;
    let mut try_one = |wrong: &Value| {
        say(&vault, wrong);
        let gateway = site.start(&vault.url(), TOKEN);
        eventually("Vault is asked for both files", LIMIT, || {
            asked += vault.take_seen().len();
            asked >= 2
        });
        asked = 0;
        assert_eq!(site.me(&gateway), 401, "{wrong}");
        assert_eq!(gateway.get("/__health").status, 200);
        gateway
    };
    let gateways: Vec<Gateway> = wrongs.iter().map(&mut try_one).collect();
    let log = || gateways.iter().map(Gateway::output).collect::<String>();
    for words in [
        "has no plaintext",
        "not encrypted with the passphrase",
        "larger than",
    ] {
        eventually(words, LIMIT, || log().contains(words));
    }
    assert_quiet(&log());
    drop(gateways);
    let gateway = try_one(&wrongs[0]);
    say(&vault, &decrypts());
    eventually("a token", LIMIT, || site.me(&gateway) == 200);
}

#[test]
fn a_silent_vault_delays_neither_the_start_nor_other_files() {
    let (site, vault) = (Site::new(), Stub::with(r#"[{"delay_ms": 60000}]"#));
    let started = Instant::now();
    let (url, mut file) = (vault.url(), site.config());
    file["timeout"] = json!("2s");
    let variables = [("VAULT_SERVER_URL", &*url), ("VAULT_SERVER_TOKEN", TOKEN)];
    let gateway = Gateway::start_in(&variables, &file.to_string());
    assert_eq!(gateway.get("/__health").status, 200);
    // As long as the endpoint's timeout of two seconds, and no longer.
    assert_eq!(site.me(&gateway), 401);
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    assert!(gateway.stop(LIMIT).is_some_and(|status| status.success()));
}

#[test]
fn the_certificate_of_vault_is_verified() {
    let (site, vault) = (Site::new(), Stub::with(&decrypts().to_string()));
    let authority = Authority::new();
    let (certificate, key) = authority.write(site.folder.path(), "vault", "127.0.0.1");
    std::fs::write(site.path("ca.pem"), authority.pem()).unwrap();
    // The gateway in front of the stub only adds TLS.
    let front = json!({
        "version": 3,
        "tls": { "keys": [{ "public_key": certificate, "private_key": key }] },
        "endpoints": [{ "endpoint": DECRYPT, "method": "POST", "output_encoding": "no-op", "input_headers": ["*"],
            "backend": [{ "host": [vault.url()], "url_pattern": DECRYPT, "method": "POST", "encoding": "no-op" }] }]
    });
    let front = Gateway::start(&front.to_string());
    let url = format!("https://127.0.0.1:{}", front.port());
    let mut config = site.config();
    for endpoint in config["endpoints"].as_array_mut().unwrap() {
        for block in endpoint["extra_config"]
            .as_object_mut()
            .unwrap()
            .values_mut()
        {
            // It is for key servers, but KrakenD's files have it beside every `jwk_local_path`.
            block["disable_jwk_security"] = json!(true);
        }
    }
    let variables = [("VAULT_SERVER_URL", &*url), ("VAULT_SERVER_TOKEN", TOKEN)];
    let gateway = Gateway::start_in(&variables, &config.to_string());
    assert_eq!(site.me(&gateway), 401);
    assert_eq!(gateway.get("/sign").status, 401);
    assert!(
        vault.take_seen().is_empty(),
        "the token was not shown to a stranger"
    );

    let ca = site.path("ca.pem");
    let trusting = [
        variables[0],
        variables[1],
        ("VAULT_CACERT", ca.to_str().unwrap()),
    ];
    let gateway = Gateway::start_in(&trusting, &config.to_string()).ready();
    assert_eq!(site.me(&gateway), 200, "{}", gateway.output());
    eventually("a signature", LIMIT, || gateway.get("/sign").status == 200);
}

/// Runs a command with this configuration and returns the exit code and the output.
fn run(arguments: &[&str], config: &Value, variables: &[(&str, &str)]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let mut program = command();
    let (name, rest) = arguments.split_first().unwrap();
    let inner = if *name == "token" { &rest[..1] } else { &[] };
    program.arg(name).args(inner).arg("-c").arg(&path);
    program
        .args(&rest[inner.len()..])
        .envs(variables.iter().copied());
    let output = program.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert_quiet(&text);
    (output.status.code().unwrap(), text)
}

#[test]
fn the_tools_ask_vault_as_the_gateway_does() {
    let (site, vault) = (Site::new(), Stub::with(&decrypts().to_string()));
    let url = vault.url();
    let variables = [("VAULT_SERVER_URL", &*url), ("VAULT_SERVER_TOKEN", TOKEN)];
    let (code, text) = run(&["jwks"], &site.config(), &variables);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("keys.enc\n  1 key,"), "{text}");
    assert!(text.contains(r#"kid "k": ES256"#), "{text}");
    let token = site.token();
    let explain = ["token", "explain", "--endpoint", "/me", &token];
    let (code, text) = run(&explain, &site.config(), &variables);
    assert_eq!(code, 0, "{text}");

    let wrong = [variables[0], ("VAULT_SERVER_TOKEN", "hvs.other")];
    let (code, text) = run(&["jwks"], &site.config(), &wrong);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("no keys: "), "{text}");
    assert!(text.contains("403"), "{text}");
    let (code, text) = run(&explain, &site.config(), &wrong);
    assert_eq!(code, 1, "{text}");
}

#[test]
fn an_invalid_block_stops_the_start_with_its_place() {
    let site = Site::new();
    let good = [
        ("VAULT_SERVER_URL", "https://vault.test"),
        ("VAULT_SERVER_TOKEN", TOKEN),
    ];
    let (code, text) = run(&["check"], &site.config(), &good);
    assert_eq!(code, 0, "Vault is not asked: {text}");
    let (code, text) = run(&["check"], &site.config(), &[]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("VAULT_SERVER_URL, which is not set"),
        "{text}"
    );
    assert!(
        text.contains("VAULT_SERVER_TOKEN, which is not set"),
        "{text}"
    );

    let block = |index: usize, namespace: &str| {
        let namespace = namespace.replace('/', "~1");
        format!("/endpoints/{index}/extra_config/{namespace}")
    };
    for (index, namespace) in [(0, "auth/validator"), (1, "auth/signer")] {
        for (key, value, words) in [
            ("secret_url", "awskms://k", "AWS KMS is not supported"),
            (
                "secret_url",
                "azurekeyvault://k",
                "Azure Key Vault is not supported",
            ),
            (
                "secret_url",
                "gcpkms://k",
                "Google Cloud KMS is not supported",
            ),
            (
                "secret_url",
                "hashivault://../sys",
                "a key's name are expected",
            ),
            ("cypher_key", CIPHERTEXT, "not base64"),
            (
                "cypher_key",
                "AAAA",
                "not a ciphertext of Vault's transit engine",
            ),
            ("jwk_local_path", "nowhere.enc", "nowhere.enc: "),
        ] {
            let mut config = site.config();
            config["endpoints"][index]["extra_config"][namespace][key] = json!(value);
            for command in ["check", "run"] {
                let (code, text) = run(&[command], &config, &good);
                assert_eq!(code, 1, "{text}");
                let place = format!("{}/{key}", block(index, namespace));
                assert!(text.contains(&place), "{place} is not in {text}");
                assert!(text.contains("gateway.json:1:"), "{text}");
                assert!(text.contains(words), "{words}: {text}");
            }
        }
    }
}

#[test]
fn a_key_in_the_file_needs_no_vault() {
    let site = Site::new();
    let key = [7; 32];
    let mut config = site.config();
    for endpoint in config["endpoints"].as_array_mut().unwrap() {
        for block in endpoint["extra_config"]
            .as_object_mut()
            .unwrap()
            .values_mut()
        {
            block["secret_url"] = json!(format!("base64key://{}", URL_SAFE.encode(key)));
            block["cypher_key"] = json!(seal_box(&key, PASSPHRASE.as_bytes()));
        }
    }
    let gateway = Gateway::start(&config.to_string());
    assert_eq!(site.me(&gateway), 200, "{}", gateway.output());
    assert_eq!(gateway.get("/sign").status, 200, "{}", gateway.output());
}
