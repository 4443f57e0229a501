//! `backend/pubsub/publisher` and `backend/pubsub/subscriber`, in a backend: a message is sent to a topic, or taken
//! from a queue, instead of a call.
//!
//! | module | content |
//! |---|---|
//! | `config`, `address`, `compile` | the blocks, the URL of a topic or a queue, and their compilation |
//! | `driver` | what a topic and a queue must be able to do |
//! | `send`, `receive` | the steps that send a message and take one |
//! | `metadata` | which headers a message gets |
//! | `sqs`, `sns`, `attributes` | the queues and topics of AWS |
//! | `google`, `google_token` | Google Pub/Sub over REST, and its credentials |
//! | `nats` | subjects of NATS, with the feature of that name |

mod address;
mod attributes;
mod compile;
mod config;
pub(super) mod driver;
mod google;
mod google_token;
mod metadata;
#[cfg(feature = "nats")]
mod nats;
mod receive;
mod send;
mod sns;
mod sqs;
#[cfg(test)]
mod tests;

#[cfg(feature = "amqp")]
pub(super) use compile::empty_status;
#[cfg(feature = "amqp")]
pub(super) use metadata::Listed;
#[cfg(feature = "amqp")]
pub(super) use receive::Receiver;
pub(super) use send::Unsure;
#[cfg(feature = "amqp")]
pub(super) use send::{Outlet, Sender, Sending};

use super::extension::BackendExtension;
use crate::config::Extra;

pub(super) const PUBLISHER: BackendExtension = BackendExtension {
    namespace: "backend/pubsub/publisher",
    aliases: &["github.com/devopsfaith/krakend-pubsub/publisher"],
    guard: true,
    doc: "Sends the body of the request to a topic in the place of a call: `awssns://`, `awssqs://`, `gcppubsub://`, or with the cargo features of their names `nats://` and `rabbit://` (`amqp`). The address is the first `host` followed by `topic_url`. See [queues.md](queues.md).",
    keys: config::PUBLISHER_KEYS,
    compile: compile::publisher,
};

pub(super) const SUBSCRIBER: BackendExtension = BackendExtension {
    namespace: "backend/pubsub/subscriber",
    aliases: &["github.com/devopsfaith/krakend-pubsub/subscriber"],
    guard: true,
    doc: "Takes a message from a queue for each request, and responds with it: `awssqs://`, `gcppubsub://`, or with the cargo features of their names `nats://` and `rabbit://` (`amqp`). The address is the first `host` followed by `subscription_url`. See [queues.md](queues.md).",
    keys: config::SUBSCRIBER_KEYS,
    compile: compile::subscriber,
};

/// Whether the hosts of a backend with these namespaces are addresses of topics and queues.
pub(crate) fn is_wanted(extra: &Extra<'_>) -> bool {
    [PUBLISHER, SUBSCRIBER]
        .iter()
        .any(|known| extra.find(known.namespace, known.aliases).is_some())
}
