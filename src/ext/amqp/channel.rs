//! A channel of a connection: opening it, declaring what it needs, and what ends it.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqprs::callbacks::ChannelCallback;
use amqprs::channel::{Channel, ExchangeDeclareArguments};
use amqprs::connection::Connection;
use amqprs::error::Error;
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, Nack, Return};
use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::connection::{Loss, text};
use super::held::Held;
use super::publish::Unconfirmed;
use crate::ext::broker::{Connections, Failed, Link};
use crate::telemetry::text::printable;

/// How long opening a channel and all of its declarations may take.
pub(super) const SETUP: Duration = Duration::from_secs(15);
/// The code of the broker for a declaration that differs from what exists (AMQP 0-9-1, 1.2).
pub(super) const DIFFERENT: &str = "406 ";

/// An exchange to declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) name: String,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) internal: bool,
    /// It must exist and is not declared.
    pub(super) passive: bool,
}

/// An open channel, and why it has ended.
pub(super) struct OpenChannel {
    pub(super) channel: Channel,
    lost: watch::Receiver<Option<String>>,
}

impl OpenChannel {
    pub(super) async fn new(
        connection: &Connection,
        unconfirmed: Option<Arc<Mutex<Unconfirmed>>>,
    ) -> Result<OpenChannel, String> {
        let channel = connection.open_channel(None).await;
        let channel = channel.map_err(|error| text(&error))?;
        let (loss, lost) = watch::channel(None);
        let watcher = Watcher { loss, unconfirmed };
        let registered = channel.register_callback(watcher).await;
        registered.map_err(|error| text(&error))?;
        Ok(OpenChannel { channel, lost })
    }

    /// The reason of the broker, or else that of the client.
    pub(super) fn reason(&self, error: &Error) -> String {
        let why = self.lost.borrow().clone();
        why.unwrap_or_else(|| text(error))
    }

    /// The reason of the broker, if it has given one, or else this one.
    pub(super) fn said(&self, why: String) -> String {
        self.lost.borrow().clone().unwrap_or(why)
    }

    /// Resolves when the channel has ended.
    pub(super) async fn ended(&mut self) -> String {
        match self.lost.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the channel is closed".to_owned(),
        }
    }

    pub(super) async fn declare(&self, exchange: &Exchange) -> Result<(), String> {
        let mut arguments = ExchangeDeclareArguments::new(&exchange.name, "topic");
        arguments
            .passive(exchange.passive)
            .durable(exchange.durable)
            .auto_delete(exchange.auto_delete)
            .internal(exchange.internal);
        let declared = self.channel.exchange_declare(arguments).await;
        declared.map_err(|error| self.reason(&error))
    }
}

/// Opens a channel with `setup` as soon as there is a connection.
///
/// # Errors
/// There is no connection now, or the broker rejects a declaration.
pub(super) async fn on_connection<T, F>(
    link: Arc<Link<Held<Connection>>>,
    setup: impl FnOnce(Connection) -> F + Send,
) -> Result<(T, Connections<Held<Connection>>), Failed>
where
    F: Future<Output = Result<T, String>> + Send,
{
    let (connection, connections) = match link.current(Instant::now() + SETUP).await {
        Ok(current) => current,
        Err(failure) => {
            let mut connections = link.connections();
            return Err(Failed::until(failure.text.into_owned(), async move {
                connections.next().await;
            }));
        }
    };
    let Some(connection) = connection.get().cloned() else {
        return Err(Failed::from("the connection is closed".to_owned()));
    };
    match timeout(SETUP, setup(connection)).await {
        Ok(made) => Ok((made.map_err(Failed::from)?, connections)),
        Err(_) => Err(Failed::from("no answer in time".to_owned())),
    }
}

/// Notes what the broker says about a channel.
struct Watcher {
    loss: Loss,
    unconfirmed: Option<Arc<Mutex<Unconfirmed>>>,
}

impl Watcher {
    fn unconfirmed(&self, act: impl FnOnce(&mut Unconfirmed)) {
        if let Some(unconfirmed) = &self.unconfirmed {
            act(&mut unconfirmed
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner));
        }
    }
}

#[async_trait]
impl ChannelCallback for Watcher {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), Error> {
        let text = format!("{} {}", close.reply_code(), printable(close.reply_text()));
        self.loss.send_replace(Some(text));
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), Error> {
        let text = "the broker has cancelled the consumer: the queue was deleted or has moved";
        self.loss.send_replace(Some(text.to_owned()));
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, Error> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.unconfirmed(|all| all.settle(ack.delivery_tag(), ack.mutiple(), true));
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        self.unconfirmed(|all| all.settle(nack.delivery_tag(), nack.multiple(), false));
    }

    async fn publish_return(
        &mut self,
        _: &Channel,
        returned: Return,
        _: BasicProperties,
        content: Vec<u8>,
    ) {
        self.unconfirmed(|all| all.returned(returned.routing_key(), &content));
    }
}
