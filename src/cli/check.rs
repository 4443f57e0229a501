//! `check`: all errors of a configuration at once. The texts of findings are also printed by `run` and `reload`.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{CheckArgs, Format};
use crate::compile::{self, Inputs, Outcome};
use crate::config::{Environment, Finding, Mistake, Position, Severity};
use crate::ext::Carry;
use crate::server::tls::Certificates;
use crate::upstream::{Clients, DnsTable};

/// Checks a configuration and prints the result. As with KrakenD's commands, text goes to standard error.
///
/// The exit code is 1 if an error stops the start, and 0 otherwise, also with warnings.
pub(super) fn check(args: CheckArgs) -> ExitCode {
    let name = args.config.display().to_string();
    let outcome = outcome_with(&args.config, environment(args.strict));
    if args.render {
        render(&outcome, args.show_secrets);
    }
    match args.format {
        // Standard output is reserved for the rendered text.
        Format::Json if args.render => eprintln!("{}", json(&name, &outcome.findings)),
        Format::Json => println!("{}", json(&name, &outcome.findings)),
        Format::Text => {
            let indent = (args.debug > 0).then_some(args.indent.as_str());
            eprint!("{}", text(&name, &outcome, indent));
        }
    }
    match outcome.compiled {
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
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
pub fn environment(strict: bool) -> Environment {
    if strict {
        Environment::process().with("PORTCULLIS_STRICT", "1")
    } else {
        Environment::process()
    }
}

/// Compiles a configuration only for its findings.
pub fn outcome(file: &Path) -> Outcome {
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
            before: &Carry::default(),
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
        outcome.compiled = None;
        outcome.findings.push(Finding {
            severity: Severity::Mistake,
            at: Position::default(),
            pointer: "/tls".to_owned(),
            mistake: Mistake::invalid(error.to_string()),
            hint: None,
        });
    }
    outcome
}

/// With `indent`, also prints what the configuration defines, with this text at each level.
fn text(name: &str, outcome: &Outcome, indent: Option<&str>) -> String {
    let mut out = format!("Parsing configuration file: {name}\n");
    match &outcome.compiled {
        None => out.push_str(&refusal(name, &outcome.findings)),
        Some(compiled) => {
            if let Some(indent) = indent {
                for line in &compiled.summary {
                    let _ = writeln!(out, "{}", line.replace('\t', indent));
                }
            }
            out.push_str(&list(name, &outcome.findings));
            out.push_str("Syntax OK!\n");
        }
    }
    out
}

/// Why a configuration cannot be served: KrakenD's first line, followed by every finding with its location.
pub fn refusal(name: &str, findings: &[Finding]) -> String {
    let first = findings
        .iter()
        .find(|finding| finding.severity == Severity::Mistake)
        .map(|finding| finding.mistake.to_string())
        .unwrap_or_default();
    format!(
        "ERROR parsing the configuration file: '{name}': {}\n{}",
        printable(&first),
        list(name, findings)
    )
}

/// The warnings of a served configuration, one line each, for the log.
pub fn warnings(name: &str, findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .filter(|finding| finding.severity == Severity::Warning)
        .map(|finding| match &finding.hint {
            Some(hint) => format!("{} ({})", line(name, finding), printable(hint)),
            None => line(name, finding),
        })
        .collect()
}

/// One line per finding, `gateway.json:12:15: /endpoints/3/timeout: …`, with a hint below it.
pub fn list(name: &str, findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let _ = writeln!(out, "{}", line(name, finding));
        for note in notes(finding) {
            let _ = writeln!(out, "        {}", printable(note));
        }
        if let Some(hint) = &finding.hint {
            let _ = writeln!(out, "        hint: {}", printable(hint));
        }
    }
    let mistakes = count(findings, Severity::Mistake);
    let warnings = count(findings, Severity::Warning);
    if mistakes + warnings > 1 {
        let _ = writeln!(
            out,
            "{}, {}",
            counted(mistakes, "mistake"),
            counted(warnings, "warning")
        );
    }
    out
}

/// The findings as one JSON object, for machines.
pub fn json(name: &str, findings: &[Finding]) -> String {
    let findings: Vec<serde_json::Value> = findings.iter().map(object).collect();
    let ok = !findings
        .iter()
        .any(|finding| finding["severity"] == "mistake");
    serde_json::json!({ "file": name, "ok": ok, "findings": findings }).to_string()
}

/// `template` is present for a rendered configuration: the place that printed the text, or that could not be
/// rendered.
fn object(finding: &Finding) -> serde_json::Value {
    let mut object = serde_json::json!({
        "severity": word(finding.severity),
        "pointer": finding.pointer,
        "line": finding.at.is_known().then_some(finding.at.line),
        "column": finding.at.is_known().then_some(finding.at.column),
        "message": finding.mistake.to_string(),
        "hint": finding.hint,
    });
    if let Some((file, at)) = template(finding) {
        object["template"] = serde_json::json!({
            "file": file,
            "line": at.is_known().then_some(at.line),
            "column": at.is_known().then_some(at.column),
            "notes": notes(finding),
        });
    }
    object
}

/// The file to correct, if it is not the configuration itself.
fn template(finding: &Finding) -> Option<(&str, Position)> {
    match &finding.mistake {
        Mistake::Template(problem) => Some((&problem.file, problem.at)),
        Mistake::Rendered { place, .. } => Some((&place.file, place.at)),
        _ => None,
    }
}

fn notes(finding: &Finding) -> &[String] {
    match &finding.mistake {
        Mistake::Template(problem) => &problem.notes,
        _ => &[],
    }
}

fn line(name: &str, finding: &Finding) -> String {
    let (name, at) = template(finding).unwrap_or((name, finding.at));
    let mut out = name.to_owned();
    if at.is_known() {
        let _ = write!(out, ":{at}");
    }
    if finding.severity == Severity::Warning {
        out.push_str(": warning");
    }
    if !finding.pointer.is_empty() {
        let _ = write!(out, ": {}", printable(&finding.pointer));
    }
    let text = match &finding.mistake {
        Mistake::Template(problem) => problem.text.clone(),
        Mistake::Rendered { mistake, text, .. } => format!("{mistake} ({text}:{})", finding.at),
        mistake => mistake.to_string(),
    };
    let _ = write!(out, ": {}", printable(&text));
    out
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings
        .iter()
        .filter(|finding| finding.severity == severity)
        .count()
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Mistake => "mistake",
        Severity::Warning => "warning",
    }
}

/// Texts of the configuration may contain escape sequences for terminals.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
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
            super::text("gateway.json", &outcome, Some("\t")),
            json("gateway.json", &outcome.findings),
        )
    }

    #[test]
    fn an_error_has_its_location_and_a_hint() {
        let (text, json) = checked(
            "{\n  \"version\": 3,\n  \"endpoints\": [{\n    \"endpoint\": \"/a\",\n    \"timeout\": \"2 sec\",\n    \"backend\": [{\"host\": [\"http://a\"], \"url_patern\": \"/\"}]\n  }]\n}",
        );
        assert_eq!(
            text,
            "Parsing configuration file: gateway.json\n\
             ERROR parsing the configuration file: 'gateway.json': \"2 sec\" is not a duration: unknown unit\n\
             gateway.json:5:16: /endpoints/0/timeout: \"2 sec\" is not a duration: unknown unit\n        \
             hint: a number and its unit, unspaced: \"2s\", \"1500ms\"\n\
             gateway.json:6:40: warning: /endpoints/0/backend/0/url_patern: the key \"url_patern\" is unknown here and ignored\n        \
             hint: did you mean \"url_pattern\"?\n\
             1 mistake, 1 warning\n"
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
