use serde_json::json;

use super::*;
use crate::ext::extension::ServicePart;
use crate::ext::testing::File;
use crate::runtime::prerouting::{PreroutingPart, Rewrites};

fn rewrites(block: &serde_json::Value) -> Rewrites {
    let mut file = File::new(&block.to_string());
    match file.service(&SERVICE) {
        ServicePart::Ahead(PreroutingPart::Rewrites(rewrites)) if file.config_errors() == 0 => {
            rewrites
        }
        _ => panic!("{block}: {}", file.findings()),
    }
}

fn rewritten(block: &serde_json::Value, path: &str) -> Option<String> {
    let new = rewrites(block).apply(path, None)??;
    Some(
        new.query
            .map_or(new.path.clone(), |query| format!("{}?{query}", new.path)),
    )
}

#[test]
fn groups_are_named_as_in_go() {
    for (pattern, replacement, path, expected) in [
        ("^/a/(.*)$", "/b/${1}", "/a/x/y", "/b/x/y"),
        ("^/a/(.*)$", "/b/$1", "/a/x", "/b/x"),
        ("^/a/(?P<rest>.*)$", "/b/${rest}", "/a/x", "/b/x"),
        ("^/(a|b)/([0-9]+)$", "/$2/$1", "/b/7", "/7/b"),
        ("^/a/(.*)$", "/$$/$1", "/a/x", "/$/x"),
        ("^/a/(?:x)(y)$", "/$1", "/a/xy", "/y"),
        (r"^/[(]\((.)$", "/$1", "/((x", "/x"),
        (
            "^/s/(.*)$",
            "/find?q=${1}&p=1",
            "/s/a b&c",
            "/find?q=a%20b%26c&p=1",
        ),
        ("^/a(/z)?$", "/b$1", "/a", "/b"),
    ] {
        let block = json!({ "regexp": [[pattern, replacement]] });
        let path = path.replace(' ', "%20");
        assert_eq!(
            rewritten(&block, &path).as_deref(),
            Some(expected),
            "{pattern}"
        );
    }
}

#[test]
fn an_invalid_rewrite_is_an_error() {
    for block in [
        json!({}),
        json!({ "literal": {} }),
        json!({ "literal": {}, "regexp": [] }),
        json!({ "literal": { "from": "/to" } }),
        json!({ "literal": { "/from": "to" } }),
        json!({ "literal": { "/from": "/../to" } }),
        json!({ "literal": { "/from": 7.5 } , "regexp": "x" }),
        json!({ "literal": { "/a": "/b", "/%61": "/c" } }),
        json!({ "literal": { "/from": "/__debug/x" } }),
        json!({ "regexp": [["^/("]] }),
        json!({ "regexp": [["^/(", "/b"]] }),
        json!({ "regexp": [["^/(.)$", "/$2"]] }),
        json!({ "regexp": [["^/(.)$", "/${name}"]] }),
        json!({ "regexp": [["^/(.)$", "/${1"]] }),
        json!({ "regexp": [["^/(.)$", "/__health"]] }),
        json!({ "regexp": "x" }),
    ] {
        let mut file = File::new(&block.to_string());
        file.service(&SERVICE);
        assert!(file.config_errors() > 0, "{block}: {}", file.findings());
    }
    let mut file = File::new(&json!({ "regexp": [["/a", "/b"]] }).to_string());
    file.service(&SERVICE);
    assert_eq!(file.config_errors(), 0);
    assert!(
        file.findings().contains("matches anywhere"),
        "{}",
        file.findings()
    );
}

#[test]
fn only_the_text_of_a_target_leads_to_a_virtual_host() {
    for (pattern, replacement, path, expected) in [
        ("^/api/(.*)$", "/${1}", "/api/__virtual/x/list", None),
        ("^/api/(.*)$", "/$1", "/api/%5F%5Fvirtual/x/list", None),
        ("^/api", "", "/api/__virtual/x", None),
        ("/a$", "/b", "/%5F_virtual/x/a", None),
        ("^/api/(.*)$", "/${1}", "/api/list", Some("/list")),
        (
            "^/h/(.*)$",
            "/__virtual/x/$1",
            "/h/list",
            Some("/__virtual/x/list"),
        ),
    ] {
        let block = json!({ "regexp": [[pattern, replacement]] });
        let all = rewrites(&block);
        let new = all.apply(path, None).unwrap().map(|new| new.path);
        assert_eq!(new.as_deref(), expected, "{pattern} {path}");
    }
    let block = json!({ "literal": { "/old": "/__virtual/x/list" } });
    assert_eq!(
        rewritten(&block, "/old").as_deref(),
        Some("/__virtual/x/list")
    );
}
