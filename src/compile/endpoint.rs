//! Compiles an endpoint.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use tokio::sync::Semaphore;

use crate::compile::namespaces::{Level, wanted};
use crate::compile::{backend, claims, data};
use crate::config::suggest::nearest;
use crate::config::{Block, ConfigError, Endpoint, Node, Service, duration};
use crate::ext::context::EndpointInputs;
use crate::ext::extension::EndpointPart;
use crate::ext::proxy::PROXY_ENDPOINT;
use crate::ext::registry::ENDPOINT as EXTENSIONS;
use crate::ext::request_id::IdHeader;
use crate::ext::stream::STREAM_ENDPOINT;
use crate::ext::{Compile, EndpointSite, opentelemetry};
use crate::runtime::encode::Encoding;
use crate::runtime::flatmap::Flatmap;
use crate::runtime::forward::{HeaderRules, QueryRules};
use crate::runtime::pipe::PipeStep;
use crate::runtime::router::Pattern;
use crate::runtime::service as runtime;
use crate::runtime::service::{Order, StaticData, Upgrade, Work};
use crate::runtime::signing::ResponseSigner;
use crate::runtime::step::EndpointStep;
use crate::runtime::template::Template;

/// As in KrakenD: the timeout of an endpoint if none is set.
const TIMEOUT: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(1);
/// The accepted values of `output_encoding`.
const OUTPUT: &[&str] = &[
    "json",
    "fast-json",
    "json-collection",
    "xml",
    "yaml",
    "string",
    "negotiate",
    "no-op",
];
/// The maximum number of concurrent calls. A larger number is probably a typing error.
const MAX_CONCURRENT_CALLS: i64 = 100;

/// Compiles one endpoint. `service_hosts` is the service's own list, cleaned. `None` if the endpoint is invalid,
/// after reporting all errors.
pub fn endpoint(
    file: &Endpoint<'_>,
    id: usize,
    service: &Service<'_>,
    service_hosts: &[String],
    cx: &mut Compile<'_>,
) -> Option<(Pattern, runtime::Endpoint)> {
    cx.begin_endpoint();
    let method = method(file);
    let pattern = pattern(file, !service.disable_rest);
    let calls = concurrent_calls(file);
    let proxy = file.extra.open(&PROXY_ENDPOINT);
    let encoding = file
        .output_encoding
        .as_deref()
        .or(service.output_encoding.as_deref())
        .unwrap_or("json");
    let streams = streams(file, encoding);
    check_backends(file, streams);
    let pattern = pattern?;
    // An endpoint that is left out must leave nothing behind, such as CORS rules for its path.
    let method = method?;
    let url_claims = claims::url_claims(file, &pattern);
    let site = EndpointSite {
        pattern: pattern.as_str(),
        method: &method,
        timeout: timeout(file, service),
        extra: file.extra.node().cloned(),
        streams,
        url_claims: &url_claims,
        inputs: Some(EndpointInputs {
            headers: &file.input_headers,
            query: &file.input_query_strings,
        }),
    };
    doubts(file, service);
    claims::unnamed(file, &site);
    let parts = parts(file, &site, cx);
    let observed = opentelemetry::endpoint(&site, cx);
    let mut order = order(
        proxy.as_ref(),
        takes_responses(file),
        service.version == Some(4),
    );
    let mut regular = Vec::new();
    let mut shadows = Vec::new();
    for (index, written) in file.backend.iter().enumerate() {
        let place = backend::Place {
            site: &site,
            pattern: &pattern,
            index,
            sequential: order != Order::Parallel,
            concurrent: calls > 1,
            alone: !streams && file.backend.len() == 1,
            service_hosts,
            observed: observed.as_ref(),
        };
        match backend::backend(written, &place, service, cx) {
            Some(backend::Call::Regular(call)) => regular.push(call),
            Some(backend::Call::Shadow(shadow)) => shadows.push(shadow),
            None => {}
        }
    }
    if let Order::Sequential { propagated } = &mut order {
        propagate(propagated, &regular);
    }
    let work = work(
        file,
        streams,
        regular,
        shadows,
        Rest {
            order,
            calls,
            encoding,
            static_data: proxy.as_ref().and_then(static_data),
            flatmap: proxy.as_ref().and_then(flatmap),
            signer: parts.signer,
            pipes: parts.pipes.into(),
            upgrade: upgrade(file, &site, cx),
        },
    );
    let compiled = runtime::Endpoint {
        pattern: Arc::clone(pattern.as_str()),
        timeout: site.timeout,
        cache_control: cache_control(file.cache_ttl.or(service.cache_ttl)),
        steps: parts.steps.into(),
        headers: headers(file)?.guarding(&parts.guarded),
        query: QueryRules::endpoint(&file.input_query_strings),
        work,
        id,
        method: method.clone(),
        observer: observed.map(|observed| observed.observer),
    };
    Some((pattern, compiled))
}

/// The deadline of the whole request. Clocks here have a resolution of milliseconds: a shorter timeout has passed
/// before the request begins, as it practically has in KrakenD.
fn timeout(file: &Endpoint<'_>, service: &Service<'_>) -> Duration {
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
fn method(file: &Endpoint<'_>) -> Option<Method> {
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
            "{upper} is served here; KrakenD leaves the endpoint out"
        )));
    }
    if known.is_none() {
        node.warn_hint(
            ConfigError::Method(written.to_owned()),
            "the endpoint is left out, as in KrakenD; an endpoint has one method: GET, POST, PUT, PATCH, DELETE, HEAD, \
             OPTIONS or QUERY",
        );
    }
    known
}

fn pattern(file: &Endpoint<'_>, rest: bool) -> Option<Pattern> {
    let Some(node) = file.block.get("endpoint") else {
        file.block.node().warn_hint(
            ConfigError::Missing("endpoint"),
            "the endpoint is / without it",
        );
        return Pattern::parse("/", rest).ok();
    };
    let path = file.endpoint.as_deref()?;
    slips(&node, path);
    Pattern::parse(path, rest)
        .map_err(|error| {
            let (method, path) = written(file);
            node.config_error_hint(ConfigError::Path { method, path }, error.to_string());
        })
        .ok()
}

/// Warns about paths that KrakenD's router accepts although they are probably not intended.
fn slips(node: &Node<'_>, path: &str) {
    if let Some(plain) = Pattern::gin(path) {
        node.warn_hint(
            ConfigError::invalid("`:name` is a parameter and `*name` takes all that follows, as for KrakenD's router"),
            format!("write {plain:?}"),
        );
    }
    if path.contains('?') {
        node.warn_hint(
            ConfigError::invalid("no path of a request has a `?`, which begins the query"),
            "query parameters pass with \"input_query_strings\"",
        );
    }
}

/// Method and path as in KrakenD's messages.
fn written(file: &Endpoint<'_>) -> (String, String) {
    let path = file.endpoint.as_deref().unwrap_or_default();
    (
        file.method.clone().unwrap_or_else(|| "GET".to_owned()),
        format!("/{}", path.strip_prefix('/').unwrap_or(path)),
    )
}

fn concurrent_calls(file: &Endpoint<'_>) -> u32 {
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
                format!("{MAX_CONCURRENT_CALLS} are made"),
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

/// Warns about settings that are valid but probably not intended.
fn doubts(file: &Endpoint<'_>, service: &Service<'_>) {
    if let (Some(node), None, Some(shared)) = (
        file.block.get("cache_ttl"),
        file.cache_ttl,
        service.cache_ttl,
    ) {
        node.warn_hint(
            ConfigError::invalid(format!(
                "0 counts as not set, as in KrakenD: answers are cached for the service's {}",
                duration::print(shared)
            )),
            "\"1ms\" gives max-age=0; or set \"cache_ttl\" in the endpoints that want it, and not in the service",
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
                    "another backend of this endpoint has the group {group:?}: of the two, only the later answer is kept"
                )),
                "give each backend a group of its own",
            );
        }
        seen.push(group);
    }
}

fn check_backends(file: &Endpoint<'_>, streams: bool) {
    let node = file
        .block
        .get("backend")
        .unwrap_or_else(|| file.block.node().clone());
    if file.backend.is_empty() {
        let (method, path) = written(file);
        node.config_error(ConfigError::NoBackends { method, path });
    }
    if streams && file.backend.len() > 1 {
        node.config_error_hint(
            ConfigError::NoOpBackends,
            "\"output_encoding\": \"json\" merges the answers",
        );
    }
}

/// The results of the endpoint's extensions.
#[derive(Default)]
struct Parts {
    steps: Vec<Box<dyn EndpointStep>>,
    pipes: Vec<Box<dyn PipeStep>>,
    signer: Option<Arc<dyn ResponseSigner>>,
    /// Headers that steps set or check. Similar names of the client do not pass.
    guarded: Vec<HeaderName>,
}

fn parts(file: &Endpoint<'_>, site: &EndpointSite<'_>, cx: &mut Compile<'_>) -> Parts {
    let mut parts = Parts::default();
    // This also applies to the header that the service sets on every request.
    let id = cx.left::<IdHeader>().map(|id| id.0.clone());
    parts.guarded.extend(id);
    for (index, node) in wanted(Level::Endpoint, &file.extra) {
        let Some(extension) = EXTENSIONS.get(index) else {
            continue;
        };
        let part = (extension.compile)(&node, site, cx);
        let around_work = matches!(&part, EndpointPart::Piped { steps, .. } if steps.is_empty());
        if parts.signer.is_some() && !around_work && !matches!(part, EndpointPart::Nothing) {
            node.warn(ConfigError::invalid(
                "has no effect beside \"auth/signer\", which takes its place, as in KrakenD",
            ));
            continue;
        }
        match part {
            EndpointPart::Nothing => {}
            EndpointPart::Steps(steps) => parts.steps.extend(steps),
            EndpointPart::Setting { steps, headers } => {
                parts.steps.extend(steps);
                headers.iter().for_each(|name| cx.identify(name.clone()));
                parts.guarded.extend(headers);
            }
            EndpointPart::Piped { steps, pipes } => {
                parts.steps.extend(steps);
                parts.pipes.extend(pipes);
            }
            EndpointPart::Signer { steps, signer } => {
                parts.steps.extend(steps);
                parts.signer = Some(signer);
            }
        }
    }
    parts
}

fn headers(file: &Endpoint<'_>) -> Option<HeaderRules> {
    let names = header_names(&file.input_headers, file.block.get("input_headers"));
    HeaderRules::endpoint(&names).ok()
}

/// The names that are valid for headers. Other names have no effect, because no request has such a header.
pub(super) fn header_names<'n>(names: &'n [String], at: Option<Node<'_>>) -> Vec<&'n str> {
    let possible = |name: &str| name == "*" || HeaderName::from_bytes(name.as_bytes()).is_ok();
    let (good, bad): (Vec<&str>, Vec<&str>) = names
        .iter()
        .map(String::as_str)
        .partition(|name| possible(name));
    if let (Some(at), false) = (at, bad.is_empty()) {
        for name in bad {
            at.warn(ConfigError::invalid(format!(
                "{name:?} is no name of a header: it is ignored"
            )));
        }
    }
    good
}

fn cache_control(ttl: Option<Duration>) -> Option<HeaderValue> {
    let seconds = ttl?.as_secs();
    HeaderValue::try_from(format!("public, max-age={seconds}")).ok()
}

/// Whether a backend's URL uses a value of an earlier response.
fn takes_responses(file: &Endpoint<'_>) -> bool {
    let urls = file.backend.iter().map(|b| b.url_pattern.as_deref());
    urls.enumerate()
        .any(|(index, url)| url.is_some_and(|url| Template::takes_responses(url, index)))
}

/// As in KrakenD, URLs that use values of earlier responses imply a sequence unless the configuration says otherwise.
/// Only files of version 4 have `strategy`.
fn order(proxy: Option<&Block<'_>>, takes_responses: bool, is_version_4: bool) -> Order {
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
        Some(_) => {
            if let Some(node) = proxy.get("strategy") {
                node.warn(ConfigError::invalid(
                    "\"fallback\" is not supported by this version: it is ignored",
                ));
            }
            sequential
        }
        None => sequential,
    };
    if let Some(combiner) = proxy.get("combiner")
        && proxy
            .text("combiner")
            .is_some_and(|name| !matches!(name, "" | "default"))
    {
        combiner.warn(ConfigError::invalid(
            "only the default combiner exists, and is taken",
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

/// Values of earlier responses that URLs use are also parameters for scripts and expressions.
fn propagate(names: &mut Box<[Box<str>]>, backends: &[runtime::Backend]) {
    let mut all = std::mem::take(names).into_vec();
    let used = backends.iter().flat_map(|backend| backend.url.responses());
    for (number, path) in used {
        let name = format!("resp{number}_{path}").into_boxed_str();
        if !all.contains(&name) {
            all.push(name);
        }
    }
    *names = all.into();
}

fn static_data(proxy: &Block<'_>) -> Option<StaticData> {
    let block = proxy.block("static")?;
    let strategy = block.lenient_choice("strategy").unwrap_or("always");
    let Some(data) = block.get("data") else {
        block.node().warn(ConfigError::Missing("data"));
        return None;
    };
    let data = data.object()?;
    Some(StaticData::compile(strategy, &data::object(&data)))
}

/// The operations of a `flatmap_filter` in `block`. `None` if there are none.
pub(super) fn flatmap(block: &Block<'_>) -> Option<Flatmap> {
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

/// The parts that [`work`] combines with the backends.
struct Rest<'e> {
    order: Order,
    calls: u32,
    encoding: &'e str,
    static_data: Option<StaticData>,
    flatmap: Option<Flatmap>,
    signer: Option<Arc<dyn ResponseSigner>>,
    pipes: Box<[Box<dyn PipeStep>]>,
    upgrade: Option<Upgrade>,
}

/// The conditions of WebSocket connections. Open ones are counted across reloads.
fn upgrade(file: &Endpoint<'_>, site: &EndpointSite<'_>, cx: &mut Compile<'_>) -> Option<Upgrade> {
    let node = file.extra.of(&STREAM_ENDPOINT)?;
    let block = node.block(STREAM_ENDPOINT.keys)?;
    if !block.flag("upgrade") {
        return None;
    }
    if !site.streams {
        node.warn_hint(
            ConfigError::invalid("only a \"no-op\" endpoint can pass a WebSocket on"),
            "\"output_encoding\": \"no-op\"",
        );
    }
    let most = block.count("connections").filter(|most| *most > 0);
    let room = most.map(|most| {
        let name = format!("tunnels of {} {}: {most}", site.method, site.pattern);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        cx.carry(name, |_| {
            Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))
        })
    });
    Some(Upgrade {
        origins: block
            .texts("origins")
            .into_iter()
            .map(String::into_boxed_str)
            .collect(),
        room,
        until_expiry: block.flag("until_expiry"),
    })
}

fn work(
    file: &Endpoint<'_>,
    streams: bool,
    mut regular: Vec<runtime::Backend>,
    shadows: Vec<runtime::Shadow>,
    rest: Rest<'_>,
) -> Work {
    if regular.is_empty() {
        if !shadows.is_empty() {
            file.block.node().warn(ConfigError::invalid(
                "all endpoints must have at least one backend that is no shadow: this one answers 500",
            ));
        }
        return Work::Nothing;
    }
    if streams {
        let backend = regular.swap_remove(0);
        return Work::Stream(Box::new(runtime::StreamWork {
            pipes: rest.pipes,
            backend,
            static_data: rest.static_data,
            concurrent_calls: rest.calls,
            upgrade: rest.upgrade,
        }));
    }
    let encoding = encoding(rest.encoding, &regular);
    Work::Compose(Box::new(runtime::Composition {
        pipes: rest.pipes,
        // With a single backend, KrakenD neither merges nor applies the endpoint's own flatmap.
        flatmap: rest.flatmap.filter(|_| regular.len() > 1),
        order: match regular.len() {
            1 => Order::Parallel,
            _ => rest.order,
        },
        backends: regular.into(),
        shadows: shadows.into_iter().map(Arc::new).collect(),
        static_data: rest.static_data,
        concurrent_calls: rest.calls,
        encoding,
        signer: rest.signer,
    }))
}

/// Whether the response of the only backend is passed on unchanged. As in KrakenD, an unknown name means the encoding
/// of the backend.
fn streams(file: &Endpoint<'_>, name: &str) -> bool {
    if OUTPUT.contains(&name) {
        return name == "no-op";
    }
    let passed = match &*file.backend {
        [one] => one.encoding.as_deref() == Some("no-op"),
        _ => false,
    };
    let node = file
        .block
        .get("output_encoding")
        .unwrap_or_else(|| file.block.node().clone());
    let config_error = ConfigError::NotOneOf {
        found: format!("{name:?}"),
        allowed: OUTPUT.join(", "),
    };
    let hint = match (nearest(name, OUTPUT.iter().copied()), passed) {
        (Some(meant), _) => format!("did you mean \"{meant}\"?"),
        (None, true) => "\"no-op\" is taken instead, as the backend's encoding is".to_owned(),
        (None, false) => "\"json\" is taken instead".to_owned(),
    };
    node.warn_hint(config_error, hint);
    passed
}

fn encoding(name: &str, regular: &[runtime::Backend]) -> Encoding {
    let single = match regular {
        [one] => Some(one.decoder.encoding),
        _ => None,
    };
    Encoding::parse(name, single)
}
