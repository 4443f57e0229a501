//! Reads the protobuf messages of OTLP, strictly.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Metric, Span};

type Read<T> = Result<T, String>;

/// One field of a message.
#[derive(Debug)]
enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn bytes(&self) -> Read<&'a [u8]> {
        match self {
            Field::Bytes(bytes) => Ok(bytes),
            other => Err(format!("{other:?} where bytes must be")),
        }
    }

    fn text(&self) -> Read<String> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map(str::to_owned).map_err(|error| error.to_string())
    }

    fn hex(&self, length: usize) -> Read<String> {
        let bytes = self.bytes()?;
        if bytes.len() != length || bytes.iter().all(|byte| *byte == 0) {
            return Err(format!("no id of {length} bytes: {bytes:?}"));
        }
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn number(&self) -> Read<u64> {
        match self {
            Field::Varint(value) => Ok(*value),
            other => Err(format!("{other:?} where a varint must be")),
        }
    }

    fn fixed(&self) -> Read<u64> {
        match self {
            Field::Fixed64(value) => Ok(*value),
            other => Err(format!("{other:?} where a fixed64 must be")),
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Read<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or("a varint ends early")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a varint is too long".to_owned())
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Read<&'a [u8]> {
    if bytes.len() < count {
        return Err("a field ends early".to_owned());
    }
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    Ok(taken)
}

fn fields(mut bytes: &[u8]) -> Read<Vec<(u64, Field<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = match tag & 7 {
            0 => Field::Varint(varint(&mut bytes)?),
            1 => Field::Fixed64(u64::from_le_bytes(take(&mut bytes, 8)?.try_into().unwrap())),
            2 => {
                let length = varint(&mut bytes)? as usize;
                Field::Bytes(take(&mut bytes, length)?)
            }
            wire => return Err(format!("wire type {wire}")),
        };
        fields.push((tag >> 3, field));
    }
    Ok(fields)
}

fn unknown(message: &str, number: u64) -> String {
    format!("{message} has no field {number}")
}

/// `ExportTraceServiceRequest`.
pub(super) fn spans(body: &[u8]) -> Read<Vec<Span>> {
    let mut all = Vec::new();
    for (resource, scope, number, field) in scoped(body)? {
        match number {
            2 => all.push(Span {
                resource,
                scope,
                ..span(field.bytes()?)?
            }),
            number => return Err(unknown("ScopeSpans", number)),
        }
    }
    Ok(all)
}

type Scoped<'a> = (BTreeMap<String, Value>, String, u64, Field<'a>);

/// The parts below resources and scopes, which are the same in traces and metrics.
fn scoped(body: &[u8]) -> Read<Vec<Scoped<'_>>> {
    let mut all = Vec::new();
    for (number, one) in fields(body)? {
        if number != 1 {
            return Err(unknown("the request", number));
        }
        let mut resource = BTreeMap::new();
        for (number, field) in fields(one.bytes()?)? {
            match number {
                1 => {
                    for (number, field) in fields(field.bytes()?)? {
                        match number {
                            1 => pair(field.bytes()?, &mut resource)?,
                            number => return Err(unknown("Resource", number)),
                        }
                    }
                }
                2 => {
                    let mut scope = String::new();
                    for (number, field) in fields(field.bytes()?)? {
                        match number {
                            1 => {
                                for (number, field) in fields(field.bytes()?)? {
                                    match number {
                                        1 => scope = field.text()?,
                                        number => return Err(unknown("Scope", number)),
                                    }
                                }
                            }
                            number => all.push((resource.clone(), scope.clone(), number, field)),
                        }
                    }
                }
                3 => {
                    field.text()?;
                }
                number => return Err(unknown("ResourceSpans", number)),
            }
        }
    }
    Ok(all)
}

fn span(bytes: &[u8]) -> Read<Span> {
    let mut span = Span::default();
    for (number, field) in fields(bytes)? {
        match number {
            1 => span.trace = field.hex(16)?,
            2 => span.id = field.hex(8)?,
            3 => span.state = field.text()?,
            4 => span.parent = field.hex(8)?,
            5 => span.name = field.text()?,
            6 => span.kind = field.number()?,
            7 => span.start = field.fixed()?,
            8 => span.end = field.fixed()?,
            9 => pair(field.bytes()?, &mut span.attributes)?,
            11 => {
                for (number, field) in fields(field.bytes()?)? {
                    match number {
                        1 => assert!(field.fixed()? > 0),
                        2 => span.events.push(field.text()?),
                        3 => pair(field.bytes()?, &mut BTreeMap::new())?,
                        number => return Err(unknown("Event", number)),
                    }
                }
            }
            13 => {
                for (number, field) in fields(field.bytes()?)? {
                    match number {
                        1 => span.links.push(field.hex(16)?),
                        2 => drop(field.hex(8)?),
                        number => return Err(unknown("Link", number)),
                    }
                }
            }
            15 => {
                for (number, field) in fields(field.bytes()?)? {
                    match number {
                        2 => span.message = field.text()?,
                        3 => span.status = field.number()?,
                        number => return Err(unknown("Status", number)),
                    }
                }
            }
            number => return Err(unknown("Span", number)),
        }
    }
    if span.end < span.start || span.name.is_empty() || span.trace.is_empty() {
        return Err(format!("an odd span: {span:?}"));
    }
    Ok(span)
}

/// `KeyValue`.
fn pair(bytes: &[u8], into: &mut BTreeMap<String, Value>) -> Read<()> {
    let (mut name, mut value) = (String::new(), Value::Null);
    for (number, field) in fields(bytes)? {
        match number {
            1 => name = field.text()?,
            2 => value = any(field.bytes()?)?,
            number => return Err(unknown("KeyValue", number)),
        }
    }
    match into.insert(name.clone(), value) {
        None => Ok(()),
        Some(_) => Err(format!("{name} is there twice")),
    }
}

fn any(bytes: &[u8]) -> Read<Value> {
    let all = fields(bytes)?;
    let [(number, field)] = &all[..] else {
        return Err(format!("AnyValue with {} values", all.len()));
    };
    Ok(match number {
        1 => json!(field.text()?),
        2 => json!(field.number()? == 1),
        3 => json!(field.number()?.cast_signed()),
        4 => json!(f64::from_bits(field.fixed()?)),
        5 => {
            let mut list = Vec::new();
            for (_, item) in fields(field.bytes()?)? {
                list.push(any(item.bytes()?)?);
            }
            Value::Array(list)
        }
        number => return Err(unknown("AnyValue", *number)),
    })
}

/// `ExportMetricsServiceRequest`.
pub(super) fn metrics(body: &[u8]) -> Read<Vec<Metric>> {
    let mut all = Vec::new();
    for (resource, _, number, field) in scoped(body)? {
        if number != 2 {
            return Err(unknown("ScopeMetrics", number));
        }
        let mut base = Metric {
            resource,
            ..Metric::default()
        };
        for (number, field) in fields(field.bytes()?)? {
            match number {
                1 => base.name = field.text()?,
                2 => drop(field.text()?),
                3 => base.unit = field.text()?,
                5 => {
                    for (inner, field) in fields(field.bytes()?)? {
                        match inner {
                            1 => all.push(point(field.bytes()?, base.clone(), false)?),
                            inner => return Err(unknown("Gauge", inner)),
                        }
                    }
                }
                7 | 9 => {
                    for (inner, field) in fields(field.bytes()?)? {
                        match (number, inner) {
                            (_, 1) => all.push(point(field.bytes()?, base.clone(), number == 9)?),
                            (_, 2) => assert_eq!(field.number()?, 2, "cumulative"),
                            (7, 3) => assert_eq!(field.number()?, 1, "monotonic"),
                            (_, inner) => return Err(unknown("the data", inner)),
                        }
                    }
                }
                number => return Err(unknown("Metric", number)),
            }
        }
    }
    Ok(all)
}

fn point(bytes: &[u8], mut metric: Metric, histogram: bool) -> Read<Metric> {
    let mut bounds = 0;
    for (number, field) in fields(bytes)? {
        match (histogram, number) {
            (_, 2 | 3) => assert!(field.fixed()? > 0),
            (false, 4) => metric.value = f64::from_bits(field.fixed()?),
            (false, 6) => metric.value = field.fixed()? as f64,
            (false, 7) | (true, 9) => pair(field.bytes()?, &mut metric.labels)?,
            (true, 4) => metric.count = field.fixed()?,
            (true, 5) => metric.sum = f64::from_bits(field.fixed()?),
            (true, 6) => metric.buckets = field.bytes()?.len() / 8,
            (true, 7) => bounds = field.bytes()?.len() / 8,
            (true, 8) => metric.examples += 1,
            (true, 11 | 12) => drop(field.fixed()?),
            (_, number) => return Err(unknown("the point", number)),
        }
    }
    if histogram && metric.buckets != bounds + 1 {
        return Err(format!("{} buckets for {bounds} bounds", metric.buckets));
    }
    Ok(metric)
}
