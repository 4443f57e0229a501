//! Compiles the blocks to steps that send and take messages.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;

use super::address::Address;
use super::config::{PUBLISHER_KEYS, SUBSCRIBER_KEYS};
use super::driver::{Subscription, Topic};
use super::google::{Google, Resource};
use super::google_token::{Source, Tokens};
use super::metadata::Listed;
use super::receive::Receiver;
use super::send::{Sender, ToTopic};
use super::sns::Sns;
use super::sqs::{Queue, Sqs};
use crate::config::{Block, ConfigError, Node};
#[cfg(feature = "amqp")]
use crate::ext::amqp;
use crate::ext::aws_sigv4::{AwsClient, Service};
use crate::ext::context::{BackendSite, Compile};
use crate::ext::extension::BackendPart;
use crate::ext::reload_state::Task;
use crate::telemetry::queues::{Direction, MessageCounter};
use crate::upstream::{ClientError, OUR_USER_AGENT, SideClient, SideTls};

/// Options of AWS's URLs that have an effect.
const AWS_OPTIONS: &[&str] = &["region", "endpoint", "profile", "anonymous"];
/// Options of the libraries that KrakenD uses. Here they have no effect.
const AWS_LIBRARY: &[&str] = &[
    "awssdk",
    "hostname_immutable",
    "rate_limiter_capacity",
    "request_checksum_calculation",
    "response_checksum_validation",
];
/// Options that choose other addresses of AWS, which `endpoint` can name.
const AWS_ADDRESSES: &[&str] = &["dualstack", "fips"];
const SQS_RECEIVE: &[&str] = &["raw", "nacklazy", "waittime"];
const GOOGLE_SEND: &[&str] = &["max_send_batch_size"];
const GOOGLE_RECEIVE: &[&str] = &["max_recv_batch_size", "nacklazy"];
const NATS_OPTIONS: &[&str] = &["natsv2"];
const NATS_RECEIVE: &[&str] = &["queue"];
const RABBIT_SEND: &[&str] = &["key_name"];
const RABBIT_RECEIVE: &[&str] = &["prefetch_count"];
/// How long SQS waits for a message at most.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// The service of Google Pub/Sub.
const GOOGLE: &str = "https://pubsub.googleapis.com";

/// A namespace, and what it names the direction by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Publisher,
    Subscriber,
}

pub(super) fn publisher(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let Some(block) = node.block(PUBLISHER_KEYS) else {
        return BackendPart::Nothing;
    };
    let place = place(&block, "topic_url", site, Role::Publisher);
    let Some((address, node)) = place else {
        return BackendPart::Nothing;
    };
    let Some(topic) = topic(&node, &address, site, cx) else {
        return BackendPart::Nothing;
    };
    BackendPart::OnWire(Box::new(Sender {
        outlet: Box::new(ToTopic {
            topic,
            listed: Listed::new(site),
        }),
        counter: MessageCounter::new(site.pattern, Direction::Out),
        log: format!("[BACKEND: {}][PubSub]", address.shown()).into(),
    }))
}

pub(super) fn subscriber(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let Some(block) = node.block(SUBSCRIBER_KEYS) else {
        return BackendPart::Nothing;
    };
    let empty_status = empty_status(&block);
    let place = place(&block, "subscription_url", site, Role::Subscriber);
    let (Some((address, node)), Some(empty_status)) = (place, empty_status) else {
        return BackendPart::Nothing;
    };
    let Some(subscription) = subscription(&node, &address, site, cx) else {
        return BackendPart::Nothing;
    };
    BackendPart::OnWire(Box::new(Receiver {
        subscription,
        counter: MessageCounter::new(site.pattern, Direction::In),
        empty_status,
        log: format!("[BACKEND: {}][PubSub]", address.shown()).into(),
    }))
}

pub(in crate::ext) fn empty_status(block: &Block<'_>) -> Option<StatusCode> {
    let status = match block.integer("empty_status") {
        None | Some(500) => StatusCode::INTERNAL_SERVER_ERROR,
        Some(404) => StatusCode::NOT_FOUND,
        Some(204) => StatusCode::NO_CONTENT,
        Some(_) => {
            if let Some(node) = block.get("empty_status") {
                node.config_error(ConfigError::NotOneOf {
                    found: node.shown(),
                    allowed: "500, 404, 204".to_owned(),
                });
            }
            return None;
        }
    };
    Some(status)
}

/// The address of the topic or the queue, and the node to report errors at. As in KrakenD it is the first host followed
/// by the key.
fn place<'a>(
    block: &Block<'a>,
    key: &str,
    site: &BackendSite<'_>,
    role: Role,
) -> Option<(Address, Node<'a>)> {
    let node = block.get(key).unwrap_or_else(|| block.node().clone());
    let host = site.hosts.first().map_or("", String::as_str);
    if site.hosts.len() > 1 {
        node.warn(ConfigError::invalid("only the first host is used"));
    }
    let text = format!("{host}{}", block.string(key).unwrap_or_default());
    let Some(address) = Address::parse(&text) else {
        node.config_error_hint(
            ConfigError::invalid("the first host and this key together are not an address"),
            "\"host\": [\"awssqs://\"], or another scheme of docs/queues.md",
        );
        return None;
    };
    if !is_offered(&address, role, &node) {
        return None;
    }
    if address.place.is_empty() {
        node.invalid(format!(
            "{}:// names neither a topic nor a queue",
            address.scheme
        ));
        return None;
    }
    let known = known(&address, role);
    let mut fine = true;
    for (name, value) in &address.options {
        if AWS_LIBRARY.contains(&name.as_str()) && address.scheme.starts_with("aws") {
            node.warn(ConfigError::invalid(format!("{name} has no effect here")));
        } else if AWS_ADDRESSES.contains(&name.as_str()) && address.scheme.starts_with("aws") {
            if value != "false" {
                node.config_error_hint(
                    ConfigError::invalid(format!("{name} is not supported")),
                    "endpoint=https://… names the address",
                );
                fine = false;
            }
        } else if !known.iter().any(|known| known == name) {
            let shown = address.shown();
            node.config_error_hint(
                ConfigError::invalid(format!("{shown} has no option {name:?}")),
                format!("it has {}", known.join(", ")),
            );
            fine = false;
        }
    }
    fine.then_some((address, node))
}

/// Whether this build speaks the scheme. If not, the error says what to do.
fn is_offered(address: &Address, role: Role, node: &Node<'_>) -> bool {
    let service = "put a small HTTP service in front of the queue, and call it as a backend";
    let (what, hint) = match (address.scheme.as_str(), role) {
        ("awssqs" | "gcppubsub", _) | ("awssns", Role::Publisher) => return true,
        ("awssns", Role::Subscriber) => (
            "messages cannot be received from an SNS topic",
            "subscribe a queue to the topic, and receive them from there with awssqs://",
        ),
        ("kafka", _) => ("this gateway has no client for Kafka", service),
        ("azuresb", _) => ("this gateway has no client for Azure Service Bus", service),
        ("nats", _) if cfg!(feature = "nats") => return true,
        ("nats", _) => (
            "this binary was built without the cargo feature \"nats\", which is off by default",
            "build one with `cargo build --release --features nats`",
        ),
        ("rabbit", _) if cfg!(feature = "amqp") => return true,
        ("rabbit", _) => crate::ext::amqp::MISSING,
        _ => (
            "the scheme is unknown",
            "the schemes are awssns, awssqs and gcppubsub",
        ),
    };
    node.config_error_hint(
        ConfigError::invalid(format!("{}://: {what}", address.scheme)),
        hint,
    );
    false
}

/// The options that have an effect.
fn known(address: &Address, role: Role) -> Vec<&'static str> {
    let (both, own) = match (address.scheme.as_str(), role) {
        ("rabbit", Role::Publisher) => (&[][..], RABBIT_SEND),
        ("rabbit", Role::Subscriber) => (&[][..], RABBIT_RECEIVE),
        ("nats", Role::Publisher) => (NATS_OPTIONS, &[][..]),
        ("nats", Role::Subscriber) => (NATS_OPTIONS, NATS_RECEIVE),
        ("gcppubsub", Role::Publisher) => (&[][..], GOOGLE_SEND),
        ("gcppubsub", Role::Subscriber) => (&[][..], GOOGLE_RECEIVE),
        ("awssqs", Role::Subscriber) => (AWS_OPTIONS, SQS_RECEIVE),
        _ => (AWS_OPTIONS, &[][..]),
    };
    both.iter().chain(own).copied().collect()
}

#[cfg_attr(
    not(feature = "amqp"),
    expect(
        unused_variables,
        reason = "only channels of RabbitMQ belong to one backend"
    )
)]
fn topic(
    node: &Node<'_>,
    address: &Address,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> Option<Arc<dyn Topic>> {
    match address.scheme.as_str() {
        "awssqs" => Some(Arc::new(sqs(node, address, cx)?)),
        "awssns" => Some(Arc::new(sns(node, address, cx)?)),
        #[cfg(feature = "nats")]
        "nats" => super::nats::topic(node, address, cx),
        #[cfg(feature = "amqp")]
        "rabbit" => {
            let key_name = address.option("key_name");
            let topic = amqp::rabbit_topic(node, &address.place, key_name, site, cx)?;
            Some(Arc::new(topic))
        }
        _ => Some(Arc::new(google(node, address, "topics", cx)?)),
    }
}

#[cfg_attr(
    not(any(feature = "amqp", feature = "nats")),
    expect(
        unused_variables,
        reason = "only these subscriptions belong to one backend"
    )
)]
fn subscription(
    node: &Node<'_>,
    address: &Address,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> Option<Arc<dyn Subscription>> {
    match address.scheme.as_str() {
        #[cfg(feature = "nats")]
        "nats" => super::nats::subscription(node, address, site, cx),
        #[cfg(feature = "amqp")]
        "rabbit" => {
            let prefetch = address.option("prefetch_count");
            amqp::rabbit_queue(node, &address.place, prefetch, site, cx)
        }
        "awssqs" => Some(Arc::new(sqs(node, address, cx)?)),
        _ => Some(Arc::new(google(node, address, "subscriptions", cx)?)),
    }
}

/// The value of an option that is on or off. `None` after an error was reported.
fn flag(node: &Node<'_>, address: &Address, name: &str) -> Option<bool> {
    let flag = address.flag(name);
    flag.map_err(|why| node.invalid(why)).ok()
}

fn sqs(node: &Node<'_>, address: &Address, cx: &mut Compile<'_>) -> Option<Sqs> {
    // `sqs.eu-west-1.amazonaws.com/1/orders`
    let (host, rest) = address
        .place
        .split_once('/')
        .unwrap_or((&address.place, ""));
    if rest.is_empty() || host.contains('@') {
        node.config_error_hint(
            ConfigError::invalid(format!("{} is not the address of a queue", address.shown())),
            "awssqs://sqs.eu-west-1.amazonaws.com/123456789012/orders",
        );
        return None;
    }
    let region = host
        .strip_prefix("sqs.")
        .and_then(|rest| rest.split('.').next());
    let wait = match address.option("waittime") {
        None => Duration::ZERO,
        Some(text) => match crate::config::duration::parse(text) {
            Ok(wait) if wait <= MAX_WAIT => wait,
            _ => {
                node.invalid(format!("waittime={text}: a duration of 20s at most"));
                return None;
            }
        },
    };
    let queue = Queue {
        url: format!("https://{}", address.place),
        raw: flag(node, address, "raw")?,
        lazy: flag(node, address, "nacklazy")?,
        wait,
        client: aws(node, address, "sqs", region, cx)?,
    };
    Some(Sqs(Arc::new(queue)))
}

fn sns(node: &Node<'_>, address: &Address, cx: &mut Compile<'_>) -> Option<Sns> {
    let parts: Vec<&str> = address.place.split(':').collect();
    let &["arn", _, "sns", region, _, _] = parts.as_slice() else {
        node.config_error_hint(
            ConfigError::invalid(format!("{} is not the address of a topic", address.shown())),
            "awssns:///arn:aws:sns:eu-west-1:123456789012:orders",
        );
        return None;
    };
    Some(Sns {
        client: aws(node, address, "sns", Some(region), cx)?,
        arn: address.place.clone(),
    })
}

/// A client with the options of a URL. `region` is that of the address itself, which counts last.
fn aws(
    node: &Node<'_>,
    address: &Address,
    name: &'static str,
    region: Option<&str>,
    cx: &mut Compile<'_>,
) -> Option<AwsClient> {
    let set = |name: &str| {
        let value = address.option(name).filter(|value| !value.is_empty());
        value.map(str::to_owned)
    };
    let of_environment = || cx.environment.get("AWS_REGION").map(str::to_owned);
    let region = set("region")
        .or_else(of_environment)
        .or_else(|| region.map(str::to_owned))
        .filter(|region| !region.is_empty());
    let service = Service {
        name,
        region,
        endpoint: set("endpoint"),
        profile: set("profile"),
        anonymous: flag(node, address, "anonymous")?,
    };
    AwsClient::open(node, service, cx)
}

fn google(node: &Node<'_>, address: &Address, kind: &str, cx: &mut Compile<'_>) -> Option<Google> {
    let parts: Vec<&str> = address.place.split('/').collect();
    let (project, name) = match parts.as_slice() {
        ["projects", project, known, name] if *known == kind => (project, name),
        [project, name] => (project, name),
        _ => {
            node.config_error_hint(
                ConfigError::invalid(format!("{} is not an address of {kind}", address.shown())),
                format!("gcppubsub://projects/my-project/{kind}/orders"),
            );
            return None;
        }
    };
    let plain = |text: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+%:".contains(&byte);
        !text.is_empty() && text.bytes().all(allowed)
    };
    if !plain(project) || !plain(name) {
        node.invalid(format!(
            "{} has characters that Google does not allow",
            address.shown()
        ));
        return None;
    }
    let lazy = flag(node, address, "nacklazy")?;
    for name in ["max_send_batch_size", "max_recv_batch_size"] {
        let size = address.option(name).map(str::parse::<u32>);
        if size.is_some_and(|size| !size.is_ok_and(|size| (1..=1000).contains(&size))) {
            node.invalid(format!("{name}: a number from 1 to 1000"));
            return None;
        }
    }
    let emulator = cx.environment.get("PUBSUB_EMULATOR_HOST");
    let emulator = emulator.filter(|host| !host.is_empty()).map(str::to_owned);
    let other = cx.environment.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB");
    let other = other.filter(|base| !base.is_empty());
    let base = match (&emulator, other) {
        (Some(host), _) => format!("http://{host}"),
        (None, Some(other)) => other.trim_end_matches('/').to_owned(),
        (None, None) => GOOGLE.to_owned(),
    };
    let opened = (|| {
        let tokens = match emulator {
            Some(_) => None,
            None => Some(tokens(cx)?),
        };
        Ok::<_, ClientError>((
            tokens,
            SideClient::pooled(&cx.client_tls(), &OUR_USER_AGENT)?,
        ))
    })();
    let (tokens, http) = opened
        .map_err(|error| node.invalid(error.to_string()))
        .ok()?;
    Some(Google(Arc::new(Resource {
        http,
        url: format!("{base}/v1/projects/{project}/{kind}/{name}"),
        tokens,
        lazy,
        returned: Mutex::new(VecDeque::new()),
    })))
}

/// The tokens, which all backends share.
fn tokens(cx: &mut Compile<'_>) -> Result<Arc<Tokens>, ClientError> {
    let source = Source::find(cx.environment);
    let far_tls = cx.client_tls();
    cx.try_carry_over(format!("gcppubsub {source:?} {far_tls:?}"), |tasks| {
        // No redirects: these calls carry secrets for one server.
        let near = SideClient::direct(&SideTls::default(), &OUR_USER_AGENT)?;
        let far = SideClient::without_redirects(&far_tls, &OUR_USER_AGENT)?;
        let tokens = Arc::new(Tokens::new(source, near, far));
        let tended = Arc::downgrade(&tokens);
        tasks.push(Task::new("tokens of Google", Tokens::tend(tended)));
        Ok(tokens)
    })
}
