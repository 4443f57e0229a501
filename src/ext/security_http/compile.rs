//! Compiles the block. An invalid pattern stops the start.

use http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    X_XSS_PROTECTION,
};
use http::{HeaderName, HeaderValue};

use super::config::Block;
use super::runtime::{AllowedHosts, SecurityHeaders, SecurityHttp, policy_parts};
use crate::config::{ConfigError, Node, re2};
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::extension::{EndpointPart, ServicePart};
use crate::runtime::response::Fields;

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let before = cx.report.config_errors();
    let Some(block) = Block::read(node) else {
        return ServicePart::Nothing;
    };
    let step = SecurityHttp {
        hosts: hosts(node, &block),
        host_headers: header_names(node, "host_proxy_headers", &block.host_proxy_headers),
        redirect: block.ssl_redirect && !block.is_development,
        redirect_host: block.ssl_host.as_deref().map(Box::from),
        headers: headers(node, &block),
    };
    if cx.report.config_errors() > before {
        return ServicePart::Nothing;
    }
    log::debug!("[SERVICE: Gin][HTTPsecure] Successfully loaded module");
    ServicePart::Step(Box::new(step))
}

pub(super) fn endpoint(
    node: &Node<'_>,
    _site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    let before = cx.report.config_errors();
    let Some(block) = Block::read(node) else {
        return EndpointPart::Nothing;
    };
    // What is decided before the router cannot depend on the endpoint.
    for key in [
        "allowed_hosts",
        "allowed_hosts_are_regex",
        "host_proxy_headers",
        "ssl_redirect",
        "ssl_host",
    ] {
        if let Some(node) = node.get(key) {
            node.config_error_hint(
                ConfigError::invalid(format!("{key:?} has no effect in an endpoint")),
                "write it in the service",
            );
        }
    }
    let headers = headers(node, &block);
    if cx.report.config_errors() > before {
        return EndpointPart::Nothing;
    }
    EndpointPart::step(headers)
}

fn headers(node: &Node<'_>, block: &Block) -> SecurityHeaders {
    SecurityHeaders {
        secure_headers: secure_headers(node, block),
        sts: sts(block),
        sts_always: block.force_sts_header,
        fields: fields(node, block),
        policy_parts: block
            .content_security_policy
            .as_deref()
            .and_then(policy_parts),
    }
}

fn hosts(node: &Node<'_>, block: &Block) -> AllowedHosts {
    if block.is_development || block.allowed_hosts.is_empty() {
        return AllowedHosts::Any;
    }
    if !block.allowed_hosts_are_regex {
        return AllowedHosts::Exact(
            block
                .allowed_hosts
                .iter()
                .map(|host| (**host).into())
                .collect(),
        );
    }
    let patterns: Vec<String> = block
        .allowed_hosts
        .iter()
        .map(|pattern| format!("^(?:{pattern})$"))
        .collect();
    match re2::set(&patterns) {
        Ok(patterns) => AllowedHosts::Patterns(patterns),
        Err(error) => {
            at(node, "allowed_hosts").invalid(format!("not a regular expression: {error}"));
            AllowedHosts::Any
        }
    }
}

fn header_names(node: &Node<'_>, key: &str, names: &[String]) -> Box<[HeaderName]> {
    names
        .iter()
        .filter_map(|name| at(node, key).header_name(name))
        .collect()
}

fn secure_headers(node: &Node<'_>, block: &Block) -> Box<[(HeaderName, HeaderValue)]> {
    block
        .ssl_proxy_headers
        .iter()
        .filter_map(|(name, value)| {
            let pair = HeaderName::try_from(name.as_str())
                .ok()
                .zip(HeaderValue::try_from(value.as_str()).ok());
            if pair.is_none() {
                at(node, "ssl_proxy_headers")
                    .invalid(format!("{name:?}: {value:?} is not a header"));
            }
            pair
        })
        .collect()
}

fn sts(block: &Block) -> Option<HeaderValue> {
    if block.sts_seconds == 0 || block.is_development {
        return None;
    }
    let subdomains = if block.sts_include_subdomains {
        "; includeSubDomains"
    } else {
        ""
    };
    HeaderValue::try_from(format!("max-age={}{subdomains}", block.sts_seconds)).ok()
}

fn fields(node: &Node<'_>, block: &Block) -> Fields {
    let mut fields = Fields::new();
    let mut add = |key: &str, name: HeaderName, value: Option<&str>| {
        let Some(value) = value else { return };
        match HeaderValue::try_from(value) {
            Ok(value) => fields.push((name, value)),
            Err(_) => at(node, key).invalid(format!("{value:?} cannot be sent in a header")),
        }
    };
    let custom = block.custom_frame_options_value.as_deref();
    let frame = custom.or(block.frame_deny.then_some("DENY"));
    add("custom_frame_options_value", X_FRAME_OPTIONS, frame);
    let nosniff = block.content_type_nosniff.then_some("nosniff");
    add("content_type_nosniff", X_CONTENT_TYPE_OPTIONS, nosniff);
    let filter = block.browser_xss_filter.then_some("1; mode=block");
    add("browser_xss_filter", X_XSS_PROTECTION, filter);
    let policy = block.content_security_policy.as_deref();
    // A policy with a nonce is written for each response, but its fixed parts must be valid.
    let fixed = policy
        .filter(|policy| policy_parts(policy).is_none() || HeaderValue::try_from(*policy).is_err());
    add("content_security_policy", CONTENT_SECURITY_POLICY, fixed);
    add(
        "referrer_policy",
        REFERRER_POLICY,
        block.referrer_policy.as_deref(),
    );
    fields
}

fn at<'a>(node: &Node<'a>, key: &str) -> Node<'a> {
    node.get(key).unwrap_or_else(|| node.clone())
}
