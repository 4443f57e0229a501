//! The keys of an endpoint that need nothing else: method, path, timeout, number of calls.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::catch_all::is_catch_all;
use crate::config::{ConfigError, Endpoint, Node, Service};
use crate::ext::Compile;
use crate::runtime::forward::HeaderRules;
use crate::runtime::prerouting::Wildcards;
use crate::runtime::router::Pattern;

/// As in KrakenD: the timeout of an endpoint if none is set.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

/// Clocks here have a resolution of milliseconds.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// The maximum number of concurrent calls. A larger number is probably a typing error.
const MAX_CONCURRENT_CALLS: i64 = 100;

/// The deadline of the whole request. Clocks here have a resolution of milliseconds: a shorter timeout has passed
/// before the request begins, as it practically has in KrakenD.
pub(super) fn timeout(file: &Endpoint<'_>, service: &Service<'_>) -> Duration {
    let timeout = file.timeout.or(service.timeout).unwrap_or(TIMEOUT);
    if timeout >= TICK {
        return timeout;
    }
    let node = file
        .block
        .get("timeout")
        .or_else(|| service.block.get("timeout"))
        .unwrap_or_else(|| file.block.node().clone());
    node.warn(ConfigError::invalid(
        "a timeout below a millisecond: every request fails",
    ));
    Duration::ZERO
}

/// `None` if the endpoint is omitted, as in KrakenD.
pub(super) fn method(file: &Endpoint<'_>) -> Option<Method> {
    let written = file.method.as_deref().unwrap_or("GET");
    let upper = written.to_ascii_uppercase();
    let (known, ours) = match upper.as_str() {
        "GET" => (Some(Method::GET), false),
        "POST" => (Some(Method::POST), false),
        "PUT" => (Some(Method::PUT), false),
        "PATCH" => (Some(Method::PATCH), false),
        "DELETE" => (Some(Method::DELETE), false),
        "HEAD" => (Some(Method::HEAD), true),
        "OPTIONS" => (Some(Method::OPTIONS), true),
        "QUERY" => (Method::from_bytes(b"QUERY").ok(), true),
        _ => (None, false),
    };
    let node = file
        .block
        .get("method")
        .unwrap_or_else(|| file.block.node().clone());
    if ours {
        node.warn(ConfigError::invalid(format!(
            "{upper} is served here; KrakenD skips the endpoint"
        )));
    }
    if known.is_none() {
        node.warn_hint(
            ConfigError::Method(written.to_owned()),
            "the endpoint is skipped, as in KrakenD; an endpoint has one method: GET, POST, PUT, PATCH, DELETE, HEAD, \
             OPTIONS or QUERY",
        );
    }
    known
}

pub(super) fn pattern(file: &Endpoint<'_>, rest: bool, cx: &Compile<'_>) -> Option<Pattern> {
    let Some(node) = file.block.get("endpoint") else {
        file.block.node().warn_hint(
            ConfigError::Missing("endpoint"),
            "without this key, the path is /",
        );
        return Pattern::parse("/", rest).ok();
    };
    let path = file.endpoint.as_deref()?;
    slips(&node, path);
    if is_catch_all(file) {
        return Some(Pattern::catch_all());
    }
    let bare = path.strip_suffix('/').unwrap_or(path);
    let receives = cx.fact::<Wildcards>().is_some_and(|all| all.receives(bare));
    let open = (receives && !bare.ends_with("/*")).then(|| format!("{bare}/*"));
    Pattern::parse(open.as_deref().unwrap_or(path), rest)
        .map_err(|error| {
            let (method, path) = written(file);
            node.config_error_hint(ConfigError::Path { method, path }, error.to_string());
        })
        .inspect(|pattern| {
            if pattern.has_plain_braces() {
                unlikely(
                    &node,
                    "braces mark a parameter only if they enclose a whole segment and contain only letters, digits, \
                     - and _",
                    "\"/orders/{id}\"; \"validation/cel\" can check the value",
                );
            }
        })
        .ok()
}

/// Whether the path ends with a wildcard that has a name, as KrakenD's router spells it: `/*rest`.
pub(super) fn names_its_wildcard(file: &Endpoint<'_>) -> bool {
    let path = file.endpoint.as_deref().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    last.len() > 1 && last.starts_with('*')
}

/// Warns about paths that KrakenD's router accepts although they are probably not intended.
fn slips(node: &Node<'_>, path: &str) {
    if let Some(plain) = Pattern::gin(path) {
        node.warn_hint(
            ConfigError::invalid("`:name` is a parameter and `*name` matches everything that follows, as in KrakenD's router"),
            format!("write {plain:?}"),
        );
    }
    if path.trim() != path {
        unlikely(
            node,
            "the blank is part of the path",
            format!("write {:?}", path.trim()),
        );
    }
    if let Some((_, behind)) = path.split_once("://") {
        let path = behind.find('/').map_or("/", |at| &behind[at..]);
        unlikely(node, "it begins with a scheme", format!("write {path:?}"));
    }
    for (sign, why, hint) in [
        (
            '#',
            "clients never send `#` in a path",
            "paths end before it",
        ),
        (
            '%',
            "paths are compared after they are decoded",
            "write the character itself",
        ),
        ('<', "`<` has no meaning here", "a parameter is {name}"),
    ] {
        if path.contains(sign) {
            unlikely(node, why, hint);
        }
    }
    if path.contains('?') {
        node.warn_hint(
            ConfigError::invalid("no path of a request has a `?`, which begins the query"),
            "query parameters pass with \"input_query_strings\"",
        );
    }
}

fn unlikely(node: &Node<'_>, why: &str, hint: impl Into<Cow<'static, str>>) {
    node.warn_hint(
        ConfigError::invalid(format!("ordinary requests never have such a path: {why}")),
        hint,
    );
}

/// Method and path as in KrakenD's messages.
pub(super) fn written(file: &Endpoint<'_>) -> (String, String) {
    let path = file.endpoint.as_deref().unwrap_or_default();
    (
        file.method.clone().unwrap_or_else(|| "GET".to_owned()),
        format!("/{}", path.strip_prefix('/').unwrap_or(path)),
    )
}

pub(super) fn concurrent_calls(file: &Endpoint<'_>) -> u32 {
    let calls = file.concurrent_calls.unwrap_or(1).max(1);
    if calls == 1 {
        return 1;
    }
    if let Some(node) = file.block.get("concurrent_calls") {
        if calls > MAX_CONCURRENT_CALLS {
            node.warn_hint(
                ConfigError::OutOfRange {
                    found: calls.to_string(),
                    range: format!("1 to {MAX_CONCURRENT_CALLS}"),
                },
                format!("{MAX_CONCURRENT_CALLS} calls are made"),
            );
        }
        let repeats = file.method.as_deref().unwrap_or("GET");
        if !matches!(repeats.to_ascii_uppercase().as_str(), "GET" | "HEAD") {
            node.warn(ConfigError::invalid(format!(
                "each {repeats} reaches the backend {calls} times"
            )));
        }
    }
    calls.min(MAX_CONCURRENT_CALLS) as u32
}

/// `more` are the names of another list.
pub(super) fn headers(file: &Endpoint<'_>, more: &[String]) -> Option<HeaderRules> {
    let mut names = header_names(&file.input_headers, file.block.get("input_headers"));
    if file.input_headers.is_empty() && is_catch_all(file) {
        names.push("*");
    }
    names.extend(header_names(more, None));
    HeaderRules::endpoint(&names).ok()
}

/// The names that are valid for headers. Other names have no effect, because no request has such a header.
pub(in crate::compile) fn header_names<'n>(
    names: &'n [String],
    at: Option<Node<'_>>,
) -> Vec<&'n str> {
    let possible = |name: &str| name == "*" || HeaderName::from_bytes(name.as_bytes()).is_ok();
    let (good, bad): (Vec<&str>, Vec<&str>) = names
        .iter()
        .map(String::as_str)
        .partition(|name| possible(name));
    if let (Some(at), false) = (at, bad.is_empty()) {
        for name in bad {
            let error = ConfigError::header_name(name);
            let text = ConfigError::invalid(format!("{error}: it is ignored"));
            let parts = name.split([',', ' ']).filter(|part| !part.is_empty());
            let parts: Vec<String> = parts.map(|part| format!("{part:?}")).collect();
            // After a colon stands the value of a header.
            match parts.len() {
                0 | 1 => at.warn(text),
                _ if name.contains(':') => at.warn(text),
                _ => at.warn_hint(text, format!("[{}]", parts.join(", "))),
            }
        }
    }
    good
}

pub(super) fn cache_control(ttl: Option<Duration>) -> Option<HeaderValue> {
    let seconds = ttl?.as_secs();
    HeaderValue::try_from(format!("public, max-age={seconds}")).ok()
}
