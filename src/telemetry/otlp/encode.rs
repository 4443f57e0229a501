//! The messages of OTLP (opentelemetry-proto 1.x): an export request for spans, and one for metrics.

use std::time::UNIX_EPOCH;

use super::proto::Message;
use crate::telemetry::moment;
use crate::telemetry::series::page::SCOPE;
use crate::telemetry::series::{
    Example, Histogram, Instrument, Kind, Measure, Numbers, Series, Store,
};
use crate::telemetry::trace::span::nanos;
use crate::telemetry::trace::{Attribute, Span, SpanEvent, SpanStatus, Value};

/// The schema of the resource's attributes.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.21.0";

/// Metrics count from the start of the process, not from the last push.
const CUMULATIVE: u64 = 2;

/// `ExportTraceServiceRequest`.
pub fn spans(resource: &[Attribute], spans: &[Box<Span>]) -> Vec<u8> {
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

/// `ExportMetricsServiceRequest`. `None` if nothing was measured yet.
pub fn metrics(resource: &[Attribute], store: &Store) -> Option<Vec<u8>> {
    let families = store.families();
    if families.iter().all(|(_, series)| series.is_empty()) {
        return None;
    }
    let since = store.since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let times = (nanos(since), nanos(moment::now()));
    let mut request = Message::new();
    request.message(1, |one| {
        one.message(1, |message| attributes(1, resource, message));
        one.message(2, |scope| {
            scope.message(1, |scope| scope.text(1, SCOPE));
            for (instrument, series) in families.iter().filter(|(_, series)| !series.is_empty()) {
                scope.message(2, |message| metric(instrument, series, times, message));
            }
        });
        one.text(3, SCHEMA);
    });
    Some(request.into_bytes())
}

fn metric(
    instrument: &Instrument,
    series: &[std::sync::Arc<Series>],
    times: (u64, u64),
    out: &mut Message,
) {
    out.text(1, instrument.name);
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
pub fn rejected(response: &[u8]) -> u64 {
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
    fn without_measurements_nothing_is_sent() {
        let store = Store::new(&[1.0], &[1.0]);
        assert!(metrics(&[], &store).is_none());
    }
}
