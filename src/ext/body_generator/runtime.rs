//! The steps.

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};

use super::generator::Generator;
use crate::runtime::decode::as_object;
use crate::runtime::failure::Failure;
use crate::runtime::forward::set_alone;
use crate::runtime::json::{self, Depth, Growth, Value};
use crate::runtime::pipe::{Passed, PipeRequest, PipeResponse, PipeStep, ResponseAccess, State};
use crate::upstream::budget::{Charge, Full};

/// Makes the body that is sent on.
#[derive(Debug)]
pub(in crate::ext) struct MakeRequest {
    pub(in crate::ext) generator: Generator,
}

/// Makes the body of the response.
#[derive(Debug)]
pub(super) struct MakeResponse {
    pub(super) generator: Generator,
}

impl Generator {
    /// Puts a new body into a request.
    ///
    /// # Errors
    /// As [`Generator::make`].
    pub(in crate::ext) fn replace(&self, request: &mut PipeRequest) -> Result<(), Failure> {
        let body = self.make(request, None)?;
        let headers = &mut request.headers;
        set_alone(headers, &CONTENT_TYPE, self.content_type.clone());
        headers.remove(CONTENT_ENCODING);
        // The length follows from the body.
        headers.remove(CONTENT_LENGTH);
        request.body = body;
        Ok(())
    }
}

#[async_trait]
impl PipeStep for MakeRequest {
    fn needs_body(&self) -> bool {
        true
    }

    fn parses_body(&self) -> bool {
        true
    }

    async fn before(&self, request: &mut PipeRequest) -> Result<Passed, Failure> {
        self.generator
            .replace(request)
            .map_err(Failure::before_call)?;
        Ok(Passed::default())
    }
}

#[async_trait]
impl PipeStep for MakeResponse {
    fn needs_body(&self) -> bool {
        true
    }

    fn parses_body(&self) -> bool {
        true
    }

    fn response_access(&self) -> ResponseAccess {
        ResponseAccess::Whole
    }

    async fn after(
        &self,
        _state: State,
        request: &PipeRequest,
        response: &mut PipeResponse,
    ) -> Result<(), Failure> {
        let body = self.generator.make(request, Some(response))?;
        match &mut response.reply {
            Some(reply) => {
                let content_type = self.generator.content_type.clone();
                reply.headers.insert(CONTENT_TYPE, content_type);
                reply.headers.remove(CONTENT_ENCODING);
                reply.body = Some(body);
            }
            None => {
                let (data, held) = self.data(&body).map_err(|Full| Failure::full())?;
                response.data = data;
                // The data may be slices of the body, which holds a charge of its own.
                response.held = held;
            }
        }
        Ok(())
    }
}

impl MakeResponse {
    /// A made body as the data of a composed response, which is an object.
    fn data(&self, body: &Bytes) -> Result<(Value, Charge), Full> {
        if !self.generator.makes_json() {
            let held = json::charge_bytes(body.len())?;
            let text = String::from_utf8_lossy(body);
            return Ok((as_object(Value::string(text)), held));
        }
        let mut growth = Growth::default();
        let value = match json::parse_within(body, Depth::TopLevel, &mut growth) {
            Err(json::Error::Full(full)) => return Err(full),
            parsed => parsed.unwrap_or_default(),
        };
        Ok((as_object(value), growth.into_charge()))
    }
}
