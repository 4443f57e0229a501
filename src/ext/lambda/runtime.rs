//! Calls a function: the `Invoke` API of Lambda, version 2015-03-31.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::Instant;

use crate::ext::aws_sigv4::{AwsClient, AwsError, pause};
use crate::ext::pubsub::Unsure;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::json::{self, Object, Out, Style, Unmade, Value};
use crate::runtime::pipe::{CallDecision, CallStep, PipeRequest, Reply};
use crate::runtime::request::Params;
use crate::telemetry::queues::{AttemptCounter, Result as Ended};
use crate::telemetry::sanitize::printable;
use crate::upstream::SideResponse;
use crate::upstream::budget::Full;

/// The largest payload of a call that waits for its result.
const MAX_BYTES: usize = 6 << 20;
/// The unreserved characters of RFC 3986 §2.3 stay as they are.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// The longest name, an ARN with a qualifier.
const MAX_NAME: usize = 170;

/// What is unknown if the service was given a call and does not respond.
const MAY_HAVE_RUN: &str = "the function may have run";

static SHOWN: [HeaderName; 1] = [HeaderName::from_static("x-amz-executed-version")];
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");

/// Calls a function in the place of a host.
#[derive(Debug)]
pub(super) struct Lambda {
    pub(super) function: Function,
    pub(super) client: AwsClient,
    pub(super) max_retries: u32,
    /// The description of an error of the function is data, as in KrakenD.
    pub(super) passes_errors: bool,
    /// `url_pattern`, for the log.
    pub(super) pattern: Box<str>,
    pub(super) attempts: AttemptCounter,
    /// The payload is the parameters, and the call may be made again after 5xx.
    pub(super) is_get: bool,
}

/// Which function is called.
#[derive(Debug)]
pub(super) enum Function {
    Named(Box<str>),
    /// The value of this parameter. If `listed` is not empty, only those.
    OfParameter {
        parameter: Box<str>,
        listed: Box<[Box<str>]>,
    },
}

/// Whether a text is valid as the name of a function.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:$.".contains(&byte);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(allowed)
}

impl Function {
    /// # Errors
    /// The client names no function, or one that it may not call.
    fn name<'n>(&'n self, params: &'n Params) -> Result<&'n str, Failure> {
        let (parameter, listed) = match self {
            Function::Named(name) => return Ok(name),
            Function::OfParameter { parameter, listed } => (parameter, listed),
        };
        let name = params.get(parameter).unwrap_or_default();
        if !is_name(name) {
            let text = "aws lambda: this is not the name of a function";
            return Err(Failure::bad_input(StatusCode::BAD_REQUEST, text));
        }
        if !listed.is_empty() && !listed.iter().any(|known| **known == *name) {
            let text = "aws lambda: the function is not listed";
            return Err(Failure::bad_input(StatusCode::NOT_FOUND, text));
        }
        Ok(name)
    }
}

impl CallStep for Lambda {
    fn is_the_backend(&self) -> bool {
        true
    }

    fn needs_body(&self) -> bool {
        !self.is_get
    }

    fn shown(&self) -> &[HeaderName] {
        &SHOWN
    }

    fn sees_responses(&self) -> bool {
        false
    }

    fn request<'a>(&'a self, request: &mut PipeRequest) -> Result<CallDecision<'a>, Failure> {
        let name = self.function.name(&request.params)?;
        let path = format!(
            "/2015-03-31/functions/{}/invocations",
            utf8_percent_encode(name, SEGMENT)
        );
        let payload = if self.is_get {
            parameters(&request.params).map_err(|Full| Failure::full())?
        } else {
            request.body.clone()
        };
        if payload.len() > MAX_BYTES {
            let text = "aws lambda: the payload is larger than 6 MiB";
            return Err(Failure::new(Kind::BodyTooLarge, text));
        }
        let deadline = request.deadline;
        Ok(CallDecision::Wait(Box::pin(async move {
            let response = self.call(&path, &payload, deadline).await?;
            self.reply(response)
        })))
    }

    fn response(&self, _: &PipeRequest, _: &mut Reply) -> Result<(), Failure> {
        Ok(())
    }
}

impl Lambda {
    /// Calls the function. Repeats the call after 429, if there was no connection, and for GET also after 5xx.
    async fn call(
        &self,
        path: &str,
        payload: &Bytes,
        deadline: Instant,
    ) -> Result<SideResponse, Failure> {
        let headers = [
            ("x-amz-invocation-type", "RequestResponse"),
            ("x-amz-log-type", "None"),
        ];
        let mut attempt = 0;
        loop {
            let log = format!("[BACKEND: {}][Lambda]", self.pattern);
            let is_late = || self.attempts.count(Ended::Timeout);
            let unsure = Unsure::new(&log, MAY_HAVE_RUN, &is_late);
            let call = self.client.post(path, &headers, payload.clone(), deadline);
            let outcome = call.await;
            unsure.end();
            self.attempts.count(ended(&outcome));
            if let Err(error) = &outcome
                && !error.unsent
            {
                log::warn!("{log} {}: {MAY_HAVE_RUN}", printable(&error.text));
            }
            attempt += 1;
            let again = match &outcome {
                Ok(response) => match response.status {
                    StatusCode::TOO_MANY_REQUESTS => true,
                    status => self.is_get && status.is_server_error(),
                },
                Err(error) => error.unsent && matches!(error.kind, Kind::Connect(_)),
            };
            // Throttled calls wait longer than calls with broken connections.
            let throttled = matches!(&outcome, Ok(response) if response.status == StatusCode::TOO_MANY_REQUESTS);
            let wait = pause(attempt) * if throttled { 8 } else { 1 };
            if !again || attempt > self.max_retries || Instant::now() + wait >= deadline {
                return outcome.map_err(Failure::from);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// The response of the function, or why there is none.
    fn reply(&self, response: SideResponse) -> Result<Reply, Failure> {
        let status = response.status;
        if status == StatusCode::OK {
            if let Some(kind) = response.headers.get(FUNCTION_ERROR)
                && !self.passes_errors
            {
                return Err(self.failed(kind, &response.body).of_answer(status));
            }
            let mut headers = HeaderMap::new();
            let json = HeaderValue::from_static("application/json");
            headers.insert(CONTENT_TYPE, json);
            for name in &SHOWN {
                if let Some(value) = response.headers.get(name) {
                    headers.insert(name, value.clone());
                }
            }
            return Ok(Reply::local(status, headers, Some(response.body)));
        }
        let failure = if status.is_client_error() {
            let kind = error_type(&response);
            Failure {
                status,
                ..Failure::new(Kind::Status, format!("aws lambda: {status} {kind}"))
            }
        } else {
            let text = format!("aws lambda: bad status code {}", status.as_u16());
            Failure::new(Kind::Status, text)
        };
        Err(failure.of_answer(status))
    }

    /// The function has failed. Our log has only the type of the error; the details are in the log of the function.
    fn failed(&self, kind: &HeaderValue, body: &[u8]) -> Failure {
        #[derive(Deserialize)]
        struct Said {
            #[serde(rename = "errorType")]
            kind: Option<String>,
        }
        let said = serde_json::from_slice::<Said>(body).ok();
        let said = said.and_then(|said| said.kind).unwrap_or_default();
        let kind = type_name(kind.to_str().unwrap_or_default());
        let said = type_name(&said);
        log::error!(
            "[BACKEND: {}][Lambda] aws lambda: the function has failed: {kind} {said}",
            self.pattern
        );
        Failure::new(Kind::Status, "aws lambda: the function has failed")
    }
}

fn ended(outcome: &Result<SideResponse, AwsError>) -> Ended {
    match outcome {
        Ok(response) if response.status == StatusCode::OK => {
            if response.headers.contains_key(FUNCTION_ERROR) {
                Ended::Undecodable
            } else {
                Ended::Ok
            }
        }
        Ok(response) if response.status.is_client_error() => Ended::Rejected,
        Ok(_) => Ended::Error,
        Err(error) if error.kind.is_late() => Ended::Timeout,
        Err(_) => Ended::Error,
    }
}

/// `X-Amzn-ErrorType` without what follows a colon.
fn error_type(response: &SideResponse) -> String {
    let value = response.headers.get("x-amzn-errortype");
    let value = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    type_name(value.split(':').next().unwrap_or_default()).to_owned()
}

/// The name of an error's type, as programming languages write it. Any other text is not shown: it may quote a credential.
pub(super) fn type_name(text: &str) -> &str {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._:$".contains(&byte);
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let is_name = text.len() <= 128 && digits <= 4 && text.bytes().all(is_part);
    if is_name {
        text
    } else {
        "(not the name of a type)"
    }
}

/// A text with a line feed at its end.
struct Line<'l>(&'l Value);

impl Unmade for Line<'_> {
    fn write(&self, out: &mut impl Out) {
        json::write(out, self.0, Style::canonical(true));
        out.put(b"\n");
    }
}

/// The parameters as a JSON object, as KrakenD writes them: names in lower case, sorted, and a line feed at the end.
fn parameters(params: &Params) -> Result<Bytes, Full> {
    let sizes = params
        .0
        .iter()
        .map(|(name, value)| name.len() + value.len());
    let _held = json::charge_bytes(sizes.sum())?;
    let members = params.0.iter().map(|(name, value)| {
        let name: Box<str> = name.to_lowercase().into();
        (name, Value::string(value.as_str()))
    });
    let object = Value::Object(members.collect::<Object>());
    json::made(&Line(&object), json::size_hint(&object) + 1)
}
