//! One file with every block of KrakenD's enterprise edition that is built in.

use crate::support::gateway::command;
use crate::support::http::request;
use crate::support::{Gateway, Stub, ports};

const FILE: &str = include_str!("../data/enterprise.json");

/// No keys of the machine, and no metadata server.
const VARIABLES: [(&str, &str); 4] = [
    ("AWS_ACCESS_KEY_ID", "AKIDTEST"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("HOME", "/nowhere"),
];

/// The file, with its other files in this folder.
fn config(folder: &std::path::Path, backend: &str) -> String {
    let user = format!("ada:$2b$10${}\n", ".".repeat(53));
    std::fs::create_dir(folder.join("site")).unwrap();
    for (name, text) in [
        ("site/index.html", "site"),
        ("b.tmpl", "{\"made\":{{ toJson .req_body }}}"),
        ("users", &user),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    FILE.replace("BACKEND", backend)
        .replace("FOLDER", folder.to_str().unwrap())
        .replace("\"JWK_PORT\"", &ports::free().to_string())
}

#[test]
fn a_file_with_every_block_passes_check_without_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "http://127.0.0.1:1");
    let path = folder.path().join("krakend.json");
    std::fs::write(&path, config).unwrap();
    let output = command().args(["check", "-c"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    // Only what reports is left out.
    let left_out: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("is not supported by this version"))
        .collect();
    assert_eq!(left_out.len(), 3, "{left_out:?}");
    for name in ["moesif", "newrelic", "postman"] {
        assert!(left_out.iter().any(|line| line.contains(name)), "{name}");
    }
}

#[test]
fn a_file_with_every_block_serves_its_endpoints() {
    let stub =
        Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": {"a": 1}}]"#);
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_in(&VARIABLES, &config(folder.path(), &stub.url()));
    for (path, status) in [
        ("/plain", 200),
        ("/media/", 200),
        ("/hi", 200),
        ("/r/z", 200),
        ("/v1/a", 200),
        ("/foo/x", 200),
        ("/demo/index.html", 301),
        ("/nowhere", 200),
        ("/doc", 200),
        ("/cond/1", 200),
        ("/rb", 200),
        ("/rl", 200),
        ("/tier", 401),
        ("/pol/1", 401),
        ("/revo", 401),
        ("/rjs", 200),
        ("/yaml", 200),
        ("/sech", 200),
        ("/cb", 200),
        ("/dyn?q=1", 400),
        ("/ws/a", 426),
    ] {
        assert_eq!(gateway.get(path).status, status, "{path}");
    }
    let body = r#"{"a":{"b":"x"}}"#;
    for path in ["/gen", "/genb/x", "/ext", "/pay", "/soap/1"] {
        let length = body.len().to_string();
        let headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", length.as_str()),
        ];
        let sent = request("POST", path, &headers) + body;
        assert_eq!(gateway.send("POST", sent).status, 200, "{path}");
    }
    stub.take_seen();
    let tenant = [("X-Tenant", "t")];
    assert_eq!(gateway.get_with("/dyn?q=z", &tenant).status, 200);
    let there = "GET /a HTTP/1.1\r\nHost: one.example.com:8080\r\n\r\n";
    let there = gateway.send("GET", there);
    assert_eq!((there.status, there.header("x-a")), (200, Some("1")));
    let seen = stub.take_seen();
    let first = seen.first().map(|call| call.path.as_str());
    assert_eq!(first, Some("/t/z"));
}
