//! The settings of the access log.

use std::io;
use std::path::PathBuf;

use super::Pattern;
use crate::telemetry::gelf;
use crate::telemetry::syslog::{Facility, Syslog};

/// The settings of `portcullis/access-log`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub format: AccessFormat,
    pub destination: Destination,
    pub query: Query,
    /// The fraction of requests that is logged, 0 to 1. Responses with status 500 and above are always logged.
    pub sample: f64,
    /// The members of a JSON line; empty: all of `FIELDS`.
    pub fields: Box<[&'static str]>,
    /// The claim of the token that is shown under its own name.
    pub claim: Option<Box<str>>,
}

impl Settings {
    /// Checks that a log with these settings can be opened, without leaving anything behind.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn try_open(&self) -> io::Result<()> {
        match &self.destination {
            Destination::Stdout | Destination::Gelf(_) => Ok(()),
            Destination::Syslog { .. } => Syslog::connect().map(drop),
            Destination::File(path) => {
                let mut options = std::fs::OpenOptions::new();
                options.append(true);
                if path.exists() {
                    return options.open(path).map(drop);
                }
                options.create_new(true).open(path)?;
                std::fs::remove_file(path)
            }
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            format: AccessFormat::Gin,
            destination: Destination::Stdout,
            query: Query::Keep,
            sample: 1.0,
            fields: Box::default(),
            claim: None,
        }
    }
}

/// The format of a line.
#[derive(Debug, Clone, PartialEq)]
pub enum AccessFormat {
    /// `[GIN] 2026/11/23 - 22:22:08 | 429 | 33.099µs | …`, as in KrakenD.
    Gin,
    /// One JSON object.
    Json,
    /// A pattern of `telemetry/logging`.
    Pattern(Box<Pattern>),
}

/// The destination of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Stdout,
    File(PathBuf),
    Syslog { facility: Facility, tag: String },
    Gelf(gelf::Settings),
}

/// How query strings are logged. The values of token parameters are masked in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    Keep,
    Drop,
}
