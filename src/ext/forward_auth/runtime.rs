//! Asks the service about one request, and applies the response.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use smallvec::SmallVec;

use crate::ext::identity::{CallResult, Cause, Client, Inquiry, NoAnswer};
use crate::runtime::request::{Head, Notes};
use crate::runtime::response::Response;
use crate::runtime::single_flights::Digest;
use crate::runtime::step::{EndpointStep, Gate};
use crate::upstream::cache_control::CacheControl;
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
    /// Those of `sent` of which a request may have only one line: the service and a backend could use different ones.
    pub(super) single: Box<[HeaderName]>,
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
        let is_double = |name: &HeaderName| notes.header_values(head, name).nth(1).is_some();
        if self.single.iter().any(is_double) {
            notes.rejected = Some("ambiguous_credentials");
            return Gate::Reject(Response::empty(StatusCode::BAD_REQUEST));
        }
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
            ("x-forwarded-host", head.host()),
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
        // Each value with the name of its header: a value could look like the next name.
        let mut parts: Vec<&[u8]> = Vec::new();
        match &self.key {
            Some(names) => {
                for name in names {
                    for value in notes.header_values(head, name) {
                        parts.extend([name.as_str().as_bytes(), value.as_bytes()]);
                    }
                }
            }
            None => {
                for (name, value) in request {
                    parts.extend([name.as_str().as_bytes(), value.as_bytes()]);
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
        let keep = keep(&headers, self.keep);
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
        Ok(CallResult {
            answer: Arc::new(Answer::Reject {
                status,
                fields,
                body,
            }),
            keep: if is_decision(status) {
                keep
            } else {
                Duration::ZERO
            },
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

/// Whether a negative status is a decision about the client. Others, such as 400, 429 and 431, are about the form or
/// the time of one request: with `cache_key`, anyone could cause them for others.
fn is_decision(status: StatusCode) -> bool {
    status.is_redirection()
        || matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND
        )
}

/// How long an answer is kept, at most `longest`. One that sets a cookie, or that a shared cache must not store, is for
/// one request only (RFC 9111 §5.2.2).
fn keep(headers: &HeaderMap, longest: Duration) -> Duration {
    if headers.contains_key(SET_COOKIE) {
        return Duration::ZERO;
    }
    let said = CacheControl::of(headers);
    // What must be validated before it is used again cannot be used again here.
    if said.no_store || said.private || said.no_cache {
        return Duration::ZERO;
    }
    let ages = [said.max_age, said.s_maxage].into_iter().flatten();
    ages.map(Duration::from_secs).fold(longest, Duration::min)
}

fn client(address: IpAddr) -> String {
    address.to_string()
}

#[cfg(test)]
mod tests {
    use http::header::CACHE_CONTROL;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn kept(name: HeaderName, value: &'static str) -> u64 {
        let mut headers = HeaderMap::new();
        headers.append(CACHE_CONTROL, HeaderValue::from_static("max-age=600"));
        headers.append(name, HeaderValue::from_static(value));
        keep(&headers, MINUTE).as_secs()
    }

    #[test]
    fn an_answer_with_a_cookie_or_that_forbids_storing_is_for_one_request() {
        assert_eq!(kept(SET_COOKIE, "login_session=S1"), 0);
        for value in [
            "no-store",
            "No-Store",
            "max-age=5, private",
            "private, max-age=5",
            "private=\"set-cookie\"",
            "public ,\tno-store ",
            "no-cache",
            "public, Max-Age=0",
            "max-age=soon",
            "s-maxage=0",
        ] {
            assert_eq!(kept(CACHE_CONTROL, value), 0, "{value}");
        }
        for value in ["", "public", "no-storefront", "privately, public"] {
            assert_eq!(kept(CACHE_CONTROL, value), 60, "{value}");
        }
    }

    #[test]
    fn an_answer_is_kept_no_longer_than_its_service_says() {
        for value in [
            "max-age=5",
            "public, S-MaxAge=\"5\"",
            "max-age=9, s-maxage=5",
        ] {
            assert_eq!(kept(CACHE_CONTROL, value), 5, "{value}");
        }
        assert_eq!(kept(CACHE_CONTROL, "s-maxage=900"), 60);
    }

    #[test]
    fn only_decisions_about_the_client_are_kept() {
        for (code, is_kept) in [(302, true), (401, true), (403, true), (404, true)]
            .into_iter()
            .chain([400, 408, 413, 414, 421, 425, 429, 431].map(|code| (code, false)))
        {
            let status = StatusCode::from_u16(code).unwrap();
            assert_eq!(is_decision(status), is_kept, "{code}");
        }
    }
}
