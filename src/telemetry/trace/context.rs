//! The trace context in headers: W3C Trace Context (level 2), W3C Baggage, B3, Jaeger.

mod b3;
mod jaeger;
mod w3c;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::ids::{SpanId, TraceId, push_hex};

pub(crate) use w3c::baggage;

/// The headers that are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    pub trace_context: bool,
    /// The single header `b3`.
    pub b3: bool,
    /// The headers `X-B3-…`.
    pub b3_multi: bool,
    /// Jaeger's `uber-trace-id`.
    pub jaeger: bool,
    pub baggage: bool,
}

impl Default for Formats {
    fn default() -> Formats {
        Formats {
            trace_context: true,
            b3: false,
            b3_multi: false,
            jaeger: false,
            baggage: false,
        }
    }
}

impl Formats {
    /// The names that [`Formats::parse`] knows.
    pub const NAMES: &'static str = "tracecontext, b3, b3multi, jaeger, baggage, none";

    /// The formats in a list of names, as in `OTEL_PROPAGATORS`. `Err` contains an unknown name.
    pub fn parse<'n>(names: impl Iterator<Item = &'n str>) -> Result<Formats, &'n str> {
        let mut formats = Formats {
            trace_context: false,
            ..Formats::default()
        };
        for name in names.map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "tracecontext" => formats.trace_context = true,
                "baggage" => formats.baggage = true,
                "b3" => formats.b3 = true,
                "b3multi" => formats.b3_multi = true,
                "jaeger" => formats.jaeger = true,
                "none" => {}
                other => return Err(other),
            }
        }
        Ok(formats)
    }
}

/// The client's trace context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parent {
    pub trace: TraceId,
    pub span: SpanId,
    /// `None`: the receiver decides, which only B3 knows.
    pub sampled: Option<bool>,
    /// The sender asks for a trace with all details, which B3 and Jaeger know.
    pub debug: bool,
    /// The id of the trace is random (W3C Trace Context level 2 §3.2.2.5.2).
    pub random: bool,
    pub state: Option<HeaderValue>,
}

/// What a client says about the trace of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientContext {
    Parent(Parent),
    /// B3 without ids: only whether the request is recorded, and with all details.
    Decision {
        sampled: bool,
        debug: bool,
    },
}

/// The context for a backend.
#[derive(Debug)]
pub(crate) struct Outbound<'a> {
    pub formats: Formats,
    pub trace: TraceId,
    pub span: SpanId,
    pub sampled: bool,
    /// Sent only with `sampled`, where the format knows it.
    pub debug: bool,
    pub random: bool,
    pub state: Option<&'a HeaderValue>,
    pub baggage: Option<&'a HeaderValue>,
}

impl ClientContext {
    /// Reads the first format that is present; both forms of B3, whichever is written, as OpenTelemetry requires
    /// (<https://opentelemetry.io/docs/specs/otel/context/api-propagators/#b3-extract>). Malformed headers are ignored, and a
    /// decision without ids counts only if no format has ids.
    pub(crate) fn read(headers: &HeaderMap, formats: Formats) -> Option<ClientContext> {
        let line = || Some(headers.get(b3::SINGLE)?.as_bytes().trim_ascii());
        let reads_b3 = formats.b3 || formats.b3_multi;
        let single = || reads_b3.then(|| b3::single(line()?)).flatten();
        let several = || reads_b3.then(|| b3::several(headers)).flatten();
        let w3c = || {
            formats
                .trace_context
                .then(|| w3c::trace_parent(headers))
                .flatten()
        };
        let jaeger = || formats.jaeger.then(|| jaeger::parent(headers)).flatten();
        let parent = single().or_else(several).or_else(w3c).or_else(jaeger);
        let state = || reads_b3.then(|| b3::state(line()?)).flatten();
        let states = || reads_b3.then(|| b3::states(headers)).flatten();
        let decision = || {
            let b3::State { sampled, debug } = state().or_else(states)?;
            Some(ClientContext::Decision { sampled, debug })
        };
        parent.map(ClientContext::Parent).or_else(decision)
    }
}

impl Outbound<'_> {
    /// The value of `traceparent` (W3C Trace Context §3.2).
    fn trace_parent(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        push_hex(&self.trace.0, &mut text[3..35]);
        push_hex(&self.span.0, &mut text[36..52]);
        text[54] += u8::from(self.sampled) | u8::from(self.random) << 1;
        text
    }

    /// Calls `set` with each header to write: its name, its name as in HTTP/1, and its value. Each replaces the client's
    /// header with the same name. No value removes it.
    pub(crate) fn each(&self, mut set: impl FnMut(HeaderName, &'static str, Option<&[u8]>)) {
        let formats = self.formats;
        if formats.trace_context {
            set(w3c::TRACEPARENT, "Traceparent", Some(&self.trace_parent()));
            let state = self.state.map(HeaderValue::as_bytes);
            set(w3c::TRACESTATE, "Tracestate", state);
        }
        let debug = self.sampled && self.debug;
        let sampled = if self.sampled { "1" } else { "0" };
        if formats.b3 {
            let state = if debug { "d" } else { sampled };
            let single = format!("{}-{}-{state}", self.trace, self.span);
            set(b3::SINGLE, "B3", Some(single.as_bytes()));
        }
        if formats.b3_multi {
            let (trace, span) = (self.trace.to_string(), self.span.to_string());
            set(b3::TRACE, "X-B3-Traceid", Some(trace.as_bytes()));
            set(b3::SPAN, "X-B3-Spanid", Some(span.as_bytes()));
            // Debug includes sampling, and is sent in its place.
            let sampled = (!debug).then_some(sampled.as_bytes());
            set(b3::SAMPLED, "X-B3-Sampled", sampled);
            set(b3::FLAGS, "X-B3-Flags", debug.then_some(b"1"));
            // It concerns the client's own span.
            set(b3::PARENT, "X-B3-Parentspanid", None);
        }
        if formats.jaeger {
            let flags = if debug { "3" } else { sampled };
            let value = format!("{}:{}:0:{flags}", self.trace, self.span);
            set(jaeger::HEADER, "Uber-Trace-Id", Some(value.as_bytes()));
        }
        if let (true, Some(baggage)) = (formats.baggage, self.baggage) {
            set(w3c::BAGGAGE, "Baggage", Some(baggage.as_bytes()));
        }
    }

    /// Whether a header with this name is replaced or removed.
    pub(crate) fn replaces(&self, name: &HeaderName) -> bool {
        const SEVERAL: [HeaderName; 5] = [b3::TRACE, b3::SPAN, b3::PARENT, b3::SAMPLED, b3::FLAGS];
        let formats = self.formats;
        formats.trace_context && (*name == w3c::TRACEPARENT || *name == w3c::TRACESTATE)
            || formats.b3 && *name == b3::SINGLE
            || formats.b3_multi && SEVERAL.contains(name)
            || formats.jaeger && *name == jaeger::HEADER
            || formats.baggage && self.baggage.is_some() && *name == w3c::BAGGAGE
    }
}

#[cfg(test)]
mod tests;
