//! Subjects of NATS, over the connection that `NATS_SERVER_URL` names.
//!
//! NATS delivers at most once. A message that cannot become a response is lost. A message whose client has disconnected
//! is kept here for the next request.
//!
//! | module | content |
//! |---|---|
//! | `address`, `compile` | the addresses of servers, and the compilation of subjects |
//! | `wire`, `headers` | the protocol: what a server sends, and the headers of messages |
//! | `opening`, `connection` | opens a connection to a server; an open one |
//! | `gob` | messages in KrakenD's older form |

mod address;
mod compile;
mod connection;
mod gob;
mod headers;
mod opening;
mod wire;

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout_at};

use self::connection::Client;
use self::wire::Message;
use super::driver::{
    Claim, Confirm, Given, Outbound, Subscription, Taken, Topic, Unsent, Verdict, content_type,
};
use crate::ext::broker::{Failed, Inbox, Link, Opened, lost, on_connection};
use crate::runtime::failure::{Failure, Kind};
use crate::telemetry::calm::Calm;
use crate::telemetry::queues::{MessageCounter, Result as Ended};

pub(super) use compile::{subscription, topic};

/// The most messages and bytes of one subscription that wait for a request. What comes after them is lost.
const MAX_WAITING: usize = 256;
const MAX_BYTES: usize = 16 << 20;

/// A subject that messages are sent to.
#[derive(Debug)]
struct Subject {
    link: Arc<Link<Client>>,
    name: Arc<str>,
}

#[async_trait]
impl Topic for Subject {
    async fn publish(&self, message: Outbound, deadline: Instant) -> Result<(), Unsent> {
        let headers = headers::written(&message.metadata)?;
        let client = self.link.client(deadline).await?;
        let given = Given::default();
        let send = client.publish(&self.name, &headers, message.body, &given);
        match timeout_at(deadline, send).await {
            Ok(sent) => sent.map_err(|why| unsent(why, &given)),
            Err(_) => Err(given.unsent(Failure::new(Kind::Deadline, "context deadline exceeded"))),
        }
    }
}

fn unsent(why: connection::Unsent, given: &Given) -> Unsent {
    use connection::Unsent;
    let failure = match why {
        Unsent::TooLarge => Failure::new(
            Kind::BodyTooLarge,
            "pubsub: the message is larger than NATS allows",
        ),
        Unsent::Headers => Failure::new(
            Kind::Status,
            "pubsub: this NATS server does not support headers",
        ),
        Unsent::Rejected(why) => Failure::new(Kind::Status, format!("pubsub: NATS: {why}")),
        Unsent::Lost => {
            let text = "pubsub: NATS: the connection was lost";
            return given.unsent(Failure::new(Kind::Broken, text));
        }
    };
    failure.into()
}

/// A subscription, whose messages wait for requests.
#[derive(Debug)]
struct Subscribed {
    /// The subscription on the current connection. It ends when this is dropped.
    line: Arc<Link<()>>,
    inbox: Inbox<Message>,
    /// Counts messages that are lost.
    counter: MessageCounter,
    /// Warnings about messages without room.
    full: Calm,
}

impl Subscribed {
    fn new(line: Arc<Link<()>>, counter: MessageCounter) -> Subscribed {
        Subscribed {
            line,
            inbox: Inbox::new(MAX_WAITING, MAX_BYTES),
            counter,
            full: Calm::default(),
        }
    }
}

/// Subscribes for `subscribed` as soon as there is a connection.
async fn subscribe(
    link: Arc<Link<Client>>,
    subscribed: Weak<Subscribed>,
    subject: String,
    queue: Option<String>,
) -> Result<Opened<()>, Failed> {
    let setup = |client: Client| async move {
        let name = subject.clone();
        let sink = Box::new(move |message| arrived(&subscribed, &name, message));
        client.subscribe(&subject, queue.as_deref(), sink).await
    };
    let (mut ticket, connections) = on_connection(link, setup).await?;
    let refused = async move { ticket.refused().await };
    Ok(Opened {
        client: (),
        lost: Box::pin(lost(connections, refused)),
    })
}

/// Keeps a message for the next request.
fn arrived(subscribed: &Weak<Subscribed>, subject: &str, message: Option<Message>) {
    let Some(subscribed) = subscribed.upgrade() else {
        return;
    };
    let Some(message) = message else {
        return subscribed.counter.count(Ended::Rejected);
    };
    let bytes = message.bytes();
    if subscribed.inbox.push(message, bytes).is_err() {
        subscribed.counter.count(Ended::Rejected);
        subscribed.full.warn(|| {
            format!(
                "[PubSub] NATS: a message of {subject} is lost: no request takes those before it"
            )
        });
    }
}

#[async_trait]
impl Subscription for Arc<Subscribed> {
    async fn receive(&self, deadline: Instant) -> Result<Option<Taken>, Failure> {
        let mut connections = self.line.connections();
        loop {
            // Messages that are here can be taken without a connection.
            if self.inbox.is_empty() {
                self.line.client(deadline).await?;
            }
            tokio::select! {
                biased;
                message = self.inbox.next() => return Ok(Some(taken(self, message))),
                () = connections.lost() => {}
                // No message arrived in time: this is an error only if there is no subscription.
                () = sleep_until(deadline) => {
                    return self.line.client(Instant::now()).await.map(|()| None);
                }
            }
        }
    }
}

fn taken(subscribed: &Arc<Subscribed>, message: Message) -> Taken {
    let (body, kind) = parts(&message);
    Taken {
        body,
        content_type: kind.and_then(|bytes| content_type(&bytes)),
        claim: Claim::new(Delivered {
            subscribed: Arc::downgrade(subscribed),
            message,
        }),
    }
}

/// The body of a message, and its content type.
fn parts(message: &Message) -> (Result<Bytes, &'static str>, Option<Vec<u8>>) {
    let Some(block) = &message.headers else {
        // KrakenD's own form, in which metadata and body are one value of Go.
        return match gob::read(&message.body) {
            None => (Ok(message.body.clone()), None),
            Some(read) => {
                let mut pairs = read.metadata.into_iter();
                let found = pairs.find(|(name, _)| name == "Content-Type");
                (Ok(read.body), found.map(|(_, value)| value.into_bytes()))
            }
        };
    };
    match headers::content_type(block) {
        Ok(content_type) => (Ok(message.body.clone()), content_type.map(<[u8]>::to_vec)),
        Err(()) => (Err("its headers cannot be parsed"), None),
    }
}

/// The acknowledgement of a message that was taken.
#[derive(Debug)]
struct Delivered {
    subscribed: Weak<Subscribed>,
    message: Message,
}

impl Confirm for Delivered {
    fn confirm(self: Box<Self>, verdict: Verdict) {
        // NATS does not redeliver, so a message that cannot be used is dropped.
        if verdict != Verdict::Return {
            return;
        }
        if let Some(subscribed) = self.subscribed.upgrade() {
            let bytes = self.message.bytes();
            subscribed.inbox.put_back(self.message, bytes);
        }
    }
}
