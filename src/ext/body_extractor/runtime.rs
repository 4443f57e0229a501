//! The step.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use smallvec::SmallVec;

use crate::ext::jmespath::{Expression, Fault};
use crate::runtime::heavy::aside_whole;
use crate::runtime::json::{self, Depth, Style, Value};
use crate::runtime::request::{Head, Notes, Seen};
use crate::runtime::response::Response;
use crate::runtime::step::{EndpointStep, Gate};
use crate::upstream::budget::{Charge, Full};

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

/// The longest value for a header. Few servers accept a longer one.
const MAX_HEADER: usize = 16 * 1024;
/// The longest value for a parameter, as for a script.
const MAX_QUERY: usize = 64 * 1024;

impl Target {
    /// The longest value, in bytes.
    fn most(&self) -> usize {
        match self {
            Target::Header(_) => MAX_HEADER,
            Target::Query(_) => MAX_QUERY,
        }
    }
}

/// Why a value is not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// It is longer than its target may be.
    TooLong,
    /// A header cannot have it.
    Malformed,
    /// The process holds too much.
    Full,
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Refusal {
        Refusal::Full
    }
}

impl Refusal {
    fn reject<'a>(self, notes: &mut Notes) -> Gate<'a> {
        let (reason, status) = match self {
            Refusal::TooLong => ("body_field", StatusCode::PAYLOAD_TOO_LARGE),
            Refusal::Malformed => ("body_field", StatusCode::BAD_REQUEST),
            Refusal::Full => ("buffers_full", StatusCode::SERVICE_UNAVAILABLE),
        };
        notes.rejected = Some(reason);
        Gate::Reject(Response::empty(status))
    }
}

impl Operation {
    /// The field of a body of `size` bytes as a text. `None` if it is missing or null.
    fn find(&self, body: &Value, size: usize) -> Result<Option<String>, Refusal> {
        let (found, _held) = match &self.source {
            Source::Path(path) => {
                let found = aside_whole(size, || at(body.clone(), path));
                (found.unwrap_or_default(), Charge::default())
            }
            Source::Jmespath(expression) => {
                match expression.apply(body, Instant::now() + LONGEST) {
                    Ok(found) => found,
                    Err(Fault::Full) => return Err(Refusal::Full),
                    Err(_) => return Ok(None),
                }
            }
        };
        let most = self.target.most();
        // A character of a string may be written as an escape of six bytes.
        if json::size_hint(&found) > 6 * most + 2 {
            return Err(Refusal::TooLong);
        }
        let text = match found.expanded() {
            Value::Null => None,
            Value::String(text) => Some(text.into()),
            other => {
                let text = json::to_bytes(&other, Style::canonical(false));
                String::from_utf8(text.into()).ok()
            }
        };
        if text.as_ref().is_some_and(|text| text.len() > most) {
            return Err(Refusal::TooLong);
        }
        Ok(text)
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
        match self.copy(&body, head, notes) {
            Ok(()) => Gate::Pass,
            Err(refusal) => refusal.reject(notes),
        }
    }
}

impl Extractor {
    fn copy(&self, body: &Bytes, head: &Head<'_>, notes: &mut Notes) -> Result<(), Refusal> {
        let _held = json::charge(body)?;
        let Some(values) = self.values(body)? else {
            return Ok(());
        };
        let mut seen = None;
        for (operation, value) in self.operations.iter().zip(values) {
            let Some(value) = value else { continue };
            let seen = seen.get_or_insert_with(|| Seen {
                headers: head.headers.clone(),
                query: head.query.map(Box::from),
            });
            let made = match &operation.target {
                Target::Header(name) => {
                    // The value, and what is sent.
                    set_header(seen, notes, name, &value, operation.on_conflict)?;
                    2 * value.len()
                }
                Target::Query(name) => {
                    set_query(seen, notes, name, &value, operation.on_conflict);
                    // For later steps, for the call, and its parameters.
                    let query = seen.query.as_deref().unwrap_or_default();
                    4 * query.len()
                }
            };
            notes.held.join(json::charge_bytes(made)?);
        }
        notes.seen = seen.map(Box::new);
        Ok(())
    }

    /// The value of each operation. `None`: the body is not JSON.
    fn values(&self, body: &Bytes) -> Result<Option<SmallVec<[Option<String>; 2]>>, Refusal> {
        let size = body.len();
        let Ok(body) = aside_whole(size, || json::parse(body, Depth::TopLevel)) else {
            return Ok(None);
        };
        let operations = self.operations.iter();
        operations
            .map(|operation| operation.find(&body, size))
            .collect::<Result<_, _>>()
            .map(Some)
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

/// # Errors
/// The value cannot be in a header.
fn set_header(
    seen: &mut Seen,
    notes: &mut Notes,
    name: &HeaderName,
    value: &str,
    on_conflict: OnConflict,
) -> Result<(), Refusal> {
    let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Refusal::Malformed)?;
    let is_there = seen.headers.contains_key(name);
    match on_conflict {
        OnConflict::Skip if is_there => return Ok(()),
        OnConflict::Replace => {
            seen.headers.remove(name);
        }
        OnConflict::Skip | OnConflict::Append => {}
    }
    seen.headers.append(name, value);
    notes.set_header(name, seen.headers.get_all(name).iter().cloned().collect());
    Ok(())
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
