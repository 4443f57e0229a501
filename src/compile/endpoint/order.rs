//! The order of the backends, and what the endpoint adds to their responses.

use crate::compile::static_data;
use crate::config::{Block, ConfigError, Endpoint, Node};
use crate::ext::upstream::UPSTREAM;
use crate::runtime::condition::When;
use crate::runtime::flatmap::Flatmap;
use crate::runtime::service as runtime;
use crate::runtime::service::{Order, StaticData};
use crate::runtime::template::Template;
use crate::upstream::resilience::is_idempotent;

/// Whether a backend's URL uses a value of an earlier response.
pub(super) fn takes_responses(file: &Endpoint<'_>) -> bool {
    let urls = file.backend.iter().map(|b| b.url_pattern.as_deref());
    urls.enumerate()
        .any(|(index, url)| url.is_some_and(|url| Template::takes_responses(url, index)))
}

/// As in KrakenD, URLs that use values of earlier responses imply a sequence unless the configuration says otherwise.
/// Only files of version 4 have `strategy`.
pub(super) fn order(proxy: Option<&Block<'_>>, takes_responses: bool, is_version_4: bool) -> Order {
    let Some(proxy) = proxy else {
        return if takes_responses {
            Order::Sequential {
                propagated: Box::default(),
            }
        } else {
            Order::Parallel
        };
    };
    let sequential = proxy.bool("sequential").unwrap_or(takes_responses);
    let strategy = proxy.choice("strategy");
    let sequential = match strategy {
        Some(_) if !is_version_4 => {
            if let Some(node) = proxy.get("strategy") {
                node.warn(ConfigError::invalid(
                    "only files of version 4 have this key: it is ignored, and \"sequential\" decides",
                ));
            }
            sequential
        }
        Some("sequential") => true,
        Some("parallel") => false,
        Some(_) => return Order::Fallback,
        None => sequential,
    };
    if let Some(combiner) = proxy.get("combiner")
        && proxy
            .text("combiner")
            .is_some_and(|name| !matches!(name, "" | "default"))
    {
        combiner.warn(ConfigError::invalid(
            "only the default combiner exists, and it is used",
        ));
    }
    let propagated = proxy.texts("sequential_propagated_params");
    if sequential {
        Order::Sequential {
            propagated: propagated.into_iter().map(String::into_boxed_str).collect(),
        }
    } else {
        Order::Parallel
    }
}

/// Warns about hedged requests that a backend's own block asks for, and that are never made.
pub(super) fn warn_hedge(file: &Endpoint<'_>, streams: bool, backends: &[runtime::Backend]) {
    for backend in backends {
        let written = file.backend.get(usize::from(backend.index));
        let block = written.and_then(|backend| backend.extra.open(&UPSTREAM));
        let Some(node) = block.and_then(|block| block.get("hedge")) else {
            continue;
        };
        let method = &backend.method;
        let why = if streams {
            "there are no hedged requests for \"no-op\"".to_owned()
        } else if !is_idempotent(method) {
            format!("a {method} must not be made twice")
        } else if backend.hosts.only().is_some() {
            "the backend has only one host".to_owned()
        } else {
            continue;
        };
        node.warn(ConfigError::invalid(format!("has no effect: {why}")));
    }
}

/// A call that failed may have been made. The next backend must not repeat what must not happen twice.
pub(super) fn check_fallback(file: &Endpoint<'_>, backends: &[runtime::Backend]) {
    let unsafe_one = backends
        .iter()
        .find(|backend| !is_idempotent(&backend.method));
    // A key of the endpoint itself: without its strategy the endpoint would make every call.
    if let (Some(backend), Some(node)) = (unsafe_one, file.block.get("backend")) {
        node.config_error_hint(
            ConfigError::invalid(format!(
                "\"fallback\" could make a {} twice: a call that failed may have had its effect",
                backend.method
            )),
            "GET, HEAD, OPTIONS, TRACE, QUERY, PUT and DELETE may be repeated (RFC 9110 §9.2.2)",
        );
    }
}

/// Values of earlier responses that URLs use are also parameters for scripts and expressions.
pub(super) fn propagate(names: &mut Box<[Box<str>]>, backends: &[runtime::Backend]) {
    let mut all = std::mem::take(names).into_vec();
    let used = backends.iter().flat_map(|backend| backend.url.responses());
    let used = used.map(|(number, path)| format!("resp{number}_{path}"));
    let conditions = backends.iter().flat_map(|backend| match &backend.when {
        When::If(condition) => condition.responses(),
        When::Always | When::Otherwise => Vec::new(),
    });
    for name in used.chain(conditions).map(String::into_boxed_str) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    *names = all.into();
}

pub(super) fn static_data(proxy: &Block<'_>) -> Option<StaticData> {
    let block = proxy.block("static")?;
    let strategy = block.lenient_choice("strategy").unwrap_or("always");
    let Some(data) = block.get("data") else {
        block.node().warn(ConfigError::Missing("data"));
        return None;
    };
    let data = data.object()?;
    Some(StaticData::compile(strategy, &static_data::object(&data)))
}

/// The operations of a `flatmap_filter` in `block`. `None` if there are none.
pub(in crate::compile) fn flatmap(block: &Block<'_>) -> Option<Flatmap> {
    let operations: Vec<(&str, Vec<String>, Node<'_>)> = block
        .blocks("flatmap_filter")
        .iter()
        .filter_map(|operation| {
            let kind = operation.lenient_choice("type")?;
            Some((kind, operation.texts("args"), operation.node().clone()))
        })
        .collect();
    let plain = operations
        .iter()
        .map(|(kind, args, _)| (*kind, args.as_slice()));
    match Flatmap::compile(plain) {
        Ok(flatmap) => flatmap,
        Err(error) => {
            if let Some(node) = block.get("flatmap_filter") {
                node.invalid(error.to_string());
            }
            None
        }
    }
}
