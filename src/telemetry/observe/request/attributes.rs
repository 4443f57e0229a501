//! The attributes of the span of a request.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::report::reason;
use super::{RequestEnd, SpanDetails};
use crate::telemetry::mask::{masked_path, masked_query, shown_header};
use crate::telemetry::observe::{Layer, known_method, method_value};
use crate::telemetry::trace::{Attribute, Span, Value};

pub(super) fn krakend_attributes(span: &mut Span, ended: &RequestEnd<'_>, shown: &SpanDetails<'_>) {
    span.set("url.full", target(shown));
    span.set("server.address", shown.host.to_owned());
    span.set("http.request.method", ended.method.as_str().to_owned());
    span.set("http.request.body.size", ended.bytes_in);
    if let Some(agent) = user_agent(shown.headers) {
        span.set("user_agent.original", agent);
    }
    span.set("client.address", shown.client.to_string());
    span.set("krakend.stage", "global");
    match ended.endpoint {
        Some(endpoint) => span.set("http.route", Value::from(&endpoint.route)),
        None => span.set("http.route", reason(ended.status)),
    }
    span.set("http.response.status_code", ended.status);
    span.set("http.response.body.size", ended.bytes_out);
}

pub(super) fn stable_attributes(span: &mut Span, ended: &RequestEnd<'_>, shown: &SpanDetails<'_>) {
    span.set("http.request.method", method_value(ended.method));
    if known_method(ended.method).is_none() {
        span.set(
            "http.request.method_original",
            ended.method.as_str().to_owned(),
        );
    }
    span.set("url.scheme", if ended.secure { "https" } else { "http" });
    span.set("url.path", masked_path(shown.path).into_owned());
    if let Some(query) = shown.query {
        span.set("url.query", masked_query(query));
    }
    if let Some(endpoint) = ended.endpoint {
        span.set("http.route", Value::from(&endpoint.pattern));
    }
    span.set("http.response.status_code", ended.status);
    let (name, port) = split_host(shown.host);
    span.set("server.address", name.to_owned());
    if let Some(port) = port {
        span.set("server.port", i64::from(port));
    }
    span.set("client.address", shown.client.to_string());
    span.set("network.peer.address", shown.peer.to_string());
    span.set("network.protocol.version", ended.version);
    if let Some(agent) = user_agent(shown.headers) {
        span.set("user_agent.original", agent);
    }
}

fn target(shown: &SpanDetails<'_>) -> String {
    match shown.query {
        Some(query) => format!("{}?{}", masked_path(shown.path), masked_query(query)),
        None => masked_path(shown.path).into_owned(),
    }
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    headers.get(http::header::USER_AGENT).map(agent)
}

/// A `User-Agent` as an attribute.
pub(in crate::telemetry::observe) fn agent(value: &HeaderValue) -> String {
    shown_header("user-agent", &String::from_utf8_lossy(value.as_bytes())).into_owned()
}

/// Name and port of an authority.
pub(in crate::telemetry::observe) fn split_host(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && !port.contains(']') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (host, None),
        },
        _ => (host, None),
    }
}

pub(super) fn push_headers(
    span: &mut Span,
    layer: &Layer,
    request: &HeaderMap,
    response: Option<&HeaderMap>,
) {
    if layer.report_headers {
        span.attributes
            .extend(header_attributes("request", request, &layer.skip_headers));
        if let Some(response) = response {
            span.attributes
                .extend(header_attributes("response", response, &layer.skip_headers));
        }
    }
}

/// Headers as attributes, without secrets and excluded names.
pub(in crate::telemetry::observe) fn header_attributes(
    side: &'static str,
    headers: &HeaderMap,
    skip: &[HeaderName],
) -> Vec<Attribute> {
    headers
        .keys()
        .filter(|name| !skip.contains(name))
        .map(|name| {
            let values = headers.get_all(name).iter();
            let shown = |value: &HeaderValue| {
                let value = String::from_utf8_lossy(value.as_bytes());
                shown_header(name.as_str(), &value).into_owned()
            };
            (
                format!("http.{side}.header.{name}").into(),
                Value::Texts(values.map(shown).collect()),
            )
        })
        .collect()
}
