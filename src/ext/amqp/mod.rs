//! `backend/amqp/consumer` and `backend/amqp/producer`, in a backend: a message is taken from a queue of RabbitMQ, or
//! sent to an exchange, instead of a call. `async/amqp`, in an async agent: the queue whose messages start calls.
//!
//! | module | content |
//! |---|---|
//! | `config`, `compile` | the blocks and their compilation |
//! | `address` | the URL of a broker |
//! | `client` | a client of the protocol |
//! | `channel` | channels with what they need |
//! | `publish`, `producer` | sends messages and waits for their confirmation |
//! | `consume` | takes messages |
//! | `agent` | takes the messages of an async agent |
//!
//! Without the feature `amqp` there is only `config`, and the blocks stop the start.

#[cfg(feature = "amqp")]
mod address;
#[cfg(feature = "amqp")]
mod agent;
#[cfg(feature = "amqp")]
mod channel;
#[cfg(feature = "amqp")]
mod client;
#[cfg(feature = "amqp")]
mod compile;
mod config;
#[cfg(feature = "amqp")]
mod consume;
#[cfg(feature = "amqp")]
mod producer;
#[cfg(feature = "amqp")]
mod publish;
#[cfg(test)]
mod tests;

use super::context::Compile;
use super::extension::BackendExtension;
use crate::config::{Agent, ConfigError, Extra, Namespace};
use crate::runtime::agents::Agent as Shown;
use crate::runtime::service::{Endpoint, Options};

#[cfg(feature = "amqp")]
pub(super) use compile::{rabbit_queue, rabbit_topic};

pub(super) const CONSUMER: BackendExtension = BackendExtension {
    namespace: "backend/amqp/consumer",
    aliases: &["github.com/devopsfaith/krakend-amqp/consume"],
    guard: true,
    doc: "Takes a message from a queue of RabbitMQ for each request, and responds with it. The address of the broker is the first `host`. Needs a build with the cargo feature `amqp`. See [queues.md](queues.md#rabbitmq).",
    keys: config::CONSUMER_KEYS,
    #[cfg(feature = "amqp")]
    compile: compile::consumer,
    #[cfg(not(feature = "amqp"))]
    compile: refuse,
};

pub(super) const PRODUCER: BackendExtension = BackendExtension {
    namespace: "backend/amqp/producer",
    aliases: &["github.com/devopsfaith/krakend-amqp/produce"],
    guard: true,
    doc: "Sends the body of the request to an exchange of RabbitMQ in the place of a call. The address of the broker is the first `host`. Needs a build with the cargo feature `amqp`. See [queues.md](queues.md#rabbitmq).",
    keys: config::PRODUCER_KEYS,
    #[cfg(feature = "amqp")]
    compile: compile::producer,
    #[cfg(not(feature = "amqp"))]
    compile: refuse,
};

pub(crate) const AGENT: Namespace = Namespace {
    name: "async/amqp",
    aliases: &["github.com/devopsfaith/krakend-amqp/agent"],
    guard: true,
    doc: "The queue of RabbitMQ whose messages start the calls of the agent. Needs a build with the cargo feature `amqp`. See [queues.md](queues.md#agents-async_agent).",
    keys: config::AGENT_KEYS,
};

/// The agent of a file with these calls. `None` after an error was reported.
pub(crate) fn agent(
    file: &Agent<'_>,
    name: &str,
    work: Option<Endpoint>,
    options: &Options,
    cx: &mut Compile<'_>,
) -> Option<Shown> {
    let extra = &file.work.extra;
    let Some(node) = extra.of(&AGENT) else {
        // Kafka is reported by its name.
        if extra.find("async/kafka", &[]).is_none() {
            file.block.node().config_error_hint(
                ConfigError::invalid("the agent has no queue"),
                "\"extra_config\": {\"async/amqp\": {\"host\": …, \"name\": …, \"exchange\": …}}",
            );
        }
        return None;
    };
    #[cfg(feature = "amqp")]
    return agent::agent(file, &node, name, work, options, cx);
    #[cfg(not(feature = "amqp"))]
    {
        let _ = (name, work, options, cx);
        let (what, hint) = MISSING;
        node.config_error_hint(ConfigError::invalid(what), hint);
        None
    }
}

/// What a build without the feature says, and the way out.
pub(super) const MISSING: (&str, &str) = (
    "this binary was built without the cargo feature \"amqp\", which is off by default",
    "build one with `cargo build --release --features amqp`",
);

#[cfg(not(feature = "amqp"))]
fn refuse(
    node: &crate::config::Node<'_>,
    _: &super::context::BackendSite<'_>,
    _: &mut Compile<'_>,
) -> super::extension::BackendPart {
    let (what, hint) = MISSING;
    node.config_error_hint(ConfigError::invalid(what), hint);
    super::extension::BackendPart::Nothing
}

/// Whether the hosts of a backend with these namespaces are addresses of brokers.
pub(crate) fn is_wanted(extra: &Extra<'_>) -> bool {
    [CONSUMER, PRODUCER]
        .iter()
        .any(|known| extra.find(known.namespace, known.aliases).is_some())
}
