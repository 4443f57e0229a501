//! `modifier/lua-endpoint`: a script that sees the client's request before it is processed.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, StatusCode};

use super::failure::Stop;
use super::run::{Changed, ClientView, Fields, Run};
use super::script::{Part, Script};
use super::session::Session;
use crate::runtime::answer::Answer;
use crate::runtime::request::{Head, Notes, Rewritten};
use crate::runtime::step::{EndpointStep, Gate};
use crate::telemetry::text::printable;

/// Around an endpoint, or around the whole service.
#[derive(Debug)]
pub(super) struct LuaEndpoint {
    pub(super) script: Arc<Script>,
    /// The timeout of the script.
    pub(super) timeout: Duration,
    /// The prefix of the endpoint's or service's name in the log.
    pub(super) place: Box<str>,
}

/// How the script ended. Empty while it runs.
type Outcome = Mutex<Option<Result<Box<ClientView>, Stop>>>;

impl EndpointStep for LuaEndpoint {
    fn needs_body(&self) -> bool {
        self.script.reads_body
    }

    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes, attempt: u8) -> Gate<'a> {
        if attempt > 0 {
            return self.ended(notes);
        }
        let outcome: Arc<Outcome> = Arc::default();
        notes.awaited = Some(Arc::clone(&outcome) as Arc<dyn Any + Send + Sync>);
        let state = Run {
            client: Some(Box::new(view(head, notes))),
            deadline: Instant::now() + self.timeout,
            ..Run::default()
        };
        Gate::Wait(Box::pin(async move {
            let ran = self.run(state).await;
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(ran);
        }))
    }
}

impl LuaEndpoint {
    async fn run(&self, state: Run) -> Result<Box<ClientView>, Stop> {
        let session = Session::begin(&self.script, state).await?;
        let state = session.run(Part::Pre).await?.end();
        // Only a panic can have removed it.
        state.client.ok_or(Stop::Deadline)
    }

    fn ended(&self, notes: &mut Notes) -> Gate<'_> {
        let outcome = notes
            .awaited
            .take()
            .and_then(|awaited| awaited.downcast::<Outcome>().ok())
            .and_then(|outcome| {
                let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                outcome.take()
            });
        // Without an outcome, the wait was cancelled.
        match outcome.unwrap_or(Err(Stop::Deadline)) {
            Ok(view) => {
                apply(*view, notes);
                Gate::Pass
            }
            Err(stop) => Gate::Refuse(self.refusal(&stop, notes)),
        }
    }

    /// The response has no text: a script's message is only logged.
    fn refusal(&self, stop: &Stop, notes: &mut Notes) -> Answer {
        let text = printable(&stop.text()).into_owned();
        log::error!("{} {text}", self.place);
        notes.errors.push(text.into());
        notes.refused = Some("script");
        let mut answer = Answer::empty(StatusCode::INTERNAL_SERVER_ERROR);
        if *stop == Stop::Busy {
            answer.status = StatusCode::SERVICE_UNAVAILABLE;
        }
        if let Stop::Custom(error) = stop {
            answer.status = error.status.unwrap_or(answer.status);
            if let Some(value) = &error.content_type {
                answer = answer.with(CONTENT_TYPE, value.clone());
            }
        }
        answer
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
        host: head.host.to_owned(),
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
