//! A template with its settings.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;

use super::facts::{self, Facts};
use crate::config::template::{Datum, Program, Watch};
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::heavy::{Cut, Heavy, aside};
use crate::runtime::json::{self, Value};
use crate::runtime::pipe::{PipeRequest, PipeResponse};
use crate::telemetry::sanitize::printable;
use crate::upstream::budget::{Charge, FREE};

/// How long a template may compute.
const TIME: Duration = Duration::from_millis(100);

/// A compiled block.
#[derive(Debug)]
pub(in crate::ext) struct Generator {
    pub(super) program: Program,
    pub(in crate::ext) content_type: HeaderValue,
    pub(super) kind: Made,
    pub(super) variables: Value,
    /// The place for log lines, if they are wanted.
    pub(super) debug: Option<Box<str>>,
}

/// What a template makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    Json,
    Other,
}

/// Looks at the clock and counts memory while a template is rendered.
struct Meter {
    heavy: RefCell<Heavy>,
    cut: Cell<Option<Cut>>,
    held: RefCell<Charge>,
    full: Cell<bool>,
}

/// What a rendering is charged in advance, so that the budget is not asked for each value.
const STEP: usize = 64 * 1024;

impl Watch for Meter {
    fn look(&self) -> Result<(), String> {
        self.heavy.borrow_mut().look().map_err(|cut| {
            self.cut.set(Some(cut));
            "the rendering takes too long".to_owned()
        })
    }

    fn hold(&self, bytes: usize) -> Result<(), String> {
        let mut held = self.held.borrow_mut();
        if bytes <= FREE || bytes <= held.bytes() {
            return Ok(());
        }
        held.cover(bytes.saturating_add(STEP)).map_err(|full| {
            self.full.set(true);
            full.to_string()
        })
    }
}

impl Generator {
    pub(super) fn kind_of(content_type: &str) -> Made {
        let name = content_type.split(';').next().unwrap_or_default();
        let name = name.trim().to_ascii_lowercase();
        if name.ends_with("/json") || name.ends_with("+json") {
            Made::Json
        } else {
            Made::Other
        }
    }

    pub(super) fn makes_json(&self) -> bool {
        self.kind == Made::Json
    }

    /// Makes a body.
    ///
    /// # Errors
    /// The template failed, took too long, or its result is not what its type says.
    pub(in crate::ext) fn make(
        &self,
        request: &PipeRequest,
        response: Option<&PipeResponse>,
    ) -> Result<Bytes, Failure> {
        let size = facts::size(request, response);
        let (body, mut charge) = aside(size, request.deadline.into_std(), || {
            self.rendered(request, response)
        })??;
        if let Some(place) = &self.debug {
            let text = String::from_utf8_lossy(&body);
            log::debug!("[{place}] body template: {} bytes in", size);
            log::debug!("[{place}] body template: made {}", printable(&text));
        }
        if self.makes_json()
            && let Err(error) = json::parse_whole(&body)
        {
            return Err(failed(format!("the result is not JSON: {error}")));
        }
        let rest = if body.len() > FREE { body.len() } else { 0 };
        charge.lower(rest as u64);
        Ok(charge.hold(body))
    }

    fn rendered(
        &self,
        request: &PipeRequest,
        response: Option<&PipeResponse>,
    ) -> Result<(Bytes, Charge), Failure> {
        let mut facts = Facts::default();
        facts.request(request)?;
        if let Some(response) = response {
            facts.response(response)?;
        }
        facts.add("variables", facts::datum(&self.variables));
        let (members, _held) = facts.done();
        let mut heavy = Heavy::until(request.deadline.into_std());
        heavy.shorten(TIME);
        let meter = Meter {
            heavy: RefCell::new(heavy),
            cut: Cell::new(None),
            held: RefCell::default(),
            full: Cell::new(false),
        };
        let made = self.program.render(Datum::map(members), &meter);
        let is_late = Instant::now() >= request.deadline;
        made.map(|body| (Bytes::from(body), meter.held.take()))
            .map_err(|text| match meter.cut.get() {
                _ if meter.full.get() => Failure::full(),
                Some(Cut::Busy) => Cut::Busy.into(),
                Some(Cut::Deadline) if is_late => Cut::Deadline.into(),
                _ => failed(text),
            })
    }
}

/// The template failed: 500.
fn failed(text: String) -> Failure {
    // The template may use what the client sent.
    Failure::new(Kind::Script, format!("body template: {text}")).by_step()
}
