//! The calls of an agent: those of an endpoint without a client.

use std::sync::Arc;

use http::Method;

use super::basics::{TICK, TIMEOUT};
use super::{Draft, EXTENSIONS, Parts, calls};
use crate::compile::namespaces::{Level, wanted};
use crate::config::backend::ENCODINGS;
use crate::config::{Agent, ConfigError, Rule, Service};
use crate::ext::extension::EndpointPart;
use crate::ext::proxy::PROXY_ENDPOINT;
use crate::ext::{Compile, EndpointSite, opentelemetry};
use crate::runtime::forward::{HeaderRules, QueryRules};
use crate::runtime::pipe::PipeStep;
use crate::runtime::router::Pattern;
use crate::runtime::service::{Endpoint, Payload, Work};

/// Compiles the calls of the agent `name`. `None` if there are none, after reporting all errors.
pub(in crate::compile) fn agent(
    file: &Agent<'_>,
    name: &str,
    service: &Service<'_>,
    service_hosts: &[String],
    cx: &mut Compile<'_>,
) -> Option<Endpoint> {
    cx.begin_endpoint();
    let node = file.block.node();
    if file.work.backend.is_empty() {
        node.config_error_hint(
            ConfigError::invalid("an agent needs at least one backend"),
            "\"backend\": [{\"host\": [\"http://name:port\"], \"url_pattern\": \"/\", \"method\": \"POST\"}]",
        );
        return None;
    }
    let timeout = file.work.timeout.or(service.timeout).unwrap_or(TIMEOUT);
    if timeout < TICK {
        node.invalid("a timeout below a millisecond: every message fails");
    }
    check_encoding(file);
    let pattern: Arc<str> = name.into();
    let site = EndpointSite {
        pattern: &pattern,
        method: &Method::GET,
        timeout,
        extra: file.work.extra.node().cloned(),
        streams: false,
        url_claims: &[],
        inputs: None,
    };
    let mut parts = Parts {
        pipes: pipes(file, &site, cx),
        ..Parts::default()
    };
    let observed = opentelemetry::endpoint(&site, cx);
    let proxy = file.work.extra.open(&PROXY_ENDPOINT);
    let draft = Draft {
        file: &file.work,
        service,
        service_hosts,
        site: &site,
        pattern: &Pattern::fixed("/", false),
        proxy: proxy.as_ref(),
        concurrent: 1,
        encoding: "json",
        websocket: None,
        more: &[],
        is_catch_all: false,
        is_agent: true,
    };
    let work = calls(&draft, observed.as_ref(), &mut parts, cx);
    if matches!(work, Work::Nothing) {
        return None;
    }
    Some(Endpoint {
        timeout,
        cache_control: None,
        steps: Box::default(),
        headers: HeaderRules::endpoint::<&str>(&[]).ok()?,
        query: QueryRules::endpoint::<&str>(&[]),
        work,
        id: usize::MAX,
        method: Method::GET,
        observer: observed.map(|observed| observed.observer),
        payload: Payload::default(),
        response_edits: None,
        pattern,
    })
}

fn check_encoding(file: &Agent<'_>) {
    let Some(node) = file.block.get("encoding") else {
        return;
    };
    let known = |name: &str| {
        let mut all = ENCODINGS.iter();
        all.any(|known| known.eq_ignore_ascii_case(name))
    };
    if file.encoding.as_deref().is_some_and(|name| !known(name)) {
        node.config_error(ConfigError::NotOneOf {
            found: node.shown(),
            allowed: ENCODINGS.join(", "),
        });
    }
}

/// What is around the calls, outermost first.
fn pipes(
    file: &Agent<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> Vec<Box<dyn PipeStep>> {
    let mut all = Vec::new();
    for (index, node) in wanted(Level::Agent, &file.work.extra) {
        let Some(extension) = EXTENSIONS.get(index) else {
            continue;
        };
        match (extension.compile)(&node, site, cx) {
            EndpointPart::Piped { steps, pipes } if steps.is_empty() => all.extend(pipes),
            EndpointPart::Nothing => {}
            _ => node
                .ruled(Rule::Guard)
                .invalid("it looks at a client, and an agent has none"),
        }
    }
    all
}
