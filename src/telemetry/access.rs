//! The access log: one line for each request, and its errors.

mod event;
mod gin;
mod object;
mod pattern;
mod settings;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::telemetry::gelf::{self, Gelf};
use crate::telemetry::sink::{Output, Sink};
use crate::telemetry::syslog::{self, Severity, Syslog};
use gin::push_gin;
use object::push_object;

pub(crate) use event::AccessEvent;
pub(crate) use object::FIELDS;
pub(crate) use settings::{AccessFormat, Destination, Query, Settings};

pub(crate) use pattern::Pattern;

/// The access log of this process.
#[derive(Debug)]
pub(crate) struct AccessLog {
    settings: Settings,
    sink: Sink,
    seen: AtomicU64,
}

impl AccessLog {
    /// Opens the log.
    ///
    /// # Errors
    /// Its file cannot be opened, or no syslog daemon listens.
    pub(crate) fn open(settings: Settings) -> io::Result<AccessLog> {
        let output = match &settings.destination {
            Destination::Stdout => Output::Stdout,
            Destination::File(path) => Output::File(path.clone()),
            Destination::Syslog { .. } => Output::Syslog(Syslog::connect()?),
            Destination::Gelf(gelf) => Output::Gelf(Gelf::new(gelf.clone())),
        };
        AccessLog::over(settings, output)
    }

    /// A log that writes to `output`, regardless of the destination in the settings.
    ///
    /// # Errors
    /// `output` cannot be opened.
    pub(crate) fn over(settings: Settings, output: Output) -> io::Result<AccessLog> {
        Ok(AccessLog {
            sink: Sink::open(output)?,
            settings,
            seen: AtomicU64::new(0),
        })
    }

    /// The settings it was opened with.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether lines may show what is not in a line of KrakenD: the user agent, the status of gRPC.
    pub(crate) fn is_detailed(&self) -> bool {
        !matches!(self.settings.format, AccessFormat::Gin)
    }

    /// Logs one request. Never blocks.
    pub(crate) fn record(&self, event: &AccessEvent<'_>) {
        if !self.is_sampled(event) {
            return;
        }
        if event.is_long() {
            event.with_cut_texts(|event| self.write(event));
        } else {
            self.write(event);
        }
    }

    fn write(&self, event: &AccessEvent<'_>) {
        let mut line = Vec::with_capacity(160);
        if let Destination::Syslog { facility, tag } = &self.settings.destination {
            syslog::push_header(*facility, Severity::Info, tag, event.since_1970, &mut line);
        }
        match &self.settings.format {
            AccessFormat::Gin => push_gin(event, self.settings.query, &mut line),
            AccessFormat::Json => push_object(event, &self.settings, &mut line),
            AccessFormat::Pattern(pattern) => pattern.push(event, self.settings.query, &mut line),
        }
        if let Destination::Gelf(_) = &self.settings.destination {
            line = in_gelf(event, &line);
        }
        self.sink.push(line);
    }

    /// Reopens the file, after a log rotation.
    pub(crate) fn reopen(&self) {
        self.sink.reopen();
    }

    /// Waits until everything is written, at most `limit`. For the end of the process.
    pub(crate) fn flush(&self, limit: Duration) {
        self.sink.flush(limit);
    }

    /// The number of lines that were dropped because the writer was too slow.
    pub(crate) fn dropped(&self) -> u64 {
        self.sink.dropped()
    }

    /// Selects every n-th request, evenly: random selection would distort small samples.
    fn is_sampled(&self, event: &AccessEvent<'_>) -> bool {
        if self.settings.sample >= 1.0 || event.status >= 500 {
            return true;
        }
        let n = self.seen.fetch_add(1, Ordering::Relaxed) as f64;
        (n * self.settings.sample).floor() < ((n + 1.0) * self.settings.sample).floor()
    }
}

/// The line as one message, which also holds the errors.
fn in_gelf(event: &AccessEvent<'_>, line: &[u8]) -> Vec<u8> {
    let severity = if event.status >= 500 { 3 } else { 6 };
    let facts = gelf::Facts {
        status: Some(event.status),
        route: event.endpoint,
        trace: event.trace.map(|(trace, ..)| trace.to_string()),
        request_id: event.request_id,
    };
    gelf::message(
        event.since_1970,
        severity,
        &String::from_utf8_lossy(line),
        &facts,
    )
}

#[cfg(test)]
mod tests;
