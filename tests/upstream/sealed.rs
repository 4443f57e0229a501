//! Key files whose passphrase a Vault has.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::internals::jose::sealed::TransitKey;
use portcullis::internals::upstream::keys::{
    KeySource, Location, Schedule, SealedFile, SourceSpec,
};
use portcullis::internals::upstream::{SideTls, VaultSecret, VaultServer};

use crate::keys::{LONG, SECOND, Store, Words, after_outage, look_for_unknown, words};
use crate::seal::seal;
use crate::stub::{Reply, Stub, dead_port, response};

const TOKEN: &str = "hvs.the-token";
const PASSPHRASE: &str = "correct horse";
const JSON: &str = "Content-Type: application/json\r\n";

/// A Vault that opens one ciphertext for one token, unless it is told to say something else.
struct Vault {
    stub: Stub,
    instead: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Vault {
    async fn start() -> Vault {
        let instead: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
        let says = Arc::clone(&instead);
        let stub = Stub::start(move |seen| {
            if let Some(bytes) = &*says.lock().unwrap() {
                return Reply::Close(bytes.clone());
            }
            let sealed: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
            let lines = [
                format!("x-vault-token: {TOKEN}"),
                "x-vault-request: true".to_owned(),
                "x-vault-namespace: team".to_owned(),
                "content-type: application/json".to_owned(),
            ];
            Reply::Close(match sealed["ciphertext"].as_str() {
                _ if !seen
                    .head
                    .starts_with("POST /v1/team/transit/decrypt/gate HTTP/1.1") =>
                {
                    response(404, JSON, r#"{"errors":[]}"#)
                }
                _ if !lines.iter().all(|line| seen.has(line)) => {
                    response(403, JSON, r#"{"errors":["permission denied"]}"#)
                }
                Some("vault:v1:AbC=") => good(),
                _ => response(400, JSON, r#"{"errors":["invalid ciphertext"]}"#),
            })
        })
        .await;
        Vault { stub, instead }
    }

    fn says(&self, bytes: Option<Vec<u8>>) {
        *self.instead.lock().unwrap() = bytes;
    }

    fn asked(&self) -> usize {
        self.stub.connections()
    }
}

fn good() -> Vec<u8> {
    let plaintext = STANDARD.encode(PASSPHRASE);
    let body = format!(r#"{{"request_id":"r","data":{{"plaintext":"{plaintext}"}}}}"#);
    response(200, JSON, &body)
}

/// A key file, and what is known of it.
struct Sealed {
    folder: tempfile::TempDir,
}

impl Sealed {
    fn new(document: &str) -> Sealed {
        let sealed = Sealed {
            folder: tempfile::tempdir().unwrap(),
        };
        sealed.write(document);
        sealed
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keys.enc")
    }

    fn write(&self, document: &str) {
        let file = seal(PASSPHRASE.as_bytes(), document.as_bytes());
        std::fs::write(self.path(), file).unwrap();
    }

    fn spec(&self, url: &str, token: &str, ciphertext: &str) -> SourceSpec {
        let server = VaultServer::new(url, token, Some("team")).unwrap();
        let key = TransitKey {
            engine: "team/transit".to_owned(),
            name: "gate".to_owned(),
        };
        SourceSpec {
            location: Location::Sealed(SealedFile {
                path: self.path(),
                secret: VaultSecret::new(server, &key, ciphertext.to_owned()),
            }),
            tls: SideTls::default(),
        }
    }

    fn good_spec(&self, vault: &Vault) -> SourceSpec {
        self.spec(&vault.stub.url(), TOKEN, "vault:v1:AbC=")
    }
}

fn error(source: &KeySource<Words>) -> String {
    let error = source.status().last_error.unwrap_or_default();
    assert!(!error.contains(TOKEN), "{error}");
    assert!(!error.contains(PASSPHRASE), "{error}");
    error
}

#[tokio::test]
async fn vault_decrypts_the_file_and_is_called_once() {
    let vault = Vault::start().await;
    let file = Sealed::new("k1");
    let store = Store::start();
    let source = store.source(&file.good_spec(&vault), Schedule::default());
    assert!(
        source.current().is_none(),
        "nobody waits for Vault at start"
    );
    source.first_attempt(LONG).await;
    assert_eq!(words(&source), ["k1"], "{}", error(&source));
    assert_eq!(source.status().label, file.path().display().to_string());

    // The token may end, and Vault with it: the file is now read as any other.
    vault.says(Some(response(403, JSON, "")));
    file.write("k1 k2");
    look_for_unknown(&source).await;
    assert_eq!(words(&source), ["k1", "k2"]);
    std::fs::write(file.path(), seal(b"another", b"k3")).unwrap();
    let again = store
        .store
        .source(&file.good_spec(&vault), Schedule::default());
    assert!(
        again.unwrap_err().to_string().contains("passphrase"),
        "a reload says so"
    );
    assert_eq!(words(&source), ["k1", "k2"]);
    assert_eq!(vault.asked(), 1);
}

#[tokio::test]
async fn a_rejection_has_our_own_text_and_keeps_the_key_closed() {
    let vault = Vault::start().await;
    let url = vault.stub.url();
    let file = Sealed::new("k1");
    for (spec, expected) in [
        (file.spec(&url, "hvs.another", "vault:v1:AbC="), "403"),
        (file.spec(&url, TOKEN, "vault:v1:AbD="), "400"),
        (
            file.spec(&format!("{url}/prefix"), TOKEN, "vault:v1:AbC="),
            "404",
        ),
    ] {
        let store = Store::start();
        let source = store.source(&spec, Schedule::default());
        source.first_attempt(LONG).await;
        assert!(source.current().is_none());
        let error = error(&source);
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("errors"), "{error}");
    }
}

#[tokio::test]
async fn a_response_that_is_not_from_vault_changes_nothing() {
    let vault = Vault::start().await;
    let file = Sealed::new("k1");
    let wrong = STANDARD.encode("wrong horse");
    let large = format!(r#"{{"data":{{"plaintext":"{}"}}}}"#, "A".repeat(1 << 20));
    for (bytes, expected) in [
        (response(200, JSON, ""), "no plaintext"),
        (response(200, JSON, "[]"), "no plaintext"),
        (
            response(200, JSON, r#"{"data":{"plaintext":"correct horse"}}"#),
            "no plaintext",
        ),
        (response(204, "", ""), "no plaintext"),
        (
            response(503, JSON, r#"{"errors":["correct horse"]}"#),
            "sealed",
        ),
        (
            response(
                200,
                JSON,
                &format!(r#"{{"data":{{"plaintext":"{wrong}"}}}}"#),
            ),
            "not encrypted with the passphrase",
        ),
        (response(200, JSON, &large), "larger than"),
        (
            format!("HTTP/1.1 200 OK\r\n{JSON}\r\n{large}").into(),
            "larger than",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{".to_vec(),
            "Post",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "Post"),
    ] {
        vault.says(Some(bytes));
        let store = Store::start();
        let source = store.source(&file.good_spec(&vault), Schedule::default());
        source.first_attempt(LONG).await;
        assert!(source.current().is_none(), "{expected}");
        let error = error(&source);
        assert!(error.contains(expected), "{expected}: {error}");
        vault.says(None);
        after_outage(&source).await;
        assert_eq!(words(&source), ["k1"], "{expected}");
    }
}

#[tokio::test]
async fn the_token_is_sent_to_one_server_only() {
    let (vault, thief) = (Vault::start().await, Vault::start().await);
    let file = Sealed::new("k1");
    for status in [301, 302, 307, 308] {
        let place = format!(
            "Location: {}/v1/team/transit/decrypt/gate\r\n",
            thief.stub.url()
        );
        vault.says(Some(response(status, &place, "")));
        let store = Store::start();
        let source = store.source(&file.good_spec(&vault), Schedule::default());
        source.first_attempt(LONG).await;
        let error = error(&source);
        assert!(error.contains("a redirect is not followed"), "{error}");
    }
    assert_eq!(thief.asked(), 0);
}

#[tokio::test]
async fn a_vault_that_comes_later_is_enough() {
    let file = Sealed::new("k1");
    let address = dead_port().await;
    let spec = file.spec(&format!("http://{address}"), TOKEN, "vault:v1:AbC=");
    let store = Store::start();
    let source = store.source(&spec, Schedule::default());
    source.first_attempt(LONG).await;
    let error = error(&source);
    assert!(error.contains("connection refused"), "{error}");
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let serving = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            socket.read_buf(&mut request).await.unwrap();
        }
        socket.write_all(&good()).await.unwrap();
    });
    let back = async {
        // Nobody asks for it: the source tries again by itself.
        while source.current().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, back).await.unwrap();
    assert_eq!(words(&source), ["k1"]);
    serving.await.unwrap();
}

#[tokio::test]
async fn a_hanging_vault_delays_requests_only_for_their_timeout() {
    let stub = Stub::start(|_| Reply::Hang).await;
    let file = Sealed::new("k1");
    let spec = file.spec(&stub.url(), TOKEN, "vault:v1:AbC=");
    let store = Store::start();
    let started = std::time::Instant::now();
    let source = store.source(&spec, Schedule::default());
    source.ready(Duration::from_millis(50), |_| true).await;
    assert!(started.elapsed() < 15 * SECOND);
    assert!(source.current().is_none());
}

#[tokio::test]
async fn an_unusable_file_is_an_error_at_start() {
    let vault = Vault::start().await;
    let file = Sealed::new("k1");
    let store = Store::start();
    let made = || {
        store
            .store
            .source(&file.good_spec(&vault), Schedule::default())
    };
    std::fs::write(file.path(), "{}").unwrap();
    assert!(made().is_err());
    std::fs::remove_file(file.path()).unwrap();
    assert!(made().is_err());
    assert_eq!(vault.asked(), 0);
}
