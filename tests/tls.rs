//! TLS towards clients and towards backends, over real sockets.

// A panic is how a test fails, in its helpers too.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream};
use serde_json::{Value, json};

use support::tls::{Authority, Speaker};
use support::{Gateway, eventually};

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
    let port = support::ports::free();
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
    match answer.starts_with("HTTP/1.1 200") {
        true => Ok(()),
        false => Err(answer),
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
fn a_backend_may_show_a_certificate_of_the_file_unless_it_is_an_authoritys() {
    for (authority, status) in [(false, 200), (true, 500)] {
        let pair = self_signed("localhost", authority);
        let file = json!({ "version": 3,
            "client_tls": { "ca_certs": ["it.crt"], "disable_system_ca_pool": true },
            "endpoints": [{ "endpoint": "/a", "timeout": "10s", "backend": [{
                "host": [format!("https://localhost:{}", serve(&pair, None))], "url_pattern": "/" }] }] });
        let gateway = Gateway::start_with(&file.to_string(), &[("it.crt", &pair.0)]);
        assert_eq!(gateway.get("/a").status, status, "{authority}");
        let warned = gateway.output().contains("is an authority's (CA:TRUE)");
        assert_eq!(warned, authority, "{}", gateway.output());
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
    let reload = support::gateway::command()
        .args(["reload", "-c"])
        .arg(gateway.config_path())
        .args(["-p", &gateway.port().to_string()])
        .output()
        .unwrap();
    assert_eq!(reload.status.code(), Some(1));
    let told = String::from_utf8_lossy(&reload.stderr).into_owned();
    assert!(told.contains("a.key"), "{told}");
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

/// A backend that speaks TLS and, if asked to, wants to see a certificate of `authority`. Answers `{"ok":true}`.
fn backend(authority: &Authority, demand: bool) -> u16 {
    let roots = demand.then(|| authority.roots());
    serve(&authority.pair("localhost"), roots)
}

/// The same with this certificate and key.
fn serve((certificate, key): &(String, String), demanded: Option<Arc<RootCertStore>>) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match demanded {
        None => builder.with_no_client_auth(),
        Some(roots) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .unwrap(),
        ),
    };
    let config = builder
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
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
                    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}";
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
