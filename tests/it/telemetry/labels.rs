//! Configured labels, and the size of pages.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Rig, both, e, prometheus};
use crate::support::http::request;
use crate::support::{Client, eventually, ports};

fn static_attributes(names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| json!({"key": name, "value": "static"}))
        .collect()
}

/// Each label of each sample, which must be unique and written with the allowed characters.
fn check(page: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (_, labels) = line.split_once('{').unwrap_or((line, ""));
        let (labels, _) = labels.rsplit_once('}').unwrap_or_default();
        let mut seen = BTreeSet::new();
        for pair in labels.split("\",").filter(|pair| !pair.is_empty()) {
            let (name, _) = pair.split_once("=\"").unwrap();
            assert!(seen.insert(name), "twice {name}: {line}");
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let good = name.chars().all(allowed) && !name.starts_with("__");
            assert!(
                good && !name.starts_with(|c: char| c.is_ascii_digit()),
                "{line}"
            );
        }
        all.extend(seen.into_iter().map(str::to_owned));
    }
    all
}

fn text(rig: &Rig) -> String {
    eventually("the request", Duration::from_secs(30), || {
        rig.scrape().has("http_server_duration_count")
            || rig
                .scrape()
                .has("http_server_request_duration_seconds_count")
    });
    String::from_utf8(fetch(rig.page, "/metrics", &[]).1).unwrap()
}

fn fetch(port: u16, path: &str, headers: &[(&str, &str)]) -> (Option<String>, Vec<u8>) {
    let mut client = Client::connect(port).unwrap();
    client.send(request("GET", path, headers)).unwrap();
    let response = client.response("GET").unwrap();
    (
        response.header("content-encoding").map(str::to_owned),
        response.body.clone(),
    )
}

/// A configured label never replaces, repeats or breaks one of the gateway: what is on the page by itself, and what
/// Prometheus reserves, is renamed.
#[test]
fn a_configured_label_leaves_the_page_readable() {
    for convention in ["", "stable"] {
        let mut block = prometheus();
        block["layers"] = json!({"global": {"semantic_convention": convention}});
        let rig = Rig::of(block.clone(), json!([e()]));
        assert_eq!(rig.get("/o/5", &[]), 200);
        let own = check(&text(&rig));
        let mut names: Vec<&str> = own.iter().map(String::as_str).collect();
        names.retain(|name| !name.starts_with("service_"));
        names.extend([
            "http.route",
            "le",
            "quantile",
            "__name__",
            "__x",
            "a:b",
            "a\"b{c}",
            "9",
            "\u{e4}",
            "team",
        ]);
        let all = static_attributes(&names);
        block["layers"] = json!({
            "global": {"semantic_convention": convention, "metrics_static_attributes": all},
            "proxy": {"metrics_static_attributes": all},
            "backend": {"metrics": {"round_trip": true, "read_payload": true, "static_attributes": all}, "traces": {}},
        });
        let rig = Rig::of(block, json!([e()]));
        assert_eq!(rig.get("/o/5", &[]), 200);
        let page = text(&rig);
        let found = check(&page);
        for name in &own {
            let renamed = format!("exported_{name}");
            assert!(found.contains(name), "{name}: {found:?}");
            assert!(
                name.starts_with("service_") || found.contains(&renamed),
                "{name}: {found:?}"
            );
        }
        assert!(page.contains("team=\"static\""), "{page}");
        assert!(page.contains(":id\"") && !page.contains(":id;"), "{page}");
        rig.gateway
            .tells("le is a label of the gateway or of Prometheus");
        let output = rig.gateway.output();
        assert!(!output.contains("team is a label"), "{output}");
    }
}

#[test]
fn pages_are_compressed_for_scrapers_that_accept_it() {
    let metrics = ports::free();
    let extra =
        json!({"portcullis/metrics": {"listen": format!("127.0.0.1:{metrics}"), "page": true}});
    let rig = Rig::with(&[], both(), extra, json!([e()]));
    assert_eq!(rig.get("/o/5", &[]), 200);
    let plain = text(&rig);
    for (port, path, start) in [
        (rig.page, "/metrics", "# HELP"),
        (metrics, "/metrics", "# HELP"),
        (metrics, "/", "<!doctype"),
    ] {
        let (coding, body) = fetch(port, path, &[("Accept-Encoding", "gzip")]);
        assert_eq!(coding.as_deref(), Some("gzip"), "{path}");
        let mut decoded = String::new();
        flate2::read::GzDecoder::new(&*body)
            .read_to_string(&mut decoded)
            .unwrap();
        assert!(decoded.starts_with(start), "{path}: {decoded}");
        assert!(body.len() < decoded.len(), "{path}");
        assert_eq!(fetch(port, path, &[]).0, None, "{path}");
        assert_eq!(
            fetch(port, path, &[("Accept-Encoding", "gzip;q=0")]).0,
            None,
            "{path}"
        );
    }
    let (_, body) = fetch(rig.page, "/metrics", &[("Accept-Encoding", "gzip")]);
    let mut decoded = String::new();
    flate2::read::GzDecoder::new(&*body)
        .read_to_string(&mut decoded)
        .unwrap();
    assert_eq!(decoded.lines().count(), plain.lines().count());
}

/// RFC 9110 §9.3.2, §15.5.6: HEAD has the headers of GET, and 405 names the methods.
#[test]
fn pages_know_head_and_name_their_methods() {
    let metrics = ports::free();
    let extra =
        json!({"portcullis/metrics": {"listen": format!("127.0.0.1:{metrics}"), "page": true}});
    let rig = Rig::with(&[], prometheus(), extra, json!([e()]));
    let ask = |port: u16, method: &str, path: &str| {
        let mut client = Client::connect(port).unwrap();
        client.send(request(method, path, &[])).unwrap();
        client.response(method).unwrap()
    };
    // Its numbers do not change between two requests.
    for (port, path, is_constant) in [
        (rig.page, "/metrics", true),
        (metrics, "/metrics", false),
        (metrics, "/", false),
    ] {
        let (get, head) = (ask(port, "GET", path), ask(port, "HEAD", path));
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"));
        let length: usize = head.header("content-length").unwrap().parse().unwrap();
        assert!(length > 0, "{path}");
        if is_constant {
            assert_eq!(length, get.body.len());
        } else {
            let post = ask(port, "POST", path);
            assert_eq!(
                (post.status, post.header("allow")),
                (405, Some("GET, HEAD"))
            );
        }
        // The connection goes on after HEAD.
        let mut client = Client::connect(port).unwrap();
        client.send(request("HEAD", path, &[])).unwrap();
        client.response("HEAD").unwrap();
        client.send(request("GET", path, &[])).unwrap();
        assert_eq!(client.response("GET").unwrap().status, 200, "{path}");
    }
    assert_eq!(ask(metrics, "HEAD", "/other").status, 404);
}

/// `promtool check metrics` asks for it.
#[test]
fn each_metric_of_the_page_has_a_help_text() {
    for convention in ["", "1.27", "stable"] {
        let mut block = prometheus();
        block["layers"] = json!({"global": {"semantic_convention": convention}});
        let rig = Rig::of(block, json!([e()]));
        assert_eq!(rig.get("/o/5", &[]), 200);
        let page = text(&rig);
        let helps = page.lines().filter_map(|line| line.strip_prefix("# HELP "));
        for help in helps {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(
                text.ends_with('.') || text.ends_with("metadata"),
                "{name}: {text:?}"
            );
        }
    }
}
