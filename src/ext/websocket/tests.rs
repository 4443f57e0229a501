//! What the block accepts.

use std::time::Duration;

use super::{host, websocket};
use crate::config::{Block, Extra, Key, Kind, Node, Report, Typing, json, key};
use crate::runtime::service::WebSocket;

const ROOT: &[Key] = &[key("extra_config", Kind::Object, "", "")];

fn read(block: &str) -> (Option<WebSocket>, Vec<String>) {
    let report = Report::new();
    let text = format!(r#"{{"extra_config": {{"websocket": {block}}}}}"#);
    let value = json::parse(&text, &report).unwrap();
    let root = Block::open(Node::root(&value, &report), ROOT, Typing::Weak).unwrap();
    let read = websocket(&Extra::read(&root)).map(|(rules, _)| rules);
    (read, report.shown_config_errors())
}

#[test]
fn direct_communication_is_read_and_multiplexing_is_rejected() {
    let (rules, errors) = read(r#"{"enable_direct_communication": true}"#);
    assert_eq!(errors, <[&str; 0]>::default());
    let rules = rules.unwrap();
    assert_eq!(
        (rules.max_message_bytes, rules.idle),
        (None, Duration::from_secs(300))
    );
    let (rules, errors) = read(
        r#"{"enable_direct_communication": true, "max_message_size": 512, "timeout": "1m", "subprotocols": ["chat"], "ping_period": "1s"}"#,
    );
    assert_eq!(errors, <[&str; 0]>::default());
    let rules = rules.unwrap();
    assert_eq!(
        (rules.max_message_bytes, rules.idle),
        (Some(512), Duration::from_secs(60))
    );
    for block in [
        "{}",
        r#"{"enable_direct_communication": false}"#,
        r#"{"enable_direct_communication": true, "max_message_size": "big"}"#,
        r#"{"enable_direct_communication": true, "timeout": "never"}"#,
        r#"{"enable_direct_communication": true, "subprotocols": {}}"#,
    ] {
        assert_eq!(read(block).1.len(), 1, "{block}: {:?}", read(block).1);
    }
}

#[test]
fn schemes_of_websockets_are_those_of_http() {
    assert_eq!(host("ws://a:80/b"), "http://a:80/b");
    assert_eq!(host("WSS://a"), "https://a");
    assert_eq!(host("http://ws"), "http://ws");
    assert_eq!(host("wsé"), "wsé");
}
