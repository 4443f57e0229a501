//! The log of the process: filters and formats lines and passes them to their sinks.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use log::{LevelFilter, Log, Metadata, Record};

use crate::telemetry::deferred::{self, DeferredLine};
use crate::telemetry::format::{Event, Format, Level};
use crate::telemetry::gelf::{self, Gelf};
use crate::telemetry::mask::{masked_text, scrubbed};
use crate::telemetry::sanitize::{MAX_MESSAGE, cut_arguments};
use crate::telemetry::sink::{Output, Sink};
use crate::telemetry::syslog::{self, Facility, Severity, Syslog};
use crate::telemetry::{observe, request_id, timestamp};

/// The target of records that are more severe than errors: `log::error!(target: CRITICAL, "…")`.
pub(crate) const CRITICAL: &str = "critical";

/// The maximum number of lines of one statement per second, at WARNING and above.
const LINES_PER_SECOND: u64 = 100;

/// The settings of `telemetry/logging`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub level: Level,
    pub stdout: bool,
    pub format: Format,
    pub color: Color,
    pub syslog: Option<SyslogSettings>,
    pub gelf: Option<gelf::Settings>,
}

/// The local syslog daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogSettings {
    pub facility: Facility,
    pub tag: String,
}

/// When lines are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Color {
    /// If the output is a terminal.
    #[default]
    Auto,
    Always,
    Never,
}

impl Default for Settings {
    /// The defaults without `telemetry/logging`: everything, to stdout.
    fn default() -> Settings {
        Settings {
            level: Level::Debug,
            stdout: true,
            format: Format::Plain,
            color: Color::Auto,
            syslog: None,
            gelf: None,
        }
    }
}

/// The log of this process. [`Logger::switch`] changes it at run time.
#[derive(Debug)]
pub(crate) struct Logger {
    active: ArcSwap<Active>,
    repeats: Repeats,
}

/// New settings whose outputs are open but not in use. Empty if they equal those in use.
#[derive(Debug)]
pub(crate) struct Prepared(Option<(Active, Option<String>)>);

#[derive(Debug)]
struct Active {
    settings: Settings,
    color: bool,
    stdout: Option<Sink>,
    syslog: Option<Sink>,
    gelf: Option<Sink>,
}

impl Logger {
    /// A logger with these settings. As in KrakenD, without a syslog daemon it falls back to the plain log, with an
    /// error line.
    ///
    /// # Errors
    /// No writer thread can be started.
    pub(crate) fn new(settings: Settings) -> io::Result<Logger> {
        let (active, error) = Active::open(settings)?;
        let logger = Logger {
            active: ArcSwap::from_pointee(active),
            repeats: Repeats::new(),
        };
        logger.complain(error);
        Ok(logger)
    }

    /// Makes `logger` the target of `log`'s macros. This works once per process.
    ///
    /// # Errors
    /// There is already a logger.
    pub(crate) fn install(logger: &Arc<Logger>) -> Result<(), log::SetLoggerError> {
        // It lives as long as the process.
        log::set_logger(Box::leak(Box::new(Installed(Arc::clone(logger)))))?;
        log::set_max_level(logger.filter());
        Ok(())
    }

    /// Opens the outputs of `settings`, for [`Logger::switch`]. Nothing changes until then.
    ///
    /// # Errors
    /// No writer thread can be started.
    pub(crate) fn prepare(&self, settings: Settings) -> io::Result<Prepared> {
        if self.active.load().settings == settings {
            return Ok(Prepared(None));
        }
        Active::open(settings).map(Some).map(Prepared)
    }

    /// Changes an installed logger, after a reload.
    pub(crate) fn switch(&self, prepared: Prepared) {
        let Prepared(Some((active, error))) = prepared else {
            return;
        };
        self.active.store(Arc::new(active));
        log::set_max_level(self.filter());
        self.complain(error);
    }

    /// Writes held lines with the current settings.
    pub(crate) fn release(&self, lines: Vec<DeferredLine>) {
        for held in lines {
            Log::log(
                self,
                &Record::builder()
                    .level(held.level)
                    .target(&held.target)
                    .file(Some(&held.file))
                    .line(Some(held.line))
                    .args(format_args!("{}", held.message))
                    .build(),
            );
        }
    }

    /// Waits until all logged lines are written, at most `limit`. For the end of the process.
    pub(crate) fn flush_within(&self, limit: Duration) {
        for sink in self.active.load().sinks() {
            sink.flush(limit);
        }
    }

    /// Whether standard output shows errors.
    pub(crate) fn prints_errors(&self) -> bool {
        self.active.load().stdout.is_some() && self.filter() >= LevelFilter::Error
    }

    /// The number of lines that were dropped because a writer was too slow.
    pub(crate) fn dropped(&self) -> u64 {
        self.active.load().sinks().map(Sink::dropped).sum()
    }

    /// The level below which `log`'s macros do nothing.
    fn filter(&self) -> LevelFilter {
        let active = self.active.load();
        if active.stdout.is_none() && active.syslog.is_none() && active.gelf.is_none() {
            return LevelFilter::Off;
        }
        match active.settings.level {
            Level::Debug => LevelFilter::Debug,
            Level::Info => LevelFilter::Info,
            Level::Warning => LevelFilter::Warn,
            Level::Error | Level::Critical => LevelFilter::Error,
        }
    }

    fn complain(&self, error: Option<String>) {
        if let Some(message) = error {
            self.active.load().write(&Event {
                since_1970: timestamp::now(),
                level: Level::Error,
                message: &message,
                file: file!(),
                line: line!(),
                trace: None,
                request_id: None,
            });
        }
    }

    fn record(&self, record: &Record<'_>) {
        let level = level(record.metadata());
        let (file, line) = (record.file().unwrap_or("?"), record.line().unwrap_or(0));
        let now = timestamp::now();
        let text = cut_arguments(*record.args(), MAX_MESSAGE);
        let shown = if is_ours(record.target()) {
            masked_text(&text) // an error of a script may quote a query
        } else {
            scrubbed(&text) // libraries quote requests without knowing which parts are secret
        };
        let mut message = shown.into_owned();
        if level >= Level::Warning {
            match self.repeats.admit(file, line, now.as_secs()) {
                Admission::No => return,
                Admission::Yes(0) => {}
                Admission::Yes(left_out) => {
                    message.push_str(&format!(" ({left_out} similar lines were omitted)"));
                }
            }
        }
        let request_id = request_id::current();
        self.active.load().write(&Event {
            since_1970: now,
            level,
            message: &message,
            file,
            line,
            trace: observe::ids().map(|(trace, span, _)| (trace, span)),
            request_id: request_id.as_ref().and_then(|id| id.to_str().ok()),
        });
    }
}

struct Installed(Arc<Logger>);

impl Log for Installed {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !deferred::keep(record) {
            Log::log(&*self.0, record);
        }
    }

    fn flush(&self) {
        Log::flush(&*self.0);
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let most = match metadata.target() {
            target if is_ours(target) => log::Level::Debug,
            target if target.ends_with(BODIES) => log::Level::Error,
            target if target.ends_with(POOL) && metadata.level() == log::Level::Error => {
                return false;
            }
            _ => log::Level::Warn,
        };
        level(metadata) >= self.active.load().settings.level && metadata.level() <= most
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.record(record);
        }
    }

    fn flush(&self) {
        self.flush_within(Duration::from_secs(1));
    }
}

/// The end of the target with which the HTTP library warns about bytes after a response. Our own line names the
/// backend.
const BODIES: &str = "::protocols::http::v1::body";

/// The end of the target with which the HTTP library logs an error if the task that watches a pooled connection still
/// holds it. The request is sent on a new connection, so no action is needed.
const POOL: &str = "::connectors";

/// Most log lines of libraries are only useful to their authors.
fn is_ours(target: &str) -> bool {
    target == CRITICAL || target == "portcullis" || target.starts_with("portcullis::")
}

fn level(metadata: &Metadata<'_>) -> Level {
    match metadata.level() {
        log::Level::Error if metadata.target() == CRITICAL => Level::Critical,
        log::Level::Error => Level::Error,
        log::Level::Warn => Level::Warning,
        log::Level::Info => Level::Info,
        log::Level::Debug | log::Level::Trace => Level::Debug,
    }
}

impl Active {
    fn open(settings: Settings) -> io::Result<(Active, Option<String>)> {
        let syslog = match &settings.syslog {
            None => None,
            Some(_) => match Syslog::connect() {
                Ok(syslog) => Some(Sink::open(Output::Syslog(syslog))?),
                Err(_) => {
                    let (plain, _) = Active::open(Settings::default())?;
                    return Ok((plain, Some("Unix syslog delivery error".to_owned())));
                }
            },
        };
        let stdout = if settings.stdout {
            Some(Sink::open(Output::Stdout)?)
        } else {
            None
        };
        let gelf = match &settings.gelf {
            Some(gelf) => Some(Sink::open(Output::Gelf(Gelf::new(gelf.clone())))?),
            None => None,
        };
        let color = match settings.color {
            Color::Auto => io::stdout().is_terminal(),
            Color::Always => true,
            Color::Never => false,
        };
        let active = Active {
            settings,
            color,
            stdout,
            syslog,
            gelf,
        };
        Ok((active, None))
    }

    fn sinks(&self) -> impl Iterator<Item = &Sink> {
        let sinks = [&self.stdout, &self.syslog, &self.gelf];
        sinks.into_iter().flatten()
    }

    fn write(&self, event: &Event<'_>) {
        if let Some(stdout) = &self.stdout {
            let mut line = Vec::with_capacity(64 + event.message.len());
            self.settings.format.push(event, self.color, &mut line);
            stdout.push(line);
        }
        if let (Some(sink), Some(settings)) = (&self.syslog, &self.settings.syslog) {
            sink.push(syslog_line(settings, event));
        }
        if let Some(sink) = &self.gelf {
            sink.push(gelf_message(&self.settings.format, event));
        }
    }
}

/// The prefix and the text, as in KrakenD, with a level of its own.
fn gelf_message(format: &Format, event: &Event<'_>) -> Vec<u8> {
    let text = match format {
        Format::Default { prefix } => format!("{prefix}{}", event.message),
        _ => event.message.to_owned(),
    };
    let facts = gelf::Facts {
        trace: event.trace.map(|(trace, _)| trace.to_string()),
        request_id: event.request_id,
        ..gelf::Facts::default()
    };
    gelf::message(event.since_1970, gelf::severity(event.level), &text, &facts)
}

/// In KrakenD's format: `LEVEL > text`.
fn syslog_line(settings: &SyslogSettings, event: &Event<'_>) -> Vec<u8> {
    let severity = match event.level {
        Level::Debug => Severity::Debug,
        Level::Info => Severity::Info,
        Level::Warning => Severity::Warning,
        Level::Error => Severity::Error,
        Level::Critical => Severity::Critical,
    };
    let mut line = Vec::new();
    syslog::push_header(
        settings.facility,
        severity,
        &settings.tag,
        event.since_1970,
        &mut line,
    );
    line.extend_from_slice(event.level.name().as_bytes());
    line.extend_from_slice(b" > ");
    crate::telemetry::sanitize::push_escaped(event.message, &mut line);
    line
}

/// Counts the lines of each statement, so that one failing upstream cannot fill a disk. Statements that share a slot
/// share its limit.
#[derive(Debug)]
struct Repeats {
    slots: Box<[Slot]>,
}

#[derive(Debug, Default)]
struct Slot {
    second: AtomicU64,
    lines: AtomicU64,
}

#[derive(Debug, PartialEq, Eq)]
enum Admission {
    No,
    /// The number of lines that were omitted before it.
    Yes(u64),
}

impl Repeats {
    fn new() -> Repeats {
        Repeats {
            slots: (0..512).map(|_| Slot::default()).collect(),
        }
    }

    fn admit(&self, file: &str, line: u32, second: u64) -> Admission {
        let hash = file.bytes().fold(line as usize, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(byte.into())
        });
        let slot = &self.slots[hash % self.slots.len()];
        if slot.second.swap(second, Ordering::Relaxed) != second {
            let before = slot.lines.swap(1, Ordering::Relaxed);
            return Admission::Yes(before.saturating_sub(LINES_PER_SECOND));
        }
        match slot.lines.fetch_add(1, Ordering::Relaxed) {
            n if n < LINES_PER_SECOND => Admission::Yes(0),
            _ => Admission::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logger(level: Level) -> Logger {
        Logger::new(Settings {
            level,
            stdout: false,
            ..Settings::default()
        })
        .unwrap()
    }

    fn shows(logger: &Logger, target: &str, level: log::Level) -> bool {
        logger.enabled(&Metadata::builder().target(target).level(level).build())
    }

    #[test]
    fn the_configured_level_decides_what_is_logged() {
        let logger = logger(Level::Critical);
        assert!(!shows(&logger, "portcullis::x", log::Level::Error));
        assert!(shows(&logger, CRITICAL, log::Level::Error));
        assert_eq!(logger.filter(), LevelFilter::Off);
    }

    #[test]
    fn libraries_are_logged_from_warnings_up() {
        let logger = logger(Level::Debug);
        assert!(shows(&logger, "portcullis::x", log::Level::Debug));
        assert!(!shows(&logger, "portcullis::x", log::Level::Trace));
        assert!(!shows(&logger, "pingora_core::server", log::Level::Info));
        assert!(shows(&logger, "pingora_core::server", log::Level::Warn));
        assert!(!shows(&logger, BODIES, log::Level::Warn));
        let pool = "http_library::connectors";
        assert!(!shows(&logger, pool, log::Level::Error));
        assert!(shows(&logger, pool, log::Level::Warn));
    }

    #[test]
    fn a_repeated_statement_is_limited_and_the_omission_is_logged() {
        let repeats = Repeats::new();
        let admitted = (0..150)
            .filter(|_| repeats.admit("a.rs", 1, 7) != Admission::No)
            .count();
        assert_eq!(admitted, 100);
        assert_eq!(repeats.admit("a.rs", 1, 8), Admission::Yes(50));
        assert_eq!(repeats.admit("a.rs", 2, 8), Admission::Yes(0));
    }

    #[test]
    fn a_message_to_syslog_has_its_level() {
        let settings = SyslogSettings {
            facility: Facility::LOCAL3,
            tag: "gw".to_owned(),
        };
        let event = Event {
            since_1970: Duration::from_secs(1_795_472_485),
            level: Level::Error,
            message: "bad\nnews",
            file: "",
            line: 0,
            trace: None,
            request_id: None,
        };
        let line = String::from_utf8(syslog_line(&settings, &event)).unwrap();
        assert!(line.starts_with("<155>Nov 2"), "{line}");
        assert!(line.ends_with("]: ERROR > bad\\nnews"), "{line}");
        assert!(line.contains(" gw["), "{line}");
    }
}
