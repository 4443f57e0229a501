//! The client against a broker in memory, which says anything.

use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::super::publish::Unconfirmed;
use super::codec::put_long;
use super::frame::{BODY, Frame, HEARTBEAT};
use super::*;
use crate::upstream::collect::Overflow;
use crate::upstream::race::tests::two_listeners;

const LIMIT: Duration = Duration::from_secs(20);

/// The broker's side of a connection.
struct Far {
    reader: Reader<DuplexStream>,
}

impl Far {
    async fn say(&mut self, bytes: &[u8]) {
        self.reader.stream().write_all(bytes).await.unwrap();
    }

    /// The next frame that is no heartbeat.
    async fn hears(&mut self) -> Frame {
        loop {
            let frame = timeout(LIMIT, self.reader.next()).await.unwrap().unwrap();
            if frame.kind != HEARTBEAT {
                return frame;
            }
        }
    }

    /// Waits for a method, and answers it.
    async fn answers(&mut self, expected: Method, answer: Method, arguments: &[u8]) -> u16 {
        let frame = self.hears().await;
        let mut from = Cursor::new(&frame.payload);
        assert_eq!((from.u16(), from.u16()), (Ok(expected.0), Ok(expected.1)));
        let bytes = method(frame.channel, answer, |out| out.extend(arguments));
        self.say(&bytes).await;
        frame.channel
    }

    /// The frames of a delivery, with a body of these pieces.
    async fn delivers(&mut self, channel: u16, tag: u64, size: u64, pieces: &[&[u8]]) {
        let mut bytes = deliver(channel, tag);
        bytes.extend(header(channel, size));
        for piece in pieces {
            bytes.extend(frame(BODY, channel, |out| out.extend_from_slice(piece)));
        }
        self.say(&bytes).await;
    }
}

fn deliver(channel: u16, tag: u64) -> Vec<u8> {
    method(channel, methods::DELIVER, |out| {
        put_short(out, "consumer");
        out.extend(tag.to_be_bytes());
        out.push(0);
        out.extend([0, 0]);
    })
}

fn header(channel: u16, size: u64) -> Vec<u8> {
    frame(HEADER, channel, |out| {
        out.extend([0, 60, 0, 0]);
        out.extend(size.to_be_bytes());
        out.extend([0, 0]);
    })
}

fn broker(port: u16) -> Arc<Broker> {
    let url = format!("amqp://u:geheim@127.0.0.1:{port}?connection_timeout=5000");
    Arc::new(Broker::parse(&url).unwrap())
}

fn connection() -> (Opened<Client>, Far) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let tuned = Tuned {
        channels: 10,
        frame_max: 4096,
        heartbeat: Duration::from_secs(10),
    };
    let opened = start(
        Reader::new(Box::new(near), 4096, Duration::from_secs(20)),
        tuned,
        broker(1),
    );
    let reader = Reader::new(far, 4096, LIMIT);
    (opened, Far { reader })
}

/// A channel for messages of at most `most` bytes, two at a time.
async fn taking(client: &Client, far: &mut Far, most: u64) -> (Channel, mpsc::Receiver<Delivery>) {
    let (sink, messages) = mpsc::channel(2);
    let role = Role::Takes { sink, most };
    let (channel, _) = tokio::join!(
        client.channel(role),
        far.answers(methods::CHANNEL_OPEN, methods::CHANNEL_OPEN_OK, &[0; 4])
    );
    (channel.unwrap(), messages)
}

#[tokio::test]
async fn a_message_that_is_too_large_is_skipped_and_others_arrive() {
    let (opened, mut far) = connection();
    let (channel, mut messages) = taking(&opened.client, &mut far, 10).await;
    far.delivers(1, 1, 5, &[b"ab", b"", b"cde"]).await;
    let size = 100 * 4000;
    let piece = [b'x'; 4000];
    far.delivers(1, 2, size, &[&piece]).await;
    let first = messages.recv().await.unwrap();
    assert_eq!((first.tag, first.body.as_deref()), (1, Ok(&b"abcde"[..])));
    for _ in 1..100 {
        let rest = frame(BODY, 1, |out| out.extend(piece));
        far.say(&rest).await;
    }
    far.delivers(1, 3, 0, &[]).await;
    let large = messages.recv().await.unwrap();
    assert_eq!((large.tag, large.bytes), (2, size));
    assert_eq!(large.body.unwrap_err(), Overflow::TooLarge);
    assert_eq!(messages.recv().await.unwrap().body.unwrap().len(), 0);
    channel.nack(2, false).await.unwrap();
    let frame = far.hears().await;
    assert_eq!(
        &frame.payload[..],
        b"\x00\x3c\x00\x78\x00\x00\x00\x00\x00\x00\x00\x02\x00"
    );
}

#[tokio::test]
async fn what_is_no_protocol_ends_the_connection() {
    let body = |bytes: &[u8]| frame(BODY, 1, |out| out.extend_from_slice(bytes));
    let both = |one: Vec<u8>, other: Vec<u8>| [one, other].concat();
    let three = (0..3).fold(Vec::new(), |mut all, tag| {
        all.extend(both(deliver(1, tag), header(1, 0)));
        all
    });
    for (bytes, words) in [
        (body(b"x"), "cannot be read"),
        (header(1, 1), "cannot be read"),
        (both(deliver(1, 1), body(b"x")), "cannot be read"),
        (both(deliver(1, 1), deliver(1, 2)), "cannot be read"),
        (
            [deliver(1, 1), header(1, 1), header(1, 1)].concat(),
            "cannot be read",
        ),
        (
            [deliver(1, 1), header(1, 1), body(b"xy")].concat(),
            "cannot be read",
        ),
        (
            method(1, methods::DELIVER, |out| out.extend([255, 0])),
            "cannot be read",
        ),
        (method(1, methods::QOS_OK, |_| {}), "method 60.11"),
        (method(1, (99, 99), |_| {}), "method 99.99"),
        (method(0, (99, 99), |_| {}), "method 99.99"),
        (frame(1, 1, |_| {}), "cannot be read"),
        (body(&[b'x'; 4089]), "more than agreed"),
        (three, "more messages than prefetch_count"),
        (b"GET / HTTP/1.1".to_vec(), "does not speak"),
        (
            method(0, methods::CLOSE, |out| {
                out.extend(320_u16.to_be_bytes());
                put_short(out, "over with \"geheim\"");
                out.extend([0; 4]);
            }),
            "320 its text is not shown",
        ),
    ] {
        let (opened, mut far) = connection();
        let (channel, _messages) = taking(&opened.client, &mut far, 10).await;
        far.say(&bytes).await;
        let why = timeout(LIMIT, opened.lost).await.unwrap().into_text();
        assert!(why.contains(words), "{words}: {why}");
        assert_eq!(channel.ended().await, why);
        assert!(channel.ack(1).await.is_err());
        let (sink, _messages) = mpsc::channel(1);
        let again = opened.client.channel(Role::Takes { sink, most: 1 }).await;
        assert_eq!(again.err(), Some(why));
    }
}

#[tokio::test]
async fn the_end_of_a_channel_has_a_reason_and_ends_no_other() {
    let (opened, mut far) = connection();
    let (first, mut messages) = taking(&opened.client, &mut far, 10).await;
    let (second, _) = taking(&opened.client, &mut far, 10).await;
    let declared = first.declare_queue("q", QueueFlags::default());
    let close = async {
        far.hears().await;
        let close = method(1, methods::CHANNEL_CLOSE, |out| {
            out.extend(406_u16.to_be_bytes());
            put_short(out, "different\r\n");
            out.extend([0; 4]);
        });
        far.say(&close).await;
        far.hears().await
    };
    let (declared, answer) = tokio::join!(declared, close);
    assert_eq!(declared.unwrap_err(), "406 different  ");
    assert_eq!(&answer.payload[..], b"\x00\x14\x00\x29");
    assert!(messages.recv().await.is_none());
    assert_eq!(second.reason(), None);
    // Its end is not told to the broker again.
    drop(first);
    let (third, _) = taking(&opened.client, &mut far, 10).await;
    // What is dropped is closed: the channels, and then the connection.
    drop((second, third));
    for _ in 0..2 {
        let frame = far.hears().await;
        assert_eq!(frame.payload[..4], *b"\x00\x14\x00\x28");
        // What the broker says meanwhile is ignored.
        far.delivers(frame.channel, 1, 1, &[b"x"]).await;
        let done = method(frame.channel, methods::CHANNEL_CLOSE_OK, |_| {});
        far.say(&done).await;
    }
    drop(opened.client);
    assert_eq!(far.hears().await.payload[..4], *b"\x00\x0a\x00\x32");
    far.say(&method(0, methods::CLOSE_OK, |_| {})).await;
    timeout(LIMIT, opened.lost).await.unwrap();
}

#[tokio::test]
async fn a_message_is_divided_into_frames_and_written_before_its_channel_closes() {
    let (opened, mut far) = connection();
    let unconfirmed = Arc::new(Mutex::new(Unconfirmed::new()));
    let role = Role::Sends(Arc::clone(&unconfirmed));
    let (channel, number) = tokio::join!(
        opened.client.channel(role),
        far.answers(methods::CHANNEL_OPEN, methods::CHANNEL_OPEN_OK, &[0; 4])
    );
    let body = Bytes::from(vec![b'x'; 5000]);
    let channel = channel.unwrap();
    let head = channel.publishing("ex", "key", true, &Properties::default(), &body);
    let (entry, _kept) = Entry::of_test(&unconfirmed);
    channel.publish(head, body, entry).await.unwrap();
    drop(channel);
    // The handle of the channel is dropped, and yet the message is written first.
    let mut seen = Vec::new();
    for _ in 0..4 {
        let frame = far.hears().await;
        assert_eq!(frame.channel, number);
        seen.push((frame.kind, frame.payload.len()));
    }
    assert_eq!(seen, [(1, 14), (2, 14), (3, 4088), (3, 912)]);
    assert_eq!(far.hears().await.payload[..4], *b"\x00\x14\x00\x28");
}

#[tokio::test]
async fn a_return_that_is_larger_than_all_messages_takes_no_memory() {
    let (opened, mut far) = connection();
    let role = Role::Sends(Arc::new(Mutex::new(Unconfirmed::new())));
    let (channel, number) = tokio::join!(
        opened.client.channel(role),
        far.answers(methods::CHANNEL_OPEN, methods::CHANNEL_OPEN_OK, &[0; 4])
    );
    let mut bytes = method(number, methods::RETURN, |out| out.extend([0; 5]));
    bytes.extend(header(number, 4000));
    bytes.extend(frame(BODY, number, |out| out.extend([0; 4000])));
    far.say(&bytes).await;
    let channel = channel.unwrap();
    let (confirmed, _) = tokio::join!(
        channel.confirm(),
        far.answers(methods::CONFIRM_SELECT, methods::CONFIRM_SELECT_OK, b"")
    );
    assert_eq!(confirmed, Ok(()));
}

/// What a broker on a socket says, and what becomes of the attempt to connect.
#[tokio::test]
async fn a_broker_that_does_not_open_a_connection_is_told_without_secrets() {
    let start = method(0, methods::START, |out| {
        out.extend([0, 9]);
        put_long(out, b"");
        put_long(out, b"PLAIN");
        put_long(out, b"en_US");
    });
    let tune = |frame_max: u32| {
        method(0, methods::TUNE, |out| {
            out.extend([0, 0]);
            out.extend(frame_max.to_be_bytes());
            out.extend([0, 0]);
        })
    };
    let denied = method(0, methods::CLOSE, |out| {
        out.extend(403_u16.to_be_bytes());
        put_short(out, "no: u geheim");
        out.extend([0; 4]);
    });
    for (said, words) in [
        (b"AMQP\x00\x00\x08\x00".to_vec(), "does not speak"),
        (
            [start.clone(), denied].concat(),
            "403 its text is not shown",
        ),
        (
            [start.clone(), tune(100)].concat(),
            "100 bytes are too small",
        ),
        (
            [
                start.clone(),
                method(0, methods::SECURE, |out| out.extend([0; 4])),
            ]
            .concat(),
            "another kind of login",
        ),
        ([start.clone(), start.clone()].concat(), "method 10.10"),
        (start, "closed the connection"),
        (Vec::new(), "closed the connection"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 8];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(&said).await.unwrap();
            stream.shutdown().await.unwrap();
            // Until the client has closed it.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let (opened, ()) = tokio::join!(open(broker(port), None, Arc::default()), serve);
        let why = opened.map(drop).unwrap_err().into_text();
        assert!(why.contains(words) && !why.contains("geheim"), "{why}");
    }
}

#[tokio::test]
async fn after_an_address_without_replies_the_next_one_has_its_turn() {
    let (name, _first, second) = two_listeners();
    let port = second.local_addr().unwrap().port();
    let url = format!("amqp://127.0.0.1:{port}?connection_timeout=500");
    let mut broker = Broker::parse(&url).unwrap();
    broker.host = name.to_owned();
    let (broker, turn) = (Arc::new(broker), Arc::default());
    for is_second in [false, true] {
        let opened = open(Arc::clone(&broker), None, Arc::clone(&turn)).await;
        assert!(opened.is_err());
        assert_eq!(second.accept().is_ok(), is_second);
    }
}
