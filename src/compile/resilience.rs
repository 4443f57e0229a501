//! The hosts of a backend with what the file asks for beyond round robin.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Backend, Service};
use crate::ext::upstream::{
    Asked, Blocks, UPSTREAM, UPSTREAM_SERVICE, add_sticky, read_resilience,
};
use crate::ext::{Compile, Task};
use crate::upstream::resilience::{Monitor, Protocol, Resilience, RetryBudget};
use crate::upstream::{Client, HostRules, HostSet, HttpVersion, Settings};

/// What a backend asks for. `named`: its hosts come from SRV records.
pub(super) fn asked(
    file: &Backend<'_>,
    service: &Service<'_>,
    hosts: &[String],
    named: bool,
    cx: &mut Compile<'_>,
) -> Asked {
    let (own, shared) = (
        file.extra.open(&UPSTREAM),
        service.extra.open(&UPSTREAM_SERVICE),
    );
    let blocks = Blocks {
        own: own.as_ref(),
        service: shared.as_ref(),
    };
    let asked = read_resilience(&blocks, hosts, named);
    if let Some(sticky) = &asked.sticky {
        add_sticky(sticky, cx);
    }
    asked
}

/// The rules for calls, of which one attempt may be shorter than the endpoint's timeout.
pub(super) fn within_attempt(rules: HostRules, asked: &Asked) -> HostRules {
    let attempt = asked.rules.repeats.as_ref();
    let attempt = attempt.and_then(|repeats| repeats.per_try_timeout);
    let shorter = |timeout: Duration| attempt.map_or(timeout, |attempt| attempt.min(timeout));
    HostRules {
        timeout: rules.timeout.map(shorter),
        ..rules
    }
}

/// The host set that `make` creates, with these rules. `key` contains everything else that it depends on. Equal ones
/// are shared, also across reloads, and so are the states of hosts when only their list changes.
pub(super) fn set(
    key: &str,
    asked: Asked,
    client: &Arc<Client>,
    cx: &mut Compile<'_>,
    make: impl FnOnce() -> HostSet,
) -> Arc<HostSet> {
    if asked.rules.is_empty() {
        return cx.carry_over(key, |_| Arc::new(make()));
    }
    let monitor = if asked.rules.is_watched() {
        monitor(&asked, client, cx)
    } else {
        None
    };
    let budget = asked.rules.repeats.as_ref().map(|_| {
        let key = format!("retry budget of {key}, {:?}", asked.budget);
        let rules = asked.budget;
        cx.carry_over(key, |_| Arc::new(RetryBudget::new(rules)))
    });
    let key = format!("{key}, {asked:?}");
    let sticky = asked.sticky.as_ref().map(|sticky| sticky.id());
    cx.carry_over(key, |_| {
        let care = Resilience::new(asked.rules, monitor, budget);
        Arc::new(make().sticking(sticky).with_resilience(care))
    })
}

/// The states of the hosts. `None` if they cannot be checked, which is reported.
fn monitor(asked: &Asked, client: &Arc<Client>, cx: &mut Compile<'_>) -> Option<Arc<Monitor>> {
    let rules = &asked.rules;
    let over_grpc = rules
        .check
        .as_ref()
        .is_some_and(|check| matches!(check.protocol, Protocol::Grpc { .. }));
    let checking = if over_grpc {
        let settings = Settings {
            http_version: HttpVersion::H2,
            ..client.settings().clone()
        };
        // The same settings have made a client before.
        cx.clients.with(&settings).ok()?
    } else {
        Arc::clone(client)
    };
    let key = format!(
        "portcullis/upstream hosts of {}: {:?}, {:?}, {:?}",
        Arc::as_ptr(client).addr(),
        rules.check,
        rules.ejection,
        rules.slow_start
    );
    Some(cx.carry_over(key, |tasks| {
        let monitor = Arc::new(Monitor::new(rules));
        let checks = monitor.run(checking, rules.check.clone());
        tasks.push(Task::new("health checks", checks));
        monitor
    }))
}
