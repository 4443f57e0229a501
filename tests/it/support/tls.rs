//! Certificates for tests, and a TLS client with the requested properties.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A CA that issues certificates for any name.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for `name` and its key, as PEM.
    pub fn pair(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Writes a pair for `name` as `<file>.crt` and `<file>.key` into `folder`.
    pub fn write(&self, folder: &Path, file: &str, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.pair(name);
        let paths = (
            folder.join(format!("{file}.crt")),
            folder.join(format!("{file}.key")),
        );
        std::fs::write(&paths.0, certificate).unwrap();
        std::fs::write(&paths.1, key).unwrap();
        paths
    }

    pub fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(roots)
    }
}

/// The properties of a client.
pub struct Speaker {
    pub provider: CryptoProvider,
    pub only_12: bool,
    pub alpn: Vec<Vec<u8>>,
    /// Certificate and key as PEM.
    pub identity: Option<(String, String)>,
}

impl Default for Speaker {
    fn default() -> Self {
        Self {
            provider: aws_lc_rs::default_provider(),
            only_12: false,
            alpn: Vec::new(),
            identity: None,
        }
    }
}

impl Speaker {
    pub fn alpn(mut self, protocol: &str) -> Self {
        self.alpn.push(protocol.as_bytes().to_vec());
        self
    }

    pub fn tls12(mut self) -> Self {
        self.only_12 = true;
        self
    }

    pub fn showing(mut self, pair: (String, String)) -> Self {
        self.identity = Some(pair);
        self
    }

    /// Connects to `port` with the server name `name`. In TLS 1.3 a rejected client certificate shows
    /// only at the first read.
    pub fn connect(&self, port: u16, name: &str, authority: &Authority) -> io::Result<TlsClient> {
        let mut client = self.begin(port, name, authority)?;
        client.shake_hands()?;
        Ok(client)
    }

    /// Connects like [`Self::connect`], and leaves the handshake to the caller.
    pub fn begin(&self, port: u16, name: &str, authority: &Authority) -> io::Result<TlsClient> {
        let versions: &[&_] = if self.only_12 {
            &[&TLS12]
        } else {
            &[&TLS13, &TLS12]
        };
        let provider = Arc::new(self.provider.clone());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(authority.roots(), provider.clone())
                .build()
                .unwrap();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_webpki_verifier(verifier);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(Duration::from_secs(40)))?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        Ok(TlsClient(StreamOwned::new(session, socket)))
    }
}

/// One connection over TLS.
pub struct TlsClient(pub StreamOwned<ClientConnection, TcpStream>);

impl TlsClient {
    pub fn shake_hands(&mut self) -> io::Result<()> {
        while self.0.conn.is_handshaking() {
            self.0.conn.complete_io(&mut self.0.sock)?;
        }
        Ok(())
    }

    /// Sends a GET and returns the whole response up to the end of its body, which must have a length.
    pub fn get(&mut self, path: &str) -> io::Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        self.0.write_all(request.as_bytes())?;
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte)?;
            text.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&text).to_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length:"));
        let mut body = vec![0; length.and_then(|l| l.trim().parse().ok()).unwrap_or(0)];
        self.0.read_exact(&mut body)?;
        text.extend(body);
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The certificate that the gateway presented.
    pub fn certificate(&self) -> Vec<u8> {
        self.0.conn.peer_certificates().unwrap()[0].to_vec()
    }
}
