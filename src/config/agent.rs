//! One entry of `async_agent`.

use std::time::Duration;

use super::backend::{BACKEND, Backend};
use super::block::Block;
use super::endpoint::Endpoint;
use super::extra_config::Extra;
use super::key::{Key, Kind, key};
use super::service::filled;

/// The strategies of `backoff_strategy`. Others are read as the first one.
pub(crate) const BACKOFFS: &[&str] = &[
    "fallback",
    "linear",
    "linear-jitter",
    "exponential",
    "exponential-jitter",
];

/// The keys of an agent.
pub(crate) const AGENT: &[Key] = &[
    key(
        "name",
        Kind::Text,
        "AsyncAgent-00, by its place in the list",
        "The name in logs, metrics and `/__health`. Each agent has its own.",
    ),
    key(
        "connection",
        Kind::Block(CONNECTION),
        "",
        "The connection to the broker.",
    ),
    key(
        "consumer",
        Kind::Block(CONSUMER),
        "",
        "How messages are taken and processed.",
    ),
    key(
        "encoding",
        Kind::Text,
        "json",
        "The `encoding` of backends that set none. Messages themselves are never decoded.",
    ),
    key(
        "backend",
        Kind::Blocks(BACKEND),
        "",
        "The calls that each message starts; at least one.",
    ),
    key(
        "extra_config",
        Kind::Object,
        "",
        "The queue (`async/amqp`), and namespaces around the calls.",
    ),
];

/// The keys of `connection`.
const CONNECTION: &[Key] = &[
    key(
        "max_retries",
        Kind::Integer,
        "0 (no limit)",
        "How many times in a row a failed attempt to connect is repeated. After that the agent stops until the next \
         reload, and other agents continue. A negative value sets no limit either.",
    ),
    key(
        "backoff_strategy",
        Kind::Text,
        "fallback",
        "How pauses between attempts grow: `fallback` (a second), `linear`, `linear-jitter`, `exponential`, `exponential-jitter`. No pause is longer than a minute; all are jittered.",
    )
    .such_as(BACKOFFS),
    key(
        "health_interval",
        Kind::Duration,
        "1s",
        "How often the time of the agent in `/__health` is renewed while it is connected, at least a second. An agent that is down for three intervals is listed as stopped.",
    ),
];

/// The keys of `consumer`.
const CONSUMER: &[Key] = &[
    key(
        "topic",
        Kind::Text,
        "",
        "The routing key that binds the queue to the exchange.",
    ),
    key(
        "workers",
        Kind::Integer,
        "1",
        "How many messages are processed at the same time.",
    ),
    key(
        "timeout",
        Kind::Duration,
        "the service's",
        "The deadline for all calls of one message.",
    ),
    key(
        "max_rate",
        Kind::Number,
        "0 (no limit)",
        "The maximum number of messages per second. A message that waits for this limit occupies a worker.",
    ),
];

/// An agent as configured.
#[derive(Debug)]
pub struct Agent<'a> {
    /// For errors that are found during compilation.
    pub block: Block<'a>,
    pub name: Option<String>,
    /// Of backends that set none.
    pub encoding: Option<String>,
    /// Its calls, as those of an endpoint without a client.
    pub work: Endpoint<'a>,
    /// At most this many attempts follow a failed one. `None` sets no limit.
    pub max_retries: Option<u32>,
    pub backoff_strategy: String,
    pub health_interval: Option<Duration>,
    pub topic: String,
    /// As written, for errors.
    pub workers: Option<i64>,
    pub max_rate: Option<f64>,
}

impl<'a> Agent<'a> {
    pub fn read(block: Block<'a>) -> Agent<'a> {
        let connection = block.block("connection");
        let consumer = block.block("consumer");
        let encoding = filled(&block, "encoding");
        let mut backend: Vec<Backend<'a>> = block
            .blocks("backend")
            .into_iter()
            .map(Backend::read)
            .collect();
        for backend in &mut backend {
            backend.encoding = backend.encoding.take().or_else(|| encoding.clone());
        }
        let retries = connection
            .as_ref()
            .and_then(|block| block.integer("max_retries"));
        Agent {
            name: filled(&block, "name"),
            encoding,
            work: Endpoint {
                endpoint: None,
                method: None,
                backend,
                timeout: consumer
                    .as_ref()
                    .and_then(|block| block.set_duration("timeout")),
                cache_ttl: None,
                concurrent_calls: None,
                input_headers: Vec::new(),
                input_query_strings: Vec::new(),
                output_encoding: None,
                extra: Extra::read(&block),
                block: block.clone(),
            },
            max_retries: retries
                .and_then(|most| u32::try_from(most).ok())
                .filter(|most| *most > 0),
            backoff_strategy: connection
                .as_ref()
                .and_then(|block| block.string("backoff_strategy"))
                .unwrap_or_default(),
            health_interval: connection
                .as_ref()
                .and_then(|block| block.set_duration("health_interval")),
            topic: consumer
                .as_ref()
                .and_then(|block| block.string("topic"))
                .unwrap_or_default(),
            workers: consumer.as_ref().and_then(|block| block.integer("workers")),
            max_rate: consumer.as_ref().and_then(|block| block.number("max_rate")),
            block,
        }
    }
}
