//! What `compile` does with these types, before anything runs.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use portcullis::internals::upstream::{
    ClientCredentials, Clients, DnsTable, HostSet, Settings, SideTls, TlsPolicy, TokenStore,
};

#[test]
fn everything_can_be_created_before_there_is_a_runtime() {
    let clients = Clients::new(Arc::new(DnsTable::default()));
    let client = clients.with(&Settings::default()).unwrap();
    let _ = HostSet::fixed(&client, &["http://example.invalid"]);
    let _ = HostSet::service(&client, "_a._tcp.example.invalid", "http", Duration::ZERO);
    let tokens = TokenStore::new(HeaderValue::from_static("test"));
    let credentials = ClientCredentials {
        client_id: String::new(),
        client_secret: String::new(),
        token_url: String::new(),
        scope: Some(String::new()),
        params: Vec::new(),
        tls: SideTls::default(),
    };
    assert!(tokens.source(&credentials).is_ok());
}

#[test]
fn equal_settings_share_a_client_and_its_connections() {
    let clients = Clients::new(Arc::new(DnsTable::default()));
    let client = clients.with(&Settings::default()).unwrap();
    assert!(Arc::ptr_eq(
        &client,
        &clients.with(&Settings::default()).unwrap()
    ));
    let other = Settings {
        tls: TlsPolicy {
            insecure: true,
            ..TlsPolicy::default()
        },
        ..Settings::default()
    };
    assert!(!Arc::ptr_eq(&client, &clients.with(&other).unwrap()));
}
