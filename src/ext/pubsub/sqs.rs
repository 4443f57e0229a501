//! Queues of AWS SQS: its API in JSON.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::attributes::{self, ENCODED, json_of, read, unescaped};
use super::driver::{
    Claim, Confirm, Outbound, Subscription, Taken, Topic, Unsent, Verdict, aside, content_type,
};
use crate::ext::aws_sigv4::{AwsClient, pause};
use crate::runtime::failure::{Failure, Kind};
use crate::telemetry::sanitize::printable;
use crate::upstream::SideResponse;

/// The pause between two receive calls, as in KrakenD.
const POLL: Duration = Duration::from_millis(250);
/// How long one call may take beyond the time that the queue waits for a message.
const CALL: Duration = Duration::from_secs(5);
/// The largest message with its attributes.
const MAX_BYTES: usize = 1 << 20;
/// How often a call is made, as in AWS's libraries.
const ATTEMPTS: u32 = 3;

/// A queue, for messages in both directions.
#[derive(Debug, Clone)]
pub(super) struct Sqs(pub(super) Arc<Queue>);

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) client: AwsClient,
    /// `https://sqs.eu-west-1.amazonaws.com/1/orders`
    pub(super) url: String,
    /// Messages of SNS are not unwrapped.
    pub(super) raw: bool,
    /// A returned message stays with the gateway until its visibility timeout.
    pub(super) lazy: bool,
    /// How long the queue waits for a message, at most.
    pub(super) wait: Duration,
}

#[async_trait]
impl Topic for Sqs {
    async fn publish(&self, message: Outbound, deadline: Instant) -> Result<(), Unsent> {
        let field = |name: &str| {
            let mut pairs = message.metadata.iter();
            let found = pairs.find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        let _text = message.charge(2)?;
        let (text, attributes) = attributes::written(&message.body, &message.metadata);
        check_size(&text, &attributes, MAX_BYTES)?;
        // Escapes are up to six times as long.
        let _sent = message.charge(8)?;
        let mut entry = json!({ "Id": "0", "MessageBody": text });
        if !attributes.is_empty() {
            entry["MessageAttributes"] = json_of(&attributes);
        }
        if let Some(id) = field("DeduplicationId") {
            entry["MessageDeduplicationId"] = json!(id);
        }
        if let Some(group) = field("MessageGroupId") {
            entry["MessageGroupId"] = json!(group);
        }
        let body = json!({ "QueueUrl": self.0.url, "Entries": [entry] });
        let answer = self.0.call("SendMessageBatch", &body, deadline).await?;
        rejection(&answer).map_or(Ok(()), Err)
    }
}

/// Why our only message is not in the queue, unless the response of SQS says that it is.
fn rejection(answer: &Value) -> Option<Unsent> {
    let list = |name: &str| answer.get(name).and_then(Value::as_array);
    let failed = list("Failed").and_then(|failed| failed.first());
    if let Some(failed) = failed {
        let code = failed.get("Code").and_then(Value::as_str);
        let text = format!("pubsub: the queue rejected the message: {}", short(code));
        return Some(Failure::new(Kind::Status, text).into());
    }
    let is_ours = |entry: &Value| entry.get("Id").and_then(Value::as_str) == Some("0");
    if list("Successful").is_some_and(|all| all.iter().any(is_ours)) {
        return None;
    }
    let text = "pubsub: the queue has not confirmed the message";
    Some(Unsent::unknown(Failure::new(Kind::Status, text)))
}

#[async_trait]
impl Subscription for Sqs {
    async fn receive(&self, deadline: Instant) -> Result<Option<Taken>, Failure> {
        // Without a response, it is unknown whether the queue is empty.
        let mut has_answered = false;
        loop {
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() {
                return nothing(has_answered);
            }
            let wait = self.0.wait.min(left).as_secs();
            // The call is not cancelled: if nothing reads its response, the messages in it are returned.
            let queue = Arc::clone(&self.0);
            let end = deadline.max(now + Duration::from_secs(wait)) + CALL;
            let call = tokio::spawn(async move { queue.take(wait, end).await });
            match timeout_at(deadline, call).await {
                Err(_) => return nothing(has_answered),
                Ok(Err(_)) => return Err(Failure::new(Kind::Broken, "pubsub: the call ended")),
                Ok(Ok(Ok(None))) => has_answered = true,
                Ok(Ok(taken)) => return taken,
            }
            // A queue that does not wait is not asked without a pause.
            sleep_until((now + POLL).min(deadline)).await;
        }
    }
}

/// The result at the deadline: "empty" if a response said so, else a timeout.
fn nothing(has_answered: bool) -> Result<Option<Taken>, Failure> {
    if has_answered {
        return Ok(None);
    }
    let text = "pubsub: SQS has not responded in time";
    Err(Failure::new(Kind::Deadline, text))
}

impl Queue {
    /// Takes one message, if there is one.
    async fn take(self: Arc<Self>, wait: u64, deadline: Instant) -> Result<Option<Taken>, Failure> {
        let body = json!({
            "QueueUrl": self.url,
            "MaxNumberOfMessages": 1,
            "WaitTimeSeconds": wait,
            "AttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        });
        let answer = self.call("ReceiveMessage", &body, deadline).await?;
        let Answer { messages } = serde_json::from_value(answer).map_err(|_| {
            Failure::new(Kind::Decode, "pubsub: the response of SQS cannot be parsed")
        })?;
        Ok(messages
            .into_iter()
            .next()
            .map(|message| self.taken(message)))
    }

    fn taken(self: Arc<Self>, message: Message) -> Taken {
        let attribute = |name: &str| {
            let value = message.attributes.get(name)?.get("StringValue")?;
            value.as_str()
        };
        let is_encoded = attribute(ENCODED) == Some("true");
        let kind = attribute("Content-Type").map(unescaped);
        let has_attributes = message
            .attributes
            .as_object()
            .is_some_and(|all| !all.is_empty());
        let count = message.system.get("ApproximateReceiveCount");
        let count = count
            .and_then(Value::as_str)
            .and_then(|text| text.parse().ok());
        let text = match envelope(&message.body) {
            Some(inner) if !self.raw && !has_attributes => inner,
            _ => message.body,
        };
        Taken {
            body: Ok(read(text, is_encoded)),
            content_type: kind.and_then(|text| content_type(text.as_bytes())),
            claim: Claim::new(Receipt {
                lazy: self.lazy,
                queue: self,
                handle: message.receipt,
                is_first: count.unwrap_or(1) <= 1,
            }),
        }
    }

    /// Makes a call, again if SQS is busy or nothing of the call was sent.
    async fn call(&self, action: &str, body: &Value, deadline: Instant) -> Result<Value, Unsent> {
        let target = format!("AmazonSQS.{action}");
        let headers = [
            ("content-type", "application/x-amz-json-1.0"),
            ("x-amz-target", &*target),
        ];
        let body = Bytes::from(body.to_string());
        let response = repeated(&self.client, &headers, body, deadline).await?;
        if !response.status.is_success() {
            return Err(unsent(response.status, rejected(&response)));
        }
        serde_json::from_slice(&response.body).map_err(|_| {
            let text = "pubsub: the response of SQS is not JSON";
            Unsent::unknown(Failure::new(Kind::Decode, text))
        })
    }
}

/// The failure of a message for which a service responds with `status`. After a 5xx it may have it all the same.
pub(super) fn unsent(status: StatusCode, failure: Failure) -> Unsent {
    Unsent {
        failure,
        is_unknown: status.is_server_error(),
    }
}

/// Makes a call up to [`ATTEMPTS`] times: after 429 and 5xx, and if nothing of it was sent.
pub(super) async fn repeated(
    client: &AwsClient,
    headers: &[(&'static str, &str)],
    body: Bytes,
    deadline: Instant,
) -> Result<SideResponse, Unsent> {
    let mut attempt = 1;
    // An earlier attempt was given to the service.
    let mut is_unknown = false;
    loop {
        let outcome = client.post("/", headers, body.clone(), deadline).await;
        let again = match &outcome {
            Ok(response) => response.status.as_u16() == 429 || response.status.is_server_error(),
            Err(error) => error.unsent && matches!(error.kind, Kind::Connect(_)),
        };
        is_unknown |= match &outcome {
            Ok(response) => response.status.is_server_error(),
            Err(error) => !error.unsent,
        };
        let wait = pause(attempt);
        if !again || attempt >= ATTEMPTS || Instant::now() + wait >= deadline {
            return outcome.map_err(|error| Unsent {
                failure: Failure::new(error.kind, format!("pubsub: {}", error.text)),
                is_unknown,
            });
        }
        attempt += 1;
        tokio::time::sleep(wait).await;
    }
}

/// A response with the status of an error, in JSON.
fn rejected(response: &SideResponse) -> Failure {
    let said: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let kind = said.get("__type").and_then(Value::as_str);
    let kind = kind.map(|kind| kind.rsplit('#').next().unwrap_or(kind));
    let text = format!("pubsub: {} {}", response.status.as_u16(), short(kind));
    Failure::new(Kind::Status, text)
}

/// A word from outside, for a message.
pub(super) fn short(word: Option<&str>) -> String {
    let word: String = word.unwrap_or_default().chars().take(128).collect();
    printable(&word).into_owned()
}

/// # Errors
/// 413: the message is larger than the queue allows.
pub(super) fn check_size(
    text: &str,
    attributes: &[(String, String)],
    most: usize,
) -> Result<(), Failure> {
    let attributes = attributes.iter();
    let more: usize = attributes
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if text.len() + more <= most {
        return Ok(());
    }
    let text = format!("pubsub: the message is larger than {} KiB", most >> 10);
    Err(Failure::new(Kind::BodyTooLarge, text))
}

/// The message in an envelope of SNS.
fn envelope(body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(rename = "TopicArn")]
        topic: String,
        #[serde(rename = "Message")]
        message: String,
    }
    let envelope: Envelope = serde_json::from_str(body).ok()?;
    (!envelope.topic.is_empty()).then_some(envelope.message)
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Messages", default)]
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "Body", default)]
    body: String,
    #[serde(rename = "ReceiptHandle")]
    receipt: String,
    #[serde(rename = "MessageAttributes", default)]
    attributes: Value,
    #[serde(rename = "Attributes", default)]
    system: Value,
}

/// Acknowledges a message that was taken.
#[derive(Debug)]
struct Receipt {
    queue: Arc<Queue>,
    handle: String,
    /// It was delivered for the first time.
    is_first: bool,
    lazy: bool,
}

impl Confirm for Receipt {
    fn confirm(self: Box<Self>, verdict: Verdict) {
        let (action, entry) = match verdict {
            Verdict::Done => (
                "DeleteMessageBatch",
                json!({ "Id": "0", "ReceiptHandle": self.handle }),
            ),
            // Once only: after that the redrive policy of the queue decides.
            Verdict::Bad if !self.is_first || self.lazy => return,
            Verdict::Bad | Verdict::Return => (
                "ChangeMessageVisibilityBatch",
                json!({ "Id": "0", "ReceiptHandle": self.handle, "VisibilityTimeout": 0 }),
            ),
        };
        let body = json!({ "QueueUrl": self.queue.url, "Entries": [entry] });
        let queue = self.queue;
        aside(async move {
            let deadline = Instant::now() + CALL;
            if let Err(failure) = queue.call(action, &body, deadline).await {
                log::warn!("[PubSub] {action}: {}", failure.failure);
            }
        });
    }
}
