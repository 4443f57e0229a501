//! Compiles the options of the service: the `router` namespace, and our own that affect every request.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::compile::{payload, static_data};
use crate::config::Namespace;
use crate::config::{Block, ConfigError, Data, Extra, Node, Service, Typing, size};
use crate::ext::compat::COMPAT;
use crate::ext::forwarding::FORWARDING;
use crate::ext::json::JSON;
use crate::ext::limits::LIMITS;
use crate::ext::router::ROUTER;
use crate::ext::stream::STREAM;
use crate::runtime::address::Ipv6Prefix;
use crate::runtime::json::{Style, Value, to_bytes};
use crate::runtime::router;
use crate::runtime::service::{ClientAddress, Options};

/// Compiles the options. `debug` is from the command line and enables the debug endpoint.
pub(super) fn options(file: &Service<'_>, debug: bool) -> (Options, router::Options) {
    let router = block(&file.extra, &ROUTER);
    let flag = |key: &str| router.as_ref().is_some_and(|block| block.flag(key));
    let stream = block(&file.extra, &STREAM);
    let limits = block(&file.extra, &LIMITS);
    let own_flag = |namespace: &'static Namespace, key: &str| {
        block(&file.extra, namespace).is_some_and(|block| block.flag(key))
    };
    if flag("return_error_msg")
        && let Some(node) = router
            .as_ref()
            .and_then(|block| block.get("return_error_msg"))
    {
        node.warn(ConfigError::invalid(
            "clients will see error texts, with the addresses of backends in them",
        ));
    }
    let payload = payload::service(router.as_ref(), limits.as_ref());
    let unset = Options::default();
    let options = Options {
        version_header: if flag("hide_version_header") {
            HeaderValue::from_static("Portcullis")
        } else {
            unset.version_header
        },
        user_agent: unset.user_agent,
        return_error_msg: flag("return_error_msg"),
        error_body_404: error_body(router.as_ref(), "404"),
        error_body_405: error_body(router.as_ref(), "405"),
        health_path: health_path(router.as_ref(), unset.health_path),
        debug_endpoint: debug || file.debug_endpoint,
        echo_endpoint: file.echo_endpoint,
        client_address: client_address(router.as_ref(), file),
        check_path_params: !flag("disable_path_decoding"),
        max_request_body_bytes: payload.whole.unwrap_or(unset.max_request_body_bytes),
        payload: payload.payload,
        max_upstream_body_bytes: bytes(limits.as_ref(), "upstream_body")
            .unwrap_or(unset.max_upstream_body_bytes),
        stream_idle_timeout: stream
            .as_ref()
            .and_then(|block| block.set_duration("idle_timeout"))
            .unwrap_or(unset.stream_idle_timeout),
        stream_total_timeout: stream.is_some_and(|block| block.flag("total_timeout")),
        access_log_skip: router
            .as_ref()
            .map(|block| block.texts("logger_skip_paths"))
            .unwrap_or_default()
            .into_iter()
            .map(String::into_boxed_str)
            .collect(),
        access_log: !flag("disable_access_log"),
        canonical_json: own_flag(&JSON, "canonical"),
        gateway_status_codes: own_flag(&COMPAT, "gateway_status_codes"),
        buffered_bytes: bytes(limits.as_ref(), "buffered"),
    };
    let routing = router::Options {
        redirect_trailing_slash: !flag("disable_redirect_trailing_slash"),
        redirect_fixed_path: !flag("disable_redirect_fixed_path"),
        method_not_allowed: !flag("disable_handle_method_not_allowed"),
        remove_extra_slash: flag("remove_extra_slash"),
        keep_slashes: flag("keep_slashes"),
        auto_options: flag("auto_options"),
        check_params: options.check_path_params,
    };
    (options, routing)
}

/// The prefix length that identifies a client by its IPv6 address.
pub(super) fn ipv6_prefix(file: &Service<'_>) -> Ipv6Prefix {
    block(&file.extra, &LIMITS)
        .and_then(|block| block.within("ipv6_prefix", 1, 128))
        .and_then(|bits| u8::try_from(bits).ok())
        .and_then(Ipv6Prefix::new)
        .unwrap_or_default()
}

/// Whether `router.use_h2c` is set, which is an alias of the root key.
pub(super) fn h2c(extra: &Extra<'_>) -> bool {
    block(extra, &ROUTER).is_some_and(|block| block.flag("use_h2c"))
}

pub(super) fn block<'a>(extra: &Extra<'a>, namespace: &'static Namespace) -> Option<Block<'a>> {
    extra.open(namespace)
}

fn error_body(router: Option<&Block<'_>>, status: &str) -> Option<Bytes> {
    let body = router?.block("error_body")?.object(status)?;
    let members = static_data::object(&body);
    let members = members
        .iter()
        .map(|(name, value)| (name.as_str().into(), Value::literal(value)));
    Some(to_bytes(
        &Value::Object(members.collect()),
        Style::Canonical,
    ))
}

fn health_path(router: Option<&Block<'_>>, unset: Option<Arc<str>>) -> Option<Arc<str>> {
    let Some(router) = router else {
        return unset;
    };
    if router.flag("disable_health") {
        return None;
    }
    let path = router.text("health_path").filter(|path| !path.is_empty());
    match path {
        None => unset,
        Some(path) if path.starts_with('/') => Some(Arc::from(path)),
        Some(path) => Some(Arc::from(format!("/{path}"))),
    }
}

fn client_address(router: Option<&Block<'_>>, file: &Service<'_>) -> ClientAddress {
    let trust_all = block(&file.extra, &COMPAT).and_then(|block| {
        block
            .flag("trust_all_proxies")
            .then(|| block.get("trust_all_proxies"))?
    });
    let listed = router.and_then(|block| block.get("trusted_proxies"));
    let mut trusted = router
        .map(|block| networks(block, "trusted_proxies"))
        .unwrap_or_default();
    if let Some(node) = &trust_all {
        node.warn(ConfigError::invalid(
            "every client can choose the address that it seems to come from",
        ));
        if listed.is_none() {
            trusted = vec![IpNet::V4(Default::default()), IpNet::V6(Default::default())];
        }
    }
    let forwarding = block(&file.extra, &FORWARDING);
    let tells = |key| forwarding.as_ref().is_some_and(|block| block.flag(key));
    ClientAddress {
        by_header: router
            .and_then(|block| block.bool("forwarded_by_client_ip"))
            .unwrap_or(true),
        trusted: trusted.into(),
        headers: headers(router),
        app_engine: router.is_some_and(|block| block.flag("app_engine")),
        append_chain: tells("append_chain"),
        proto: tells("proto"),
        forwarded: tells("forwarded"),
    }
}

fn headers(router: Option<&Block<'_>>) -> Box<[HeaderName]> {
    let Some(list) = router.and_then(|block| block.get("remote_ip_headers")) else {
        return Box::new([
            HeaderName::from_static("x-forwarded-for"),
            HeaderName::from_static("x-real-ip"),
        ]);
    };
    list.texts(Typing::Strict)
        .unwrap_or_default()
        .iter()
        .filter_map(|name| {
            let header = HeaderName::from_bytes(name.as_bytes()).ok();
            if header.is_none() {
                list.config_error(ConfigError::header_name(name));
            }
            header
        })
        .collect()
}

/// A list of addresses and networks in CIDR notation.
pub(super) fn networks(block: &Block<'_>, key: &str) -> Vec<IpNet> {
    let items = block.get(key).map(|list| list.items()).unwrap_or_default();
    let texts = block.texts(key);
    let pairs = texts.iter().enumerate();
    pairs
        .filter_map(|(index, text)| network(text, items.get(index)))
        .collect()
}

fn network(text: &str, at: Option<&Node<'_>>) -> Option<IpNet> {
    let net = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .ok();
    if net.is_none()
        && let Some(at) = at
    {
        at.config_error_hint(
            ConfigError::invalid(format!(
                "{} is neither an address nor a network",
                at.shown()
            )),
            "such as \"10.0.0.1\" or \"10.0.0.0/8\"",
        );
    }
    net
}

/// A number of bytes, or a string with a unit.
pub(super) fn bytes(limits: Option<&Block<'_>>, key: &str) -> Option<u64> {
    let node = limits?.get(key)?;
    let read = match &node.value().data {
        Data::Number(text) => text.parse().ok(),
        Data::Text(text) => size::parse(text),
        _ => None,
    };
    if read.is_none_or(|bytes| bytes == 0) {
        node.config_error_hint(
            ConfigError::invalid(format!("{} is not a size", node.shown())),
            "a number of bytes, or \"8MiB\"",
        );
        return None;
    }
    read
}
