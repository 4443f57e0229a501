//! The steps that see the response of a streamed request.

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, StatusCode};

use super::client_head::has_no_body;
use super::pipe_steps::{CallSteps, EnteredSteps};
use crate::runtime::failure::Failure;
use crate::runtime::json::{Object, Value};
use crate::runtime::pipe::{Meta, PipeRequest, PipeResponse, Reply};
use crate::upstream::budget::Charge;

/// The steps that want to see the response.
pub(super) struct ResponseSteps<'a> {
    /// Around the call.
    pub(super) inner: Option<Box<CallSteps<'a>>>,
    /// Around the endpoint.
    pub(super) outer: Option<Box<EndpointSteps<'a>>>,
}

/// The steps around the endpoint, and the request with their changes.
pub(super) struct EndpointSteps<'a> {
    pub(super) request: PipeRequest,
    pub(super) entered: EnteredSteps<'a>,
}

impl ResponseSteps<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.inner.is_none() && self.outer.is_none()
    }

    /// Shows the response to the steps, innermost first.
    ///
    /// # Errors
    /// A step rejects it.
    pub(super) async fn show(self, reply: &mut Reply) -> Result<(), Failure> {
        let mut skipped = false;
        if let Some(inner) = &self.inner {
            skipped |= inner.skipped();
            inner.on_wire(reply)?;
        }
        if let Some(outer) = &self.outer {
            skipped |= outer.entered.skip;
        }
        let mut response = PipeResponse {
            data: Value::Object(Object::new()),
            complete: !skipped,
            reply: Some(reply.clone()),
            meta: Meta::default(),
            held: Charge::default(),
        };
        if let Some(inner) = self.inner {
            inner.leave(&mut response).await?;
        }
        if let Some(outer) = self.outer {
            let EndpointSteps { request, entered } = *outer;
            let left = entered.leave(&request, &mut response).await;
            left.map_err(Failure::outside)?;
        }
        if let Some(changed) = response.reply {
            *reply = changed;
        }
        Ok(())
    }
}

/// The framing of a response before its steps saw it.
pub(super) struct UpstreamFraming {
    status: StatusCode,
    length: Option<HeaderValue>,
}

impl UpstreamFraming {
    pub(super) fn of(reply: &Reply) -> UpstreamFraming {
        UpstreamFraming {
            status: reply.status,
            length: reply.headers.get(CONTENT_LENGTH).cloned(),
        }
    }

    /// A streamed body keeps its length, whatever header a step wrote. With a wrong length, or with the length of no
    /// body, the client would wait for more, or take the rest for the next response.
    pub(super) fn frame(&self, reply: &mut Reply) {
        let lengths = reply.headers.get_all(CONTENT_LENGTH).iter();
        let untouched = lengths.eq(self.length.iter());
        if reply.body.is_none() && (!untouched || has_no_body(self.status)) {
            reply.headers.remove(CONTENT_LENGTH);
        }
    }
}
