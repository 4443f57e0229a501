//! Compiles the block.

use http::Method;

use super::config::LambdaBlock;
use super::runtime::{Function, Lambda, is_name};
use crate::config::{ConfigError, Node};
use crate::ext::aws_sigv4::{AwsClient, Service};
use crate::ext::context::{BackendSite, Compile};
use crate::ext::extension::BackendPart;
use crate::telemetry::queues::AttemptCounter;

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let Some(written) = LambdaBlock::read(node) else {
        return BackendPart::Nothing;
    };
    let function = function(&written, site);
    let service = Service {
        name: "lambda",
        region: written.region,
        endpoint: written.endpoint,
        profile: None,
        anonymous: false,
    };
    let client = AwsClient::open(node, service, cx);
    let (Some(function), Some(client)) = (function, client) else {
        return BackendPart::Nothing;
    };
    BackendPart::OnWire(Box::new(Lambda {
        function,
        client,
        max_retries: written.max_retries,
        passes_errors: written.passes_errors,
        pattern: site.pattern.as_ref().into(),
        attempts: AttemptCounter::new(site.pattern),
        is_get: *site.method == Method::GET,
    }))
}

/// The function that is called. `None` after an error was reported.
fn function(written: &LambdaBlock<'_>, site: &BackendSite<'_>) -> Option<Function> {
    if let Some(name) = &written.function {
        if !is_name(name) {
            let node = written.block.get("function_name");
            let node = node.unwrap_or_else(|| written.block.node().clone());
            node.invalid(format!("{name:?} is not the name of a function"));
            return None;
        }
        return Some(Function::Named(name.as_str().into()));
    }
    let block = &written.block;
    let node = match block.get("function_param_name") {
        Some(node) => node,
        None => block.node().clone(),
    };
    let Some(parameter) = parameter(&written.parameter, site.endpoint.pattern) else {
        node.config_error_hint(
            ConfigError::invalid(format!(
                "the endpoint has no parameter {{{}}} that could name a function",
                written.parameter
            )),
            "\"function_name\": \"my-function\"",
        );
        return None;
    };
    for (name, node) in block.text_items("functions") {
        if !is_name(&name) {
            node.invalid(format!("{name:?} is not the name of a function"));
        }
    }
    if written.functions.is_empty() {
        node.warn_hint(
            ConfigError::invalid(
                "clients name the function: they can call every function that the keys allow",
            ),
            "\"functions\": [\"one\", \"another\"]",
        );
    }
    let listed = written.functions.iter().map(|name| name.as_str().into());
    Some(Function::OfParameter {
        parameter,
        listed: listed.collect(),
    })
}

/// The parameter of this name as the endpoint spells it. KrakenD spells the first letter in upper case, and clients of
/// either spelling are meant.
fn parameter(name: &str, pattern: &str) -> Option<Box<str>> {
    let spelled = pattern.split('{').skip(1);
    let mut spelled = spelled.filter_map(|rest| rest.split_once('}').map(|(name, _)| name));
    let found = spelled.find(|known| known.eq_ignore_ascii_case(name))?;
    Some(found.into())
}
