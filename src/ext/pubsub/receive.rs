//! Takes a message instead of making a call.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::driver::{Claim, Subscription, Verdict};
use super::send::ended;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipe::{
    CallDecision, CallStep, Message, PipeRequest, Received, Reply, Substitute,
};
use crate::telemetry::queues::{MessageCounter, Result as Ended};

/// How long before the deadline of the request the wait for a message ends, so that an empty queue can be distinguished
/// from an unreachable one.
const MARGIN: Duration = Duration::from_millis(50);

/// Responds to each request with a message of a queue.
#[derive(Debug)]
pub(in crate::ext) struct Receiver {
    pub(in crate::ext) subscription: Arc<dyn Subscription>,
    pub(in crate::ext) counter: MessageCounter,
    /// The status if there is no message.
    pub(in crate::ext) empty_status: StatusCode,
    /// The beginning of lines in the log: `[BACKEND: nats://orders][PubSub]`.
    pub(in crate::ext) log: Arc<str>,
}

impl CallStep for Receiver {
    fn is_the_backend(&self) -> bool {
        true
    }

    fn substitute(&self) -> Substitute {
        Substitute::Receive
    }

    fn sees_responses(&self) -> bool {
        false
    }

    fn request<'a>(&'a self, request: &mut PipeRequest) -> Result<CallDecision<'a>, Failure> {
        let left = request.deadline.saturating_duration_since(Instant::now());
        let deadline = request.deadline - MARGIN.min(left / 10);
        Ok(CallDecision::Receive(Box::pin(self.receive(deadline))))
    }

    fn response(&self, _: &PipeRequest, _: &mut Reply) -> Result<(), Failure> {
        Ok(())
    }
}

impl Receiver {
    async fn receive(&self, deadline: Instant) -> Result<Received, Failure> {
        let taken = match self.subscription.receive(deadline).await {
            Ok(Some(taken)) => taken,
            Ok(None) => {
                self.counter.count(Ended::Timeout);
                return Err(Failure {
                    status: self.empty_status,
                    ..Failure::new(Kind::Empty, "context deadline exceeded")
                });
            }
            Err(failure) => {
                self.counter.count(ended(&failure));
                return Err(failure);
            }
        };
        let mut headers = HeaderMap::new();
        if let Some(value) = taken.content_type {
            headers.insert(CONTENT_TYPE, value);
        }
        let mut message = Box::new(Pending {
            claim: taken.claim,
            counter: self.counter.clone(),
            log: Arc::clone(&self.log),
            bytes: 0,
        });
        match taken.body {
            Ok(body) => {
                message.bytes = body.len();
                Ok(Received {
                    reply: Reply::local(StatusCode::OK, headers, Some(body)),
                    message: Some(message),
                })
            }
            Err(why) => {
                log::error!("{} a message cannot be read: {why}", self.log);
                message.bad();
                let text = format!("the message cannot be read: {why}");
                Err(Failure::new(Kind::Decode, text))
            }
        }
    }
}

/// A message whose response is being made.
struct Pending {
    claim: Claim,
    counter: MessageCounter,
    log: Arc<str>,
    bytes: usize,
}

impl Message for Pending {
    fn settle(self: Box<Self>, good: bool) {
        if good {
            self.counter.count(Ended::Ok);
            self.claim.end(Verdict::Done);
            return;
        }
        log::error!(
            "{} a message of {} bytes cannot become a response",
            self.log,
            self.bytes
        );
        self.bad();
    }
}

impl Pending {
    fn bad(self) {
        self.counter.count(Ended::Undecodable);
        self.claim.end(Verdict::Bad);
    }
}
