//! Takes the messages of an async agent.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream;
use rustls::ClientConfig;
use tokio::time::timeout;

use super::address::Broker;
use super::client::{self, Channel, Client};
use super::compile::{MAX_SHORT, PREFETCH, address, exchange, name, own_files, prefetch};
use super::config::AGENT_KEYS;
use super::consume::{Consuming, Declared, Plan, told};
use crate::backoff::Backoff;
use crate::config::{Agent, Block, ConfigError, Node};
use crate::ext::agents::{
    self, AgentContext, Delivery, Disposition, Opened, Pipeline, Policy, RateLimit, Receipt,
    Session, Source,
};
use crate::ext::broker::{Failed, SETUP, most_bytes};
use crate::ext::context::Compile;
use crate::ext::pubsub::driver::content_type;
use crate::runtime::agents::{Agent as Shown, AgentHealth};
use crate::runtime::service::{Endpoint, Options};
use crate::telemetry::observe::Observer;
use crate::telemetry::queues::{Direction, MessageCounter};
use crate::upstream::race::Turn;

/// The most messages that an agent may process at the same time: the broker delivers no more before they are confirmed.
const MAX_WORKERS: i64 = 65_535;
const MIN_INTERVAL: Duration = Duration::from_secs(1);

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
    let rate_limit = rate_limit(file);
    let unset = u16::try_from(workers.unwrap_or(1).saturating_mul(2)).unwrap_or(u16::MAX);
    let parts = name(&block, "name")
        .zip(exchange(&block))
        .zip(prefetch(&block, unset.max(PREFETCH)));
    let max_deliveries = max_deliveries(&block);
    let broker = broker(&block, cx);
    if file.topic.len() > MAX_SHORT {
        file.block
            .node()
            .invalid("consumer.topic: at most 255 bytes");
        return None;
    }
    let (((queue, exchange), prefetch), (broker, tls, place)) = parts.zip(broker)?;
    let (workers, rate_limit, max_deliveries, work) =
        (workers?, rate_limit?, max_deliveries?, work?);
    if usize::from(prefetch) < workers {
        node.warn(ConfigError::invalid(format!(
            "\"prefetch_count\" {prefetch} limits the messages in progress: at most {prefetch} of the {workers} \
             workers have one"
        )));
    }
    let most_bytes = most_bytes(cx);
    let source = Queue {
        name: format!("the queue {queue} of {}", broker.shown()).into(),
        broker: Arc::new(broker),
        tls,
        turn: Arc::default(),
        plan: Plan {
            queue,
            declared: Some(Declared {
                exchange,
                routing_keys: vec![file.topic.clone()],
                exclusive: block.flag("exclusive"),
            }),
            prefetch,
            no_local: block.flag("no_local"),
            most_bytes,
            told: AtomicBool::new(false),
        },
    };
    let policy = Policy {
        auto_ack: block.flag("auto_ack"),
        discard: block.flag("nack_discard"),
        max_deliveries,
        places: prefetch.into(),
    };
    let interval = file.health_interval.unwrap_or_default().max(MIN_INTERVAL);
    let backoff = Backoff::named(&file.backoff_strategy, 0);
    let (max_retries, max_rate) = (file.max_retries, file.max_rate);
    let label: Arc<str> = label.into();
    let counter = MessageCounter::new(&label, Direction::In);
    let plan = agents::Plan {
        key: format!(
            "{} {place} {:?} {workers} {most_bytes} {max_rate:?} {max_retries:?} {backoff:?} {interval:?}",
            node.value().to_json(),
            file.topic
        ),
        source: Box::new(source),
        context: AgentContext::new(&label, rate_limit, policy, counter),
        workers,
        max_retries,
        backoff,
        health: AgentHealth::new(&label, interval),
        name: label,
    };
    let pipeline = Pipeline {
        options: options.clone(),
        endpoint: Arc::new(work),
        observer: cx.fact::<Observer>(),
    };
    Some(agents::put(plan, pipeline, cx))
}

/// As in KrakenD, less than 1 means 1.
fn workers(file: &Agent<'_>) -> Option<usize> {
    let workers = file.workers.unwrap_or(1).max(1);
    if workers > MAX_WORKERS {
        let node = file.block.get("consumer");
        node.unwrap_or_else(|| file.block.node().clone())
            .invalid(format!("workers: at most {MAX_WORKERS}"));
        return None;
    }
    usize::try_from(workers).ok()
}

/// `Some(None)` without a limit.
fn rate_limit(file: &Agent<'_>) -> Option<Option<RateLimit>> {
    let rate = file.max_rate.unwrap_or(0.0);
    if rate < 0.0 || !rate.is_finite() {
        let node = file.block.get("consumer");
        node.unwrap_or_else(|| file.block.node().clone())
            .invalid("max_rate: a rate cannot be negative; 0 sets no limit");
        return None;
    }
    Some((rate > 0.0).then(|| RateLimit::new(rate)))
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
    turn: Arc<Turn>,
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
        let (broker, turn) = (Arc::clone(&self.broker), Arc::clone(&self.turn));
        let opened = client::open(broker, self.tls.clone(), turn).await;
        let opened = opened.map_err(Failed::into_text)?;
        let consuming = timeout(SETUP, self.plan.consume(&opened.client)).await;
        let Consuming {
            channel,
            tag,
            mut messages,
        } = consuming.map_err(|_| "no reply in time".to_owned())??;
        let session = Line {
            connection: opened.client,
            channel: channel.clone(),
            tag,
        };
        let (lost_connection, open) = (opened.lost, channel.clone());
        let lost = async move {
            tokio::select! {
                why = open.ended() => why,
                lost = lost_connection => lost.into_text(),
            }
        };
        let messages = stream::poll_fn(move |cx| messages.poll_recv(cx));
        Ok(Opened {
            deliveries: messages
                .map(move |message| delivery(message, &channel))
                .boxed(),
            lost: Box::pin(lost),
            session: Box::new(session),
        })
    }
}

fn delivery(message: client::Delivery, channel: &Channel) -> Delivery {
    let known = message.known;
    Delivery {
        body: message.body,
        bytes: message.bytes,
        content_type: known.content_type.and_then(|text| content_type(&text)),
        id: known.message_id,
        redelivered: message.redelivered,
        earlier: known.earlier,
        receipt: Box::new(Tag {
            channel: channel.clone(),
            tag: message.tag,
        }),
    }
}

/// The connection of an agent.
struct Line {
    connection: Client,
    channel: Channel,
    /// The name of the consumer.
    tag: String,
}

#[async_trait]
impl Session for Line {
    async fn cancel(&self) -> bool {
        self.channel.cancel(&self.tag).await.is_ok()
    }

    async fn close(self: Box<Self>) {
        self.connection.close().await;
    }
}

/// A message with its channel. On a new channel, the delivery tag identifies another message.
struct Tag {
    channel: Channel,
    tag: u64,
}

#[async_trait]
impl Receipt for Tag {
    async fn tell(self: Box<Self>, disposition: Disposition) {
        let Tag { channel, tag } = *self;
        told(match disposition {
            Disposition::Done => channel.ack(tag).await,
            Disposition::Return => channel.nack(tag, true).await,
            Disposition::Reject => channel.nack(tag, false).await,
        });
    }
}
