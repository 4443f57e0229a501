//! The changes that modifiers make.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::cookie::Cookie;
use super::files::Files;
use super::header::Header;
use super::modifier::Sending;
use super::url_authority::{self, Port};
use crate::ext::request_id;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::files::range::{self, Part};
use crate::runtime::forward::{Pair, QueryRules, set_alone};
use crate::runtime::pipe::{PipeRequest, Reply};
use crate::runtime::template;
use crate::upstream::HostSet;

/// One change, with precomputed values.
#[derive(Debug)]
pub(crate) enum Change {
    SetHeader(Header, HeaderValue),
    AddHeader(Header, HeaderValue),
    CopyHeader {
        from: Header,
        to: Header,
    },
    RemoveHeaders(Box<[Header]>),
    /// Adds a random UUID, if the request has no such header.
    Id(Header),
    Query {
        name: Box<[u8]>,
        value: Box<[u8]>,
    },
    Url(Url),
    Cookie(Box<Cookie>),
    Port(Port),
    /// Stores the URL in this header, and adds the header to the response.
    Stash(HeaderName),
    Status(StatusCode),
    Body(Body),
    Files(Files),
}

/// Parts to put into a URL. `None` leaves a part unchanged.
#[derive(Debug, Default)]
pub(crate) struct Url {
    pub scheme: Option<&'static str>,
    pub host: Option<Box<str>>,
    /// Encoded.
    pub path: Option<Box<str>>,
    /// Encoded.
    pub query: Option<Box<str>>,
    /// Keeps the addresses of `host` resolved, so that no call waits for them.
    #[expect(
        dead_code,
        reason = "a name is refreshed as long as something holds it"
    )]
    pub known: Option<HostSet>,
}

/// A body that replaces another.
#[derive(Debug)]
pub(crate) struct Body {
    pub content_type: Option<HeaderValue>,
    pub body: Bytes,
}

impl Change {
    /// Changes a request.
    ///
    /// # Errors
    /// The request can no longer be sent.
    pub(crate) fn request<'m>(&'m self, sending: &mut Sending<'m, '_>) -> Result<(), Failure> {
        let request = &mut *sending.request;
        match self {
            Change::SetHeader(field, value) => field.set(request, value.clone())?,
            Change::AddHeader(field, value) => field.add(request, value.clone())?,
            Change::CopyHeader { from, to } => {
                let value = from.first(request).map(|value| value.into_owned());
                to.set(request, value.unwrap_or(EMPTY))?;
            }
            Change::RemoveHeaders(fields) => fields.iter().for_each(|field| field.remove(request)),
            Change::Id(field) => {
                if field.first(request).is_none() {
                    let id = request_id::random();
                    let id = id.ok_or_else(|| failed("no random numbers for an id"))?;
                    field.set(request, id)?;
                }
            }
            Change::Query { name, value } => set_parameter(request, name, value),
            Change::Url(url) => url.apply(request)?,
            Change::Cookie(cookie) => cookie.send(request)?,
            Change::Port(port) => port.apply(request)?,
            Change::Stash(name) => {
                let url = HeaderValue::try_from(url_authority::url(request));
                let mut url = url.map_err(|_| failed("the URL cannot be stored in a header"))?;
                url.set_sensitive(true);
                set_alone(&mut request.headers, name, url);
            }
            Change::Body(body) => {
                body.send(request);
                sending.replaced = true;
            }
            Change::Files(files) => sending.files = Some(files),
            Change::Status(_) => {}
        }
        Ok(())
    }

    /// Changes a response.
    pub(crate) fn response(&self, request: &PipeRequest, reply: &mut Reply) {
        let headers = &mut reply.headers;
        match self {
            Change::SetHeader(field, value) => field.set_response(headers, value.clone()),
            Change::AddHeader(field, value) => field.add_response(headers, value.clone()),
            Change::CopyHeader { from, to } => {
                let value = headers.get(&from.name).cloned();
                to.set_response(headers, value.unwrap_or(EMPTY));
            }
            Change::RemoveHeaders(fields) => {
                fields
                    .iter()
                    .for_each(|field| field.remove_response(headers));
            }
            Change::Cookie(cookie) => cookie.set(headers),
            Change::Stash(name) => {
                let stored = request.headers.get(name).cloned();
                headers.insert(name, stored.unwrap_or(EMPTY));
            }
            Change::Status(status) => reply.status = *status,
            Change::Body(body) => body.response(request, reply),
            // The file was already the response.
            Change::Files(_) => {}
            Change::Id(_) | Change::Query { .. } | Change::Url(_) | Change::Port(_) => {}
        }
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");

fn failed(text: &'static str) -> Failure {
    Failure::new(Kind::Request, text)
}

/// Sets a parameter. As in Go, the query is written anew: sorted by name, without invalid pairs.
fn set_parameter(request: &mut PipeRequest, name: &[u8], value: &[u8]) {
    let query = {
        let mut pairs = QueryRules::All.pairs(request.query.as_deref(), None);
        pairs.retain(|pair| *pair.name != *name);
        let place = pairs.partition_point(|pair| *pair.name < *name);
        let pair = Pair {
            name: name.into(),
            value: value.into(),
        };
        pairs.insert(place, pair);
        template::query(&pairs)
    };
    request.query = query;
}

impl Url {
    /// As in KrakenD, `Host` keeps the name of the original URL: another name requires a `header.Modifier`.
    fn apply(&self, request: &mut PipeRequest) -> Result<(), Failure> {
        if let (Some(origin), true) = (
            request.origin.as_deref(),
            self.scheme.is_some() || self.host.is_some(),
        ) {
            let (scheme, authority) = (
                url_authority::scheme(origin),
                url_authority::authority(origin),
            );
            let host = self.host.as_deref().unwrap_or(authority);
            let moved = format!("{}://{host}", self.scheme.unwrap_or(scheme));
            if !request.headers.contains_key(HOST) {
                let value = HeaderValue::from_str(authority);
                let value = value.map_err(|_| failed("http: invalid Host header"))?;
                request.headers.insert(HOST, value);
            }
            request.origin = Some(moved.into());
        }
        if let Some(path) = &self.path {
            request.path.clone_from(path);
        }
        if let Some(query) = &self.query {
            request.query = Some(query.clone());
        }
        Ok(())
    }
}

impl Body {
    fn send(&self, request: &mut PipeRequest) {
        request.body = self.body.clone();
        self.describe(&mut request.headers);
        request.headers.remove(CONTENT_LENGTH);
        if !self.body.is_empty() {
            let length = HeaderValue::from(self.body.len());
            request.headers.insert(CONTENT_LENGTH, length);
        }
    }

    /// Replaces the body by the new one, or by the part of it that the request asked for. A partial response of the
    /// backend is discarded.
    fn response(&self, request: &PipeRequest, reply: &mut Reply) {
        let headers = &mut reply.headers;
        self.describe(headers);
        headers.remove(CONTENT_LENGTH);
        headers.remove(CONTENT_RANGE);
        let ranged = request.headers.contains_key(RANGE)
            && matches!(
                reply.status,
                StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
            );
        let length = self.body.len() as u64;
        let part = if ranged {
            range::asked(&request.method, &request.headers, length)
        } else {
            Part::Whole
        };
        let (status, content_range) = range::head(&part, length);
        if ranged {
            reply.status = status;
        }
        headers.extend(content_range);
        reply.body = Some(self.slice(&part));
    }

    fn slice(&self, part: &Part) -> Bytes {
        let within = |at: u64| {
            usize::try_from(at)
                .unwrap_or(usize::MAX)
                .min(self.body.len())
        };
        match part {
            Part::Whole => self.body.clone(),
            Part::Some(range) => self.body.slice(within(range.start)..within(range.end)),
            Part::Beyond => Bytes::new(),
        }
    }

    fn describe(&self, headers: &mut HeaderMap) {
        headers.remove(CONTENT_ENCODING);
        match &self.content_type {
            Some(media) => headers.insert(CONTENT_TYPE, media.clone()),
            None => headers.remove(CONTENT_TYPE),
        };
    }
}
