//! Compiles the service's block.

use std::sync::Arc;
use std::time::Duration;

use super::config::KEYS;
use super::environment::Sampler;
use super::exporters::{Shared, check_names, exporters, pages};
use super::{Exporters, Pages, environment, layers, variables};
use crate::config::{Block, ConfigError, Environment, Node};
use crate::ext::context::{Compile, ServiceFacts};
use crate::ext::extension::ServicePart;
use crate::telemetry::observe::{Convention, Native, Observer, Settings, Trust};
use crate::telemetry::series::{MAX_LINES, SIZE_BOUNDS, STABLE_TIME_BOUNDS, Store, TIME_BOUNDS};
use crate::telemetry::trace::context::Formats;
use crate::telemetry::trace::{Attribute, Value};

/// Paths that KrakenD omits, in addition to the health path.
const SKIPPED: [&str; 3] = ["/__debug/", "/__echo/", "/__stats/"];

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = node.block(KEYS) else {
        return ServicePart::Nothing;
    };
    if environment::flag(cx.environment, "OTEL_SDK_DISABLED") {
        log::info!("[SERVICE: OpenTelemetry] switched off by OTEL_SDK_DISABLED");
        return ServicePart::Nothing;
    }
    variables::check(cx.environment, node);
    let facts = cx.fact::<ServiceFacts>();
    let settings = settings(&block, facts.as_deref(), cx.environment);
    let resource: Arc<[Attribute]> = resource(&block, facts.as_deref(), cx.environment).into();
    let store = store(&block, settings.convention, cx);
    let exports = block.block("exporters");
    check_names(exports.as_ref());
    let list = pages(exports.as_ref());
    let period = period(&block, cx.environment);
    let key = format!("{resource:?} {period:?}");
    let shared = Shared {
        resource: &resource,
        store: &store,
        period,
        key: &key,
    };
    let exporters: Box<[_]> = exporters(&block, exports.as_ref(), &shared, cx).into();
    let counted = !list.is_empty() || exporters.iter().any(|exporter| exporter.sends_metrics());
    cx.set_fact(Arc::new(Observer::new(
        settings,
        counted.then(|| Arc::clone(&store)),
        exporters.clone(),
        cx.fact::<Native>(),
    )));
    cx.set_fact(Arc::new(Exporters(exporters)));
    cx.set_fact(Arc::new(Pages {
        list,
        store,
        resource,
    }));
    ServicePart::Nothing
}

fn settings(
    block: &Block<'_>,
    facts: Option<&ServiceFacts>,
    environment: &Environment,
) -> Settings {
    let layer_block = block.block("layers");
    let (layers, convention) = layers::layers(layer_block.as_ref());
    let global = layer_block.as_ref().and_then(|block| block.block("global"));
    let sampler = sampler(block, environment);
    Settings {
        convention,
        layers,
        skip: skipped(block, facts),
        rate: sampler.rate,
        ignores_parents: sampler.ignores_parents,
        trust: match block.choice("trust_incoming") {
            Some("never") => Trust::Never,
            Some("trusted_proxies") => Trust::Proxies,
            _ => Trust::Always,
        },
        formats: formats(block, environment),
        reads: !global.is_some_and(|global| global.flag("disable_propagation")),
        writes: !block.flag("disable_injection"),
        keeps_decision: false,
        quiet: false,
        exemplars: environment::exemplars(environment),
    }
}

/// An empty list uses the default. A list with an empty string omits nothing.
fn skipped(block: &Block<'_>, facts: Option<&ServiceFacts>) -> Vec<String> {
    let written = block.texts("skip_paths");
    if !written.is_empty() {
        return written
            .into_iter()
            .filter(|path| !path.is_empty())
            .collect();
    }
    let health = facts.and_then(|facts| facts.health_path.clone());
    let usual = SKIPPED.into_iter().map(str::to_owned);
    health.into_iter().chain(usual).collect()
}

/// The configuration takes precedence over the environment. Its rate is for requests without a parent.
fn sampler(block: &Block<'_>, environment: &Environment) -> Sampler {
    let Some(rate) = block.number("trace_sample_rate") else {
        return environment::sampler(environment, block.node());
    };
    let node = block
        .get("trace_sample_rate")
        .unwrap_or_else(|| block.node().clone());
    if !(0.0..=1.0).contains(&rate) {
        node.config_error(ConfigError::OutOfRange {
            found: rate.to_string(),
            range: "0 to 1".to_owned(),
        });
        // It counts as absent.
        return Sampler::default();
    } else if rate == 0.0 {
        node.warn_hint(
            ConfigError::invalid("0 disables tracing here; KrakenD traces every request"),
            "1 traces every request",
        );
    }
    Sampler {
        rate,
        ..Sampler::default()
    }
}

fn formats(block: &Block<'_>, environment: &Environment) -> Formats {
    let named = block.texts("propagators");
    let mut formats = if named.is_empty() {
        environment::formats(environment, block.node()).unwrap_or_default()
    } else {
        Formats::parse(named.iter().map(String::as_str)).unwrap_or_else(|unknown| {
            let node = block.get("propagators");
            let node = node.unwrap_or_else(|| block.node().clone());
            node.config_error(ConfigError::NotOneOf {
                found: format!("{unknown:?}"),
                allowed: Formats::NAMES.to_owned(),
            });
            Formats::default()
        })
    };
    formats.baggage |= block.flag("propagate_baggage");
    formats
}

fn period(block: &Block<'_>, environment: &Environment) -> Duration {
    match block.integer("metric_reporting_period") {
        Some(seconds @ 1..) => Duration::from_secs(seconds.unsigned_abs()),
        // As in KrakenD.
        Some(_) => environment::millis(environment, "OTEL_METRIC_EXPORT_INTERVAL")
            .unwrap_or(Duration::from_secs(60)),
        None => environment::millis(environment, "OTEL_METRIC_EXPORT_INTERVAL")
            .unwrap_or(Duration::from_secs(30)),
    }
}

/// The attributes of the sender. The configuration takes precedence over the environment.
fn resource(
    block: &Block<'_>,
    facts: Option<&ServiceFacts>,
    environment: &Environment,
) -> Vec<Attribute> {
    let set = |key| block.string(key).filter(|text| !text.is_empty());
    let named = set("service_name")
        .or_else(|| environment::text(environment, "OTEL_SERVICE_NAME").map(str::to_owned))
        .or_else(|| facts.and_then(|facts| facts.name.clone()))
        .unwrap_or_else(|| "KrakenD".to_owned());
    let version = set("service_version").unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
    let mut resource = vec![
        ("service.name".into(), Value::from(named)),
        ("service.version".into(), Value::from(version)),
    ];
    if let Some(deployed) = set("deploy_env") {
        resource.push(("deployment.environment".into(), Value::from(deployed)));
    }
    for (name, value) in environment::resource(environment) {
        if !resource.iter().any(|(known, _)| *known == name) {
            resource.push((name, value));
        }
    }
    resource
}

/// The series, which survive a reload that does not change their buckets.
fn store(block: &Block<'_>, convention: Convention, cx: &mut Compile<'_>) -> Arc<Store> {
    let histograms = block.block("histograms");
    let own = |key| histograms.as_ref().and_then(|block| bounds(block, key));
    let usual = match convention {
        Convention::Stable => STABLE_TIME_BOUNDS,
        Convention::Krakend | Convention::V1_27 => TIME_BOUNDS,
    };
    let time = own("time_buckets").unwrap_or_else(|| usual.to_vec());
    let size = own("size_buckets").unwrap_or_else(|| SIZE_BOUNDS.to_vec());
    let most = most_series(block);
    let key = format!("telemetry/opentelemetry series {convention:?} {time:?} {size:?} {most}");
    cx.carry_over(key, |_| Arc::new(Store::new(&time, &size).with_most(most)))
}

/// The limit of time series of a page.
fn most_series(block: &Block<'_>) -> usize {
    const LEAST: usize = 1000;
    let Some(written) = block.integer("max_series") else {
        return MAX_LINES;
    };
    match usize::try_from(written) {
        Ok(most) if most >= LEAST => most,
        _ => {
            let node = block.get("max_series");
            let node = node.unwrap_or_else(|| block.node().clone());
            node.config_error(ConfigError::OutOfRange {
                found: written.to_string(),
                range: format!("{LEAST} or more"),
            });
            MAX_LINES
        }
    }
}

fn bounds(block: &Block<'_>, key: &str) -> Option<Vec<f64>> {
    let node = block.get(key)?;
    let list = block.list(key);
    let numbers: Option<Vec<f64>> = list
        .iter()
        .map(|item| item.number(crate::config::Typing::Weak))
        .collect();
    let numbers = numbers?;
    let rising = numbers
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if a < b));
    let good = rising && numbers.first().is_some_and(|first| *first > 0.0) && numbers.len() <= 100;
    if !good {
        node.invalid("must be 1 to 100 numbers above 0, each larger than the one before");
    }
    good.then_some(numbers)
}
