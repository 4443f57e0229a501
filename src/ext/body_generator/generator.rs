//! A template with its settings.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;

use super::facts;
use crate::config::template::{Datum, Program, Watch};
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::heavy::{Cut, Heavy, aside};
use crate::runtime::json::{self, Value};
use crate::runtime::pipe::{PipeRequest, PipeResponse};
use crate::telemetry::sanitize::printable;

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

/// Looks at the clock while a template is rendered.
struct ClockCheck {
    heavy: RefCell<Heavy>,
    cut: Cell<Option<Cut>>,
}

impl Watch for ClockCheck {
    fn look(&self) -> Result<(), String> {
        self.heavy.borrow_mut().look().map_err(|cut| {
            self.cut.set(Some(cut));
            "the rendering takes too long".to_owned()
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
        let texts = facts::texts(request, response);
        let held = texts.iter().map(|text| json::charge(text));
        let _held = held
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| Failure::full())?;
        let _data = match response {
            Some(response) => Some(
                response
                    .data
                    .charge_expanded()
                    .map_err(|_| Failure::full())?,
            ),
            None => None,
        };
        let size = texts.iter().map(Bytes::len).sum();
        let body = aside(size, request.deadline.into_std(), || {
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
        let charge = json::charge_bytes(body.len()).map_err(|_| Failure::full())?;
        Ok(charge.hold(body))
    }

    fn rendered(
        &self,
        request: &PipeRequest,
        response: Option<&PipeResponse>,
    ) -> Result<Bytes, Failure> {
        let mut members = facts::request(request);
        members.extend(response.into_iter().flat_map(facts::response));
        members.push(("variables", facts::datum(&self.variables)));
        let mut heavy = Heavy::until(request.deadline.into_std());
        heavy.shorten(TIME);
        let looking = ClockCheck {
            heavy: RefCell::new(heavy),
            cut: Cell::new(None),
        };
        let made = self.program.render(Datum::map(members), &looking);
        let is_late = Instant::now() >= request.deadline;
        made.map(Bytes::from)
            .map_err(|text| match looking.cut.get() {
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
