//! Subjects of NATS, over the connection that `NATS_SERVER_URL` names.
//!
//! NATS delivers at most once. A message that cannot become a response is lost. A message whose client has disconnected
//! is kept here for the next request.

mod compile;
mod gob;

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, ServerAddr, ServerError};
use async_trait::async_trait;
use futures::StreamExt as _;
use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::driver::{Claim, Confirm, Outbound, Subscription, Taken, Topic, Verdict};
use crate::ext::broker::{Failed, Inbox, Link, Opened};
use crate::runtime::failure::{Failure, Kind};

pub(super) use compile::{subscription, topic};

/// The most messages and bytes of one subscription that wait for a request. What comes after them is lost.
const MOST_WAITING: usize = 256;
const MOST_BYTES: usize = 16 << 20;
/// The interval of PINGs. The connection is closed after the third PING without a reply.
const PING: Duration = Duration::from_secs(10);
/// How long connecting to one server may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Opens a connection to one of the servers.
async fn open(
    servers: Arc<[ServerAddr]>,
    tls: Arc<rustls::ClientConfig>,
) -> Result<Opened<Client>, Failed> {
    let (loss, mut lost) = watch::channel(None);
    let options = ConnectOptions::new()
        .name("portcullis")
        // A lost connection is opened again by the link, so that its state is known.
        .max_reconnects(servers.len())
        .reconnect_delay_callback(|_| Duration::ZERO)
        .ping_interval(PING)
        .connection_timeout(CONNECT)
        .tls_client_config((*tls).clone())
        .event_callback(move |event| {
            tell(&event, &loss);
            async {}
        });
    let client = options.connect(&*servers).await;
    // The text of the error can contain the address.
    let client = client.map_err(|error| error.kind().to_string())?;
    Ok(Opened {
        client,
        lost: Box::pin(async move {
            match lost.wait_for(Option::is_some).await {
                Ok(why) => (*why).unwrap_or("it is lost").to_owned(),
                Err(_) => "it was closed".to_owned(),
            }
        }),
    })
}

fn tell(event: &Event, loss: &watch::Sender<Option<&'static str>>) {
    let why = match event {
        Event::Disconnected => "it is lost",
        Event::Closed => "it was closed",
        Event::LameDuckMode => "the server is about to stop",
        Event::SlowConsumer(_) => {
            log::warn!("[PubSub] messages of NATS are lost: no request takes them");
            return;
        }
        Event::ServerError(ServerError::AuthorizationViolation) => "the server denies access",
        Event::ServerError(_) => {
            log::warn!("[PubSub] NATS rejects a command: {event}");
            return;
        }
        Event::Connected | Event::ClientError(_) | Event::Draining => return,
    };
    loss.send_replace(Some(why));
}

/// A subject that messages are sent to.
#[derive(Debug)]
struct Subject {
    link: Arc<Link<Client>>,
    name: String,
}

#[async_trait]
impl Topic for Subject {
    async fn publish(&self, message: Outbound, deadline: Instant) -> Result<(), Failure> {
        let headers = headers(&message.metadata)?;
        let client = self.link.client(deadline).await?;
        let size = message
            .metadata
            .iter()
            .fold(message.body.len(), |sum, (name, value)| {
                sum + name.len() + value.len() + 4
            });
        // The limit is that of the whole message, with the line before its headers and the one after them.
        if size + 16 > client.max_payload() {
            let text = "pubsub: the message is larger than NATS allows";
            return Err(Failure::new(Kind::BodyTooLarge, text));
        }
        let send = async {
            let name = self.name.clone();
            let sent = match headers {
                None => client.publish(name, message.body).await,
                Some(headers) => {
                    client
                        .publish_with_headers(name, headers, message.body)
                        .await
                }
            };
            sent.map_err(|error| error.kind().to_string())?;
            client
                .flush()
                .await
                .map_err(|error| error.kind().to_string())
        };
        match timeout_at(deadline, send).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(Failure::new(Kind::Broken, format!("pubsub: NATS: {why}"))),
            Err(_) => Err(Failure::new(Kind::Deadline, "context deadline exceeded")),
        }
    }
}

/// # Errors
/// 400: a value cannot be a header of NATS.
fn headers(metadata: &[(String, String)]) -> Result<Option<HeaderMap>, Failure> {
    let mut headers = HeaderMap::new();
    for (name, value) in metadata {
        let pair = name.parse::<async_nats::HeaderName>().ok();
        let pair = pair.zip(value.parse::<async_nats::HeaderValue>().ok());
        let Some((name, value)) = pair else {
            let text = format!("pubsub: {name} cannot be a header of NATS");
            return Err(Failure::bad_input(http::StatusCode::BAD_REQUEST, text));
        };
        headers.insert(name, value);
    }
    Ok((!headers.is_empty()).then_some(headers))
}

/// A subscription, whose messages wait for requests.
#[derive(Debug)]
struct Subscribed {
    link: Arc<Link<Client>>,
    inbox: Inbox<Message>,
    /// Closed when the subscription is dropped.
    alive: watch::Sender<()>,
}

impl Subscribed {
    fn new(link: Arc<Link<Client>>) -> Subscribed {
        Subscribed {
            link,
            inbox: Inbox::new(MOST_WAITING, MOST_BYTES),
            alive: watch::Sender::new(()),
        }
    }

    /// Subscribes on each connection and fills the inbox until the subscription is dropped.
    async fn fill(subscribed: Weak<Subscribed>, subject: String, queue: Option<String>) {
        let both = subscribed
            .upgrade()
            .map(|this| (this.link.connections(), this.alive.subscribe()));
        let Some((mut connections, mut gone)) = both else {
            return;
        };
        loop {
            let client = tokio::select! {
                client = connections.next() => client,
                _ = gone.changed() => return,
            };
            let Some(client) = client else { return };
            let made = match &queue {
                Some(queue) => client.queue_subscribe(subject.clone(), queue.clone()).await,
                None => client.subscribe(subject.clone()).await,
            };
            drop(client);
            let mut subscriber = match made {
                Ok(subscriber) => subscriber,
                Err(error) => {
                    log::error!(
                        "[PubSub] NATS: no subscription to {subject}: {}",
                        error.kind()
                    );
                    connections.lost().await;
                    continue;
                }
            };
            loop {
                let message = tokio::select! {
                    message = subscriber.next() => message,
                    () = connections.lost() => break,
                    _ = gone.changed() => return,
                };
                let (Some(message), Some(this)) = (message, subscribed.upgrade()) else {
                    break;
                };
                let bytes = message.length;
                if this.inbox.push(message, bytes).is_err() {
                    log::warn!(
                        "[PubSub] NATS: a message of {subject} is lost: no request takes those before it"
                    );
                }
            }
        }
    }
}

#[async_trait]
impl Subscription for Arc<Subscribed> {
    async fn receive(&self, deadline: Instant) -> Result<Option<Taken>, Failure> {
        // Messages that are here can be taken without a connection.
        if self.inbox.is_empty() {
            self.link.client(deadline).await?;
        }
        match timeout_at(deadline, self.inbox.next()).await {
            Ok(message) => Ok(Some(taken(self, message))),
            // No message arrived in time: this is an error only if the connection is lost.
            Err(_) => self.link.client(Instant::now()).await.map(|_| None),
        }
    }
}

fn taken(subscribed: &Arc<Subscribed>, message: Message) -> Taken {
    let headers = message.headers.as_ref();
    let content_type = headers.and_then(|headers| headers.get("Content-Type"));
    let mut content_type = content_type.map(|value| value.as_str().to_owned());
    let mut body = message.payload.clone();
    // KrakenD's own form, in which metadata and body are one value of Go.
    if headers.is_none()
        && let Some(read) = gob::read(&body)
    {
        let mut pairs = read.metadata.into_iter();
        content_type = pairs.find_map(|(name, value)| (name == "Content-Type").then_some(value));
        body = read.body;
    }
    Taken {
        body: Ok(body),
        content_type: content_type.and_then(|text| HeaderValue::try_from(text).ok()),
        claim: Claim::new(Delivered {
            subscribed: Arc::downgrade(subscribed),
            message,
        }),
    }
}

/// The acknowledgement of a message that was taken.
#[derive(Debug)]
struct Delivered {
    subscribed: Weak<Subscribed>,
    message: Message,
}

impl Confirm for Delivered {
    fn confirm(self: Box<Self>, verdict: Verdict) {
        // NATS does not redeliver, so a message that cannot be used is dropped.
        if verdict != Verdict::Return {
            return;
        }
        if let Some(subscribed) = self.subscribed.upgrade() {
            let bytes = self.message.length;
            subscribed.inbox.put_back(self.message, bytes);
        }
    }
}
