//! The step.

use std::borrow::Cow;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use crate::ext::json_schema::{Rejection, Schema, charge, read};
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::heavy::{Heavy, aside};
use crate::runtime::json::{self, Style};
use crate::runtime::pipe::{PipeRequest, PipeResponse, PipeStep, Reply, ResponseAccess, State};
use crate::runtime::response::Fields;

/// Rejects responses that do not match the schema.
#[derive(Debug)]
pub(super) struct ResponseCheck {
    pub(super) schema: Schema,
    pub(super) status: StatusCode,
    pub(super) told: Option<ErrorBody>,
    /// The client gets this text in any case.
    pub(super) shown: bool,
}

/// What the file has for the client.
#[derive(Debug)]
pub(super) struct ErrorBody {
    pub(super) body: Bytes,
    pub(super) content_type: HeaderValue,
}

impl ResponseCheck {
    fn check(&self, body: &Bytes, deadline: Instant) -> Result<(), Failure> {
        let _held = charge(body).map_err(|_| Failure::full())?;
        let value =
            aside(body.len(), deadline, || read(body))?.map_err(|text| self.rejected(text))?;
        match self.schema.check(value, body.len(), Heavy::until(deadline)) {
            Ok(()) => Ok(()),
            Err(Rejection::Unfit(lines)) => Err(self.rejected(lines)),
            Err(Rejection::Costly) => Err(self.rejected("validating needs too much work")),
            Err(Rejection::Cut(cut)) => Err(cut.into()),
            Err(Rejection::GaveUp) => Err(self.rejected("the response could not be validated")),
        }
    }

    fn rejected(&self, text: impl Into<Cow<'static, str>>) -> Failure {
        let told = self.told.as_ref();
        Failure {
            status: self.status,
            body: told.map(|told| (told.body.clone(), Some(told.content_type.clone()))),
            passed: told.filter(|_| self.shown).map(|_| Box::new(Fields::new())),
            ..Failure::new(Kind::Rejected, text)
        }
    }

    /// The body of a streamed response.
    fn streamed(&self, reply: &Reply) -> Result<Bytes, Failure> {
        let kind = reply.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let kind = String::from_utf8_lossy(kind.unwrap_or_default()).to_ascii_lowercase();
        let name = kind.split(';').next().unwrap_or_default().trim();
        if name.ends_with("/json") || name.ends_with("+json") {
            return Ok(reply.body.clone().unwrap_or_default());
        }
        Err(self.rejected("the response is not JSON"))
    }
}

#[async_trait]
impl PipeStep for ResponseCheck {
    fn response_access(&self) -> ResponseAccess {
        ResponseAccess::Whole
    }

    async fn after(
        &self,
        _state: State,
        request: &PipeRequest,
        response: &mut PipeResponse,
    ) -> Result<(), Failure> {
        let body = match &response.reply {
            Some(reply) => self.streamed(reply)?,
            None => json::charged_text(&response.data, Style::canonical(false))
                .map_err(|_| Failure::full())?,
        };
        self.check(&body, request.deadline.into_std())
    }
}
