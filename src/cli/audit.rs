//! `audit`: recommendations for a configuration. It must be one that `check` accepts. Nothing is started.
//!
//! Ids and severities are those of KrakenD, so existing lists of ignored ids still apply. KrakenD's rules about
//! tracing, gRPC, async agents and plugins are omitted.

mod rules;

use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::findings::Paint;
use crate::cli::{AuditArgs, Format, check, findings};
use crate::config::flexible::Rendering;
use crate::config::{Environment, Node, Report, Service, load};
use crate::named_file;
use rules::{Level, RULES, Rule};

/// Prints the recommendations, to standard error as KrakenD does. The exit code is 1 if there are any.
pub(super) fn audit(args: &AuditArgs) -> ExitCode {
    let file = args.config.path();
    let name = check::shown_name(file);
    let paint = Paint::of_stderr();
    let ignored = match ignored(args) {
        Ok(ids) => ids,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = check::outcome(file);
    if outcome.compiled.is_none() {
        let rejection = findings::painted_rejection(paint, &name, &outcome.findings);
        eprint!("{rejection}");
        return ExitCode::FAILURE;
    }
    let Some(mut raised) = raised(file, outcome.rendering.as_deref()) else {
        return ExitCode::FAILURE;
    };
    let wanted = |rule: &&Rule| {
        let level = rule.level.as_str();
        let severe = args
            .severity
            .iter()
            .any(|one| one.trim().eq_ignore_ascii_case(level));
        severe && !ignored.contains(rule.id)
    };
    raised.retain(wanted);
    match args.format {
        _ if args.quiet => {}
        Format::Text => eprint!("{}", text(paint, &raised)),
        Format::Json => super::say(&format!("{}\n", json(&raised))),
    }
    if raised.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The ids of `--ignore`, and those of the file, one per line.
fn ignored(args: &AuditArgs) -> Result<HashSet<String>, String> {
    let mut ids: HashSet<String> = args.ignore.iter().map(|id| id.trim().to_owned()).collect();
    if let Some(path) = &args.ignore_file {
        let text = named_file::read_text(path, named_file::SMALL)
            .map_err(|error| format!("open {}: {error}", path.display()))?;
        ids.extend(text.lines().map(|line| line.trim().to_owned()));
    }
    Ok(ids)
}

/// Every rule that the configuration, or its rendered template, breaks. `None` if it cannot be read.
fn raised(path: &Path, rendering: Option<&Rendering>) -> Option<Vec<&'static Rule>> {
    let report = Report::new();
    let environment = Environment::process();
    let value = match rendering {
        Some(it) => load::parse(&it.text, it.format, &environment, &report)?,
        None => load::load(path, &environment, &report)?,
    };
    let file = Service::read(Node::root(&value, &report))?;
    Some(RULES.iter().filter(|rule| (rule.raised)(&file)).collect())
}

fn text(paint: Paint, raised: &[&Rule]) -> String {
    let line = |rule: &&Rule| {
        let level = rule.level.as_str();
        let shown = format!("[{level}]");
        // Colour codes have no width, so the blanks come after them.
        let blanks = " ".repeat(12_usize.saturating_sub(shown.len()));
        let shown = match rule.level {
            Level::Critical | Level::High => paint.bad(&shown),
            Level::Medium => paint.doubtful(&shown),
            Level::Low => shown,
        };
        format!("{}\t{shown}{blanks}\t{}\n", rule.id, rule.message)
    };
    raised.iter().map(line).collect()
}

fn json(raised: &[&Rule]) -> String {
    let one = |rule: &&Rule| serde_json::json!({ "rule": rule.id, "severity": rule.level.as_str(), "message": rule.message });
    serde_json::json!({ "recommendations": raised.iter().map(one).collect::<Vec<_>>() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<&'static str> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.json");
        std::fs::write(&path, text).unwrap();
        raised(&path, None)
            .unwrap()
            .iter()
            .map(|rule| rule.id)
            .collect()
    }

    /// A configuration with these members at its root, in `extra_config` and in its only endpoint.
    fn with(root: &str, extra: &str, endpoint: &str) -> Vec<&'static str> {
        ids(&format!(
            r#"{{"version": 3, {root} "extra_config": {{{extra}}}, "endpoints": [{{"endpoint": "/a", {endpoint}
            "backend": [{{"host": ["http://a"], "url_pattern": "/"}}]}}]}}"#
        ))
    }

    #[test]
    fn a_minimal_configuration_gets_the_expected_recommendations() {
        assert_eq!(
            with("", "", ""),
            [
                "1.2.1", "2.1.2", "2.1.7", "2.2.1", "2.2.2", "3.1.1", "3.1.2", "3.1.3", "4.1.1",
                "4.3.1", "5.2.2"
            ]
        );
    }

    #[test]
    fn present_settings_are_not_recommended() {
        let raised = with(
            r#""tls": {"keys": []},"#,
            r#""security/http": {}, "security/cors": {}, "security/bot-detector": {}, "telemetry/logging": {},
            "router": {"hide_version_header": true}, "portcullis/metrics": {}"#,
            r#""extra_config": {"github.com/devopsfaith/krakend-jose/validator": {}, "qos/ratelimit/router": {}},"#,
        );
        assert_eq!(raised, ["3.1.3", "5.2.2"]);
    }

    #[test]
    fn each_risk_has_its_id() {
        for (root, extra, endpoint, id) in [
            (r#""allow_insecure_connections": true,"#, "", "", "2.1.1"),
            (r#""tls": {"disabled": true},"#, "", "", "2.1.3"),
            (r#""use_h2c": true,"#, "", "", "2.1.8"),
            ("", "", r#""input_headers": ["*"],"#, "2.2.3"),
            ("", "", r#""input_query_strings": ["*"],"#, "2.2.4"),
            ("", "", r#""timeout": "4s","#, "3.3.1"),
            (r#""timeout": "6s","#, "", "", "3.3.2"),
            ("", "", r#""timeout": "2m","#, "3.3.4"),
            (r#""debug_endpoint": true,"#, "", "", "5.1.2"),
            (
                "",
                "",
                r#""extra_config": {"proxy": {"sequential": true}},"#,
                "5.1.7",
            ),
            ("", "", r#""output_encoding": "no-op","#, "5.2.3"),
            ("", r#""telemetry/influx": {}"#, "", "7.2.4"),
            (
                r#""tls": {"public_key": "a", "private_key": "b"},"#,
                "",
                "",
                "7.3.1",
            ),
        ] {
            let raised = with(root, extra, endpoint);
            assert!(raised.contains(&id), "{id}: {raised:?}");
        }
    }

    #[test]
    fn severities_are_coloured_on_a_terminal_and_aligned() {
        let rules: Vec<&Rule> = RULES.iter().collect();
        let plain = text(Paint::default(), &rules);
        let coloured = text(Paint::always(), &rules);
        assert!(!plain.contains('\x1b'));
        for (level, code) in [("CRITICAL", "1;31"), ("HIGH", "1;31"), ("MEDIUM", "33")] {
            assert!(
                coloured.contains(&format!("\x1b[{code}m[{level}]\x1b[0m")),
                "{level}"
            );
        }
        assert!(coloured.contains("\t[LOW] "));
        let codes = ["\x1b[1;31m", "\x1b[33m", "\x1b[0m"];
        let bare = codes
            .iter()
            .fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(bare, plain);
    }

    #[test]
    fn no_two_rules_share_an_id() {
        let ids: HashSet<&str> = RULES.iter().map(|rule| rule.id).collect();
        assert_eq!(ids.len(), RULES.len());
    }
}
