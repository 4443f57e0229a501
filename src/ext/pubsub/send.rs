//! Sends a message instead of making a call.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use super::driver::{Outbound, Topic};
use super::metadata::Listed;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipe::{CallDecision, CallStep, PipeRequest, Reply, Substitute};
use crate::telemetry::queues::{MessageCounter, Result as Ended};

/// A message on its way.
pub(in crate::ext) type Sending<'a> =
    Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// Makes a message of a request, and sends it.
pub(in crate::ext) trait Outlet: Send + Sync + fmt::Debug {
    /// # Errors
    /// No message can be made of the request.
    fn send(&self, request: &PipeRequest) -> Result<Sending<'_>, Failure>;
}

/// Sends a message for each request.
#[derive(Debug)]
pub(in crate::ext) struct Sender {
    pub(in crate::ext) outlet: Box<dyn Outlet>,
    pub(in crate::ext) counter: MessageCounter,
    /// The beginning of lines in the log: `[BACKEND: nats://orders][PubSub]`.
    pub(in crate::ext) log: Box<str>,
}

/// Sends the body of each request to a topic.
#[derive(Debug)]
pub(super) struct ToTopic {
    pub(super) topic: Arc<dyn Topic>,
    pub(super) listed: Listed,
}

impl Outlet for ToTopic {
    fn send(&self, request: &PipeRequest) -> Result<Sending<'_>, Failure> {
        let message = Outbound {
            body: request.body.clone(),
            metadata: self.listed.metadata(&request.headers),
        };
        Ok(self.topic.publish(message, request.deadline))
    }
}

impl CallStep for Sender {
    fn is_the_backend(&self) -> bool {
        true
    }

    fn needs_body(&self) -> bool {
        true
    }

    fn substitute(&self) -> Substitute {
        Substitute::Send
    }

    fn sees_responses(&self) -> bool {
        false
    }

    fn request<'a>(&'a self, request: &mut PipeRequest) -> Result<CallDecision<'a>, Failure> {
        let work = self.outlet.send(request)?;
        Ok(CallDecision::Wait(Box::pin(sent(
            work,
            &self.counter,
            &self.log,
        ))))
    }

    fn response(&self, _: &PipeRequest, _: &mut Reply) -> Result<(), Failure> {
        Ok(())
    }
}

/// Reports how the sending of a message ends, and responds to its request.
async fn sent(work: Sending<'_>, counter: &MessageCounter, log: &str) -> Result<Reply, Failure> {
    let mut unsure = Unsure {
        counter,
        log,
        open: true,
    };
    let sent = work.await;
    unsure.open = false;
    match sent {
        Ok(()) => {
            counter.count(Ended::Ok);
            Ok(Reply::local(StatusCode::OK, HeaderMap::new(), None))
        }
        Err(failure) => {
            counter.count(ended(&failure));
            Err(failure)
        }
    }
}

pub(super) fn ended(failure: &Failure) -> Ended {
    match failure.kind {
        Kind::Deadline | Kind::Late(_) | Kind::Empty => Ended::Timeout,
        Kind::Status | Kind::BodyTooLarge | Kind::Request | Kind::Guarded(_) => Ended::Rejected,
        _ => Ended::Error,
    }
}

/// A message in progress. If the request ends before the queue responds, it is unknown whether the message was sent.
struct Unsure<'a> {
    counter: &'a MessageCounter,
    log: &'a str,
    open: bool,
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        if self.open {
            self.counter.count(Ended::Timeout);
            log::warn!(
                "{} the request ended before the response: the message may have been sent",
                self.log
            );
        }
    }
}
