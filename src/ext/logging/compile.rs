//! Compiles the blocks. A log that cannot be created as configured is replaced by the plain log with a warning: a
//! gateway that logs too much is better than one that does not start.

use std::sync::Arc;

use super::config::{Access, Logging};
use crate::config::{Mistake, Node};
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::telemetry::access::{self, AccessFormat, Destination, Query};
use crate::telemetry::format::{Format, Level, parse_template};
use crate::telemetry::logger::{self, Color, SyslogSettings};
use crate::telemetry::syslog::Facility;

/// The tag of syslog messages if there is no prefix.
const TAG: &str = "portcullis";

/// The module name of `telemetry/logstash`: the prefix of the logger.
#[derive(Debug)]
struct Prefix(String);

pub(super) fn logging(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = Logging::read(node) else {
        return ServicePart::Nothing;
    };
    let level = block.level.as_deref().unwrap_or("");
    let Some(level) = Level::parse(level) else {
        let at = node.get("level").unwrap_or_else(|| node.clone());
        at.warn_hint(
            Mistake::invalid("logger: invalid log level"),
            "DEBUG, INFO, WARNING, ERROR or CRITICAL; until then everything is logged to stdout",
        );
        return ServicePart::Nothing;
    };
    let settings = logger::Settings {
        level,
        stdout: block.stdout,
        format: format(node, &block),
        color: match block.color {
            Some("always") => Color::Always,
            Some("never") => Color::Never,
            _ => Color::Auto,
        },
        syslog: block.syslog.then(|| syslog(node, &block)),
    };
    cx.leave(Arc::new(settings));
    cx.leave(Arc::new(Prefix(block.prefix)));
    ServicePart::Nothing
}

pub(super) fn logstash(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let (Some(settings), Some(prefix)) = (cx.left::<logger::Settings>(), cx.left::<Prefix>())
    else {
        node.warn(Mistake::invalid(
            "without \"telemetry/logging\" this has no effect",
        ));
        return ServicePart::Nothing;
    };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    cx.leave(Arc::new(logger::Settings {
        format: Format::Record {
            module: prefix.0.trim().to_owned(),
            host: host.trim().to_owned(),
        },
        ..logger::Settings::clone(&settings)
    }));
    ServicePart::Nothing
}

pub(super) fn access(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = Access::read(node) else {
        return ServicePart::Nothing;
    };
    let sample = block.sample.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&sample) {
        let at = node.get("sample").unwrap_or_else(|| node.clone());
        at.mistake(Mistake::OutOfRange {
            found: sample.to_string(),
            range: "0 to 1".to_owned(),
        });
    }
    let destination = match block.output.as_deref() {
        None | Some("" | "stdout") => Destination::Stdout,
        Some("syslog") => Destination::Syslog {
            facility: Facility::LOCAL3,
            tag: TAG.to_owned(),
        },
        Some(path) => Destination::File(cx.path(path)),
    };
    cx.leave(Arc::new(access::Settings {
        format: match block.format {
            Some("json") => AccessFormat::Json,
            _ => AccessFormat::Gin,
        },
        destination,
        query: match block.query {
            Some("drop") => Query::Drop,
            _ => Query::Keep,
        },
        sample,
    }));
    ServicePart::Nothing
}

fn format(node: &Node<'_>, block: &Logging) -> Format {
    let default = Format::Default {
        prefix: block.prefix.clone(),
    };
    match block.format.as_deref() {
        None | Some("" | "default") => default,
        Some("logstash") => Format::Logstash,
        Some("custom") => match parse_template(&block.custom_format) {
            Ok(parts) => Format::Custom(parts),
            Err(error) => {
                let at = node.get("custom_format").unwrap_or_else(|| node.clone());
                at.invalid(error.to_string());
                default
            }
        },
        Some(other) => {
            let at = node.get("format").unwrap_or_else(|| node.clone());
            at.warn(Mistake::NotOneOf {
                found: other.to_owned(),
                allowed: "default, logstash, custom".to_owned(),
            });
            default
        }
    }
}

fn syslog(node: &Node<'_>, block: &Logging) -> SyslogSettings {
    let facility = block.syslog_facility.as_deref().unwrap_or("local3");
    let parsed = Facility::parse(facility);
    if parsed.is_none() {
        let at = node.get("syslog_facility").unwrap_or_else(|| node.clone());
        at.warn(Mistake::NotOneOf {
            found: facility.to_owned(),
            allowed: "local0 to local7".to_owned(),
        });
    }
    let tag = block.prefix.trim();
    SyslogSettings {
        facility: parsed.unwrap_or(Facility::LOCAL3),
        tag: if tag.is_empty() { TAG } else { tag }.to_owned(),
    }
}
