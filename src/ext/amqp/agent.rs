//! Takes the messages of an async agent.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use amqprs::channel::{
    BasicAckArguments, BasicCancelArguments, BasicNackArguments, Channel, ConsumerMessage,
};
use amqprs::connection::Connection;
use amqprs::error::Error;
use amqprs::{BasicProperties, FieldValue, ShortStr};
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream;
use http::HeaderValue;
use rustls::ClientConfig;
use tokio::time::timeout;

use super::address::Broker;
use super::channel::SETUP;
use super::compile::{MOST_SHORT, PREFETCH, address, exchange, name, own_files, prefetch};
use super::config::AGENT_KEYS;
use super::connection;
use super::consume::{Consuming, Declared, Plan};
use super::held::Held;
use crate::config::{Agent, Block, ConfigError, Node};
use crate::ext::agents::{
    self, Bench, Delivery, Fate, Opened, Pace, Pipeline, Policy, Receipt, Session, Source,
};
use crate::ext::broker::{Backoff, Failed};
use crate::ext::context::Compile;
use crate::runtime::agents::{Agent as Shown, AgentHealth};
use crate::runtime::service::{Endpoint, Options};
use crate::telemetry::observe::Observer;
use crate::telemetry::queues::{Direction, MessageCounter};

/// The most messages that an agent may process at the same time: the broker delivers no more before they are confirmed.
const MOST_WORKERS: i64 = 65_535;
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// The header in which quorum queues count.
const COUNT: &str = "x-delivery-count";

/// Compiles an agent with these calls. `None` after an error was reported.
pub(super) fn agent(
    file: &Agent<'_>,
    node: &Node<'_>,
    label: &str,
    work: Option<Endpoint>,
    options: &Options,
    cx: &mut Compile<'_>,
) -> Option<Shown> {
    let block = node.block(AGENT_KEYS)?;
    let workers = workers(file);
    let pace = pace(file);
    let unset = u16::try_from(workers.unwrap_or(1).saturating_mul(2)).unwrap_or(u16::MAX);
    let parts = name(&block, "name")
        .zip(exchange(&block))
        .zip(prefetch(&block, unset.max(PREFETCH)));
    let max_deliveries = max_deliveries(&block);
    let broker = broker(&block, cx);
    if file.topic.len() > MOST_SHORT {
        file.block
            .node()
            .invalid("consumer.topic: at most 255 bytes");
        return None;
    }
    let (((queue, exchange), prefetch), (broker, tls, place)) = parts.zip(broker)?;
    let (workers, pace, max_deliveries, work) = (workers?, pace?, max_deliveries?, work?);
    if usize::from(prefetch) < workers {
        node.warn(ConfigError::invalid(format!(
            "with \"prefetch_count\" {prefetch} no more than {prefetch} of the {workers} workers have messages"
        )));
    }
    let source = Queue {
        name: format!("the queue {queue} of {}", broker.shown()).into(),
        broker: Arc::new(broker),
        tls,
        plan: Plan {
            queue,
            declared: Some(Declared {
                exchange,
                routing_keys: vec![file.topic.clone()],
                exclusive: block.flag("exclusive"),
            }),
            prefetch,
            no_local: block.flag("no_local"),
            told: AtomicBool::new(false),
        },
    };
    let policy = Policy {
        auto_ack: block.flag("auto_ack"),
        discard: block.flag("nack_discard"),
        max_deliveries,
    };
    let interval = file.health_interval.unwrap_or_default().max(LEAST_INTERVAL);
    let backoff = Backoff::named(&file.backoff_strategy, 0);
    let (max_retries, max_rate) = (file.max_retries, file.max_rate);
    let label: Arc<str> = label.into();
    let counter = MessageCounter::new(&label, Direction::In);
    let plan = agents::Plan {
        key: format!(
            "{} {place} {:?} {workers} {max_rate:?} {max_retries:?} {backoff:?} {interval:?}",
            node.value().to_json(),
            file.topic
        ),
        source: Box::new(source),
        bench: Bench::new(&label, pace, policy, counter),
        workers,
        max_retries,
        backoff,
        health: AgentHealth::new(&label, interval),
        name: label,
    };
    let pipeline = Pipeline {
        options: options.clone(),
        endpoint: Arc::new(work),
        observer: cx.left::<Observer>(),
    };
    Some(agents::put(plan, pipeline, cx))
}

/// As in KrakenD, less than 1 means 1.
fn workers(file: &Agent<'_>) -> Option<usize> {
    let workers = file.workers.unwrap_or(1).max(1);
    if workers > MOST_WORKERS {
        let node = file.block.get("consumer");
        node.unwrap_or_else(|| file.block.node().clone())
            .invalid(format!("workers: at most {MOST_WORKERS}"));
        return None;
    }
    usize::try_from(workers).ok()
}

/// `Some(None)` without a limit.
fn pace(file: &Agent<'_>) -> Option<Option<Pace>> {
    let rate = file.max_rate.unwrap_or(0.0);
    if rate < 0.0 || !rate.is_finite() {
        let node = file.block.get("consumer");
        node.unwrap_or_else(|| file.block.node().clone())
            .invalid("max_rate: a rate cannot be negative; 0 sets no limit");
        return None;
    }
    Some((rate > 0.0).then(|| Pace::new(rate)))
}

/// `Some(None)` without a limit.
fn max_deliveries(block: &Block<'_>) -> Option<Option<u32>> {
    let most = block.within("max_deliveries", 0, i64::from(u32::MAX));
    if most.is_none() && block.has("max_deliveries") {
        return None;
    }
    let most = most.and_then(|most| u32::try_from(most).ok());
    Some(most.filter(|most| *most > 0))
}

/// The broker, the TLS to it, and what both depend on.
fn broker(
    block: &Block<'_>,
    cx: &mut Compile<'_>,
) -> Option<(Broker, Option<Arc<ClientConfig>>, String)> {
    let url = block.required("host")?;
    let node = block.get("host")?;
    let hint = "\"host\": \"amqp://user:password@host:5672/vhost\"";
    let broker = address(&node, &url, "it", hint)?;
    let mut tls = cx.client_tls();
    own_files(&mut tls, &broker, cx);
    let place = format!("{url} {tls:?}");
    let config = broker.tls.then(|| tls.config().map(Arc::new)).transpose();
    let config = config
        .map_err(|error| node.invalid(error.to_string()))
        .ok()?;
    Some((broker, config, place))
}

/// A queue on a connection of its own.
struct Queue {
    name: Box<str>,
    broker: Arc<Broker>,
    tls: Option<Arc<ClientConfig>>,
    plan: Plan,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({})", self.name)
    }
}

#[async_trait]
impl Source for Queue {
    fn name(&self) -> &str {
        &self.name
    }

    async fn open(&self) -> Result<Opened, String> {
        let opened = connection::open(Arc::clone(&self.broker), self.tls.clone()).await;
        let opened = opened.map_err(Failed::into_text)?;
        let closed = || "the connection is closed".to_owned();
        let connection = opened.client.get().ok_or_else(closed)?;
        let consuming = timeout(SETUP, self.plan.consume(connection)).await;
        let Consuming {
            mut open,
            tag,
            mut messages,
        } = consuming.map_err(|_| "no answer in time".to_owned())??;
        let channel = Held::new(open.channel.clone());
        let session = Line {
            connection: opened.client,
            channel: channel.clone(),
            tag,
        };
        let lost_connection = opened.lost;
        let lost = async move {
            tokio::select! {
                why = open.ended() => why,
                why = lost_connection => why,
            }
        };
        let messages = stream::poll_fn(move |cx| messages.poll_recv(cx));
        let deliveries =
            messages.filter_map(move |message| std::future::ready(delivery(message, &channel)));
        Ok(Opened {
            deliveries: deliveries.boxed(),
            lost: Box::pin(lost),
            session: Box::new(session),
        })
    }
}

/// `None` for what is not a message.
fn delivery(message: ConsumerMessage, channel: &Held<Channel>) -> Option<Delivery> {
    let deliver = message.deliver?;
    let properties = message.basic_properties.unwrap_or_default();
    let content_type = properties.content_type().cloned();
    Some(Delivery {
        body: message.content.unwrap_or_default().into(),
        content_type: content_type.and_then(|text| HeaderValue::try_from(text).ok()),
        id: properties.message_id().cloned().unwrap_or_default(),
        redelivered: deliver.redelivered(),
        earlier: earlier(&properties),
        receipt: Box::new(Tag {
            channel: channel.clone(),
            tag: deliver.delivery_tag(),
        }),
    })
}

/// How often a quorum queue has delivered the message before.
fn earlier(properties: &BasicProperties) -> Option<u32> {
    let name = ShortStr::try_from(COUNT).ok()?;
    match properties.headers()?.get(&name)? {
        FieldValue::l(count) => u32::try_from(*count).ok(),
        FieldValue::I(count) => u32::try_from(*count).ok(),
        FieldValue::i(count) => Some(*count),
        _ => None,
    }
}

/// The connection of an agent.
struct Line {
    connection: Held<Connection>,
    channel: Held<Channel>,
    /// The name of the consumer.
    tag: String,
}

#[async_trait]
impl Session for Line {
    async fn cancel(&self) -> bool {
        let Some(channel) = self.channel.get() else {
            return false;
        };
        let arguments = BasicCancelArguments::new(&self.tag);
        channel.basic_cancel(arguments).await.is_ok()
    }

    async fn close(self: Box<Self>) {
        // The broker answers after it has read what was sent before. Errors mean that it is closed already.
        if let Some(channel) = self.channel.get().cloned() {
            let _ = channel.close().await;
        }
        if let Some(connection) = self.connection.get().cloned() {
            let _ = connection.close().await;
        }
    }
}

/// A message with its channel. On a new channel, the delivery tag identifies another message.
struct Tag {
    channel: Held<Channel>,
    tag: u64,
}

#[async_trait]
impl Receipt for Tag {
    async fn tell(self: Box<Self>, fate: Fate) {
        let open = self.channel.get();
        let open = open.filter(|open| open.is_open() && open.is_connection_open());
        let Some(channel) = open else {
            // The broker delivers the message again.
            log::debug!("[Queues] a message cannot be confirmed: its channel is closed");
            return;
        };
        if let Err(error) = told(channel, self.tag, fate).await {
            log::warn!(
                "[Queues] a message cannot be confirmed: {}",
                connection::text(&error)
            );
        }
    }
}

async fn told(channel: &Channel, tag: u64, fate: Fate) -> Result<(), Error> {
    let again = match fate {
        Fate::Done => {
            let arguments = BasicAckArguments::new(tag, false);
            return channel.basic_ack(arguments).await;
        }
        Fate::Return => true,
        Fate::Reject => false,
    };
    let arguments = BasicNackArguments::new(tag, false, again);
    channel.basic_nack(arguments).await
}
