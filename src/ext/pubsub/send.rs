//! Sends a message instead of making a call.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use super::driver::{Outbound, Topic, Unsent};
use super::metadata::Listed;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipe::{CallDecision, CallStep, PipeRequest, Reply, Substitute};
use crate::telemetry::queues::{MessageCounter, Result as Ended};
use crate::telemetry::sanitize::printable;

/// A message on its way.
pub(in crate::ext) type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), Unsent>> + Send + 'a>>;

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

/// What is unknown if a service was given a message and does not confirm it.
const MAY_BE_SENT: &str = "the message may have been sent";

/// Reports how the sending of a message ends, and responds to its request.
async fn sent(work: Sending<'_>, counter: &MessageCounter, log: &str) -> Result<Reply, Failure> {
    let is_late = || counter.count(Ended::Timeout);
    let unsure = Unsure::new(log, MAY_BE_SENT, &is_late);
    let sent = work.await;
    unsure.end();
    let Unsent {
        mut failure,
        is_unknown,
    } = match sent {
        Ok(()) => {
            counter.count(Ended::Ok);
            return Ok(Reply::local(StatusCode::OK, HeaderMap::new(), None));
        }
        Err(unsent) => unsent,
    };
    counter.count(ended(&failure));
    if is_unknown {
        log::warn!("{log} {}: {MAY_BE_SENT}", printable(&failure.text));
        if failure.kind == Kind::Broken {
            failure.text = format!("{}, and {MAY_BE_SENT}", failure.text).into();
        }
    }
    Err(failure)
}

pub(super) fn ended(failure: &Failure) -> Ended {
    match failure.kind {
        Kind::Deadline | Kind::Late(_) | Kind::Empty => Ended::Timeout,
        Kind::Status | Kind::BodyTooLarge | Kind::Request | Kind::Guarded(_) => Ended::Rejected,
        _ => Ended::Error,
    }
}

/// A call in progress whose outcome is unknown if the request ends before the response.
pub(in crate::ext) struct Unsure<'a> {
    log: &'a str,
    /// What may have happened.
    may: &'static str,
    /// Counts the end of the request.
    count: &'a (dyn Fn() + Sync),
    open: bool,
}

impl<'a> Unsure<'a> {
    pub(in crate::ext) fn new(
        log: &'a str,
        may: &'static str,
        count: &'a (dyn Fn() + Sync),
    ) -> Unsure<'a> {
        Unsure {
            log,
            may,
            count,
            open: true,
        }
    }

    /// There is a response, or an error.
    pub(in crate::ext) fn end(mut self) {
        self.open = false;
    }
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        if self.open {
            (self.count)();
            log::warn!(
                "{} the request ended before the response: {}",
                self.log,
                self.may
            );
        }
    }
}
