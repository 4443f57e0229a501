//! The step that runs the tree for a request and later for its response.

use http::HeaderValue;
use http::header::USER_AGENT;

use super::files::Asked;
use super::modifier::{Modifier, Sending};
use crate::runtime::failure::Failure;
use crate::runtime::pipe::{CallDecision, CallStep, PipeRequest, Reply};

/// The `User-Agent` of calls whose header was removed, as in Go's client.
const OURS: HeaderValue =
    HeaderValue::from_static(concat!("Portcullis/", env!("CARGO_PKG_VERSION")));

/// `modifier/martian` of one backend.
#[derive(Debug)]
pub(crate) struct Martian {
    root: Modifier,
}

impl Martian {
    pub(crate) fn new(root: Modifier) -> Martian {
        Martian { root }
    }
}

impl CallStep for Martian {
    fn sees_responses(&self) -> bool {
        self.root.scope.response
    }

    fn request<'a>(&'a self, request: &mut PipeRequest) -> Result<CallDecision<'a>, Failure> {
        let mut sending = Sending {
            request,
            replaced: false,
            files: None,
        };
        self.root.request(&mut sending)?;
        let Sending {
            request,
            replaced,
            files,
        } = sending;
        introduce(request);
        // The path is the one that the last modifier set.
        Ok(match files {
            Some(files) => CallDecision::Wait(Box::pin(files.serve(Asked::of(request)))),
            None if replaced => CallDecision::Replace,
            None => CallDecision::Send,
        })
    }

    fn response(&self, request: &PipeRequest, reply: &mut Reply) -> Result<(), Failure> {
        self.root.response(request, reply);
        Ok(())
    }
}

/// A request without a `User-Agent` gets ours. An empty one means that none is sent.
fn introduce(request: &mut PipeRequest) {
    match request.headers.get(USER_AGENT) {
        None => {
            request.headers.insert(USER_AGENT, OURS);
        }
        Some(name) if name.is_empty() => {
            request.headers.remove(USER_AGENT);
        }
        Some(_) => {}
    }
}
