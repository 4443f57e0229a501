//! `modifier/lua-endpoint`: a script that sees the client's request before it is processed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, StatusCode};

use super::failure::Stop;
use super::run::{Changed, ClientView, Fields, Run};
use super::script::{Part, Script};
use super::session::Session;
use crate::runtime::request::{Head, Notes, Rewritten};
use crate::runtime::response::Response;
use crate::runtime::step::{EndpointStep, Gate};
use crate::telemetry::sanitize::printable;

/// Around an endpoint, or around the whole service.
#[derive(Debug)]
pub(super) struct LuaEndpoint {
    pub(super) script: Arc<Script>,
    /// The timeout of the script.
    pub(super) timeout: Duration,
    /// The prefix of the endpoint's or service's name in the log.
    pub(super) place: Box<str>,
}

impl EndpointStep for LuaEndpoint {
    fn name(&self) -> &'static str {
        "modifier/lua-endpoint"
    }

    fn needs_body(&self) -> bool {
        self.script.reads_body
    }

    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        let state = Run {
            client: Some(Box::new(view(head, notes))),
            deadline: Instant::now() + self.timeout,
            ..Run::default()
        };
        Gate::wait(self.run(state), |ran, _, notes| {
            self.ended(ran.unwrap_or(Err(Stop::Deadline)), notes)
        })
    }
}

impl LuaEndpoint {
    async fn run(&self, state: Run) -> Result<Box<ClientView>, Stop> {
        let session = Session::begin(&self.script, state).await?;
        let state = session.run(Part::Pre).await?.end();
        // Only a panic can have removed it.
        state.client.ok_or(Stop::Deadline)
    }

    fn ended<'g>(&self, ran: Result<Box<ClientView>, Stop>, notes: &mut Notes) -> Gate<'g> {
        match ran {
            Ok(view) => {
                apply(*view, notes);
                Gate::Pass
            }
            Err(stop) => Gate::Reject(self.rejection(&stop, notes)),
        }
    }

    /// The response has no text: a script's message is only logged.
    fn rejection(&self, stop: &Stop, notes: &mut Notes) -> Response {
        let text = printable(&stop.text()).into_owned();
        log::error!("{} {text}", self.place);
        notes.errors.push(text.into());
        notes.rejected = Some(match stop {
            Stop::Full => "buffers_full",
            _ => "script",
        });
        let mut response = Response::empty(StatusCode::INTERNAL_SERVER_ERROR);
        if matches!(stop, Stop::Busy | Stop::Full) {
            response.status = StatusCode::SERVICE_UNAVAILABLE;
        }
        if let Stop::Custom(error) = stop {
            response.status = error.status.unwrap_or(response.status);
            if let Some(value) = &error.content_type {
                response = response.with(CONTENT_TYPE, value.clone());
            }
        }
        response
    }
}

/// The request, including the changes of earlier steps.
fn view(head: &Head<'_>, notes: &Notes) -> ClientView {
    let head = notes.head(head);
    let mut headers: HeaderMap = head.headers.clone();
    for (name, values) in &notes.overrides {
        headers.remove(name);
        for value in values {
            headers.append(name, value.clone());
        }
    }
    // As in KrakenD, which keeps it separately.
    headers.remove(HOST);
    ClientView {
        method: head.method.clone(),
        path: head.path.to_owned(),
        query: head.query.map(str::to_owned),
        host: head.host().to_owned(),
        headers: Fields::new(headers),
        params: notes.params.clone(),
        body: notes.body.clone(),
        changed: Changed::default(),
    }
}

/// Applies the changes of the script for everything after it.
fn apply(view: ClientView, notes: &mut Notes) {
    let changed = view.changed;
    for name in &view.headers.changed {
        let values = view.headers.map.get_all(name).iter().cloned().collect();
        notes.set_header(name, values);
    }
    if changed.params {
        notes.params = view.params;
    }
    if changed.body {
        let body = view.body.unwrap_or_default();
        notes.body = Some(body);
    }
    if changed.method || changed.url || changed.host {
        let new = notes
            .rewritten
            .get_or_insert_with(|| Box::new(Rewritten::default()));
        if changed.method {
            new.method = Some(view.method);
        }
        if changed.url {
            new.path = Some(view.path.into());
            new.query = Some(view.query.map(Into::into));
        }
        if changed.host {
            new.host = Some(view.host.into());
        }
    }
}
