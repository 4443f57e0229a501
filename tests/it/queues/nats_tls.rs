//! `nats://` over TLS: against a real server, and against servers of the test that begin TLS in other ways.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::nats::{LIMIT, publisher};
use super::with_body;
use crate::support::nats::Nats;
use crate::support::tls::Authority;
use crate::support::{Gateway, eventually};

/// A CA, and a folder with its certificate and those that it has issued.
struct Issued {
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Issued {
    fn new() -> Issued {
        let issued = Issued {
            authority: Authority::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(issued.path("ca.pem"), issued.authority.pem()).unwrap();
        issued
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ca(&self) -> String {
        text(&self.path("ca.pem"))
    }

    /// The paths of a certificate for this name and of its key.
    fn pair(&self, name: &str) -> [String; 2] {
        let (certificate, key) = self.authority.write(self.folder.path(), name, name);
        [text(&certificate), text(&key)]
    }

    /// A server of NATS with TLS for `localhost`.
    fn server(&self, more: &[&str]) -> Option<Nats> {
        let [certificate, key] = self.pair("localhost");
        let all = ["--tls", "--tlscert", &certificate, "--tlskey", &key];
        Nats::start_with(&[&all[..], more].concat())
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn gateway(url: &str, client_tls: Value) -> Gateway {
    let file = json!({ "version": 3, "endpoints": [publisher("t")], "client_tls": client_tls,
        "extra_config": { "router": { "return_error_msg": true } } });
    Gateway::start_in(&[("NATS_SERVER_URL", url)], &file.to_string())
}

/// The status and the text of a message that is sent after the first attempt to connect.
fn sent(gateway: &Gateway) -> (u16, String) {
    eventually("an attempt", LIMIT, || {
        let log = gateway.output();
        log.contains("connected to NATS") || log.contains("cannot connect to NATS")
    });
    let response = gateway.send("POST", with_body("POST", "/p", &[], "{}"));
    (response.status, response.text())
}

#[test]
#[ignore = "needs nats-server"]
fn a_server_with_tls_is_verified_with_client_tls() {
    let issued = Issued::new();
    let other = Issued::new();
    let Some(nats) = issued.server(&[]) else {
        return;
    };
    let port = nats.port();
    let trusting = |issued: &Issued| json!({ "ca_certs": [issued.ca()] });
    // Also if only the server asks for TLS.
    for scheme in ["tls", "nats"] {
        let url = format!("{scheme}://u:geheim@localhost:{port}");
        let fine = gateway(&url, trusting(&issued));
        assert_eq!(sent(&fine), (200, "null".to_owned()), "{}", fine.output());
        for (client_tls, host) in [
            // The system does not know the CA.
            (json!({}), "localhost"),
            (trusting(&other), "localhost"),
            // The certificate is for another name.
            (trusting(&issued), "127.0.0.1"),
        ] {
            let url = format!("{scheme}://u:geheim@{host}:{port}");
            let gateway = gateway(&url, client_tls);
            let (status, text) = sent(&gateway);
            assert_eq!(status, 500, "{text}");
            assert!(text.contains("ertificate"), "{text}");
            let log = gateway.output();
            assert!(
                log.contains("ertificate") && !log.contains("geheim"),
                "{log}"
            );
        }
    }
}

#[test]
#[ignore = "needs nats-server"]
fn a_server_may_ask_for_a_certificate_of_the_gateway() {
    let issued = Issued::new();
    let ca = issued.ca();
    let Some(nats) = issued.server(&["--tlsverify", "--tlscacert", &ca]) else {
        return;
    };
    let url = format!("tls://localhost:{}", nats.port());
    let [certificate, key] = issued.pair("gateway.test");
    let mut client_tls = json!({ "ca_certs": [ca] });
    assert_eq!(sent(&gateway(&url, client_tls.clone())).0, 500);
    client_tls["client_certs"] = json!([{ "certificate": certificate, "private_key": key }]);
    let gateway = gateway(&url, client_tls);
    assert_eq!(sent(&gateway).0, 200, "{}", gateway.output());
}

#[test]
#[ignore = "needs nats-server"]
fn tls_is_not_given_up_for_a_server_without_it() {
    let Some(nats) = Nats::start() else { return };
    let gateway = gateway(&format!("tls://localhost:{}", nats.port()), json!({}));
    let (status, text) = sent(&gateway);
    assert_eq!(status, 500);
    assert!(text.contains("does not offer TLS"), "{text}");
}

/// A server of this test. `serve` gets each connection.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap());
        }
    });
    port
}

/// The server's side of TLS.
fn secured(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
) -> StreamOwned<ServerConnection, TcpStream> {
    let session = ServerConnection::new(Arc::clone(config)).unwrap();
    StreamOwned::new(session, stream)
}

fn tls_of(issued: &Issued) -> Arc<ServerConfig> {
    let (certificate, key) = issued.authority.pair("localhost");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        );
    Arc::new(config.unwrap())
}

/// Answers each PING, until the connection ends.
fn answer(stream: impl Read + Write) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while matches!(stream.read_line(&mut line), Ok(1..)) {
        if line.starts_with("PING") && stream.get_mut().write_all(b"PONG\r\n").is_err() {
            return;
        }
        line.clear();
    }
}

#[test]
fn a_server_that_waits_for_tls_gets_it_first() {
    let issued = Issued::new();
    let config = tls_of(&issued);
    let port = server(move |stream| {
        let mut stream = secured(stream, &config);
        let info = b"INFO {\"max_payload\":1000,\"tls_required\":true}\r\n";
        if stream.write_all(info).is_ok() {
            answer(stream);
        }
    });
    let client_tls = json!({ "ca_certs": [issued.ca()] });
    let gateway = gateway(&format!("tls://localhost:{port}"), client_tls);
    assert_eq!(sent(&gateway).0, 200, "{}", gateway.output());
}

/// What anyone can write into the connection before TLS.
#[test]
fn what_comes_before_tls_is_not_believed() {
    let issued = Issued::new();
    let config = tls_of(&issued);
    let port = server(move |mut stream| {
        let info = b"INFO {\"tls_required\":true}\r\nPONG\r\nMSG t 1 1\r\nx\r\n";
        if stream.write_all(info).is_ok() {
            answer(secured(stream, &config));
        }
    });
    let client_tls = json!({ "ca_certs": [issued.ca()] });
    let gateway = gateway(&format!("tls://localhost:{port}"), client_tls);
    let (status, text) = sent(&gateway);
    assert_eq!(status, 500);
    assert!(text.contains("data before TLS"), "{text}");
}
