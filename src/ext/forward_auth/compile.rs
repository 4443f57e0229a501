//! Compiles the block.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::header::COOKIE;

use super::config::ForwardAuth;
use super::runtime::Guard;
use crate::config::{ConfigError, Node};
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::extension::EndpointPart;
use crate::ext::identity::{Server, waiting_time};

const TIMEOUT: Duration = Duration::from_secs(2);
const BYTES: u64 = 16 << 20;

/// The default of `request_headers`.
const SENT: &[&str] = &["authorization", "cookie"];
/// The default of `client_headers`.
const SHOWN: &[&str] = &[
    "content-type",
    "location",
    "retry-after",
    "set-cookie",
    "www-authenticate",
];

/// Headers of which a request may have several lines (RFC 9110 §5.3, RFC 9113 §8.2.3).
const LISTS: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "baggage",
    "cache-control",
    "cookie",
    "forwarded",
    "if-match",
    "if-none-match",
    "prefer",
    "tracestate",
    "via",
];

/// Headers that belong to the connection or to the framing of a message, or that the gateway sets itself.
const NOT_FORWARDED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-method",
    "x-forwarded-proto",
    "x-forwarded-uri",
];

pub(super) fn endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    let before = cx.report.config_errors();
    let Some(file) = ForwardAuth::read(node) else {
        return EndpointPart::Nothing;
    };
    let sent = listed(&file, "request_headers", &file.request_headers, SENT);
    let set = headers(&file, "response_headers", &file.response_headers);
    let shown = listed(&file, "client_headers", &file.client_headers, SHOWN);
    let key = cache_key(&file, node);
    let Some(url) = url(&file) else {
        return EndpointPart::Nothing;
    };
    let call_timeout = waiting_time(&file.block, "timeout", TIMEOUT);
    check_inputs(&file, &set, site);
    if cx.report.config_errors() > before {
        return EndpointPart::Nothing;
    }
    let tls = cx.verified_tls();
    let server = Server {
        kind: "forward auth",
        url,
        // Endpoints with the same definition share their results.
        definition: format!("portcullis/forward-auth {}", node.value().to_json()),
        timeout: call_timeout,
        cache_bytes: file.cache_bytes.unwrap_or(BYTES),
        tls: &tls,
    };
    let Some((inquiry, side)) = server.open(node, cx) else {
        return EndpointPart::Nothing;
    };
    for header in &set {
        cx.identify(header.clone());
    }
    if sent.contains(&COOKIE) {
        cx.browsers_send(
            "\"portcullis/forward-auth\" decides by cookies, and browsers send cookies with it",
        );
    }
    let single: Box<[HeaderName]> = sent
        .iter()
        .filter(|name| !LISTS.contains(&name.as_str()))
        .cloned()
        .collect();
    let guard = Guard {
        prefix: format!("[ENDPOINT: {}][ForwardAuth]", site.pattern).into(),
        url: url.to_owned(),
        headers: set.clone(),
        sent,
        single: single.clone(),
        shown,
        key,
        keep: file.cache_duration.unwrap_or_default(),
        timeout: call_timeout.min(site.timeout),
        call_timeout,
        side,
        inquiry,
    };
    EndpointPart::Setting {
        steps: vec![Box::new(Arc::new(guard))],
        headers: set.to_vec(),
        credential: None,
        decisive: single.to_vec(),
    }
}

/// A header that the endpoint does not let pass never reaches a backend.
fn check_inputs(file: &ForwardAuth<'_>, set: &[HeaderName], site: &EndpointSite<'_>) {
    let Some(inputs) = &site.inputs else {
        return;
    };
    for name in set {
        let passes = |input: &String| input == "*" || input.eq_ignore_ascii_case(name.as_str());
        if !inputs.headers.iter().any(passes) {
            at(file, "response_headers").warn_hint(
                ConfigError::invalid(format!(
                    "no backend gets {name}: the endpoint does not list it in \"input_headers\""
                )),
                "add it to \"input_headers\"",
            );
        }
    }
}

/// The configured headers, or the default ones.
fn listed(
    file: &ForwardAuth<'_>,
    key: &'static str,
    configured: &Option<Vec<String>>,
    default: &[&str],
) -> Box<[HeaderName]> {
    let default = || default.iter().map(|name| (*name).to_owned()).collect();
    headers(file, key, &configured.clone().unwrap_or_else(default))
}

/// The headers that select a cached decision. `None`: all headers that are sent.
fn cache_key(file: &ForwardAuth<'_>, node: &Node<'_>) -> Option<Box<[HeaderName]>> {
    let key = headers(file, "cache_key", file.cache_key.as_ref()?);
    if key.is_empty() {
        let at = file.block.get("cache_key");
        at.unwrap_or_else(|| node.clone())
            .invalid("without a header, all requests would get the same decision");
    }
    Some(key)
}

/// The URL of the service. `None` after reporting an error.
fn url<'f>(file: &'f ForwardAuth<'_>) -> Option<&'f str> {
    let url = file.url.as_deref()?;
    if is_url(url) {
        return Some(url);
    }
    if let Some(at) = file.block.get("url") {
        at.config_error_hint(
            ConfigError::invalid("this is not the URL of a service"),
            "a whole URL: \"http://auth.internal:9000/verify\"",
        );
    }
    None
}

fn is_url(url: &str) -> bool {
    url.parse::<http::Uri>()
        .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

fn headers(file: &ForwardAuth<'_>, key: &'static str, texts: &[String]) -> Box<[HeaderName]> {
    let mut names = Vec::new();
    for text in texts {
        match HeaderName::try_from(text.as_str()) {
            Ok(name) if NOT_FORWARDED.contains(&name.as_str()) => {
                at(file, key).invalid(format!("{text:?} is set by the gateway"));
            }
            Ok(name) if !names.contains(&name) => names.push(name),
            Ok(_) => {}
            Err(_) => at(file, key).config_error(ConfigError::header_name(text)),
        }
    }
    names.into()
}

fn at<'a>(file: &ForwardAuth<'a>, key: &str) -> Node<'a> {
    let node = file.block.get(key);
    node.unwrap_or_else(|| file.block.node().clone())
}
