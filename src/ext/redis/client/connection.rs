//! One open connection: commands are sent without waiting for earlier replies, and replies arrive in the same order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;

use super::command::Command;
use super::error::{CallError, ConnectionError};
use super::reply::{Replies, Reply};
use super::server::{Address, Credentials, Server};
use crate::upstream::race::{self, Turn};

/// The most commands that wait for one connection, and as many again for their replies.
pub(super) const MAX_WAITING: usize = 10_000;

/// The time for each step of the preparation of a connection.
const SETUP: Duration = Duration::from_secs(2);

/// A connection without a reply for this long is closed.
const SILENCE: Duration = Duration::from_secs(2);

/// How often that is checked.
const LOOK: Duration = Duration::from_millis(500);

/// The size of one read.
const READ: usize = 16 * 1024;

/// The maximum number of unsent bytes. No further command is accepted above it.
const MAX_UNSENT: usize = 256 * 1024;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A command and the caller that waits for its reply.
#[derive(Debug)]
pub(super) struct Job {
    pub command: Command,
    /// Whether `ASKING` precedes it: its slot is about to move to this server.
    pub is_asking: bool,
    pub reply: oneshot::Sender<Result<Reply, CallError>>,
}

/// A command that was sent.
struct Sent {
    at: Instant,
    /// `None` if the reply is not needed.
    reply: Option<oneshot::Sender<Result<Reply, CallError>>>,
}

/// An open connection.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    replies: Replies,
}

impl Connection {
    /// Opens a connection within `limit`. `turn` says with which address of the host it begins.
    ///
    /// # Errors
    /// The server cannot be reached, or its certificate is not trusted.
    pub(super) async fn open(
        address: &Address,
        server: &Server,
        limit: Duration,
        turn: &Turn,
    ) -> Result<Connection, ConnectionError> {
        let opened = timeout(limit, dial(address, server, turn)).await;
        let late = || ConnectionError::Connect("no connection in time".to_owned());
        Ok(Connection {
            stream: opened.map_err(|_| late())??,
            replies: Replies::new(Arc::new(server.secrets())),
        })
    }

    /// Authenticates, and selects the database. Without credentials, `PING` shows whether they are required.
    ///
    /// # Errors
    /// The server rejects it, or does not respond in time.
    pub(super) async fn prepare(
        &mut self,
        credentials: Option<&Credentials>,
        database: Option<u8>,
    ) -> Result<(), ConnectionError> {
        let first = match credentials {
            None => Command::new(&[b"PING"]),
            Some(Credentials {
                user: Some(user),
                password,
            }) => Command::new(&[b"AUTH", user.as_bytes(), password.as_bytes()]),
            Some(Credentials {
                user: None,
                password,
            }) => Command::new(&[b"AUTH", password.as_bytes()]),
        };
        self.demand(&first).await?;
        if let Some(number) = database {
            let number = number.to_string();
            self.demand(&Command::new(&[b"SELECT", number.as_bytes()]))
                .await?;
        }
        Ok(())
    }

    /// Sends one command of the preparation, and waits for its reply.
    ///
    /// # Errors
    /// The server replies with an error, or not in time, or the connection is lost.
    pub(super) async fn demand(&mut self, command: &Command) -> Result<Reply, ConnectionError> {
        match timeout(SETUP, self.exchange(command)).await {
            Ok(Ok(Reply::Error(why))) => Err(ConnectionError::Setup(why.to_string())),
            Ok(result) => result,
            Err(_) => Err(ConnectionError::Silent),
        }
    }

    async fn exchange(&mut self, command: &Command) -> Result<Reply, ConnectionError> {
        let written = self.stream.write_all(&command.0).await;
        written.map_err(|error| ConnectionError::closed(&error))?;
        let flushed = self.stream.flush().await;
        flushed.map_err(|error| ConnectionError::closed(&error))?;
        loop {
            if let Some(reply) = self.replies.next()? {
                return Ok(reply);
            }
            read(&mut self.stream, &mut self.replies).await?;
        }
    }

    /// Sends the commands of `jobs` until the connection is lost. `None` if there will be no further jobs.
    pub(super) async fn serve(self, jobs: &mut mpsc::Receiver<Job>) -> Option<ConnectionError> {
        let Connection {
            stream,
            mut replies,
        } = self;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (mut sent, mut unsent) = (VecDeque::new(), BytesMut::new());
        // Data that arrived before the first command cannot be a reply.
        if let Err(error) = hand_out(&mut replies, &mut sent) {
            return Some(error);
        }
        let mut is_flushed = true;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_room = sent.len() < MAX_WAITING && unsent.len() < MAX_UNSENT;
            let failed = tokio::select! {
                job = jobs.recv(), if has_room => {
                    enqueue(job?, &mut unsent, &mut sent);
                    while sent.len() < MAX_WAITING && unsent.len() < MAX_UNSENT {
                        let Ok(job) = jobs.try_recv() else { break };
                        enqueue(job, &mut unsent, &mut sent);
                    }
                    is_flushed = false;
                    None
                }
                written = write(&mut writer, &mut unsent), if !is_flushed => match written {
                    Ok(all) => {
                        is_flushed = all;
                        None
                    }
                    Err(error) => Some(error),
                },
                got = read(&mut reader, &mut replies) => {
                    got.and_then(|()| hand_out(&mut replies, &mut sent)).err()
                }
                _ = look.tick() => {
                    let oldest: Option<&Sent> = sent.front();
                    oldest.filter(|first| first.at.elapsed() > SILENCE).map(|_| ConnectionError::Silent)
                }
            };
            if failed.is_some() {
                return failed;
            }
        }
    }
}

/// Appends a command to the output, unless its caller has stopped waiting.
fn enqueue(job: Job, unsent: &mut BytesMut, sent: &mut VecDeque<Sent>) {
    if job.reply.is_closed() {
        return;
    }
    let at = Instant::now();
    if job.is_asking {
        unsent.extend_from_slice(&Command::new(&[b"ASKING"]).0);
        sent.push_back(Sent { at, reply: None });
    }
    unsent.extend_from_slice(&job.command.0);
    let reply = Some(job.reply);
    sent.push_back(Sent { at, reply });
}

/// Writes as much as possible. True if all of it was sent. Can be dropped at any time.
async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    unsent: &mut BytesMut,
) -> Result<bool, ConnectionError> {
    let written = if unsent.is_empty() {
        writer.flush().await.map(|()| true)
    } else {
        writer.write_buf(unsent).await.map(|_| false)
    };
    written.map_err(|error| ConnectionError::closed(&error))
}

/// Reads once. Can be dropped at any time.
async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    replies: &mut Replies,
) -> Result<(), ConnectionError> {
    let buffer = replies.buffer();
    buffer.reserve(READ);
    match reader.read_buf(buffer).await {
        Ok(0) => Err(ConnectionError::Closed("by the server".to_owned())),
        Ok(_) => Ok(()),
        Err(error) => Err(ConnectionError::closed(&error)),
    }
}

/// Passes complete replies to the waiting callers.
fn hand_out(replies: &mut Replies, sent: &mut VecDeque<Sent>) -> Result<(), ConnectionError> {
    while let Some(reply) = replies.next()? {
        let Some(waiting) = sent.pop_front() else {
            // A reply without a command. From here on, replies can no longer be matched with commands.
            return Err(ConnectionError::Malformed);
        };
        let is_replica = matches!(&reply, Reply::Error(why) if why.raw().starts_with("READONLY"));
        if let Some(to) = waiting.reply {
            // The waiting calls end now.
            let _ = to.send(Ok(reply));
        }
        if is_replica {
            return Err(ConnectionError::ReadOnly);
        }
    }
    Ok(())
}

async fn dial(
    address: &Address,
    server: &Server,
    turn: &Turn,
) -> Result<Box<dyn Stream>, ConnectionError> {
    let connect = |error: std::io::Error| ConnectionError::Connect(error.to_string());
    let tcp = race::connect(&address.host, address.port, turn).await;
    let tcp = tcp.map_err(connect)?;
    tcp.set_nodelay(true).map_err(connect)?;
    let Some(config) = &server.tls else {
        return Ok(Box::new(tcp));
    };
    let tls = |error: String| ConnectionError::Tls(error);
    let name = address.certificate_name.as_ref().unwrap_or(&address.host);
    let name = ServerName::try_from(name.clone()).map_err(|error| tls(error.to_string()))?;
    let connector = TlsConnector::from(config.clone());
    let stream = connector.connect(name, tcp).await;
    Ok(Box::new(stream.map_err(|error| tls(error.to_string()))?))
}
