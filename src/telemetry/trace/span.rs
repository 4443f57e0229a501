//! A span: a piece of work with its start, its end and its result.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::attribute::{Attribute, Value};
use super::ids::{SpanId, TraceId};
use crate::telemetry::timestamp;

/// The kind of a span, numbered as in OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

/// The result of the work, numbered as in OTLP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SpanStatus {
    #[default]
    Unset,
    Ok,
    Error(Cow<'static, str>),
}

/// A moment within a span.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanEvent {
    /// Nanoseconds since the Unix epoch.
    pub at: u64,
    pub name: &'static str,
    pub attributes: Vec<Attribute>,
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub trace: TraceId,
    pub id: SpanId,
    pub parent: Option<SpanId>,
    pub state: Option<HeaderValue>,
    pub name: Cow<'static, str>,
    pub kind: SpanKind,
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    pub end: u64,
    pub attributes: Vec<Attribute>,
    pub events: Vec<SpanEvent>,
    /// A span of another trace, which this one follows without being its child.
    pub link: Option<(TraceId, SpanId)>,
    pub status: SpanStatus,
}

impl Span {
    /// Its approximate size in bytes, for the limit of the queue.
    pub fn size(&self) -> usize {
        let of = |all: &[Attribute]| -> usize {
            all.iter()
                .map(|(name, value)| 64 + name.len() + value.size())
                .sum()
        };
        let events: usize = self
            .events
            .iter()
            .map(|event| 64 + of(&event.attributes))
            .sum();
        size_of::<Span>() + self.name.len() + of(&self.attributes) + events
    }

    /// Cuts the values of all attributes to `most` characters (OpenTelemetry specification, "Attribute Limits").
    pub fn shorten(&mut self, most: usize) {
        let events = self.events.iter_mut().map(|event| &mut event.attributes);
        for (_, value) in events.chain([&mut self.attributes]).flatten() {
            value.shorten(most);
        }
    }

    /// Adds configured attributes. A key of a span must be unique, and a value of the request comes before a configured
    /// one.
    pub fn add(&mut self, configured: &[Attribute]) {
        for attribute in configured {
            if !self.attributes.iter().any(|(key, _)| *key == attribute.0) {
                self.attributes.push(attribute.clone());
            }
        }
    }

    /// Adds an attribute.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        self.attributes.push((name.into(), value.into()));
    }
}

/// A clock with nanoseconds since the Unix epoch that never goes back within one request.
#[derive(Debug)]
pub(crate) struct Clock {
    began: Instant,
    /// Read when it is first needed: most requests are not recorded.
    since_1970: OnceLock<u64>,
}

impl Clock {
    /// A clock that starts at `began`, which was recently.
    pub(crate) fn started(began: Instant) -> Clock {
        Clock {
            began,
            since_1970: OnceLock::new(),
        }
    }

    /// Nanoseconds since the Unix epoch at the start of the clock.
    pub(crate) fn start(&self) -> u64 {
        self.at(self.began)
    }

    /// Nanoseconds since the Unix epoch at this instant.
    pub(crate) fn at(&self, instant: Instant) -> u64 {
        let since_1970 = || nanos(timestamp::now().saturating_sub(self.began.elapsed()));
        let began = *self.since_1970.get_or_init(since_1970);
        began + nanos(instant.saturating_duration_since(self.began))
    }
}

/// A moment of one request, which is set at most once.
#[derive(Debug, Default)]
pub(crate) struct Mark(AtomicU64);

impl Mark {
    /// Only the first moment counts.
    pub(crate) fn set(&self, clock: &Clock, at: Instant) {
        if self.0.load(Ordering::Relaxed) == 0 {
            let since = nanos(at.saturating_duration_since(clock.began));
            self.0.store(since.saturating_add(1), Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, clock: &Clock) -> Option<Instant> {
        let since = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        clock.began.checked_add(Duration::from_nanos(since))
    }
}

/// A duration in nanoseconds.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_keeps_its_first_moment() {
        let clock = Clock::started(Instant::now());
        let mark = Mark::default();
        assert_eq!(mark.get(&clock), None);
        let later = clock.began + Duration::from_millis(3);
        for at in [later, later + Duration::from_millis(1), clock.began] {
            mark.set(&clock, at);
            assert_eq!(mark.get(&clock), Some(later));
        }
    }
}
