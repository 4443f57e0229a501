//! The trace context in headers: W3C Trace Context (level 2), W3C Baggage, B3.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::ids::{SpanId, TraceId};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub(crate) const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// The maximum number of members of `tracestate` (W3C Trace Context §3.3.1.1), and their size. The standard requires
/// at least 512 bytes.
const MOST_MEMBERS: usize = 32;
const MOST_STATE_BYTES: usize = 4096;
/// The same for `baggage` (W3C Baggage §3.3.2).
const MOST_BAGGAGE_MEMBERS: usize = 64;
const MOST_BAGGAGE_BYTES: usize = 8192;

/// The headers that are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    pub trace_context: bool,
    /// The single header `b3`.
    pub b3: bool,
    /// The headers `X-B3-…`.
    pub b3_multi: bool,
    pub baggage: bool,
}

impl Default for Formats {
    fn default() -> Formats {
        Formats {
            trace_context: true,
            b3: false,
            b3_multi: false,
            baggage: false,
        }
    }
}

impl Formats {
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
    pub sampled: bool,
    /// The id of the trace is random (W3C Trace Context level 2 §3.2.2.5.2).
    pub random: bool,
    pub state: Option<HeaderValue>,
}

/// The context for a backend.
#[derive(Debug)]
pub(crate) struct Outbound<'a> {
    pub trace: TraceId,
    pub span: SpanId,
    pub sampled: bool,
    pub random: bool,
    pub state: Option<&'a HeaderValue>,
    pub baggage: Option<&'a HeaderValue>,
}

impl Parent {
    /// Reads the first format that is present. Malformed headers are ignored.
    pub(crate) fn read(headers: &HeaderMap, formats: Formats) -> Option<Parent> {
        let w3c = || trace_parent(headers);
        let single = || b3(headers.get(B3)?.as_bytes());
        let multi = || b3_multi(headers);
        let single = formats.b3.then(single).flatten();
        single
            .or_else(|| formats.b3_multi.then(multi).flatten())
            .or_else(|| formats.trace_context.then(w3c).flatten())
    }
}

fn trace_parent(headers: &HeaderMap) -> Option<Parent> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let line = lines.next()?.as_bytes();
    if lines.next().is_some() {
        return None;
    }
    let (trace, span, flags) = fields(line.trim_ascii())?;
    Some(Parent {
        trace,
        span,
        sampled: flags & 1 == 1,
        random: flags & 2 == 2,
        state: trace_state(headers),
    })
}

/// `00-<trace>-<span>-<flags>`. A higher version may have more fields after that.
fn fields(line: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let (fixed, rest) = line.split_at_checked(55)?;
    let dashes = [2, 35, 52].iter().all(|at| fixed.get(*at) == Some(&b'-'));
    let version = byte(fixed.get(..2)?)?;
    let fits = match version {
        0xff => false,
        0 => rest.is_empty(),
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    if !dashes || !fits {
        return None;
    }
    let trace = TraceId::parse(fixed.get(3..35)?)?;
    let span = SpanId::parse(fixed.get(36..52)?)?;
    Some((trace, span, byte(fixed.get(53..55)?)?))
}

fn byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    match digits {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// The members of all lines, in order. An excess is removed from the right.
fn trace_state(headers: &HeaderMap) -> Option<HeaderValue> {
    joined(headers, &TRACESTATE, MOST_MEMBERS, MOST_STATE_BYTES)
}

/// The client's `baggage`, joined and limited.
pub(crate) fn baggage(headers: &HeaderMap) -> Option<HeaderValue> {
    joined(headers, &BAGGAGE, MOST_BAGGAGE_MEMBERS, MOST_BAGGAGE_BYTES)
}

fn joined(
    headers: &HeaderMap,
    name: &HeaderName,
    most_members: usize,
    most_bytes: usize,
) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    let members = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b',').count();
    let short = first.len() <= most_bytes && members(first) <= most_members;
    if short && lines.next().is_none() && !first.is_empty() {
        return Some(first.clone());
    }
    let mut out = Vec::new();
    let lines = headers.get_all(name).iter();
    let all = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let all = all
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty());
    for member in all.take(most_members) {
        if out.len() + member.len() + 1 > most_bytes {
            break;
        }
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(member);
    }
    (!out.is_empty())
        .then(|| HeaderValue::from_bytes(&out).ok())
        .flatten()
}

/// `<trace>-<span>[-<sampled>[-<parent>]]`. A sampling state alone is not a context.
fn b3(line: &[u8]) -> Option<Parent> {
    let mut parts = line.trim_ascii().split(|byte| *byte == b'-');
    let trace = b3_trace(parts.next()?)?;
    let span = SpanId::parse(parts.next()?)?;
    let sampled = matches!(parts.next(), Some(b"1" | b"d"));
    Some(Parent {
        trace,
        span,
        sampled,
        random: false,
        state: None,
    })
}

fn b3_multi(headers: &HeaderMap) -> Option<Parent> {
    let lower = |name: &HeaderName| Some(headers.get(name)?.as_bytes().to_ascii_lowercase());
    let is = |name: &HeaderName, wanted: &[u8]| {
        let value = headers.get(name).map(HeaderValue::as_bytes);
        value.is_some_and(|value| value.eq_ignore_ascii_case(wanted))
    };
    Some(Parent {
        trace: b3_trace(&lower(&B3_TRACE)?)?,
        span: SpanId::parse(&lower(&B3_SPAN)?)?,
        sampled: is(&B3_SAMPLED, b"1") || is(&B3_SAMPLED, b"true") || is(&B3_FLAGS, b"1"),
        random: false,
        state: None,
    })
}

/// A short id is padded with zeros on the left.
fn b3_trace(digits: &[u8]) -> Option<TraceId> {
    if digits.len() == 16 {
        let whole = [&[b'0'; 16][..], digits].concat();
        return TraceId::parse(&whole);
    }
    TraceId::parse(digits)
}

/// A header that replaces the client's header with the same name. No value removes it.
pub(crate) type Field = (HeaderName, &'static str, Option<HeaderValue>);

impl Outbound<'_> {
    /// The value of `traceparent` (W3C Trace Context §3.2).
    fn trace_parent(&self) -> Option<HeaderValue> {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex::encode_to_slice(self.trace.0, &mut text[3..35]).ok()?;
        hex::encode_to_slice(self.span.0, &mut text[36..52]).ok()?;
        text[54] += u8::from(self.sampled) | u8::from(self.random) << 1;
        HeaderValue::from_bytes(&text).ok()
    }

    /// The headers to write, with their names as in HTTP/1.
    pub(crate) fn fields(&self, formats: Formats) -> smallvec::SmallVec<[Field; 4]> {
        let mut fields = smallvec::SmallVec::new();
        let value = |text: String| HeaderValue::try_from(text).ok();
        if formats.trace_context {
            fields.push((TRACEPARENT, "Traceparent", self.trace_parent()));
            fields.push((TRACESTATE, "Tracestate", self.state.cloned()));
        }
        let sampled = u8::from(self.sampled);
        if formats.b3 {
            let single = value(format!("{}-{}-{sampled}", self.trace, self.span));
            fields.push((B3, "B3", single));
        }
        if formats.b3_multi {
            fields.push((B3_TRACE, "X-B3-Traceid", value(self.trace.to_string())));
            fields.push((B3_SPAN, "X-B3-Spanid", value(self.span.to_string())));
            fields.push((B3_SAMPLED, "X-B3-Sampled", value(sampled.to_string())));
        }
        if let (true, Some(baggage)) = (formats.baggage, self.baggage) {
            fields.push((BAGGAGE, "Baggage", Some(baggage.clone())));
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn read(fields: &[(&'static str, &str)]) -> Option<Parent> {
        Parent::read(&headers(fields), Formats::default())
    }

    #[test]
    fn a_traceparent_is_read_and_written_back() {
        let parent = read(&[("traceparent", GOOD), ("tracestate", "a=1,b=2")]).unwrap();
        assert!(parent.sampled);
        assert_eq!(parent.state.as_ref().unwrap(), "a=1,b=2");
        let out = Outbound {
            trace: parent.trace,
            span: parent.span,
            sampled: parent.sampled,
            random: parent.random,
            state: parent.state.as_ref(),
            baggage: None,
        };
        let fields = out.fields(Formats::default());
        assert_eq!(fields[0].2.as_ref().unwrap(), GOOD);
        assert_eq!(fields[1].2.as_ref().unwrap(), "a=1,b=2");
    }

    #[test]
    fn malformed_headers_are_ignored() {
        for bad in [
            "garbage",
            "",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c+b7ad6b7169203331-01",
        ] {
            assert_eq!(
                read(&[("traceparent", bad), ("tracestate", "a=1")]),
                None,
                "{bad}"
            );
        }
        assert_eq!(read(&[("traceparent", GOOD), ("traceparent", GOOD)]), None);
        assert_eq!(read(&[("tracestate", "a=1")]), None);
    }

    #[test]
    fn a_higher_version_is_read_by_position() {
        let more = GOOD.replacen("00", "01", 1) + "-what-the-future-brings";
        assert!(read(&[("traceparent", &more)]).unwrap().sampled);
        let glued = GOOD.replacen("00", "01", 1) + "x";
        assert_eq!(read(&[("traceparent", &glued)]), None);
    }

    #[test]
    fn the_lines_of_a_tracestate_are_joined_and_limited() {
        let many: Vec<String> = (0..40).map(|n| format!("k{n}=1")).collect();
        let parent = read(&[("traceparent", GOOD), ("tracestate", &many.join(","))]).unwrap();
        let kept = parent.state.unwrap();
        assert_eq!(kept.to_str().unwrap().split(',').count(), MOST_MEMBERS);
        let two = [
            ("traceparent", GOOD),
            ("tracestate", "a=1, b=2"),
            ("tracestate", "c=3"),
        ];
        assert_eq!(read(&two).unwrap().state.unwrap(), "a=1,b=2,c=3");
        let long = "x".repeat(MOST_STATE_BYTES);
        let two = [
            ("traceparent", GOOD),
            ("tracestate", "a=1"),
            ("tracestate", &long),
        ];
        assert_eq!(read(&two).unwrap().state.unwrap(), "a=1");
    }

    #[test]
    fn b3_is_read_in_both_forms() {
        let formats = Formats::parse(["b3", "b3multi"].into_iter()).unwrap();
        let single = headers(&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1")]);
        let several = headers(&[
            ("x-b3-traceid", "80F198EE56343BA864FE8B2A57D3EFF7"),
            ("x-b3-spanid", "e457b5a2e4d86bd1"),
            ("x-b3-sampled", "1"),
        ]);
        let single = Parent::read(&single, formats).unwrap();
        assert_eq!(Parent::read(&several, formats).unwrap(), single);
        let short = headers(&[("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1-0")]);
        let short = Parent::read(&short, formats).unwrap();
        assert_eq!(short.trace.to_string(), "000000000000000064fe8b2a57d3eff7");
        assert!(!short.sampled);
        assert_eq!(Parent::read(&headers(&[("b3", "0")]), formats), None);
        assert_eq!(Formats::parse(["xray"].into_iter()), Err("xray"));
    }
}
