use super::SERVICE;
use super::compile::{Pools, connection, split};
use crate::ext::redis::OnFailure;
use crate::ext::testing::File;

#[test]
fn addresses_have_a_host_and_a_port() {
    let both = |text: &str| split(text).map(|(host, port)| format!("{host} {port}"));
    for (text, want) in [
        ("redis:6380", Some("redis 6380")),
        ("redis", Some("redis 6379")),
        ("10.0.0.1:1", Some("10.0.0.1 1")),
        ("[::1]:7000", Some("::1 7000")),
        ("[::1]", Some("::1 6379")),
        ("::1", None),
        ("redis:", None),
        ("redis:0", None),
        ("redis:70000", None),
        (":6379", None),
        ("redis://redis:6379", None),
        ("user@redis:6379", None),
        ("[::1]6379", None),
        ("", None),
    ] {
        assert_eq!(both(text).as_deref(), want, "{text}");
    }
}

fn pools(block: &str) -> File {
    let mut file = File::new(block);
    file.service(&SERVICE);
    file
}

#[test]
fn connections_are_found_by_their_names_and_shared() {
    let mut file = pools(
        r#"{"connection_pools": [{"name": "a", "address": "127.0.0.1:1", "db": 3, "pool_size": 2, "tls": {}},
                                 {"name": "unused", "address": "127.0.0.1:2"}],
            "clusters": [{"name": "c", "addresses": ["127.0.0.1:3", "127.0.0.1:4"]}]}"#,
    );
    assert_eq!(file.config_errors(), 0, "{}", file.findings());
    assert!(file.fact::<Pools>().is_some());
    let node = file.node();
    for name in ["a", "a", "c"] {
        let store = connection(name, OnFailure::Closed, &node, file.compile());
        assert!(store.is_some(), "{name}");
    }
    let unknown = connection("b", OnFailure::Closed, &node, file.compile());
    assert!(unknown.is_none());
    assert!(
        file.hints()
            .iter()
            .any(|hint| hint.contains("\"a\", \"c\", \"unused\""))
    );
    // One connection for each definition that is used.
    assert_eq!(file.into_tasks().len(), 2);
}

#[test]
fn unclear_connections_stop_the_start() {
    for block in [
        r#"{"connection_pools": [{"name": "a"}]}"#,
        r#"{"connection_pools": [{"address": "redis:6379"}]}"#,
        r#"{"connection_pools": [{"name": "a", "address": "redis://x"}]}"#,
        r#"{"connection_pools": [{"name": "a", "address": "x", "db": 256}]}"#,
        r#"{"connection_pools": [{"name": "a", "address": "x", "tls": {"ca_certs": ["/nowhere.pem"]}}]}"#,
        r#"{"connection_pools": [{"name": "a", "address": "x"}, {"name": "a", "address": "y"}]}"#,
        r#"{"connection_pools": [{"name": "a", "address": "x"}], "clusters": [{"name": "a", "addresses": ["y"]}]}"#,
        r#"{"clusters": [{"name": "a", "addresses": []}]}"#,
        r#"{"connection_pools": "x"}"#,
    ] {
        let file = pools(block);
        assert_eq!(file.config_errors(), 1, "{block}: {}", file.findings());
    }
}

#[test]
fn a_password_in_plain_text_gives_a_warning_without_showing_it() {
    let file = pools(
        r#"{"connection_pools": [{"name": "a", "address": "redis.example:6379", "password": "geheim"}]}"#,
    );
    assert!(
        file.findings().contains("in plain text"),
        "{}",
        file.findings()
    );
    assert!(!file.findings().contains("geheim"));
    let local = pools(
        r#"{"connection_pools": [{"name": "a", "address": "127.0.0.1", "password": "geheim"}]}"#,
    );
    assert!(!local.findings().contains("in plain text"));
}
