//! The step that looks at a body before any backend is called.

use std::borrow::Cow;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::schema::{Refusal, Schema};
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::json::{self, Depth};
use crate::runtime::pipe::{Passed, PipeRequest, PipeResponse, PipeStep, Sight, State};

/// Lets pass only bodies that fit.
#[derive(Debug)]
pub(super) struct BodyCheck {
    pub(super) schema: Schema,
}

impl BodyCheck {
    fn check(&self, body: &Bytes) -> Result<(), Failure> {
        if body.is_empty() {
            return Err(refused("could not validate an empty body"));
        }
        let value = read(body).map_err(refused)?;
        match self.schema.check(value, body.len()) {
            Ok(()) => Ok(()),
            Err(Refusal::Unfit(lines)) => Err(refused(lines)),
            Err(Refusal::GaveUp) => Err(Failure::new(
                Kind::Request,
                "the body could not be validated",
            )),
        }
    }
}

fn refused(text: impl Into<Cow<'static, str>>) -> Failure {
    Failure {
        status: StatusCode::BAD_REQUEST,
        ..Failure::new(Kind::Request, text)
    }
}

/// The one JSON value that a body is. What is no UTF-8 counts as U+FFFD, as it does for KrakenD.
fn read(body: &Bytes) -> Result<Value, Cow<'static, str>> {
    let text = String::from_utf8_lossy(body);
    serde_json::from_str(&text).map_err(|error| match json::parse(body, Depth::TopLevel) {
        Err(said) => said.to_string().into(),
        Ok(_) if error.is_syntax() && error.to_string().starts_with("trailing characters") => {
            "invalid character after top-level value".into()
        }
        // Too deep, or a number out of any range.
        Ok(_) => error.to_string().into(),
    })
}

#[async_trait]
impl PipeStep for BodyCheck {
    fn needs_body(&self) -> bool {
        true
    }

    fn sight(&self) -> Sight {
        Sight::Nothing
    }

    async fn before(&self, request: &mut PipeRequest) -> Result<Passed, Failure> {
        self.check(&request.body)?;
        Ok(Passed::default())
    }

    async fn after(
        &self,
        _state: State,
        _request: &PipeRequest,
        _response: &mut PipeResponse,
    ) -> Result<(), Failure> {
        Ok(())
    }
}
