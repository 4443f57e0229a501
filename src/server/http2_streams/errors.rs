//! The errors that an HTTP/2 client is told, read from the frames that are sent.
//!
//! The library that speaks HTTP/2 resets streams and ends connections by itself, and does not report it.

use std::sync::Arc;

use pingora_core::protocols::SocketDigest;
use smallvec::SmallVec;

use crate::telemetry::metrics::Metrics;
use crate::upstream::http2_frame::{END_STREAM, FrameHead, GOAWAY, HEADERS, RST_STREAM};

/// The bytes of a payload that are read: the last stream, the code, and the library's reason.
const MOST: usize = 64;
/// `:status: 400` and nothing else (RFC 7541 appendix A). A response of the gateway also has a date.
const BARE_400: &[u8] = &[0x80 | 12];
/// The errors of RFC 9113 §7 by their codes, as labels of the metric. The label of a code that is not an error of the
/// client is empty: no error, an internal error, a cancelled stream.
const REASONS: [&str; 14] = [
    "",
    "h2_protocol_error",
    "",
    "h2_flow_control_error",
    "h2_settings_timeout",
    "h2_stream_closed",
    "h2_frame_size_error",
    "h2_refused_stream",
    "",
    "h2_compression_error",
    "h2_connect_error",
    "h2_enhance_your_calm",
    "h2_inadequate_security",
    "h2_http_1_1_required",
];
/// The library's own response to a request whose target or authority is invalid.
const MALFORMED: &str = "h2_malformed";

/// The bits of errors without a code.
const BARE: u16 = 0;
const SLOW: u16 = 15;

/// Counts and logs the errors of one connection.
#[derive(Debug)]
pub(in crate::server) struct ErrorFrames {
    metrics: Arc<Metrics>,
    socket: Option<Arc<SocketDigest>>,
    /// The kind of the current frame, if it may be an error.
    kind: u8,
    /// The number of bytes of its payload that are read. 0 for all other frames.
    wanted: usize,
    payload: SmallVec<[u8; 16]>,
    /// A bit for each reason that was logged. The client decides how often it causes one.
    logged: u16,
}

impl ErrorFrames {
    pub(in crate::server) fn new(
        metrics: Arc<Metrics>,
        socket: Option<Arc<SocketDigest>>,
    ) -> ErrorFrames {
        ErrorFrames {
            metrics,
            socket,
            kind: 0,
            wanted: 0,
            payload: SmallVec::new(),
            logged: 0,
        }
    }

    /// A frame begins.
    pub(super) fn begin(&mut self, frame: FrameHead) {
        self.payload.clear();
        self.kind = frame.kind;
        self.wanted = match frame.kind {
            RST_STREAM | GOAWAY => frame.length.min(MOST),
            HEADERS if frame.flags & END_STREAM != 0 && frame.length == BARE_400.len() => {
                frame.length
            }
            _ => 0,
        };
    }

    /// Bytes of its payload.
    pub(super) fn payload(&mut self, bytes: &[u8]) {
        if self.wanted == 0 {
            return;
        }
        let missing = self.wanted - self.payload.len();
        let new = bytes.get(..missing).unwrap_or(bytes);
        self.payload.extend_from_slice(new);
        if self.payload.len() == self.wanted {
            self.wanted = 0;
            self.judge();
        }
    }

    /// The client took too long for a head: its connection is closed.
    pub(super) fn slow_head(&mut self) {
        let reason = "slow_head";
        self.report(SLOW, reason, |peer| {
            format!("closed the HTTP/2 connection of {peer}: {reason}")
        });
    }

    fn judge(&mut self) {
        match self.kind {
            HEADERS if *self.payload == *BARE_400 => {
                self.report(BARE, MALFORMED, |peer| {
                    format!("rejected a request from {peer}: {MALFORMED}")
                });
            }
            RST_STREAM => {
                let Some((code, reason)) = reason(&self.payload) else {
                    return;
                };
                self.report(code, reason, |peer| {
                    format!("reset a stream of the HTTP/2 connection of {peer}: {reason}")
                });
            }
            GOAWAY => {
                let Some((code, reason)) = self.payload.get(4..).and_then(reason) else {
                    return;
                };
                let why = self.payload.get(8..).unwrap_or_default().escape_ascii();
                let why = why.to_string();
                // Every stream before it may have had the same reason.
                self.logged &= !(1 << code);
                self.report(code, reason, |peer| {
                    format!("ended the HTTP/2 connection of {peer}: {reason} {why}")
                });
            }
            _ => {}
        }
    }

    fn report(&mut self, bit: u16, reason: &'static str, text: impl FnOnce(&str) -> String) {
        self.metrics.bad_request(reason);
        if self.logged & (1 << bit) != 0 {
            return;
        }
        self.logged |= 1 << bit;
        let peer = self.socket.as_ref().and_then(|socket| socket.peer_addr());
        let peer = peer.map(ToString::to_string).unwrap_or_default();
        log::info!("[SERVICE: Gateway] {}", text(&peer).trim_end());
    }
}

/// The code at the beginning of `bytes`, and its label.
fn reason(bytes: &[u8]) -> Option<(u16, &'static str)> {
    let code = u32::from_be_bytes(*bytes.first_chunk()?);
    let reason = REASONS.get(usize::try_from(code).ok()?)?;
    let code = u16::try_from(code).ok()?;
    (!reason.is_empty()).then_some((code, *reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::http2_streams::Streams;
    use crate::upstream::http2_frame::{DATA, END_HEADERS, frame};

    /// What the metric counts after these bytes were sent, `size` at a time.
    fn counted(sent: &[u8], size: usize) -> Vec<(&'static str, u64)> {
        let metrics = Metrics::new();
        let mut streams = Streams::new(ErrorFrames::new(Arc::clone(&metrics), None));
        sent.chunks(size).for_each(|part| streams.send(part));
        let page = String::from_utf8(metrics.page()).unwrap();
        let reasons = REASONS.into_iter().chain([MALFORMED]);
        let count = |reason: &str| {
            let line = format!("portcullis_http_bad_requests_total{{reason=\"{reason}\"}} ");
            let value = page.lines().find_map(|found| found.strip_prefix(&*line));
            value.map_or(0, |value| value.parse().unwrap())
        };
        reasons
            .filter(|reason| !reason.is_empty())
            .map(|reason| (reason, count(reason)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    #[test]
    fn errors_are_counted_by_their_reason_however_the_bytes_are_split() {
        let reset = |code: u32| frame(RST_STREAM, 0, 1, &code.to_be_bytes());
        let sent = [
            frame(4, 0, 0, &[0; 6]),
            // No error, an internal error, a cancelled stream.
            reset(0),
            reset(2),
            reset(8),
            reset(1),
            reset(1),
            reset(7),
            reset(1000),
            frame(HEADERS, END_HEADERS | END_STREAM, 3, BARE_400),
            frame(HEADERS, END_HEADERS | END_STREAM, 5, &[0x8c, 0xbe]),
            frame(HEADERS, END_HEADERS, 7, BARE_400),
            frame(DATA, END_STREAM, 7, BARE_400),
            frame(GOAWAY, 0, 0, &[0; 8]),
            frame(
                GOAWAY,
                0,
                0,
                &[&[0, 0, 0, 9, 0, 0, 0, 11][..], &[b'x'; 90]].concat(),
            ),
            // Not complete.
            reset(1)[..12].to_vec(),
        ]
        .concat();
        for size in [1, 3, 9, 10, 1000] {
            let found = counted(&sent, size);
            let want = [
                ("h2_protocol_error", 2),
                ("h2_refused_stream", 1),
                ("h2_enhance_your_calm", 1),
                (MALFORMED, 1),
            ];
            assert_eq!(found, want, "{size} bytes at a time");
        }
    }
}
