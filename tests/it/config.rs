//! Configurations and their errors: which files start, which do not, and the messages about them.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use portcullis::internals::compile::{self, Inputs, Outcome, docs};
use portcullis::internals::config::load::Format;
use portcullis::internals::config::{ConfigError, Environment, Finding, Severity};
use portcullis::internals::ext::ReloadState;
use portcullis::internals::upstream::{Client, Clients, DnsTable, Settings};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn compiled(text: &str) -> Outcome {
    compiled_in(text, &[])
}

/// The same with environment variables.
pub(crate) fn compiled_in(text: &str, variables: &[(&str, &str)]) -> Outcome {
    // The system's certificates are read once for all tests.
    static CLIENTS: LazyLock<(Arc<Clients>, Arc<Client>)> = LazyLock::new(|| {
        portcullis::internals::jose::install_crypto();
        let clients = Arc::new(Clients::new(Arc::new(DnsTable::default())));
        let usual = clients.with(&Settings::default()).unwrap();
        (clients, usual)
    });
    let clients = &CLIENTS.0;
    let folder = tempfile::tempdir().unwrap();
    let variables = variables.iter().copied();
    let environment = variables.fold(Environment::default(), |all, (name, value)| {
        all.with(name, value)
    });
    let inputs = Inputs {
        environment: &environment,
        clients,
        before: &ReloadState::default(),
        port: None,
        debug: false,
    };
    compile::text(text, Format::Json, folder.path(), &inputs)
}

pub(crate) fn shown(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|f| {
            let severity = match f.severity {
                Severity::ConfigError => "",
                Severity::Warning => "warning: ",
            };
            format!("{severity}{}: {}", f.pointer, f.config_error)
        })
        .collect()
}

fn config_errors(text: &str) -> Vec<String> {
    let outcome = compiled(text);
    let all = shown(&outcome.findings);
    let (warnings, config_errors): (Vec<String>, Vec<String>) = all
        .into_iter()
        .partition(|line| line.starts_with("warning: "));
    assert_eq!(outcome.compiled.is_none(), !config_errors.is_empty());
    drop(warnings);
    config_errors
}

fn warnings(text: &str) -> Vec<String> {
    let outcome = compiled(text);
    assert!(outcome.compiled.is_some(), "{:?}", outcome.findings);
    shown(&outcome.findings)
}

/// The configuration of a recorded case, with its placeholders filled in.
fn case_text(case: &serde_json::Value) -> String {
    let text = match case.get("config_text").and_then(|text| text.as_str()) {
        Some(text) => text.to_owned(),
        None => case["config"].to_string(),
    };
    [
        ("{{BACKEND}}", "http://127.0.0.1:21601"),
        ("{{BACKEND_HOSTPORT}}", "127.0.0.1:21601"),
        ("{{CLOSED}}", "http://127.0.0.1:21602"),
        ("{{PORT}}", "21603"),
    ]
    .iter()
    .fold(text, |text, (place, value)| text.replace(place, value))
}

fn cases(area: &str) -> Vec<(String, serde_json::Value)> {
    let folder = root().join("tests/conformance/cases").join(area);
    let mut cases: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            // One case responds with deeper nesting than this parser allows; its configuration is plain.
            Some((name, serde_json::from_str(&text).ok()?))
        })
        .collect();
    cases.sort_by(|a: &(String, serde_json::Value), b| a.0.cmp(&b.0));
    cases
}

#[test]
fn errors_that_krakend_rejects_have_its_message() {
    for (name, case) in cases("config-errors") {
        let found = config_errors(&case_text(&case));
        assert_eq!(
            found.is_empty(),
            STARTED.contains(&&*name),
            "{name}: {found:?}"
        );
        if found.is_empty() {
            continue;
        }
        let all = found.join("\n").to_lowercase();
        for words in case["error_contains"].as_array().into_iter().flatten() {
            let words = words.as_str().unwrap().to_lowercase();
            assert!(all.contains(&words), "{name}: {all:?} lacks {words:?}");
        }
    }
}

/// Cases that KrakenD starts and that must not start here: see tests/conformance/deviations.toml.
const REJECTED: &[&str] = &["fuzz/validator-null.json"];

/// Cases that KrakenD rejects and that start here, for the same reason.
const STARTED: &[&str] = &["version-4.json", "wildcard-named.json"];

#[test]
fn files_with_errors_that_krakend_accepts_start() {
    let areas = root().join("tests/conformance/cases");
    let mut rejected = Vec::new();
    for area in std::fs::read_dir(areas).unwrap().flatten() {
        let area = area.file_name().to_string_lossy().into_owned();
        for (name, case) in cases(&area) {
            if case["start"] == "fails" || case.get("files").is_some() {
                continue;
            }
            let outcome = compiled(&case_text(&case));
            if REJECTED.contains(&&*format!("{area}/{name}")) {
                assert!(outcome.compiled.is_none(), "{area}/{name} starts");
                continue;
            }
            // Parts that this version does not support stop the start, with their names.
            let built = !outcome
                .findings
                .iter()
                .any(|finding| matches!(finding.config_error, ConfigError::Unsupported { .. }));
            if built && outcome.compiled.is_none() {
                rejected.push(format!("{area}/{name}: {:?}", shown(&outcome.findings)));
            }
        }
    }
    assert!(rejected.is_empty(), "{rejected:#?}");
}

#[test]
fn all_errors_are_reported_together() {
    let found = config_errors(
        r#"{"version": 3, "port": 700000, "listen_ip": "localhost", "host": ["http://a/b"], "timeout": "1d",
            "extra_config": {"router": {"trusted_proxies": ["nonsense"]}},
            "endpoints": [
              {"endpoint": "/a/*x/y", "backend": [{"url_pattern": "/"}]},
              {"endpoint": "/b", "backend": []},
              {"endpoint": "/c/{id}", "concurrent_calls": "many", "backend": [{"url_pattern": "/{id}", "host": ["http://h"]}]},
              {"endpoint": "/d/{id}", "backend": [{"url_pattern": "/{x}", "host": ["http://h"]}]}]}"#,
    );
    let expected = [
        "/port: 700000 is not in the range 1 to 65535",
        "/listen_ip: invalid ip address localhost",
        "/host/0: host http://a/b not valid: invalid host",
        "/timeout: \"1d\" is not a duration: unknown unit",
        "/extra_config/router/trusted_proxies/0: \"nonsense\" is neither an address nor a network",
        "/endpoints/0/endpoint: ignoring the 'GET /a/*x/y' endpoint, since it is invalid!!!",
        "/endpoints/1/backend: ignoring the 'GET /b' endpoint, since it has 0 backends defined!",
        "/endpoints/2/concurrent_calls: \"many\" is a string, but an integer is expected",
        "/endpoints/3/backend/0/url_pattern: undefined output param 'x'! endpoint: GET /d/:id, backend: 0. input: [id], output: [x]",
    ];
    for line in expected {
        assert!(
            found.iter().any(|found| found == line),
            "{line:?} is not in {found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn two_routes_for_the_same_requests_are_rejected() {
    for (second, what) in [
        ("/a/{x}", "is defined twice"),
        ("/a/{y}", "matches the same paths"),
    ] {
        let text = format!(
            r#"{{"version": 3, "host": ["http://h"], "endpoints": [
                {{"endpoint": "/a/{{x}}", "backend": [{{"url_pattern": "/"}}]}},
                {{"endpoint": "{second}", "backend": [{{"url_pattern": "/"}}]}}]}}"#
        );
        let found = config_errors(&text);
        assert!(found.len() == 1 && found[0].contains(what), "{found:?}");
    }
}

#[test]
fn distinct_routes_may_name_their_parameters_differently() {
    let text = r#"{"version": 3, "host": ["http://h"], "endpoints": [
        {"endpoint": "/a/{b}", "backend": [{"url_pattern": "/"}]},
        {"endpoint": "/a/{c}/d", "backend": [{"url_pattern": "/"}]},
        {"endpoint": "/files/*", "backend": [{"url_pattern": "/"}]}]}"#;
    assert!(warnings(text).is_empty());
}

#[test]
fn unsupported_blocks_that_change_or_guard_requests_stop_the_start() {
    let text = r#"{"version": 3, "host": ["http://h"], "endpoints": [{"endpoint": "/a",
        "extra_config": {"workflow": {}, "auth/ntlm": {}},
        "backend": [{"url_pattern": "/", "extra_config": {"backend/grpc": {}}}]}]}"#;
    assert_eq!(
        config_errors(text),
        [
            "/endpoints/0/extra_config/workflow: the namespace \"workflow\" is not supported by this version",
            "/endpoints/0/extra_config/auth~1ntlm: the namespace \"auth/ntlm\" is not supported by this version",
            "/endpoints/0/backend/0/extra_config/backend~1grpc: the namespace \"backend/grpc\" is not supported by this version",
        ]
    );
}

#[test]
fn reporting_blocks_and_unused_blocks_cause_warnings() {
    let found = warnings(
        r#"{"version": 3, "host": ["http://h"], "output-encoding": "json", "oauth": {},
            "websocket": {}, "cookie_keys": ["sid"],
            "extra_config": {"telemetry/moesif": {}, "some/unknown": {}, "rooter": {}, "backend/http": {}},
            "endpoints": [{"endpoint": "/a", "headers_to_pass": ["X"], "max_rate": 3, "cookie_keys": ["sid"],
              "backend": [{"url_pattern": "/", "whitelist": ["a"], "max_rate": 3}]}]}"#,
    );
    let expected = [
        "warning: /output-encoding: the key \"output-encoding\" is unknown here and ignored",
        "warning: /oauth: the key \"oauth\" has no effect",
        "warning: /websocket: the key \"websocket\" has no effect",
        "warning: /cookie_keys: the key \"cookie_keys\" has no effect",
        "warning: /extra_config/telemetry~1moesif: the namespace \"telemetry/moesif\" is not supported by this version",
        "warning: /extra_config/some~1unknown: the namespace \"some/unknown\" is unknown here and ignored",
        "warning: /extra_config/rooter: the namespace \"rooter\" is unknown here and ignored",
        "warning: /extra_config/backend~1http: the namespace \"backend/http\" is unknown here and ignored",
        "warning: /endpoints/0/headers_to_pass: the key \"headers_to_pass\" has no effect",
        "warning: /endpoints/0/max_rate: the key \"max_rate\" has no effect",
        "warning: /endpoints/0/cookie_keys: the key \"cookie_keys\" has no effect",
        "warning: /endpoints/0/backend/0/whitelist: the key \"whitelist\" has no effect",
        "warning: /endpoints/0/backend/0/max_rate: the key \"max_rate\" has no effect",
    ];
    assert_eq!(found, expected);
}

#[test]
fn ten_thousand_endpoints_compile_in_linear_time() {
    let file = |count: usize| {
        let endpoints: Vec<String> = (0..count)
            .map(|n| {
                format!(
                    r#"{{"endpoint": "/group{}/item{n}/{{id}}", "input_headers": ["X-A"], "timeout": "1s",
                        "backend": [{{"url_pattern": "/{{id}}?n={n}", "host": ["http://127.0.0.1:80"]}}]}}"#,
                    n % 100
                )
            })
            .collect();
        format!(
            r#"{{"version": 3, "endpoints": [{}]}}"#,
            endpoints.join(",")
        )
    };
    let time = |text: &str| {
        let started = Instant::now();
        assert!(compiled(text).compiled.is_some());
        started.elapsed()
    };
    let (few, many) = (file(1_000), file(10_000));
    time(&few);
    let (short, long) = (time(&few), time(&many));
    println!("{short:?} for 1,000 and {long:?} for 10,000");
    // Ten times the work; quadratic time would be a hundred times. The margin is for a busy machine.
    assert!(
        long < short * 40,
        "{short:?} for 1,000 and {long:?} for 10,000"
    );
}

#[test]
fn text_around_a_host_is_removed_with_a_warning() {
    let with = |host: &str| {
        serde_json::json!({ "version": 3, "endpoints": [{ "endpoint": "/a", "backend": [{ "host": [host], "url_pattern": "/" }] }] })
            .to_string()
    };
    for host in [
        "http://a:80\n",
        " http://a:80",
        "http://a:80//",
        "//a:80",
        "'http://a:80'",
    ] {
        let warned = warnings(&with(host));
        assert_eq!(warned.len(), 1, "{warned:?}");
        assert!(warned[0].contains("is removed"), "{warned:?}");
    }
    let rejected = config_errors(&with("http://a b\n"));
    assert!(
        rejected[0].contains(r#"host "http://a b\n" not valid"#),
        "{rejected:?}"
    );
}

#[test]
fn values_of_earlier_responses_are_used_in_a_sequence() {
    let of_version = |version: u8, proxy: serde_json::Value| {
        serde_json::json!({ "version": version, "host": ["http://a"], "endpoints": [{
            "endpoint": "/a", "extra_config": proxy,
            "backend": [{ "url_pattern": "/x" }, { "url_pattern": "/y/{resp0_id}" }]
        }] })
        .to_string()
    };
    let with = |proxy| of_version(3, proxy);
    assert_eq!(warnings(&with(serde_json::json!({}))), Vec::<String>::new());
    let both = serde_json::json!({ "proxy": { "strategy": "sequential", "sequential": false } });
    let warned = warnings(&of_version(4, both.clone()));
    assert_eq!(warned, Vec::<String>::new());
    let warned = warnings(&with(both));
    assert!(
        warned
            .iter()
            .any(|line| line.contains("only files of version 4")),
        "{warned:?}"
    );
    let warned = warnings(&of_version(
        4,
        serde_json::json!({ "proxy": { "strategy": "fallback" } }),
    ));
    // The earlier backends failed.
    assert!(warned[0].contains("has no value here"), "{warned:?}");
    let warned = warnings(&with(
        serde_json::json!({ "proxy": { "sequential": false } }),
    ));
    assert!(warned[0].contains("has no value here"), "{warned:?}");
}

#[test]
fn the_page_of_keys_matches_the_tables() {
    let path = root().join("docs/configuration.md");
    let page = docs::page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/configuration.md is out of date: UPDATE_DOCS=1 cargo test --test it config::"
    );
}

#[test]
fn files_that_are_named_must_be_there() {
    let found = config_errors(
        r#"{"version": 3, "tls": {"keys": [{"public_key": "./nope.pem", "private_key": "./nope.key"}]},
            "client_tls": {"ca_certs": ["./ca.pem"]}, "endpoints": []}"#,
    );
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found
            .iter()
            .all(|line| line.contains("no such file or directory")),
        "{found:?}"
    );
}
