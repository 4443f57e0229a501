use rcgen::{CertificateParams, CustomExtension, KeyPair};

use super::*;

fn made() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn pair(certificate: &str, key: &str) -> Result<CertifiedKey, String> {
    let folder = tempfile::tempdir().unwrap();
    let paths = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    std::fs::write(&paths.0, certificate).unwrap();
    std::fs::write(&paths.1, key).unwrap();
    certificate_pair(&paths.0, &paths.1).map_err(|error| error.to_string())
}

#[track_caller]
fn rejected(certificate: &str, key: &str, words: &str) {
    let error = pair(certificate, key).unwrap_err();
    assert!(error.contains(words), "{error}");
}

#[test]
fn errors_of_a_pair_are_reported() {
    let ((certificate, key), (other, other_key)) = (made(), made());
    pair(&certificate, &key).unwrap();
    pair(&format!("{certificate}{other}"), &key).unwrap();
    rejected(
        &certificate,
        &other_key,
        "k.pem: does not match the certificate in ",
    );
    rejected(&format!("{other}{certificate}"), &key, "but number 2");
    rejected(
        &key,
        &certificate,
        "c.pem: it has no certificate; it contains a private key: are",
    );
    rejected(
        &certificate,
        &certificate,
        "k.pem: it has no private key; it contains a certificate",
    );
    rejected(
        "garbage",
        &key,
        "c.pem: it has no certificate; it is not PEM",
    );
    rejected(
        &certificate,
        "",
        "k.pem: it has no private key; it is not PEM",
    );
    let cut = certificate.lines().take(3).collect::<Vec<_>>().join("\n");
    rejected(&cut, &key, "c.pem: cannot be read as PEM");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    rejected(broken, &key, "certificate 1 is not X.509");
    let request = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    rejected(request, &key, "a certificate request");
}

#[test]
fn an_encrypted_key_is_reported_as_encrypted() {
    let (certificate, _) = made();
    for key in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    ] {
        rejected(&certificate, key, "k.pem: the private key is encrypted");
        rejected(
            key,
            key,
            "c.pem: it has no certificate; it contains an encrypted private key",
        );
    }
}

#[test]
fn a_version_1_pair_is_accepted() {
    let certificate = include_str!("../../../tests/data/tls/v1.crt");
    let key = include_str!("../../../tests/data/tls/v1.key");
    let pair = pair(certificate, key).unwrap();
    let oddity = oddity(pair.end_entity_cert().unwrap()).unwrap();
    assert!(
        oddity.starts_with("it is an X.509 v1 certificate"),
        "{oddity}"
    );
}

#[test]
fn reasons_of_the_library_are_named() {
    let small = include_str!("../../../tests/data/tls/rsa1024.crt");
    let small = certificates_of(small.as_bytes()).unwrap();
    let told = oddity(&small[0]).unwrap();
    assert!(told.starts_with("its RSA key has 1024 bits"), "{told}");
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
    let key = KeyPair::generate().unwrap();
    let told = oddity(params.self_signed(&key).unwrap().der()).unwrap();
    assert!(told.contains("1.2.3.4 is critical"), "{told}");
    let large = include_str!("../../../tests/data/tls/p521.crt");
    let large = certificates_of(large.as_bytes()).unwrap();
    assert_eq!(oddity(&large[0]), None);
}

#[test]
fn a_certificate_that_requires_a_staple_is_recognised() {
    let with = |content: Vec<u8>| {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let oid = [1, 3, 6, 1, 5, 5, 7, 1, 24];
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(&oid, content));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        facts(certificate.der()).unwrap().must_staple
    };
    assert!(with(vec![0x30, 3, 2, 1, 5]));
    assert!(with(vec![0x30, 6, 2, 1, 17, 2, 1, 5]));
    assert!(!with(vec![0x30, 3, 2, 1, 17]));
}
