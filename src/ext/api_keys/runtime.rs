//! The step that checks an endpoint's API keys.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use super::key_table::KeyTable;
use crate::ext::rate_limit::{Bucket, Verdict, seconds_up};
use crate::jose::bearer;
use crate::runtime::clock::Clock;
use crate::runtime::request::{Head, Notes};
use crate::runtime::response::Response;
use crate::runtime::step::{EndpointStep, Gate};

/// The place of the key in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Header(HeaderName),
    Query(Box<str>),
}

/// The buckets of an endpoint's keys, in the order of the service's list. They survive a reload.
#[derive(Debug)]
pub(crate) struct KeyLimits {
    pub clock: Clock,
    pub buckets: Box<[Bucket]>,
}

/// `auth/api-keys` of one endpoint.
#[derive(Debug)]
pub(crate) struct ApiKeyCheck {
    pub ring: Arc<KeyTable>,
    pub place: Place,
    /// For each key of the ring, the role with which it may pass this endpoint, if any.
    pub roles: Box<[Option<HeaderValue>]>,
    pub propagate: Option<HeaderName>,
    pub limits: Option<Arc<KeyLimits>>,
}

impl EndpointStep for ApiKeyCheck {
    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        let presented = match self.presented(head) {
            Ok(Some(key)) => key,
            Ok(None) => return unauthorized("missing_api_key", notes),
            Err(Several) => return unauthorized("ambiguous_credentials", notes),
        };
        let Some(number) = self.ring.find(&presented) else {
            return unauthorized("unknown_api_key", notes);
        };
        let Some(role) = self.roles.get(number).and_then(Option::as_ref) else {
            return unauthorized("missing_role", notes);
        };
        if let Some(limits) = &self.limits
            && let Some(bucket) = limits.buckets.get(number)
            && let Verdict::Rejected { retry_after } = bucket.take(limits.clock.now())
        {
            notes.rejected = Some("rate_limited");
            let wait = HeaderValue::from(seconds_up(retry_after));
            let response = Response::empty(StatusCode::TOO_MANY_REQUESTS).with(RETRY_AFTER, wait);
            return Gate::Reject(response);
        }
        if let Some(name) = &self.propagate {
            notes.set_header(name, SmallVec::from_elem(role.clone(), 1));
        }
        Gate::Pass
    }
}

/// The request contains several keys. It is undefined which of them a backend would use.
struct Several;

impl ApiKeyCheck {
    fn presented<'h>(&self, head: &Head<'h>) -> Result<Option<Cow<'h, [u8]>>, Several> {
        match &self.place {
            Place::Header(name) => from_header(head, name),
            Place::Query(name) => from_query(head.query.unwrap_or_default(), name),
        }
    }
}

fn from_header<'h>(head: &Head<'h>, name: &HeaderName) -> Result<Option<Cow<'h, [u8]>>, Several> {
    let mut lines = head.headers.get_all(name).iter();
    let first = lines.next();
    if lines.next().is_some() {
        return Err(Several);
    }
    let Some(value) = first.map(HeaderValue::as_bytes) else {
        return Ok(None);
    };
    let key = match bearer(value) {
        Ok(Some(key)) if *name == AUTHORIZATION => key.as_bytes(),
        _ => value,
    };
    Ok((!key.is_empty()).then_some(Cow::Borrowed(key)))
}

fn from_query<'h>(query: &'h str, name: &str) -> Result<Option<Cow<'h, [u8]>>, Several> {
    let mut found = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(known, _)| *known == name || *decoded(known) == *name.as_bytes());
    let first = found.next();
    if found.next().is_some() {
        return Err(Several);
    }
    Ok(first
        .map(|(_, value)| decoded(value))
        .filter(|key| !key.is_empty()))
}

fn decoded(text: &str) -> Cow<'_, [u8]> {
    if text.contains('+') {
        Cow::Owned(percent_decode_str(&text.replace('+', " ")).collect())
    } else {
        percent_decode_str(text).into()
    }
}

/// As in the token validator, only a 401.
fn unauthorized<'g>(why: &'static str, notes: &mut Notes) -> Gate<'g> {
    notes.rejected = Some(why);
    Gate::Reject(Response::empty(StatusCode::UNAUTHORIZED))
}
