//! Valid and invalid blocks.

use super::service;
use crate::config::{Block, Extra, Key, Kind, Node, Report, Typing, json, key};
use crate::runtime::response_edits::HeaderEdits;

const ROOT: &[Key] = &[key("extra_config", Kind::Object, "", "")];

/// The changes, and the errors and warnings of a block.
fn read(block: &str) -> (Option<HeaderEdits>, Vec<String>, String) {
    let report = Report::new();
    let text = format!(r#"{{"extra_config": {{"modifier/response-headers": {block}}}}}"#);
    let value = json::parse(&text, &report).unwrap();
    let root = Block::open(Node::root(&value, &report), ROOT, Typing::Weak).unwrap();
    let edits = service(&Extra::read(&root));
    let edits = edits.map(|(edits, _)| std::sync::Arc::into_inner(edits).unwrap());
    (edits, report.shown_config_errors(), format!("{report:?}"))
}

#[test]
fn the_sample_of_krakend_is_read() {
    let (edits, errors, _) = read(
        r#"{
            "add": {"X-Custom-Header": ["value1", "value2"]},
            "delete": ["X-Krakend", "X-Krakend-Completed"],
            "rename": {"X-Original": "X-New"},
            "replace": {"Server": ["mine"]}
        }"#,
    );
    assert_eq!(errors, <[&str; 0]>::default());
    let edits = edits.unwrap();
    assert_eq!(edits.delete[0], "x-krakend");
    assert_eq!(edits.rename[0].0, "x-original");
    assert_eq!(edits.rename[0].1.spelled, "X-New");
    assert_eq!(edits.add[0].1.len(), 2);
    assert_eq!(edits.replace[0].1[0], "mine");
}

#[test]
fn headers_that_could_break_a_response_stop_the_start() {
    for block in [
        "{}",
        r#"{"delete": ["Content-Length"]}"#,
        r#"{"delete": ["not a name"]}"#,
        r#"{"delete": [7, {}]}"#,
        r#"{"add": {"Connection": ["close"]}}"#,
        r#"{"replace": {"transfer-encoding": ["chunked"]}}"#,
        r#"{"rename": {"X-A": "Upgrade"}}"#,
        r#"{"rename": {"TE": "X-A"}}"#,
        r#"{"add": {"X-A": ["a\r\nX-B: c"]}}"#,
        r#"{"add": {"X-A": [{}]}}"#,
        r#"{"add": ["X-A"]}"#,
    ] {
        let (_, errors, _) = read(block);
        assert_eq!(errors.len(), 1, "{block}: {errors:?}");
    }
}

#[test]
fn unsupported_parts_of_the_document_are_listed() {
    for (block, said) in [
        (
            r#"{"replace": {"Set-Cookie": ["a=1"]}}"#,
            "cookies of backends",
        ),
        (
            r#"{"delete": ["Strict-Transport-Security"]}"#,
            "protects the client",
        ),
        (
            r#"{"delete": ["Access-Control-Allow-Origin"]}"#,
            "protects the client",
        ),
        (
            r#"{"rename": {"WWW-Authenticate": "X-A"}}"#,
            "protects the client",
        ),
        (
            r#"{"replace": {"Content-Type": ["text/plain"]}}"#,
            "how the body is read",
        ),
        (
            r#"{"delete": ["Content-Encoding"]}"#,
            "how the body is read",
        ),
    ] {
        let (edits, errors, all) = read(block);
        assert!(edits.is_some() && errors.is_empty(), "{block}: {errors:?}");
        assert!(all.contains(said), "{block}: {all}");
    }
}
