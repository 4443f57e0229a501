//! What the block accepts.

use super::{Aggregator, SERVICE};
use crate::ext::testing::File;

fn errors(block: &str) -> Vec<String> {
    let mut file = File::new(block);
    file.service(&SERVICE);
    file.config_error_lines()
}

#[test]
fn the_address_of_the_plugin_is_recognised() {
    let mut file =
        File::new(r#"{"port": 9876, "cache": true, "origins": ["https://a.example/jwks"]}"#);
    file.service(&SERVICE);
    let aggregator = file.compile().fact::<Aggregator>().unwrap();
    for url in [
        "http://localhost:9876",
        "http://LOCALHOST:9876/",
        "http://127.0.0.1:9876/any/path",
        "http://[::1]:9876",
    ] {
        assert!(aggregator.is_at(url), "{url}");
    }
    for url in [
        "http://localhost:9877",
        "http://localhost",
        "https://localhost:9876",
        "http://localhost.example:9876",
        "http://a.example:9876",
        "no url",
    ] {
        assert!(!aggregator.is_at(url), "{url}");
    }
}

#[test]
fn an_unclear_block_stops_the_start() {
    for block in [
        "{}",
        r#"{"port": 9876}"#,
        r#"{"port": 9876, "origins": []}"#,
        r#"{"origins": ["https://a.example/jwks"]}"#,
        r#"{"port": 0, "origins": ["https://a.example/jwks"]}"#,
        r#"{"port": 9876, "origins": ["a.example/jwks"]}"#,
        r#"{"port": 9876, "origins": ["ftp://a.example/jwks"]}"#,
        r#"{"port": "x", "origins": ["https://a.example/jwks"]}"#,
    ] {
        assert!(!errors(block).is_empty(), "{block}");
    }
}
