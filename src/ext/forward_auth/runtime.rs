//! Asks the service about one request, and applies the response.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use smallvec::SmallVec;

use crate::ext::identity::{CallResult, Cause, Client, Inquiry, NoAnswer};
use crate::runtime::request::{Head, Notes};
use crate::runtime::response::Response;
use crate::runtime::single_flights::Digest;
use crate::runtime::step::{EndpointStep, Gate};
use crate::upstream::{SideClient, SideResponse};

/// The maximum body of a negative response that is sent to the client.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// `portcullis/forward-auth` of one endpoint.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) prefix: Box<str>,
    pub(super) url: String,
    /// Copied from a positive response to the calls of the backends.
    pub(super) headers: Box<[HeaderName]>,
    /// Sent to the service.
    pub(super) sent: Box<[HeaderName]>,
    /// Copied from a negative response to the response for the client.
    pub(super) shown: Box<[HeaderName]>,
    /// What identifies equal requests, if not everything that is sent.
    pub(super) key: Option<Box<[HeaderName]>>,
    pub(super) keep: Duration,
    /// How long a request waits.
    pub(super) timeout: Duration,
    /// How long a call lasts.
    pub(super) call_timeout: Duration,
    pub(super) side: SideClient,
    pub(super) inquiry: Arc<Inquiry<Arc<Answer>>>,
}

/// The decision of the service.
#[derive(Debug)]
pub(super) enum Answer {
    /// The values of the headers for the backends, in the configured order.
    Pass(Vec<SmallVec<[HeaderValue; 1]>>),
    Reject {
        status: StatusCode,
        fields: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
    },
}

impl EndpointStep for Arc<Guard> {
    fn name(&self) -> &'static str {
        "portcullis/forward-auth"
    }

    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        let request = self.request(head, notes);
        let question = self.question(head, notes, &request);
        if let Some(answer) = self.inquiry.known(&question) {
            return self.apply(&answer, notes);
        }
        let client = Client::at(head.client);
        let asking = async move {
            let call = || Arc::clone(self).ask(request);
            let limit = self.timeout;
            self.inquiry.ask(&question, client, limit, call).await
        };
        Gate::wait(asking, |answer, _, notes| {
            match answer.unwrap_or(Err(NoAnswer::LATE)) {
                Ok(answer) => self.apply(&answer, notes),
                Err(why) => {
                    log::error!("{} {why}", self.prefix);
                    notes.rejected = Some(match why.cause {
                        Cause::Busy => "forward_auth_overloaded",
                        Cause::Server | Cause::Response | Cause::Late => "forward_auth_unavailable",
                    });
                    let response = Response::empty(StatusCode::SERVICE_UNAVAILABLE);
                    Gate::Reject(match why.cause {
                        Cause::Busy => response.with(RETRY_AFTER, HeaderValue::from_static("1")),
                        Cause::Server | Cause::Response | Cause::Late => response,
                    })
                }
            }
        })
    }
}

impl Guard {
    /// The headers of the question.
    fn request(&self, head: &Head<'_>, notes: &Notes) -> HeaderMap {
        let mut request = HeaderMap::new();
        for name in &self.sent {
            for value in notes.header_values(head, name) {
                request.append(name, value.clone());
            }
        }
        let head = notes.head(head);
        let uri = match head.query {
            Some(query) => format!("{}?{query}", head.path),
            None => head.path.to_owned(),
        };
        let proto = if head.secure { "https" } else { "http" };
        for (name, text) in [
            ("x-forwarded-method", head.method.as_str()),
            ("x-forwarded-proto", proto),
            ("x-forwarded-host", head.host),
            ("x-forwarded-uri", &uri),
            ("x-forwarded-for", &client(head.client)),
        ] {
            // A request whose target no header can carry gets an empty value, which no rule of the service allows.
            let value =
                HeaderValue::from_bytes(text.as_bytes()).unwrap_or(HeaderValue::from_static(""));
            request.insert(HeaderName::from_static(name), value);
        }
        request
    }

    fn question(&self, head: &Head<'_>, notes: &Notes, request: &HeaderMap) -> Digest {
        let mut parts: Vec<&[u8]> = Vec::new();
        match &self.key {
            Some(names) => {
                for name in names {
                    parts.push(name.as_str().as_bytes());
                    let values = notes.header_values(head, name);
                    parts.extend(values.map(HeaderValue::as_bytes));
                }
            }
            None => {
                for (name, value) in request {
                    parts.push(name.as_str().as_bytes());
                    parts.push(value.as_bytes());
                }
            }
        }
        self.inquiry.question(parts)
    }

    async fn ask(self: Arc<Self>, request: HeaderMap) -> Result<CallResult<Arc<Answer>>, NoAnswer> {
        let call = self.side.call(
            Method::GET,
            &self.url,
            request,
            Bytes::new(),
            self.call_timeout,
        );
        let response = call
            .await
            .map_err(|error| NoAnswer::new(error.to_string()))?;
        self.told(response)
    }

    fn told(&self, response: SideResponse) -> Result<CallResult<Arc<Answer>>, NoAnswer> {
        let SideResponse {
            status,
            headers,
            body,
        } = response;
        let keep = if is_personal(&headers) {
            Duration::ZERO
        } else {
            self.keep
        };
        if status.is_success() {
            let values = self.headers.iter().map(|name| {
                let values = headers.get_all(name).iter();
                values.cloned().collect::<SmallVec<[HeaderValue; 1]>>()
            });
            let values: Vec<_> = values.collect();
            let bytes = values.iter().flatten().map(|value| value.len() + 64).sum();
            return Ok(CallResult {
                answer: Arc::new(Answer::Pass(values)),
                keep,
                bytes,
                refusal: false,
            });
        }
        // A 304 would tell the client to use what it has, and the service was not asked about that.
        if status == StatusCode::NOT_MODIFIED || !(300..500).contains(&status.as_u16()) {
            return Err(NoAnswer::status(status));
        }
        if body.len() > MAX_BODY_BYTES {
            return Err(NoAnswer::response("the body of the response is too large"));
        }
        let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::new();
        for name in &self.shown {
            let values = headers.get_all(name).iter();
            fields.extend(values.map(|value| (name.clone(), value.clone())));
        }
        let fields_bytes: usize = fields.iter().map(|(_, value)| value.len() + 64).sum();
        let bytes = body.len() + fields_bytes;
        // The buffer of a response may be larger than its body.
        let body = Bytes::copy_from_slice(&body);
        let passes_soon = matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        );
        Ok(CallResult {
            answer: Arc::new(Answer::Reject {
                status,
                fields,
                body,
            }),
            keep: if passes_soon { Duration::ZERO } else { keep },
            bytes,
            refusal: true,
        })
    }

    fn apply<'g>(&self, answer: &Answer, notes: &mut Notes) -> Gate<'g> {
        match answer {
            Answer::Pass(values) => {
                for (name, values) in self.headers.iter().zip(values) {
                    notes.set_header(name, values.clone());
                }
                Gate::Pass
            }
            Answer::Reject {
                status,
                fields,
                body,
            } => {
                notes.rejected = Some("forward_auth");
                let mut response = Response::empty(*status);
                response.fields = fields.iter().cloned().collect();
                response.body = body.clone();
                Gate::Reject(response)
            }
        }
    }
}

/// Whether an answer is for one request only: it sets a cookie, or forbids a shared cache to store it (RFC 9111 §5.2.2).
fn is_personal(headers: &HeaderMap) -> bool {
    let forbids = |value: &HeaderValue| {
        value.as_bytes().split(|byte| *byte == b',').any(|part| {
            let name = part.split(|byte| *byte == b'=').next().unwrap_or(part);
            let name = name.trim_ascii();
            // What must be validated before it is used again cannot be used again here.
            [&b"no-store"[..], b"private", b"no-cache"]
                .iter()
                .any(|forbidding| name.eq_ignore_ascii_case(forbidding))
                || part.trim_ascii().eq_ignore_ascii_case(b"max-age=0")
        })
    };
    headers.contains_key(SET_COOKIE) || headers.get_all(CACHE_CONTROL).iter().any(forbids)
}

fn client(address: IpAddr) -> String {
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_cookie_or_that_forbids_storing_is_for_one_request() {
        let is_for_one = |name: HeaderName, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
            headers.append(name, HeaderValue::from_static(value));
            is_personal(&headers)
        };
        assert!(is_for_one(SET_COOKIE, "login_session=S1"));
        for value in [
            "no-store",
            "No-Store",
            "max-age=5, private",
            "private=\"set-cookie\"",
            "public ,\tno-store ",
            "no-cache",
            "public, Max-Age=0",
        ] {
            assert!(is_for_one(CACHE_CONTROL, value), "{value}");
        }
        for value in [
            "",
            "public",
            "max-age=5",
            "no-storefront",
            "privately, public",
        ] {
            assert!(!is_for_one(CACHE_CONTROL, value), "{value}");
        }
    }
}
