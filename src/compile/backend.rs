//! Compiles a backend.

mod hosts;
mod method;
mod undecoded;
mod url_pattern;

use std::sync::Arc;

use http::HeaderName;

use crate::compile::namespaces::{Level, wanted};
use crate::compile::{client, endpoint, graphql};
use crate::config::backend::ENCODINGS;
use crate::config::suggest::nearest;
use crate::config::{Backend, Block, ConfigError, Rule, Service};
use crate::ext::backend_client::HTTP_CLIENT;
use crate::ext::backend_http::HTTP;
use crate::ext::compat::COMPAT_BACKEND;
use crate::ext::extension::BackendPart;
use crate::ext::graphql::GRAPHQL;
use crate::ext::opentelemetry::{self, Observed};
use crate::ext::pass_through::PASS_THROUGH;
use crate::ext::proxy::PROXY_BACKEND;
use crate::ext::registry::BACKEND as EXTENSIONS;
use crate::ext::{BackendSite, Compile, EndpointSite, soap};
use crate::runtime::condition::When;
use crate::runtime::decode::{Decoder, Kind};
use crate::runtime::forward::{HeaderRules, QueryRules};
use crate::runtime::pipe::{CallStep, PipeStep, Substitute};
use crate::runtime::router::Pattern;
use crate::runtime::service as runtime;
use crate::runtime::service::{ErrorMode, PassThrough, Shadow};
use crate::runtime::shape::{Shape, ShapeSpec};
use crate::runtime::step::{BackendStep, CallSigner, Credentials, ResponseCache};
use crate::runtime::template::Template;
use crate::telemetry::stats::Stats;
use crate::upstream::HostRules;
use hosts::hosts;
use method::method;
use url_pattern::template;

pub(super) use hosts::cleaned;
pub(super) use undecoded::{Undecoded, flatmap as warn_flatmap};

/// The name of a header that is never sent.
const NOBODY: &str = "portcullis-nothing";

/// The place of a backend in the configuration.
pub(super) struct Place<'p> {
    pub site: &'p EndpointSite<'p>,
    pub pattern: &'p Pattern,
    pub index: usize,
    /// What the wildcard of the endpoint takes belongs to the URL, too. It does not if the wildcard has a name, as in
    /// KrakenD's router (`/*rest`).
    pub appends: bool,
    pub sequential: bool,
    /// Why the endpoint decodes no response, if it is `no-op`.
    pub streams: Option<Undecoded>,
    /// The endpoint is for WebSockets only.
    pub websocket: bool,
    pub concurrent: bool,
    /// It is the only backend of an endpoint that composes its response.
    pub alone: bool,
    /// Set for a backend of an agent: whether anything outside of the backend uses its data.
    pub message: Option<bool>,
    /// The service's own list of hosts, cleaned.
    pub service_hosts: &'p [String],
    pub observed: Option<&'p Observed>,
}

/// The kind of a backend.
pub(super) enum Call {
    Regular(runtime::Backend),
    Shadow(Shadow),
}

/// Compiles one backend. `None` if it cannot be called, after reporting all errors.
pub(super) fn backend(
    file: &Backend<'_>,
    place: &Place<'_>,
    service: &Service<'_>,
    cx: &mut Compile<'_>,
) -> Option<Call> {
    let method = method(file, place);
    // As in KrakenD, a call that cannot be made fails but does not stop the start.
    let hosts = match method {
        Some(_) => hosts(file, place.service_hosts, place.websocket),
        None => Vec::new(),
    };
    let url = url(file, place, &hosts);
    let method = method.unwrap_or_default();
    let pattern = shown_pattern(file, url.as_ref());
    let site = BackendSite {
        endpoint: place.site,
        index: place.index,
        pattern: &pattern,
        method: &method,
        hosts: &hosts,
    };
    let shared = cx.fact::<HostRules>();
    cx.set_fact(Arc::new(client::rules(file, service, place.site.timeout)));
    let parts = parts(file, &site, cx);
    if let Some(shared) = shared {
        cx.set_fact(shared);
    }
    if parts.signer.is_some() {
        check_signed(file, parts.credentials.is_some());
    }
    let on_wire = parts.on_wire.map(|(_, step)| step);
    if hosts.is_empty() && on_wire.is_none() {
        warn_without_hosts(file, service);
    }
    if let Some(step) = on_wire.as_deref() {
        check_substitute(file, step, place);
    }
    let undecoded = undecoded(file, place);
    if let Some(why) = undecoded {
        undecoded::warn(file, why);
    }
    let errors = error_mode(file, place, !parts.pipes.is_empty());
    let reads_errors = place.site.streams || errors != ErrorMode::Hide;
    let observer = opentelemetry::backend(place.observed, &site, reads_errors, cx);
    let proxy = block(file, &PROXY_BACKEND);
    let client_options = block(file, &HTTP_CLIENT);
    if !reads_errors {
        warn_no_redirect(client_options.as_ref());
    }
    // A file that is the response is encoded as the client asks, and not as the gateway would ask an upstream.
    let asks_upstream = !on_wire.as_ref().is_some_and(|step| step.is_the_backend());
    let call = runtime::Backend {
        index: u16::try_from(place.index).unwrap_or(u16::MAX),
        headers: headers(file),
        query: (!file.input_query_strings.is_empty())
            .then(|| QueryRules::backend(&file.input_query_strings)),
        decoder: decoder(file, place),
        shape: shape(file, proxy.as_ref(), undecoded.is_some()),
        errors,
        observer,
        steps: parts.steps.into(),
        pipes: parts.pipes.into(),
        on_wire,
        credentials: parts.credentials,
        cache: parts.cache,
        when: parts.when,
        signer: parts.signer,
        graphql: file
            .extra
            .of(&GRAPHQL)
            .and_then(|node| graphql::graphql(&node, cx)),
        send_body_on_redirect: client_options
            .is_some_and(|block| block.flag("send_body_on_redirect")),
        compression: !service.disable_compression && asks_upstream,
        pattern: Arc::clone(&pattern),
        method: method.clone(),
        hosts: client::hosts(file, &hosts, service, place.site.timeout, cx)?,
        url: url?,
    };
    Some(kind(call, proxy.as_ref(), place))
}

/// A shadow backend if its `proxy` block says so.
fn kind(call: runtime::Backend, proxy: Option<&Block<'_>>, place: &Place<'_>) -> Call {
    let Some(proxy) = proxy.filter(|proxy| proxy.flag("shadow")) else {
        return Call::Regular(call);
    };
    let timeout = proxy.set_duration("shadow_timeout");
    Call::Shadow(Shadow {
        backend: call,
        timeout: timeout.unwrap_or(place.site.timeout),
    })
}

/// The URL of the calls, with what the endpoint and the hosts add to `url_pattern`.
fn url(file: &Backend<'_>, place: &Place<'_>, hosts: &[String]) -> Option<Template> {
    let raw = block(file, &COMPAT_BACKEND).is_some_and(|b| b.flag("raw_response_params"));
    let has_query = hosts.iter().any(|host| host.contains('?'));
    let url = template(file, place)?;
    Some(url.with_raw_responses(raw).behind_query(has_query))
}

/// Why the response has no data, if that is so.
fn undecoded(file: &Backend<'_>, place: &Place<'_>) -> Option<Undecoded> {
    let is_no_op = |name: &str| name.eq_ignore_ascii_case("no-op");
    match place.streams {
        Some(why) => Some(why),
        None => (file.encoding.as_deref().is_some_and(is_no_op)).then_some(Undecoded::Backend),
    }
}

/// How error responses are handled.
fn error_mode(file: &Backend<'_>, place: &Place<'_>, has_pipes: bool) -> ErrorMode {
    match place.message {
        Some(used) => ErrorMode::Message {
            decoded: used || has_pipes,
        },
        None => pass_through(file, place).map_or_else(|| errors(file), ErrorMode::PassThrough),
    }
}

fn warn_without_hosts(file: &Backend<'_>, service: &Service<'_>) {
    if file.host.is_empty() && service.host.is_empty() && !discovers(file) {
        file.block.node().warn_hint(
            ConfigError::invalid("there is no host, here or in the service: every call fails"),
            "\"host\": [\"http://name:port\"]",
        );
    }
}

/// The response of the backend is decoded, and a redirect cannot be.
fn warn_no_redirect(client_options: Option<&Block<'_>>) {
    if let Some(client) = client_options.filter(|client| client.flag("no_redirect")) {
        client.node().warn_hint(
            ConfigError::invalid(
                "a redirect that is not followed is a failure here, as the response is decoded",
            ),
            "\"output_encoding\": \"no-op\" passes it to the client",
        );
    }
}

/// A message is taken for one client: several calls at once would lose the others.
fn check_substitute(file: &Backend<'_>, step: &dyn CallStep, place: &Place<'_>) {
    if step.substitute() != Substitute::Receive {
        return;
    }
    let node = file.block.node().clone().ruled(Rule::Guard);
    let shadow = block(file, &PROXY_BACKEND).is_some_and(|proxy| proxy.flag("shadow"));
    if place.concurrent {
        node.invalid("\"concurrent_calls\" would take several messages and respond with one: the others would be lost");
    }
    if shadow {
        node.invalid("a shadow call would take messages and discard them");
    }
}

/// A signature is in `Authorization`, and for one host.
fn check_signed(file: &Backend<'_>, has_credentials: bool) {
    let node = file.block.node().clone().ruled(Rule::Guard);
    if has_credentials {
        node.invalid(
            "\"auth/aws-sigv4\" and \"auth/client-credentials\" both set Authorization: keep one",
        );
    }
    if discovers(file) {
        node.invalid("\"auth/aws-sigv4\" needs a fixed host, and not one of \"sd\": \"dns\"");
    }
}

/// The `url_pattern` for log lines, metrics and names of state, without its secrets.
fn shown_pattern(file: &Backend<'_>, url: Option<&Template>) -> Arc<str> {
    let written = file.url_pattern.as_deref().unwrap_or("/");
    match url {
        Some(url) => url.hidden().clean(written).into(),
        None => written.into(),
    }
}

fn block<'a>(
    file: &Backend<'a>,
    namespace: &'static crate::config::Namespace,
) -> Option<Block<'a>> {
    file.extra.open(namespace)
}

/// SRV lookups need a name, whose absence is a separate error.
fn discovers(file: &Backend<'_>) -> bool {
    matches!(file.sd.as_deref(), Some("dns" | "dns-shared"))
}

/// The results of the backend's extensions.
#[derive(Default)]
struct Parts {
    steps: Vec<Box<dyn BackendStep>>,
    pipes: Vec<Box<dyn PipeStep>>,
    /// With its namespace.
    on_wire: Option<(&'static str, Box<dyn CallStep>)>,
    credentials: Option<Arc<dyn Credentials>>,
    cache: Option<Arc<dyn ResponseCache>>,
    when: When,
    signer: Option<Arc<dyn CallSigner>>,
}

fn parts(file: &Backend<'_>, site: &BackendSite<'_>, cx: &mut Compile<'_>) -> Parts {
    let mut parts = Parts::default();
    if let Some(stats) = cx.fact::<Stats>() {
        parts
            .steps
            .extend(crate::ext::metrics::runtime::backend(&stats, site.pattern));
    }
    for (index, node) in wanted(Level::Backend, &file.extra) {
        let Some(extension) = EXTENSIONS.get(index) else {
            continue;
        };
        match (extension.compile)(&node, site, cx) {
            BackendPart::Nothing => {}
            BackendPart::Step(step) => parts.steps.push(step),
            BackendPart::Pipe(step) => parts.pipes.push(step),
            BackendPart::OnWire(step) => match &parts.on_wire {
                Some((other, _)) => BackendPart::two_on_wire(&node, other),
                None => parts.on_wire = Some((extension.namespace, step)),
            },
            BackendPart::Credentials(_) if parts.credentials.is_some() => {
                BackendPart::two_tokens(&node.clone().ruled(Rule::Guard));
            }
            BackendPart::Credentials(credentials) => parts.credentials = Some(credentials),
            BackendPart::Cache(cache) => parts.cache = Some(cache),
            BackendPart::When(when) => parts.when = when,
            BackendPart::Signer(signer) => parts.signer = Some(signer),
        }
    }
    parts
}

fn headers(file: &Backend<'_>) -> Option<HeaderRules> {
    if file.input_headers.is_empty() {
        return None;
    }
    let mut names = endpoint::header_names(&file.input_headers, file.block.get("input_headers"));
    if names.is_empty() {
        // An empty list would not filter, but this one lets nothing pass.
        names.push(NOBODY);
    }
    HeaderRules::backend(&names).ok()
}

fn shape(file: &Backend<'_>, proxy: Option<&Block<'_>>, is_undecoded: bool) -> Shape {
    let flatmap = proxy.and_then(endpoint::flatmap);
    if is_undecoded {
        // These keys have their own warnings.
    } else if flatmap.is_some()
        && !(file.allow.is_empty() && file.deny.is_empty() && file.mapping.is_empty())
    {
        file.block.node().warn(ConfigError::invalid(
            "\"allow\", \"deny\" and \"mapping\" are ignored together with \"flatmap_filter\"",
        ));
    } else if !file.allow.is_empty()
        && !file.deny.is_empty()
        && let Some(node) = file.block.get("deny")
    {
        node.warn(ConfigError::invalid(
            "\"deny\" is ignored together with \"allow\"",
        ));
    }
    Shape::compile(ShapeSpec {
        target: file.target.clone().unwrap_or_default(),
        allow: file.allow.clone(),
        deny: file.deny.clone(),
        mapping: file.mapping.clone(),
        group: file.group.clone().unwrap_or_default(),
        flatmap,
    })
}

fn errors(file: &Backend<'_>) -> ErrorMode {
    let Some(block) = block(file, &HTTP) else {
        return ErrorMode::Hide;
    };
    let code = block.flag("return_error_code");
    match block.text("return_error_details") {
        // As in KrakenD, an empty name disables both.
        Some("") => ErrorMode::Hide,
        Some(name) => ErrorMode::Details(name.into()),
        None if code => ErrorMode::Code,
        None => ErrorMode::Hide,
    }
}

fn pass_through(file: &Backend<'_>, place: &Place<'_>) -> Option<PassThrough> {
    let block = block(file, &PASS_THROUGH)?;
    if !place.alone {
        block.node().warn(ConfigError::invalid(
            "it has an effect only if the endpoint has exactly one backend and is not \"no-op\"",
        ));
        return None;
    }
    let headers = block.texts("headers");
    let named: Option<Box<[HeaderName]>> = headers
        .iter()
        .map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .collect();
    if named.is_none()
        && let Some(node) = block.get("headers")
    {
        node.invalid("one of these is not a header name");
    }
    Some(PassThrough { headers: named? })
}

fn decoder(file: &Backend<'_>, place: &Place<'_>) -> Decoder {
    let name = if place.site.streams {
        "no-op"
    } else {
        let unset = if soap::is_wanted(&file.extra) {
            "xml"
        } else {
            "json"
        };
        file.encoding.as_deref().unwrap_or(unset)
    };
    if !ENCODINGS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
        && let Some(node) = file.block.get("encoding")
    {
        let config_error = ConfigError::NotOneOf {
            found: node.shown(),
            allowed: ENCODINGS.join(", "),
        };
        match nearest(name, ENCODINGS.iter().copied()) {
            Some(meant) => node.warn_hint(config_error, format!("did you mean \"{meant}\"?")),
            None => node.warn_hint(config_error, "\"json\" is used instead"),
        }
    }
    Decoder {
        encoding: Kind::parse(name),
        is_collection: file.is_collection,
    }
}
