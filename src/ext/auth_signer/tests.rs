use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::ENDPOINT;
use crate::ext::extension::EndpointPart;
use crate::ext::testing::{File, head};
use crate::runtime::json::{Style, parse_whole, to_bytes};
use crate::runtime::request::Notes;
use crate::runtime::signing::ResponseSigner;
use crate::runtime::step::{EndpointStep, Gate};
use crate::upstream::budget::Charge;

/// The key is 32 bytes of 'k'.
const SET: &str =
    r#"{"keys":[{"kty":"oct","kid":"k1","k":"a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s"}]}"#;

type Made = (Vec<Box<dyn EndpointStep>>, Arc<dyn ResponseSigner>);

fn made(file: &mut File) -> Made {
    match file.endpoint(&ENDPOINT, "/token") {
        EndpointPart::Signer { steps, signer } => (steps, signer),
        other => panic!("{other:?}: {}", file.findings()),
    }
}

fn key_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SET).unwrap();
    file
}

fn signed(signer: &dyn ResponseSigner, response: &'static str) -> String {
    let mut data = parse_whole(&Bytes::from_static(response.as_bytes())).unwrap();
    signer.sign(&mut data, &mut Charge::default()).unwrap();
    String::from_utf8(to_bytes(&data, Style::Canonical).to_vec()).unwrap()
}

#[test]
fn members_that_are_objects_become_tokens() {
    let file = key_file();
    let path = file.path().display();
    let mut file = File::new(&format!(
        r#"{{"alg": "HS256", "kid": "k1", "jwk_local_path": "{path}", "keys_to_sign": ["a", "b", "c"]}}"#
    ));
    let (_, signer) = made(&mut file);
    assert!(signer.ready());
    let response = signed(
        &*signer,
        r#"{"a": {"z": 1.10, "b": "<"}, "b": "text", "d": {}}"#,
    );
    let token = response.split('"').nth(3).unwrap().to_owned();
    assert_eq!(
        response,
        format!(r#"{{"a":"{token}","b":"text","d":{{}}}}"#)
    );
    let parts: Vec<_> = token
        .split('.')
        .take(2)
        .map(|part| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
        .collect();
    assert_eq!(
        parts,
        [
            r#"{"alg":"HS256","kid":"k1","typ":"JWT"}"#,
            r#"{"b":"\u003c","z":1.10}"#
        ]
    );
}

#[test]
fn configuration_errors_stop_the_start() {
    let key = key_file();
    let path = key.path().display().to_string();
    for bad in [
        r#"{"kid": "k1", "jwk_local_path": "PATH"}"#,
        r#"{"alg": "HS256", "jwk_local_path": "PATH"}"#,
        r#"{"alg": "none", "kid": "k1", "jwk_local_path": "PATH"}"#,
        r#"{"alg": "RS256", "kid": "k1", "jwk_local_path": "PATH"}"#,
        r#"{"alg": "HS256", "kid": "k2", "jwk_local_path": "PATH"}"#,
        r#"{"alg": "HS256", "kid": "k1", "jwk_local_path": "PATH.not"}"#,
        r#"{"alg": "HS256", "kid": "k1", "jwk_local_path": "PATH", "secret_url": "base64key://x"}"#,
        r#"{"alg": "HS256", "kid": "k1"}"#,
        r#"{"alg": "HS256", "kid": "k1", "jwk_url": "https://h", "jwk_fingerprints": ["x"]}"#,
        r#"{"alg": "HS256", "kid": "k1", "jwk_url": "https://h", "jwk_local_ca": "PATH.not"}"#,
        r#"{"alg": "HS256", "kid": "k1", "jwk_url": "https://h", "keys_to_sign": {}}"#,
    ] {
        let mut file = File::new(&bad.replace("PATH", &path));
        file.endpoint(&ENDPOINT, "/token");
        assert_eq!(file.config_errors(), 1, "{bad}: {}", file.findings());
    }
}

#[test]
fn an_insecure_url_closes_the_endpoint() {
    let mut file = File::new(r#"{"alg": "HS256", "kid": "k1", "jwk_url": "http://h/keys"}"#);
    let (steps, signer) = made(&mut file);
    assert!(!signer.ready());
    let headers = HeaderMap::new();
    let head = head(&Method::GET, "/token", &headers);
    let gate = steps[0].check(&head, &mut Notes::default());
    assert!(matches!(gate, Gate::Pass), "nothing is worth waiting for");
    assert_eq!(file.config_errors(), 0);
}

#[tokio::test]
async fn a_request_waits_once_for_a_key_at_a_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            socket.read_buf(&mut request).await.unwrap();
        }
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{SET}",
            SET.len()
        );
        socket.write_all(response.as_bytes()).await.unwrap();
    });
    let mut file = File::new(&format!(
        r#"{{"alg": "HS256", "kid": "k1", "jwk_url": "{url}", "disable_jwk_security": true}}"#
    ));
    let (steps, signer) = made(&mut file);
    assert!(!signer.ready());
    for task in file.into_tasks() {
        tokio::spawn(task.run);
    }
    let headers = HeaderMap::new();
    let head = head(&Method::GET, "/token", &headers);
    let gate = match steps[0].check(&head, &mut Notes::default()) {
        Gate::Wait(mut wait) => {
            wait.done().await;
            wait.decide(&head, &mut Notes::default())
        }
        _ => panic!("the key cannot be here yet"),
    };
    assert!(signer.ready());
    assert!(matches!(gate, Gate::Pass));
}
