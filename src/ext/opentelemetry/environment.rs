//! `OTEL_…` variables, which apply where the configuration has no value.

use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Environment;
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

/// The variable of a signal, or else the one for all signals: `OTEL_EXPORTER_OTLP_TRACES_HEADERS`.
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

/// `OTEL_TRACES_SAMPLER` with its argument, as a rate.
pub(super) fn rate(environment: &Environment) -> Option<f64> {
    let argument = || text(environment, "OTEL_TRACES_SAMPLER_ARG")?.parse().ok();
    match text(environment, "OTEL_TRACES_SAMPLER")? {
        "always_on" | "parentbased_always_on" => Some(1.0),
        "always_off" | "parentbased_always_off" => Some(0.0),
        "traceidratio" | "parentbased_traceidratio" => Some(argument().unwrap_or(1.0)),
        _ => None,
    }
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

    #[test]
    fn samplers_are_converted_to_rates() {
        for (sampler, argument, rate_of) in [
            ("parentbased_traceidratio", "0.25", Some(0.25)),
            ("always_off", "", Some(0.0)),
            ("jaeger_remote", "", None),
        ] {
            let environment = Environment::of([
                ("OTEL_TRACES_SAMPLER", sampler),
                ("OTEL_TRACES_SAMPLER_ARG", argument),
            ]);
            assert_eq!(rate(&environment), rate_of);
        }
    }
}
