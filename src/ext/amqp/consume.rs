//! Takes messages from a queue on one channel.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::channel::{DIFFERENT, Exchange};
use super::client::{Channel, Client, Delivery, QueueFlags, Role};
use crate::ext::broker::{FULL_PAUSE, Failed, Inbox, Link, Opened, Skipped, lost, on_connection};
use crate::ext::pubsub::driver::{
    Claim, Confirm, Subscription, Taken, Verdict, aside, content_type,
};
use crate::runtime::failure::Failure;
use crate::upstream::budget::Full;
use crate::upstream::collect::Overflow;

/// A queue, and how messages are taken from it.
pub(super) struct Plan {
    pub(super) queue: String,
    /// `None` if the queue must exist.
    pub(super) declared: Option<Declared>,
    /// More than 0: without it, the broker would deliver all messages.
    pub(super) prefetch: u16,
    pub(super) no_local: bool,
    /// The most bytes of a message.
    pub(super) most_bytes: u64,
    /// Whether the warning about a different existing queue was already logged.
    pub(super) told: AtomicBool,
}

/// What is declared before messages are taken.
pub(super) struct Declared {
    pub(super) exchange: Exchange,
    pub(super) routing_keys: Vec<String>,
    /// The queue is exclusive, and so is its consumer.
    pub(super) exclusive: bool,
}

/// The messages that one channel has delivered.
#[derive(Clone)]
pub(super) struct Feed(Arc<Delivered>);

struct Delivered {
    channel: Channel,
    inbox: Inbox<Delivery>,
    /// Messages for which there was no memory.
    skipped: Skipped,
}

/// Opens a channel, declares what is to be declared, and takes messages.
pub(super) async fn open(link: Arc<Link<Client>>, plan: Arc<Plan>) -> Result<Opened<Feed>, Failed> {
    let most = usize::from(plan.prefetch);
    let setup = |client| async move { plan.consume(&client).await };
    let (consuming, connections) = on_connection(link, setup).await?;
    let Consuming {
        channel,
        mut messages,
        ..
    } = consuming;
    let feed = Feed(Arc::new(Delivered {
        channel: channel.clone(),
        inbox: Inbox::new(most, usize::MAX),
        skipped: Skipped::default(),
    }));
    let filled = feed.clone();
    let ended = async move {
        tokio::select! {
            full = filled.fill(&mut messages) => match full {
                Ok(()) => channel.ended().await,
                Err(why) => why,
            },
            why = channel.ended() => why,
        }
    };
    Ok(Opened {
        client: feed,
        lost: Box::pin(lost(connections, ended)),
    })
}

/// A channel that delivers messages.
pub(super) struct Consuming {
    pub(super) channel: Channel,
    /// The name of the consumer on this channel.
    pub(super) tag: String,
    /// Ends when the channel has ended.
    pub(super) messages: mpsc::Receiver<Delivery>,
}

impl Plan {
    /// Opens a channel, declares what is to be declared, and asks for messages.
    pub(super) async fn consume(&self, client: &Client) -> Result<Consuming, String> {
        let (sink, messages) = mpsc::channel(usize::from(self.prefetch).max(1));
        let (channel, queue) = self.prepared(client, sink).await?;
        channel.prefetch(self.prefetch).await?;
        let exclusive = self.declared.as_ref().is_some_and(|all| all.exclusive);
        let tag = channel.consume(&queue, self.no_local, exclusive).await?;
        Ok(Consuming {
            channel,
            tag,
            messages,
        })
    }

    /// A channel on which the queue is ready, and the name of the queue.
    async fn prepared(
        &self,
        client: &Client,
        sink: mpsc::Sender<Delivery>,
    ) -> Result<(Channel, String), String> {
        let taking = || Role::Takes {
            sink: sink.clone(),
            most: self.most_bytes,
        };
        let channel = client.channel(taking()).await?;
        let Some(declared) = &self.declared else {
            let name = self.existing(&channel).await?;
            return Ok((channel, name));
        };
        declared.exchange.declare(&channel).await?;
        let flags = QueueFlags {
            passive: false,
            durable: declared.exchange.durable,
            exclusive: declared.exclusive,
            auto_delete: declared.exchange.auto_delete,
        };
        let (channel, name) = match channel.declare_queue(&self.queue, flags).await {
            Ok(name) => (channel, name),
            // A queue with other arguments, such as a limit on the age of its messages, is used as it exists. The
            // broker has closed the channel of the declaration.
            Err(why) if why.starts_with(DIFFERENT) => {
                if !self.told.swap(true, Ordering::Relaxed) {
                    log::warn!(
                        "[Queues] the queue {} exists with other settings, which stay in effect: {why}",
                        self.queue
                    );
                }
                let channel = client.channel(taking()).await?;
                let name = self.existing(&channel).await?;
                (channel, name)
            }
            Err(why) => return Err(why),
        };
        for key in &declared.routing_keys {
            channel.bind(&name, &declared.exchange.name, key).await?;
        }
        Ok((channel, name))
    }

    /// The name of a queue that must exist.
    async fn existing(&self, channel: &Channel) -> Result<String, String> {
        let flags = QueueFlags {
            passive: true,
            ..QueueFlags::default()
        };
        channel.declare_queue(&self.queue, flags).await
    }
}

impl Feed {
    /// Ends when the client delivers no more messages.
    ///
    /// # Errors
    /// The broker delivers more messages than were requested.
    async fn fill(&self, messages: &mut mpsc::Receiver<Delivery>) -> Result<(), String> {
        while let Some(delivery) = messages.recv().await {
            let bytes = match &delivery.body {
                Ok(body) => body.len(),
                Err(Overflow::TooLarge) => 0,
                Err(Overflow::Full) => {
                    self.give_back(&delivery);
                    continue;
                }
            };
            if self.0.inbox.push(delivery, bytes).is_err() {
                return Err("the broker delivers more messages than prefetch_count".to_owned());
            }
        }
        Ok(())
    }

    /// Returns a message for which there is no memory to its queue when there is some.
    fn give_back(&self, delivery: &Delivery) {
        let (bytes, tag, again) = (delivery.bytes, delivery.tag, delivery.redelivered);
        let most = FULL_PAUSE.as_secs();
        log::warn!(
            "[Queues] {Full}: a message of {bytes} bytes is returned to the queue when there is memory, after {most} s at the latest"
        );
        let feed = Arc::clone(&self.0);
        aside(async move {
            let channel = &feed.channel;
            tokio::select! {
                _turn = feed.skipped.turn(bytes, again) => told(channel.nack(tag, true).await),
                _ = channel.ended() => {}
            }
        });
    }
}

/// The end of a queue that requests take messages from.
pub(super) struct Queue {
    pub(super) link: Arc<Link<Feed>>,
    /// A message is confirmed when it is taken.
    pub(super) auto_ack: bool,
    /// A message that cannot become a response is not redelivered.
    pub(super) discard: bool,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({:?})", self.link)
    }
}

#[async_trait]
impl Subscription for Queue {
    async fn receive(&self, deadline: Instant) -> Result<Option<Taken>, Failure> {
        let mut connections = self.link.connections();
        loop {
            let feed = self.link.client(deadline).await?;
            tokio::select! {
                delivery = feed.0.inbox.next() => return Ok(Some(self.taken(&feed, delivery))),
                // Messages of a lost channel are delivered again on the next one.
                () = connections.lost() => {}
                () = sleep_until(deadline) => return Ok(None),
            }
        }
    }
}

impl Queue {
    fn taken(&self, feed: &Feed, delivery: Delivery) -> Taken {
        // One that is too large would be so again.
        let again = delivery.body.is_ok() && !delivery.redelivered && !self.discard;
        let receipt = Receipt {
            channel: feed.0.channel.clone(),
            tag: delivery.tag,
            again,
            confirmed: self.auto_ack,
        };
        if self.auto_ack {
            receipt.acknowledge();
        }
        let kind = delivery.known.content_type;
        Taken {
            body: delivery.body.map_err(|_| "it is larger than allowed"),
            content_type: kind.and_then(|text| content_type(&text)),
            claim: Claim::new(receipt),
        }
    }
}

/// Acknowledges a message that was taken.
struct Receipt {
    channel: Channel,
    tag: u64,
    /// A message that cannot be used is redelivered once.
    again: bool,
    confirmed: bool,
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receipt({})", self.tag)
    }
}

impl Receipt {
    fn acknowledge(&self) {
        let (channel, tag) = (self.channel.clone(), self.tag);
        aside(async move { told(channel.ack(tag).await) });
    }
}

/// What became of the confirmation of a message. The broker delivers the message again if it got none.
pub(super) fn told(sent: Result<(), String>) {
    if let Err(why) = sent {
        log::debug!("[Queues] a message cannot be confirmed: {why}");
    }
}

impl Confirm for Receipt {
    fn confirm(self: Box<Self>, verdict: Verdict) {
        if self.confirmed {
            return;
        }
        let again = match verdict {
            Verdict::Done => return self.acknowledge(),
            Verdict::Return => true,
            // What is rejected goes to the dead-letter exchange of the queue, if it has one.
            Verdict::Bad => self.again,
        };
        let (channel, tag) = (self.channel, self.tag);
        aside(async move { told(channel.nack(tag, again).await) });
    }
}
