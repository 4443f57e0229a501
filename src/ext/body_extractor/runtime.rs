//! The step.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use smallvec::SmallVec;

use crate::ext::jmespath::Expression;
use crate::runtime::heavy::aside_whole;
use crate::runtime::json::{self, Depth, Style, Value};
use crate::runtime::request::{Head, Notes, Seen};
use crate::runtime::response::Response;
use crate::runtime::step::{EndpointStep, Gate};
use crate::upstream::budget::Charge;

/// The longest time that an expression may take. The step does not know the deadline of the request.
const LONGEST: Duration = Duration::from_secs(1);

/// Takes fields of a body into headers and query parameters.
#[derive(Debug)]
pub(super) struct Extractor {
    pub(super) operations: Box<[Operation]>,
}

#[derive(Debug)]
pub(super) struct Operation {
    pub(super) source: Source,
    pub(super) target: Target,
    pub(super) on_conflict: OnConflict,
}

#[derive(Debug)]
pub(super) enum Source {
    Path(Box<[Box<str>]>),
    Jmespath(Expression),
}

#[derive(Debug)]
pub(super) enum Target {
    Header(HeaderName),
    Query(Box<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnConflict {
    Skip,
    Replace,
    Append,
}

impl Source {
    /// The field of a body of `size` bytes as a text. `None` if it is missing or null.
    fn find(&self, body: &Value, size: usize) -> Option<String> {
        let (found, _held) = match self {
            Source::Path(path) => {
                let found = aside_whole(size, || at(body.clone(), path))?;
                (found, Charge::default())
            }
            Source::Jmespath(expression) => {
                expression.apply(body, Instant::now() + LONGEST).ok()?
            }
        };
        match found.expanded() {
            Value::Null => None,
            Value::String(text) => Some(text.into()),
            other => {
                let text = json::to_bytes(&other, Style::canonical(false));
                String::from_utf8(text.to_vec()).ok()
            }
        }
    }
}

fn at(mut value: Value, path: &[Box<str>]) -> Option<Value> {
    for name in path {
        value = value.as_object_mut()?.remove(name)?;
    }
    Some(value)
}

impl EndpointStep for Extractor {
    fn needs_body(&self) -> bool {
        true
    }

    fn parses_body(&self) -> bool {
        true
    }

    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        let Some(body) = notes.body.clone().filter(|_| may_be_json(head)) else {
            return Gate::Pass;
        };
        let Ok(_held) = json::charge(&body) else {
            notes.rejected = Some("buffers_full");
            return Gate::Reject(Response::empty(StatusCode::SERVICE_UNAVAILABLE));
        };
        let Some(values) = self.values(&body) else {
            return Gate::Pass;
        };
        let mut seen = None;
        for (operation, value) in self.operations.iter().zip(values) {
            let Some(value) = value else { continue };
            let seen = seen.get_or_insert_with(|| Seen {
                headers: head.headers.clone(),
                query: head.query.map(Box::from),
            });
            let set = match &operation.target {
                Target::Header(name) => {
                    set_header(seen, notes, name, &value, operation.on_conflict)
                }
                Target::Query(name) => {
                    set_query(seen, notes, name, &value, operation.on_conflict);
                    Some(())
                }
            };
            if set.is_none() {
                notes.rejected = Some("body_field");
                return Gate::Reject(Response::empty(StatusCode::BAD_REQUEST));
            }
        }
        notes.seen = seen.map(Box::new);
        Gate::Pass
    }
}

impl Extractor {
    /// The value of each operation. `None`: the body is not JSON.
    fn values(&self, body: &Bytes) -> Option<SmallVec<[Option<String>; 2]>> {
        let size = body.len();
        let body = aside_whole(size, || json::parse(body, Depth::TopLevel)).ok()?;
        let operations = self.operations.iter();
        Some(
            operations
                .map(|operation| operation.source.find(&body, size))
                .collect(),
        )
    }
}

/// JSON, or a body without a type.
fn may_be_json(head: &Head<'_>) -> bool {
    head.header(&CONTENT_TYPE).is_none_or(|kind| {
        let name = kind.split(';').next().unwrap_or_default().trim();
        let name = name.to_ascii_lowercase();
        name.ends_with("/json") || name.ends_with("+json")
    })
}

/// `None`: the value cannot be in a header.
fn set_header(
    seen: &mut Seen,
    notes: &mut Notes,
    name: &HeaderName,
    value: &str,
    on_conflict: OnConflict,
) -> Option<()> {
    let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
    let is_there = seen.headers.contains_key(name);
    match on_conflict {
        OnConflict::Skip if is_there => return Some(()),
        OnConflict::Replace => {
            seen.headers.remove(name);
        }
        OnConflict::Skip | OnConflict::Append => {}
    }
    seen.headers.append(name, value);
    notes.set_header(name, seen.headers.get_all(name).iter().cloned().collect());
    Some(())
}

fn set_query(seen: &mut Seen, notes: &mut Notes, name: &str, value: &str, on_conflict: OnConflict) {
    let query = seen.query.as_deref().unwrap_or_default();
    let is_it = |pair: &&str| names(pair) == name;
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let is_there = pairs.clone().any(|pair| is_it(&pair));
    let kept: Vec<&str> = match on_conflict {
        OnConflict::Skip if is_there => return,
        OnConflict::Replace => pairs.filter(|pair| !is_it(pair)).collect(),
        OnConflict::Skip | OnConflict::Append => pairs.collect(),
    };
    let mut pair = form_urlencoded::Serializer::new(String::new());
    let pair = pair.append_pair(name, value).finish();
    let kept = kept.into_iter().chain([pair.as_str()]);
    let query: Box<str> = kept.collect::<Vec<_>>().join("&").into();
    seen.query = Some(query.clone());
    notes.rewritten.get_or_insert_default().query = Some(Some(query));
}

/// The name of a pair of a query, decoded.
fn names(pair: &str) -> Cow<'_, str> {
    let parsed = form_urlencoded::parse(pair.as_bytes()).next();
    parsed.map_or(Cow::Borrowed(""), |(name, _)| name)
}
