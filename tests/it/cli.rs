//! The commands of the program as a user runs them: arguments in, text and exit codes out.

mod addresses;
mod file;
mod healthcheck;

use std::process::Output;

use crate::support::gateway::command;
use crate::support::{Gateway, ports};

/// A file that is served unchanged.
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

/// Runs `arguments`, followed by the path of a file with this content.
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
fn check_takes_the_flags_of_krakend() {
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
        let port = format!(r#"{{"port": {}, "#, ports::free());
        let file = GOOD.replacen('{', &port, 1);
        let (code, _, err) = with_file(&file, &[&["check"], flags, &["-c"]].concat());
        assert_eq!(code, 0, "{flags:?}: {err}");
        assert!(err.ends_with("Syntax OK!\n"), "{flags:?}: {err}");
    }
}

fn with_input(input: &str, arguments: &[&str]) -> (i32, String, String) {
    use std::io::Write;
    let mut child = command()
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn the_file_can_be_an_argument_or_standard_input() {
    for command in ["check", "audit"] {
        let flagged = with_file(GOOD, &[command, "-c"]).0;
        assert_eq!(with_file(GOOD, &[command]).0, flagged, "{command}");
        assert_eq!(
            with_input(GOOD, &[command, "-c", "-"]).0,
            flagged,
            "{command}"
        );
        assert_eq!(with_input(GOOD, &[command, "-"]).0, flagged, "{command}");
        let (code, _, err) = with_input("{", &[command, "-"]);
        assert_eq!(code, 1);
        assert!(err.contains("standard input"), "{err}");
        let (code, _, err) = run(&[command, "-c", "a.json", "b.json"]);
        assert_eq!(code, 2, "{err}");
    }
    let (code, _, err) = with_input("version: 3\nendpoints: []\n", &["check", "-"]);
    assert_eq!(code, 0, "{err}");
}

#[test]
fn quiet_prints_only_what_stops_a_start() {
    let warned = GOOD.replacen('{', r#"{"oauth": {}, "#, 1);
    assert_eq!(
        with_file(&warned, &["check", "-q"]),
        (0, String::new(), String::new())
    );
    let (code, _, err) = with_file(&warned, &["check", "--quiet", "--strict"]);
    assert_eq!(code, 1);
    assert!(err.contains("oauth"), "{err}");
    let bad = warned.replacen('{', r#"{"timeout": "2 sec", "#, 1);
    let (code, _, err) = with_file(&bad, &["check", "-q"]);
    assert_eq!(code, 1);
    assert!(err.contains("/timeout") && !err.contains("oauth"), "{err}");
    let (code, out, err) = with_file(GOOD, &["audit", "-q"]);
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", ""));
}

#[test]
fn the_first_line_of_a_rejection_is_not_repeated() {
    let (_, _, err) = with_file(
        r#"{"version": 3, "timeout": "2 sec", "oauth": {}, "endpoints": []}"#,
        &["check"],
    );
    assert_eq!(err.matches("is not a duration").count(), 1, "{err}");
    assert!(
        err.starts_with("ERROR parsing the configuration file: '"),
        "{err}"
    );
    assert!(err.ends_with("1 error, 1 warning\n"), "{err}");
    let (_, _, err) = run(&["check", "nowhere.json"]);
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn the_same_warning_at_3000_endpoints_is_one_line() {
    let one = |n: usize| {
        format!(
            r#"{{"endpoint": "/a{n}", "max_rate": 3, "backend": [{{"host": ["http://a"], "url_pattern": "/"}}]}}"#
        )
    };
    let all: Vec<String> = (0..3000).map(one).collect();
    let file = format!(r#"{{"version": 3, "endpoints": [{}]}}"#, all.join(","));
    let (code, _, err) = with_file(&file, &["check"]);
    assert_eq!(code, 0);
    assert!(err.lines().count() < 6, "{err}");
    assert!(
        err.contains(
            "(3000 places: /endpoints/0/max_rate, /endpoints/1/max_rate, /endpoints/2/max_rate, …)"
        ),
        "{err}"
    );
    let (_, out, _) = with_file(&file, &["check", "--format", "json"]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["findings"].as_array().unwrap().len(), 3000);
}

#[test]
fn check_lists_the_parts_that_krakend_3_would_drop() {
    let file = r#"{"version": 3, "endpoints": [{"endpoint": "/a",
        "extra_config": {"github.com/devopsfaith/krakend-cel": [{"check_expr": "req_method == 'GET'"}]},
        "backend": [{"host": ["http://a"], "url_pattern": "/"}]}]}"#;
    let (code, _, err) = with_file(file, &["check", "--compat", "krakend-3"]);
    assert_eq!(code, 0);
    for line in [
        "krakend-3: /version: 3 must become 4 (here both are read)",
        "krakend-3: LOST /endpoints/0/extra_config/github.com~1devopsfaith~1krakend-cel: the old name is not read any more, \
         and nothing would be guarded; write \"validation/cel\" (here it keeps working)",
    ] {
        assert!(err.contains(line), "{err}");
    }
    let (_, out, _) = with_file(
        file,
        &["check", "--compat", "krakend-3", "--format", "json"],
    );
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["krakend-3"].as_array().unwrap().len(), 2);
    assert!(!with_file(file, &["check"]).2.contains("krakend-3"));
}

#[test]
fn check_rejects_a_log_that_run_cannot_open_and_a_port_in_use_with_t() {
    let log = |path: &str| {
        GOOD.replacen(
            '{',
            &format!(r#"{{"extra_config": {{"portcullis/access-log": {{"output": {path:?}}}}}, "#),
            1,
        )
    };
    for path in ["/nowhere/access.log", "."] {
        let file = log(path);
        let (code, _, err) = with_file(&file, &["check"]);
        assert_eq!(code, 1, "{path}: {err}");
        assert!(err.contains("access log cannot be opened"), "{err}");
        assert_eq!(with_file(&file, &["run"]).0, 1);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    assert_eq!(with_file(&log(path.to_str().unwrap()), &["check"]).0, 0);
    assert!(!path.exists(), "check leaves a file behind");

    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let file = GOOD.replacen(
        '{',
        &format!(r#"{{"listen_ip": "127.0.0.1", "port": {port}, "#),
        1,
    );
    assert_eq!(with_file(&file, &["check"]).0, 0);
    let (code, _, err) = with_file(&file, &["check", "-t"]);
    assert_eq!(code, 1);
    assert!(err.contains("bind"), "{err}");
}

#[test]
fn run_prints_what_it_serves() {
    let gateway = Gateway::start(GOOD);
    let path = gateway.config_path();
    for line in [
        format!("Portcullis {}", env!("CARGO_PKG_VERSION")),
        format!("Configuration: {}", path.display()),
        "1 endpoint, 0 key sets".to_owned(),
        "Listening on http://".to_owned(),
    ] {
        crate::support::eventually(&line, std::time::Duration::from_secs(30), || {
            gateway.output().lines().any(|said| said.starts_with(&line))
        });
    }
}

#[test]
fn help_has_examples() {
    for command in ["run", "check", "audit"] {
        let (code, out, _) = run(&[command, "--help"]);
        assert_eq!(code, 0);
        assert!(out.contains("Examples:"), "{out}");
        assert!(
            out.contains(&format!("portcullis {command} krakend.json")),
            "{out}"
        );
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
fn audit_skips_ignored_rules_and_rejects_invalid_files() {
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
fn no_command_and_help_list_the_commands() {
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
        let (code, other, _) = run(&["completions", shell, "--name", "krakend"]);
        assert_eq!(code, 0);
        assert!(
            other.contains("krakend") && !other.contains("_portcullis"),
            "{shell}: {other}"
        );
    }
    let (code, _, err) = run(&["completions", "bash", "--name", "a;b"]);
    assert_eq!(code, 2, "{err}");
    let (code, out, _) = run(&["man"]);
    assert_eq!(code, 0);
    assert!(out.contains(".TH portcullis"), "{out}");
}

#[test]
fn every_command_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = run(&["man", "--dir", folder.path().to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    let (_, help, _) = run(&["--help"]);
    let commands = help.split("Commands:").nth(1).unwrap();
    let commands = commands.split("\n\n").next().unwrap();
    let mut pages = vec![
        "portcullis.1".to_owned(),
        "portcullis-token-explain.1".to_owned(),
    ];
    for line in commands.lines().filter(|line| line.starts_with("  ")) {
        let name = line.split_whitespace().next().unwrap();
        if name != "help" {
            pages.push(format!("portcullis-{name}.1"));
        }
    }
    assert!(pages.len() > 10, "{pages:?}");
    for page in pages {
        let text = std::fs::read_to_string(folder.path().join(&page)).expect(&page);
        for section in ["SYNOPSIS", "EXIT STATUS", "SEE ALSO"] {
            let quoted = format!(".SH \"{section}\"");
            let found = text.contains(&format!(".SH {section}\n")) || text.contains(&quoted);
            assert!(found, "{page} has no {section}");
        }
    }
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    for name in ["portcullis.1", "portcullis-run.1"] {
        for section in ["SIGNALS", "FILES", "ENVIRONMENT"] {
            assert!(page(name).contains(&format!(".SH {section}\n")), "{name}");
        }
        for word in ["SIGUSR2", "FC_SETTINGS", "OTEL_PROPAGATORS", "AWS_REGION"] {
            assert!(page(name).contains(word), "{name} lacks {word}");
        }
    }
    for name in ["run", "check", "reload", "token-explain", "openapi-import"] {
        let text = page(&format!("portcullis-{name}.1"));
        assert!(text.contains(".SH EXAMPLES\n"), "{name}");
    }
    let check = page("portcullis-check.1");
    assert!(
        check.contains("all errors") || check.contains("All errors"),
        "{check}"
    );
    let new = folder.path().join("share/man1");
    assert_eq!(run(&["man", "--dir", new.to_str().unwrap()]).0, 0);
    assert!(new.join("portcullis.1").exists());
    let below_a_file = new.join("portcullis.1/man1");
    assert_eq!(run(&["man", "--dir", below_a_file.to_str().unwrap()]).0, 1);
}

#[test]
fn a_program_name_before_the_command_is_ignored() {
    for name in ["krakend", "/usr/bin/krakend", "portcullis"] {
        let (code, out, _) = run(&[name, "version"]);
        assert_eq!(code, 0, "{name}");
        assert!(out.starts_with("Portcullis Version"), "{out}");
    }
    assert_eq!(run(&["krakend", "serve"]).0, 2);
}

#[test]
fn go_plugins_are_declined_by_name() {
    for command in ["check-plugin", "test-plugin"] {
        let (code, _, err) = run(&[command, "-s", "x.so"]);
        assert_eq!(code, 1);
        assert!(err.contains("Go plugins"), "{err}");
    }
}

/// As in `portcullis schema | head`.
#[test]
fn a_reader_that_stops_early_is_not_an_error() {
    use std::io::Read as _;
    for arguments in [
        &["schema"][..],
        &["man"],
        &["completions", "zsh"],
        &["version"],
    ] {
        let mut child = command()
            .args(arguments)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        let status = child.wait().unwrap();
        assert!(
            status.success() && said.is_empty(),
            "{arguments:?}: {status} {said}"
        );
    }
}
