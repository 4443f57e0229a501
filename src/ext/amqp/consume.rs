//! Takes messages from a queue on one channel.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicNackArguments, BasicQosArguments, Channel,
    ConsumerMessage, QueueBindArguments, QueueDeclareArguments,
};
use amqprs::connection::Connection;
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};

use super::channel::{DIFFERENT, Exchange, OpenChannel, on_connection};
use super::connection::text;
use super::held::Held;
use crate::ext::broker::{Failed, Inbox, Link, Opened};
use crate::ext::pubsub::driver::{Claim, Confirm, Subscription, Taken, Verdict, aside};
use crate::runtime::failure::Failure;

/// A queue, and how messages are taken from it.
pub(super) struct Plan {
    pub(super) queue: String,
    /// `None` if the queue must exist.
    pub(super) declared: Option<Declared>,
    pub(super) prefetch: u16,
    pub(super) no_local: bool,
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
    channel: Held<Channel>,
    inbox: Inbox<Delivery>,
}

struct Delivery {
    tag: u64,
    redelivered: bool,
    content_type: Option<String>,
    body: Bytes,
}

/// Opens a channel, declares what is to be declared, and takes messages.
pub(super) async fn open(
    link: Arc<Link<Held<Connection>>>,
    plan: Arc<Plan>,
) -> Result<Opened<Feed>, Failed> {
    // Without a prefetch count, the broker delivers all messages.
    let most = match usize::from(plan.prefetch) {
        0 => usize::MAX,
        most => most,
    };
    let (consuming, mut connections) =
        on_connection(
            link,
            |connection| async move { plan.consume(&connection).await },
        )
        .await?;
    let Consuming {
        mut open,
        mut messages,
        ..
    } = consuming;
    let feed = Feed(Arc::new(Delivered {
        channel: Held::new(open.channel.clone()),
        inbox: Inbox::new(most, usize::MAX),
    }));
    let filled = feed.clone();
    let lost = async move {
        tokio::select! {
            full = filled.fill(&mut messages) => match full {
                Ok(()) => open.ended().await,
                Err(why) => why,
            },
            why = async { open.ended().await } => why,
            () = connections.lost() => "the connection is lost".to_owned(),
        }
    };
    Ok(Opened {
        client: feed,
        lost: Box::pin(lost),
    })
}

/// A channel that delivers messages.
pub(super) struct Consuming {
    pub(super) open: OpenChannel,
    /// The name of the consumer on this channel.
    pub(super) tag: String,
    /// The broker bounds their number.
    pub(super) messages: UnboundedReceiver<ConsumerMessage>,
}

impl Plan {
    /// Opens a channel, declares what is to be declared, and asks for messages.
    pub(super) async fn consume(&self, connection: &Connection) -> Result<Consuming, String> {
        let (open, queue) = self.prepared(connection).await?;
        let qos = BasicQosArguments::new(0, self.prefetch, false);
        let asked = open.channel.basic_qos(qos).await;
        asked.map_err(|error| open.reason(&error))?;
        let mut arguments = BasicConsumeArguments::new(&queue, "");
        arguments.no_local = self.no_local;
        arguments.exclusive = self.declared.as_ref().is_some_and(|all| all.exclusive);
        let consumed = open.channel.basic_consume_rx(arguments).await;
        let (tag, messages) = consumed.map_err(|error| open.reason(&error))?;
        Ok(Consuming {
            open,
            tag,
            messages,
        })
    }

    /// A channel on which the queue is ready, and the name of the queue.
    async fn prepared(&self, connection: &Connection) -> Result<(OpenChannel, String), String> {
        let open = OpenChannel::new(connection, None).await?;
        let mut arguments = QueueDeclareArguments::new(&self.queue);
        let Some(declared) = &self.declared else {
            arguments.passive(true);
            let name = queue(&open, arguments).await?;
            return Ok((open, name));
        };
        open.declare(&declared.exchange).await?;
        arguments
            .durable(declared.exchange.durable)
            .auto_delete(declared.exchange.auto_delete)
            .exclusive(declared.exclusive);
        let (open, name) = match queue(&open, arguments).await {
            Ok(name) => (open, name),
            Err(why) if why.starts_with(DIFFERENT) => self.existing(connection, &why).await?,
            Err(why) => return Err(why),
        };
        for key in &declared.routing_keys {
            let bind = QueueBindArguments::new(&name, &declared.exchange.name, key);
            let bound = open.channel.queue_bind(bind).await;
            bound.map_err(|error| open.reason(&error))?;
        }
        Ok((open, name))
    }

    /// A queue with other arguments, such as a limit on the age of its messages, is taken as it is. The broker has closed
    /// the channel of the declaration.
    async fn existing(
        &self,
        connection: &Connection,
        why: &str,
    ) -> Result<(OpenChannel, String), String> {
        if !self.told.swap(true, Ordering::Relaxed) {
            log::warn!("[Queues] the queue {} is taken as it is: {why}", self.queue);
        }
        let open = OpenChannel::new(connection, None).await?;
        let mut arguments = QueueDeclareArguments::new(&self.queue);
        arguments.passive(true);
        let name = queue(&open, arguments).await?;
        Ok((open, name))
    }
}

async fn queue(open: &OpenChannel, arguments: QueueDeclareArguments) -> Result<String, String> {
    match open.channel.queue_declare(arguments).await {
        Ok(Some((name, _, _))) => Ok(name),
        Ok(None) => Err("the broker did not answer".to_owned()),
        Err(error) => Err(open.reason(&error)),
    }
}

impl Feed {
    /// Ends when the client delivers no more messages.
    ///
    /// # Errors
    /// The broker delivers more messages than were requested.
    async fn fill(&self, messages: &mut UnboundedReceiver<ConsumerMessage>) -> Result<(), String> {
        while let Some(message) = messages.recv().await {
            let (Some(deliver), Some(content)) = (message.deliver, message.content) else {
                continue;
            };
            let properties = message.basic_properties;
            let content_type = properties.and_then(|all| all.content_type().cloned());
            let bytes = content.len();
            let delivery = Delivery {
                tag: deliver.delivery_tag(),
                redelivered: deliver.redelivered(),
                content_type,
                body: content.into(),
            };
            if self.0.inbox.push(delivery, bytes).is_err() {
                return Err("the broker delivers more messages than prefetch_count".to_owned());
            }
        }
        Ok(())
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
        let receipt = Receipt {
            channel: feed.0.channel.clone(),
            tag: delivery.tag,
            again: !delivery.redelivered && !self.discard,
            confirmed: self.auto_ack,
        };
        if self.auto_ack {
            receipt.acknowledge();
        }
        let content_type = delivery.content_type;
        Taken {
            body: Ok(delivery.body),
            content_type: content_type.and_then(|text| HeaderValue::try_from(text).ok()),
            claim: Claim::new(receipt),
        }
    }
}

/// Acknowledges a message that was taken.
struct Receipt {
    channel: Held<Channel>,
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
        let arguments = BasicAckArguments::new(self.tag, false);
        let channel = self.channel.clone();
        on(channel, |channel| async move {
            channel.basic_ack(arguments).await
        });
    }
}

/// Sends an acknowledgement if the channel is still open. On a new channel, delivery tags identify other messages.
fn on<F>(channel: Held<Channel>, tell: impl FnOnce(Channel) -> F + Send + 'static)
where
    F: Future<Output = Result<(), amqprs::error::Error>> + Send,
{
    aside(async move {
        let open = channel.get().cloned();
        let open = open.filter(|open| open.is_open() && open.is_connection_open());
        let Some(channel) = open else {
            // The broker delivers the message again.
            log::debug!("[Queues] a message cannot be confirmed: its channel is closed");
            return;
        };
        if let Err(error) = tell(channel).await {
            log::warn!("[Queues] a message cannot be confirmed: {}", text(&error));
        }
    });
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
        let arguments = BasicNackArguments::new(self.tag, false, again);
        on(self.channel, |channel| async move {
            channel.basic_nack(arguments).await
        });
    }
}
