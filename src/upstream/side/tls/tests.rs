use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConnection, ServerConfig, ServerConnection};

use super::*;
use aws_lc_rs::digest;
use rustls::pki_types::ServerName;

/// A server for `keys.test` with a certificate like that of `openssl req -x509`, and that certificate as PEM.
fn server() -> (ServerConnection, String) {
    let mut params = CertificateParams::new(vec!["keys.test".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let connection = ServerConnection::new(Arc::new(config)).unwrap();
    (connection, certificate.pem())
}

/// Performs a handshake in memory.
fn handshake(tls: &SideTls, mut server: ServerConnection, name: &str) -> Result<(), String> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let config = client_config(tls).map_err(|error| error.to_string())?;
    let mut client = ClientConnection::new(config, name).unwrap();
    while client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client
            .process_new_packets()
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[test]
fn a_listed_self_signed_certificate_is_accepted_from_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let listed = SideTls {
        ca_certs: vec![path.clone()],
        ..SideTls::default()
    };
    let (ours, pem) = server();
    std::fs::write(&path, pem).unwrap();
    assert_eq!(handshake(&listed, ours, "keys.test"), Ok(()));
    let (stranger, _) = server();
    handshake(&listed, stranger, "keys.test").expect_err("not on the list");
    let (ours, pem) = server();
    std::fs::write(&path, pem).unwrap();
    handshake(&listed, ours, "other.test").expect_err("another name");
}

#[test]
fn a_server_without_a_pinned_key_is_rejected() {
    let (server, _) = server();
    let pinned = SideTls {
        insecure: true,
        pins: vec![[0; 32]],
        ..SideTls::default()
    };
    let why = handshake(&pinned, server, "keys.test").unwrap_err();
    assert!(
        why.ends_with("JWK client did not find a pinned key"),
        "{why}"
    );
}

/// The pair in a file of `tests/data/tls`.
fn pair(name: &str) -> CertifiedKey {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let file = |ending: &str| folder.join(format!("{name}.{ending}"));
    certificate_pair(&file("crt"), &file("key")).unwrap()
}

#[test]
fn a_version_1_certificate_passes_with_insecure_and_by_its_pin() {
    use rustls::version::{TLS12, TLS13};
    let v1 = pair("v1");
    let (_, parsed) = x509_parser::parse_x509_certificate(&v1.cert[0]).unwrap();
    let hash = digest::digest(&digest::SHA256, parsed.tbs_certificate.subject_pki.raw);
    let pin: [u8; 32] = hash.as_ref().try_into().unwrap();
    let tls = |insecure: bool, pins: &[[u8; 32]]| SideTls {
        insecure,
        pins: pins.to_vec(),
        ..SideTls::default()
    };
    for version in [&TLS12, &TLS13] {
        let shake = |tls: SideTls, key: &CertifiedKey| {
            let provider = Arc::new(provider::default_provider());
            let config = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone())));
            let server = ServerConnection::new(Arc::new(config)).unwrap();
            handshake(&tls, server, "localhost")
        };
        assert_eq!(shake(tls(true, &[]), &v1), Ok(()));
        assert_eq!(shake(tls(true, &[pin]), &v1), Ok(()));
        shake(tls(true, &[[0; 32]]), &v1).expect_err("another pin");
        let why = shake(tls(false, &[]), &v1).unwrap_err();
        assert!(why.contains("it is an X.509 v1 certificate"), "{why}");
        // A peer presents a certificate without having its key.
        let thief = CertifiedKey::new(v1.cert.clone(), pair("p521").key);
        shake(tls(true, &[]), &thief).expect_err("the signature is by another key");
        shake(tls(true, &[pin]), &thief).expect_err("the signature is by another key");
    }
}

#[test]
fn only_supported_suites_are_offered() {
    let tls = SideTls {
        cipher_suites: vec![5, 49199],
        ..SideTls::default()
    };
    assert_eq!(tls.unsupported_suites(), [5]);
    let suites = crypto_provider(&tls).unwrap().cipher_suites;
    let old = |suite: &&SupportedCipherSuite| matches!(suite, SupportedCipherSuite::Tls12(_));
    assert_eq!(suites.iter().filter(old).count(), 1);
    assert!(suites.len() > 1, "those of TLS 1.3 stay");
}

#[test]
fn a_list_without_any_supported_suite_is_rejected() {
    let tls = SideTls {
        cipher_suites: vec![5, 10],
        ..SideTls::default()
    };
    assert!(crypto_provider(&tls).is_err());
}
