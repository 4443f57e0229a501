//! The instruments: KrakenD's names, and those of the OpenTelemetry conventions.

use super::settings::Convention;
use crate::telemetry::series::{Instrument, Kind, Measure};

const SECONDS: Kind = Kind::Histogram(Measure::Seconds);
const SIZES: Kind = Kind::Histogram(Measure::Whole);
const COUNT: Kind = Kind::Counter(Measure::Whole);

const fn plain(name: &'static str, kind: Kind) -> Instrument {
    unit(name, "", "", kind)
}

const fn unit(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    kind: Kind,
) -> Instrument {
    Instrument {
        name,
        unit,
        help,
        kind,
        is_detail: false,
    }
}

/// An instrument that details others: see [`Instrument::is_detail`].
const fn detail(instrument: Instrument) -> Instrument {
    Instrument {
        is_detail: true,
        ..instrument
    }
}

/// The labels of all series, as Prometheus shows them, and the names that its format uses. A configured label with one of
/// these names would make the page unreadable, or a series ambiguous.
pub(crate) const LABELS: [&str; 21] = [
    "canceled",
    "clientname",
    "complete",
    "error",
    "error_type",
    "http_request_method",
    "http_response_status_code",
    "http_route",
    "krakend_endpoint_method",
    "krakend_endpoint_route",
    "le",
    "network_protocol_version",
    "otel_metric_overflow",
    "otel_scope_name",
    "otel_scope_version",
    "quantile",
    "server_address",
    "server_port",
    "url_scheme",
    "url_template",
    "route",
];

/// The instruments for client requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerNames {
    pub duration: Instrument,
    pub size: Instrument,
}

/// The instruments for round trips to backends.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientNames {
    pub duration: Instrument,
    pub request_size: Instrument,
    pub response_size: Instrument,
    pub no_length: Instrument,
    pub get_conn: Instrument,
    pub dns: Instrument,
    pub tls: Instrument,
}

pub(super) const PROXY: Instrument = plain("krakend.proxy.duration", SECONDS);
pub(super) const BACKEND: Instrument = plain("krakend.backend.duration", SECONDS);

pub(super) const STARTED: Instrument = plain("http.client.request.started.count", COUNT);
pub(super) const FAILED: Instrument = plain("http.client.request.failed.count", COUNT);
pub(super) const TIMED_OUT: Instrument = plain("http.client.request.timedout.count", COUNT);
pub(super) const CANCELED: Instrument = plain("http.client.request.canceled.count", COUNT);

pub(super) const READ_SIZE: Instrument = unit("http.client.response.read.size", "b", "", COUNT);
pub(super) const READ_SIZES: Instrument =
    detail(unit("http.client.response.read.size-hist", "b", "", SIZES));
pub(super) const READ_TIME: Instrument = unit(
    "http.client.response.read.time",
    "s",
    "",
    Kind::Counter(Measure::Seconds),
);
pub(super) const READ_TIMES: Instrument = detail(unit(
    "http.client.response.read.time-hist",
    "s",
    "",
    SECONDS,
));
pub(super) const READ_ERRORS: Instrument = plain("http.client.response.read.errors", COUNT);

impl ServerNames {
    pub(super) const fn of(convention: Convention) -> ServerNames {
        match convention {
            Convention::Krakend => ServerNames {
                duration: plain("http.server.duration", SECONDS),
                size: detail(plain("http.server.response.size", SIZES)),
            },
            Convention::V1_27 | Convention::Stable => ServerNames {
                duration: unit(
                    "http.server.request.duration",
                    "s",
                    "Duration of HTTP server requests.",
                    SECONDS,
                ),
                size: detail(unit(
                    "http.server.response.body.size",
                    "By",
                    "Size of HTTP server response bodies.",
                    SIZES,
                )),
            },
        }
    }
}

impl ClientNames {
    pub(super) const fn of(convention: Convention) -> ClientNames {
        match convention {
            Convention::Krakend => ClientNames {
                duration: plain("http.client.duration", SECONDS),
                request_size: plain("http.client.request.size", COUNT),
                response_size: detail(plain("http.client.response.size", SIZES)),
                no_length: plain("http.client.response.no-content-length", COUNT),
                get_conn: detail(plain("http.client.request.get-conn.duration", SECONDS)),
                dns: detail(plain("http.client.request.dns.duration", SECONDS)),
                tls: detail(plain("http.client.request.tls.duration", SECONDS)),
            },
            Convention::V1_27 | Convention::Stable => ClientNames {
                duration: unit(
                    "http.client.request.duration",
                    "s",
                    "Duration of HTTP client requests.",
                    SECONDS,
                ),
                request_size: detail(unit(
                    "http.client.request.body.size",
                    "By",
                    "Size of HTTP client request bodies.",
                    SIZES,
                )),
                response_size: detail(unit(
                    "http.client.response.body.size",
                    "By",
                    "Size of HTTP client response bodies.",
                    SIZES,
                )),
                no_length: unit("http.client.response.no-content-length", "By", "", COUNT),
                get_conn: detail(unit(
                    "http.client.request.get-conn.duration",
                    "s",
                    "",
                    SECONDS,
                )),
                dns: detail(unit("http.client.request.dns.duration", "s", "", SECONDS)),
                tls: detail(unit("http.client.request.tls.duration", "s", "", SECONDS)),
            },
        }
    }
}
