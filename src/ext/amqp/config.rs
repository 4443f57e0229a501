//! The keys of the blocks.

use crate::config::agent::BACKOFFS;
use crate::config::{Key, Kind, key};

const NAME: Key = key(
    "name",
    Kind::Text,
    "",
    "The name of the queue. For a producer it has no effect.",
);
const EXCHANGE: Key = key(
    "exchange",
    Kind::Text,
    "",
    "The exchange, which is declared with the type `topic`.",
);
const DURABLE: Key = key(
    "durable",
    Kind::Bool,
    "false",
    "Exchange and queue survive a restart of the broker, and so do the messages of a producer.",
);
const DELETE: Key = key(
    "delete",
    Kind::Bool,
    "false",
    "Exchange and queue are deleted when they are no longer used.",
);
const EXCLUSIVE: Key = key(
    "exclusive",
    Kind::Bool,
    "false",
    "The queue belongs to this connection alone, and the exchange is internal, as in KrakenD. A producer cannot have it.",
);
const NO_WAIT: Key = key(
    "no_wait",
    Kind::Bool,
    "false",
    "No effect: the gateway always waits for the reply to a declaration.",
);
const NO_LOCAL: Key = key(
    "no_local",
    Kind::Bool,
    "false",
    "Sent to the broker. RabbitMQ ignores it.",
);
const PREFETCH_COUNT: Key = key(
    "prefetch_count",
    Kind::Integer,
    "16",
    "The most messages that the broker delivers before they are confirmed, from 1 to 65535. 0 means the default. For a producer it has no effect.",
);
const PREFETCH_SIZE: Key = key(
    "prefetch_size",
    Kind::Integer,
    "0",
    "Only 0: RabbitMQ closes the connection otherwise.",
);
const MAX_RETRIES: Key = key(
    "max_retries",
    Kind::Integer,
    "0",
    "After this many consecutive failed attempts, the next one follows after a minute. 0 disables this.",
);
const BACKOFF: Key = key(
    "backoff_strategy",
    Kind::Text,
    "fallback",
    "How pauses between attempts grow: `fallback` (a second), `linear`, `linear-jitter`, `exponential`, `exponential-jitter`. No pause is longer than a minute; all are jittered.",
)
.such_as(BACKOFFS);

pub(super) const CONSUMER_KEYS: &[Key] = &[
    NAME,
    EXCHANGE,
    key(
        "routing_key",
        Kind::Texts,
        "[]",
        "The routing keys that bind the queue to the exchange.",
    )
    .guarding(),
    DURABLE,
    DELETE,
    EXCLUSIVE,
    NO_WAIT,
    key(
        "auto_ack",
        Kind::Bool,
        "false",
        "A message is confirmed when a request takes it, and not after its response is made.",
    )
    .guarding(),
    NO_LOCAL,
    key(
        "nack_discard",
        Kind::Bool,
        "false",
        "A message that cannot become a response is rejected at once and not redelivered.",
    )
    .guarding(),
    PREFETCH_COUNT,
    PREFETCH_SIZE,
    MAX_RETRIES,
    BACKOFF,
    key(
        "empty_status",
        Kind::Integer,
        "500",
        "Ours: the status if no message arrives before the timeout: 500, 404 or 204.",
    ),
];

pub(super) const AGENT_KEYS: &[Key] = &[
    key(
        "host",
        Kind::Secret,
        "",
        "The URL of the broker: `amqp://user:password@host:5672/vhost`, with the options of [queues.md](queues.md#rabbitmq). Required.",
    )
    .guarding(),
    key("name", Kind::Text, "", "The name of the queue. Required."),
    key(
        "exchange",
        Kind::Text,
        "",
        "The exchange, which is declared with the type `topic`. Required.",
    ),
    DURABLE,
    DELETE,
    EXCLUSIVE,
    NO_WAIT,
    key(
        "auto_ack",
        Kind::Bool,
        "false",
        "A message is confirmed before its calls are made: if they fail, it is lost.",
    )
    .guarding(),
    NO_LOCAL,
    key(
        "nack_discard",
        Kind::Bool,
        "false",
        "A message whose calls fail is rejected at once. The dead-letter exchange of the queue gets it, if it has one.",
    )
    .guarding(),
    key(
        "max_deliveries",
        Kind::Integer,
        "0 (no limit)",
        "Ours: a message that fails this many times is rejected.",
    ),
    key(
        "prefetch_count",
        Kind::Integer,
        "twice the workers, at least 16",
        "The most messages that the broker delivers before they are confirmed, from 1 to 65535. 0 means the default.",
    ),
    PREFETCH_SIZE,
];

pub(super) const PRODUCER_KEYS: &[Key] = &[
    NAME,
    EXCHANGE,
    key(
        "routing_key",
        Kind::Text,
        "",
        "The parameter of the endpoint whose value is the routing key, or with `static_routing_key` the routing key itself.",
    )
    .guarding(),
    key(
        "static_routing_key",
        Kind::Bool,
        "false",
        "`routing_key` is the routing key itself.",
    ),
    DURABLE,
    DELETE,
    EXCLUSIVE,
    NO_WAIT,
    key(
        "mandatory",
        Kind::Bool,
        "false",
        "A message that reaches no queue is an error.",
    )
    .guarding(),
    key(
        "immediate",
        Kind::Bool,
        "false",
        "Only `false`: RabbitMQ closes the connection otherwise.",
    ),
    key(
        "exp_key",
        Kind::Text,
        "",
        "The parameter of the endpoint with the expiration of the message in milliseconds.",
    ),
    key(
        "reply_to_key",
        Kind::Text,
        "",
        "The parameter with the address for replies.",
    ),
    key(
        "msg_id_key",
        Kind::Text,
        "",
        "The parameter with the id of the message.",
    ),
    key(
        "priority_key",
        Kind::Text,
        "",
        "The parameter with the priority of the message, from 0 to 255.",
    ),
    PREFETCH_COUNT,
    PREFETCH_SIZE,
    MAX_RETRIES,
    BACKOFF,
];
