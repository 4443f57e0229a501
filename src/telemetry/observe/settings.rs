//! The compiled settings of `telemetry/opentelemetry`.

use http::HeaderName;

use crate::telemetry::trace::Attribute;
use crate::telemetry::trace::context::Formats;

/// The naming convention of series and spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Convention {
    /// KrakenD's own.
    #[default]
    Krakend,
    /// KrakenD's with `"semantic_convention": "1.27"`.
    V1_27,
    /// The stable HTTP conventions of OpenTelemetry.
    Stable,
}

/// What one layer reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    pub metrics: bool,
    pub traces: bool,
    pub report_headers: bool,
    pub skip_headers: Vec<HeaderName>,
    pub metric_attributes: Vec<Attribute>,
    pub trace_attributes: Vec<Attribute>,
}

impl Default for Layer {
    fn default() -> Layer {
        Layer {
            metrics: true,
            traces: true,
            report_headers: false,
            skip_headers: Vec::new(),
            metric_attributes: Vec::new(),
            trace_attributes: Vec::new(),
        }
    }
}

/// The parts of a backend call that are reported.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    pub stage: bool,
    pub round_trip: bool,
    pub read_payload: bool,
    pub detailed: bool,
    pub report_headers: bool,
    pub skip_headers: Vec<HeaderName>,
    pub attributes: Vec<Attribute>,
}

impl Parts {
    /// No parts.
    pub const NONE: Parts = Parts {
        stage: false,
        round_trip: false,
        read_payload: false,
        detailed: false,
        report_headers: false,
        skip_headers: Vec::new(),
        attributes: Vec::new(),
    };

    /// Whether round trips are reported. Reading the response is part of one.
    pub fn trips(&self) -> bool {
        self.round_trip || self.read_payload
    }
}

impl Default for Parts {
    fn default() -> Parts {
        Parts {
            stage: true,
            round_trip: true,
            read_payload: true,
            detailed: true,
            ..Parts::NONE
        }
    }
}

/// What calls to a backend report.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BackendLayer {
    pub metrics: Parts,
    pub traces: Parts,
}

/// All layers of a service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layers {
    pub global: Layer,
    pub proxy: Layer,
    pub backend: BackendLayer,
}

/// Whose sampling decisions are respected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// Every client's context is continued.
    #[default]
    Always,
    /// The context of trusted proxies is continued.
    Proxies,
    /// No context is continued: each request starts a new trace, with a link to the client's.
    Never,
}

/// Which requests histograms keep as examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exemplars {
    /// Those that are recorded.
    #[default]
    Recorded,
    All,
    None,
}

/// Which requests are excluded, and how trace contexts are sent.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub convention: Convention,
    pub layers: Layers,
    /// Exact paths and patterns, and prefixes that end with `/`.
    pub skip: Vec<String>,
    /// The fraction of requests without a parent that is recorded, 0 to 1.
    pub rate: f64,
    /// The rate also applies to requests with a parent.
    pub ignores_parents: bool,
    pub trust: Trust,
    pub formats: Formats,
    /// Reads the client's context.
    pub reads: bool,
    /// Sends a context to backends.
    pub writes: bool,
    /// Backends get the sampling decision even if no spans are exported.
    pub keeps_decision: bool,
    /// Traces are off, so there are no ids to show.
    pub quiet: bool,
    pub exemplars: Exemplars,
}

impl Settings {
    /// Whether requests for this path, or endpoints with this pattern, are excluded.
    pub fn skips(&self, path: &str) -> bool {
        let is_pattern = |skip: &str| {
            let plain = |text: &str| text.replace(['{', '}'], "").replace("/:", "/");
            path.contains('{') && plain(skip) == plain(path)
        };
        let mut alike = self.skip.iter().filter(|skip| begin_alike(skip, path));
        alike.any(|skip| match skip.strip_suffix('/') {
            Some(_) if skip.len() > 1 => path.starts_with(&**skip),
            _ => *skip == path || is_pattern(skip),
        })
    }
}

/// Whether a path can be equal to an entry of `skip_paths`: most differ in the byte after the first slash.
fn begin_alike(skip: &str, path: &str) -> bool {
    let second = |text: &str| text.as_bytes().get(1).copied();
    second(skip) == second(path) || matches!(second(skip), Some(b':' | b'{'))
}

/// A pattern in the notation of KrakenD's router: `/a/{id}` becomes `/a/:id`.
pub(crate) fn route(pattern: &str) -> String {
    pattern
        .replace("/{*", "/*")
        .replace('{', ":")
        .replace('}', "")
}

/// The pattern of a backend, with placeholders in lower case.
pub(crate) fn backend_route(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut inside = false;
    for c in pattern.chars() {
        match c {
            '{' => {
                inside = true;
                out.push(':');
            }
            '}' => inside = false,
            c if inside => out.extend(c.to_lowercase()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_written_as_in_krakend() {
        assert_eq!(route("/mix/{A}/x/{b}"), "/mix/:A/x/:b");
        assert_eq!(backend_route("/y/{A}?z={b}"), "/y/:a?z=:b");
        assert_eq!(backend_route("/y/{resp0_a.b}"), "/y/:resp0_a.b");
    }

    #[test]
    fn a_path_is_skipped_by_its_name_its_pattern_or_its_prefix() {
        let settings = Settings {
            skip: ["/o/:id", "/p/{id}", "/q", "/__debug/", "/:root"]
                .map(str::to_owned)
                .to_vec(),
            ..Settings::default()
        };
        for path in [
            "/o/{id}",
            "/p/{id}",
            "/q",
            "/__debug/x",
            "/__debug/",
            "/{root}",
        ] {
            assert!(settings.skips(path), "{path}");
        }
        for path in ["/o/5", "/q/1", "/qq", "/__debug", "/x/{id}"] {
            assert!(!settings.skips(path), "{path}");
        }
    }
}
