//! `modifier/lua-proxy` and `modifier/lua-backend`: scripts around an endpoint's work, or around one call.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};

use super::failure::Stop;
use super::run::{Fields, RequestView, ResponseView, Run, Shadow};
use super::script::{Level, Part, Script, Sources};
use super::session::Session;
use super::tree::TreeError;
use crate::runtime::failure::{Failure, Guard, Kind};
use crate::runtime::json::Value;
use crate::runtime::pipe::{Passed, PipeRequest, PipeResponse, PipeStep, ResponseAccess, State};
use crate::telemetry::observe;

#[derive(Debug)]
pub(super) struct LuaPipe {
    pub(super) script: Arc<Script>,
}

#[async_trait]
impl PipeStep for LuaPipe {
    fn needs_body(&self) -> bool {
        self.script.reads_body
    }

    fn response_access(&self) -> ResponseAccess {
        match (&self.script.post, self.script.reads_body) {
            (None, _) => ResponseAccess::Nothing,
            (Some(_), false) => ResponseAccess::Head,
            (Some(_), true) => ResponseAccess::Whole,
        }
    }

    async fn before(&self, request: &mut PipeRequest) -> Result<Passed, Failure> {
        let run = observe::step(self.name(), self.run_before(request)).await;
        run.map_err(Failure::before_call)
    }

    async fn after(
        &self,
        state: State,
        request: &PipeRequest,
        response: &mut PipeResponse,
    ) -> Result<(), Failure> {
        if self.script.post.is_none() {
            return Ok(());
        }
        observe::step(self.name(), self.run_after(state, request, response)).await
    }
}

impl LuaPipe {
    /// The name of the span of a run.
    fn name(&self) -> &'static str {
        match self.script.level {
            Level::Endpoint => "modifier/lua-endpoint",
            Level::Proxy => "modifier/lua-proxy",
            Level::Backend => "modifier/lua-backend",
        }
    }

    async fn run_before(&self, request: &mut PipeRequest) -> Result<Passed, Failure> {
        let skip = self.script.skip_next;
        if self.script.pre.is_none() && matches!(self.script.sources, Sources::None) {
            return Ok(Passed { skip, state: None });
        }
        let session = self.session(request).await.map_err(failure)?;
        let session = session.run(Part::Pre).await.map_err(failure)?;
        let state: State = match &self.script.post {
            Some(_) => {
                copy_back(&*session.state().map_err(failure)?, request);
                Some(Box::new(session))
            }
            None => {
                copy_back(&session.end(), request);
                None
            }
        };
        Ok(Passed { skip, state })
    }

    async fn run_after(
        &self,
        state: State,
        request: &PipeRequest,
        response: &mut PipeResponse,
    ) -> Result<(), Failure> {
        let session = match state.and_then(|state| state.downcast::<Session>().ok()) {
            Some(session) => *session,
            None => self.session(request).await.map_err(failure)?,
        };
        if let (Level::Proxy, Some(called)) = (self.script.level, response.meta.called.take()) {
            let mut state = session.state().map_err(failure)?;
            if let Some(view) = &mut state.request {
                view.request.origin = called.origin;
                view.request.set_target(&called.target);
            }
        }
        self.post(session, response).await.map_err(failure)
    }

    async fn session(&self, request: &PipeRequest) -> Result<Session, Stop> {
        let shadow = (self.script.level == Level::Backend).then(|| Shadow {
            path: request.path.to_string(),
            query: request.query.clone(),
            params: request.params.clone(),
        });
        let view = RequestView {
            headers: Fields::new(request.headers.clone()),
            request: request.clone(),
            shadow,
        };
        let state = Run {
            request: Some(Box::new(view)),
            deadline: request.deadline.into_std(),
            ..Run::default()
        };
        Session::begin(&self.script, state).await
    }

    async fn post(&self, mut session: Session, response: &mut PipeResponse) -> Result<(), Stop> {
        let data = std::mem::take(&mut response.data);
        let was_empty = !matches!(data.kind(), crate::runtime::json::Kind::Object);
        session.offer_response()?;
        {
            let mut state = session.state()?;
            let view = view(&mut state, data, response)?;
            state.response = Some(Box::new(view));
        }
        let mut state = session.run(Part::Post).await?.end();
        let Some(mut view) = state.response.take() else {
            return Err(Stop::Deadline);
        };
        response.complete = view.complete;
        (response.data, response.held) = state.tree.export(view.data).map_err(unusable)?;
        if was_empty && matches!(&response.data, Value::Object(object) if object.is_empty()) {
            response.data = Value::Null;
        }
        if response.reply.is_none() {
            response.meta.headers = std::mem::take(&mut view.headers.map);
        }
        if let Some(reply) = &mut response.reply {
            reply.status = view.new_status.unwrap_or(reply.status);
            let old = std::mem::replace(&mut reply.headers, view.headers.map);
            if view.new_body {
                // The length of a body that the script writes is known.
                reply.body = view.body
            } else {
                keep_framing(&old, &mut reply.headers)
            }
        }
        Ok(())
    }
}

/// A body that is passed on unchanged keeps its framing, whatever the script sets.
fn keep_framing(old: &HeaderMap, new: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        new.remove(&name);
        for value in old.get_all(&name) {
            new.append(&name, value.clone());
        }
    }
}

fn view(state: &mut Run, data: Value, response: &PipeResponse) -> Result<ResponseView, Stop> {
    let data = state.tree.import(data).map_err(unusable)?;
    let reply = response.reply.as_ref();
    let told = response.meta.status.map_or(0, |status| status.as_u16());
    Ok(ResponseView {
        complete: response.complete,
        data,
        status: reply.map_or(told, |reply| match reply.status {
            // The placeholder of a skipped response has no status yet.
            StatusCode::OK if !response.complete => 0,
            status => status.as_u16(),
        }),
        new_status: None,
        headers: Fields::new(match reply {
            Some(reply) => reply.headers.clone(),
            None => response.meta.headers.clone(),
        }),
        body: match reply {
            Some(reply) => reply.body.clone(),
            None => Some(Bytes::new()),
        },
        new_body: false,
    })
}

/// Copies the script's changes to the request, except those without an effect.
fn copy_back(state: &Run, request: &mut PipeRequest) {
    let Some(view) = &state.request else {
        return;
    };
    let new = &view.request;
    request.method = new.method.clone();
    request.origin = new.origin.clone();
    request.path = new.path.clone();
    request.query = new.query.clone();
    request.params = new.params.clone();
    request.body = new.body.clone();
    let host = request.headers.remove(HOST);
    request.headers = view.headers.map.clone();
    request.headers.remove(HOST);
    // Only the URL selects the host.
    if let Some(host) = host {
        request.headers.insert(HOST, host);
    }
}

/// Why data cannot be passed to or from a script.
fn unusable(error: TreeError) -> Stop {
    match error {
        TreeError::Crowded(_) => Stop::Full,
        error => Stop::Error(format!("lua: {error}")),
    }
}

fn failure(stop: Stop) -> Failure {
    let text = stop.text();
    match stop {
        Stop::Custom(error) => Failure {
            status: error.status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            body: Some((error.body, error.content_type)),
            ..Failure::new(Kind::Script, text)
        },
        Stop::Deadline => Failure::new(Kind::Deadline, text),
        Stop::Busy => Failure {
            status: StatusCode::SERVICE_UNAVAILABLE,
            ..Failure::new(Kind::Guarded(Guard::Busy), text)
        },
        Stop::Full => Failure::full(),
        Stop::Error(_) | Stop::Memory => Failure::new(Kind::Script, text),
    }
}
