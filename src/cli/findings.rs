//! Prints the findings of a configuration, for `check`, `run` and `reload`.

use std::fmt::Write as _;
use std::io::IsTerminal;

use crate::config::{ConfigError, Finding, Position, Severity};

/// With this many locations or more, findings with the same text become one line.
const SAME: usize = 4;
/// The number of these locations that are named.
const PLACES: usize = 3;

/// Colours, for a terminal whose user has not set `NO_COLOR` (no-color.org).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Paint(bool);

impl Paint {
    /// For text on standard error.
    pub(super) fn of_stderr() -> Paint {
        let rejected = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Paint(std::io::stderr().is_terminal() && !rejected && !dumb)
    }

    #[cfg(test)]
    pub(super) fn always() -> Paint {
        Paint(true)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub(super) fn doubtful(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    fn quiet(self, text: &str) -> String {
        self.with("2", text)
    }
}

/// Why a configuration cannot be served: KrakenD's first line, followed by every finding with its location.
pub(super) fn rejection(name: &str, findings: &[Finding]) -> String {
    painted_rejection(Paint::default(), name, findings)
}

pub(super) fn painted_rejection(paint: Paint, name: &str, findings: &[Finding]) -> String {
    let config_error = |finding: &&Finding| finding.severity == Severity::ConfigError;
    let Some(first) = findings.iter().find(config_error) else {
        return String::new();
    };
    let said = printable(&first.config_error.to_string());
    let mut out = format!(
        "{} {said}\n",
        paint.bad(&format!("ERROR parsing the configuration file: '{name}':"))
    );
    out.push_str(&listed(paint, name, findings, Some(&said)));
    out
}

/// The warnings of a served configuration, one line each, for the log.
pub(super) fn warnings(name: &str, findings: &[Finding]) -> Vec<String> {
    let warnings: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Warning)
        .collect();
    grouped(&warnings)
        .into_iter()
        .map(|group| {
            // The log shows the level itself.
            let line = group.line(Paint::default(), name);
            let line = line.replacen(": warning: ", ": ", 1);
            match &group.first.hint {
                Some(hint) => format!("{line} ({})", printable(hint)),
                None => line,
            }
        })
        .collect()
}

/// The errors of a rejected configuration, one line each, for the log.
pub(super) fn config_errors(name: &str, findings: &[Finding]) -> Vec<String> {
    /// `check` prints all of them.
    const MOST: usize = 50;
    let errors: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::ConfigError)
        .collect();
    let groups = grouped(&errors);
    let more = groups.len().saturating_sub(MOST);
    let line = |group: &Group<'_>| {
        let line = one_line(&group.line(Paint::default(), name));
        match &group.first.hint {
            Some(hint) => format!("{line} ({})", one_line(&printable(hint))),
            None => line,
        }
    };
    let mut lines: Vec<String> = groups.iter().take(MOST).map(line).collect();
    if more > 0 {
        lines.push(format!("{name}: {} more", counted(more, "error")));
    }
    lines
}

/// A text of several lines as one line.
pub(super) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// One line per finding, `gateway.json:12:15: /endpoints/3/timeout: …`, with a hint below it.
pub(super) fn list(paint: Paint, name: &str, findings: &[Finding]) -> String {
    listed(paint, name, findings, None)
}

/// `said` is the text of the first error, which is already printed above the list.
fn listed(paint: Paint, name: &str, findings: &[Finding], said: Option<&str>) -> String {
    let mut out = String::new();
    let all: Vec<&Finding> = findings.iter().collect();
    let mut said = said;
    for (index, group) in grouped(&all).into_iter().enumerate() {
        if index > 0 {
            // Only the location that follows directly needs no text.
            said = None;
        }
        let config_error = group.first.severity == Severity::ConfigError;
        match said.filter(|said| config_error && group.text() == *said) {
            Some(_) => {
                said = None;
                let place = group.place(name);
                // A file that cannot be read has no location in it.
                if place != name {
                    let _ = writeln!(out, "{place}{}", group.elsewhere());
                }
            }
            None => {
                let _ = writeln!(out, "{}", group.line(paint, name));
            }
        }
        for note in notes(group.first) {
            let _ = writeln!(out, "        {}", printable(note));
        }
        if let Some(hint) = &group.first.hint {
            let hint = format!("hint: {}", printable(hint));
            let _ = writeln!(out, "        {}", paint.quiet(&hint));
        }
    }
    let config_errors = count(findings, Severity::ConfigError);
    let warnings = count(findings, Severity::Warning);
    if config_errors + warnings > 1 {
        let _ = writeln!(
            out,
            "{}, {}",
            counted(config_errors, "error"),
            counted(warnings, "warning")
        );
    }
    out
}

/// Findings with the same text, ordered by the first of each group.
struct Group<'f> {
    first: &'f Finding,
    /// The first few locations, and the total number.
    places: Vec<&'f str>,
    count: usize,
}

fn grouped<'f>(findings: &[&'f Finding]) -> Vec<Group<'f>> {
    let mut counts = std::collections::HashMap::new();
    for finding in findings {
        *counts.entry(key(finding)).or_insert(0_usize) += 1;
    }
    let mut groups: Vec<Group<'f>> = Vec::new();
    let mut at = std::collections::HashMap::new();
    for finding in findings {
        let key = key(finding);
        let many = counts.get(&key).is_some_and(|count| *count >= SAME);
        let known = if many {
            *at.entry(key).or_insert(groups.len())
        } else {
            groups.len()
        };
        match groups.get_mut(known) {
            Some(group) => {
                group.count += 1;
                if group.places.len() < PLACES {
                    group.places.push(&finding.pointer);
                }
            }
            None => groups.push(Group {
                first: finding,
                places: vec![&finding.pointer],
                count: 1,
            }),
        }
    }
    groups
}

/// The common part of two findings with the same text for different endpoints.
fn key(finding: &Finding) -> (bool, String, String, Option<&str>) {
    let steps = finding.pointer.split('/').map(|step| {
        let index = !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
        if index { "*" } else { step }
    });
    (
        finding.severity == Severity::ConfigError,
        steps.collect::<Vec<_>>().join("/"),
        text(finding),
        finding.hint.as_deref(),
    )
}

impl Group<'_> {
    fn place(&self, name: &str) -> String {
        let (name, at) = template(self.first).unwrap_or((name, self.first.at));
        let mut out = name.to_owned();
        if at.is_known() {
            let _ = write!(out, ":{at}");
        }
        if self.count == 1 && !self.first.pointer.is_empty() {
            let _ = write!(out, ": {}", printable(&self.first.pointer));
        }
        out
    }

    fn text(&self) -> String {
        printable(&text(self.first))
    }

    /// The other locations of the group.
    fn elsewhere(&self) -> String {
        if self.count == 1 {
            return String::new();
        }
        let mut out = format!(
            " ({} places: {}",
            self.count,
            printable(&self.places.join(", "))
        );
        if self.count > self.places.len() {
            out.push_str(", …");
        }
        out.push(')');
        out
    }

    fn line(&self, paint: Paint, name: &str) -> String {
        let (name, at) = template(self.first).unwrap_or((name, self.first.at));
        let mut out = name.to_owned();
        if at.is_known() {
            let _ = write!(out, ":{at}");
        }
        if self.first.severity == Severity::Warning {
            let _ = write!(out, ": {}", paint.doubtful("warning"));
        }
        if self.count == 1 && !self.first.pointer.is_empty() {
            let _ = write!(out, ": {}", printable(&self.first.pointer));
        }
        let _ = write!(out, ": {}{}", self.text(), self.elsewhere());
        out
    }
}

/// The findings as separate JSON objects.
pub(super) fn objects(findings: &[Finding]) -> Vec<serde_json::Value> {
    findings.iter().map(object).collect()
}

/// `template` is present for a rendered configuration: the place that printed the text, or that could not be
/// rendered.
fn object(finding: &Finding) -> serde_json::Value {
    let mut object = serde_json::json!({
        "severity": word(finding.severity),
        "pointer": finding.pointer,
        "line": finding.at.is_known().then_some(finding.at.line),
        "column": finding.at.is_known().then_some(finding.at.column),
        "message": finding.config_error.to_string(),
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
    match &finding.config_error {
        ConfigError::Template(problem) => Some((&problem.file, problem.at)),
        ConfigError::Rendered { place, .. } => Some((&place.file, place.at)),
        _ => None,
    }
}

fn notes(finding: &Finding) -> &[String] {
    match &finding.config_error {
        ConfigError::Template(problem) => &problem.notes,
        _ => &[],
    }
}

fn text(finding: &Finding) -> String {
    match &finding.config_error {
        ConfigError::Template(problem) => problem.text.clone(),
        ConfigError::Rendered {
            config_error, text, ..
        } => format!("{config_error} ({text}:{})", finding.at),
        config_error => config_error.to_string(),
    }
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
        Severity::ConfigError => "error",
        Severity::Warning => "warning",
    }
}

/// Texts of the configuration may contain escape sequences for terminals.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && !matches!(c, '\n' | '\t') {
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

    fn warning(pointer: &str, text: &str) -> Finding {
        Finding {
            severity: Severity::Warning,
            pointer: pointer.to_owned(),
            at: Position::new(1, 2),
            config_error: ConfigError::invalid(text.to_owned()),
            hint: None,
        }
    }

    #[test]
    fn the_same_warning_at_many_places_is_one_line() {
        let mut all: Vec<Finding> = (0..3000)
            .map(|n| warning(&format!("/endpoints/{n}/max_rate"), "has no effect"))
            .collect();
        all.push(warning("/endpoints/7/timeout", "has no effect"));
        all.push(warning("/name", "odd"));
        assert_eq!(
            warnings("f.json", &all),
            [
                "f.json:1:2: has no effect (3000 places: /endpoints/0/max_rate, /endpoints/1/max_rate, \
                 /endpoints/2/max_rate, …)",
                "f.json:1:2: /endpoints/7/timeout: has no effect",
                "f.json:1:2: /name: odd",
            ]
        );
        assert_eq!(warnings("f.json", &all[..3]).len(), 3);
        assert!(list(Paint::default(), "f.json", &all).ends_with("0 errors, 3002 warnings\n"));
    }

    #[test]
    fn an_error_below_a_warning_has_its_text_at_its_location_too() {
        let error = Finding {
            severity: Severity::ConfigError,
            ..warning("/port", "is bad")
        };
        let rejected = |all: &[Finding]| rejection("f.json", all);
        assert_eq!(
            rejected(&[error.clone(), warning("/name", "odd")]),
            "ERROR parsing the configuration file: 'f.json': is bad\nf.json:1:2: /port\n\
             f.json:1:2: warning: /name: odd\n1 error, 1 warning\n"
        );
        assert_eq!(
            rejected(&[warning("/name", "odd"), error]),
            "ERROR parsing the configuration file: 'f.json': is bad\nf.json:1:2: warning: /name: odd\n\
             f.json:1:2: /port: is bad\n1 error, 1 warning\n"
        );
    }

    #[test]
    fn each_error_is_one_line_of_the_log() {
        let error = |pointer: &str, text: &str| Finding {
            severity: Severity::ConfigError,
            hint: Some("a number\n".into()),
            ..warning(pointer, text)
        };
        let all = [
            error("/port", "is bad\n\n  and worse\n"),
            warning("/name", "odd"),
            error("/timeout", "is bad"),
        ];
        assert_eq!(
            config_errors("f.json", &all),
            [
                "f.json:1:2: /port: is bad and worse (a number)",
                "f.json:1:2: /timeout: is bad (a number)",
            ]
        );
        let many: Vec<Finding> = (0..60)
            .map(|n| error(&format!("/k{n}"), "is bad"))
            .collect();
        let lines = config_errors("f.json", &many);
        assert_eq!(lines.len(), 51);
        assert_eq!(lines.last().unwrap(), "f.json: 10 errors more");
    }

    #[test]
    fn colours_are_used_only_if_enabled() {
        let all = [warning("/name", "odd")];
        assert!(list(Paint(true), "f.json", &all).contains("\x1b[33mwarning\x1b[0m"));
        assert!(!list(Paint(false), "f.json", &all).contains('\x1b'));
    }
}
