//! Compiles the blocks and `rabbit://` addresses to steps.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use tokio::time::Instant;

use super::address::Broker;
use super::channel::Exchange;
use super::client::{self, Client};
use super::config::{CONSUMER_KEYS, PRODUCER_KEYS};
use super::consume::{self, Declared, Plan, Queue};
use super::producer::{Names, Producer, RoutingKey, field_bytes, plain_properties, short};
use super::publish::{self, MostBytes, Outgoing, OutgoingMessage, send};
use super::{CONSUMER, PRODUCER};
use crate::backoff::Backoff;
use crate::config::{Block, ConfigError, Node};
use crate::ext::broker::{Link, QUICK, most_bytes};
use crate::ext::context::{BackendSite, Compile};
use crate::ext::extension::BackendPart;
use crate::ext::pubsub::driver::{Outbound, Subscription, Topic, Unsent};
use crate::ext::pubsub::{Listed, Receiver, Sender, empty_status};
use crate::ext::reload_state::Task;
use crate::telemetry::queues::{Direction, MessageCounter};
use crate::upstream::{CertificatePair, ClientError, SideTls};

pub(super) const PREFETCH: u16 = 16;
/// The most bytes of names (AMQP 0-9-1, 4.2.5.3).
pub(super) const MAX_SHORT: usize = 255;

/// A connection, and what it depends on.
struct Connected {
    link: Arc<Link<Client>>,
    key: String,
    /// The broker without secrets.
    name: String,
}

pub(super) fn consumer(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let Some(block) = node.block(CONSUMER_KEYS) else {
        return BackendPart::Nothing;
    };
    let exclusive = block.flag("exclusive");
    let routing_keys = block.texts("routing_key");
    routing_keys
        .iter()
        .filter(|key| key.len() > MAX_SHORT)
        .for_each(|_| node.invalid("routing_key: at most 255 bytes"));
    let plan = name(&block, "name")
        .zip(exchange(&block))
        .zip(prefetch(&block, PREFETCH));
    let (Some(((queue, exchange), prefetch)), Some(empty_status), Some(connected)) = (
        plan,
        empty_status(&block),
        connected(node, &block, site, cx),
    ) else {
        return BackendPart::Nothing;
    };
    let plan = Plan {
        queue,
        declared: Some(Declared {
            exchange,
            routing_keys,
            exclusive,
        }),
        prefetch,
        no_local: block.flag("no_local"),
        most_bytes: most_bytes(cx),
        told: AtomicBool::new(false),
    };
    let key = site.state(CONSUMER.namespace, node);
    let log = format!("[BACKEND: {}][AMQP]", site.pattern);
    let subscription = Queue {
        link: feed(key, connected, plan, cx),
        auto_ack: block.flag("auto_ack"),
        discard: block.flag("nack_discard"),
    };
    BackendPart::OnWire(Box::new(Receiver {
        subscription: Arc::new(subscription),
        counter: MessageCounter::new(site.pattern, Direction::In),
        empty_status,
        log: log.into(),
    }))
}

pub(super) fn producer(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let Some(block) = node.block(PRODUCER_KEYS) else {
        return BackendPart::Nothing;
    };
    for (key, why) in [
        (
            "immediate",
            "RabbitMQ closes the connection after such a message",
        ),
        (
            "exclusive",
            "messages cannot be sent to an internal exchange",
        ),
    ] {
        if block.flag(key) {
            block.get(key).unwrap_or_else(|| node.clone()).invalid(why);
        }
    }
    let parts = exchange(&block)
        .zip(prefetch(&block, PREFETCH))
        .zip(routing_key(&block, site));
    let connected = connected(node, &block, site, cx);
    let (Some(((exchange, _), routing_key)), Some(connected)) = (parts, connected) else {
        return BackendPart::Nothing;
    };
    let named = |key: &str| {
        let name = block.string(key).filter(|name| !name.is_empty())?;
        parameter(&block, key, &name, site)
    };
    let names = Names {
        expiration: named("exp_key"),
        reply_to: named("reply_to_key"),
        message_id: named("msg_id_key"),
        priority: named("priority_key"),
    };
    let key = site.state(PRODUCER.namespace, node);
    BackendPart::OnWire(Box::new(Sender {
        outlet: Box::new(Producer {
            link: outgoing(key, connected, exchange, cx),
            routing_key,
            names,
            mandatory: block.flag("mandatory"),
            durable: block.flag("durable"),
            listed: Listed::new(site),
        }),
        counter: MessageCounter::new(site.pattern, Direction::Out),
        log: format!("[BACKEND: {}][AMQP]", site.pattern).into(),
    }))
}

/// A name that must be there. `None` after an error was reported.
pub(super) fn name(block: &Block<'_>, key: &'static str) -> Option<String> {
    let name = block.string(key).unwrap_or_default();
    let node = block.get(key).unwrap_or_else(|| block.node().clone());
    if name.is_empty() {
        node.invalid(format!("{key}: a name"));
        return None;
    }
    if name.len() > MAX_SHORT {
        node.invalid(format!("{key}: at most {MAX_SHORT} bytes"));
        return None;
    }
    Some(name)
}

pub(super) fn exchange(block: &Block<'_>) -> Option<Exchange> {
    Some(Exchange {
        name: name(block, "exchange")?,
        durable: block.flag("durable"),
        auto_delete: block.flag("delete"),
        // As in KrakenD, whose exchanges must be accepted.
        internal: block.flag("exclusive"),
        passive: false,
    })
}

/// `unset` is what 0 means.
pub(super) fn prefetch(block: &Block<'_>, unset: u16) -> Option<u16> {
    if let Some(node) = block.get("prefetch_size")
        && block.integer("prefetch_size").is_some_and(|size| size != 0)
    {
        node.invalid("RabbitMQ closes the connection if this is not 0");
        return None;
    }
    match block.integer("prefetch_count") {
        None | Some(0) => Some(unset),
        Some(count) => {
            let count = u16::try_from(count).ok();
            if count.is_none() {
                let node = block.get("prefetch_count");
                node.unwrap_or_else(|| block.node().clone())
                    .invalid("a number from 0 to 65535");
            }
            count
        }
    }
}

fn routing_key(block: &Block<'_>, site: &BackendSite<'_>) -> Option<RoutingKey> {
    let key = block.string("routing_key").unwrap_or_default();
    if block.flag("static_routing_key") {
        if key.len() > MAX_SHORT {
            block.node().invalid("routing_key: at most 255 bytes");
            return None;
        }
        return Some(RoutingKey::Fixed(key));
    }
    let found = Some(&key)
        .filter(|key| !key.is_empty())
        .and_then(|key| parameter(block, "routing_key", key, site));
    Some(found.map_or(RoutingKey::Fixed(String::new()), RoutingKey::Of))
}

/// The parameter of this name as the endpoint spells it. KrakenD spells the first letter in upper case, and clients of
/// either spelling are meant.
fn parameter(block: &Block<'_>, key: &str, name: &str, site: &BackendSite<'_>) -> Option<Box<str>> {
    let spelled = site.endpoint.pattern.split('{').skip(1);
    let mut spelled = spelled.filter_map(|rest| rest.split_once('}').map(|(name, _)| name));
    let found = spelled.find(|known| known.eq_ignore_ascii_case(name));
    // Values of earlier responses in a sequence.
    let found = found.or_else(|| name.starts_with("resp").then_some(name));
    if found.is_none() {
        let node = block.get(key).unwrap_or_else(|| block.node().clone());
        node.warn_hint(
            ConfigError::invalid(format!(
                "the endpoint has no parameter {{{name}}}: the value is empty"
            )),
            "\"static_routing_key\": true uses routing_key itself as the routing key",
        );
    }
    found.map(Box::from)
}

/// The connection to the first host, which all backends with the same address and strategy share.
fn connected(
    node: &Node<'_>,
    block: &Block<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> Option<Connected> {
    let host = site.hosts.first().map_or("", String::as_str);
    if site.hosts.len() > 1 {
        node.warn(ConfigError::invalid("only the first host is used"));
    }
    let hint = "\"host\": [\"amqp://user:password@host:5672/vhost\"]";
    let broker = address(node, host, "the first host", hint)?;
    let strategy = block.string("backoff_strategy").unwrap_or_default();
    let most = block.integer("max_retries").unwrap_or(0);
    let backoff = Backoff::named(&strategy, u32::try_from(most).unwrap_or(0));
    connection(node, broker, host, backoff, cx)
}

/// `url` is the whole address, with its secrets.
fn connection(
    node: &Node<'_>,
    broker: Broker,
    url: &str,
    backoff: Backoff,
    cx: &mut Compile<'_>,
) -> Option<Connected> {
    let mut tls = cx.client_tls();
    own_files(&mut tls, &broker, cx);
    let key = format!("amqp {url} {backoff:?} {tls:?}");
    let name = broker.shown();
    let made = cx.try_carry_over(key.clone(), |tasks| {
        let config = broker.tls.then(|| tls.config().map(Arc::new)).transpose()?;
        let link = Arc::new(Link::new(&name));
        let broker = Arc::new(broker);
        let turn = Arc::default();
        let open = move || client::open(Arc::clone(&broker), config.clone(), Arc::clone(&turn));
        let work = Link::keep(Arc::downgrade(&link), backoff, open);
        tasks.push(Task::new("connection to RabbitMQ", work));
        Ok::<_, ClientError>(link)
    });
    let link = made.map_err(|error| node.invalid(error.to_string())).ok()?;
    Some(Connected { link, key, name })
}

/// The files that the address names count in addition to `client_tls`.
pub(super) fn own_files(tls: &mut SideTls, broker: &Broker, cx: &Compile<'_>) {
    let path = |path: &std::path::Path| cx.path(&path.to_string_lossy());
    if let Some(file) = &broker.authorities {
        tls.ca_certs.push(path(file));
    }
    if let (Some(certificate), Some(private_key)) = (&broker.certificate, &broker.private_key) {
        tls.client_cert = Some(CertificatePair {
            certificate: path(certificate),
            private_key: path(private_key),
        });
    }
}

/// The channel of a consumer, also across reloads.
fn feed(
    key: String,
    connected: Connected,
    plan: Plan,
    cx: &mut Compile<'_>,
) -> Arc<Link<consume::Feed>> {
    let name = format!("the queue {} of {}", plan.queue, connected.name);
    let key = format!("{key} {} {}", connected.key, plan.most_bytes);
    cx.carry_over(key, |tasks| {
        let link = Arc::new(Link::new(&name));
        let plan = Arc::new(plan);
        let open = move || consume::open(Arc::clone(&connected.link), Arc::clone(&plan));
        let work = Link::keep(Arc::downgrade(&link), QUICK, open);
        tasks.push(Task::new("consumer of RabbitMQ", work));
        link
    })
}

/// The channel of a producer, also across reloads.
fn outgoing(
    key: String,
    connected: Connected,
    exchange: Exchange,
    cx: &mut Compile<'_>,
) -> Arc<Link<Outgoing>> {
    let name = format!("the exchange {} of {}", exchange.name, connected.name);
    cx.carry_over(format!("{key} {}", connected.key), |tasks| {
        let link = Arc::new(Link::new(&name));
        let exchange = Arc::new(exchange);
        let most = Arc::new(MostBytes::unknown());
        let open = move || {
            let link = Arc::clone(&connected.link);
            publish::open(link, Arc::clone(&exchange), Arc::clone(&most))
        };
        let work = Link::keep(Arc::downgrade(&link), QUICK, open);
        tasks.push(Task::new("producer of RabbitMQ", work));
        link
    })
}

/// An exchange of `rabbit://`, which must exist.
pub(in crate::ext) struct RabbitTopic {
    link: Arc<Link<Outgoing>>,
    /// The header whose value is the routing key. It is not sent.
    key_name: Option<String>,
}

impl fmt::Debug for RabbitTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RabbitTopic({:?})", self.link)
    }
}

#[async_trait]
impl Topic for RabbitTopic {
    async fn publish(&self, message: Outbound, deadline: Instant) -> Result<(), Unsent> {
        let mut metadata = message.metadata;
        let is_key = |name: &str| {
            let key = self.key_name.as_deref();
            key.is_some_and(|key| key.eq_ignore_ascii_case(name))
        };
        let at = metadata.iter().position(|(name, _)| is_key(name));
        let routing_key = at.map(|at| metadata.remove(at).1).unwrap_or_default();
        let letter = OutgoingMessage {
            routing_key: short("routing key", &routing_key)?,
            // As in KrakenD.
            mandatory: true,
            head_bytes: metadata
                .iter()
                .map(|(name, value)| field_bytes(name, value))
                .sum(),
            properties: plain_properties(metadata)?,
            body: message.body,
        };
        send(&self.link, letter, deadline).await
    }
}

/// `None` after an error was reported.
pub(in crate::ext) fn rabbit_topic(
    node: &Node<'_>,
    place: &str,
    key_name: Option<&str>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> Option<RabbitTopic> {
    let name = rabbit_place(node, place)?;
    let connected = rabbit(node, cx)?;
    let exchange = Exchange {
        name,
        durable: false,
        auto_delete: false,
        internal: false,
        passive: true,
    };
    Some(RabbitTopic {
        link: outgoing(site.state("rabbit topic", node), connected, exchange, cx),
        key_name: key_name.filter(|name| !name.is_empty()).map(str::to_owned),
    })
}

/// A queue of `rabbit://`, which must exist.
pub(in crate::ext) type RabbitQueue = Queue;

/// `None` after an error was reported.
pub(in crate::ext) fn rabbit_queue(
    node: &Node<'_>,
    place: &str,
    prefetch: Option<&str>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> Option<Arc<dyn Subscription>> {
    let queue = rabbit_place(node, place)?;
    let prefetch = match prefetch.map(str::parse) {
        None | Some(Ok(0)) => PREFETCH,
        Some(Ok(count)) => count,
        Some(Err(_)) => {
            node.invalid("prefetch_count: a number from 0 to 65535");
            return None;
        }
    };
    let connected = rabbit(node, cx)?;
    let plan = Plan {
        queue,
        declared: None,
        prefetch,
        no_local: false,
        most_bytes: most_bytes(cx),
        told: AtomicBool::new(false),
    };
    Some(Arc::new(RabbitQueue {
        link: feed(site.state("rabbit queue", node), connected, plan, cx),
        auto_ack: false,
        discard: false,
    }))
}

fn rabbit_place(node: &Node<'_>, place: &str) -> Option<String> {
    if place.len() > MAX_SHORT {
        node.invalid("a name has at most 255 bytes");
        return None;
    }
    Some(place.to_owned())
}

/// The connection that the environment names.
fn rabbit(node: &Node<'_>, cx: &mut Compile<'_>) -> Option<Connected> {
    const SERVER: &str = "RABBIT_SERVER_URL";
    // The address comes from the environment, and is not shown.
    const NAME: &str = "RabbitMQ";
    let hint = format!("{SERVER}=amqp://user:password@host:5672/vhost");
    let url = cx.environment.get(SERVER).filter(|url| !url.is_empty());
    let Some(url) = url.map(str::to_owned) else {
        let why = format!("{SERVER} is not set");
        node.warn_hint(
            ConfigError::invalid(format!("{why}: every call fails")),
            hint,
        );
        return Some(Connected {
            link: cx.carry_over("rabbit", |_| Arc::new(Link::closed(NAME, &why))),
            key: String::new(),
            name: NAME.to_owned(),
        });
    };
    match Broker::parse(&url) {
        Ok(broker) => {
            let broker = Broker {
                name: Some(NAME),
                ..broker
            };
            connection(node, broker, &url, QUICK, cx)
        }
        Err(why) => {
            let error =
                ConfigError::invalid(format!("{SERVER} is not the address of a broker: {why}"));
            node.config_error_hint(error, hint);
            None
        }
    }
}

/// The broker that `url` names. `what` says in an error where it is written.
pub(super) fn address(
    node: &Node<'_>,
    url: &str,
    what: &str,
    hint: &'static str,
) -> Option<Broker> {
    let parsed = Broker::parse(url);
    parsed
        .map_err(|why| {
            let text = format!("{what} is not the address of a broker: {why}");
            node.config_error_hint(ConfigError::invalid(text), hint);
        })
        .ok()
}
