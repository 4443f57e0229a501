//! Opens a connection (AMQP 0-9-1, section 2.2.4).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::super::address::Broker;
use super::codec::{Cursor, Malformed, put_long, put_short};
use super::frame::{Frame, METHOD, Method, Reader, method, methods};
use super::lines::{reason, unexpected};
use super::{Client, failed, start};
use crate::ext::broker::{Failed, Opened, Stream, dial, secured, without_brackets};
use crate::upstream::race::Turn;

/// The largest frames and the most channels that we ask for, as RabbitMQ offers them.
const MAX_FRAME: u32 = 128 << 10;
const MAX_CHANNELS: u16 = 2047;
/// The least that a broker must allow (AMQP 0-9-1, 4.2.3).
const MIN_FRAME: u32 = 4096;
const PROTOCOL: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// What both sides have agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tuned {
    pub(super) channels: u16,
    pub(super) frame_max: usize,
    pub(super) heartbeat: Duration,
}

/// Opens a connection. After a failure it is the turn of another address.
pub(in crate::ext::amqp) async fn open(
    broker: Arc<Broker>,
    tls: Option<Arc<ClientConfig>>,
    turn: Arc<Turn>,
) -> Result<Opened<Client>, Failed> {
    let attempt = timeout(broker.connect, connect(&broker, tls, &turn)).await;
    match attempt.unwrap_or_else(|_| Err("no reply in time".to_owned())) {
        Ok((reader, tuned)) => Ok(start(reader, tuned, broker)),
        Err(why) => {
            turn.next();
            Err(why.into())
        }
    }
}

async fn connect(
    broker: &Broker,
    tls: Option<Arc<ClientConfig>>,
    turn: &Turn,
) -> Result<(Reader<Stream>, Tuned), String> {
    let host = without_brackets(&broker.host);
    let mut stream = dial(host, broker.port, turn).await?;
    if let Some(config) = tls {
        let name = broker.server_name.as_deref().unwrap_or(host);
        stream = secured(stream, name, config).await?;
    }
    let mut reader = Reader::new(stream, MAX_FRAME as usize, broker.connect);
    say(&mut reader, PROTOCOL).await?;
    answer(broker, &mut reader, methods::START).await?;
    let login = method(0, methods::START_OK, |out| {
        put_long(out, &introduction());
        put_short(out, "PLAIN");
        put_long(
            out,
            format!("\0{}\0{}", broker.user, broker.password).as_bytes(),
        );
        put_short(out, "en_US");
    });
    say(&mut reader, &login).await?;
    let tune = answer(broker, &mut reader, methods::TUNE).await?;
    let offer = offer(&tune)?;
    let frame_max = match offer.frame_max {
        0 => MAX_FRAME,
        most => most.min(MAX_FRAME),
    };
    if frame_max < MIN_FRAME {
        return Err(format!("frames of {frame_max} bytes are too small"));
    }
    // 0 means that the broker sets no limit, or needs no heartbeats. We need them.
    let agreed = |offered: u16, ours: u16| {
        if offered == 0 {
            ours
        } else {
            offered.min(ours)
        }
    };
    let channels = agreed(offer.channels, MAX_CHANNELS);
    let heartbeat = agreed(offer.heartbeat, broker.heartbeat);
    let mut opening = method(0, methods::TUNE_OK, |out| {
        out.extend(channels.to_be_bytes());
        out.extend(frame_max.to_be_bytes());
        out.extend(heartbeat.to_be_bytes());
    });
    opening.extend(method(0, methods::OPEN, |out| {
        put_short(out, &broker.virtual_host);
        out.extend([0, 0]);
    }));
    say(&mut reader, &opening).await?;
    answer(broker, &mut reader, methods::OPEN_OK).await?;
    let heartbeat = Duration::from_secs(heartbeat.into());
    reader.most = frame_max as usize;
    // The broker is lost after two heartbeats.
    reader.read_timeout = heartbeat * 2;
    let tuned = Tuned {
        channels,
        frame_max: frame_max as usize,
        heartbeat,
    };
    Ok((reader, tuned))
}

struct Offer {
    channels: u16,
    frame_max: u32,
    heartbeat: u16,
}

fn offer(tune: &[u8]) -> Result<Offer, Malformed> {
    let mut from = Cursor::new(tune);
    Ok(Offer {
        channels: from.u16()?,
        frame_max: from.u32()?,
        heartbeat: from.u16()?,
    })
}

/// The inside of a table with what we are and can do.
fn introduction() -> Vec<u8> {
    let mut abilities = Vec::new();
    for name in [
        // The broker says why it rejects a login.
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "publisher_confirms",
    ] {
        put_short(&mut abilities, name);
        abilities.extend([b't', 1]);
    }
    let mut out = Vec::new();
    for (name, text) in [
        ("product", "Portcullis"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("platform", "Rust"),
        ("connection_name", "portcullis"),
    ] {
        put_short(&mut out, name);
        out.push(b'S');
        put_long(&mut out, text.as_bytes());
    }
    put_short(&mut out, "capabilities");
    out.push(b'F');
    put_long(&mut out, &abilities);
    out
}

async fn say(reader: &mut Reader<Stream>, bytes: &[u8]) -> Result<(), String> {
    let stream = reader.stream();
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    written.await.map_err(|error| failed(&error))
}

/// The arguments of the next method, which must be this one.
async fn answer(
    broker: &Broker,
    reader: &mut Reader<Stream>,
    expected: Method,
) -> Result<Bytes, String> {
    let Frame {
        kind,
        channel,
        payload,
    } = reader.next().await?;
    let mut from = Cursor::new(&payload);
    let got = (from.u16()?, from.u16()?);
    if (kind, channel) != (METHOD, 0) {
        return Err("the broker does not speak AMQP 0-9-1".to_owned());
    }
    if got == methods::CLOSE {
        return Err(reason(broker, &mut from)?);
    }
    if got == methods::SECURE {
        return Err("the broker asks for another kind of login".to_owned());
    }
    if got != expected {
        return Err(unexpected(got));
    }
    Ok(payload.slice(4..))
}
