//! Sends messages on one channel, and waits until the broker has confirmed them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::channel::Exchange;
use super::client::{Blocked, Channel, Client, Properties, Role};
use crate::ext::broker::{Failed, Link, Opened, lost, on_connection};
use crate::ext::pubsub::driver::{Given, Unsent};
use crate::runtime::failure::{Failure, Kind};

/// The most messages that wait for the channel.
const MAX_WAITING: usize = 64;
/// The bytes of a frame of properties that are kept for everything but headers.
const FIXED: usize = 2048;

/// A message to send.
pub(super) struct OutgoingMessage {
    /// At most 255 bytes.
    pub(super) routing_key: String,
    /// A message that reaches no queue is an error.
    pub(super) mandatory: bool,
    pub(super) properties: Properties,
    /// The bytes of the headers in the properties.
    pub(super) head_bytes: usize,
    pub(super) body: Bytes,
}

/// What the broker says about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Confirmed,
    NoRoute,
    Rejected,
    /// The broker takes no messages, for this reason. The message was not sent.
    Blocked(Arc<str>),
}

struct Job {
    letter: OutgoingMessage,
    done: oneshot::Sender<Outcome>,
    given: Given,
}

/// A channel that confirms each message.
#[derive(Clone)]
pub(super) struct Outgoing {
    jobs: mpsc::Sender<Job>,
    blocked: Blocked,
    /// Properties are one frame. A larger one would end the connection.
    most_head_bytes: usize,
    most_body_bytes: Arc<MostBytes>,
}

/// The largest body that the broker takes (`max_message_size`). It is known once a larger one has ended a channel.
#[derive(Debug)]
pub(super) struct MostBytes(AtomicUsize);

impl MostBytes {
    pub(super) fn unknown() -> MostBytes {
        MostBytes(AtomicUsize::new(usize::MAX))
    }

    /// Reads the limit in the reason of the broker for the end of a channel.
    fn learn(&self, why: &str) {
        let is_size = why.contains("message size ") && why.contains(" is larger than ");
        let last = why
            .rsplit(|c: char| !c.is_ascii_digit())
            .find(|word| !word.is_empty());
        if let Some(most) = last.and_then(|word| word.parse().ok()).filter(|_| is_size) {
            self.0.store(most, Ordering::Relaxed);
        }
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Opens a channel for messages to an exchange.
pub(super) async fn open(
    link: Arc<Link<Client>>,
    exchange: Arc<Exchange>,
    most_body_bytes: Arc<MostBytes>,
) -> Result<Opened<Outgoing>, Failed> {
    let unconfirmed = Arc::new(Mutex::new(Unconfirmed::new()));
    let shared = Arc::clone(&unconfirmed);
    let name = exchange.name.clone();
    let ((channel, frame), connections) = on_connection(link, |client| async move {
        let channel = client.channel(Role::Sends(shared)).await?;
        exchange.declare(&channel).await?;
        channel.confirm().await?;
        Ok((channel, client.frame_max()))
    })
    .await?;
    let (jobs, waiting) = mpsc::channel(MAX_WAITING);
    let learned = Arc::clone(&most_body_bytes);
    let blocked = channel.blocked();
    let ended = async move {
        // Unconfirmed messages are dropped at the end, and their senders get an error.
        let writing = write(&channel, &name, &unconfirmed, waiting);
        let why = tokio::select! {
            why = writing => why,
            why = channel.ended() => why,
        };
        let why = channel.reason().unwrap_or(why);
        learned.learn(&why);
        why
    };
    Ok(Opened {
        client: Outgoing {
            jobs,
            blocked,
            most_head_bytes: frame.saturating_sub(FIXED),
            most_body_bytes,
        },
        lost: Box::pin(lost(connections, ended)),
    })
}

/// Hands messages to the connection one after another.
async fn write(
    channel: &Channel,
    exchange: &str,
    unconfirmed: &Arc<Mutex<Unconfirmed>>,
    mut waiting: mpsc::Receiver<Job>,
) -> String {
    while let Some(Job {
        letter,
        done,
        given,
    }) = waiting.recv().await
    {
        let OutgoingMessage {
            routing_key,
            mandatory,
            properties,
            body,
            ..
        } = letter;
        let head = channel.publishing(exchange, &routing_key, mandatory, &properties, &body);
        let entry = Entry {
            unconfirmed: Arc::downgrade(unconfirmed),
            routing_key,
            done,
            given,
        };
        if let Err(why) = channel.publish(head, body, entry).await {
            return why;
        }
    }
    "the sender no longer exists".to_owned()
}

/// A message that waits until it is written.
pub(super) struct Entry {
    unconfirmed: Weak<Mutex<Unconfirmed>>,
    routing_key: String,
    done: oneshot::Sender<Outcome>,
    given: Given,
}

impl Entry {
    /// An entry, and what must be kept until the message is written.
    #[cfg(test)]
    pub(super) fn of_test(unconfirmed: &Arc<Mutex<Unconfirmed>>) -> (Entry, impl Sized + use<>) {
        let (done, kept) = oneshot::channel();
        let entry = Entry {
            unconfirmed: Arc::downgrade(unconfirmed),
            routing_key: "key".to_owned(),
            done,
            given: Given::default(),
        };
        (entry, kept)
    }

    /// Gives the message its number, which is the order in which messages are written on a channel. `false` if it must
    /// not be written: the broker takes none, the channel is closed, or the request has ended.
    pub(super) fn admit(self, body: &Bytes, blocked: Option<Arc<str>>) -> bool {
        if let Some(why) = blocked {
            // The request may have ended.
            let _ = self.done.send(Outcome::Blocked(why));
            return false;
        }
        let Some(unconfirmed) = self.unconfirmed.upgrade() else {
            return false;
        };
        self.given.set();
        if self.done.is_closed() {
            return false;
        }
        lock(&unconfirmed).add(self.routing_key, body, self.done);
        true
    }
}

fn lock(unconfirmed: &Mutex<Unconfirmed>) -> MutexGuard<'_, Unconfirmed> {
    unconfirmed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends a message, and waits until the broker has it.
///
/// # Errors
/// The broker did not confirm the message, or its state is unknown.
pub(super) async fn send(
    link: &Link<Outgoing>,
    letter: OutgoingMessage,
    deadline: Instant,
) -> Result<(), Unsent> {
    let outgoing = link.client(deadline).await?;
    if let Some(why) = outgoing.blocked.reason() {
        return Err(blocked(&why).into());
    }
    if letter.head_bytes > outgoing.most_head_bytes {
        let text = "the headers are larger than the broker accepts";
        return Err(Failure::bad_input(StatusCode::BAD_REQUEST, text).into());
    }
    if letter.body.len() > outgoing.most_body_bytes.get() {
        let text = "the message is larger than the broker accepts";
        return Err(Failure::new(Kind::BodyTooLarge, text).into());
    }
    let (done, outcome) = oneshot::channel();
    let given = Given::default();
    let job = Job {
        letter,
        done,
        given: given.clone(),
    };
    let work = async {
        outgoing.jobs.send(job).await.map_err(drop)?;
        outcome.await.map_err(drop)
    };
    let failed = |text: &'static str| Unsent::from(Failure::new(Kind::Status, text));
    match timeout_at(deadline, work).await {
        Ok(Ok(Outcome::Confirmed)) => Ok(()),
        Ok(Ok(Outcome::NoRoute)) => Err(failed("no route: no queue receives the message")),
        Ok(Ok(Outcome::Rejected)) => Err(failed("the broker rejected the message")),
        Ok(Ok(Outcome::Blocked(why))) => Err(blocked(&why).into()),
        Ok(Err(())) => Err(given.unsent(Failure::new(Kind::Broken, "the connection was lost"))),
        Err(_) => Err(given.unsent(Failure::new(Kind::Deadline, "context deadline exceeded"))),
    }
}

fn blocked(why: &str) -> Failure {
    Failure::new(
        Kind::Status,
        format!("the broker takes no messages now: {why}"),
    )
}

/// The messages of a channel that are sent and not confirmed yet.
pub(super) struct Unconfirmed {
    /// The number of the last one (AMQP counts from 1).
    last: u64,
    waiting: BTreeMap<u64, Sent>,
    hashes: ahash::RandomState,
}

struct Sent {
    done: oneshot::Sender<Outcome>,
    routing_key: String,
    bytes: u64,
    hash: u64,
    /// The broker has returned it. Its confirmation follows.
    returned: bool,
}

impl Unconfirmed {
    pub(super) fn new() -> Unconfirmed {
        Unconfirmed {
            last: 0,
            waiting: BTreeMap::new(),
            hashes: ahash::RandomState::new(),
        }
    }

    fn add(&mut self, routing_key: String, body: &Bytes, done: oneshot::Sender<Outcome>) {
        self.last += 1;
        let sent = Sent {
            done,
            routing_key,
            bytes: body.len() as u64,
            hash: self.hashes.hash_one(body),
            returned: false,
        };
        self.waiting.insert(self.last, sent);
    }

    /// The bytes of the largest message.
    pub(super) fn most_bytes(&self) -> u64 {
        self.waiting
            .values()
            .map(|sent| sent.bytes)
            .max()
            .unwrap_or(0)
    }

    /// Marks the first equal message as returned. A returned message has no delivery tag. Equal messages have the same
    /// route, so any of them can be marked.
    pub(super) fn returned(&mut self, routing_key: &str, bytes: u64, body: Option<&[u8]>) {
        // A body for which there was no memory is recognized by its size.
        let hash = body.map(|body| self.hashes.hash_one(body));
        let mut waiting = self.waiting.values_mut();
        let is_meant = |sent: &&mut Sent| {
            !sent.returned
                && sent.bytes == bytes
                && hash.is_none_or(|hash| sent.hash == hash)
                && sent.routing_key == routing_key
        };
        if let Some(sent) = waiting.find(is_meant) {
            sent.returned = true;
        }
    }

    /// The broker has confirmed or rejected a message, or all up to it.
    pub(super) fn settle(&mut self, number: u64, multiple: bool, good: bool) {
        let settled = if multiple {
            let later = self.waiting.split_off(&number.saturating_add(1));
            std::mem::replace(&mut self.waiting, later)
        } else {
            BTreeMap::from_iter(self.waiting.remove_entry(&number))
        };
        for sent in settled.into_values() {
            let outcome = match (good, sent.returned) {
                (false, _) => Outcome::Rejected,
                (true, true) => Outcome::NoRoute,
                (true, false) => Outcome::Confirmed,
            };
            // The request may have ended.
            let _ = sent.done.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_body_is_learned_from_the_broker() {
        let most = MostBytes::unknown();
        for (why, bytes) in [
            ("404 NOT_FOUND - no exchange 'x1'", usize::MAX),
            (
                "406 PRECONDITION_FAILED - message size 2000 is larger than max size 1000",
                1000,
            ),
            (
                "406 PRECONDITION_FAILED - message size 9 is larger than configured max size 7",
                7,
            ),
        ] {
            most.learn(why);
            assert_eq!(most.get(), bytes, "{why}");
        }
    }

    #[test]
    fn confirmations_find_their_messages() {
        let mut all = Unconfirmed::new();
        let mut add = |key: &str, body: &[u8]| {
            let (done, outcome) = oneshot::channel();
            all.add(key.to_owned(), &Bytes::copy_from_slice(body), done);
            outcome
        };
        let mut outcomes = [
            add("a", b"1"),
            add("a", b"2"),
            add("b", b"2"),
            add("a", b"2"),
            add("c", b""),
        ];
        all.returned("a", 1, Some(b"2"));
        all.returned("a", 2, None);
        all.returned("unknown", 1, Some(b"2"));
        all.settle(3, true, true);
        all.settle(5, false, false);
        all.settle(99, false, true);
        let seen = outcomes.each_mut().map(|outcome| outcome.try_recv().ok());
        assert_eq!(
            seen,
            [
                Some(Outcome::Confirmed),
                Some(Outcome::NoRoute),
                Some(Outcome::Confirmed),
                None,
                Some(Outcome::Rejected),
            ]
        );
        all.settle(u64::MAX, true, true);
        assert_eq!(outcomes[3].try_recv(), Ok(Outcome::Confirmed));
    }
}
