//! The connection to a broker.

use std::sync::Arc;
use std::time::Duration;

use amqprs::callbacks::ConnectionCallback;
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::error::Error;
use amqprs::tls::TlsAdaptor;
use async_trait::async_trait;
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::address::Broker;
use super::held::Held;
use crate::ext::broker::{Failed, Opened};
use crate::telemetry::text::printable;

/// The interval of the checks whether the client's tasks still run.
const LOOK: Duration = Duration::from_secs(2);
/// The least that a broker must allow (AMQP 0-9-1, 4.2.3), and the shortest heartbeat that the client can keep.
const LEAST_FRAME: u32 = 4096;
const LEAST_HEARTBEAT: u16 = 2;

/// Why a connection or a channel has ended.
pub(super) type Loss = watch::Sender<Option<String>>;

/// Opens a connection.
pub(super) async fn open(
    broker: Arc<Broker>,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Opened<Held<Connection>>, Failed> {
    let mut arguments =
        OpenConnectionArguments::new(&broker.host, broker.port, &broker.user, &broker.password);
    arguments
        .virtual_host(&broker.virtual_host)
        .heartbeat(broker.heartbeat)
        .connection_name("portcullis");
    if let Some(config) = tls {
        let host = broker.host.trim_start_matches('[').trim_end_matches(']');
        let name = broker.server_name.as_deref().unwrap_or(host);
        let connector = TlsConnector::from(config);
        arguments.tls_adaptor(TlsAdaptor::new(connector, name.to_owned()));
    }
    let attempt = timeout(broker.connect, Connection::open(&arguments)).await;
    let connection = match attempt {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(broker.hides(text(&error)).into()),
        Err(_) => return Err("no answer in time".to_owned().into()),
    };
    if connection.frame_max() < LEAST_FRAME {
        return Err(format!("frames of {} bytes are too small", connection.frame_max()).into());
    }
    let heartbeat = connection.heartbeat();
    if heartbeat < LEAST_HEARTBEAT {
        return Err(format!("the broker asks for a heartbeat of {heartbeat} s").into());
    }
    let (loss, lost) = watch::channel(None);
    // Without it the reason of the broker is not known.
    let closed = Closed {
        loss: loss.clone(),
        broker,
    };
    let _ = connection.register_callback(closed.clone()).await;
    Ok(Opened {
        client: Held::new(connection.clone()),
        lost: Box::pin(ended(connection, closed, lost)),
    })
}

/// What the client says about an error, on one line.
pub(super) fn text(error: &Error) -> String {
    let text = error.to_string();
    let text: String = text.chars().take(256).collect();
    printable(&text).into_owned()
}

/// Resolves when the connection has ended.
async fn ended(
    connection: Connection,
    closed: Closed,
    mut lost: watch::Receiver<Option<String>>,
) -> String {
    let look = async {
        loop {
            sleep(LOOK).await;
            // The second check fails if the reading half has ended, for example because it could not read a frame.
            let callback = closed.clone();
            if !connection.is_open() || connection.register_callback(callback).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = look => {}
        _ = connection.listen_network_io_failure() => {}
        _ = lost.wait_for(Option::is_some) => {}
    }
    let why = lost.borrow().clone();
    why.unwrap_or_else(|| "it is lost".to_owned())
}

/// Notes the reason if the broker closes the connection.
#[derive(Clone)]
struct Closed {
    loss: Loss,
    broker: Arc<Broker>,
}

#[async_trait]
impl ConnectionCallback for Closed {
    async fn close(&mut self, _: &Connection, close: amqprs::Close) -> Result<(), Error> {
        let text = format!("{} {}", close.reply_code(), printable(close.reply_text()));
        self.loss.send_replace(Some(self.broker.hides(text)));
        Ok(())
    }

    async fn blocked(&mut self, _: &Connection, reason: String) {
        log::warn!(
            "[Queues] RabbitMQ takes no messages: {}",
            self.broker.hides(printable(&reason).into_owned())
        );
    }

    async fn unblocked(&mut self, _: &Connection) {
        log::info!("[Queues] RabbitMQ takes messages again");
    }

    async fn secret_updated(&mut self, _: &Connection) {}
}
