//! The states of hosts that have the same rules.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::health_check;
use super::host_health::HostHealth;
use super::rules::{EjectionRules, HealthCheck, ResilienceRules};
use crate::backoff::Backoff;
use crate::upstream::client::Client;
use crate::upstream::shared_work::Sources;

/// The states of hosts by their URL. It is kept across reloads, and so is the state of a host that a new configuration
/// still has.
#[derive(Debug)]
pub(crate) struct Monitor {
    hosts: Arc<Sources<Box<str>, HostHealth>>,
    ejection: Option<EjectionRules>,
    slow_start: Option<Duration>,
    since: Instant,
    /// Ends the health checks when it is dropped.
    alive: watch::Sender<bool>,
}

impl Monitor {
    /// A monitor for hosts with these rules.
    pub(crate) fn new(rules: &ResilienceRules) -> Monitor {
        Monitor {
            hosts: Arc::default(),
            ejection: rules.ejection.clone(),
            slow_start: rules.slow_start,
            since: Instant::now(),
            alive: watch::Sender::new(false),
        }
    }

    /// Checks the hosts, until the monitor is dropped. `client` makes the calls.
    pub(crate) fn run(
        &self,
        client: Arc<Client>,
        check: Option<HealthCheck>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let hosts = Arc::clone(&self.hosts);
        let ended = self.alive.subscribe();
        let check = check.map(Arc::new);
        async move {
            let tend = |host| health_check::watch(host, Arc::clone(&client), check.clone());
            hosts.tend_all(tend, ended).await;
        }
    }

    /// The state of the host at `url`. Not for the request path.
    pub(super) fn health(&self, url: &str) -> Arc<HostHealth> {
        let found = self.hosts.get(
            &Box::from(url),
            |_| Ok::<_, Infallible>(()),
            || {
                let health = HostHealth::new(url, self.ejection.as_ref(), self.slow_start);
                // A host that joins others begins with a small share.
                if self.slow_start.is_some_and(|it| self.since.elapsed() > it) {
                    health.has_come_back();
                }
                Ok(health)
            },
        );
        match found {
            Ok(health) => health,
            Err(never) => match never {},
        }
    }

    /// The pauses of hosts that fail to connect, if the rules have some.
    pub(super) fn pauses(&self) -> Option<Backoff> {
        let rules = self.ejection.as_ref()?;
        Some(Backoff::doubling(rules.base_time, rules.max_time))
    }
}
