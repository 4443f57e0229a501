//! The commands of the program from outside: arguments in, text and exit codes out.

use std::process::Output;

use crate::support::gateway::command;
use crate::support::{Gateway, ports};

/// A file that is served as it is.
const GOOD: &str = r#"{"version": 3, "endpoints": [
    {"endpoint": "/a", "backend": [{"host": ["http://127.0.0.1:1"], "url_pattern": "/b"}]}
]}"#;

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command().args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Runs `arguments` with the path of a file of this content at their end.
fn with_file(content: &str, arguments: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.json");
    std::fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap();
    run(&[arguments, &[path]].concat())
}

#[test]
fn an_unknown_command_is_named_and_ends_with_2() {
    let (code, out, err) = run(&["serve"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("serve"), "{err}");
}

#[test]
fn run_without_a_file_ends_with_2_and_says_which_flag_is_missing() {
    let (code, _, err) = run(&["run"]);
    assert_eq!(code, 2);
    assert!(err.contains("--config"), "{err}");
}

#[test]
fn a_bad_file_ends_run_and_check_with_1_and_says_where() {
    let bad = r#"{"version": 3, "timeout": "2 sec", "endpoints": []}"#;
    for command in ["run", "check", "validate"] {
        let (code, _, err) = with_file(bad, &[command, "-c"]);
        assert_eq!(code, 1, "{command}: {err}");
        assert!(err.contains("gateway.json:1:"), "{command}: {err}");
        assert!(err.contains("/timeout"), "{command}: {err}");
    }
    let (code, _, err) = run(&["run", "-c", "no-such-folder/gateway.json"]);
    assert_eq!(code, 1);
    assert!(err.contains("no-such-folder/gateway.json"), "{err}");
}

#[test]
fn a_port_in_use_ends_run_with_1() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let file = GOOD.replacen('{', r#"{"listen_ip": "127.0.0.1", "#, 1);
    let (code, _, err) = with_file(&file, &["run", "-p", &port, "-c"]);
    assert_eq!(code, 1);
    assert!(err.contains("bind"), "{err}");
}

#[test]
fn check_takes_the_flags_of_the_reference() {
    for flags in [
        &["-t"][..],
        &["-l"],
        &["-n"],
        &["-s", "https://example.com/schema.json"],
        &["-d"],
        &["-ddd", "-i", "  "],
        &["-t", "-l", "-d"],
        &["--test-gin-routes", "--lint", "--debug"],
        &["--lint-no-network"],
        &["--lint-schema", "schema.json"],
    ] {
        let (code, _, err) = with_file(GOOD, &[&["check"], flags, &["-c"]].concat());
        assert_eq!(code, 0, "{flags:?}: {err}");
        assert!(err.ends_with("Syntax OK!\n"), "{flags:?}: {err}");
    }
}

#[test]
fn audit_ends_with_1_as_long_as_there_is_something_to_recommend() {
    let (code, _, err) = with_file(GOOD, &["audit", "-c"]);
    assert_eq!(code, 1);
    assert!(err.contains("1.2.1\t[HIGH]      \t"), "{err}");

    let (code, _, err) = with_file(GOOD, &["audit", "-s", "CRITICAL", "-c"]);
    assert_eq!((code, err.as_str()), (0, ""));

    let (code, out, _) = with_file(GOOD, &["audit", "-f", "json", "-s", "low", "-c"]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 1);
    assert_eq!(found["recommendations"][0]["severity"], "LOW");
}

#[test]
fn audit_leaves_out_what_it_is_told_to_and_refuses_what_check_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("ignored");
    std::fs::write(&list, "3.1.1\n5.2.2\n").unwrap();
    let list = list.to_str().unwrap();
    let (code, _, err) = with_file(GOOD, &["audit", "-s", "LOW", "-I", list, "-c"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (code, _, err) = with_file(GOOD, &["audit", "-s", "LOW", "-i", "3.1.1,5.2.2", "-c"]);
    assert_eq!((code, err.as_str()), (0, ""));

    let (code, _, err) = with_file("{", &["audit", "-c"]);
    assert_eq!(code, 1);
    assert!(err.contains("ERROR parsing"), "{err}");
}

#[test]
fn the_version_has_the_form_that_scripts_look_for() {
    let (code, out, _) = run(&["version"]);
    let first = format!("Portcullis Version: {}", env!("CARGO_PKG_VERSION"));
    assert_eq!((code, out.lines().next()), (0, Some(first.as_str())));
}

#[test]
fn no_command_and_help_show_what_there_is() {
    for arguments in [&[][..], &["help"], &["--help"], &["-h"]] {
        let (code, out, _) = run(arguments);
        assert_eq!(code, 0, "{arguments:?}");
        for command in ["run", "check", "audit", "reload", "demo"] {
            assert!(out.contains(command), "{arguments:?}: {out}");
        }
    }
}

#[test]
fn completions_and_the_man_page_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(out.contains("healthcheck"), "{shell}");
    }
    let (code, out, _) = run(&["man"]);
    assert_eq!(code, 0);
    assert!(out.contains(".TH portcullis"), "{out}");
}

#[test]
fn go_plugins_are_declined_by_name() {
    for command in ["check-plugin", "test-plugin"] {
        let (code, _, err) = run(&[command, "-s", "x.so"]);
        assert_eq!(code, 1);
        assert!(err.contains("Go plugins"), "{err}");
    }
}

#[test]
fn healthcheck_says_whether_a_gateway_is_well() {
    let gateway = Gateway::start(GOOD);
    let health = |port: u16, path: &str| {
        let url = format!("http://127.0.0.1:{port}{path}");
        run(&["healthcheck", &url])
    };
    assert_eq!(health(gateway.port(), "/__health").0, 0);
    let (code, _, err) = health(gateway.port(), "/nowhere");
    assert_eq!(code, 1);
    assert!(err.contains("404"), "{err}");
    assert_eq!(health(ports::free(), "/__health").0, 1);
}
