//! `check`: all errors of a configuration at once.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::findings::{self, Paint};
use crate::cli::{CheckArgs, Compat, Format};
use crate::compile::krakend3::{self, Change};
use crate::compile::{self, Compiled, Inputs, Outcome};
use crate::config::{ConfigError, Environment, Finding, Node, Position, Report, Severity, load};
use crate::ext::ReloadState;
use crate::server::listeners::try_bind;
use crate::server::tls::Certificates;
use crate::upstream::{Clients, DnsTable};

/// Checks a configuration and prints the result. As with KrakenD's commands, text goes to standard error.
///
/// The exit code is 1 if an error stops the start, and 0 otherwise, also with warnings.
pub(super) fn check(args: CheckArgs) -> ExitCode {
    let file = args.config.path();
    let name = shown_name(file);
    let environment = environment(args.strict);
    let mut outcome = outcome_with(file, environment.clone());
    if args.test_routes {
        ports(&mut outcome);
    }
    if args.render {
        render(&outcome, args.show_secrets);
    }
    let changes = args
        .compat
        .map(|Compat::Krakend3| changes(file, &environment));
    match args.format {
        // Standard output is reserved for the rendered text.
        Format::Json if args.render => eprintln!("{}", json(&name, &outcome.findings, changes)),
        Format::Json => {
            super::say(&format!("{}\n", json(&name, &outcome.findings, changes)));
        }
        Format::Text => {
            let paint = Paint::of_stderr();
            let indent = (args.debug > 0).then_some(args.indent.as_str());
            if !args.quiet {
                eprint!("{}", text(paint, &name, &outcome, indent));
            } else if outcome.compiled.is_none() {
                eprint!("{}", config_errors(paint, &name, &outcome));
            }
            if let Some(changes) = changes {
                eprint!("{}", compat(&changes));
            }
        }
    }
    match outcome.compiled {
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

/// The name of the configuration in messages.
pub(super) fn shown_name(file: &Path) -> String {
    if file.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    }
}

/// Prints the rendered template. On a terminal, values that came from the environment are masked, because others may
/// see the screen.
fn render(outcome: &Outcome, show_secrets: bool) {
    let mut out = std::io::stdout().lock();
    let text = match &outcome.rendering {
        Some(rendering) if out.is_terminal() && !show_secrets => rendering.masked_text(),
        Some(rendering) => rendering.text.clone(),
        None => return,
    };
    // An error means that the reader closed the pipe.
    let _ = out.write_all(text.as_bytes());
}

/// The environment of this process. `--strict` is added to it as a variable.
pub(super) fn environment(strict: bool) -> Environment {
    if strict {
        Environment::process().with("PORTCULLIS_STRICT", "1")
    } else {
        Environment::process()
    }
}

/// Compiles a configuration only for its findings.
pub(super) fn outcome(file: &Path) -> Outcome {
    outcome_with(file, Environment::process())
}

fn outcome_with(file: &Path, environment: Environment) -> Outcome {
    crate::jose::install_crypto();
    let clients = Arc::new(Clients::new(Arc::new(DnsTable::default())));
    let mut outcome = compile::file(
        file,
        &Inputs {
            environment: &environment,
            clients: &clients,
            before: &ReloadState::default(),
            port: None,
            debug: false,
        },
    );
    // Checks that are made by the server: whether TLS versions, suites and curves can be negotiated.
    let tls = outcome
        .compiled
        .as_ref()
        .and_then(|it| it.listen.tls.clone());
    if let Some(Err(error)) = tls.map(Certificates::load) {
        reject(&mut outcome, "/tls", error.to_string());
    }
    for (pointer, reason) in outcome.compiled.as_ref().map(logs).unwrap_or_default() {
        reject(&mut outcome, pointer, reason);
    }
    outcome
}

/// Adds an error that only a start would find.
fn reject(outcome: &mut Outcome, pointer: &str, reason: String) {
    outcome.compiled = None;
    let error = finding(Severity::ConfigError, pointer, reason);
    outcome.findings.push(error);
}

fn finding(severity: Severity, pointer: &str, reason: String) -> Finding {
    Finding {
        severity,
        at: Position::default(),
        pointer: pointer.to_owned(),
        config_error: ConfigError::invalid(reason),
        hint: None,
    }
}

/// The logs that a start could not open.
fn logs(compiled: &Compiled) -> Vec<(&'static str, String)> {
    let access = compiled.blocks.access_log.as_ref();
    let access = access.and_then(|settings| settings.try_open().err());
    let access = access.map(|error| {
        let text = format!("the access log cannot be opened: {error}");
        ("/extra_config/portcullis~1access-log", text)
    });
    access.into_iter().collect()
}

/// Checks whether a start could bind every address of the configuration, for `-t`.
fn ports(outcome: &mut Outcome) {
    let Some(compiled) = &outcome.compiled else {
        return;
    };
    let gateway = ("/port".to_owned(), compiled.listen.address, false);
    let admin_listeners = compile::admin_listeners(compiled).into_iter();
    let admin_listeners =
        admin_listeners.map(|side| (side.pointer(), side.address, side.is_optional()));
    let taken: Vec<(String, bool, String)> = std::iter::once(gateway)
        .chain(admin_listeners)
        .filter_map(|(pointer, address, optional)| {
            let error = try_bind(address).err()?;
            let text = format!("listen tcp {address}: bind: {error}");
            Some((pointer, optional, text))
        })
        .collect();
    for (pointer, optional, reason) in taken {
        if optional {
            let reason = format!("{reason}: the gateway starts without this page");
            outcome
                .findings
                .push(finding(Severity::Warning, &pointer, reason));
        } else {
            reject(outcome, &pointer, reason);
        }
    }
}

/// The parts that KrakenD 3.0 would read differently. Errors of an unreadable file are already reported.
fn changes(file: &Path, environment: &Environment) -> Vec<Change> {
    let report = Report::new();
    let root = load::load(file, environment, &report);
    root.map_or_else(Vec::new, |root| {
        krakend3::changes(&Node::root(&root, &report))
    })
}

/// The changes as text: lost parts first, and each kind of change once with its locations.
fn compat(changes: &[Change]) -> String {
    let mut out = String::new();
    let mut kinds: Vec<(&Change, Vec<&str>)> = Vec::new();
    for change in changes {
        let same = |known: &&mut (&Change, Vec<&str>)| {
            (known.0.lost, &known.0.text) == (change.lost, &change.text)
        };
        match kinds.iter_mut().find(same) {
            Some((_, places)) => places.push(&change.pointer),
            None => kinds.push((change, vec![&change.pointer])),
        }
    }
    kinds.sort_by_key(|(change, _)| !change.lost);
    for (change, places) in &kinds {
        let lost = if change.lost { "LOST " } else { "" };
        let more = match places.len() {
            0..=3 => String::new(),
            count => format!(", … ({count} places)"),
        };
        let places = places
            .iter()
            .take(3)
            .copied()
            .collect::<Vec<_>>()
            .join(", ");
        let _ = writeln!(
            out,
            "krakend-3: {lost}{places}{more}: {} ({})",
            change.text, change.here
        );
    }
    if !changes.iter().any(|change| change.lost) {
        out.push_str("krakend-3: nothing in this file is known to be dropped by KrakenD 3.0\n");
    }
    out
}

/// With `indent`, also prints what the configuration defines, with this text at each level.
fn text(paint: Paint, name: &str, outcome: &Outcome, indent: Option<&str>) -> String {
    let Some(compiled) = &outcome.compiled else {
        return findings::painted_rejection(paint, name, &outcome.findings);
    };
    let mut out = format!("Parsing configuration file: {name}\n");
    if let Some(indent) = indent {
        for line in &compiled.summary {
            let _ = writeln!(out, "{}", line.replace('\t', indent));
        }
    }
    out.push_str(&findings::list(paint, name, &outcome.findings));
    let _ = writeln!(out, "{}", paint.good("Syntax OK!"));
    out
}

/// Only the errors, for `--quiet`.
fn config_errors(paint: Paint, name: &str, outcome: &Outcome) -> String {
    let all = outcome.findings.iter();
    let config_errors: Vec<Finding> = all
        .filter(|finding| finding.severity == Severity::ConfigError)
        .cloned()
        .collect();
    findings::painted_rejection(paint, name, &config_errors)
}

/// The findings as one JSON object, for machines.
fn json(name: &str, findings: &[Finding], changes: Option<Vec<Change>>) -> String {
    let findings = findings::objects(findings);
    let ok = !findings
        .iter()
        .any(|finding| finding["severity"] == "error");
    let mut all = serde_json::json!({ "file": name, "ok": ok, "findings": findings });
    if let Some(changes) = changes {
        let changes = changes.iter().map(|change| {
            serde_json::json!({ "pointer": change.pointer, "lost": change.lost, "message": change.text, "here": change.here })
        });
        all["krakend-3"] = changes.collect();
    }
    all.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.json");
        std::fs::write(&path, text).unwrap();
        let outcome = outcome(&path);
        (
            super::text(Paint::default(), "gateway.json", &outcome, Some("\t")),
            json("gateway.json", &outcome.findings, None),
        )
    }

    #[test]
    fn an_error_has_its_location_and_a_hint() {
        let (text, json) = checked(
            "{\n  \"version\": 3,\n  \"endpoints\": [{\n    \"endpoint\": \"/a\",\n    \"timeout\": \"2 sec\",\n    \"backend\": [{\"host\": [\"http://a\"], \"url_patern\": \"/\"}]\n  }]\n}",
        );
        assert_eq!(
            text,
            "ERROR parsing the configuration file: 'gateway.json': \"2 sec\" is not a duration: unknown unit\n\
             gateway.json:5:16: /endpoints/0/timeout\n        \
             hint: a number and its unit without a blank: \"2s\", \"1500ms\"\n\
             gateway.json:6:40: warning: /endpoints/0/backend/0/url_patern: the key \"url_patern\" is unknown here and ignored\n        \
             hint: did you mean \"url_pattern\"?\n\
             1 error, 1 warning\n"
        );
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["findings"][0]["line"], 5);
    }

    #[test]
    fn a_valid_configuration_is_ok_and_summarised() {
        let (text, json) = checked(
            r#"{"version": 3, "name": "x", "endpoints": [{"endpoint": "/a", "backend": [{"host": ["http://a"], "url_pattern": "/b"}]}]}"#,
        );
        assert!(text.ends_with("Syntax OK!\n"), "{text}");
        assert!(text.contains("\t- GET /a\n"), "{text}");
        assert_eq!(json, r#"{"file":"gateway.json","findings":[],"ok":true}"#);
    }
}
