//! Compiles an endpoint.

mod agent;
mod basics;
mod body_headers;
mod catch_all;
mod checks;
mod order;

use std::sync::Arc;

use http::HeaderName;
use tokio::sync::Semaphore;

use crate::compile::backend::Undecoded;
use crate::compile::namespaces::{Level, wanted};
use crate::compile::{backend, claims, payload, response_edits};
use crate::config::endpoint::OUTPUT_ENCODINGS;
use crate::config::suggest::nearest;
use crate::config::{Block, ConfigError, Endpoint, Node, Service};
use crate::ext::body_extractor::TakenByService;
use crate::ext::context::EndpointInputs;
use crate::ext::extension::EndpointPart;
use crate::ext::opentelemetry::Observed;
use crate::ext::proxy::PROXY_ENDPOINT;
use crate::ext::registry::{ENDPOINT as EXTENSIONS, LAST_IDENTITY};
use crate::ext::request_id::IdHeader;
use crate::ext::stream::STREAM_ENDPOINT;
use crate::ext::{
    Compile, EndpointSite, geoip, inherited_steps, opentelemetry, upstream, websocket,
};
use crate::runtime::encode::Encoding;
use crate::runtime::flatmap::Flatmap;
use crate::runtime::forward::QueryRules;
use crate::runtime::pipe::PipeStep;
use crate::runtime::pipeline::mark_unread;
use crate::runtime::router::Pattern;
use crate::runtime::service as runtime;
use crate::runtime::service::{Order, Shadow, StaticData, Upgrade, WebSocket, Work};
use crate::runtime::signing::ResponseSigner;
use crate::runtime::step::EndpointStep;
use basics::{cache_control, concurrent_calls, headers, method, pattern, timeout};
use body_headers::BodyHeaders;
use catch_all::{is_catch_all, warn_encodings};
use checks::{check_backends, conditions, doubts, warn_data, warn_origins};
use order::{check_fallback, order, propagate, static_data, takes_responses, warn_hedge};

pub(super) use agent::agent;
pub(super) use basics::header_names;
pub(super) use order::flatmap;

/// Compiles one endpoint. `service_hosts` is the service's own list, cleaned. `None` if the endpoint is invalid,
/// after reporting all errors.
pub(super) fn endpoint(
    file: &Endpoint<'_>,
    id: usize,
    service: &Service<'_>,
    service_hosts: &[String],
    cx: &mut Compile<'_>,
) -> Option<(Pattern, runtime::Endpoint)> {
    cx.begin_endpoint();
    let method = method(file);
    let pattern = pattern(file, !service.disable_rest, cx);
    let concurrent = concurrent_calls(file);
    let proxy = file.extra.open(&PROXY_ENDPOINT);
    let encoding = file
        .output_encoding
        .as_deref()
        .or(service.output_encoding.as_deref())
        .unwrap_or("json");
    let is_catch_all = is_catch_all(file);
    if is_catch_all {
        warn_encodings(file);
    }
    let websocket = websocket::websocket(&file.extra);
    let streams = is_catch_all || websocket.is_some() || streams(file, encoding);
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
    let draft = Draft {
        file,
        service,
        service_hosts,
        site: &site,
        pattern: &pattern,
        proxy: proxy.as_ref(),
        concurrent,
        encoding,
        websocket: websocket.as_ref().map(|(rules, _)| rules),
        more: websocket.as_ref().map_or(&[][..], |(_, headers)| headers),
        is_catch_all,
        is_agent: false,
    };
    let compiled = compiled(&draft, id, cx)?;
    Some((pattern, compiled))
}

/// The keys of an endpoint, before its blocks and backends are compiled.
struct Draft<'d> {
    file: &'d Endpoint<'d>,
    service: &'d Service<'d>,
    service_hosts: &'d [String],
    site: &'d EndpointSite<'d>,
    pattern: &'d Pattern,
    proxy: Option<&'d Block<'d>>,
    /// The number of equal calls at the same time.
    concurrent: u32,
    encoding: &'d str,
    websocket: Option<&'d WebSocket>,
    /// Headers that pass beside those in `input_headers`.
    more: &'d [String],
    is_catch_all: bool,
    /// The calls are those of an agent.
    is_agent: bool,
}

impl Draft<'_> {
    /// Why no response is decoded, if the endpoint is `no-op`.
    fn streams(&self) -> Option<Undecoded> {
        match self.site.streams {
            true if self.is_catch_all || self.websocket.is_some() => Some(Undecoded::AlwaysStream),
            true => Some(Undecoded::Stream),
            false => None,
        }
    }
}

fn compiled(draft: &Draft<'_>, id: usize, cx: &mut Compile<'_>) -> Option<runtime::Endpoint> {
    let Draft {
        file,
        service,
        site,
        ..
    } = draft;
    doubts(file, service);
    if let Some(proxy) = draft.proxy {
        warn_data(draft, proxy);
    }
    claims::unnamed(file, site);
    let mut parts = parts(file, site, cx);
    // After the steps that authenticate the client, and those that set headers.
    if let Some(inputs) = claims::url_inputs(file, draft.pattern) {
        parts.steps.push(Box::new(inputs));
    }
    let observed = opentelemetry::endpoint(site, cx);
    let work = calls(draft, observed.as_ref(), &mut parts, cx);
    let mut payload = payload::endpoint(draft.proxy, site, cx);
    // Otherwise a client could hide the content of its body from these steps.
    payload.gunzip |= parts.steps.iter().any(|step| step.parses_body()) || work.parses_body();
    Some(runtime::Endpoint {
        pattern: Arc::clone(site.pattern),
        timeout: site.timeout,
        cache_control: cache_control(file.cache_ttl.or(service.cache_ttl)),
        steps: parts.steps.into(),
        headers: headers(file, draft.more)?.guarding(&parts.guarded),
        query: if draft.is_catch_all && file.input_query_strings.is_empty() {
            QueryRules::endpoint(&["*"])
        } else {
            QueryRules::endpoint(&file.input_query_strings)
        },
        work,
        id,
        method: site.method.clone(),
        observer: observed.map(|observed| observed.observer),
        payload,
        response_edits: response_edits::endpoint(file, cx),
    })
}

/// Compiles the backends, and combines them with the rest of the endpoint.
fn calls(
    draft: &Draft<'_>,
    observed: Option<&Observed>,
    parts: &mut Parts,
    cx: &mut Compile<'_>,
) -> Work {
    let Draft {
        file, site, proxy, ..
    } = draft;
    let mut order = order(
        *proxy,
        takes_responses(file),
        draft.service.version == Some(4),
    );
    upstream::begin_sticky(cx);
    let sequential = matches!(order, Order::Sequential { .. });
    let place = backend::Place {
        site,
        pattern: draft.pattern,
        index: 0,
        appends: !basics::names_its_wildcard(file),
        sequential,
        streams: draft.streams(),
        websocket: draft.websocket.is_some(),
        concurrent: draft.concurrent > 1,
        alone: !site.streams && !draft.is_agent && file.backend.len() == 1,
        message: draft
            .is_agent
            .then_some(sequential || !parts.pipes.is_empty()),
        service_hosts: draft.service_hosts,
        observed,
    };
    let (regular, shadows) = backends(file, &place, draft.service, cx);
    parts.steps.extend(upstream::sticky_step(cx));
    if let Order::Sequential { propagated } = &mut order {
        propagate(propagated, &regular);
    }
    warn_hedge(file, draft.encoding == "no-op", &regular);
    conditions(file, &regular, order != Order::Parallel);
    if order == Order::Fallback {
        check_fallback(file, &regular);
    }
    let rest = Rest {
        order,
        calls: draft.concurrent,
        encoding: draft.encoding,
        static_data: proxy.and_then(static_data),
        flatmap: proxy.and_then(flatmap),
        signer: parts.signer.take(),
        pipes: std::mem::take(&mut parts.pipes).into(),
        upgrade: upgrade(file, site, draft.websocket, cx),
    };
    warn_origins(rest.upgrade.as_ref(), file, draft.more, cx);
    work(file, site.streams, regular, shadows, rest)
}

/// The backends whose responses count, and the shadows. `place` is that of the first one.
fn backends(
    file: &Endpoint<'_>,
    place: &backend::Place<'_>,
    service: &Service<'_>,
    cx: &mut Compile<'_>,
) -> (Vec<runtime::Backend>, Vec<Shadow>) {
    let mut regular = Vec::new();
    let mut shadows = Vec::new();
    for (index, written) in file.backend.iter().enumerate() {
        let place = backend::Place { index, ..*place };
        match backend::backend(written, &place, service, cx) {
            Some(backend::Call::Regular(call)) => regular.push(call),
            Some(backend::Call::Shadow(shadow)) => shadows.push(shadow),
            None => {}
        }
    }
    (regular, shadows)
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

impl Parts {
    /// Adds what the block at `node` contributes.
    fn add<'n>(
        &mut self,
        part: EndpointPart,
        taken: &mut BodyHeaders<'n>,
        node: &Node<'n>,
        cx: &mut Compile<'_>,
    ) {
        match part {
            EndpointPart::Nothing => {}
            EndpointPart::Steps(steps) => self.steps.extend(steps),
            EndpointPart::Setting {
                steps,
                headers,
                credential,
                decisive,
            } => {
                self.steps.extend(steps);
                taken.sets(&headers, credential.iter().chain(&decisive));
                self.guarded.extend(decisive);
                let names = headers.into_iter().chain(credential);
                names.clone().for_each(|name| cx.identify(name));
                self.guarded.extend(names);
            }
            EndpointPart::Taking {
                steps,
                headers,
                early,
            } => {
                self.steps.extend(steps);
                let names = headers.iter().cloned();
                names.for_each(|name| cx.identify_by_client(name));
                taken.take(headers, early, node);
            }
            EndpointPart::Piped { steps, pipes } => {
                self.steps.extend(steps);
                self.pipes.extend(pipes);
            }
            EndpointPart::Signer { steps, signer } => {
                self.steps.extend(steps);
                self.signer = Some(signer);
            }
        }
    }
}

fn parts(file: &Endpoint<'_>, site: &EndpointSite<'_>, cx: &mut Compile<'_>) -> Parts {
    let mut parts = Parts::default();
    // This also applies to the header that the service sets on every request.
    let id = cx.fact::<IdHeader>().map(|id| id.0.clone());
    parts.guarded.extend(id);
    parts
        .guarded
        .extend(cx.fact::<geoip::Locator>().map(|_| geoip::HEADER));
    let identified = EXTENSIONS
        .iter()
        .position(|extension| extension.namespace == LAST_IDENTITY.namespace);
    let mut is_identified = false;
    let mut taken = BodyHeaders::default();
    taken.sets(&parts.guarded, []);
    for (index, node) in wanted(Level::Endpoint, &file.extra) {
        let Some(extension) = EXTENSIONS.get(index) else {
            continue;
        };
        if !is_identified && Some(index) > identified {
            parts.steps.extend(inherited_steps::steps(cx));
            is_identified = true;
        }
        let part = (extension.compile)(&node, site, cx);
        let around_work = matches!(&part, EndpointPart::Piped { steps, .. } if steps.is_empty());
        if parts.signer.is_some() && !around_work && !matches!(part, EndpointPart::Nothing) {
            node.warn(ConfigError::invalid(
                "has no effect together with \"auth/signer\", which replaces it, as in KrakenD",
            ));
            continue;
        }
        parts.add(part, &mut taken, &node, cx);
    }
    if !is_identified {
        parts.steps.extend(inherited_steps::steps(cx));
    }
    if let Some(service) = cx.fact::<TakenByService>() {
        taken.take(service.0.iter().cloned(), true, file.block.node());
    }
    parts.guarded.extend(taken.checked());
    parts
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
fn upgrade(
    file: &Endpoint<'_>,
    site: &EndpointSite<'_>,
    websocket: Option<&WebSocket>,
    cx: &mut Compile<'_>,
) -> Option<Upgrade> {
    let alone = || {
        Some(Upgrade {
            websocket: Some(websocket?.clone()),
            ..Upgrade::default()
        })
    };
    let Some(node) = file.extra.of(&STREAM_ENDPOINT) else {
        return alone();
    };
    let block = node.block(STREAM_ENDPOINT.keys)?;
    if !block.flag("upgrade") && websocket.is_none() {
        return None;
    }
    if !site.streams {
        node.warn_hint(
            ConfigError::invalid("only a \"no-op\" endpoint can pass on a WebSocket"),
            "\"output_encoding\": \"no-op\"",
        );
    }
    let most = block.count("connections").filter(|most| *most > 0);
    let permits = most.map(|most| {
        let name = format!("tunnels of {} {}: {most}", site.method, site.pattern);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        cx.carry_over(name, |_| {
            Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))
        })
    });
    Some(Upgrade {
        origins: block
            .texts("origins")
            .into_iter()
            .map(String::into_boxed_str)
            .collect(),
        permits,
        until_expiry: block.flag("until_expiry"),
        websocket: websocket.cloned(),
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
                "all endpoints must have at least one backend that is not a shadow: this one responds with 500",
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
    let mut work = Box::new(runtime::Composition {
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
    });
    mark_unread(&mut work);
    Work::Compose(work)
}

/// Whether the response of the only backend is passed on unchanged. As in KrakenD, an unknown name means the encoding
/// of the backend.
fn streams(file: &Endpoint<'_>, name: &str) -> bool {
    if OUTPUT_ENCODINGS.contains(&name) {
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
        allowed: OUTPUT_ENCODINGS.join(", "),
    };
    let hint = match (nearest(name, OUTPUT_ENCODINGS.iter().copied()), passed) {
        (Some(meant), _) => format!("did you mean \"{meant}\"?"),
        (None, true) => "\"no-op\" is used instead, like the encoding of the backend".to_owned(),
        (None, false) => "\"json\" is used instead".to_owned(),
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
