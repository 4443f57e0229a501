//! TLS for clients and to backends, over real sockets.

mod backends;
mod credulous;
mod renewal;
mod resumption;
mod stapling;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName, HandshakeKind,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme, Stream, StreamOwned,
    SupportedProtocolVersion,
};
use serde_json::{Value, json};

use crate::support::tls::{Authority, Speaker, TlsClient};
use crate::support::{Gateway, eventually};

use backends::{calling, serve_who};
use credulous::{Credulous, as_it_is, credulous_client};
use resumption::connect;

fn config(tls: Value) -> Value {
    json!({ "version": 3, "tls": tls, "endpoints": [
        { "endpoint": "/a", "backend": [{ "host": ["http://127.0.0.1:1"], "url_pattern": "/" }],
          "extra_config": { "proxy": { "static": { "strategy": "always", "data": { "ok": true } } } } }
    ]})
}

/// A gateway with certificates for `a.test` and `b.test` of one CA, and more keys in its `tls` block.
fn start(authority: &Authority, more: &Value, args: &[&str]) -> Gateway {
    start_with(authority, more, args, &[])
}

fn start_with(
    authority: &Authority,
    more: &Value,
    args: &[&str],
    files: &[(&str, &str)],
) -> Gateway {
    let (a, b) = (authority.pair("a.test"), authority.pair("*.b.test"));
    let mut tls = json!({ "keys": [
        { "public_key": "a.crt", "private_key": "a.key" },
        { "public_key": "b.crt", "private_key": "b.key" }
    ]});
    for (key, value) in more.as_object().unwrap() {
        tls[key] = value.clone();
    }
    let pem = authority.pem();
    let own = [
        ("a.crt", &*a.0),
        ("a.key", &*a.1),
        ("b.crt", &*b.0),
        ("b.key", &*b.1),
        ("ca.crt", &*pem),
    ];
    let files = [&own, files].concat();
    let port = crate::support::ports::free();
    let number = port.to_string();
    let args = [&["-p", &number], args].concat();
    let gateway = Gateway::spawn(port, &config(tls).to_string(), &files, &args);
    assert!(
        gateway.listens(Duration::from_secs(30)),
        "{}",
        gateway.output()
    );
    gateway
}

fn ok(speaker: &Speaker, gateway: &Gateway, authority: &Authority) -> Result<(), String> {
    let mut client = speaker
        .connect(gateway.port(), "a.test", authority)
        .map_err(|error| error.to_string())?;
    let response = client.get("/__health").map_err(|error| error.to_string())?;
    if response.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        Err(response)
    }
}

#[test]
fn the_certificate_is_chosen_by_name_and_the_first_one_is_the_default() {
    let authority = Authority::new();
    let gateway = start(&authority, &json!({}), &[]);
    let shown = |name: &str| {
        Speaker::default()
            .connect(gateway.port(), name, &authority)
            .map(|client| client.certificate())
            .map_err(|error| error.to_string())
    };
    let (a, b) = (shown("a.test").unwrap(), shown("x.b.test").unwrap());
    assert_ne!(a, b);
    // A name without a certificate gets the first one: the client receives it and rejects it.
    assert!(shown("other.test").unwrap_err().contains("a.test"));
    assert!(shown("y.x.b.test").is_err(), "a wildcard is one label");
}

#[test]
fn only_tls_13_is_accepted_unless_the_file_says_otherwise() {
    let authority = Authority::new();
    let strict = start(&authority, &json!({}), &[]);
    ok(&Speaker::default(), &strict, &authority).unwrap();
    let rejected = ok(&Speaker::default().tls12(), &strict, &authority).unwrap_err();
    assert!(rejected.contains("ProtocolVersion"), "{rejected}");
    let both = start(&authority, &json!({ "min_version": "TLS12" }), &[]);
    ok(&Speaker::default(), &both, &authority).unwrap();
    ok(&Speaker::default().tls12(), &both, &authority).unwrap();
    let old = json!({ "min_version": "TLS12", "max_version": "TLS12" });
    let old = start(&authority, &old, &[]);
    ok(&Speaker::default().tls12(), &old, &authority).unwrap();
}

#[test]
fn curves_and_suites_of_the_file_are_the_only_ones() {
    let authority = Authority::new();
    let rules = json!({
        "min_version": "TLS12", "curve_preferences": [24], "cipher_suites": [0xc02c]
    });
    let gateway = start(&authority, &rules, &[]);
    let with = |group: Option<u16>, suite: Option<u16>| {
        let mut speaker = match suite {
            Some(_) => Speaker::default().tls12(),
            None => Speaker::default(),
        };
        speaker
            .provider
            .kx_groups
            .retain(|g| group.is_none_or(|wanted| u16::from(g.name()) == wanted));
        speaker
            .provider
            .cipher_suites
            .retain(|s| suite.is_none_or(|wanted| u16::from(s.suite()) == wanted));
        ok(&speaker, &gateway, &authority)
    };
    with(Some(24), None).unwrap();
    assert!(with(Some(29), None).is_err(), "X25519 is not in the list");
    with(None, Some(0xc02c)).unwrap();
    assert!(
        with(None, Some(0xc02b)).is_err(),
        "AES-128 is not in the list"
    );
}

#[test]
fn clients_must_present_a_certificate_that_the_authority_signed() {
    let authority = Authority::new();
    let rules = json!({
        "enable_mtls": true, "ca_certs": ["ca.crt"], "disable_system_ca_pool": true
    });
    let gateway = start(&authority, &rules, &[]);
    let none = ok(&Speaker::default(), &gateway, &authority).unwrap_err();
    assert!(none.contains("CertificateRequired"), "{none}");
    let stranger = Speaker::default().showing(Authority::new().pair("me"));
    let rejected = ok(&stranger, &gateway, &authority).unwrap_err();
    assert!(rejected.contains("alert"), "{rejected}");
    let known = Speaker::default().showing(authority.pair("me"));
    ok(&known, &gateway, &authority).unwrap();
}

/// The output of `openssl req -x509`, or the same without `CA:TRUE`: certificate and key.
fn self_signed(name: &str, authority: bool) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

#[test]
fn a_client_may_present_a_listed_certificate_itself() {
    let authority = Authority::new();
    let me = self_signed("me", true);
    let rules = json!({
        "enable_mtls": true, "ca_certs": ["me.crt"], "disable_system_ca_pool": true
    });
    let gateway = start_with(&authority, &rules, &[], &[("me.crt", &me.0)]);
    ok(&Speaker::default().showing(me), &gateway, &authority).unwrap();
    let other = Speaker::default().showing(self_signed("me", true));
    ok(&other, &gateway, &authority).unwrap_err();
    // The gateway's own certificate is also trusted, as with KrakenD.
    let dir = gateway.dir();
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let own = Speaker::default().showing((read("a.crt"), read("a.key")));
    ok(&own, &gateway, &authority).unwrap();
}

#[test]
fn who_signed_the_certificate_of_the_gateway_is_no_authority_for_clients() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.pair("a.test");
    let (chain, trusted) = (format!("{certificate}{}", authority.pem()), clients.pem());
    let mut rules = json!({ "keys": [{ "public_key": "chain.crt", "private_key": "chain.key" }],
        "enable_mtls": true, "ca_certs": ["clients.crt"], "disable_system_ca_pool": true });
    let files = [
        ("chain.crt", &*chain),
        ("chain.key", &*key),
        ("clients.crt", &*trusted),
    ];
    let gateway = Gateway::start_with(&config(rules.clone()).to_string(), &files);
    let known = Speaker::default().showing(clients.pair("me"));
    ok(&known, &gateway, &authority).unwrap();
    let other = Speaker::default().showing(authority.pair("me"));
    ok(&other, &gateway, &authority).unwrap_err();
    rules["ca_certs"] = json!([]);
    let (code, said) = checked(&config(rules), &files);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("the only trusted client certificates are those of \"keys\""),
        "{said}"
    );
}

const V1: (&str, &str) = (
    include_str!("../data/tls/v1.crt"),
    include_str!("../data/tls/v1.key"),
);

fn owned(pair: (&str, &str)) -> (String, String) {
    (pair.0.to_owned(), pair.1.to_owned())
}

const P521: (&str, &str) = (
    include_str!("../data/tls/p521.crt"),
    include_str!("../data/tls/p521.key"),
);

/// A certificate for `localhost` with an unknown critical extension.
fn odd() -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

#[test]
fn a_version_1_pair_is_served_and_shown_and_a_client_may_show_it_when_it_is_listed() {
    // To backends: the backend receives it.
    let mut file = calling(
        serve_who(V1, Some(Credulous::new())),
        &json!({ "allow_insecure_connections": true,
            "client_certs": [{ "certificate": "v1.crt", "private_key": "v1.key" }] }),
    );
    file["tls"] = json!({ "keys": [{ "public_key": "v1.crt", "private_key": "v1.key" }],
        "enable_mtls": true, "ca_certs": ["v1.crt"], "disable_system_ca_pool": true });
    let port = crate::support::ports::free();
    let files = [("v1.crt", V1.0), ("v1.key", V1.1)];
    let number = port.to_string();
    let gateway = Gateway::spawn(port, &file.to_string(), &files, &["-p", &number]);
    assert!(
        gateway.listens(Duration::from_secs(30)),
        "{}",
        gateway.output()
    );
    assert!(
        gateway
            .output()
            .contains("others may reject the certificate")
    );
    let (mut client, _) = credulous_client(port, Some(V1));
    let response = client.get("/a").unwrap();
    assert!(
        response.starts_with("HTTP/1.1 200"),
        "{response}{}",
        gateway.output()
    );
}

#[test]
fn a_rejected_client_certificate_is_in_the_log() {
    let authority = Authority::new();
    let rules = json!({
        "enable_mtls": true, "ca_certs": ["ca.crt"], "disable_system_ca_pool": true
    });
    let gateway = start(&authority, &rules, &[]);
    let (certificate, key) = odd();
    credulous_client(gateway.port(), Some((&certificate, &key)));
    ok(&Speaker::default(), &gateway, &authority).unwrap_err();
    for words in [
        "the certificate of a client is rejected: its extension 1.2.3.4 is critical",
        "the certificate of a client is rejected: the client sent none",
    ] {
        eventually("the log says why", Duration::from_secs(30), || {
            gateway.output().contains(words)
        });
    }
}

fn checked(file: &Value, files: &[(&str, &str)]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.json");
    fs::write(&path, file.to_string()).unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let mut check = crate::support::gateway::command();
    let output = check.arg("check").arg("-c").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn check_rejects_the_pairs_that_run_rejects() {
    let authority = Authority::new();
    let ((certificate, key), (_, other)) = (authority.pair("a.test"), authority.pair("a.test"));
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let server = json!({ "version": 3, "endpoints": [],
        "tls": { "keys": [{ "public_key": "c", "private_key": "k" }] } });
    let client = json!({ "version": 3, "endpoints": [],
        "client_tls": { "client_certs": [{ "certificate": "c", "private_key": "k" }] } });
    for file in [server, client] {
        for (c, k, code, words) in [
            (&*certificate, &*key, 0, "Syntax OK!"),
            (V1.0, V1.1, 0, "Syntax OK!"),
            (
                &certificate,
                &other,
                1,
                "k: does not match the certificate in ",
            ),
            (
                &key,
                &certificate,
                1,
                "c: it has no certificate; it contains a private key: are the files swapped?",
            ),
            (
                &certificate,
                encrypted,
                1,
                "k: the private key is encrypted",
            ),
            ("", &key, 1, "c: it has no certificate; it is not PEM"),
        ] {
            let (found, said) = checked(&file, &[("c", c), ("k", k)]);
            assert_eq!(found, Some(code), "{said}");
            assert!(said.contains(words), "{said}");
        }
    }
    let ca = json!({ "version": 3, "endpoints": [], "client_tls": { "ca_certs": ["c"] } });
    let (code, said) = checked(&ca, &[("c", &key)]);
    assert!(
        code == Some(1) && said.contains("it contains a private key"),
        "{said}"
    );
    let suites = json!({ "version": 3, "endpoints": [], "tls": { "curve_preferences": [1],
        "keys": [{ "public_key": "c", "private_key": "k" }] } });
    let (code, said) = checked(&suites, &[("c", &certificate), ("k", &key)]);
    assert!(code == Some(1) && said.contains("curves"), "{said}");
}

#[test]
fn check_reports_an_expired_certificate_and_its_time_is_in_the_metrics() {
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "old");
    let key = KeyPair::generate().unwrap();
    let pair = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());
    let metrics = crate::support::ports::free();
    let mut file = config(json!({ "keys": [{ "public_key": "c", "private_key": "k" }] }));
    file["client_tls"] = json!({ "ca_certs": ["ca"] });
    file["extra_config"] =
        json!({ "portcullis/metrics": { "listen": format!("127.0.0.1:{metrics}") } });
    let authority = Authority::new().pem();
    let files = [("c", &*pair.0), ("k", &*pair.1), ("ca", &*authority)];
    let (code, said) = checked(&file, &files);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("expired on 2021-01-01"), "{said}");
    let port = crate::support::ports::free();
    let number = port.to_string();
    let gateway = Gateway::spawn(port, &file.to_string(), &files, &["-p", &number]);
    assert!(
        gateway.listens(Duration::from_secs(30)),
        "{}",
        gateway.output()
    );
    gateway.tells("expired on 2021-01-01");
    eventually("the page is there", Duration::from_secs(30), || {
        TcpStream::connect(("127.0.0.1", metrics)).is_ok()
    });
    let mut client = crate::support::http::Client::connect(metrics).unwrap();
    client
        .send(crate::support::http::request("GET", "/metrics", &[]))
        .unwrap();
    let page = client.response("GET").unwrap().text();
    let line = page
        .lines()
        .find(|line| {
            line.starts_with("portcullis_certificate_expiry_timestamp_seconds{")
                && line.contains("use=\"server\"")
        })
        .unwrap_or_else(|| panic!("{page}"));
    assert!(
        line.contains("subject=\"CN=old\"") && line.ends_with(" 1609459200"),
        "{line}"
    );
    assert!(page.contains("use=\"authority\""), "{page}");
}

#[test]
fn plain_http_on_a_tls_port_gets_an_explanation() {
    let authority = Authority::new();
    let gateway = start(&authority, &json!({}), &[]);
    let mut client = gateway.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(
        String::from_utf8(client.rest().unwrap()).unwrap(),
        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    );
}

#[test]
fn both_versions_of_http_are_offered() {
    let authority = Authority::new();
    let gateway = start(&authority, &json!({}), &[]);
    let agreed = |speaker: Speaker| {
        let client = speaker.connect(gateway.port(), "a.test", &authority);
        client
            .unwrap()
            .0
            .conn
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).into_owned())
    };
    let (h1, h2) = (|s: Speaker| s.alpn("http/1.1"), |s: Speaker| s.alpn("h2"));
    assert_eq!(agreed(h1(Speaker::default())).as_deref(), Some("http/1.1"));
    assert_eq!(agreed(h2(h1(Speaker::default()))).as_deref(), Some("h2"));
    assert_eq!(agreed(Speaker::default()), None);
    // HTTP/2 is then used: the gateway's first frame is SETTINGS.
    let mut client = h2(Speaker::default())
        .connect(gateway.port(), "a.test", &authority)
        .unwrap();
    client
        .0
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    let mut head = [0; 9];
    client.0.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4);
}
