//! Lines that are JSON objects.

use std::borrow::Cow;
use std::time::Duration;

use super::{AccessEvent, Query, Settings};
use crate::telemetry::mask::{masked_path, shown_header};
use crate::telemetry::sanitize::{masked_text, push_json, push_query, without_password};
use crate::telemetry::timestamp::rfc3339;

/// The members of a JSON line, in their order.
pub(crate) const FIELDS: [&str; 25] = [
    "time",
    "client",
    "method",
    "scheme",
    "host",
    "path",
    "query",
    "protocol",
    "status",
    "grpc_status",
    "duration_ms",
    "bytes_in",
    "bytes_out",
    "endpoint",
    "refused",
    "request_id",
    "user_agent",
    "upstream",
    "upstream_status",
    "upstream_ms",
    "trace_id",
    "span_id",
    "trace_flags",
    "claim",
    "errors",
];

pub(super) fn push_object(event: &AccessEvent<'_>, settings: &Settings, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    if settings.fields.is_empty() {
        FIELDS
            .iter()
            .for_each(|name| object.member(name, event, settings));
    } else {
        let fields = settings.fields.iter();
        fields.for_each(|name| object.member(name, event, settings));
    }
    out.extend_from_slice(b"}\n");
}

/// A JSON object that is being written. Absent values are omitted.
struct Object<'a> {
    pub(super) out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub(super) fn open(out: &'a mut Vec<u8>) -> Object<'a> {
        out.push(b'{');
        Object { out, first: true }
    }

    fn key(&mut self, name: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        push_json(name, self.out);
        self.out.push(b':');
    }

    fn member(&mut self, name: &str, event: &AccessEvent<'_>, settings: &Settings) {
        match name {
            "time" => self.text(name, Some(&rfc3339(event.since_1970))),
            "client" => self.text(name, Some(&event.client.to_string())),
            "method" => self.text(name, Some(event.method)),
            "scheme" => self.text(name, event.scheme),
            "host" => self.text(name, event.host),
            "path" => self.text(name, Some(&masked_path(event.path))),
            "query" => self.query(event, settings.query),
            "protocol" => self.text(name, event.protocol),
            "status" => self.number(name, event.status),
            "grpc_status" => {
                if let Some(status) = event.grpc_status {
                    self.number(name, status);
                }
            }
            "duration_ms" => self.milliseconds(name, Some(event.latency)),
            "bytes_in" => self.number(name, event.bytes_in),
            "bytes_out" => self.number(name, event.bytes_out),
            "endpoint" => self.text(name, event.endpoint),
            "refused" => self.text(name, event.rejected),
            "request_id" => self.text(name, event.request_id),
            "user_agent" => self.text(
                name,
                event
                    .user_agent
                    .as_deref()
                    .map(|agent| shown_header("user-agent", agent))
                    .as_deref(),
            ),
            "upstream" => self.text(name, event.upstream.map(without_password).as_deref()),
            "upstream_status" => {
                if let Some(status) = event.upstream_status {
                    self.number(name, status);
                }
            }
            "upstream_ms" => self.milliseconds(name, event.upstream_time),
            "trace_id" => self.text(name, event.trace.map(|(id, ..)| id.to_string()).as_deref()),
            "span_id" => self.text(
                name,
                event.trace.map(|(_, id, _)| id.to_string()).as_deref(),
            ),
            "trace_flags" => {
                let flags = event
                    .trace
                    .map(|(.., sampled)| if sampled { "01" } else { "00" });
                self.text(name, flags);
            }
            "claim" => {
                if let Some(claim) = &settings.claim {
                    self.text(claim, event.claim(claim).as_deref());
                }
            }
            "errors" => self.texts(name, event.errors),
            _ => {}
        }
    }

    pub(super) fn query(&mut self, event: &AccessEvent<'_>, query: Query) {
        if let (Some(raw), Query::Keep) = (event.query, query) {
            let mut masked = Vec::new();
            push_query(raw, &mut masked);
            self.text("query", Some(&String::from_utf8_lossy(&masked)));
        }
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.key(name);
            push_json(value, self.out);
        }
    }

    fn number(&mut self, name: &str, value: impl itoa::Integer) {
        self.key(name);
        let mut buffer = itoa::Buffer::new();
        self.out.extend_from_slice(buffer.format(value).as_bytes());
    }

    fn milliseconds(&mut self, name: &str, value: Option<Duration>) {
        if let Some(value) = value {
            self.key(name);
            let text = format!("{:.3}", value.as_secs_f64() * 1000.0);
            self.out.extend_from_slice(text.as_bytes());
        }
    }

    fn texts(&mut self, name: &str, values: &[Cow<'static, str>]) {
        if values.is_empty() {
            return;
        }
        self.key(name);
        for (index, value) in values.iter().enumerate() {
            self.out.push(if index == 0 { b'[' } else { b',' });
            push_json(&masked_text(value), self.out);
        }
        self.out.push(b']');
    }
}
