//! Who is believed over TLS.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use http::HeaderValue;
use portcullis::internals::upstream::{
    CertificatePair, HostSet, Proxies, Settings, SideClient, SideTls, TlsPolicy,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stub::{OPTIONS, client, get, ok};

/// An authority, a server for `localhost` that it vouches for, and their files.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { folder, issuer }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn pin(&self) -> [u8; 32] {
        pin(self.issuer.key())
    }

    fn leaf(&self) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), key)
    }

    fn client_pair(&self) -> CertificatePair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["me".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pair = CertificatePair {
            certificate: self.folder.path().join("me.pem"),
            private_key: self.folder.path().join("me.key"),
        };
        std::fs::write(&pair.certificate, certificate.pem()).unwrap();
        std::fs::write(&pair.private_key, key.serialize_pem()).unwrap();
        pair
    }

    /// Serves `hello` to everyone, or only to who shows a certificate of ours. Returns its address and leaf pin.
    fn serve(&self, demand_certificate: bool) -> (SocketAddr, [u8; 32]) {
        let (leaf, key) = self.leaf();
        let leaf_pin = pin(&key);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if demand_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let chain = vec![leaf, self.issuer.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut tcp, _)) = listener.accept() {
                let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = BufReader::new(Stream::new(&mut tls, &mut tcp));
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let _ = stream.get_mut().write_all(&ok("hello"));
                tls.send_close_notify();
                let _ = tls.write_tls(&mut tcp);
            }
        });
        (address, leaf_pin)
    }
}

fn pin(key: &KeyPair) -> [u8; 32] {
    let hash = digest::digest(&digest::SHA256, &key.subject_public_key_info());
    hash.as_ref().try_into().unwrap()
}

async fn call(tls: TlsPolicy, address: SocketAddr) -> Result<String, String> {
    let settings = Settings {
        tls,
        ..Settings::default()
    };
    let url = format!("https://localhost:{}", address.port());
    let hosts = HostSet::fixed(&client(settings), &[url]);
    match hosts.call(get("/"), &OPTIONS).await {
        Ok(incoming) => Ok(String::from_utf8(incoming.body.to_vec()).unwrap()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn an_upstream_is_trusted_if_its_authority_is() {
    let authority = Authority::new();
    let (address, _) = authority.serve(false);
    let ours = TlsPolicy {
        ca_certs: vec![authority.file()],
        ..TlsPolicy::default()
    };
    assert_eq!(call(ours.clone(), address).await.as_deref(), Ok("hello"));
    let only_ours = TlsPolicy {
        disable_system_ca_pool: true,
        ..ours
    };
    assert_eq!(call(only_ours, address).await.as_deref(), Ok("hello"));
    let error = call(TlsPolicy::default(), address).await.unwrap_err();
    assert!(
        error.ends_with(
            ": tls: failed to verify certificate: x509: certificate signed by unknown authority"
        ),
        "{error}"
    );
    let insecure = TlsPolicy {
        insecure: true,
        ..TlsPolicy::default()
    };
    assert_eq!(call(insecure, address).await.as_deref(), Ok("hello"));
}

#[tokio::test]
async fn the_reason_why_a_server_is_not_trusted_is_reported() {
    let authority = Authority::new();
    let (address, _) = authority.serve(false);
    let ours = TlsPolicy {
        ca_certs: vec![authority.file()],
        ..TlsPolicy::default()
    };
    // An address that the certificate does not name.
    let settings = Settings {
        tls: ours.clone(),
        ..Settings::default()
    };
    let url = format!("https://127.0.0.1:{}", address.port());
    let hosts = HostSet::fixed(&client(settings), &[url]);
    let error = hosts.call(get("/"), &OPTIONS).await.unwrap_err();
    let error = error.to_string();
    let want = "x509: certificate is valid for localhost, not 127.0.0.1";
    assert!(error.ends_with(want), "{error}");
    let (demanding, _) = authority.serve(true);
    let error = call(ours.clone(), demanding).await.unwrap_err();
    assert!(
        error.ends_with("remote error: tls: certificate required"),
        "{error}"
    );
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut tcp, _)) = plain.accept() {
            let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let error = call(ours, address).await.unwrap_err();
    assert!(
        error.ends_with("http: server gave HTTP response to HTTPS client"),
        "{error}"
    );
}

#[tokio::test]
async fn our_certificate_is_presented_to_servers_that_request_it() {
    let authority = Authority::new();
    let (address, _) = authority.serve(true);
    let mut policy = TlsPolicy {
        ca_certs: vec![authority.file()],
        ..TlsPolicy::default()
    };
    assert!(call(policy.clone(), address).await.is_err());
    policy.client_certs.push(authority.client_pair());
    assert_eq!(call(policy, address).await.as_deref(), Ok("hello"));
}

/// A proxy for `CONNECT` that is itself called over TLS. It remembers the heads.
async fn proxy_over_tls(authority: &Authority) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let (leaf, key) = authority.leaf();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else {
                    return;
                };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let port = head.split([' ', ':']).nth(2).unwrap().parse().unwrap();
                seen.lock().unwrap().push(head);
                let mut host = tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut host).await;
            });
        }
    });
    (address, heads)
}

#[tokio::test]
async fn a_proxy_that_is_called_over_tls_opens_a_tunnel_for_tls_and_for_other_protocols() {
    let authority = Authority::new();
    let (backend, _) = authority.serve(false);
    let (proxy, heads) = proxy_over_tls(&authority).await;
    let settings = |ca_certs: Vec<PathBuf>| Settings {
        tls: TlsPolicy {
            ca_certs,
            ..TlsPolicy::default()
        },
        proxies: Proxies::always(&format!("https://us:secret@localhost:{}", proxy.port())).unwrap(),
        ..Settings::default()
    };
    let trusting = client(settings(vec![authority.file()]));
    let host = format!("https://localhost:{}", backend.port());
    let hosts = HostSet::fixed(&trusting, std::slice::from_ref(&host));
    let incoming = hosts.call(get("/"), &OPTIONS).await.unwrap();
    assert_eq!(&*incoming.body, b"hello");
    // For example for a WebSocket.
    let plain = HostSet::fixed(&trusting, &[format!("http://localhost:{}", backend.port())]);
    drop(plain.dial().await.unwrap());
    {
        let heads = heads.lock().unwrap();
        assert_eq!(heads.len(), 2);
        let line = format!("CONNECT localhost:{} HTTP/1.1\r\n", backend.port());
        assert!(
            heads.iter().all(|head| head.starts_with(&line)),
            "{heads:?}"
        );
        let authorization = "\r\nProxy-Authorization: Basic dXM6c2VjcmV0\r\n";
        assert!(heads.iter().all(|head| head.contains(authorization)));
    }
    // The proxy is verified like a backend.
    let distrusting = HostSet::fixed(&client(settings(Vec::new())), &[host]);
    let error = distrusting.call(get("/"), &OPTIONS).await.unwrap_err();
    assert!(error.to_string().contains("proxyconnect tcp: "), "{error}");
    assert_eq!(heads.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn files_without_usable_keys_are_rejected_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pem");
    for content in [
        "",
        "hello",
        "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
    ] {
        std::fs::write(&path, content).unwrap();
        let tls = TlsPolicy {
            ca_certs: vec![path.clone()],
            ..TlsPolicy::default()
        };
        let settings = Settings {
            tls,
            ..Settings::default()
        };
        let dns = Arc::new(portcullis::internals::upstream::DnsTable::default());
        let error = portcullis::internals::upstream::Client::new(settings, dns).unwrap_err();
        assert!(error.to_string().contains("x.pem"), "{error}");
    }
}

async fn side(tls: &SideTls, address: SocketAddr) -> Result<(), String> {
    let client = SideClient::new(tls, &HeaderValue::from_static("test")).unwrap();
    let url = format!("https://localhost:{}/", address.port());
    let response = client.get(&url, &[]).await;
    response.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn side_calls_check_authority_and_pins() {
    let authority = Authority::new();
    let (address, leaf) = authority.serve(false);
    let trusting = |pins: &[[u8; 32]]| SideTls {
        ca_certs: vec![authority.file()],
        pins: pins.to_vec(),
        ..SideTls::default()
    };
    assert_eq!(side(&trusting(&[]), address).await, Ok(()));
    assert_eq!(side(&trusting(&[leaf]), address).await, Ok(()));
    assert_eq!(
        side(&trusting(&[[0; 32], authority.pin()]), address).await,
        Ok(())
    );
    let port = address.port();
    assert_eq!(
        side(&trusting(&[[0; 32]]), address).await,
        Err(format!(
            "Get \"https://localhost:{port}/\": JWK client did not find a pinned key"
        ))
    );
    assert!(side(&SideTls::default(), address).await.is_err());
}

#[tokio::test]
async fn without_verification_only_the_servers_own_pin_is_used() {
    let authority = Authority::new();
    let (address, leaf) = authority.serve(false);
    let insecure = |pins: &[[u8; 32]]| SideTls {
        insecure: true,
        pins: pins.to_vec(),
        ..SideTls::default()
    };
    assert_eq!(side(&insecure(&[]), address).await, Ok(()));
    assert_eq!(side(&insecure(&[leaf]), address).await, Ok(()));
    // Anyone can put the authority's certificate behind their own.
    assert!(side(&insecure(&[authority.pin()]), address).await.is_err());
}
