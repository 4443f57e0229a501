//! The formats of log lines.

use std::time::Duration;

use crate::telemetry::sanitize::{push_escaped, push_json};
use crate::telemetry::timestamp::{self, GoLayout};
use crate::telemetry::trace::{SpanId, TraceId};

/// The configured levels, least important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl Level {
    /// The level with this name, in any letter case.
    pub fn parse(name: &str) -> Option<Level> {
        let all = [
            Level::Debug,
            Level::Info,
            Level::Warning,
            Level::Error,
            Level::Critical,
        ];
        all.into_iter()
            .find(|level| level.name().eq_ignore_ascii_case(name))
    }

    /// Its name in log lines.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warning => "WARNING",
            Level::Error => "ERROR",
            Level::Critical => "CRITICAL",
        }
    }

    /// The colour that KrakenD uses. INFO has no start code.
    fn color(self) -> &'static str {
        match self {
            Level::Debug => "\x1b[36m",
            Level::Info => "",
            Level::Warning => "\x1b[33m",
            Level::Error => "\x1b[31m",
            Level::Critical => "\x1b[35m",
        }
    }

    fn bold(self) -> &'static str {
        match self {
            Level::Debug => "\x1b[36;1m",
            Level::Info => "\x1b[1m",
            Level::Warning => "\x1b[33;1m",
            Level::Error => "\x1b[31;1m",
            Level::Critical => "\x1b[35;1m",
        }
    }
}

const RESET: &str = "\x1b[0m";

/// The module name in KrakenD's logs, because log pipelines search for it.
const MODULE: &str = "KRAKEND";

/// An event to log.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub since_1970: Duration,
    pub level: Level,
    pub message: &'a str,
    pub file: &'a str,
    pub line: u32,
    /// The request's trace and span.
    pub trace: Option<(TraceId, SpanId)>,
    /// The id of `portcullis/request-id`.
    pub request_id: Option<&'a str>,
}

/// The format of log lines.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// `2026/11/23 22:26:11 KRAKEND INFO: text`, the format without `telemetry/logging`.
    Plain,
    /// `<prefix> 2026/11/23 - 22:21:25.177 ▶ DEBUG text`.
    Default { prefix: String },
    /// JSON with the members in the order of `"format": "logstash"`.
    Logstash,
    /// JSON in the format of `telemetry/logstash`.
    Record { module: String, host: String },
    /// A template.
    Custom(Box<[Part]>),
}

/// A part of a custom template.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    Text(Box<str>),
    Verb(Verb, Width),
}

/// The placeholders of a custom template.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    Time(GoLayout),
    Level,
    Message,
    Module,
    Pid,
    Program,
    Id,
    /// The id of the request, and that of its trace. Empty in lines that belong to no request.
    RequestId,
    TraceId,
    /// Path and line of the log statement.
    LongFile,
    ShortFile,
    /// KrakenD logs Go's packages and functions; here it is the path of the module.
    LongPackage,
    ShortPackage,
    Color,
    Bold,
    Reset,
}

/// The printf modifier of a verb: `-6s`, `.4s`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Width {
    least: usize,
    most: Option<usize>,
    left: bool,
}

impl Format {
    /// Appends the line for `event`, including the line end.
    pub fn push(&self, event: &Event<'_>, color: bool, out: &mut Vec<u8>) {
        match self {
            Format::Plain => {
                let date = timestamp::local(event.since_1970).format("%Y/%m/%d %H:%M:%S");
                let start = format!("{date} {MODULE} {}: ", event.level.name());
                out.extend_from_slice(start.as_bytes());
                push_escaped(event.message, out);
            }
            Format::Default { prefix } => push_default(prefix, event, color, out),
            Format::Logstash => push_logstash(event, out),
            Format::Record { module, host } => push_record(module, host, event, out),
            Format::Custom(parts) => parts.iter().for_each(|part| part.push(event, color, out)),
        }
        out.push(b'\n');
    }
}

fn push_default(prefix: &str, event: &Event<'_>, color: bool, out: &mut Vec<u8>) {
    let date = timestamp::local(event.since_1970).format("%Y/%m/%d - %H:%M:%S%.3f");
    let (start, end) = if color {
        (event.level.color(), RESET)
    } else {
        ("", "")
    };
    let line = format!("{prefix} {date} {start}▶ {}{end} ", event.level.name());
    out.extend_from_slice(line.as_bytes());
    push_escaped(event.message, out);
}

/// KrakenD prints the local time with `+00:00` after it, and does not escape. Here it is UTC and valid JSON.
fn push_logstash(event: &Event<'_>, out: &mut Vec<u8>) {
    let date = timestamp::utc(event.since_1970).format("%Y-%m-%dT%H:%M:%S%.3f");
    let level = event.level.name();
    let start = format!(
        "{{\"@timestamp\":\"{date}+00:00\", \"@version\": 1, \"level\": \"{level}\", \"message\": "
    );
    out.extend_from_slice(start.as_bytes());
    push_json(event.message, out);
    out.extend_from_slice(format!(", \"module\": \"{MODULE}\"").as_bytes());
    push_ids(event, ", ", out);
    out.push(b'}');
}

fn push_record(module: &str, host: &str, event: &Event<'_>, out: &mut Vec<u8>) {
    let date = timestamp::utc(event.since_1970).format("%Y-%m-%dT%H:%M:%S%.6f");
    let start = format!("{{\"@timestamp\":\"{date}+00:00\",\"@version\":1,\"host\":");
    out.extend_from_slice(start.as_bytes());
    push_json(host, out);
    let level = format!(",\"level\":\"{}\",\"message\":", event.level.name());
    out.extend_from_slice(level.as_bytes());
    push_json(event.message, out);
    out.extend_from_slice(b",\"module\":");
    push_json(if module.is_empty() { MODULE } else { module }, out);
    push_ids(event, ",", out);
    out.push(b'}');
}

/// The id of the request, and those of its trace under the names of the Elastic Common Schema.
fn push_ids(event: &Event<'_>, comma: &str, out: &mut Vec<u8>) {
    if let Some(id) = event.request_id {
        out.extend_from_slice(format!("{comma}\"request_id\":").as_bytes());
        push_json(id, out);
    }
    if let Some((trace, span)) = event.trace {
        let ids = format!("{comma}\"trace.id\":\"{trace}\"{comma}\"span.id\":\"{span}\"");
        out.extend_from_slice(ids.as_bytes());
    }
}

/// An unknown verb in a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown verb %{{{0}}}")]
pub(crate) struct UnknownVerb(String);

/// Parses a custom template.
///
/// # Errors
/// It contains an unknown verb or one that is not closed.
pub(crate) fn parse_template(template: &str) -> Result<Box<[Part]>, UnknownVerb> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once("%{") {
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
        let (verb, after) = after
            .split_once('}')
            .ok_or_else(|| UnknownVerb(after.to_owned()))?;
        parts.push(parse_verb(verb)?);
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.into()));
    }
    Ok(parts.into())
}

fn parse_verb(verb: &str) -> Result<Part, UnknownVerb> {
    let (name, modifier) = verb.split_once(':').unwrap_or((verb, ""));
    let known = match name {
        "time" if modifier.is_empty() => {
            Verb::Time(GoLayout::parse("2006-01-02T15:04:05.000Z07:00"))
        }
        "time" => Verb::Time(GoLayout::parse(modifier)),
        "level" => Verb::Level,
        "message" => Verb::Message,
        "module" => Verb::Module,
        "pid" => Verb::Pid,
        "program" => Verb::Program,
        "id" => Verb::Id,
        "requestid" => Verb::RequestId,
        "traceid" => Verb::TraceId,
        "longfile" => Verb::LongFile,
        "shortfile" => Verb::ShortFile,
        "longpkg" | "longfunc" | "callpath" => Verb::LongPackage,
        "shortpkg" | "shortfunc" => Verb::ShortPackage,
        "color" => match modifier {
            "bold" => Verb::Bold,
            "reset" => Verb::Reset,
            _ => Verb::Color,
        },
        _ => return Err(UnknownVerb(verb.to_owned())),
    };
    let width = match known {
        Verb::Time(_) | Verb::Color | Verb::Bold | Verb::Reset => Width::default(),
        _ => Width::parse(modifier),
    };
    Ok(Part::Verb(known, width))
}

impl Part {
    fn push(&self, event: &Event<'_>, color: bool, out: &mut Vec<u8>) {
        match self {
            Part::Text(text) => out.extend_from_slice(text.as_bytes()),
            Part::Verb(verb, width) => verb.push(*width, event, color, out),
        }
    }
}

impl Verb {
    fn push(&self, width: Width, event: &Event<'_>, color: bool, out: &mut Vec<u8>) {
        let short = || event.file.rsplit('/').next().unwrap_or(event.file);
        match self {
            Verb::Time(layout) => out.extend_from_slice(layout.print(event.since_1970).as_bytes()),
            Verb::Level => width.push(event.level.name(), out),
            Verb::Message => width.push(event.message, out),
            Verb::Module => width.push(MODULE, out),
            Verb::Pid => width.push(&std::process::id().to_string(), out),
            Verb::Program => width.push("portcullis", out),
            Verb::Id => width.push("0", out),
            Verb::RequestId => width.push(event.request_id.unwrap_or_default(), out),
            Verb::TraceId => {
                let trace = event.trace.map(|(trace, _)| trace.to_string());
                width.push(trace.as_deref().unwrap_or_default(), out);
            }
            Verb::LongFile => width.push(&format!("{}:{}", event.file, event.line), out),
            Verb::ShortFile => width.push(&format!("{}:{}", short(), event.line), out),
            Verb::LongPackage => width.push(event.file.trim_end_matches(".rs"), out),
            Verb::ShortPackage => width.push(short().trim_end_matches(".rs"), out),
            Verb::Color if color => out.extend_from_slice(event.level.color().as_bytes()),
            Verb::Bold if color => out.extend_from_slice(event.level.bold().as_bytes()),
            Verb::Reset if color => out.extend_from_slice(RESET.as_bytes()),
            Verb::Color | Verb::Bold | Verb::Reset => {}
        }
    }
}

/// The maximum width of a column.
const MAX_WIDTH: usize = 1024;

impl Width {
    fn parse(modifier: &str) -> Width {
        let modifier = modifier.trim_end_matches(['s', 'd', 'v']);
        let (least, most) = modifier.split_once('.').unwrap_or((modifier, ""));
        Width {
            left: least.starts_with('-'),
            least: least
                .trim_start_matches('-')
                .parse()
                .unwrap_or(0)
                .min(MAX_WIDTH),
            most: most.parse().ok(),
        }
    }

    fn push(self, text: &str, out: &mut Vec<u8>) {
        let cut = match self.most.and_then(|most| text.char_indices().nth(most)) {
            Some((end, _)) => text.get(..end).unwrap_or(text),
            None => text,
        };
        let blanks = self.least.saturating_sub(cut.chars().count());
        let pad = |out: &mut Vec<u8>| out.extend(std::iter::repeat_n(b' ', blanks));
        if !self.left {
            pad(out);
        }
        push_escaped(cut, out);
        if self.left {
            pad(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: &Format, level: Level, message: &str, color: bool) -> String {
        let event = Event {
            since_1970: Duration::from_millis(1_795_472_485_177),
            level,
            message,
            file: "src/a/b.rs",
            line: 7,
            trace: None,
            request_id: Some("7-id"),
        };
        let mut out = Vec::new();
        format.push(&event, color, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn date(layout: &str) -> String {
        timestamp::local(Duration::from_millis(1_795_472_485_177))
            .format(layout)
            .to_string()
    }

    #[test]
    fn without_settings_lines_are_plain() {
        let expected = format!("{} KRAKEND INFO: hi\n", date("%Y/%m/%d %H:%M:%S"));
        assert_eq!(line(&Format::Plain, Level::Info, "hi", true), expected);
    }

    #[test]
    fn the_default_line_is_that_of_krakend() {
        let format = Format::Default {
            prefix: "[X]".to_owned(),
        };
        let date = date("%Y/%m/%d - %H:%M:%S%.3f");
        let plain = line(&format, Level::Debug, "hi", false);
        assert_eq!(plain, format!("[X] {date} ▶ DEBUG hi\n"));
        let colored = line(&format, Level::Debug, "hi", true);
        assert_eq!(colored, format!("[X] {date} \x1b[36m▶ DEBUG\x1b[0m hi\n"));
        let info = line(&format, Level::Info, "hi", true);
        assert_eq!(info, format!("[X] {date} ▶ INFO\x1b[0m hi\n"));
    }

    #[test]
    fn messages_cannot_forge_lines_or_invalidate_json() {
        let evil = "a\"\n\x1b[31mb\\";
        let plain = line(&Format::Plain, Level::Info, evil, false);
        assert_eq!(plain.lines().count(), 1);
        let record = Format::Record {
            module: "m".to_owned(),
            host: "h".to_owned(),
        };
        for format in [Format::Logstash, record] {
            let json: serde_json::Value =
                serde_json::from_str(&line(&format, Level::Error, evil, true)).unwrap();
            assert_eq!(json["message"], evil);
            assert_eq!(json["level"], "ERROR");
            assert_eq!(json["@version"], 1);
            assert_eq!(json["request_id"], "7-id");
        }
    }

    #[test]
    fn the_logstash_line_has_the_spacing_of_krakend() {
        assert_eq!(
            line(&Format::Logstash, Level::Info, "hi", false),
            "{\"@timestamp\":\"2026-11-23T22:21:25.177+00:00\", \"@version\": 1, \"level\": \"INFO\", \
             \"message\": \"hi\", \"module\": \"KRAKEND\", \"request_id\":\"7-id\"}\n"
        );
    }

    #[test]
    fn templates_have_verbs_with_widths() {
        let parts = parse_template(
            "[%{level:-6s}|%{level:.4s}|%{module:9s}] %{shortfile} %{message}%{color:reset}",
        );
        let format = Format::Custom(parts.unwrap());
        assert_eq!(
            line(&format, Level::Warning, "hi", false),
            "[WARNING|WARN|  KRAKEND] b.rs:7 hi\n"
        );
        let format = Format::Custom(parse_template("%{requestid} %{traceid}|%{message}").unwrap());
        assert_eq!(line(&format, Level::Info, "hi", false), "7-id |hi\n");
        assert!(parse_template("%{nothing}").is_err());
        assert!(parse_template("%{level").is_err());
    }
}
