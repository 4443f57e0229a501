//! Static data, signature, encoding, the response to a failure.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::backend::is_ours;
use super::endpoint::{Ended, Ending, Outcome};
use super::merge::{Merged, Passed};
use crate::runtime::encode::Encoding;
use crate::runtime::failure::{Failure, Kind, Report};
use crate::runtime::heavy::aside;
use crate::runtime::json::{self, Growth, Object, Value};
use crate::runtime::response::{Branding, Response};
use crate::runtime::service::{
    Backend, Composition, Endpoint, Options, StaticData, StaticStrategy,
};
use crate::runtime::signing::ResponseSigner;
use crate::telemetry::sanitize::printable;
use crate::upstream::budget::{Charge, Full};

/// How long large data may be worked on after the deadline: the data of backends that responded in time is sent, even if another
/// one kept the request until its deadline.
const GRACE: Duration = Duration::from_millis(250);

/// The end of work that begins now in a request with this deadline.
fn with_grace(deadline: Instant) -> Instant {
    deadline.max(Instant::now() + GRACE)
}

/// The endpoint's own flatmap and static data.
pub(super) fn settle(work: &Composition, merged: &mut Merged, deadline: Instant) {
    if let (Some(flatmap), Some(data)) = (&work.flatmap, &mut merged.data)
        && merged.group
        && merged.failures.is_empty()
    {
        let applied = data.charge_expanded().map_err(|Full| Failure::full());
        let applied = applied.and_then(|mut held| {
            let end = with_grace(deadline);
            let mut growth = Growth::default();
            let applied = aside(held.bytes(), end, || flatmap.apply(data, &mut growth))?;
            applied.map_err(|Full| Failure::full())?;
            held.join(growth.into_charge());
            Ok(held)
        });
        match applied {
            // The data are a tree from now on.
            Ok(held) => merged.held.join(held),
            Err(failure) => give_up(merged, failure),
        }
    }
    if let Some(data) = &work.static_data {
        add_static(data, merged);
    }
}

/// There is no memory, or no time, for what the data would become.
fn give_up(merged: &mut Merged, failure: Failure) {
    merged.data = None;
    merged.complete = false;
    merged.failures.push(failure);
}

/// The encoded data. `None` without data, or for an endpoint that signs it.
fn encoded(
    options: &Options,
    work: &Composition,
    accept: Option<&HeaderValue>,
    merged: &mut Merged,
    deadline: Instant,
) -> Option<(HeaderValue, Bytes)> {
    let data = merged.data.as_ref()?;
    let accept = accept.and_then(|value| value.to_str().ok());
    let canonical = options.canonical_json;
    let held = work.encoding.charge(data, accept, canonical);
    let encoded = held.map_err(|Full| Failure::full()).and_then(|held| {
        if work.signer.is_some() {
            return Ok(None);
        }
        let size = held.as_ref().map_or(0, Charge::bytes);
        let encode = || work.encoding.encode(Some(data), accept, canonical);
        let done = aside(size, with_grace(deadline), encode).map_err(Failure::from)?;
        done.map(Some).map_err(|Full| Failure::full())
    });
    match encoded {
        Ok(encoded) => encoded,
        Err(failure) => {
            give_up(merged, failure);
            None
        }
    }
}

/// Builds the response from the results of the backends.
pub(super) fn finish(
    options: &Options,
    endpoint: &Endpoint,
    work: &Composition,
    accept: Option<&HeaderValue>,
    mut merged: Merged,
    deadline: Instant,
) -> Outcome {
    let encoded = encoded(options, work, accept, &mut merged, deadline);
    let errors = report(endpoint, &work.backends, work.signer.is_some(), &merged);
    let failure = told(&merged);
    let ended = Ended {
        complete: merged.complete,
        error: !merged.failures.is_empty(),
    };
    let response = match &work.signer {
        Some(signer) => signed(options, endpoint, &**signer, merged),
        None => match (&merged.data, encoded) {
            (Some(data), Some((content_type, body))) => {
                let response = success(endpoint, data, &merged, content_type, body);
                let response = match &merged.meta {
                    Some(meta) if !is_empty(data) => with_fields(response, &meta.headers),
                    _ => response,
                };
                match merged.passed {
                    Some(passed) => pass(response, *passed),
                    None => response,
                }
            }
            _ => failed(options, &merged),
        },
    };
    Outcome {
        ending: Ending::Response(response),
        errors,
        failure,
        ended: Some(ended),
    }
}

/// The failure that the metrics get. If a guard of one of several backends rejected its call and others responded, the
/// request itself was not rejected.
fn told(merged: &Merged) -> Option<Kind> {
    let is_guard = |kind: &Kind| matches!(kind, Kind::Guarded(_));
    let mut kinds = merged.failures.iter().map(|failure| failure.kind);
    let first = kinds.clone().next()?;
    match kinds.find(|kind| !is_guard(kind)) {
        None if merged.group && merged.data.is_some() => None,
        found => found.or(Some(first)),
    }
}

fn success(
    endpoint: &Endpoint,
    data: &Value,
    merged: &Merged,
    content_type: HeaderValue,
    body: Bytes,
) -> Response {
    // As in KrakenD: a response without any member is not complete.
    let complete = merged.complete && !is_empty(data);
    let mut response = Response {
        body,
        branding: Branding::Completed(complete || merged.idle),
        ..Response::empty(StatusCode::OK)
    }
    .with(CONTENT_TYPE, content_type);
    if let (true, Some(value)) = (complete, &endpoint.cache_control) {
        response = response.with(CACHE_CONTROL, value.clone());
    }
    response
}

fn is_empty(data: &Value) -> bool {
    !data.has_members()
}

/// Adds the headers that steps set: every line, but no header that frames the body. A content type replaces that of
/// the encoder, unless it is XML.
fn with_fields(mut response: Response, headers: &HeaderMap) -> Response {
    let is_xml = response.fields.iter().any(|(name, value)| {
        *name == CONTENT_TYPE && value.to_str().is_ok_and(|value| value.contains("xml"))
    });
    if headers.contains_key(CONTENT_TYPE) && !is_xml {
        response.fields.retain(|(name, _)| *name != CONTENT_TYPE);
    }
    if headers.contains_key(CACHE_CONTROL) {
        response.fields.retain(|(name, _)| *name != CACHE_CONTROL);
    }
    for (name, value) in headers {
        let is_wanted = if *name == CONTENT_TYPE {
            !is_xml
        } else {
            !is_ours(name)
        };
        if is_wanted {
            response.fields.push((name.clone(), value.clone()));
        }
    }
    response
}

/// Gives a response the status and headers of the upstream. If that status has no body, the response has none.
fn pass(mut response: Response, passed: Passed) -> Response {
    response.status = passed.status;
    if matches!(
        passed.status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT
    ) {
        response.body = Bytes::new();
        response.fields.clear();
    }
    // The upstream's own caching header is better than a constant.
    if passed.fields.iter().any(|(name, _)| *name == CACHE_CONTROL) {
        response.fields.retain(|(name, _)| *name != CACHE_CONTROL);
    }
    response.fields.extend(passed.fields);
    response
}

/// The response to a failure and its log lines, for an endpoint that did not run.
pub(super) fn rejected(
    options: &Options,
    endpoint: &Endpoint,
    failure: Failure,
) -> (SmallVec<[Cow<'static, str>; 1]>, Response) {
    let merged = Merged::single(Err(failure));
    let errors = report(endpoint, &[], false, &merged);
    let response = match &*merged.failures {
        [failure] if failure.kind.is_of_client() => failure.response(),
        _ => failed(options, &merged),
    };
    (errors, response)
}

/// The response if no backend responded. Only `return_error_msg` shows the reason, because the texts name internal
/// hosts.
pub(super) fn failed(options: &Options, merged: &Merged) -> Response {
    let mut response = Response {
        branding: Branding::Completed(false),
        ..Response::empty(StatusCode::INTERNAL_SERVER_ERROR)
    };
    if options.gateway_status_codes {
        let statuses = merged.failures.iter().map(|failure| failure.status(true));
        let own = statuses.filter(StatusCode::is_server_error);
        response.status = own.max().unwrap_or(response.status);
    } else if merged.failures.iter().any(|f| f.kind == Kind::Full) {
        // Not a failure of a backend: the gateway itself has no memory for the response.
        response.status = Kind::Full.status();
    }
    if let ([failure], false) = (&*merged.failures, merged.group) {
        response.status = failure.status(options.gateway_status_codes);
    }
    let mut shown = options.return_error_msg;
    if let [failure] = &*merged.failures
        && let Some(fields) = &failure.passed
    {
        response.fields.extend(fields.iter().cloned());
        shown |= failure.body.is_some();
    }
    if !shown {
        return response;
    }
    let (body, content_type) = match &*merged.failures {
        [failure] if !merged.group => match &failure.body {
            Some((body, content_type)) => (body.clone(), content_type.clone()),
            None => (Bytes::from(failure.text.to_string()), None),
        },
        failures => match joined(failures) {
            Ok(texts) => (texts, None),
            Err(full) => {
                response.status = Kind::Full.status();
                (Bytes::from(full.to_string()), None)
            }
        },
    };
    response.body = body;
    // Browsers must not guess the type: a text of an upstream must not become a page of the gateway.
    let content_type = match content_type {
        None if response.body.is_empty() => None,
        None => Some(HeaderValue::from_static("text/plain; charset=utf-8")),
        given => given,
    };
    match content_type {
        Some(value) => response.with(CONTENT_TYPE, value),
        None => response,
    }
}

fn joined(failures: &[Failure]) -> Result<Bytes, Full> {
    let texts: SmallVec<[&[u8]; 4]> = failures
        .iter()
        .map(|failure| match &failure.body {
            Some((body, _)) => &body[..],
            None => failure.text.as_bytes(),
        })
        .collect();
    let size = texts.iter().map(|text| text.len() + 1).sum();
    let held = json::charge_bytes(size)?;
    Ok(held.hold(Bytes::from(texts.join(&b'\n'))))
}

/// `auth/signer`: signs all fields or none, and none of the gateway's own.
fn signed(
    options: &Options,
    endpoint: &Endpoint,
    signer: &dyn ResponseSigner,
    merged: Merged,
) -> Response {
    let rejection = || Response::empty(StatusCode::BAD_REQUEST);
    let (true, Some(mut data)) = (merged.failures.is_empty(), merged.data) else {
        return rejection();
    };
    let mut held = Charge::default();
    if let Err(failure) = signer.sign(&mut data, &mut held) {
        let text = printable(&failure.text);
        log::error!("[ENDPOINT: {}] Signing fields: {text}", endpoint.pattern);
        if failure.kind == Kind::Full {
            return failed(options, &Merged::single(Err(failure)));
        }
        return rejection();
    }
    match Encoding::Json.encode(Some(&data), None, options.canonical_json) {
        Ok((content_type, body)) => Response {
            body,
            ..Response::empty(StatusCode::OK)
        }
        .with(CONTENT_TYPE, content_type),
        Err(Full) => failed(options, &Merged::single(Err(Failure::full()))),
    }
}

/// Adds the static data to the response if its strategy applies. Without a response, the data become the response.
fn add_static(given: &StaticData, merged: &mut Merged) {
    let failed = !merged.failures.is_empty();
    let wanted = match given.strategy {
        StaticStrategy::Always => true,
        StaticStrategy::Success => !failed,
        StaticStrategy::Errored => failed,
        StaticStrategy::Complete => !failed && merged.complete,
        StaticStrategy::Incomplete => merged.data.is_none() || !merged.complete,
    };
    let Value::Object(members) = &given.data else {
        return;
    };
    if !wanted {
        return;
    }
    let data = merged.data.get_or_insert_default();
    if !matches!(data, Value::Object(_)) {
        *data = Value::Object(Object::new());
    }
    if let Some(object) = data.as_object_mut() {
        let members = members.iter();
        object.extend(members.map(|(name, value)| (name.clone(), value.clone())));
    }
}

/// Logs each failure that the client did not cause, and returns the texts for the access log.
fn report(
    endpoint: &Endpoint,
    backends: &[Backend],
    signing: bool,
    merged: &Merged,
) -> SmallVec<[Cow<'static, str>; 1]> {
    let logged = |failure: &&Failure| {
        matches!(
            failure.kind.report(),
            Report::Upstream(_) | Report::Guard(_) | Report::Token(_)
        )
    };
    let failures = merged.failures.iter().filter(logged);
    let texts: SmallVec<_> = failures.map(|failure| line(failure, backends)).collect();
    for (index, text) in texts.iter().enumerate() {
        if signing {
            log::error!("[ENDPOINT: {}] Proxy response: {text}", endpoint.pattern);
        } else if merged.group {
            log::error!("[ENDPOINT: {}] Error #{index}: {text}", endpoint.pattern);
        } else {
            log::error!("[ENDPOINT: {}] {text}", endpoint.pattern);
        }
    }
    texts
}

/// The text of a failure for the log. KrakenD's text comes first, then the backend, if it is one of several.
fn line(failure: &Failure, backends: &[Backend]) -> Cow<'static, str> {
    let failed = failure.backend;
    let failed = failed.and_then(|index| backends.iter().find(|backend| backend.index == index));
    let text = printable(&failure.text);
    let text = match failure.kind {
        // KrakenD's text does not say what was late.
        Kind::Late(wait) => format!("{text} ({})", wait.reason()).into(),
        _ => text,
    };
    match (failed, text) {
        (Some(backend), text) => format!("{text} ({})", backend.shown()).into(),
        // Borrowed means that the text did not change.
        (None, Cow::Borrowed(_)) => failure.text.clone(),
        (None, Cow::Owned(changed)) => Cow::Owned(changed),
    }
}
