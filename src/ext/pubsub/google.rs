//! Google Pub/Sub: its REST API, version 1.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::driver::{
    Claim, Confirm, Outbound, Subscription, Taken, Topic, Unsent, Verdict, aside, content_type,
};
use super::google_token::Tokens;
use super::sqs::{short, unsent};
use crate::runtime::failure::{Failure, Kind};
use crate::upstream::{SideClient, SideError};

/// The largest message.
const MAX_BYTES: usize = 10_000_000;
/// The pause between two pull requests, if the service does not wait for a message itself.
const POLL: Duration = Duration::from_millis(250);
/// How long a call may go on after the request that wanted its message has ended.
const AFTER: Duration = Duration::from_secs(1);
/// How long the confirmation of a message may take.
const CALL: Duration = Duration::from_secs(5);
/// The maximum number of remembered messages that were returned once.
const REMEMBERED: usize = 1024;

/// A topic, or a subscription.
#[derive(Debug, Clone)]
pub(super) struct Google(pub(super) Arc<Resource>);

#[derive(Debug)]
pub(super) struct Resource {
    pub(super) http: SideClient,
    /// `https://pubsub.googleapis.com/v1/projects/p/topics/t`
    pub(super) url: String,
    /// `None` for an emulator.
    pub(super) tokens: Option<Arc<Tokens>>,
    /// A returned message stays with the gateway until its deadline.
    pub(super) lazy: bool,
    /// Messages that could not become a response.
    pub(super) returned: Mutex<VecDeque<String>>,
}

#[async_trait]
impl Topic for Google {
    async fn publish(&self, message: Outbound, deadline: Instant) -> Result<(), Unsent> {
        if message.body.len() > MAX_BYTES {
            let text = "pubsub: the message is larger than 10 MB";
            return Err(Failure::new(Kind::BodyTooLarge, text).into());
        }
        // Base64, in a tree and as a text.
        let _sent = message.charge(6)?;
        let attributes = message.metadata.into_iter();
        let attributes: Map<String, Value> = attributes
            .map(|(name, value)| (name, Value::String(value)))
            .collect();
        let mut sent = json!({ "data": STANDARD.encode(&message.body) });
        if !attributes.is_empty() {
            sent["attributes"] = Value::Object(attributes);
        }
        let body = json!({ "messages": [sent] });
        let answer = self.0.call("publish", &body, deadline).await?;
        // One message has one id.
        let id = answer.pointer("/messageIds/0").and_then(Value::as_str);
        if id.is_none_or(str::is_empty) {
            let text = "pubsub: the topic has not confirmed the message";
            return Err(Unsent::unknown(Failure::new(Kind::Status, text)));
        }
        Ok(())
    }
}

#[async_trait]
impl Subscription for Google {
    async fn receive(&self, deadline: Instant) -> Result<Option<Taken>, Failure> {
        while Instant::now() < deadline {
            // The call is not cancelled: if nothing reads its response, the messages in it are returned.
            let resource = Arc::clone(&self.0);
            let call = tokio::spawn(async move { resource.take(deadline + AFTER).await });
            match timeout_at(deadline, call).await {
                Err(_) => return Ok(None),
                Ok(Err(_)) => return Err(Failure::new(Kind::Broken, "pubsub: the call ended")),
                Ok(Ok(Ok(None))) => {}
                Ok(Ok(taken)) => return taken,
            }
            sleep_until((Instant::now() + POLL).min(deadline)).await;
        }
        Ok(None)
    }
}

impl Resource {
    async fn take(self: Arc<Self>, deadline: Instant) -> Result<Option<Taken>, Failure> {
        let answer = self
            .call("pull", &json!({ "maxMessages": 1 }), deadline)
            .await?;
        let unclear = || Failure::new(Kind::Decode, "pubsub: the response cannot be parsed");
        let Pulled { messages } = serde_json::from_value(answer).map_err(|_| unclear())?;
        let Some(Delivered { ack, message }) = messages.into_iter().next() else {
            return Ok(None);
        };
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
        let claim = Claim::new(Receipt {
            resource: self,
            ack,
            id: text("/messageId").unwrap_or_default().to_owned(),
        });
        let kind = text("/attributes/Content-Type");
        Ok(Some(Taken {
            body: body(&message),
            content_type: kind.and_then(|text| content_type(text.as_bytes())),
            claim,
        }))
    }

    /// Calls a method of the resource: `publish`, `pull`, `acknowledge`, `modifyAckDeadline`.
    async fn call(&self, method: &str, body: &Value, deadline: Instant) -> Result<Value, Unsent> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(tokens) = &self.tokens {
            let limit = deadline.saturating_duration_since(Instant::now());
            let value = tokens.value(limit).await.map_err(|why| {
                Failure::new(Kind::Credentials, format!("pubsub: no credentials: {why}"))
            })?;
            headers.insert(AUTHORIZATION, value);
        }
        let url = format!("{}:{method}", self.url);
        let limit = deadline.saturating_duration_since(Instant::now());
        let body = Bytes::from(body.to_string());
        let call = self.http.call(Method::POST, &url, headers, body, limit);
        let response = call.await.map_err(|error| {
            let kind = match error {
                SideError::Connect { failure, .. } => Kind::Connect(failure),
                SideError::Late { .. } | SideError::Time { .. } => Kind::Deadline,
                SideError::Size { .. } => Kind::TooLarge,
                SideError::Full(_) => Kind::Full,
                _ => Kind::Broken,
            };
            Unsent {
                is_unknown: !matches!(kind, Kind::Connect(_)),
                failure: Failure::new(kind, format!("pubsub: {error}")),
            }
        })?;
        if response.status == StatusCode::UNAUTHORIZED
            && let Some(tokens) = &self.tokens
        {
            tokens.renew();
        }
        if !response.status.is_success() {
            let said: Value = serde_json::from_slice(&response.body).unwrap_or_default();
            let word = said.pointer("/error/status").and_then(Value::as_str);
            let text = format!("pubsub: {} {}", response.status.as_u16(), short(word));
            return Err(unsent(response.status, Failure::new(Kind::Status, text)));
        }
        serde_json::from_slice(&response.body).map_err(|_| {
            let text = "pubsub: the response is not JSON";
            Unsent::unknown(Failure::new(Kind::Decode, text))
        })
    }

    /// Whether a message was given back before. Remembers it.
    fn was_returned(&self, id: &str) -> bool {
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        if returned.iter().any(|known| known == id) {
            return true;
        }
        if returned.len() >= REMEMBERED {
            returned.pop_front();
        }
        returned.push_back(id.to_owned());
        false
    }
}

#[derive(Deserialize)]
struct Pulled {
    #[serde(rename = "receivedMessages", default)]
    messages: Vec<Delivered>,
}

#[derive(Deserialize)]
struct Delivered {
    #[serde(rename = "ackId")]
    ack: String,
    /// Read leniently: a message that is odd must be confirmed or returned, too.
    #[serde(default)]
    message: Value,
}

/// The data of a message, which is left out if it is empty.
///
/// # Errors
/// It is not Base64.
fn body(message: &Value) -> Result<Bytes, &'static str> {
    const UNCLEAR: &str = "its data is not Base64";
    match message.get("data") {
        None | Some(Value::Null) => Ok(Bytes::new()),
        Some(Value::String(data)) => {
            let data = STANDARD.decode(data).map_err(|_| UNCLEAR)?;
            Ok(data.into())
        }
        Some(_) => Err(UNCLEAR),
    }
}

/// Acknowledges a message that was taken.
#[derive(Debug)]
struct Receipt {
    resource: Arc<Resource>,
    ack: String,
    id: String,
}

impl Confirm for Receipt {
    fn confirm(self: Box<Self>, verdict: Verdict) {
        let resource = self.resource;
        let again = match verdict {
            Verdict::Done => false,
            Verdict::Return => true,
            // Redelivered once.
            Verdict::Bad => !resource.was_returned(&self.id),
        };
        if again && resource.lazy {
            return;
        }
        let (method, body) = if again {
            let body = json!({ "ackIds": [self.ack], "ackDeadlineSeconds": 0 });
            ("modifyAckDeadline", body)
        } else {
            ("acknowledge", json!({ "ackIds": [self.ack] }))
        };
        aside(async move {
            for _ in 0..2 {
                let deadline = Instant::now() + CALL;
                match resource.call(method, &body, deadline).await {
                    Ok(_) => return,
                    Err(unsent) => log::warn!("[PubSub] {method}: {}", unsent.failure),
                }
            }
        });
    }
}
