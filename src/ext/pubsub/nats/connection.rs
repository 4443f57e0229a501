//! An open connection to a server: the two halves that read and write.
//!
//! The writing half sends a PING after each group of messages and each subscription. The PONG confirms that the server
//! has read them, and errors about them come before it.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, BufWriter, ReadHalf, WriteHalf, split};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::wire::{Complaint, Frame, Info, Message, Reader};
use crate::ext::broker::{Opened, Stream, failed};
use crate::ext::pubsub::driver::{Given, aside};
use crate::telemetry::calm::Calm;
use crate::upstream::budget::Full;
use crate::upstream::collect::Overflow;

/// The interval of PINGs without messages.
const PING: Duration = Duration::from_secs(10);
/// A connection whose PING has no PONG for this time is lost.
const SILENCE: Duration = Duration::from_secs(30);
/// The maximum number of commands that wait for the writing half, and that it writes at once.
const MAX_WAITING: usize = 64;

/// Takes the messages of a subscription, `None` for one that was not kept. Must not block.
pub(super) type Sink = Box<dyn Fn(Option<Message>) + Send + Sync>;

/// An open connection.
#[derive(Clone)]
pub(super) struct Client(Arc<Shared>);

struct Shared {
    commands: mpsc::Sender<Command>,
    /// The most bytes of a message with its headers.
    max_payload: AtomicUsize,
    takes_headers: bool,
    /// The number of the last subscription.
    last: AtomicU64,
    state: Arc<Mutex<State>>,
}

/// The state that the reading half needs.
#[derive(Default)]
struct State {
    subscriptions: HashMap<u64, Subscribed>,
    /// PINGs without a PONG, with what was sent before them.
    pings: VecDeque<Ping>,
}

struct Subscribed {
    subject: String,
    queue: Option<String>,
    sink: Sink,
    /// Gets the error of the server.
    refused: oneshot::Sender<String>,
}

impl Subscribed {
    /// Whether an error of the server is about this subscription: `… Subscription to "a" using queue "b"`.
    fn is_meant(&self, text: &str) -> bool {
        let queue = self
            .queue
            .as_ref()
            .map(|queue| format!("using queue \"{queue}\""));
        text.contains(&format!("\"{}\"", self.subject))
            && match queue {
                Some(queue) => text.contains(&queue),
                None => !text.contains("using queue"),
            }
    }
}

struct Ping {
    sent: Instant,
    messages: Vec<Sent>,
    /// The number of the subscription that was sent before this PING, and who waits for its PONG.
    subscription: Option<(u64, oneshot::Sender<()>)>,
}

/// A message whose PONG has not arrived yet.
struct Sent {
    subject: Arc<str>,
    done: Done,
}

/// Gets the result of a message: confirmed, or the error of the server.
type Done = oneshot::Sender<Result<(), String>>;

enum Command {
    Publish {
        subject: Arc<str>,
        /// The line and the headers.
        head: Vec<u8>,
        body: Bytes,
        done: Done,
        given: Given,
    },
    Subscribe {
        /// With its end.
        line: String,
        number: u64,
        done: oneshot::Sender<()>,
    },
    /// A line, with its end.
    Line(String),
}

/// Why a message was not sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    TooLarge,
    /// The server takes no headers.
    Headers,
    /// The server has rejected it, for this reason.
    Rejected(String),
    /// The connection was lost.
    Lost,
}

impl Client {
    /// Sends a message, and waits until the server has read it.
    ///
    /// # Errors
    /// It was not sent, or this is unknown: then it is `given`.
    pub(super) async fn publish(
        &self,
        subject: &Arc<str>,
        headers: &[u8],
        body: Bytes,
        given: &Given,
    ) -> Result<(), Unsent> {
        let whole = headers.len() + body.len();
        if whole > self.0.max_payload.load(Ordering::Relaxed) {
            return Err(Unsent::TooLarge);
        }
        let mut head = if headers.is_empty() {
            format!("PUB {subject} {whole}\r\n").into_bytes()
        } else if self.0.takes_headers {
            format!("HPUB {subject} {} {whole}\r\n", headers.len()).into_bytes()
        } else {
            return Err(Unsent::Headers);
        };
        head.extend_from_slice(headers);
        let (done, outcome) = oneshot::channel();
        let command = Command::Publish {
            subject: Arc::clone(subject),
            head,
            body,
            done,
            given: given.clone(),
        };
        let queued = self.0.commands.send(command).await;
        queued.map_err(|_| Unsent::Lost)?;
        match outcome.await {
            Ok(result) => result.map_err(Unsent::Rejected),
            Err(_) => Err(Unsent::Lost),
        }
    }

    /// Subscribes, and waits until the server has accepted it.
    ///
    /// # Errors
    /// The server refuses it, or the connection is lost.
    pub(super) async fn subscribe(
        &self,
        subject: &str,
        queue: Option<&str>,
        sink: Sink,
    ) -> Result<Ticket, String> {
        let number = self.0.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (refused, refusal) = oneshot::channel();
        let subscribed = Subscribed {
            subject: subject.to_owned(),
            queue: queue.map(str::to_owned),
            sink,
            refused,
        };
        lock(&self.0.state).subscriptions.insert(number, subscribed);
        let mut ticket = Ticket {
            client: self.clone(),
            number,
            refusal,
        };
        let queue = queue.map(|queue| format!(" {queue}")).unwrap_or_default();
        let line = format!("SUB {subject}{queue} {number}\r\n");
        let (done, accepted) = oneshot::channel();
        let command = Command::Subscribe { line, number, done };
        let lost = || "the connection is lost".to_owned();
        let queued = self.0.commands.send(command).await;
        queued.map_err(|_| lost())?;
        tokio::select! {
            biased;
            why = &mut ticket.refusal => return Err(why.unwrap_or_else(|_| lost())),
            accepted = accepted => accepted.map_err(|_| lost())?,
        }
        Ok(ticket)
    }
}

/// A subscription. Dropping it ends it.
pub(super) struct Ticket {
    client: Client,
    number: u64,
    refusal: oneshot::Receiver<String>,
}

impl Ticket {
    /// Resolves, with the error of the server, when it no longer allows the subscription.
    pub(super) async fn refused(&mut self) -> String {
        match (&mut self.refusal).await {
            Ok(why) => why,
            // The connection is lost.
            Err(_) => pending().await,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Client(shared) = self.client.clone();
        lock(&shared.state).subscriptions.remove(&self.number);
        let line = format!("UNSUB {}\r\n", self.number);
        aside(async move {
            // If the connection is lost, the subscription is, too.
            let _ = shared.commands.send(Command::Line(line)).await;
        });
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client of an open connection, and the work that keeps it open.
pub(super) fn opened(info: &Info, reader: Reader<Stream>) -> Opened<Client> {
    let (commands, waiting) = mpsc::channel(MAX_WAITING);
    let shared = Arc::new(Shared {
        commands: commands.clone(),
        max_payload: AtomicUsize::new(info.max_payload()),
        takes_headers: info.headers,
        last: AtomicU64::new(0),
        state: Arc::default(),
    });
    let (read, write) = reader.split(split);
    let state = Arc::clone(&shared.state);
    let reading = Reading {
        reader: read,
        unkept: Calm::default(),
        rejections: Calm::default(),
        shared: Arc::clone(&shared),
        commands,
    };
    let lost = async move {
        let why = tokio::select! {
            why = reading.run() => why,
            why = writing(write, waiting, &state) => why,
        };
        // Those that wait for a PONG get an error.
        *lock(&state) = State::default();
        why.into()
    };
    Opened {
        client: Client(shared),
        lost: Box::pin(lost),
    }
}

/// The half that reads.
struct Reading {
    reader: Reader<ReadHalf<Stream>>,
    /// Warnings about messages whose bodies were not kept.
    unkept: Calm,
    /// Warnings about commands that the server rejects.
    rejections: Calm,
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl Reading {
    /// Reads until the connection is lost, and returns the reason.
    async fn run(mut self) -> String {
        loop {
            let frame = match self.reader.next().await {
                Ok(frame) => frame,
                Err(why) => return why,
            };
            if let Err(why) = self.took(frame) {
                return why;
            }
        }
    }

    /// # Errors
    /// The connection must be closed.
    fn took(&self, frame: Frame) -> Result<(), String> {
        match frame {
            Frame::Message(message) => {
                let state = lock(&self.shared.state);
                if let Some(subscribed) = state.subscriptions.get(&message.subscription) {
                    (subscribed.sink)(Some(message));
                }
            }
            Frame::Unkept {
                subscription,
                bytes,
                why,
            } => {
                if let Some(subscribed) = lock(&self.shared.state).subscriptions.get(&subscription)
                {
                    (subscribed.sink)(None);
                }
                let why = match why {
                    Overflow::TooLarge => "it is larger than allowed".to_owned(),
                    Overflow::Full => Full.to_string(),
                };
                self.unkept
                    .warn(|| format!("[PubSub] NATS: a message of {bytes} bytes is lost: {why}"));
            }
            Frame::Ping => {
                let pong = self.commands.try_send(Command::Line("PONG\r\n".to_owned()));
                pong.map_err(|_| "the server does not read".to_owned())?;
            }
            Frame::Pong => {
                let ping = lock(&self.shared.state).pings.pop_front();
                let Some(ping) = ping else { return Ok(()) };
                for sent in ping.messages {
                    // The request may have ended.
                    let _ = sent.done.send(Ok(()));
                }
                if let Some((_, done)) = ping.subscription {
                    let _ = done.send(());
                }
            }
            Frame::Info(info) if info.ldm => return Err("the server is about to stop".to_owned()),
            Frame::Info(info) => {
                let most = &self.shared.max_payload;
                most.store(info.max_payload(), Ordering::Relaxed);
            }
            Frame::Error(why) => return self.rejected(why),
            Frame::Ok => {}
        }
        Ok(())
    }

    /// The server closes the connection after most errors, but not after those about permissions, subjects, and the
    /// number of subscriptions.
    fn rejected(&self, why: Complaint) -> Result<(), String> {
        let Complaint { text, shown } = why;
        let lower = text.to_ascii_lowercase();
        let is_permission = lower.starts_with("permissions violation");
        let is_limit = lower.starts_with("maximum subscriptions exceeded");
        if !is_permission && !is_limit && !lower.starts_with("invalid subject") {
            return Err(shown);
        }
        self.rejections
            .warn(|| format!("[PubSub] NATS rejects a command: {shown}"));
        let mut state = lock(&self.shared.state);
        if is_permission && lower.contains("publish") {
            state.reject(&text, &shown);
        } else if is_permission {
            let all = state.subscriptions.iter();
            let meant = all.filter(|(_, subscribed)| subscribed.is_meant(&text));
            let meant: Vec<u64> = meant.map(|(number, _)| *number).collect();
            for number in meant {
                state.refuse(number, &shown);
            }
        } else if let Some(ping) = state.pings.front()
            && let Some((number, _)) = ping.subscription
        {
            // It names none: it is about what was sent before the next PONG.
            state.refuse(number, &shown);
        } else if is_limit {
            return Err(shown);
        }
        Ok(())
    }
}

impl State {
    /// The server has rejected messages: `text` names their subject.
    fn reject(&mut self, text: &str, shown: &str) {
        for ping in &mut self.pings {
            let all = std::mem::take(&mut ping.messages);
            let (meant, others): (Vec<Sent>, Vec<Sent>) = all
                .into_iter()
                .partition(|sent| text.contains(&format!("\"{}\"", sent.subject)));
            ping.messages = others;
            for sent in meant {
                let _ = sent.done.send(Err(shown.to_owned()));
            }
        }
    }

    /// The server has refused a subscription.
    fn refuse(&mut self, number: u64, shown: &str) {
        if let Some(subscribed) = self.subscriptions.remove(&number) {
            let _ = subscribed.refused.send(shown.to_owned());
        }
    }
}

/// Writes until the connection is lost, and returns the reason.
async fn writing(
    stream: WriteHalf<Stream>,
    mut waiting: mpsc::Receiver<Command>,
    state: &Mutex<State>,
) -> String {
    let mut stream = BufWriter::new(stream);
    let mut ticks = interval(PING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut commands = Vec::with_capacity(MAX_WAITING);
    loop {
        let is_tick = tokio::select! {
            count = waiting.recv_many(&mut commands, MAX_WAITING) => {
                if count == 0 {
                    return "it is no longer used".to_owned();
                }
                false
            }
            _ = ticks.tick() => true,
        };
        let silent = lock(state).pings.front().map(|ping| ping.sent.elapsed());
        if silent.is_some_and(|silent| silent > SILENCE) {
            return "the server does not respond".to_owned();
        }
        let written = written(&mut stream, &mut commands, state, is_tick);
        match timeout(SILENCE, written).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return failed(&error),
            Err(_) => return "the server does not read".to_owned(),
        }
    }
}

/// Writes commands. A PING follows the messages among them, each subscription, and a tick.
async fn written(
    stream: &mut BufWriter<WriteHalf<Stream>>,
    commands: &mut Vec<Command>,
    state: &Mutex<State>,
    is_tick: bool,
) -> std::io::Result<()> {
    let mut messages = Vec::new();
    let mut bytes = Vec::new();
    // Added before the bytes are written: the server may respond meanwhile.
    let ping = |bytes: &mut Vec<Bytes>, messages, subscription| {
        bytes.push(Bytes::from_static(b"PING\r\n"));
        lock(state).pings.push_back(Ping {
            sent: Instant::now(),
            messages,
            subscription,
        });
    };
    for command in commands.drain(..) {
        match command {
            Command::Line(line) => bytes.push(line.into()),
            Command::Subscribe { line, number, done } => {
                bytes.push(line.into());
                // An error before its PONG is about this subscription, and so not about earlier messages.
                let earlier = std::mem::take(&mut messages);
                ping(&mut bytes, earlier, Some((number, done)));
            }
            Command::Publish {
                subject,
                head,
                body,
                done,
                given,
            } => {
                given.set();
                // Otherwise the request has ended before its message was sent.
                if !done.is_closed() {
                    messages.push(Sent { subject, done });
                    bytes.extend([Bytes::from(head), body, Bytes::from_static(b"\r\n")]);
                }
            }
        }
    }
    if is_tick || !messages.is_empty() {
        ping(&mut bytes, messages, None);
    }
    for piece in bytes {
        stream.write_all(&piece).await?;
    }
    stream.flush().await
}
