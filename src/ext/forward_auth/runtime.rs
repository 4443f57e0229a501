//! The question about one request, and what follows from the answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use smallvec::SmallVec;

use crate::ext::identity::{Inquiry, NoAnswer, Told};
use crate::runtime::request::{Head, Notes};
use crate::runtime::response::Response;
use crate::runtime::single_flights::Digest;
use crate::runtime::step::{EndpointStep, Gate};
use crate::upstream::{SideClient, SideResponse};

/// The longest body of a negative answer that the client gets.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// `portcullis/forward-auth` of one endpoint.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) prefix: Box<str>,
    pub(super) url: String,
    /// Set for the backends from a positive answer.
    pub(super) headers: Box<[HeaderName]>,
    /// Sent to the service.
    pub(super) sent: Box<[HeaderName]>,
    /// Sent to the client from a negative answer.
    pub(super) shown: Box<[HeaderName]>,
    /// What identifies equal requests, if not everything that is sent.
    pub(super) key: Option<Box<[HeaderName]>>,
    pub(super) keep: Duration,
    pub(super) timeout: Duration,
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
        let asking = async move {
            let call = || self.ask(request);
            self.inquiry.ask(&question, self.timeout, call).await
        };
        Gate::wait(asking, |answer, _, notes| {
            match answer.unwrap_or(Err(NoAnswer::LATE)) {
                Ok(answer) => self.apply(&answer, notes),
                Err(why) => {
                    log::error!("{} {why}", self.prefix);
                    notes.rejected = Some("forward_auth_unavailable");
                    Gate::Reject(Response::empty(StatusCode::SERVICE_UNAVAILABLE))
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

    async fn ask(&self, request: HeaderMap) -> Result<Told<Arc<Answer>>, NoAnswer> {
        let call = self
            .side
            .call(Method::GET, &self.url, request, Bytes::new(), self.timeout);
        let response = call
            .await
            .map_err(|error| NoAnswer::new(error.to_string()))?;
        self.told(response)
    }

    fn told(&self, response: SideResponse) -> Result<Told<Arc<Answer>>, NoAnswer> {
        let SideResponse {
            status,
            headers,
            body,
        } = response;
        if status.is_success() {
            let values = self.headers.iter().map(|name| {
                let values = headers.get_all(name).iter();
                values.cloned().collect::<SmallVec<[HeaderValue; 1]>>()
            });
            let values: Vec<_> = values.collect();
            let bytes = values.iter().flatten().map(|value| value.len() + 64).sum();
            return Ok(Told {
                answer: Arc::new(Answer::Pass(values)),
                keep: self.keep,
                bytes,
                refusal: false,
            });
        }
        let is_answer =
            (300..500).contains(&status.as_u16()) && !matches!(status.as_u16(), 304 | 408 | 429);
        if !is_answer {
            return Err(NoAnswer::new(format!("unexpected status {status}")));
        }
        if body.len() > MAX_BODY_BYTES {
            return Err(NoAnswer::new("the body of the answer is too large"));
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
        Ok(Told {
            answer: Arc::new(Answer::Reject {
                status,
                fields,
                body,
            }),
            keep: self.keep,
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

fn client(address: IpAddr) -> String {
    address.to_string()
}
