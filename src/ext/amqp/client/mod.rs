//! A client of AMQP 0-9-1, with the parts of the protocol that the gateway needs.
//!
//! | module | content |
//! |---|---|
//! | `codec`, `properties` | numbers, texts and tables; the properties of messages |
//! | `frame` | frames and methods |
//! | `opening` | opens a connection |
//! | `tasks` | the two halves that read and write |
//! | `lines` | the channels, and what arrives on them |
//!
//! The body of a message is collected within a limit and the budget of the process. What is beyond it is skipped while it
//! arrives.

mod codec;
mod frame;
mod lines;
mod opening;
mod properties;
mod tasks;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::split;
use tokio::sync::{mpsc, watch};

use super::address::Broker;
use super::publish::Entry;
use crate::ext::broker::{Opened, Stream, failed};
use crate::telemetry::calm::Calm;
use codec::{Cursor, put_short};
use frame::{HEADER, Method, Reader, frame, method, methods};
use lines::Lines;
pub(super) use lines::{Blocked, Delivery, Role};
use opening::Tuned;
pub(super) use opening::open;
pub(super) use properties::{Properties, Texts};
use tasks::{Command, Open, Parcel};

/// The most commands and messages that wait for the writing half.
const MAX_COMMANDS: usize = 1024;
const MAX_PARCELS: usize = 16;

/// An open connection. It is closed when the last handle of it and of its channels is dropped.
#[derive(Clone)]
pub(super) struct Client(Arc<Shared>);

struct Shared {
    lines: Arc<Lines>,
    commands: mpsc::Sender<Command>,
    parcels: mpsc::Sender<Parcel>,
    frame_max: usize,
}

/// Reads and writes in the background from now on.
fn start(reader: Reader<Stream>, tuned: Tuned, broker: Arc<Broker>) -> Opened<Client> {
    let lines = Arc::new(Lines::new(tuned.channels));
    let (commands, waiting) = mpsc::channel(MAX_COMMANDS);
    let (parcels, letters) = mpsc::channel(MAX_PARCELS);
    let (reader, writer) = reader.split(split);
    let open = Open {
        reader,
        writer,
        lines: Arc::clone(&lines),
        broker,
        answers: commands.downgrade(),
        commands: waiting,
        parcels: letters,
        frame_max: tuned.frame_max,
        heartbeat: tuned.heartbeat,
        blocked: Calm::default(),
        unblocked: Calm::default(),
    };
    let over = lines.over();
    tokio::spawn(open.run());
    Opened {
        client: Client(Arc::new(Shared {
            lines,
            commands,
            parcels,
            frame_max: tuned.frame_max,
        })),
        lost: Box::pin(async move { ended(over).await.into() }),
    }
}

/// Resolves, with the reason, when a connection or a channel has ended.
async fn ended(mut lost: watch::Receiver<Option<String>>) -> String {
    let why = lost.wait_for(Option::is_some).await;
    let why = why.ok().and_then(|why| why.clone());
    why.unwrap_or_else(|| "it is closed".to_owned())
}

impl Client {
    /// The most bytes of a frame.
    pub(super) fn frame_max(&self) -> usize {
        self.0.frame_max
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// The connection has ended, or the broker does not open it.
    pub(super) async fn channel(&self, role: Role) -> Result<Channel, String> {
        let (number, lost) = self.0.lines.add(role)?;
        let channel = Channel(Arc::new(Line {
            client: self.clone(),
            number,
            lost,
        }));
        channel
            .call(methods::CHANNEL_OPEN, methods::CHANNEL_OPEN_OK, |out| {
                out.push(0);
            })
            .await?;
        Ok(channel)
    }

    /// Closes the connection after all that was sent before.
    pub(super) async fn close(&self) {
        let over = self.0.lines.over();
        if self.0.commands.send(Command::Close).await.is_ok() {
            ended(over).await;
        }
    }
}

/// An open channel. It is closed when the last handle is dropped.
#[derive(Clone)]
pub(super) struct Channel(Arc<Line>);

struct Line {
    client: Client,
    number: u16,
    lost: watch::Receiver<Option<String>>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let shared = &self.client.0;
        if shared.lines.close(self.number)
            && let Err(mpsc::error::TrySendError::Full(_)) = shared.commands.try_send(
                Command::Frames(closing(self.number, methods::CHANNEL_CLOSE)),
            )
        {
            shared.lines.stuck.notify_one();
        }
    }
}

/// Closes a channel, or with number 0 the connection.
fn closing(number: u16, called: Method) -> Vec<u8> {
    method(number, called, |out| {
        out.extend(200_u16.to_be_bytes());
        // No text, and no method that is to blame.
        out.extend([0; 5]);
    })
}

impl Channel {
    fn number(&self) -> u16 {
        self.0.number
    }

    /// Why the channel has ended. `None` while it is open.
    pub(super) fn reason(&self) -> Option<String> {
        self.0.lost.borrow().clone()
    }

    /// Resolves, with the reason, when the channel has ended.
    pub(super) async fn ended(&self) -> String {
        ended(self.0.lost.clone()).await
    }

    fn why(&self) -> String {
        self.reason()
            .unwrap_or_else(|| "the channel is closed".to_owned())
    }

    async fn send(&self, bytes: Vec<u8>) -> Result<(), String> {
        let command = Command::Frames(bytes);
        let sent = self.0.client.0.commands.send(command).await;
        sent.map_err(|_| self.why())
    }

    /// Calls a method, and returns the arguments of its answer.
    async fn call(
        &self,
        called: Method,
        answer: Method,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Bytes, String> {
        let answer = self.0.client.0.lines.answer(self.0.number, answer);
        let answer = answer.ok_or_else(|| self.why())?;
        self.send(method(self.0.number, called, fill)).await?;
        answer.await.map_err(|_| self.why())
    }

    /// Declares an exchange of the type `topic`.
    ///
    /// # Errors
    /// As of all methods: the reason of the broker, or why there is no answer.
    pub(super) async fn declare_exchange(
        &self,
        name: &str,
        flags: ExchangeFlags,
    ) -> Result<(), String> {
        let fill = |out: &mut Vec<u8>| {
            out.extend([0, 0]);
            put_short(out, name);
            put_short(out, "topic");
            out.push(bits([
                flags.passive,
                flags.durable,
                flags.auto_delete,
                flags.internal,
            ]));
            out.extend([0; 4]);
        };
        self.call(
            methods::EXCHANGE_DECLARE,
            methods::EXCHANGE_DECLARE_OK,
            fill,
        )
        .await
        .map(drop)
    }

    /// Declares a queue, and returns its name.
    pub(super) async fn declare_queue(
        &self,
        name: &str,
        flags: QueueFlags,
    ) -> Result<String, String> {
        let fill = |out: &mut Vec<u8>| {
            out.extend([0, 0]);
            put_short(out, name);
            out.push(bits([
                flags.passive,
                flags.durable,
                flags.exclusive,
                flags.auto_delete,
            ]));
            out.extend([0; 4]);
        };
        let answer = self.call(methods::QUEUE_DECLARE, methods::QUEUE_DECLARE_OK, fill);
        Ok(Cursor::new(&answer.await?).text()?)
    }

    pub(super) async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), String> {
        let fill = |out: &mut Vec<u8>| {
            out.extend([0, 0]);
            for name in [queue, exchange, key] {
                put_short(out, name);
            }
            out.extend([0; 5]);
        };
        let bound = self.call(methods::QUEUE_BIND, methods::QUEUE_BIND_OK, fill);
        bound.await.map(drop)
    }

    /// Sets how many messages may be here without a confirmation.
    pub(super) async fn prefetch(&self, count: u16) -> Result<(), String> {
        let fill = |out: &mut Vec<u8>| {
            out.extend([0; 4]);
            out.extend(count.to_be_bytes());
            out.push(0);
        };
        self.call(methods::QOS, methods::QOS_OK, fill)
            .await
            .map(drop)
    }

    /// Asks for messages, and returns the name of the consumer.
    pub(super) async fn consume(
        &self,
        queue: &str,
        no_local: bool,
        exclusive: bool,
    ) -> Result<String, String> {
        let fill = |out: &mut Vec<u8>| {
            out.extend([0, 0]);
            put_short(out, queue);
            put_short(out, "");
            out.push(bits([no_local, false, exclusive, false]));
            out.extend([0; 4]);
        };
        let answer = self.call(methods::CONSUME, methods::CONSUME_OK, fill);
        Ok(Cursor::new(&answer.await?).text()?)
    }

    /// Asks for no more messages.
    pub(super) async fn cancel(&self, consumer: &str) -> Result<(), String> {
        let fill = |out: &mut Vec<u8>| {
            put_short(out, consumer);
            out.push(0);
        };
        let cancelled = self.call(methods::CANCEL, methods::CANCEL_OK, fill);
        cancelled.await.map(drop)
    }

    /// Asks for the confirmation of each message that is sent from now on.
    pub(super) async fn confirm(&self) -> Result<(), String> {
        let fill = |out: &mut Vec<u8>| out.push(0);
        let selected = self.call(methods::CONFIRM_SELECT, methods::CONFIRM_SELECT_OK, fill);
        selected.await.map(drop)
    }

    pub(super) async fn ack(&self, tag: u64) -> Result<(), String> {
        self.settle(methods::ACK, tag, 0).await
    }

    /// Rejects a message. With `again` it is returned to its queue.
    pub(super) async fn nack(&self, tag: u64, again: bool) -> Result<(), String> {
        self.settle(methods::NACK, tag, bits([false, again])).await
    }

    /// On a new channel, tags identify other messages, so nothing is sent after the end of this one.
    async fn settle(&self, called: Method, tag: u64, flags: u8) -> Result<(), String> {
        if let Some(why) = self.reason() {
            return Err(why);
        }
        let bytes = method(self.0.number, called, |out| {
            out.extend(tag.to_be_bytes());
            out.push(flags);
        });
        self.send(bytes).await
    }

    /// The frames of a message before its body.
    pub(super) fn publishing(
        &self,
        exchange: &str,
        routing_key: &str,
        mandatory: bool,
        properties: &Properties,
        body: &Bytes,
    ) -> Vec<u8> {
        let channel = self.0.number;
        let mut head = method(channel, methods::PUBLISH, |out| {
            out.extend([0, 0]);
            put_short(out, exchange);
            put_short(out, routing_key);
            out.push(bits([mandatory]));
        });
        head.extend(frame(HEADER, channel, |out| {
            out.extend(methods::PUBLISH.0.to_be_bytes());
            out.extend([0, 0]);
            out.extend((body.len() as u64).to_be_bytes());
            properties.put(out);
        }));
        head
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) async fn publish(
        &self,
        head: Vec<u8>,
        body: Bytes,
        entry: Entry,
    ) -> Result<(), String> {
        let parcel = Parcel {
            channel: self.clone(),
            head,
            body,
            entry,
        };
        let sent = self.0.client.0.parcels.send(parcel).await;
        sent.map_err(|_| self.why())
    }

    /// Whether the broker takes messages.
    pub(super) fn blocked(&self) -> Blocked {
        self.0.client.0.lines.blocked()
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ExchangeFlags {
    /// It must exist, and is not declared.
    pub(super) passive: bool,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) internal: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct QueueFlags {
    /// It must exist, and is not declared.
    pub(super) passive: bool,
    pub(super) durable: bool,
    pub(super) exclusive: bool,
    pub(super) auto_delete: bool,
}

/// Flags as the bits of a byte, the first one as the lowest.
fn bits<const N: usize>(flags: [bool; N]) -> u8 {
    flags
        .iter()
        .rev()
        .fold(0, |all, flag| all << 1 | u8::from(*flag))
}
