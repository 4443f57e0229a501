//! Certificates that are renewed while the gateway runs.

use super::*;

pub(super) fn shown(gateway: &Gateway, authority: &Authority) -> Vec<u8> {
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
    eventually("the new one is shown", Duration::from_secs(30), || {
        shown(&gateway, &authority) != before
    });
    assert!(old.get("/__health").unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_failed_renewal_keeps_the_old_certificate_and_is_reported() {
    let authority = Authority::new();
    let gateway = start(&authority, &json!({}), &[]);
    let before = shown(&gateway, &authority);
    // A key of another certificate: each file alone is valid.
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
    eventually("the log says so", Duration::from_secs(30), || {
        gateway.output().contains("Reload rejected")
    });
    assert_eq!(shown(&gateway, &authority), before);
}

#[test]
fn with_watch_a_renewed_certificate_needs_no_signal() {
    let authority = Authority::new();
    let gateway = start(&authority, &json!({}), &["--watch"]);
    let before = shown(&gateway, &authority);
    // Key first: in between, the pair does not match, which must cause no harm.
    let (certificate, key) = authority.pair("a.test");
    fs::write(gateway.dir().join("a.key"), key).unwrap();
    fs::write(gateway.dir().join("a.crt"), certificate).unwrap();
    eventually("the new one is shown", Duration::from_secs(30), || {
        shown(&gateway, &authority) != before
    });
}
