//! A connection to a server: opening it, and the two halves that read and write while it is open.
//!
//! The writing half sends a PING after each group of messages. The PONG confirms that the server has read them, and errors
//! about them come before it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use serde_json::json;
use tokio::io::{AsyncWriteExt, BufWriter, ReadHalf, WriteHalf, split};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::address::Server;
use super::wire::{Frame, Info, Message, Reader};
use crate::ext::broker::{Calm, Failed, Opened, Stream, dial, failed, secured};
use crate::upstream::budget::Full;
use crate::upstream::collect::Overflow;

/// The interval of PINGs without messages.
const PING: Duration = Duration::from_secs(10);
/// A connection whose PING has no PONG for this time is lost.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a server may send nothing before it is taken for one that waits for TLS.
const QUIET: Duration = Duration::from_secs(1);
/// How long connecting to one server may take.
const CONNECT: Duration = Duration::from_secs(5);
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
    sinks: HashMap<u64, Sink>,
    /// PINGs without a PONG, with the messages before them.
    pings: VecDeque<Ping>,
}

struct Ping {
    sent: Instant,
    messages: Vec<Sent>,
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
    /// The message may have been sent.
    Lost,
}

impl Client {
    /// Sends a message, and waits until the server has read it.
    ///
    /// # Errors
    /// It was not sent, or this is unknown.
    pub(super) async fn publish(
        &self,
        subject: &Arc<str>,
        headers: &[u8],
        body: Bytes,
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
        };
        let queued = self.0.commands.send(command).await;
        queued.map_err(|_| Unsent::Lost)?;
        match outcome.await {
            Ok(result) => result.map_err(Unsent::Rejected),
            Err(_) => Err(Unsent::Lost),
        }
    }

    /// Subscribes, and returns the number of the subscription.
    pub(super) async fn subscribe(&self, subject: &str, queue: Option<&str>, sink: Sink) -> u64 {
        let number = self.0.last.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&self.0.state).sinks.insert(number, sink);
        let queue = queue.map(|queue| format!(" {queue}")).unwrap_or_default();
        let line = format!("SUB {subject}{queue} {number}\r\n");
        // If the connection is lost, the next one gets the subscription.
        let _ = self.0.commands.send(Command::Line(line)).await;
        number
    }

    pub(super) async fn unsubscribe(&self, number: u64) {
        lock(&self.0.state).sinks.remove(&number);
        let line = format!("UNSUB {number}\r\n");
        let _ = self.0.commands.send(Command::Line(line)).await;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a connection to one of the servers.
pub(super) async fn open(
    servers: Arc<[Server]>,
    tls: Arc<ClientConfig>,
    most_bytes: u64,
) -> Result<Opened<Client>, Failed> {
    let mut reason = String::new();
    // Starts at a random one, so that several gateways do not all use the same server.
    for server in servers
        .iter()
        .cycle()
        .skip(random(servers.len()))
        .take(servers.len())
    {
        let attempt = timeout(CONNECT, connect(server, Arc::clone(&tls), most_bytes)).await;
        match attempt.unwrap_or_else(|_| Err("no reply in time".to_owned())) {
            Ok((info, reader)) => return Ok(opened(&info, reader)),
            Err(why) => reason = why,
        }
    }
    Err(Failed::from(reason))
}

/// A number below `most`.
fn random(most: usize) -> usize {
    let mut byte = [0];
    let filled = aws_lc_rs::rand::fill(&mut byte);
    filled.map_or(0, |()| usize::from(byte[0]) % most.max(1))
}

/// Connects to a server up to its first PONG.
async fn connect(
    server: &Server,
    tls: Arc<ClientConfig>,
    most_bytes: u64,
) -> Result<(Info, Reader<Stream>), String> {
    let stream = dial(server.name(), server.port).await?;
    let mut reader = Reader::new(stream, most_bytes);
    let greeted = match timeout(QUIET, reader.next()).await {
        Ok(greeted) => Some(info(greeted?)?),
        // The server waits for TLS (`handshake_first`).
        Err(_) if server.tls && reader.is_empty() => None,
        Err(_) => Some(info(reader.next().await?)?),
    };
    let is_plain = greeted
        .as_ref()
        .is_some_and(|info| !info.tls_required && !info.tls_available);
    if server.tls && is_plain {
        return Err("the server does not offer TLS".to_owned());
    }
    let uses_tls = server.tls || greeted.as_ref().is_some_and(|info| info.tls_required);
    if uses_tls {
        let stream = secured(reader.into_stream()?, server.name(), tls).await?;
        reader = Reader::new(stream, most_bytes);
    }
    let mut info = match greeted {
        Some(info) => info,
        None => info(reader.next().await?)?,
    };
    reader.hide(&server.credentials);
    let greeting = format!("CONNECT {}\r\nPING\r\n", introduction(server, uses_tls));
    let stream = reader.stream();
    stream
        .write_all(greeting.as_bytes())
        .await
        .map_err(|error| failed(&error))?;
    stream.flush().await.map_err(|error| failed(&error))?;
    loop {
        match reader.next().await? {
            Frame::Pong => return Ok((info, reader)),
            Frame::Info(newer) => info = newer,
            Frame::Error(why) => return Err(why),
            _ => {}
        }
    }
}

/// The first frame of a server.
fn info(frame: Frame) -> Result<Info, String> {
    match frame {
        Frame::Info(info) => Ok(info),
        _ => Err("the server does not begin with INFO".to_owned()),
    }
}

/// The options of a connection, in JSON.
fn introduction(server: &Server, uses_tls: bool) -> serde_json::Value {
    let credentials = &server.credentials;
    let mut options = json!({
        "verbose": false,
        "pedantic": false,
        "tls_required": uses_tls,
        "name": "portcullis",
        "lang": "rust",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": 1,
        "echo": true,
        "headers": true,
        "no_responders": false,
    });
    for (name, value) in [
        ("user", &credentials.user),
        ("pass", &credentials.password),
        ("auth_token", &credentials.token),
    ] {
        if let Some(value) = value {
            options[name] = json!(value);
        }
    }
    options
}

/// A client of an open connection, and the work that keeps it open.
fn opened(info: &Info, reader: Reader<Stream>) -> Opened<Client> {
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
        // Requests that wait for a PONG get an error.
        *lock(&state) = State::default();
        why
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
                if let Some(sink) = lock(&self.shared.state).sinks.get(&message.subscription) {
                    sink(Some(message));
                }
            }
            Frame::Unkept {
                subscription,
                bytes,
                why,
            } => {
                if let Some(sink) = lock(&self.shared.state).sinks.get(&subscription) {
                    sink(None);
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
                let messages = ping.map(|ping| ping.messages).unwrap_or_default();
                for sent in messages {
                    // The request may have ended.
                    let _ = sent.done.send(Ok(()));
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

    /// The server closes the connection after most errors, but not after those about permissions and subjects.
    fn rejected(&self, why: String) -> Result<(), String> {
        let lower = why.to_ascii_lowercase();
        if !lower.starts_with("permissions violation") && !lower.starts_with("invalid subject") {
            return Err(why);
        }
        self.rejections
            .warn(|| format!("[PubSub] NATS rejects a command: {why}"));
        if lower.contains("publish") {
            let mut state = lock(&self.shared.state);
            for ping in &mut state.pings {
                let all = std::mem::take(&mut ping.messages);
                let (meant, others): (Vec<Sent>, Vec<Sent>) = all
                    .into_iter()
                    .partition(|sent| why.contains(&format!("\"{}\"", sent.subject)));
                ping.messages = others;
                for sent in meant {
                    let _ = sent.done.send(Err(why.clone()));
                }
            }
        }
        Ok(())
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

/// Writes commands, and a PING if there are messages among them or it is time for one.
async fn written(
    stream: &mut BufWriter<WriteHalf<Stream>>,
    commands: &mut Vec<Command>,
    state: &Mutex<State>,
    is_tick: bool,
) -> std::io::Result<()> {
    let mut messages = Vec::new();
    let mut bytes = Vec::new();
    for command in commands.drain(..) {
        match command {
            Command::Line(line) => bytes.push(line.into()),
            // The request has ended before its message was sent.
            Command::Publish { done, .. } if done.is_closed() => {}
            Command::Publish {
                subject,
                head,
                body,
                done,
            } => {
                messages.push(Sent { subject, done });
                bytes.extend([Bytes::from(head), body, Bytes::from_static(b"\r\n")]);
            }
        }
    }
    if is_tick || !messages.is_empty() {
        bytes.push(Bytes::from_static(b"PING\r\n"));
        // Before the bytes: the server may respond while they are written.
        lock(state).pings.push_back(Ping {
            sent: Instant::now(),
            messages,
        });
    }
    for piece in bytes {
        stream.write_all(&piece).await?;
    }
    stream.flush().await
}
