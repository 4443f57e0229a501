//! The instruments: KrakenD's names, and those of the OpenTelemetry conventions.

use super::settings::Convention;
use crate::telemetry::series::{Instrument, Kind, Measure};

const SECONDS: Kind = Kind::Histogram(Measure::Seconds);
const SIZES: Kind = Kind::Histogram(Measure::Whole);
const COUNT: Kind = Kind::Counter(Measure::Whole);

const fn plain(name: &'static str, help: &'static str, kind: Kind) -> Instrument {
    unit(name, "", help, kind)
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
pub(crate) const LABELS: [&str; 22] = [
    "canceled",
    "clientname",
    "complete",
    "error",
    "error_type",
    "http_connection_state",
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

pub(super) const PROXY: Instrument = plain(
    "krakend.proxy.duration",
    "Duration of the work of endpoints, in seconds.",
    SECONDS,
);
pub(super) const BACKEND: Instrument = plain(
    "krakend.backend.duration",
    "Duration of calls of backends, in seconds.",
    SECONDS,
);

pub(super) const STARTED: Instrument = plain(
    "http.client.request.started.count",
    "Requests to hosts.",
    COUNT,
);
pub(super) const FAILED: Instrument = plain(
    "http.client.request.failed.count",
    "Requests to hosts that got no response.",
    COUNT,
);
pub(super) const TIMED_OUT: Instrument = plain(
    "http.client.request.timedout.count",
    "Requests to hosts that got no response in time.",
    COUNT,
);
pub(super) const CANCELED: Instrument = plain(
    "http.client.request.canceled.count",
    "Requests to hosts whose response was no longer needed.",
    COUNT,
);

pub(super) const ACTIVE_REQUESTS: Instrument = unit(
    "http.server.active_requests",
    "{request}",
    "Requests in progress.",
    Kind::Gauge,
);
pub(super) const OPEN_CONNECTIONS: Instrument = unit(
    "http.client.open_connections",
    "{connection}",
    "Connections to hosts that are open now, by whether a request uses them.",
    Kind::Gauge,
);

pub(super) const READ_SIZE: Instrument = unit(
    "http.client.response.read.size",
    "b",
    "Bytes read of response bodies of hosts.",
    COUNT,
);
pub(super) const READ_SIZES: Instrument = detail(unit(
    "http.client.response.read.size-hist",
    "b",
    "Bytes read of each response body of a host.",
    SIZES,
));
pub(super) const READ_TIME: Instrument = unit(
    "http.client.response.read.time",
    "s",
    "Time from the head to the end of response bodies of hosts.",
    Kind::Counter(Measure::Seconds),
);
pub(super) const READ_TIMES: Instrument = detail(unit(
    "http.client.response.read.time-hist",
    "s",
    "Time from the head to the end of each response body of a host.",
    SECONDS,
));
pub(super) const READ_ERRORS: Instrument = plain(
    "http.client.response.read.errors",
    "Response bodies of hosts that ended early.",
    COUNT,
);

impl ServerNames {
    pub(super) const fn of(convention: Convention) -> ServerNames {
        match convention {
            Convention::Krakend => ServerNames {
                duration: plain(
                    "http.server.duration",
                    "Duration of requests of clients, in seconds.",
                    SECONDS,
                ),
                size: detail(plain(
                    "http.server.response.size",
                    "Bytes of response bodies for clients.",
                    SIZES,
                )),
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
                duration: plain(
                    "http.client.duration",
                    "Duration of requests to hosts until the head of the response, in seconds.",
                    SECONDS,
                ),
                request_size: plain(
                    "http.client.request.size",
                    "Bytes of request bodies for hosts.",
                    COUNT,
                ),
                response_size: detail(plain(
                    "http.client.response.size",
                    "Bytes of response bodies of hosts, as announced.",
                    SIZES,
                )),
                no_length: plain(
                    "http.client.response.no-content-length",
                    "Responses of hosts that announce no length.",
                    COUNT,
                ),
                get_conn: detail(plain(
                    "http.client.request.get-conn.duration",
                    "Time until there is a connection to the host, in seconds.",
                    SECONDS,
                )),
                dns: detail(plain(
                    "http.client.request.dns.duration",
                    "Time of lookups of names of hosts, in seconds.",
                    SECONDS,
                )),
                tls: detail(plain(
                    "http.client.request.tls.duration",
                    "Time of TLS handshakes with hosts, in seconds.",
                    SECONDS,
                )),
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
                no_length: unit(
                    "http.client.response.no-content-length",
                    "By",
                    "Responses of hosts that announce no length.",
                    COUNT,
                ),
                get_conn: detail(unit(
                    "http.client.request.get-conn.duration",
                    "s",
                    "Time until there is a connection to the host, in seconds.",
                    SECONDS,
                )),
                dns: detail(unit(
                    "http.client.request.dns.duration",
                    "s",
                    "Time of lookups of names of hosts, in seconds.",
                    SECONDS,
                )),
                tls: detail(unit(
                    "http.client.request.tls.duration",
                    "s",
                    "Time of TLS handshakes with hosts, in seconds.",
                    SECONDS,
                )),
            },
        }
    }
}
