//! Gauges of the OpenTelemetry conventions. They are made from what is counted anyway, when somebody asks for them: a
//! request pays nothing for them.

use std::collections::BTreeMap;

use super::names::{ACTIVE_REQUESTS, OPEN_CONNECTIONS};
use super::request::split_host;
use super::round_trip::{authority, default_port};
use super::{Convention, Observer, method_value};
use crate::telemetry::series::{Families, MAX_SERIES, Series};
use crate::telemetry::trace::{Attribute, Value};

/// What there is at the moment.
#[derive(Debug, Default)]
pub(crate) struct Now {
    /// Clients speak TLS.
    pub secure: bool,
    /// Requests in progress by method.
    pub requests: BTreeMap<String, i64>,
    /// Open and idle connections by host.
    pub hosts: Vec<(String, usize, usize)>,
}

impl Observer {
    /// Whether there are gauges: KrakenD has none under its names.
    pub(crate) fn has_gauges(&self) -> bool {
        self.store.is_some() && self.settings.convention == Convention::Stable
    }

    /// The gauges, as far as their layers are reported.
    pub(crate) fn gauges(&self, now: &Now) -> Families {
        let mut gauges = Families::new();
        if !self.has_gauges() {
            return gauges;
        }
        let layers = &self.settings.layers;
        if layers.global.metrics && !now.requests.is_empty() {
            let scheme = if now.secure { "https" } else { "http" };
            let series = now.requests.iter().map(|(method, count)| {
                let method = http::Method::from_bytes(method.as_bytes()).unwrap_or_default();
                let mut labels: Vec<Attribute> = vec![
                    ("http.request.method".into(), method_value(&method)),
                    ("url.scheme".into(), scheme.into()),
                ];
                labels.extend_from_slice(&layers.global.metric_attributes);
                Series::gauge(&labels, *count)
            });
            gauges.push((ACTIVE_REQUESTS, series.collect()));
        }
        if layers.backend.metrics.trips() && !now.hosts.is_empty() {
            let mut hosts: BTreeMap<(&str, u16), (usize, usize)> = BTreeMap::new();
            let most = MAX_SERIES / 2;
            for (host, open, idle) in &now.hosts {
                let (name, port) = split_host(authority(host));
                let name = name.trim_matches(['[', ']']);
                let place = (name, port.unwrap_or(default_port(host)));
                let known = if hosts.len() < most || hosts.contains_key(&place) {
                    hosts.entry(place).or_default()
                } else {
                    // Of all hosts beyond the limit.
                    hosts.entry(("", 0)).or_default()
                };
                known.0 += open;
                known.1 += idle;
            }
            let series = hosts.iter().flat_map(|((name, port), (open, idle))| {
                let counts = [("idle", *idle), ("used", open.saturating_sub(*idle))];
                counts.map(|(state, count)| {
                    let mut labels: Vec<Attribute> =
                        vec![("http.connection.state".into(), state.into())];
                    if name.is_empty() {
                        labels.push(("otel.metric.overflow".into(), Value::Bool(true)));
                    } else {
                        labels.push(("server.address".into(), (*name).to_owned().into()));
                        labels.push(("server.port".into(), Value::from(*port)));
                    }
                    labels.extend_from_slice(&layers.backend.metrics.attributes);
                    Series::gauge(&labels, i64::try_from(count).unwrap_or(i64::MAX))
                })
            });
            gauges.push((OPEN_CONNECTIONS, series.collect()));
        }
        gauges
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Settings;
    use super::*;
    use crate::telemetry::series::{SIZE_BOUNDS, STABLE_TIME_BOUNDS, Store};

    fn gauges(convention: Convention, now: &Now) -> Vec<(&'static str, Vec<String>)> {
        let settings = Settings {
            convention,
            ..Settings::default()
        };
        let store = Arc::new(Store::new(STABLE_TIME_BOUNDS, SIZE_BOUNDS));
        let observer = Observer::new(settings, Some(store), Box::default(), None);
        let families = observer.gauges(now).into_iter();
        let labels = |series: &Arc<Series>| series.labels.clone();
        families
            .map(|(instrument, all)| (instrument.name, all.iter().map(labels).collect()))
            .collect()
    }

    #[test]
    fn hosts_beyond_the_limit_share_their_gauges() {
        let hosts = (0..3000).map(|n| (format!("http://h{n}:80"), 2, 1));
        let now = Now {
            hosts: hosts.collect(),
            ..Now::default()
        };
        let shown = gauges(Convention::Stable, &now);
        let [(name, series)] = &shown[..] else {
            panic!("{shown:?}");
        };
        assert_eq!(*name, "http.client.open_connections");
        assert_eq!(series.len(), MAX_SERIES + 2);
        let overflow = series.iter().filter(|it| it.contains("overflow"));
        assert_eq!(overflow.count(), 2);
        assert!(gauges(Convention::Krakend, &now).is_empty());
        assert!(gauges(Convention::V1_27, &now).is_empty());
    }

    #[test]
    fn a_host_shows_neither_credentials_nor_a_path() {
        let now = Now {
            hosts: vec![("https://u:hush@[::1]/x".to_owned(), 1, 0)],
            ..Now::default()
        };
        let shown = gauges(Convention::Stable, &now);
        let wanted = r#"http_connection_state="idle",server_address="::1",server_port="443""#;
        assert_eq!(shown[0].1[0], wanted);
    }
}
