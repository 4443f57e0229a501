//! Compiles the block.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::config::ForwardAuth;
use super::runtime::Guard;
use crate::config::{ConfigError, Node};
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::extension::EndpointPart;
use crate::ext::identity::{Inquiry, Room, waiting_time};
use crate::runtime::clock::Clock;
use crate::telemetry::mask::without_values;
use crate::upstream::{OUR_USER_AGENT, SideClient};

const TIMEOUT: Duration = Duration::from_secs(2);
const BYTES: u64 = 16 << 20;
const ENTRIES: usize = 100_000;

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
    let names = |key: &'static str, texts: &Option<Vec<String>>, standard: &[&str]| {
        let standard = || standard.iter().map(|name| (*name).to_owned()).collect();
        let texts = texts.clone().unwrap_or_else(standard);
        headers(&file, key, &texts)
    };
    let sent = names(
        "request_headers",
        &file.request_headers,
        &["authorization", "cookie"],
    );
    let set = headers(&file, "response_headers", &file.response_headers);
    let shown = names(
        "client_headers",
        &file.client_headers,
        &[
            "content-type",
            "location",
            "retry-after",
            "set-cookie",
            "www-authenticate",
        ],
    );
    let key = file
        .cache_key
        .as_ref()
        .map(|texts| headers(&file, "cache_key", texts));
    if key.as_ref().is_some_and(|key| key.is_empty()) {
        let at = file.block.get("cache_key");
        at.unwrap_or_else(|| node.clone())
            .invalid("without a header all requests would get the same answer");
    }
    let Some(url) = file.url.as_ref().filter(|url| is_url(url)) else {
        if let (Some(_), Some(at)) = (&file.url, file.block.get("url")) {
            at.config_error_hint(
                ConfigError::invalid("this is no URL of a service"),
                "a whole URL: \"http://auth.internal:9000/verify\"",
            );
        }
        return EndpointPart::Nothing;
    };
    let patience = waiting_time(&file.block, "timeout", TIMEOUT);
    check_inputs(&file, &set, site);
    if cx.report.config_errors() > before {
        return EndpointPart::Nothing;
    }
    let clock = Clock::system();
    let room = Room {
        entries: ENTRIES,
        bytes: usize::try_from(file.cache_bytes.unwrap_or(BYTES)).unwrap_or(usize::MAX),
    };
    // Endpoints with the same definition share their answers, and a reload keeps them.
    let definition = format!("portcullis/forward-auth {}", node.value().to_json());
    let inquiry = cx.try_carry(definition, |_| {
        let name = format!("forward auth {}", without_values(url));
        Inquiry::new(name, room, patience, clock.clone()).map(Arc::new)
    });
    // A redirect is an answer for the client.
    let side = SideClient::without_redirects(&cx.verified_tls(), &OUR_USER_AGENT);
    let (inquiry, side) = match (inquiry, side) {
        (Ok(inquiry), Ok(side)) => (inquiry, side),
        (Err(error), _) => return failed(node, &error.to_string()),
        (_, Err(error)) => return failed(node, &error.to_string()),
    };
    for header in &set {
        cx.identify(header.clone());
    }
    let guard = Guard {
        prefix: format!("[ENDPOINT: {}][ForwardAuth]", site.pattern).into(),
        url: url.clone(),
        headers: set.clone(),
        sent,
        shown,
        key,
        keep: file.cache_duration.unwrap_or_default(),
        timeout: patience.min(site.timeout),
        patience,
        side,
        inquiry,
    };
    EndpointPart::Setting {
        steps: vec![Box::new(Arc::new(guard))],
        headers: set.to_vec(),
        credential: None,
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

fn failed(node: &Node<'_>, error: &str) -> EndpointPart {
    node.invalid(error.to_owned());
    EndpointPart::Nothing
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
            Err(_) => at(file, key).invalid(format!("{text:?} is no header name")),
        }
    }
    names.into()
}

fn at<'a>(file: &ForwardAuth<'a>, key: &str) -> Node<'a> {
    let node = file.block.get(key);
    node.unwrap_or_else(|| file.block.node().clone())
}
