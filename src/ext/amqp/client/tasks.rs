//! The two halves that read and write while a connection is open.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt as _, BufWriter, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::super::address::Broker;
use super::super::publish::Entry;
use super::codec::{Cursor, Malformed};
use super::frame::{
    AROUND, BODY, Frame, HEARTBEAT, METHOD, Reader, TAIL, frame, head, method, methods,
};
use super::lines::{Blocked, Lines, reason, unexpected};
use super::{Channel, closing, failed};
use crate::ext::broker::Stream;
use crate::telemetry::calm::Calm;

/// How long the broker may read nothing.
const STUCK: Duration = Duration::from_secs(30);
/// How long the end of a connection may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// The most commands that are written at once.
const MAX_AT_ONCE: usize = 64;

/// What the writing half does.
pub(super) enum Command {
    /// Writes these frames.
    Frames(Vec<u8>),
    /// Closes the connection.
    Close,
}

/// A message to write.
pub(super) struct Parcel {
    /// Keeps the channel open until the message is written: a message on a closed channel would end the connection.
    pub(super) channel: Channel,
    /// The frames before the body.
    pub(super) head: Vec<u8>,
    pub(super) body: Bytes,
    pub(super) entry: Entry,
}

/// An open connection.
pub(super) struct Open {
    pub(super) reader: Reader<ReadHalf<Stream>>,
    pub(super) writer: WriteHalf<Stream>,
    pub(super) lines: Arc<Lines>,
    pub(super) broker: Arc<Broker>,
    /// For answers to the broker. Weak, because the connection is closed when nobody else has a sender.
    pub(super) answers: mpsc::WeakSender<Command>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) parcels: mpsc::Receiver<Parcel>,
    pub(super) frame_max: usize,
    pub(super) heartbeat: Duration,
    /// Lines about a broker that takes no messages, and takes them again.
    pub(super) blocked: Calm,
    pub(super) unblocked: Calm,
}

/// Why the reading half has ended.
struct End {
    why: String,
    /// Whether the broker has closed the connection, and waits for an answer.
    is_closed: bool,
}

impl From<String> for End {
    fn from(why: String) -> End {
        End {
            why,
            is_closed: false,
        }
    }
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> End {
        String::from(malformed).into()
    }
}

impl Open {
    /// Reads and writes until the connection ends.
    pub(super) async fn run(self) {
        let lines = Arc::clone(&self.lines);
        let mut reading = Reading {
            reader: self.reader,
            lines: self.lines,
            broker: self.broker,
            answers: self.answers,
            blocked: self.blocked,
            unblocked: self.unblocked,
        };
        let mut writer = BufWriter::new(self.writer);
        let mut writing = Writing {
            writer: &mut writer,
            frame_max: self.frame_max,
            blocked: lines.blocked(),
        };
        let write = writing.run(self.commands, self.parcels, self.heartbeat / 2);
        let end = tokio::select! {
            end = reading.run() => end,
            why = write => why.into(),
            () = lines.stuck.notified() => "the broker does not read".to_owned().into(),
        };
        lines.end(&end.why);
        if end.is_closed {
            let answer = method(0, methods::CLOSE_OK, |_| {});
            let farewell = async {
                writer.write_all(&answer).await?;
                writer.flush().await
            };
            // The connection has ended, whatever comes of this.
            let _ = timeout(FAREWELL, farewell).await;
        }
    }
}

struct Reading {
    reader: Reader<ReadHalf<Stream>>,
    lines: Arc<Lines>,
    broker: Arc<Broker>,
    answers: mpsc::WeakSender<Command>,
    blocked: Calm,
    unblocked: Calm,
}

impl Reading {
    async fn run(&mut self) -> End {
        loop {
            let frame = match self.reader.next().await {
                Ok(frame) => frame,
                Err(why) => return why.into(),
            };
            if let Err(end) = self.took(&frame) {
                return end;
            }
        }
    }

    /// # Errors
    /// The connection has ended.
    fn took(&self, frame: &Frame) -> Result<(), End> {
        if frame.kind == HEARTBEAT {
            return Ok(());
        }
        if frame.channel == 0 {
            return self.connection(frame);
        }
        let Some(answer) = self.lines.took(&self.broker, frame)? else {
            return Ok(());
        };
        match self.answers.upgrade() {
            Some(answers) => answers
                .try_send(Command::Frames(answer))
                .map_err(|_| "the broker does not read".to_owned().into()),
            None => Ok(()),
        }
    }

    /// A method of the connection itself.
    fn connection(&self, frame: &Frame) -> Result<(), End> {
        let mut arguments = Cursor::new(&frame.payload);
        match (arguments.u16()?, arguments.u16()?) {
            _ if frame.kind != METHOD => Err("the broker has sent a frame for no channel"
                .to_owned()
                .into()),
            methods::CLOSE => Err(End {
                why: reason(&self.broker, &mut arguments)?,
                is_closed: true,
            }),
            methods::CLOSE_OK => Err("the connection is closed".to_owned().into()),
            methods::BLOCKED => {
                let why = arguments.text()?;
                let why = self.broker.said(&why);
                self.blocked.warn(|| {
                    let broker = self.broker.shown();
                    format!("[Queues] {broker} takes no messages: {why}")
                });
                self.lines.block(Some(why.into()));
                Ok(())
            }
            methods::UNBLOCKED => {
                self.unblocked
                    .info(|| format!("[Queues] {} takes messages again", self.broker.shown()));
                self.lines.block(None);
                Ok(())
            }
            kind => Err(unexpected(kind).into()),
        }
    }
}

struct Writing<'a> {
    writer: &'a mut BufWriter<WriteHalf<Stream>>,
    frame_max: usize,
    blocked: Blocked,
}

impl Writing<'_> {
    /// Writes until the connection is lost, and returns the reason.
    async fn run(
        &mut self,
        commands: mpsc::Receiver<Command>,
        parcels: mpsc::Receiver<Parcel>,
        beat: Duration,
    ) -> String {
        match self.written(commands, parcels, beat).await {
            // The reading half ends when the broker answers.
            Ok(()) => sleep(FAREWELL).await,
            Err(why) => return why,
        }
        "the connection is closed".to_owned()
    }

    /// Writes until the connection is to be closed.
    ///
    /// # Errors
    /// The connection is lost.
    async fn written(
        &mut self,
        mut commands: mpsc::Receiver<Command>,
        mut parcels: mpsc::Receiver<Parcel>,
        beat: Duration,
    ) -> Result<(), String> {
        let mut beats = interval(beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut several = Vec::with_capacity(MAX_AT_ONCE);
        loop {
            tokio::select! {
                count = commands.recv_many(&mut several, MAX_AT_ONCE) => {
                    let mut is_over = count == 0;
                    for command in several.drain(..) {
                        match command {
                            Command::Frames(bytes) => self.put(&bytes).await?,
                            Command::Close => is_over = true,
                        }
                    }
                    if is_over {
                        return self.close().await;
                    }
                }
                parcel = async {
                    match parcels.recv().await {
                        Some(parcel) => parcel,
                        // The commands end as well.
                        None => pending().await,
                    }
                } => self.parcel(parcel).await?,
                _ = beats.tick() => self.put(&frame(HEARTBEAT, 0, |_| {})).await?,
            }
            self.flush().await?;
        }
    }

    async fn parcel(&mut self, parcel: Parcel) -> Result<(), String> {
        let is_open = parcel.channel.reason().is_none();
        if !is_open || !parcel.entry.admit(&parcel.body, self.blocked.reason()) {
            return Ok(());
        }
        self.put(&parcel.head).await?;
        for piece in parcel
            .body
            .chunks(self.frame_max.saturating_sub(AROUND).max(1))
        {
            self.put(&head(BODY, parcel.channel.number(), piece.len()))
                .await?;
            self.put(piece).await?;
            self.put(&TAIL).await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), String> {
        self.put(&closing(0, methods::CLOSE)).await?;
        self.flush().await
    }

    async fn put(&mut self, bytes: &[u8]) -> Result<(), String> {
        in_time(self.writer.write_all(bytes)).await
    }

    async fn flush(&mut self) -> Result<(), String> {
        in_time(self.writer.flush()).await
    }
}

async fn in_time(writing: impl Future<Output = std::io::Result<()>>) -> Result<(), String> {
    match timeout(STUCK, writing).await {
        Ok(written) => written.map_err(|error| failed(&error)),
        Err(_) => Err("the broker does not read".to_owned()),
    }
}
