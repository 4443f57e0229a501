//! Compiles the blocks. A log that cannot be created as configured is replaced by the plain log with a warning: a
//! gateway that logs too much is better than one that does not start.

use std::sync::Arc;

use super::config::{Access, Logging};
use crate::config::suggest::nearest;
use crate::config::{ConfigError, Node};
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::telemetry::access::{self, AccessFormat, Destination, Pattern, Query};
use crate::telemetry::format::{Format, Level, parse_template};
use crate::telemetry::logger::{self, Color, SyslogSettings};
use crate::telemetry::syslog::Facility;

/// The tag of syslog messages if there is no prefix.
const TAG: &str = "portcullis";

/// The level that a user of another program probably means, as the start of a hint.
fn level_meant(level: &str) -> String {
    let upper = level.trim().to_ascii_uppercase();
    let meant = match upper.as_str() {
        "WARN" => Some("WARNING"),
        "ERR" => Some("ERROR"),
        "TRACE" => Some("DEBUG"),
        "NOTICE" | "INFORMATION" => Some("INFO"),
        "FATAL" | "PANIC" | "ALERT" | "EMERG" | "CRIT" => Some("CRITICAL"),
        _ => nearest(
            &upper,
            ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"].into_iter(),
        ),
    };
    meant.map_or_else(String::new, |meant| {
        format!("did you mean \"{meant}\"? One of ")
    })
}

/// The module name of `telemetry/logstash`: the prefix of the logger.
#[derive(Debug)]
pub(in crate::ext) struct Prefix(String);

pub(super) fn logging(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = Logging::read(node) else {
        return ServicePart::Nothing;
    };
    access_pattern(node, &block, cx);
    let level = block.level.as_deref().unwrap_or("");
    let Some(level) = Level::parse(level) else {
        let at = node.get("level").unwrap_or_else(|| node.clone());
        let meant = level_meant(block.level.as_deref().unwrap_or(""));
        at.warn_hint(
            ConfigError::invalid("logger: invalid log level"),
            format!("{meant}DEBUG, INFO, WARNING, ERROR or CRITICAL; until then everything is logged to stdout"),
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
        gelf: None,
    };
    cx.set_fact(Arc::new(settings));
    cx.set_fact(Arc::new(Prefix(block.prefix)));
    ServicePart::Nothing
}

/// `access_log_format`: the shape of the access log.
fn access_pattern(node: &Node<'_>, block: &Logging, cx: &mut Compile<'_>) {
    let Some(name) = &block.access_format else {
        return;
    };
    let missing = block.access_missing.as_deref().unwrap_or("-");
    let at = |key| node.get(key).unwrap_or_else(|| node.clone());
    let has_pattern = name != "custom" || !block.access_custom.trim().is_empty();
    if !has_pattern {
        at("access_log_format").warn_hint(
            ConfigError::Missing("access_log_custom_format"),
            "the format \"default\" is used",
        );
    }
    let name = if has_pattern {
        name.as_str()
    } else {
        "default"
    };
    match Pattern::named(name, &block.access_custom, &block.prefix, missing) {
        Some((pattern, unknown)) => {
            for reason in unknown {
                let hint = "it is written as it is";
                at("access_log_custom_format").warn_hint(ConfigError::invalid(reason), hint);
            }
            cx.set_fact(Arc::new(access::Settings {
                format: AccessFormat::Pattern(Box::new(pattern)),
                ..access::Settings::default()
            }));
        }
        None => {
            at("access_log_format").warn(ConfigError::NotOneOf {
                found: format!("{name:?}"),
                allowed: "default, httpdCommon, httpdCombined, json, custom".to_owned(),
            });
        }
    }
}

pub(super) fn logstash(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let (Some(settings), Some(prefix)) = (cx.fact::<logger::Settings>(), cx.fact::<Prefix>())
    else {
        node.warn(ConfigError::invalid(
            "without \"telemetry/logging\" this has no effect",
        ));
        return ServicePart::Nothing;
    };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    cx.set_fact(Arc::new(logger::Settings {
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
        at.config_error(ConfigError::OutOfRange {
            found: sample.to_string(),
            range: "0 to 1".to_owned(),
        });
    }
    let format = match (block.format, cx.fact::<access::Settings>()) {
        (Some(_), Some(left)) if matches!(left.format, AccessFormat::Pattern(_)) => {
            let at = node.get("format").unwrap_or_else(|| node.clone());
            at.invalid("\"access_log_format\" in \"telemetry/logging\" has another value");
            AccessFormat::Gin
        }
        (Some("json"), _) => AccessFormat::Json,
        (None, Some(left)) => left.format.clone(),
        _ => AccessFormat::Gin,
    };
    let destination = match block.output.as_deref() {
        None | Some("" | "stdout") => Destination::Stdout,
        Some("syslog") => Destination::Syslog {
            facility: Facility::LOCAL3,
            tag: TAG.to_owned(),
        },
        Some(path) => Destination::File(cx.path(path)),
    };
    cx.set_fact(Arc::new(access::Settings {
        format,
        destination,
        query: match block.query {
            Some("drop") => Query::Drop,
            _ => Query::Keep,
        },
        sample,
        fields: fields(node),
        claim: block.claim.map(String::into_boxed_str),
    }));
    ServicePart::Nothing
}

/// The members of a JSON line that the file asks for; empty: all.
fn fields(node: &Node<'_>) -> Box<[&'static str]> {
    let Some(list) = node.get("fields") else {
        return Box::default();
    };
    let names = list.texts(crate::config::Typing::Weak).unwrap_or_default();
    let known = |name: &String| {
        let found = access::FIELDS.iter().find(|known| *known == name).copied();
        if found.is_none() {
            list.config_error(ConfigError::NotOneOf {
                found: format!("{name:?}"),
                allowed: access::FIELDS.join(", "),
            });
        }
        found
    };
    names.iter().filter_map(known).collect()
}

/// The access log leaves standard output for the collector; the logger does with `telemetry/logging`.
pub(super) fn gelf(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = node.block(super::config::GELF_KEYS) else {
        return ServicePart::Nothing;
    };
    let Some(address) = block.required("address") else {
        return ServicePart::Nothing;
    };
    if address
        .rsplit_once(':')
        .is_none_or(|(_, port)| port.parse::<u16>().is_err())
    {
        let at = block.get("address").unwrap_or_else(|| node.clone());
        at.invalid("must be host:port");
    }
    let gelf = crate::telemetry::gelf::Settings {
        address,
        tcp: block.flag("enable_tcp"),
    };
    if let Some(settings) = cx.fact::<logger::Settings>() {
        cx.set_fact(Arc::new(logger::Settings {
            gelf: Some(gelf.clone()),
            ..logger::Settings::clone(&settings)
        }));
    }
    let access = cx.fact::<access::Settings>();
    let access = access.map(|access| (*access).clone()).unwrap_or_default();
    if access.destination == Destination::Stdout {
        cx.set_fact(Arc::new(access::Settings {
            destination: Destination::Gelf(gelf),
            ..access
        }));
    }
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
            at.warn(ConfigError::NotOneOf {
                found: format!("{other:?}"),
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
        at.warn(ConfigError::NotOneOf {
            found: format!("{facility:?}"),
            allowed: "local0 to local7".to_owned(),
        });
    }
    let tag = block.prefix.trim();
    SyslogSettings {
        facility: parsed.unwrap_or(Facility::LOCAL3),
        tag: if tag.is_empty() { TAG } else { tag }.to_owned(),
    }
}
