//! The conditions of filters.

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use regex::bytes::Regex;

use super::cookie::Wanted;
use super::header::Header;
use super::url_authority;
use crate::runtime::forward::QueryRules;
use crate::runtime::pipe::PipeRequest;

/// One condition. For a response, all but two conditions check its request.
#[derive(Debug)]
pub(crate) enum Condition {
    /// One of the message's own values equals this one.
    Header {
        field: Header,
        value: Box<[u8]>,
    },
    /// One of the request's values matches.
    HeaderMatches {
        field: Header,
        regex: Regex,
    },
    /// The query has the parameter with this value.
    Query {
        name: Box<[u8]>,
        value: Option<Box<[u8]>>,
    },
    Url(Url),
    UrlMatches(Regex),
    /// The request sends the cookie, or the response sets it.
    Cookie(Wanted),
    Port(u16),
}

/// Parts of a URL that must all be equal. `None` matches any.
#[derive(Debug, Default)]
pub(crate) struct Url {
    pub scheme: Option<Box<str>>,
    pub host: Option<Box<str>>,
    /// Decoded.
    pub path: Option<Box<str>>,
    /// Raw.
    pub query: Option<Box<str>>,
}

impl Condition {
    /// Whether it is true for a request.
    pub(crate) fn of_request(&self, request: &PipeRequest) -> bool {
        match self {
            Condition::Header { field, value } => field.any(request, |found| found == &**value),
            Condition::Cookie(wanted) => wanted.is_sent(&request.headers),
            Condition::HeaderMatches { field, regex } => {
                // As in KrakenD, only the first value is used, and an empty one never matches.
                let first = field.first(request);
                first.is_some_and(|found| !found.is_empty() && regex.is_match(found.as_bytes()))
            }
            Condition::Query { name, value } => {
                let pairs = QueryRules::All.pairs(request.query.as_deref(), None);
                pairs.iter().any(|pair| {
                    let wanted = value.as_deref();
                    *pair.name == **name && wanted.is_none_or(|wanted| *pair.value == *wanted)
                })
            }
            Condition::Url(url) => url.is(request),
            Condition::UrlMatches(regex) => regex.is_match(url_authority::url(request).as_bytes()),
            Condition::Port(port) => {
                request.origin.as_deref().and_then(url_authority::port) == Some(*port)
            }
        }
    }

    /// Whether it is true for a response to `request`.
    pub(crate) fn of_response(&self, request: &PipeRequest, headers: &HeaderMap) -> bool {
        match self {
            Condition::Header { field, value } => {
                let mut lines = headers.get_all(&field.name).iter();
                lines.any(|found| found.as_bytes() == &**value)
            }
            Condition::Cookie(wanted) => wanted.is_set(headers),
            _ => self.of_request(request),
        }
    }
}

impl Url {
    fn is(&self, request: &PipeRequest) -> bool {
        let origin = request.origin.as_deref().unwrap_or_default();
        let (scheme, authority) = (
            url_authority::scheme(origin),
            url_authority::authority(origin),
        );
        let fits = |wanted: &Option<Box<str>>, test: &dyn Fn(&str) -> bool| {
            wanted.as_deref().is_none_or(test)
        };
        fits(&self.scheme, &|wanted| wanted.eq_ignore_ascii_case(scheme))
            && fits(&self.host, &|wanted| {
                url_authority::host_matches(authority, wanted)
            })
            && fits(&self.path, &|wanted| {
                percent_decode_str(&request.path).eq(wanted.bytes())
            })
            && fits(&self.query, &|wanted| {
                request.query.as_deref().unwrap_or_default() == wanted
            })
    }
}
