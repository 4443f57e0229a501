//! Lines as KrakenD writes them.

use std::borrow::Cow;
use std::time::Duration;

use super::{AccessEvent, Query};
use crate::telemetry::mask::masked_path;
use crate::telemetry::sanitize::{
    align_right, masked_text, push_address, push_escaped, push_query, push_quoted,
};
use crate::telemetry::timestamp::{cut_latency, push_gin_date, push_go_duration};

/// Exactly as `[GIN] %v |%s %3d %s|%s %8v %s| %15s |%s %-7s %s %#v\n` prints it without colours.
pub(super) fn push_gin(event: &AccessEvent<'_>, query: Query, out: &mut Vec<u8>) {
    out.extend_from_slice(b"[GIN] ");
    push_gin_date(event.since_1970, out);
    out.extend_from_slice(b" | ");
    let mut status = itoa::Buffer::new();
    push_right(status.format(event.status).as_bytes(), 3, out);
    out.extend_from_slice(b" | ");
    push_latency(event.latency, out);
    out.extend_from_slice(b" | ");
    let start = out.len();
    push_address(event.client, out);
    align_right(start, 15, out.len() - start, out);
    out.extend_from_slice(b" | ");
    let start = out.len();
    push_escaped(event.method, out);
    let blanks = 7usize.saturating_sub(out.len() - start);
    out.extend(std::iter::repeat_n(b' ', blanks));
    out.extend_from_slice(b"  ");
    push_target(event, query, out);
    out.push(b'\n');
    for (index, error) in event.errors.iter().enumerate() {
        out.extend_from_slice(format!("Error #{:02}: ", index + 1).as_bytes());
        push_escaped(&masked_text(error), out);
        out.push(b'\n');
    }
}

fn push_latency(latency: Duration, out: &mut Vec<u8>) {
    let start = out.len();
    push_go_duration(cut_latency(latency), out);
    // `µ` is two bytes but one column.
    let bytes = out.get(start..).unwrap_or_default();
    let columns = bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
    align_right(start, 8, columns, out);
}

fn push_right(text: &[u8], width: usize, out: &mut Vec<u8>) {
    out.extend(std::iter::repeat_n(b' ', width.saturating_sub(text.len())));
    out.extend_from_slice(text);
}

/// The decoded path and the raw query, quoted as in Go.
fn push_target(event: &AccessEvent<'_>, query: Query, out: &mut Vec<u8>) {
    let path = masked_path(event.path);
    let mut target: Cow<'_, [u8]> = match memchr::memchr(b'%', path.as_bytes()) {
        None => path.as_bytes().into(),
        Some(_) => percent_encoding::percent_decode_str(&path).into(),
    };
    if let (Some(raw), Query::Keep) = (event.query, query) {
        target.to_mut().push(b'?');
        push_query(raw, target.to_mut());
    }
    push_quoted(&target, out);
}
