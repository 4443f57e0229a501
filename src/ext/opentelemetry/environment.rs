//! `OTEL_…` variables, which apply where the configuration has no value.

use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{ConfigError, Environment, Node};
use crate::telemetry::observe::Exemplars;
use crate::telemetry::trace::context::Formats;
use crate::telemetry::trace::{Attribute, Value};

/// A variable that is not empty.
pub(super) fn text<'e>(environment: &'e Environment, name: &str) -> Option<&'e str> {
    environment
        .get(name)
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

/// A number of milliseconds.
pub(super) fn millis(environment: &Environment, name: &str) -> Option<Duration> {
    let millis: u64 = text(environment, name)?.parse().ok()?;
    (millis > 0).then(|| Duration::from_millis(millis))
}

pub(super) fn count(environment: &Environment, name: &str) -> Option<usize> {
    text(environment, name)?
        .parse()
        .ok()
        .filter(|count| *count > 0)
}

pub(super) fn flag(environment: &Environment, name: &str) -> bool {
    text(environment, name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// The maximum number of characters in a span's attribute. The limit for spans wins over the one for all attributes.
pub(super) fn longest_value(environment: &Environment) -> Option<usize> {
    let limit = |name| text(environment, name)?.parse().ok();
    limit("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")
        .or_else(|| limit("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"))
}

/// `OTEL_METRICS_EXEMPLAR_FILTER`.
pub(super) fn exemplars(environment: &Environment) -> Exemplars {
    match text(environment, "OTEL_METRICS_EXEMPLAR_FILTER") {
        Some("always_on") => Exemplars::All,
        Some("always_off") => Exemplars::None,
        _ => Exemplars::Recorded,
    }
}

/// `OTEL_EXPORTER_OTLP_HEADERS`.
pub(super) fn headers(environment: &Environment) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(text(environment, "OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default())
    {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_str(&value);
        if let (Ok(name), Ok(mut value)) = (name, value) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}

/// `OTEL_RESOURCE_ATTRIBUTES`.
pub(super) fn resource(environment: &Environment) -> Vec<Attribute> {
    pairs(text(environment, "OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default())
        .map(|(name, value)| (name.into(), Value::from(value)))
        .collect()
}

/// `a=1,b=2`, with percent-encoded values.
fn pairs(list: &str) -> impl Iterator<Item = (String, String)> {
    list.split(',').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8_lossy();
        let name = name.trim();
        (!name.is_empty()).then(|| (name.to_owned(), value.into_owned()))
    })
}

/// Which requests are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampler {
    pub rate: f64,
    /// The rate also applies to requests with a parent.
    pub ignores_parents: bool,
}

/// Without a setting: what the parent says, otherwise everything.
impl Default for Sampler {
    fn default() -> Sampler {
        Sampler {
            rate: 1.0,
            ignores_parents: false,
        }
    }
}

/// `OTEL_TRACES_SAMPLER` with its argument. A value that is not valid counts as absent, with a warning at `node`.
pub(super) fn sampler(environment: &Environment, node: &Node<'_>) -> Sampler {
    let Some(name) = text(environment, "OTEL_TRACES_SAMPLER") else {
        return Sampler::default();
    };
    let own = name.strip_prefix("parentbased_");
    let rate = match own.unwrap_or(name) {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => ratio(environment, node),
        _ => {
            node.warn_hint(
                ConfigError::invalid("OTEL_TRACES_SAMPLER names an unknown sampler"),
                "the known names are always_on, always_off, traceidratio, and the same after \"parentbased_\"; \
                 parentbased_always_on is used",
            );
            return Sampler::default();
        }
    };
    Sampler {
        rate,
        ignores_parents: own.is_none(),
    }
}

fn ratio(environment: &Environment, node: &Node<'_>) -> f64 {
    let Some(argument) = text(environment, "OTEL_TRACES_SAMPLER_ARG") else {
        return 1.0;
    };
    let ratio = argument.parse().ok();
    ratio
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .unwrap_or_else(|| {
            node.warn_hint(
                ConfigError::invalid("OTEL_TRACES_SAMPLER_ARG is not a number from 0 to 1"),
                "1 is used",
            );
            1.0
        })
}

/// `OTEL_PROPAGATORS`. `None` if it is absent, or has an unknown name, which is an error at `node`.
pub(super) fn formats(environment: &Environment, node: &Node<'_>) -> Option<Formats> {
    let names = text(environment, "OTEL_PROPAGATORS")?;
    let formats = Formats::parse(names.split(',')).ok();
    if formats.is_none() {
        let known = Formats::NAMES;
        node.config_error(ConfigError::invalid(format!(
            "OTEL_PROPAGATORS contains a name that is none of {known}"
        )));
    }
    formats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_percent_decoded() {
        let environment = Environment::of([
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer%20x, x-a = b,bad name=1",
            ),
            ("OTEL_RESOURCE_ATTRIBUTES", "team=a%2Cb"),
        ]);
        let headers = headers(&environment);
        assert_eq!(headers["authorization"], "Bearer x");
        assert_eq!(headers["x-a"], "b");
        assert_eq!(headers.len(), 2);
        assert_eq!(resource(&environment)[0].1, Value::from("a,b".to_owned()));
    }

    #[test]
    fn the_limit_for_spans_wins_over_the_one_for_all_attributes() {
        const ALL: &str = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT";
        const SPANS: &str = "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT";
        for (all, spans, limit) in [
            ("", "", None),
            ("100", "", Some(100)),
            ("100", "20", Some(20)),
            ("", "0", Some(0)),
            ("", "-1", None),
        ] {
            let environment = Environment::of([(ALL, all), (SPANS, spans)]);
            assert_eq!(longest_value(&environment), limit, "{all} {spans}");
        }
    }
}
