//! A part of a connection: a channel of RabbitMQ, a subscription of NATS.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::link::{Connections, Failed, Link};

/// How long opening a part and all of its declarations may take.
pub(in crate::ext) const SETUP: Duration = Duration::from_secs(15);

/// How long it may take until the loss of a connection is known to all.
const MOMENT: Duration = Duration::from_millis(50);

/// Opens a part with `setup` as soon as there is a connection.
///
/// # Errors
/// There is no connection now, or the broker rejects the part.
pub(in crate::ext) async fn on_connection<C, T, F>(
    link: Arc<Link<C>>,
    setup: impl FnOnce(C) -> F + Send,
) -> Result<(T, Connections<C>), Failed>
where
    C: Clone + Send + Sync + 'static,
    F: Future<Output = Result<T, String>> + Send,
{
    let (client, mut connections) = match link.current(Instant::now() + SETUP).await {
        Ok(current) => current,
        Err(failure) => {
            let mut connections = link.connections();
            return Err(Failed::until(failure.text.into_owned(), async move {
                connections.next().await;
            }));
        }
    };
    match timeout(SETUP, setup(client)).await {
        Ok(Ok(made)) => Ok((made, connections)),
        Ok(Err(why)) => Err(blamed(why, &mut connections).await),
        Err(_) => Err(Failed::from("no reply in time".to_owned())),
    }
}

/// Resolves when a part is lost: with its connection, or when `ended` resolves with the reason.
pub(in crate::ext) async fn lost<C: Clone + Send + Sync>(
    mut connections: Connections<C>,
    ended: impl Future<Output = String>,
) -> Failed {
    let why = tokio::select! {
        biased;
        () = connections.lost() => return Failed::with_its_connection(),
        why = ended => why,
    };
    blamed(why, &mut connections).await
}

/// A part also ends when its connection does, which may become known a moment later.
async fn blamed<C: Clone + Send + Sync>(why: String, connections: &mut Connections<C>) -> Failed {
    match timeout(MOMENT, connections.lost()).await {
        Ok(()) => Failed::with_its_connection(),
        Err(_) => Failed::from(why),
    }
}
