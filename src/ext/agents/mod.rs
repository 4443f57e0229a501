//! Async agents (`async_agent`): an agent takes messages from a queue and calls its backends for each one.
//!
//! | module | content |
//! |---|---|
//! | `source` | what a queue must be able to do |
//! | `lifecycle` | an agent from its first connection to its end |
//! | `handle` | what happens to one message |
//! | `failures` | how often a message has failed |
//!
//! Each agent is a task of its own, so one that cannot connect stops no other.

mod failures;
mod handle;
mod lifecycle;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;

pub(super) use handle::{AgentContext, Policy, RateLimit};
pub(super) use source::{Delivery, Disposition, Opened, Receipt, Session, Source};

use crate::backoff::Backoff;
use crate::ext::context::Compile;
use crate::ext::reload_state::Task;
use crate::runtime::agents::{Agent as Shown, AgentHealth};
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipeline::{ClientCall, Upstream, deliver};
use crate::runtime::service::{Endpoint, Options, Work};
use crate::telemetry::observe::{self, Observer, Request};
use lifecycle::RunningAgent;

/// What is done with a message.
#[async_trait]
trait Handler: Send + Sync {
    /// # Errors
    /// The message was not accepted.
    async fn handle(&self, body: Bytes, content_type: Option<HeaderValue>) -> Result<(), Failure>;
}

/// The calls of an agent in one configuration.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) options: Options,
    pub(super) endpoint: Arc<Endpoint>,
    /// The series of backends.
    pub(super) observer: Option<Arc<Observer>>,
}

#[async_trait]
impl Handler for Pipeline {
    async fn handle(&self, body: Bytes, content_type: Option<HeaderValue>) -> Result<(), Failure> {
        let endpoint = &*self.endpoint;
        let Work::Compose(work) = &endpoint.work else {
            return Err(Failure::new(Kind::NoHosts, "there are no calls"));
        };
        let mut call = ClientCall::of_message(endpoint, body, content_type);
        let work = deliver(&Upstream, &self.options, endpoint, work, &mut call);
        match &self.observer {
            Some(observer) => {
                let request = Request::of_message(observer);
                observe::within(&request, work).await
            }
            None => work.await,
        }
    }
}

/// The calls of the current configuration. `None` before the first configuration is in use.
type Calls = watch::Receiver<Option<Arc<dyn Handler>>>;

/// An agent whose queue and limits are unchanged across reloads. It ends when this value is dropped.
struct Agent {
    calls: watch::Sender<Option<Arc<dyn Handler>>>,
    health: Arc<AgentHealth>,
}

/// What defines an agent, besides its calls.
pub(super) struct Plan {
    pub(super) name: Arc<str>,
    /// Names the queue and everything else that an agent cannot change while it runs.
    pub(super) key: String,
    pub(super) source: Box<dyn Source>,
    pub(super) context: AgentContext,
    pub(super) workers: usize,
    /// How many attempts may follow a failed one. `None` sets no limit.
    pub(super) max_retries: Option<u32>,
    pub(super) backoff: Backoff,
    pub(super) health: AgentHealth,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plan({}: {:?})", self.name, self.source)
    }
}

/// Adds the agent to the configuration. A running agent with the same plan continues with the new calls. A running
/// agent with the same name and another plan finishes its messages first.
pub(super) fn put(plan: Plan, pipeline: Pipeline, cx: &mut Compile<'_>) -> Shown {
    let endpoint = Arc::clone(&pipeline.endpoint);
    let lane = cx.carry_over(format!("async_agent lane {}", plan.name), |_| {
        Arc::new(Mutex::new(()))
    });
    let name = Arc::clone(&plan.name);
    let agent = cx.carry_over(format!("async_agent {name} {}", plan.key), |tasks| {
        let health = Arc::new(plan.health);
        let calls = watch::Sender::new(None);
        let life = RunningAgent {
            name: plan.name,
            source: plan.source,
            context: Arc::new(plan.context),
            permits: Arc::new(Semaphore::new(plan.workers)),
            max_retries: plan.max_retries,
            backoff: plan.backoff,
            health: Arc::clone(&health),
            calls: calls.subscribe(),
            working: JoinSet::new(),
        };
        tasks.push(Task::new(format!("async agent {name}"), life.live(lane)));
        Arc::new(Agent { calls, health })
    });
    let health = Arc::clone(&agent.health);
    let work = async move {
        agent.calls.send_replace(Some(Arc::new(pipeline)));
    };
    cx.push(Task::new(format!("calls of the async agent {name}"), work));
    Shown { endpoint, health }
}
