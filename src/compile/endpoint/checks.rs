//! Warnings about settings that are valid but probably not intended.

use super::Draft;
use super::basics::written;
use crate::compile::backend::warn_flatmap;
use crate::config::{Block, ConfigError, Endpoint, Rule, Service, duration};
use crate::ext::Compile;
use crate::runtime::condition::When;
use crate::runtime::service::{self as runtime, Upgrade};

/// Warns about settings that are valid but probably not intended.
pub(super) fn doubts(file: &Endpoint<'_>, service: &Service<'_>) {
    if let (Some(node), None, Some(shared)) = (
        file.block.get("cache_ttl"),
        file.cache_ttl,
        service.cache_ttl,
    ) {
        node.warn_hint(
            ConfigError::invalid(format!(
                "0 counts as not set, as in KrakenD: responses are cached for the service's {}",
                duration::print(shared)
            )),
            "\"1ms\" gives max-age=0; or set \"cache_ttl\" in the endpoints that need it, and not in the service",
        );
    }
    let mut seen: Vec<&str> = Vec::new();
    for backend in &file.backend {
        let Some(group) = backend.group.as_deref() else {
            continue;
        };
        if seen.contains(&group)
            && let Some(node) = backend.block.get("group")
        {
            node.warn_hint(
                ConfigError::invalid(format!(
                    "another backend of this endpoint has the group {group:?}: of the two, only the later response is kept"
                )),
                "give each backend its own group",
            );
        }
        seen.push(group);
    }
}

/// Warns about keys of the endpoint's `proxy` block that change data which the endpoint does not have.
pub(super) fn warn_data(draft: &Draft<'_>, proxy: &Block<'_>) {
    if let Some(why) = draft.streams() {
        warn_flatmap(proxy, why);
        if let Some(node) = proxy.get("static") {
            node.warn(ConfigError::invalid(
                "the \"data\" is not added, because the endpoint is \"no-op\": only X-Krakend-Completed and the status of a failed call change",
            ));
        }
    } else if draft.file.backend.len() == 1
        && !proxy.blocks("flatmap_filter").is_empty()
        && let Some(node) = proxy.get("flatmap_filter")
    {
        node.warn_hint(
            ConfigError::invalid(
                "\"flatmap_filter\" of an endpoint has no effect with one backend, as in KrakenD",
            ),
            "move it to the \"proxy\" block of the backend",
        );
    }
}

pub(super) fn check_backends(file: &Endpoint<'_>, streams: bool) {
    let node = file
        .block
        .get("backend")
        .unwrap_or_else(|| file.block.node().clone());
    if file.backend.is_empty() {
        let (method, path) = written(file);
        node.config_error_hint(
            ConfigError::NoBackends { method, path },
            "give it a backend, or remove the endpoint",
        );
    }
    if streams && file.backend.len() > 1 {
        node.config_error_hint(
            ConfigError::NoOpBackends,
            "\"output_encoding\": \"json\" merges the responses",
        );
    }
}

/// Checks the conditions of an endpoint's backends together.
pub(super) fn conditions(file: &Endpoint<'_>, backends: &[runtime::Backend], in_sequence: bool) {
    let at = || {
        let node = file.block.get("backend");
        node.unwrap_or_else(|| file.block.node().clone())
            .ruled(Rule::Guard)
    };
    let otherwise = |backend: &runtime::Backend| matches!(backend.when, When::Otherwise);
    match backends.iter().filter(|backend| otherwise(backend)).count() {
        0 => return,
        1 => {}
        _ => return at().invalid("only one backend can be the \"fallback\" of the others"),
    }
    let conditional = |backend: &runtime::Backend| matches!(backend.when, When::If(_));
    let place = backends.iter().position(otherwise).unwrap_or_default();
    if !backends.iter().any(conditional) {
        at().warn(ConfigError::invalid(
            "no other backend has a condition: the \"fallback\" is always called",
        ));
    } else if in_sequence && backends.iter().skip(place).any(conditional) {
        at().warn(ConfigError::invalid(
            "in a sequence, the \"fallback\" knows only the conditions before it: put it last",
        ));
    }
}

/// Warns about a WebSocket that any web page can open in the name of a user, because browsers add cookies and passwords
/// to the handshake and CORS does not apply to it. `more` are headers that pass beside those in `input_headers`.
pub(super) fn warn_origins(
    upgrade: Option<&Upgrade>,
    file: &Endpoint<'_>,
    more: &[String],
    cx: &Compile<'_>,
) {
    if upgrade.is_none_or(|upgrade| !upgrade.origins.is_empty()) {
        return;
    }
    // A list with this name lets cookies pass.
    let is_cookie = |name: &String| name == "*" || name.eq_ignore_ascii_case("cookie");
    let what = match cx.sent_by_browsers().first() {
        Some(what) => &**what,
        None if file.input_headers.iter().chain(more).any(is_cookie) => {
            "the backend gets the cookies, and browsers send cookies with it"
        }
        None => return,
    };
    file.block.node().warn_hint(
        ConfigError::invalid(format!(
            "any web page can open this WebSocket in the name of a user: {what}"
        )),
        "\"portcullis/stream\": {\"upgrade\": true, \"origins\": [\"https://app.example.com\"]}; clients that are \
         not browsers send no Origin and are accepted",
    );
}
