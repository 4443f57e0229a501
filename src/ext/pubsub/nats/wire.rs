//! The client protocol of NATS: lines of commands, some of them followed by a payload.
//!
//! The payload of a message is collected within a limit and the budget of the process. What is beyond it is skipped while
//! it arrives. A line is never longer than [`MAX_LINE`].

use std::fmt;

use bytes::{Buf as _, Bytes};
use serde::Deserialize;
use tokio::io::AsyncRead;

use super::address::Credentials;
use crate::ext::broker::Input;
use crate::upstream::budget::Budget;
use crate::upstream::collect::{Collector, Overflow};

/// The most bytes of a message that is sent, with its headers: the largest `max_payload` that a server can have.
const MAX_BYTES: usize = 64 << 20;
/// The most bytes of a line. `INFO` has the addresses of all servers.
const MAX_LINE: usize = 64 << 10;
/// How much is read at once at least.
const READ: usize = 16 << 10;
/// `max_payload` of a server that names none.
const USUAL_PAYLOAD: usize = 1 << 20;

/// The content of `INFO`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Info {
    #[serde(default)]
    max_payload: i64,
    #[serde(default)]
    pub(super) headers: bool,
    #[serde(default)]
    pub(super) tls_required: bool,
    #[serde(default)]
    pub(super) tls_available: bool,
    /// The server is about to stop ("lame duck mode").
    #[serde(default)]
    pub(super) ldm: bool,
}

impl Info {
    /// The most bytes of a message with its headers that the server takes.
    pub(super) fn max_payload(&self) -> usize {
        match usize::try_from(self.max_payload) {
            Ok(0) => USUAL_PAYLOAD,
            // A negative number means that there is no limit.
            Err(_) => MAX_BYTES,
            Ok(most) => most.min(MAX_BYTES),
        }
    }
}

/// A message of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// The number of the subscription.
    pub(super) subscription: u64,
    /// The block of headers as it was sent.
    pub(super) headers: Option<Bytes>,
    pub(super) body: Bytes,
}

impl Message {
    pub(super) fn bytes(&self) -> usize {
        self.body.len() + self.headers.as_ref().map_or(0, Bytes::len)
    }
}

/// What a server sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Info(Info),
    Message(Message),
    /// The body of a message is not kept.
    Unkept {
        subscription: u64,
        bytes: usize,
        why: Overflow,
    },
    Ping,
    Pong,
    Ok,
    Error(Complaint),
}

/// What the server says is wrong.
#[derive(PartialEq, Eq)]
pub(super) struct Complaint {
    /// As it came. It may repeat credentials.
    pub(super) text: String,
    /// For people.
    pub(super) shown: String,
}

impl fmt::Debug for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// A message whose line was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Announced {
    subscription: u64,
    headers: Option<usize>,
    whole: usize,
}

/// Reads frames from a stream.
pub(super) struct Reader<S> {
    input: Input<S>,
    /// The most bytes of a message with its headers.
    most: u64,
    /// The message whose payload is next.
    arriving: Option<Arriving>,
    /// Bytes of a message that is not kept.
    skipped: usize,
    /// What the server was told, and what its errors must not repeat.
    told: Credentials,
}

struct Arriving {
    announced: Announced,
    /// The bytes that have not arrived yet.
    left: usize,
    payload: Collector,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    /// `most` is the most bytes of a message with its headers.
    pub(super) fn new(stream: S, most: u64) -> Reader<S> {
        Reader {
            input: Input::new(stream),
            most,
            arriving: None,
            skipped: 0,
            told: Credentials::default(),
        }
    }

    /// Errors of the server that may contain these credentials are no longer shown.
    pub(super) fn hide(&mut self, told: &Credentials) {
        self.told = told.clone();
    }

    /// Whether nothing was read beyond the last frame.
    pub(super) fn is_empty(&self) -> bool {
        self.input.buffer.is_empty()
    }

    /// The stream, if nothing was read beyond the last frame.
    ///
    /// # Errors
    /// The server has sent more before it was asked. Before TLS, anyone could have sent it.
    pub(super) fn into_stream(self) -> Result<S, String> {
        if self.is_empty() {
            Ok(self.input.into_stream())
        } else {
            Err("the server has sent data before TLS".to_owned())
        }
    }

    /// The stream, for writing.
    pub(super) fn stream(&mut self) -> &mut S {
        self.input.stream()
    }

    /// Divides the stream into a half that is read and one that is written.
    pub(super) fn split<R, W>(self, divide: impl FnOnce(S) -> (R, W)) -> (Reader<R>, W) {
        let (input, write) = self.input.split(divide);
        let reader = Reader {
            input,
            most: self.most,
            arriving: self.arriving,
            skipped: self.skipped,
            told: self.told,
        };
        (reader, write)
    }

    /// The next frame. If the caller stops waiting, nothing is lost.
    ///
    /// # Errors
    /// The connection is closed, or does not speak the protocol.
    pub(super) async fn next(&mut self) -> Result<Frame, String> {
        loop {
            if let Some(frame) = self.frame()? {
                return Ok(frame);
            }
            self.input.read(READ, "the server").await?;
        }
    }

    /// A frame that is in the buffer as a whole.
    fn frame(&mut self) -> Result<Option<Frame>, String> {
        loop {
            let skipped = self.skipped.min(self.input.buffer.len());
            self.input.buffer.advance(skipped);
            self.skipped -= skipped;
            if self.skipped > 0 {
                return Ok(None);
            }
            if let Some(arriving) = self.arriving.take() {
                return self.payload(arriving);
            }
            let Some(end) = memchr::memmem::find(&self.input.buffer, b"\r\n") else {
                if self.input.buffer.len() > MAX_LINE {
                    return Err("the server has sent a line that does not end".to_owned());
                }
                return Ok(None);
            };
            let line = self.input.buffer.split_to(end);
            self.input.buffer.advance(2);
            match read(&line)? {
                Line::Error(text) => {
                    let shown = self.told.said(&text);
                    return Ok(Some(Frame::Error(Complaint { text, shown })));
                }
                Line::Whole(frame) => return Ok(Some(frame)),
                Line::Message(announced) => {
                    let whole = announced.whole;
                    // A message that never has room is skipped from its start.
                    let most = self.most.min(Budget::process().limit());
                    if whole as u64 > most {
                        return Ok(Some(self.unkept(announced, whole, Overflow::TooLarge)));
                    }
                    self.arriving = Some(Arriving {
                        announced,
                        left: whole,
                        payload: Collector::new(whole, most, 1),
                    });
                }
            }
        }
    }

    /// Skips the rest of a message and its end.
    fn unkept(&mut self, announced: Announced, left: usize, why: Overflow) -> Frame {
        self.skipped = left.saturating_add(2);
        Frame::Unkept {
            subscription: announced.subscription,
            bytes: announced.whole,
            why,
        }
    }

    /// The next part of a message, and the message if this was the last one.
    fn payload(&mut self, mut arriving: Arriving) -> Result<Option<Frame>, String> {
        let Announced {
            subscription,
            headers,
            ..
        } = arriving.announced;
        let part = arriving.left.min(self.input.buffer.len());
        let part = self.input.buffer.split_to(part);
        arriving.left -= part.len();
        if let Err(why) = arriving.payload.push(&part) {
            return Ok(Some(self.unkept(arriving.announced, arriving.left, why)));
        }
        if arriving.left > 0 || self.input.buffer.len() < 2 {
            self.arriving = Some(arriving);
            return Ok(None);
        }
        if !self.input.buffer.starts_with(b"\r\n") {
            return Err("the server has sent a message of another size than announced".to_owned());
        }
        self.input.buffer.advance(2);
        let mut body = arriving.payload.done();
        // Not more than the whole, which was checked when the line was read.
        let headers = headers.map(|bytes| body.split_to(bytes.min(body.len())));
        Ok(Some(Frame::Message(Message {
            subscription,
            headers,
            body,
        })))
    }
}

/// A line of the server.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole(Frame),
    Error(String),
    Message(Announced),
}

/// Reads a line without its end.
fn read(line: &[u8]) -> Result<Line, String> {
    let blank = line.iter().position(|byte| matches!(byte, b' ' | b'\t'));
    let (verb, rest) = line.split_at(blank.unwrap_or(line.len()));
    let verb = verb.to_ascii_uppercase();
    let frame = match verb.as_slice() {
        b"MSG" => return announced(rest, false).map(Line::Message),
        b"HMSG" => return announced(rest, true).map(Line::Message),
        b"INFO" => {
            let info = serde_json::from_slice(rest);
            Frame::Info(
                info.map_err(|_| "the server has sent an INFO that is not JSON".to_owned())?,
            )
        }
        b"PING" => Frame::Ping,
        b"PONG" => Frame::Pong,
        b"+OK" => Frame::Ok,
        b"-ERR" => {
            let text = String::from_utf8_lossy(rest);
            return Ok(Line::Error(text.trim().trim_matches('\'').to_owned()));
        }
        _ => return Err("the server does not speak the protocol of NATS".to_owned()),
    };
    Ok(Line::Whole(frame))
}

/// `subject number [reply] size`, and for messages with headers `subject number [reply] size-of-headers size`.
fn announced(rest: &[u8], has_headers: bool) -> Result<Announced, String> {
    let unclear = || "the server has sent a message without its size".to_owned();
    let words = rest.split(|byte| matches!(byte, b' ' | b'\t'));
    let words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).take(6).collect();
    let number = |word: &[u8]| -> Option<u64> { std::str::from_utf8(word).ok()?.parse().ok() };
    let size = |word: &[u8]| number(word).map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    let (subscription, sizes) = match (words.as_slice(), has_headers) {
        ([_, subscription, sizes @ ..], false) if (1..=2).contains(&sizes.len()) => {
            (subscription, sizes)
        }
        ([_, subscription, sizes @ ..], true) if (2..=3).contains(&sizes.len()) => {
            (subscription, sizes)
        }
        _ => return Err(unclear()),
    };
    let whole = sizes
        .last()
        .and_then(|word| size(word))
        .ok_or_else(unclear)?;
    let headers = match (has_headers, sizes) {
        (true, [.., headers, _]) => Some(size(headers).filter(|most| *most <= whole)),
        _ => None,
    };
    Ok(Announced {
        subscription: number(subscription).ok_or_else(unclear)?,
        headers: headers.map(|size| size.ok_or_else(unclear)).transpose()?,
        whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames of these bytes, which arrive in pieces of `step`.
    async fn frames(bytes: &[u8], step: usize) -> (Vec<Frame>, String) {
        let mut stream = tokio_stream(bytes, step);
        let mut reader = Reader::new(&mut stream, MAX_BYTES as u64);
        let mut frames = Vec::new();
        loop {
            match reader.next().await {
                Ok(frame) => frames.push(frame),
                Err(why) => return (frames, why),
            }
        }
    }

    /// A stream that ends after these bytes.
    fn tokio_stream(bytes: &[u8], step: usize) -> tokio::io::DuplexStream {
        let (mut far, near) = tokio::io::duplex(step);
        let bytes = bytes.to_vec();
        tokio::spawn(async move {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut far, &bytes).await;
        });
        near
    }

    fn message(headers: Option<&'static str>, body: &'static str) -> Frame {
        Frame::Message(Message {
            subscription: 7,
            headers: headers.map(|text| Bytes::from_static(text.as_bytes())),
            body: Bytes::from_static(body.as_bytes()),
        })
    }

    #[tokio::test]
    async fn frames_are_read_in_pieces_of_any_size() {
        let bytes = b"INFO {\"max_payload\":100,\"headers\":true}\r\nPING\r\nPONG\r\n+OK\r\n\
            MSG a.b 7 5\r\na\r\nbc\r\nmsg\ta 7 reply 0\r\n\r\n-ERR 'Stale Connection'\r\n\
            HMSG a 7 12 14\r\nNATS/1.0\r\n\r\n{}\r\nHMSG a 7 r 12 12\r\nGARBAGE!\xff\xff\r\n\r\n";
        for step in [1, 3, 1000] {
            let (read, why) = frames(bytes, step).await;
            assert_eq!(read.len(), 9, "{read:?} {why}");
            let Frame::Info(info) = &read[0] else {
                panic!("{read:?}")
            };
            assert_eq!((info.max_payload(), info.headers), (100, true));
            assert_eq!(read[1..4], [Frame::Ping, Frame::Pong, Frame::Ok]);
            assert_eq!(read[4..6], [message(None, "a\r\nbc"), message(None, "")]);
            assert!(matches!(&read[6], Frame::Error(why) if why.shown == "Stale Connection"));
            assert_eq!(read[7], message(Some("NATS/1.0\r\n\r\n"), "{}"));
            // The bytes of headers are not checked here.
            assert!(matches!(&read[8], Frame::Message(message) if message.body.is_empty()));
            assert_eq!(why, "the server closed the connection");
        }
    }

    #[tokio::test]
    async fn credentials_that_a_server_repeats_are_hidden() {
        let mut stream = tokio_stream(b"-ERR 'no {\"pass\":\"p\\\"w\"} p\"w t0k'\r\n", 100);
        let mut reader = Reader::new(&mut stream, MAX_BYTES as u64);
        reader.hide(&Credentials {
            user: None,
            password: Some("p\"w".to_owned()),
            token: Some("t0k".to_owned()),
        });
        let Ok(Frame::Error(why)) = reader.next().await else {
            panic!("no error");
        };
        assert!(why.shown.contains("is not shown"), "{why:?}");
        assert!(why.text.starts_with("no ") && format!("{why:?}") == why.shown);
    }

    #[tokio::test]
    async fn bytes_that_are_not_nats_end_the_connection() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"MSG a 7\r\n",
            b"MSG a 7 b c d\r\n",
            b"MSG a x 1\r\n",
            b"MSG a 7 -1\r\n",
            b"HMSG a 7 5\r\n",
            b"HMSG a 7 5 4\r\n",
            b"MSG a 7 1\r\nabc\r\n",
            b"INFO x\r\n",
            b"\r\n",
        ] {
            let (read, why) = frames(bytes, 1000).await;
            assert!(
                read.is_empty() && why.contains("the server"),
                "{read:?} {why}"
            );
            assert_ne!(why, "the server closed the connection", "{bytes:?}");
        }
        let (_, why) = frames(&vec![b'x'; MAX_LINE + 10], 1 << 16).await;
        assert!(why.contains("a line that does not end"), "{why}");
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_is_skipped() {
        let size = MAX_BYTES + 1;
        let mut bytes = format!("MSG a 7 {size}\r\n").into_bytes();
        bytes.resize(bytes.len() + size, b'x');
        bytes.extend(b"\r\nMSG a 7 1\r\ny\r\n");
        let (read, _) = frames(&bytes, 1 << 20).await;
        assert_eq!(
            read,
            [
                Frame::Unkept {
                    subscription: 7,
                    bytes: size,
                    why: Overflow::TooLarge
                },
                message(None, "y")
            ]
        );
    }
}
