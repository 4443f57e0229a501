//! The channels of a connection, and what the broker sends on them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::super::address::Broker;
use super::super::publish::Unconfirmed;
use super::codec::{Cursor, Malformed};
use super::frame::{BODY, Frame, HEADER, METHOD, Method, method, methods};
use super::properties::Known;
use crate::ext::broker::{has_room, share};
use crate::upstream::collect::{Collector, Overflow};

/// The class of methods that messages follow.
const BASIC: u16 = 60;

/// What a channel is for.
pub(in crate::ext::amqp) enum Role {
    /// Messages are sent, and the broker confirms them.
    Sends(Arc<Mutex<Unconfirmed>>),
    /// Messages are taken.
    Takes {
        /// Has room for as many messages as the broker may deliver.
        sink: mpsc::Sender<Delivery>,
        /// The most bytes of a message. The body of a larger one is skipped while it arrives.
        most: u64,
    },
}

/// A message that has arrived.
#[derive(Debug)]
pub(in crate::ext::amqp) struct Delivery {
    pub(in crate::ext::amqp) tag: u64,
    pub(in crate::ext::amqp) redelivered: bool,
    pub(in crate::ext::amqp) known: Known,
    pub(in crate::ext::amqp) bytes: u64,
    /// Or why it was not kept.
    pub(in crate::ext::amqp) body: Result<Bytes, Overflow>,
}

/// The channels of a connection.
pub(super) struct Lines {
    state: Mutex<State>,
    /// Notified when the connection cannot go on, because the broker reads nothing.
    pub(super) stuck: Notify,
    /// Why the connection has ended.
    over: watch::Sender<Option<String>>,
    /// Why the broker takes no messages.
    blocked: watch::Sender<Option<Arc<str>>>,
}

/// Whether the broker of a connection takes messages (`connection.blocked`, an extension of RabbitMQ).
#[derive(Debug, Clone)]
pub(in crate::ext::amqp) struct Blocked(watch::Receiver<Option<Arc<str>>>);

impl Blocked {
    /// Why the broker takes none.
    pub(in crate::ext::amqp) fn reason(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }
}

struct State {
    lines: HashMap<u16, Line>,
    /// The number of the last channel that was opened.
    last: u16,
    /// The most channels.
    most: u16,
}

struct Line {
    /// Why the channel has ended.
    lost: watch::Sender<Option<String>>,
    /// The method that is expected as an answer, and who waits for it.
    waiter: Option<(Method, oneshot::Sender<Bytes>)>,
    /// `None` after we have closed it. What comes before the broker confirms this is ignored.
    role: Option<Role>,
    content: Option<Content>,
}

/// A message that is arriving.
struct Content {
    what: What,
    /// `None` before its properties have arrived.
    body: Option<Body>,
}

enum What {
    Delivery { tag: u64, redelivered: bool },
    Returned { routing_key: String },
}

struct Body {
    known: Known,
    bytes: u64,
    /// The bytes that have not arrived yet.
    left: u64,
    kept: Result<Collector, Overflow>,
}

impl From<Malformed> for String {
    fn from(_: Malformed) -> String {
        "the broker has sent a frame that cannot be read".to_owned()
    }
}

impl Lines {
    pub(super) fn new(most: u16) -> Lines {
        Lines {
            state: Mutex::new(State {
                lines: HashMap::new(),
                last: 0,
                most,
            }),
            stuck: Notify::new(),
            over: watch::Sender::new(None),
            blocked: watch::Sender::new(None),
        }
    }

    pub(super) fn blocked(&self) -> Blocked {
        Blocked(self.blocked.subscribe())
    }

    /// The broker takes no messages, for this reason, or takes them again.
    pub(super) fn block(&self, why: Option<Arc<str>>) {
        self.blocked.send_replace(why);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the connection has ended. `None` while it is open.
    pub(super) fn over(&self) -> watch::Receiver<Option<String>> {
        self.over.subscribe()
    }

    /// Ends all channels.
    pub(super) fn end(&self, why: &str) {
        let mut state = self.lock();
        self.over.send_replace(Some(why.to_owned()));
        for line in std::mem::take(&mut state.lines).into_values() {
            line.lost.send_replace(Some(why.to_owned()));
        }
    }

    /// A new channel: its number, and what tells why it has ended.
    ///
    /// # Errors
    /// The connection has ended, or has no more channels.
    pub(super) fn add(&self, role: Role) -> Result<(u16, watch::Receiver<Option<String>>), String> {
        let mut state = self.lock();
        if let Some(why) = &*self.over.borrow() {
            return Err(why.clone());
        }
        for _ in 0..state.most {
            // Numbers are used again as late as possible.
            let number = state.last % state.most + 1;
            state.last = number;
            if let Entry::Vacant(vacant) = state.lines.entry(number) {
                let (lost, seen) = watch::channel(None);
                let line = Line {
                    lost,
                    waiter: None,
                    role: Some(role),
                    content: None,
                };
                vacant.insert(line);
                return Ok((number, seen));
            }
        }
        Err("the broker allows no more channels".to_owned())
    }

    /// Gets the arguments of the next method of this kind. `None` if the channel has ended.
    pub(super) fn answer(&self, number: u16, answer: Method) -> Option<oneshot::Receiver<Bytes>> {
        let mut state = self.lock();
        let line = state.lines.get_mut(&number)?;
        let (waiter, bytes) = oneshot::channel();
        line.waiter = Some((answer, waiter));
        Some(bytes)
    }

    /// Marks a channel as closed by us. Returns whether the broker must be told.
    pub(super) fn close(&self, number: u16) -> bool {
        match self.lock().lines.get_mut(&number) {
            Some(line) => {
                line.waiter = None;
                line.content = None;
                line.role.take().is_some()
            }
            None => false,
        }
    }

    /// Takes a frame of a channel. Returns what is to be said to the broker.
    ///
    /// # Errors
    /// The connection must be closed.
    pub(super) fn took(&self, broker: &Broker, frame: &Frame) -> Result<Option<Vec<u8>>, String> {
        let mut state = self.lock();
        let Some(line) = state.lines.get_mut(&frame.channel) else {
            // It has ended here, and the broker does not know this yet.
            return Ok(None);
        };
        match frame.kind {
            METHOD => {
                let mut arguments = Cursor::new(&frame.payload);
                let kind = (arguments.u16()?, arguments.u16()?);
                let is_over = match kind {
                    methods::CHANNEL_CLOSE => {
                        let why = reason(broker, &mut arguments)?;
                        line.lost.send_replace(Some(why));
                        true
                    }
                    methods::CHANNEL_CLOSE_OK => line.role.is_none(),
                    _ => false,
                };
                if is_over {
                    state.lines.remove(&frame.channel);
                    let answer = method(frame.channel, methods::CHANNEL_CLOSE_OK, |_| {});
                    return Ok((kind == methods::CHANNEL_CLOSE).then_some(answer));
                }
                if line.role.is_none() {
                    return Ok(None);
                }
                line.method(frame, kind, &mut arguments)
            }
            _ if line.role.is_none() => Ok(None),
            HEADER => line.header(&frame.payload).map(|()| None),
            BODY => line.body(&frame.payload).map(|()| None),
            _ => Err(Malformed.into()),
        }
    }
}

/// The code and the text with which the broker closes a channel or the connection.
pub(super) fn reason(broker: &Broker, arguments: &mut Cursor<'_>) -> Result<String, Malformed> {
    let code = arguments.u16()?;
    let text = arguments.text()?;
    Ok(format!("{code} {}", broker.said(&text)))
}

/// Why a method that nobody waits for ends the connection.
pub(super) fn unexpected((class, number): Method) -> String {
    format!("the broker has sent an unexpected method {class}.{number}")
}

/// What collects a message of so many bytes.
///
/// # Errors
/// There is no room for it, now or ever.
fn room(bytes: u64, most: u64) -> Result<Collector, Overflow> {
    if bytes > most.min(share()) {
        return Err(Overflow::TooLarge);
    }
    if !has_room(bytes) {
        return Err(Overflow::Full);
    }
    let expected = usize::try_from(bytes).unwrap_or(usize::MAX);
    Ok(Collector::new(expected, most, 1))
}

impl Line {
    fn method(
        &mut self,
        frame: &Frame,
        kind: Method,
        arguments: &mut Cursor<'_>,
    ) -> Result<Option<Vec<u8>>, String> {
        match kind {
            methods::DELIVER => {
                let _consumer = arguments.short()?;
                let tag = arguments.u64()?;
                let redelivered = arguments.u8()? & 1 != 0;
                self.begin(What::Delivery { tag, redelivered })?;
            }
            methods::RETURN => {
                let (_code, _text, _exchange) =
                    (arguments.u16()?, arguments.short()?, arguments.short()?);
                let routing_key = arguments.text()?;
                self.begin(What::Returned { routing_key })?;
            }
            methods::ACK | methods::NACK => {
                let tag = arguments.u64()?;
                let multiple = arguments.u8()? & 1 != 0;
                let is_good = kind == methods::ACK;
                if let Some(mut unconfirmed) = self.unconfirmed() {
                    unconfirmed.settle(tag, multiple, is_good);
                }
            }
            methods::CANCEL => {
                let consumer = arguments.text()?;
                let wants_answer = arguments.u8()? & 1 == 0;
                let why =
                    "the broker has cancelled the consumer: the queue was deleted or has moved";
                self.lost.send_replace(Some(why.to_owned()));
                let answer = method(frame.channel, methods::CANCEL_OK, |out| {
                    super::codec::put_short(out, &consumer);
                });
                return Ok(wants_answer.then_some(answer));
            }
            methods::FLOW => {
                let active = arguments.u8()?;
                let answer = method(frame.channel, methods::FLOW_OK, |out| out.push(active));
                return Ok(Some(answer));
            }
            _ => match self.waiter.take_if(|(expected, _)| *expected == kind) {
                Some((_, waiter)) => {
                    let arguments = frame.payload.get(4..).unwrap_or_default();
                    // Nobody waits any more if it took too long.
                    let _ = waiter.send(Bytes::copy_from_slice(arguments));
                }
                None => return Err(unexpected(kind)),
            },
        }
        Ok(None)
    }

    fn unconfirmed(&self) -> Option<MutexGuard<'_, Unconfirmed>> {
        match &self.role {
            Some(Role::Sends(all)) => Some(all.lock().unwrap_or_else(PoisonError::into_inner)),
            _ => None,
        }
    }

    /// # Errors
    /// A message begins before the last one has ended.
    fn begin(&mut self, what: What) -> Result<(), String> {
        let content = Content { what, body: None };
        match self.content.replace(content) {
            None => Ok(()),
            Some(_) => Err(Malformed.into()),
        }
    }

    /// # Errors
    /// No message has begun.
    fn header(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut from = Cursor::new(bytes);
        let (class, _weight, size) = (from.u16()?, from.u16()?, from.u64()?);
        let known = Known::read(from.take(bytes.len().saturating_sub(12))?);
        let most = match &self.role {
            Some(Role::Takes { most, .. }) => *most,
            // What we have sent was accepted here.
            _ => self
                .unconfirmed()
                .map_or(0, |unconfirmed| unconfirmed.most_bytes()),
        };
        let content = self.content.as_mut().ok_or(Malformed)?;
        if class != BASIC || content.body.is_some() {
            return Err(Malformed.into());
        }
        let kept = room(size, most);
        content.body = Some(Body {
            known,
            bytes: size,
            left: size,
            kept,
        });
        if size == 0 { self.done() } else { Ok(()) }
    }

    /// # Errors
    /// There are more bytes than announced.
    fn body(&mut self, bytes: &[u8]) -> Result<(), String> {
        let content = self.content.as_mut().ok_or(Malformed)?;
        let body = content.body.as_mut().ok_or(Malformed)?;
        body.left = body.left.checked_sub(bytes.len() as u64).ok_or(Malformed)?;
        if let Ok(collector) = &mut body.kept
            && let Err(overflow) = collector.push(bytes)
        {
            body.kept = Err(overflow);
        }
        if body.left == 0 { self.done() } else { Ok(()) }
    }

    /// A message has arrived as a whole.
    ///
    /// # Errors
    /// The broker delivers more messages than were asked for.
    fn done(&mut self) -> Result<(), String> {
        let Some(Content {
            what,
            body: Some(body),
        }) = self.content.take()
        else {
            return Ok(());
        };
        let kept = body.kept.map(Collector::done);
        match (what, &self.role) {
            (What::Delivery { tag, redelivered }, Some(Role::Takes { sink, .. })) => {
                let delivery = Delivery {
                    tag,
                    redelivered,
                    known: body.known,
                    bytes: body.bytes,
                    body: kept,
                };
                match sink.try_send(delivery) {
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        Err("the broker delivers more messages than prefetch_count".to_owned())
                    }
                    // Nobody takes messages any more: the channel is about to be closed.
                    Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
                }
            }
            (What::Returned { routing_key }, Some(Role::Sends(_))) => {
                if let Some(mut unconfirmed) = self.unconfirmed() {
                    unconfirmed.returned(&routing_key, body.bytes, kept.ok().as_deref());
                }
                Ok(())
            }
            _ => Err(Malformed.into()),
        }
    }
}
