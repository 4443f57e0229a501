//! Channels with what they need: opened as soon as there is a connection.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::client::{Channel, Client, ExchangeFlags};
use crate::ext::broker::{Connections, Failed, Link};

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

impl Exchange {
    pub(super) async fn declare(&self, channel: &Channel) -> Result<(), String> {
        let flags = ExchangeFlags {
            passive: self.passive,
            durable: self.durable,
            auto_delete: self.auto_delete,
            internal: self.internal,
        };
        channel.declare_exchange(&self.name, flags).await
    }
}

/// Opens a channel with `setup` as soon as there is a connection.
///
/// # Errors
/// There is no connection now, or the broker rejects a declaration.
pub(super) async fn on_connection<T, F>(
    link: Arc<Link<Client>>,
    setup: impl FnOnce(Client) -> F + Send,
) -> Result<(T, Connections<Client>), Failed>
where
    F: Future<Output = Result<T, String>> + Send,
{
    let (client, connections) = match link.current(Instant::now() + SETUP).await {
        Ok(current) => current,
        Err(failure) => {
            let mut connections = link.connections();
            return Err(Failed::until(failure.text.into_owned(), async move {
                connections.next().await;
            }));
        }
    };
    match timeout(SETUP, setup(client)).await {
        Ok(made) => Ok((made.map_err(Failed::from)?, connections)),
        Err(_) => Err(Failed::from("no reply in time".to_owned())),
    }
}
