//! TLS towards clients and towards backends, over real sockets.

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
};
use serde_json::{Value, json};

use crate::support::tls::{Authority, Speaker, TlsClient};
use crate::support::{Gateway, eventually};

fn config(tls: Value) -> Value {
    json!({ "version": 3, "tls": tls, "endpoints": [
        { "endpoint": "/a", "backend": [{ "host": ["http://127.0.0.1:1"], "url_pattern": "/" }],
          "extra_config": { "proxy": { "static": { "strategy": "always", "data": { "ok": true } } } } }
    ]})
}

/// A gateway with certificates for `a.test` and `b.test` of one authority, and more keys in its `tls` block.
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
        gateway.listens(Duration::from_secs(20)),
        "{}",
        gateway.output()
    );
    gateway
}

fn ok(speaker: &Speaker, gateway: &Gateway, authority: &Authority) -> Result<(), String> {
    let mut client = speaker
        .connect(gateway.port(), "a.test", authority)
        .map_err(|error| error.to_string())?;
    let answer = client.get("/__health").map_err(|error| error.to_string())?;
    if answer.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        Err(answer)
    }
}

#[test]
fn the_certificate_is_chosen_by_name_and_the_first_one_stands_in() {
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
    // A name that no certificate has gets the first: the client refuses it, having seen it.
    assert!(shown("other.test").unwrap_err().contains("a.test"));
    assert!(shown("y.x.b.test").is_err(), "a wildcard is one label");
}

#[test]
fn tls_13_alone_is_spoken_unless_the_file_says_otherwise() {
    let authority = Authority::new();
    let strict = start(&authority, &json!({}), &[]);
    ok(&Speaker::default(), &strict, &authority).unwrap();
    let refused = ok(&Speaker::default().tls12(), &strict, &authority).unwrap_err();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
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
fn clients_must_show_a_certificate_that_the_authority_signed() {
    let authority = Authority::new();
    let rules = json!({
        "enable_mtls": true, "ca_certs": ["ca.crt"], "disable_system_ca_pool": true
    });
    let gateway = start(&authority, &rules, &[]);
    let none = ok(&Speaker::default(), &gateway, &authority).unwrap_err();
    assert!(none.contains("CertificateRequired"), "{none}");
    let stranger = Speaker::default().showing(Authority::new().pair("me"));
    let refused = ok(&stranger, &gateway, &authority).unwrap_err();
    assert!(refused.contains("alert"), "{refused}");
    let known = Speaker::default().showing(authority.pair("me"));
    ok(&known, &gateway, &authority).unwrap();
}

/// What `openssl req -x509` makes, or the same without `CA:TRUE`: certificate and key.
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
fn a_client_may_show_a_certificate_of_the_file_itself() {
    let authority = Authority::new();
    let me = self_signed("me", true);
    let rules = json!({
        "enable_mtls": true, "ca_certs": ["me.crt"], "disable_system_ca_pool": true
    });
    let gateway = start_with(&authority, &rules, &[], &[("me.crt", &me.0)]);
    ok(&Speaker::default().showing(me), &gateway, &authority).unwrap();
    let other = Speaker::default().showing(self_signed("me", true));
    ok(&other, &gateway, &authority).unwrap_err();
    // The gateway's own certificate is trusted, too, as with KrakenD.
    let dir = gateway.dir();
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let own = Speaker::default().showing((read("a.crt"), read("a.key")));
    ok(&own, &gateway, &authority).unwrap();
}

#[test]
fn a_backend_may_show_a_certificate_of_the_file() {
    for (authority, version) in [(false, "http/1.1"), (true, "http/1.1"), (true, "auto")] {
        let pair = self_signed("localhost", authority);
        let tls = json!({ "ca_certs": ["it.crt"], "disable_system_ca_pool": true });
        let file = calling_over(version, serve(&pair, None), &tls);
        let gateway = Gateway::start_with(&file.to_string(), &[("it.crt", &pair.0)]);
        let status = gateway.get("/a").status;
        assert_eq!(status, 200, "{authority} {version} {}", gateway.output());
        let (other, _) = self_signed("localhost", authority);
        let gateway = Gateway::start_with(&file.to_string(), &[("it.crt", &other)]);
        assert_eq!(gateway.get("/a").status, 500, "another one is on the list");
    }
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

/// A certificate for `localhost` with a critical extension that nobody knows.
fn odd() -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn calling(port: u16, client_tls: &Value) -> Value {
    json!({ "version": 3, "client_tls": client_tls, "endpoints": [{ "endpoint": "/a", "timeout": "10s",
        "backend": [{ "host": [format!("https://localhost:{port}")], "url_pattern": "/" }] }] })
}

/// The same with another `http_version`.
fn calling_over(version: &str, port: u16, client_tls: &Value) -> Value {
    let mut file = calling(port, client_tls);
    if version != "http/1.1" {
        file["endpoints"][0]["backend"][0]["extra_config"] =
            json!({ "portcullis/upstream": { "http_version": version } });
    }
    file
}

#[test]
fn in_the_insecure_mode_nothing_of_a_certificate_is_judged() {
    let gateway = {
        let tls = json!({ "allow_insecure_connections": true });
        let file = calling_over("auto", serve(&owned(V1), None), &tls);
        Gateway::start(&file.to_string())
    };
    assert_eq!(gateway.get("/a").status, 200, "{}", gateway.output());
    for pair in [owned(V1), odd(), owned(P521)] {
        let file = calling(
            serve(&pair, None),
            &json!({ "allow_insecure_connections": true }),
        );
        let gateway = Gateway::start(&file.to_string());
        assert_eq!(gateway.get("/a").status, 200, "{}", gateway.output());
        // And the connection is kept.
        assert_eq!(gateway.get("/a").status, 200, "{}", gateway.output());
    }
}

#[test]
fn why_a_backends_certificate_is_refused_is_in_the_log() {
    let authority = Authority::new();
    for (pair, words) in [
        (
            owned(V1),
            "it is an X.509 v1 certificate, which has no extensions",
        ),
        (
            odd(),
            "its extension 1.2.3.4 is critical and not understood here",
        ),
        (owned(P521), "certificate signed by unknown authority"),
    ] {
        let tls = json!({ "ca_certs": ["ca.crt"], "disable_system_ca_pool": true });
        let file = calling(serve(&pair, None), &tls);
        let gateway = Gateway::start_with(&file.to_string(), &[("ca.crt", &authority.pem())]);
        assert_eq!(gateway.get("/a").status, 500);
        eventually("the log says why", Duration::from_secs(5), || {
            gateway.output().contains(words)
        });
    }
}

#[test]
fn a_version_1_pair_is_served_and_shown_and_a_client_may_show_it_when_it_is_listed() {
    // Towards backends: the backend sees it.
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
        gateway.listens(Duration::from_secs(20)),
        "{}",
        gateway.output()
    );
    assert!(
        gateway
            .output()
            .contains("others may refuse the certificate")
    );
    let (mut client, _) = credulous_client(port, Some(V1));
    let answer = client.get("/a").unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200"),
        "{answer}{}",
        gateway.output()
    );
}

#[test]
fn a_refused_client_certificate_is_in_the_log() {
    let authority = Authority::new();
    let rules = json!({
        "enable_mtls": true, "ca_certs": ["ca.crt"], "disable_system_ca_pool": true
    });
    let gateway = start(&authority, &rules, &[]);
    let (certificate, key) = odd();
    credulous_client(gateway.port(), Some((&certificate, &key)));
    ok(&Speaker::default(), &gateway, &authority).unwrap_err();
    for words in [
        "the certificate of a client is refused: its extension 1.2.3.4 is critical",
        "the certificate of a client is refused: the client showed none",
    ] {
        eventually("the log says why", Duration::from_secs(5), || {
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
fn check_refuses_the_pairs_that_run_refuses() {
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
                "k: does not fit the certificate in ",
            ),
            (
                &key,
                &certificate,
                1,
                "c: no certificate in it; it holds a private key: are the files swapped?",
            ),
            (
                &certificate,
                encrypted,
                1,
                "k: the private key is encrypted",
            ),
            ("", &key, 1, "c: no certificate in it; it is not PEM"),
        ] {
            let (found, said) = checked(&file, &[("c", c), ("k", k)]);
            assert_eq!(found, Some(code), "{said}");
            assert!(said.contains(words), "{said}");
        }
    }
    let ca = json!({ "version": 3, "endpoints": [], "client_tls": { "ca_certs": ["c"] } });
    let (code, said) = checked(&ca, &[("c", &key)]);
    assert!(
        code == Some(1) && said.contains("it holds a private key"),
        "{said}"
    );
    let suites = json!({ "version": 3, "endpoints": [], "tls": { "curve_preferences": [1],
        "keys": [{ "public_key": "c", "private_key": "k" }] } });
    let (code, said) = checked(&suites, &[("c", &certificate), ("k", &key)]);
    assert!(code == Some(1) && said.contains("curves"), "{said}");
}

#[test]
fn an_expired_certificate_is_told_by_check_and_its_time_is_in_the_metrics() {
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
        gateway.listens(Duration::from_secs(20)),
        "{}",
        gateway.output()
    );
    assert!(gateway.output().contains("expired on 2021-01-01"));
    eventually("the page is there", Duration::from_secs(10), || {
        TcpStream::connect(("127.0.0.1", metrics)).is_ok()
    });
    let mut client = crate::support::http::Client::connect(metrics).unwrap();
    client
        .send(crate::support::http::request("GET", "/metrics", &[]))
        .unwrap();
    let page = client.answer("GET").unwrap().text();
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
fn a_response_of_the_authority_is_stapled() {
    let authority = Authority::new();
    let port = crate::support::ports::free();
    let pair = authority.pair("a.test");
    let tls = json!({ "keys": [{ "public_key": "c", "private_key": "k", "ocsp_response": "o" }] });
    let response = "-----BEGIN OCSP RESPONSE-----\nMAMKAQA=\n-----END OCSP RESPONSE-----\n";
    let files = [("c", &*pair.0), ("k", &*pair.1), ("o", response)];
    let number = port.to_string();
    let gateway = Gateway::spawn(
        port,
        &config(tls.clone()).to_string(),
        &files,
        &["-p", &number],
    );
    assert!(
        gateway.listens(Duration::from_secs(20)),
        "{}",
        gateway.output()
    );
    let (_, stapled) = credulous_client(port, None);
    assert_eq!(stapled, [0x30, 3, 10, 1, 0]);
    let (code, said) = checked(&config(tls), &[("c", &pair.0), ("k", &pair.1), ("o", "no")]);
    assert!(
        code == Some(1) && said.contains("is no OCSP response"),
        "{said}"
    );
}

#[test]
fn client_tls_holds_for_token_servers_and_scripts_too() {
    let authority = Authority::new();
    for (client_tls, demand, status) in [
        (json!({}), false, 500),
        (json!({ "ca_certs": ["ca.crt"] }), false, 200),
        (json!({ "allow_insecure_connections": true }), false, 200),
        (json!({ "ca_certs": ["ca.crt"] }), true, 500),
        (
            json!({ "ca_certs": ["ca.crt"],
                "client_certs": [{ "certificate": "me.crt", "private_key": "me.key" }] }),
            true,
            200,
        ),
    ] {
        let port = backend(&authority, demand);
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        let upstream = crate::support::upstream::Upstream::raw(answer);
        let script = format!(
            "local r = http_response.new('https://localhost:{port}/x') if r:statusCode() ~= 200 then custom_error('no', 500) end"
        );
        let backend = json!({ "host": [upstream.url()], "url_pattern": "/" });
        let mut with_token = backend.clone();
        with_token["extra_config"] = json!({ "auth/client-credentials": {
            "client_id": "i", "client_secret": "s",
            "token_url": format!("https://localhost:{port}/token") } });
        let file = json!({ "version": 3, "client_tls": client_tls, "endpoints": [
            { "endpoint": "/token", "timeout": "10s", "backend": [with_token] },
            { "endpoint": "/lua", "timeout": "10s", "backend": [backend],
              "extra_config": { "modifier/lua-proxy": { "pre": script } } },
        ] });
        let (certificate, key) = authority.pair("gateway");
        let files = [
            ("ca.crt", &*authority.pem()),
            ("me.crt", &certificate),
            ("me.key", &key),
        ];
        let gateway = Gateway::start_with(&file.to_string(), &files);
        for path in ["/token", "/lua"] {
            let answer = gateway.get(path);
            assert_eq!(
                answer.status,
                status,
                "{path} {client_tls} {}",
                gateway.output()
            );
        }
    }
}

#[test]
fn plain_http_on_a_tls_port_is_told_so() {
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
    // And HTTP/2 is what is spoken then: the gateway's first frame is SETTINGS.
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

fn shown(gateway: &Gateway, authority: &Authority) -> Vec<u8> {
    let client = Speaker::default().connect(gateway.port(), "a.test", authority);
    client.unwrap().certificate()
}

#[test]
fn a_renewed_certificate_is_served_after_the_signal_and_old_connections_live() {
    let authority = Authority::new();
    let gateway = start(&authority, &json!({}), &[]);
    let mut old = Speaker::default()
        .connect(gateway.port(), "a.test", &authority)
        .unwrap();
    old.get("/__health").unwrap();
    let before = old.certificate();
    authority.write(&gateway.dir(), "a", "a.test");
    assert_eq!(shown(&gateway, &authority), before, "nobody asked yet");
    gateway.signal("HUP");
    eventually("the new one is shown", Duration::from_secs(20), || {
        shown(&gateway, &authority) != before
    });
    assert!(old.get("/__health").unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_broken_renewal_keeps_the_old_certificate_and_is_told() {
    let authority = Authority::new();
    let gateway = start(&authority, &json!({}), &[]);
    let before = shown(&gateway, &authority);
    // A key of another certificate: each file by itself is fine.
    let (_, other_key) = authority.pair("a.test");
    fs::write(gateway.dir().join("a.key"), other_key).unwrap();
    let reload = crate::support::gateway::command()
        .env(crate::support::gateway::RUNTIME_FOLDER, gateway.dir())
        .args(["reload", "-c"])
        .arg(gateway.config_path())
        .args(["-p", &gateway.port().to_string()])
        .output()
        .unwrap();
    assert_eq!(reload.status.code(), Some(1));
    let told = String::from_utf8_lossy(&reload.stderr).into_owned();
    assert!(told.contains("a.key"), "{told}");
    gateway.signal("HUP");
    eventually("the log says so", Duration::from_secs(10), || {
        gateway.output().contains("Reload refused")
    });
    assert_eq!(shown(&gateway, &authority), before);
}

#[test]
fn with_watch_a_renewed_certificate_needs_no_signal() {
    let authority = Authority::new();
    let gateway = start(&authority, &json!({}), &["--watch"]);
    let before = shown(&gateway, &authority);
    // Key first: in between the pair does not fit, which must pass unharmed.
    let (certificate, key) = authority.pair("a.test");
    fs::write(gateway.dir().join("a.key"), key).unwrap();
    fs::write(gateway.dir().join("a.crt"), certificate).unwrap();
    eventually("the new one is shown", Duration::from_secs(20), || {
        shown(&gateway, &authority) != before
    });
}

/// Believes everybody, and keeps what was stapled.
#[derive(Debug)]
struct Credulous {
    stapled: Mutex<Vec<u8>>,
    schemes: Vec<SignatureScheme>,
}

impl Credulous {
    fn new() -> Arc<Credulous> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let schemes = provider
            .signature_verification_algorithms
            .supported_schemes();
        Arc::new(Credulous {
            stapled: Mutex::default(),
            schemes,
        })
    }
}

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.stapled.lock().unwrap() = ocsp.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

impl ClientCertVerifier for Credulous {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// A pair of whatever form, which the library's usual way would judge.
fn as_it_is((certificate, key): (&str, &str)) -> Arc<SingleCertAndKey> {
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)))
}

/// Connects to the gateway at `port` without judging it; shows `identity`, if there is one. Returns the client and what
/// was stapled.
fn credulous_client(port: u16, identity: Option<(&str, &str)>) -> (TlsClient, Vec<u8>) {
    let verifier = Credulous::new();
    let builder = ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .dangerous()
    .with_custom_certificate_verifier(verifier.clone());
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(pair) => builder.with_client_cert_resolver(as_it_is(pair)),
    };
    let client = connect(&Arc::new(config), port).unwrap();
    let stapled = verifier.stapled.lock().unwrap().clone();
    (client, stapled)
}

/// Shakes hands with the gateway at `port`, as for `a.test`.
fn connect(config: &Arc<ClientConfig>, port: u16) -> std::io::Result<TlsClient> {
    let name = ServerName::try_from("a.test").unwrap();
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(15)))?;
    let session = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(TlsClient(stream))
}

/// A client that keeps what it needs to resume; it shows `identity`, if there is one.
fn returning(identity: Option<(&str, &str)>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Credulous::new());
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some(pair) => builder.with_client_cert_resolver(as_it_is(pair)),
    })
}

/// Whether a session is resumed with the gateway at `port`, once it answers.
fn resumes(client: &Arc<ClientConfig>, port: u16) -> std::io::Result<bool> {
    let mut connection = connect(client, port)?;
    // Tickets come behind the handshake.
    connection.get("/__health")?;
    Ok(connection.0.conn.handshake_kind() == Some(HandshakeKind::Resumed))
}

fn reload(gateway: &Gateway) {
    let before = gateway.output().matches("Configuration reloaded").count();
    gateway.signal("HUP");
    eventually("it is reloaded", Duration::from_secs(20), || {
        gateway.output().matches("Configuration reloaded").count() > before
    });
}

#[test]
fn sessions_are_resumed_after_a_reload_and_after_an_upgrade() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let (port, client) = (crate::support::ports::free(), returning(None));
    let pair = authority.pair("a.test");
    let file = config(json!({ "keys": [{ "public_key": "c", "private_key": "k" }] }));
    fs::write(folder.path().join("gateway.json"), file.to_string()).unwrap();
    fs::write(folder.path().join("c"), &pair.0).unwrap();
    fs::write(folder.path().join("k"), &pair.1).unwrap();
    let log = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    let run = |name: &str, more: &[&str]| {
        let log = fs::File::create(folder.path().join(name)).unwrap();
        let mut run = crate::support::gateway::command();
        run.args(["run", "-c"])
            .arg(folder.path().join("gateway.json"))
            .args(["-p", &port.to_string()])
            .args(more)
            .env("RUNTIME_DIRECTORY", folder.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        Running(run.spawn().unwrap())
    };
    let old = run("old.log", &[]);
    eventually("it listens", Duration::from_secs(20), || {
        resumes(&client, port).is_ok()
    });
    assert!(resumes(&client, port).unwrap(), "{}", log("old.log"));
    old.signal("HUP");
    eventually("it is reloaded", Duration::from_secs(20), || {
        log("old.log").contains("Configuration reloaded")
    });
    assert!(resumes(&client, port).unwrap(), "after a reload");
    let new = run("new.log", &["--upgrade"]);
    let socket = folder
        .path()
        .join(format!("portcullis-{port}-upgrade.sock"));
    eventually("the new process waits", Duration::from_secs(20), || {
        socket.exists()
    });
    old.signal("QUIT");
    eventually("the new process listens", Duration::from_secs(40), || {
        log("new.log").contains("Listening on port")
    });
    let mut old = old;
    eventually("the old process ends", Duration::from_secs(40), || {
        old.0.try_wait().unwrap().is_some()
    });
    assert!(resumes(&client, port).unwrap(), "{}", log("new.log"));
    drop(new);
}

/// A gateway that ends with the test.
struct Running(std::process::Child);

impl Running {
    fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill")
            .args([&format!("-{name}"), &self.0.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn gateways_with_one_file_of_ticket_keys_resume_each_others_sessions() {
    let authority = Authority::new();
    let (one, two) = ("11".repeat(32), "22".repeat(32));
    let start = |keys: &str| {
        let pair = authority.pair("a.test");
        let mut file = config(json!({ "keys": [{ "public_key": "c", "private_key": "k" }] }));
        file["extra_config"] = json!({ "portcullis/server": { "session_ticket_keys": "t" } });
        let files = [("c", &*pair.0), ("k", &*pair.1), ("t", keys)];
        let port = crate::support::ports::free();
        let number = port.to_string();
        let gateway = Gateway::spawn(port, &file.to_string(), &files, &["-p", &number]);
        assert!(
            gateway.listens(Duration::from_secs(20)),
            "{}",
            gateway.output()
        );
        gateway
    };
    let (here, there, stranger) = (start(&one), start(&format!("{one}\n{two}")), start(&two));
    let client = returning(None);
    let resumed = |gateway: &Gateway| resumes(&client, gateway.port()).unwrap();
    assert!(!resumed(&here));
    assert!(resumed(&there) && resumed(&here));
    assert!(!resumed(&stranger), "it does not know the key");
    // Its tickets are known to the one that was told its key.
    assert!(resumed(&there));
    fs::write(here.dir().join("t"), format!("{two}\n{one}\n")).unwrap();
    reload(&here);
    assert!(
        resumed(&here) && resumed(&stranger),
        "the new key encrypts now"
    );
    fs::write(here.dir().join("t"), "no key").unwrap();
    here.signal("HUP");
    eventually("the reload is refused", Duration::from_secs(20), || {
        here.output()
            .contains("t: line 1: is neither hexadecimal nor base64")
    });
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn gateways_with_one_redis_agree_on_ticket_keys() {
    let Some(redis) = crate::support::redis::Redis::start() else {
        return;
    };
    let authority = Authority::new();
    let server = json!({ "portcullis/server": { "session_tickets_in_redis": true } });
    let mut file = config(json!({ "keys": [{ "public_key": "c", "private_key": "k" }] }));
    file["extra_config"] = server;
    let pair = authority.pair("a.test");
    let files = [("c", &*pair.0), ("k", &*pair.1)];
    let (code, said) = checked(&file, &files);
    assert!(
        code == Some(1) && said.contains("there is no Redis in this file"),
        "{said}"
    );
    file["extra_config"]["portcullis/redis"] = json!({ "url": redis.url() });
    let start = || {
        let port = crate::support::ports::free();
        let number = port.to_string();
        let gateway = Gateway::spawn(port, &file.to_string(), &files, &["-p", &number]);
        assert!(
            gateway.listens(Duration::from_secs(20)),
            "{}",
            gateway.output()
        );
        gateway
    };
    let (here, there) = (start(), start());
    eventually("they agree", Duration::from_secs(20), || {
        let client = returning(None);
        resumes(&client, here.port()).unwrap();
        resumes(&client, there.port()).unwrap()
    });
    reload(&here);
    let client = returning(None);
    resumes(&client, here.port()).unwrap();
    assert!(resumes(&client, there.port()).unwrap(), "after a reload");
}

#[test]
fn nobody_resumes_what_other_authorities_allowed() {
    let authority = Authority::new();
    let rules = json!({
        "enable_mtls": true, "ca_certs": ["ca.crt"], "disable_system_ca_pool": true
    });
    let gateway = start(&authority, &rules, &[]);
    let me = authority.pair("me");
    let client = returning(Some((&me.0, &me.1)));
    assert!(!resumes(&client, gateway.port()).unwrap());
    assert!(resumes(&client, gateway.port()).unwrap());
    fs::write(gateway.dir().join("ca.crt"), Authority::new().pem()).unwrap();
    reload(&gateway);
    resumes(&client, gateway.port()).expect_err("its authority is gone");
}

/// A backend that speaks TLS and, if asked to, wants to see a certificate of `authority`. Answers 200 with an access token, whatever is asked.
fn backend(authority: &Authority, demand: bool) -> u16 {
    let roots = demand.then(|| authority.roots());
    serve(&authority.pair("localhost"), roots)
}

/// The same with this certificate and key.
fn serve((certificate, key): &(String, String), demanded: Option<Arc<RootCertStore>>) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = demanded.map(|roots| {
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
        builder.build().unwrap()
    });
    serve_who((certificate, key), verifier)
}

/// The same for whom `verifier` lets in.
fn serve_who(pair: (&str, &str), verifier: Option<Arc<dyn ClientCertVerifier>>) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    }
    .with_cert_resolver(as_it_is(pair));
    let config = Arc::new(config);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let config = config.clone();
            std::thread::spawn(move || {
                let (mut socket, mut buffer) = (socket, [0; 4096]);
                let mut session = ServerConnection::new(config).unwrap();
                let mut stream = Stream::new(&mut session, &mut socket);
                while matches!(stream.read(&mut buffer), Ok(count) if count > 0) {
                    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n{\"ok\":true,\"access_token\":\"t\"}";
                    let _ = stream.write_all(answer.as_bytes());
                }
            });
        }
    });
    port
}

#[test]
fn backends_are_believed_by_the_authorities_of_the_file_and_shown_our_certificate() {
    let authority = Authority::new();
    let (open, closed) = (backend(&authority, false), backend(&authority, true));
    let statuses = |client_tls: Option<Value>| {
        let endpoint = |path: &str, port: u16| {
            json!({ "endpoint": path, "timeout": "10s",
                "backend": [{ "host": [format!("https://localhost:{port}")], "url_pattern": "/" }] })
        };
        let mut file = json!({ "version": 3,
            "endpoints": [endpoint("/open", open), endpoint("/closed", closed)] });
        if let Some(tls) = client_tls {
            file["client_tls"] = tls;
        }
        let (certificate, key) = authority.pair("gateway");
        let files = [
            ("ca.crt", &*authority.pem()),
            ("me.crt", &*certificate),
            ("me.key", &*key),
        ];
        let gateway = Gateway::start_with(&file.to_string(), &files);
        (gateway.get("/open").status, gateway.get("/closed").status)
    };
    assert_eq!(statuses(None), (500, 500), "nobody vouches for it");
    let ca = json!({ "ca_certs": ["ca.crt"], "disable_system_ca_pool": true });
    assert_eq!(statuses(Some(ca.clone())), (200, 500));
    let mut both = ca;
    both["client_certs"] = json!([{ "certificate": "me.crt", "private_key": "me.key" }]);
    assert_eq!(statuses(Some(both)), (200, 200));
    let insecure = json!({ "allow_insecure_connections": true });
    assert_eq!(statuses(Some(insecure)), (200, 500));
}
