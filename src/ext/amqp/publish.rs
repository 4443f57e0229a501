//! Sends messages on one channel, and waits until the broker has confirmed them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amqprs::BasicProperties;
use amqprs::channel::{BasicPublishArguments, Channel, ConfirmSelectArguments};
use amqprs::connection::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::channel::{Exchange, OpenChannel, on_connection};
use super::connection::text;
use super::held::Held;
use crate::ext::broker::{Failed, Link, Opened};
use crate::runtime::failure::{Failure, Kind};

/// The most messages that wait for the channel.
const MOST_WAITING: usize = 64;

/// A message to send.
pub(super) struct Letter {
    /// At most 255 bytes.
    pub(super) routing_key: String,
    /// A message that reaches no queue is an error.
    pub(super) mandatory: bool,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

/// What the broker says about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Confirmed,
    NoRoute,
    Rejected,
}

struct Job {
    letter: Letter,
    done: oneshot::Sender<Outcome>,
}

/// A channel that confirms each message.
#[derive(Clone)]
pub(super) struct Outgoing(mpsc::Sender<Job>);

/// Opens a channel for messages to an exchange.
pub(super) async fn open(
    link: Arc<Link<Held<Connection>>>,
    exchange: Arc<Exchange>,
) -> Result<Opened<Outgoing>, Failed> {
    let unconfirmed = Arc::new(Mutex::new(Unconfirmed::new()));
    let shared = Arc::clone(&unconfirmed);
    let name = exchange.name.clone();
    let (mut open, mut connections) = on_connection(link, |connection| async move {
        let open = OpenChannel::new(&connection, Some(shared)).await?;
        open.declare(&exchange).await?;
        let confirmed = open
            .channel
            .confirm_select(ConfirmSelectArguments::new(false));
        confirmed.await.map_err(|error| open.reason(&error))?;
        Ok(open)
    })
    .await?;
    let (jobs, waiting) = mpsc::channel(MOST_WAITING);
    let lost = async move {
        // Unconfirmed messages are dropped at the end, and their senders get an error.
        let writing = write(open.channel.clone(), name, unconfirmed, waiting);
        tokio::select! {
            why = writing => why,
            why = open.ended() => why,
            () = connections.lost() => "the connection is lost".to_owned(),
        }
    };
    Ok(Opened {
        client: Outgoing(jobs),
        lost: Box::pin(lost),
    })
}

/// Writes messages one after another, because their order gives them their numbers.
async fn write(
    channel: Channel,
    exchange: String,
    unconfirmed: Arc<Mutex<Unconfirmed>>,
    mut waiting: mpsc::Receiver<Job>,
) -> String {
    while let Some(Job { letter, done }) = waiting.recv().await {
        // The request has ended before the message was sent.
        if done.is_closed() {
            continue;
        }
        lock(&unconfirmed).add(&letter, done);
        let mut arguments = BasicPublishArguments::new(&exchange, &letter.routing_key);
        arguments.mandatory(letter.mandatory);
        let sent = channel.basic_publish(letter.properties, letter.body, arguments);
        if let Err(error) = sent.await {
            return text(&error);
        }
    }
    "nobody sends messages any more".to_owned()
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
    letter: Letter,
    deadline: Instant,
) -> Result<(), Failure> {
    let outgoing = link.client(deadline).await?;
    let (done, outcome) = oneshot::channel();
    let work = async {
        let lost = "the connection was lost, and the message may have been sent";
        let lost = || Failure::new(Kind::Broken, lost);
        let queued = outgoing.0.send(Job { letter, done }).await;
        queued.map_err(|_| lost())?;
        outcome.await.map_err(|_| lost())
    };
    let failed = |text| Err(Failure::new(Kind::Status, text));
    match timeout_at(deadline, work).await {
        Ok(Ok(Outcome::Confirmed)) => Ok(()),
        Ok(Ok(Outcome::NoRoute)) => failed("no route: the message reaches no queue"),
        Ok(Ok(Outcome::Rejected)) => failed("the broker rejected the message"),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::new(Kind::Deadline, "context deadline exceeded")),
    }
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

    fn add(&mut self, letter: &Letter, done: oneshot::Sender<Outcome>) {
        self.last += 1;
        let sent = Sent {
            done,
            routing_key: letter.routing_key.clone(),
            hash: self.hashes.hash_one(&letter.body),
            returned: false,
        };
        self.waiting.insert(self.last, sent);
    }

    /// Marks the first equal message as returned. A returned message has no delivery tag. Equal messages have the same
    /// route, so any of them can be marked.
    pub(super) fn returned(&mut self, routing_key: &str, body: &[u8]) {
        let hash = self.hashes.hash_one(body);
        let mut waiting = self.waiting.values_mut();
        let is_meant = |sent: &&mut Sent| {
            !sent.returned && sent.hash == hash && sent.routing_key == routing_key
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
    fn confirmations_find_their_messages() {
        let mut all = Unconfirmed::new();
        let mut add = |key: &str, body: &[u8]| {
            let (done, outcome) = oneshot::channel();
            let letter = Letter {
                routing_key: key.to_owned(),
                mandatory: true,
                properties: BasicProperties::default(),
                body: body.to_vec(),
            };
            all.add(&letter, done);
            outcome
        };
        let mut outcomes = [
            add("a", b"1"),
            add("a", b"2"),
            add("b", b"2"),
            add("a", b"2"),
            add("c", b""),
        ];
        all.returned("a", b"2");
        all.returned("unknown", b"2");
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
