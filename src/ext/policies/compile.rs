//! Compiles the block. A policy that cannot be evaluated stops the start: KrakenD would start without it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::NAMESPACE;
use super::config::{BACKEND_KEYS, ENDPOINT_KEYS, ErrorBlock, PolicyBlock, StageBlock, TOKEN};
use super::runtime::{OnToken, Policies, Rejection, Stage};
use crate::config::{Block, ConfigError, Node, Typing, rule};
use crate::ext::auth_validator;
use crate::ext::cel::{Policy, Rules, Subject, names_cookies};
use crate::ext::context::{BackendSite, Compile, EndpointSite};
use crate::ext::extension::{BackendPart, EndpointPart};
use crate::ext::geoip::Locator;
use crate::ext::identity::Requirement;
use crate::runtime::clock::Clock;

pub(super) fn endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    let before = cx.report.config_errors();
    let Some(block) = PolicyBlock::read(node, ENDPOINT_KEYS) else {
        return EndpointPart::Nothing;
    };
    need_one(&block, cx.report.config_errors() > before);
    if let Some(stage) = &block.jwt {
        if !site.names(&auth_validator::ENDPOINT) {
            stage.node.config_error_hint(
                ConfigError::invalid("tokens are known only where they are validated"),
                "add \"auth/validator\" to this endpoint, or remove \"jwt\"",
            );
        }
        // The validator of the endpoint runs them; here they are only checked.
        let known = policies(stage, Subject::Token, block.macros, site, cx).len();
        let run = demand(site).map_or(0, |demand| demand.stage.policies.len());
        if run != known && cx.report.config_errors() == before {
            stage
                .node
                .invalid("the validator of this endpoint does not find these policies");
        }
    }
    let log = format!("[ENDPOINT: {}][Policies]", site.pattern);
    let policies = around(&block, log, site, cx);
    if cx.report.config_errors() > before {
        return EndpointPart::Nothing;
    }
    let mut requests = block.req.iter().flat_map(|stage| &stage.policies);
    if requests.any(|(text, _)| names_cookies(text)) {
        cx.browsers_send(
            "\"security/policies\" decides by cookies, and browsers send cookies with it",
        );
    }
    EndpointPart::pipe(policies)
}

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let before = cx.report.config_errors();
    if let Some(node) = node.get("jwt") {
        node.config_error_hint(
            ConfigError::invalid("\"jwt\" has no effect at a backend"),
            "move it to \"security/policies\" of the endpoint",
        );
    }
    let Some(block) = PolicyBlock::read(node, BACKEND_KEYS) else {
        return BackendPart::Nothing;
    };
    need_one(&block, cx.report.config_errors() > before);
    let log = format!("[BACKEND: {}][Policies]", site.pattern);
    let policies = around(&block, log, site.endpoint, cx);
    BackendPart::pipe(policies.filter(|_| cx.report.config_errors() == before))
}

fn need_one(block: &PolicyBlock<'_>, has_errors: bool) {
    if block.req.is_none() && block.resp.is_none() && block.jwt.is_none() && !has_errors {
        block.block.node().config_error_hint(
            ConfigError::Missing("req"),
            "\"req\", \"resp\" or \"jwt\": a block without policies protects nothing",
        );
    }
}

/// The step around the work of an endpoint or around a call.
fn around(
    block: &PolicyBlock<'_>,
    log: String,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> Option<Policies> {
    let stage = |written: &Option<StageBlock<'_>>, subject, word: &str| {
        let written = written.as_ref()?;
        Some(Stage {
            log: format!("{log}[{word}]").into(),
            policies: policies(written, subject, block.macros, site, cx).into(),
            rejection: rejection(written.error.as_ref()),
            debug: block.debug,
        })
    };
    let before = stage(&block.req, Subject::Request, "req");
    let after = stage(&block.resp, Subject::Response, "resp");
    if before.is_none() && after.is_none() {
        return None;
    }
    let locator = cx.fact::<Locator>();
    Some(Policies::new(before, after, locator, Clock::system()))
}

fn policies(
    stage: &StageBlock<'_>,
    subject: Subject,
    macros: bool,
    site: &EndpointSite<'_>,
    cx: &Compile<'_>,
) -> Vec<Policy> {
    let rules = Rules {
        subject,
        macros,
        has_token: subject == Subject::Token || site.names(&auth_validator::ENDPOINT),
        locator: cx.fact::<Locator>(),
    };
    let compiled = stage
        .policies
        .iter()
        .filter_map(|(text, node)| Policy::compile(text, node, &rules, site, cx));
    compiled.collect()
}

fn rejection(error: Option<&ErrorBlock<'_>>) -> Rejection {
    let Some(error) = error else {
        return Rejection::default();
    };
    let content_type = error.content_type.as_deref().unwrap_or("text/plain");
    let value = HeaderValue::try_from(content_type).ok();
    if value.is_none()
        && let Some(node) = error.block.get("content_type")
    {
        node.invalid("not a value of a header");
    }
    let is_json = content_type.contains("json");
    if is_json
        && !error.body.is_empty()
        && serde_json::from_str::<serde_json::Value>(&error.body).is_err()
        && let Some(node) = error.block.get("body")
    {
        node.warn(ConfigError::invalid(
            "the body is not JSON, although its \"content_type\" says that it is",
        ));
    }
    let status = error
        .status
        .and_then(|status| u16::try_from(status).ok())
        .and_then(|status| StatusCode::from_u16(status).ok());
    Rejection {
        status,
        body: Bytes::from(error.body.clone()),
        content_type: value,
    }
}

/// What the policies of an endpoint require of tokens. The endpoint's validator calls this; errors are reported when the
/// block itself is compiled.
pub(in crate::ext) fn token_demand(site: &EndpointSite<'_>) -> Option<Arc<dyn Requirement>> {
    Some(Arc::new(demand(site)?))
}

fn demand(site: &EndpointSite<'_>) -> Option<OnToken> {
    let members = site.extra.as_ref()?.members();
    // In any spelling under which the block is compiled.
    let (_, node) = members
        .into_iter()
        .find(|(name, _)| rule::spelling(name) == NAMESPACE)?;
    let block = Block::open_quietly(node, ENDPOINT_KEYS, Typing::Strict)?;
    let jwt = Block::open_quietly(block.get("jwt")?, TOKEN, Typing::Strict)?;
    let rules = Rules {
        subject: Subject::Token,
        macros: !block.flag("disable_macros") && !block.flag("disable_advanced_macros"),
        has_token: true,
        locator: None,
    };
    let texts = jwt.texts("policies");
    let policies: Box<[Policy]> = texts
        .iter()
        .filter_map(|text| Policy::parse(text, &rules).ok())
        .collect();
    if policies.is_empty() {
        return None;
    }
    Some(OnToken {
        stage: Stage {
            log: format!("[ENDPOINT: {}][Policies][jwt]", site.pattern).into(),
            policies,
            rejection: Rejection::default(),
            debug: false,
        },
        clock: Clock::system(),
    })
}
