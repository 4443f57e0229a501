//! The messages of OTLP (opentelemetry-proto 1.x): an export request for spans, and one for metrics.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::family;
use super::own::Gathered;
use super::proto::Message;
use crate::telemetry::series::page::{SCOPE, metric_name};
use crate::telemetry::series::{
    Example, Histogram, Instrument, Kind, Measure, Numbers, Series, Store,
};
use crate::telemetry::timestamp;
use crate::telemetry::trace::span::nanos;
use crate::telemetry::trace::{Attribute, Span, SpanEvent, SpanStatus, Value};

/// The schema of the resource's attributes.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.21.0";

/// Metrics count from the start of the process, not from the last push.
pub(super) const CUMULATIVE: u64 = 2;

/// `ExportTraceServiceRequest`.
pub(crate) fn spans(resource: &[Attribute], spans: &[Box<Span>]) -> Vec<u8> {
    let mut request = Message::new();
    request.message(1, |one| {
        one.message(1, |message| attributes(1, resource, message));
        one.message(2, |scope| {
            scope.message(1, |scope| scope.text(1, SCOPE));
            for it in spans {
                scope.message(2, |message| span(it, message));
            }
        });
        one.text(3, SCHEMA);
    });
    request.into_bytes()
}

fn span(span: &Span, out: &mut Message) {
    out.bytes(1, &span.trace.0);
    out.bytes(2, &span.id.0);
    if let Some(state) = &span.state {
        out.text(3, state.to_str().unwrap_or_default());
    }
    if let Some(parent) = &span.parent {
        out.bytes(4, &parent.0);
    }
    out.text(5, &span.name);
    out.uint(6, span.kind as u64);
    out.fixed64(7, span.start);
    out.fixed64(8, span.end);
    attributes(9, &span.attributes, out);
    for it in &span.events {
        out.message(11, |message| event(it, message));
    }
    if let Some((trace, id)) = &span.link {
        out.message(13, |link| {
            link.bytes(1, &trace.0);
            link.bytes(2, &id.0);
        });
    }
    match &span.status {
        SpanStatus::Unset => {}
        SpanStatus::Ok => out.message(15, |status| status.uint(3, 1)),
        SpanStatus::Error(text) => out.message(15, |status| {
            status.text(2, text);
            status.uint(3, 2);
        }),
    }
}

fn event(event: &SpanEvent, out: &mut Message) {
    out.fixed64(1, event.at);
    out.text(2, event.name);
    attributes(3, &event.attributes, out);
}

fn attributes(field: u32, all: &[Attribute], out: &mut Message) {
    for (name, it) in all {
        out.message(field, |pair| {
            pair.text(1, name);
            pair.message(2, |message| value(it, message));
        });
    }
}

/// `AnyValue`.
fn value(value: &Value, out: &mut Message) {
    match value {
        Value::Text(text) => out.required_bytes(1, text.as_bytes()),
        Value::Shared(text) => out.required_bytes(1, text.as_bytes()),
        Value::Bool(value) => out.required_uint(2, u64::from(*value)),
        Value::Int(value) => out.required_uint(3, value.cast_unsigned()),
        Value::Float(value) => out.double(4, *value),
        Value::Texts(all) => out.message(5, |list| {
            for text in all {
                list.message(1, |item| item.required_bytes(1, text.as_bytes()));
            }
        }),
    }
}

/// A request is not made larger than this if it can be divided: collectors take 4 MiB over gRPC by default.
const MAX_BYTES: usize = 1 << 20;

/// `ExportMetricsServiceRequest`s: the series of `store`, and our own. None if nothing was measured yet.
pub(crate) fn metrics(
    resource: &[Attribute],
    store: &Store,
    own: Option<&Gathered>,
) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let name = |instrument: &Instrument| instrument.name.to_owned();
    encode_families(&store.families(), store.since, &name, &mut all);
    if let Some(own) = own {
        let times = times(store.since);
        encode_families(&own.gauges, store.since, &name, &mut all);
        if let Some(native) = &own.native {
            let since = native.0.since;
            encode_families(&native.0.families(), since, &metric_name, &mut all);
        }
        all.extend(own.families.iter().map(|it| family::encode(it, times)));
    }
    let mut requests = Vec::new();
    let mut rest = &all[..];
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|metric| {
            bytes += metric.as_bytes().len();
            bytes <= MAX_BYTES
        });
        // One metric is not divided.
        let (now, later) = rest.split_at(fitting.count().max(1));
        requests.push(request(resource, now));
        rest = later;
    }
    requests
}

fn request(resource: &[Attribute], metrics: &[Message]) -> Vec<u8> {
    let mut request = Message::new();
    request.message(1, |one| {
        one.message(1, |message| attributes(1, resource, message));
        one.message(2, |scope| {
            scope.message(1, |scope| scope.text(1, SCOPE));
            for metric in metrics {
                scope.required_bytes(2, metric.as_bytes());
            }
        });
        one.text(3, SCHEMA);
    });
    request.into_bytes()
}

/// When a series began, and now, in nanoseconds since 1970.
fn times(since: SystemTime) -> (u64, u64) {
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    (nanos(since), nanos(timestamp::now()))
}

fn encode_families(
    families: &[(Instrument, Vec<Arc<Series>>)],
    since: SystemTime,
    name: &dyn Fn(&Instrument) -> String,
    out: &mut Vec<Message>,
) {
    let times = times(since);
    for (instrument, series) in families {
        if !series.is_empty() {
            let mut message = Message::new();
            message.text(1, &name(instrument));
            metric(instrument, series, times, &mut message);
            out.push(message);
        }
    }
}

fn metric(instrument: &Instrument, series: &[Arc<Series>], times: (u64, u64), out: &mut Message) {
    out.text(2, instrument.help);
    out.text(3, instrument.unit);
    match instrument.kind {
        Kind::Counter(measure) => out.message(7, |sum| {
            for it in series {
                sum.message(1, |point| number(it, measure, times, point));
            }
            sum.uint(2, CUMULATIVE);
            sum.uint(3, 1);
        }),
        // An up-down counter of OpenTelemetry: a sum that also falls.
        Kind::Gauge => out.message(7, |sum| {
            for it in series {
                sum.message(1, |point| gauge(it, times, point));
            }
            sum.uint(2, CUMULATIVE);
        }),
        Kind::Histogram(measure) => out.message(9, |data| {
            for it in series {
                if let Numbers::Histogram(histogram) = &it.numbers {
                    data.message(1, |point| {
                        distribution(it, histogram, measure, times, point);
                    });
                }
            }
            data.uint(2, CUMULATIVE);
        }),
    }
}

fn number(series: &Series, measure: Measure, (since, now): (u64, u64), out: &mut Message) {
    let Numbers::Counter(counter) = &series.numbers else {
        return;
    };
    out.fixed64(2, since);
    out.fixed64(3, now);
    match measure {
        Measure::Seconds => out.double(4, measure.shown(counter.get())),
        Measure::Whole => out.fixed64(6, counter.get()),
    }
    attributes(7, &series.attributes, out);
}

fn gauge(series: &Series, (since, now): (u64, u64), out: &mut Message) {
    let Numbers::Gauge(value) = series.numbers else {
        return;
    };
    out.fixed64(2, since);
    out.fixed64(3, now);
    out.fixed64(6, value.cast_unsigned());
    attributes(7, &series.attributes, out);
}

fn distribution(
    series: &Series,
    histogram: &Histogram,
    measure: Measure,
    (since, now): (u64, u64),
    out: &mut Message,
) {
    let reading = histogram.read();
    out.fixed64(2, since);
    out.fixed64(3, now);
    out.fixed64(4, reading.count);
    out.double(5, measure.shown(reading.sum));
    out.packed_fixed64(6, reading.buckets.iter().copied());
    let bounds = histogram.bounds().iter();
    out.packed_fixed64(7, bounds.map(|bound| measure.shown(*bound).to_bits()));
    for it in reading.examples.iter().flatten() {
        out.message(8, |message| example(it, measure, message));
    }
    attributes(9, &series.attributes, out);
    if reading.count > 0 {
        out.double(11, measure.shown(reading.least));
        out.double(12, measure.shown(reading.most));
    }
}

fn example(example: &Example, measure: Measure, out: &mut Message) {
    out.fixed64(2, example.at);
    out.double(3, measure.shown(example.value));
    out.bytes(4, &example.span.0);
    out.bytes(5, &example.trace.0);
}

/// The number of rejected items, from the `partial_success` of a collector's response.
pub(crate) fn rejected(response: &[u8]) -> u64 {
    let Some(partial) = field(response, 1) else {
        return 0;
    };
    let mut rest = partial;
    while let Some((number, wire, after)) = tag(rest) {
        match (number, wire) {
            (1, 0) => return varint(after).map_or(0, |(count, _)| count),
            _ => match skip(wire, after) {
                Some(after) => rest = after,
                None => return 0,
            },
        }
    }
    0
}

/// The delay of a `google.rpc.RetryInfo` within the details of a `google.rpc.Status`.
pub(crate) fn retry_delay(status: &[u8]) -> Option<Duration> {
    let mut rest = status;
    while let Some((number, wire, after)) = tag(rest) {
        if (number, wire) == (3, 2)
            && let Some(delay) = field(rest, 3).and_then(retry_info)
        {
            return Some(delay);
        }
        rest = skip(wire, after)?;
    }
    None
}

/// The `Duration` of an `Any` that holds a `RetryInfo`.
fn retry_info(any: &[u8]) -> Option<Duration> {
    field(any, 1).filter(|kind| kind.ends_with(b"/google.rpc.RetryInfo"))?;
    let delay = field(field(any, 2)?, 1)?;
    let (mut seconds, mut nanos) = (0, 0);
    let mut rest = delay;
    while let Some((number, 0, after)) = tag(rest) {
        let (value, after) = varint(after)?;
        match number {
            1 => seconds = value,
            2 => nanos = u32::try_from(value).ok()?,
            _ => {}
        }
        rest = after;
    }
    // A negative number of seconds is a very large one here.
    (nanos < 1_000_000_000 && seconds < 1 << 32).then(|| Duration::new(seconds, nanos))
}

/// The first length-delimited field with this number.
fn field(message: &[u8], wanted: u64) -> Option<&[u8]> {
    let mut rest = message;
    while let Some((number, wire, after)) = tag(rest) {
        if (number, wire) == (wanted, 2) {
            let (length, after) = varint(after)?;
            return after.get(..usize::try_from(length).ok()?);
        }
        rest = skip(wire, after)?;
    }
    None
}

fn tag(message: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (tag, after) = varint(message)?;
    Some((tag >> 3, tag & 7, after))
}

fn skip(wire: u64, message: &[u8]) -> Option<&[u8]> {
    match wire {
        0 => varint(message).map(|(_, after)| after),
        1 => message.get(8..),
        2 => {
            let (length, after) = varint(message)?;
            after.get(usize::try_from(length).ok()?..)
        }
        5 => message.get(4..),
        _ => None,
    }
}

fn varint(message: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in message.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, message.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_success_is_decoded() {
        assert_eq!(rejected(b""), 0);
        // partial_success { rejected_spans: 300, error_message: "no" }
        assert_eq!(rejected(b"\x0a\x07\x08\xac\x02\x12\x02no"), 300);
        assert_eq!(rejected(b"\x0a\x07\x12\x02no\x08\xac\x02"), 300);
        for broken in [&b"\x0a"[..], b"\x0a\xff", b"\xff\xff\xff", b"\x0a\x02\x08"] {
            assert_eq!(rejected(broken), 0);
        }
    }

    #[test]
    fn a_server_says_when_to_come_back() {
        let any = |kind: &str, value: &[u8]| {
            let mut any = Message::new();
            any.text(1, kind);
            any.bytes(2, value);
            any.into_bytes()
        };
        let status = |any: &[u8]| {
            let mut status = Message::new();
            status.uint(1, 8);
            status.text(2, "busy");
            status.bytes(3, b"\x0a\x01x");
            status.bytes(3, any);
            status.into_bytes()
        };
        // retry_delay { seconds: 7, nanos: 500 }
        let info = b"\x0a\x05\x08\x07\x10\xf4\x03";
        let told = status(&any("type.googleapis.com/google.rpc.RetryInfo", info));
        assert_eq!(retry_delay(&told), Some(Duration::new(7, 500)));
        let other = status(&any("type.googleapis.com/google.rpc.Help", info));
        assert_eq!(retry_delay(&other), None);
        for end in 0..told.len() {
            let _ = retry_delay(told.get(..end).unwrap());
        }
    }

    #[test]
    fn without_measurements_nothing_is_sent() {
        let store = Store::new(&[1.0], &[1.0]);
        assert!(metrics(&[], &store, None).is_empty());
    }
}
