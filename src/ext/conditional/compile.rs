//! Compiles the block.

use http::HeaderName;

use super::config::ConditionBlock;
use super::runtime::ByHeader;
use crate::config::{ConfigError, Node};
use crate::ext::context::{BackendSite, Compile};
use crate::ext::extension::BackendPart;
use crate::runtime::condition::{Condition, When};

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let before = cx.report.config_errors();
    let Some(block) = ConditionBlock::read(node) else {
        return BackendPart::Nothing;
    };
    let when = match block.strategy {
        Some("header") => by_header(&block, site).map(When::If),
        Some("policy") => by_policy(&block, site, cx).map(When::If),
        Some(_) => Some(When::Otherwise),
        None => None,
    };
    match when.filter(|_| cx.report.config_errors() == before) {
        Some(when) => BackendPart::When(when),
        None => BackendPart::Nothing,
    }
}

fn by_header(block: &ConditionBlock<'_>, site: &BackendSite<'_>) -> Option<Box<dyn Condition>> {
    let name = block.block.required("name")?;
    if !block.block.has("value") {
        block.block.missing("value");
    }
    let value = block.block.string("value")?;
    let at = block.block.get("name")?;
    let Ok(header) = HeaderName::try_from(name.as_str()) else {
        at.config_error(ConfigError::header_name(&name));
        return None;
    };
    let passes = |known: &String| known == "*" || known.eq_ignore_ascii_case(&name);
    if let Some(inputs) = site.endpoint.inputs
        && !inputs.headers.iter().any(passes)
    {
        at.config_error_hint(
            ConfigError::invalid(format!(
                "the endpoint does not forward {name}: the condition is never true"
            )),
            format!("add \"{name}\" to \"input_headers\" of the endpoint"),
        );
        return None;
    }
    Some(Box::new(ByHeader {
        name: header,
        value: value.into_bytes().into(),
    }))
}

#[cfg(feature = "cel")]
fn by_policy(
    block: &ConditionBlock<'_>,
    site: &BackendSite<'_>,
    cx: &Compile<'_>,
) -> Option<Box<dyn Condition>> {
    use super::runtime::ByPolicy;
    use crate::ext::auth_validator;
    use crate::ext::cel::{Policy, Rules, Subject};
    use crate::ext::geoip::Locator;
    use crate::runtime::clock::Clock;

    let text = block.block.required("value")?;
    let at = block.block.get("value")?;
    let locator = cx.fact::<Locator>();
    let rules = Rules {
        subject: Subject::Request,
        macros: true,
        has_token: site.endpoint.names(&auth_validator::ENDPOINT),
        locator: locator.clone(),
    };
    let policy = Policy::compile(&text, &at, &rules, site.endpoint, cx)?;
    Some(Box::new(ByPolicy {
        policy,
        log: format!("[BACKEND: {}][Conditional]", site.pattern).into(),
        locator,
        clock: Clock::system(),
        next_line: Default::default(),
    }))
}

#[cfg(not(feature = "cel"))]
fn by_policy(
    block: &ConditionBlock<'_>,
    _site: &BackendSite<'_>,
    _cx: &Compile<'_>,
) -> Option<Box<dyn Condition>> {
    let node = block.block.node();
    node.invalid("this binary was built without the cargo feature \"cel\"");
    None
}
