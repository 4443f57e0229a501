use crate::telemetry::observe::ErrorType;

/// What rejects a request before its backend is called. One byte, so that a failure stays small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guard {
    /// A value of the request cannot be used.
    BadInput,
    /// Too much heavy work waits already.
    Busy,
    /// An expression of `validation/cel`.
    Cel,
    /// A policy asked for the place of the client, which cannot be read.
    GeoIp,
    /// The client's address.
    IpFilter,
    Policy,
    /// The limit of a backend.
    RateLimit,
    Schema,
    /// A script.
    Script,
}

impl Guard {
    /// The reason in the access log and in `portcullis_requests_refused_total`.
    pub fn reason(self) -> &'static str {
        match self {
            Guard::BadInput => "bad_input",
            Guard::Busy => "busy",
            Guard::Cel => "cel",
            Guard::GeoIp => "geoip",
            Guard::IpFilter => "ip_filter",
            Guard::Policy => "policy",
            Guard::RateLimit => "rate_limited",
            Guard::Schema => "json_schema",
            Guard::Script => "script",
        }
    }

    /// The reason in traces and series.
    pub(super) fn error_type(self) -> ErrorType {
        match self {
            Guard::BadInput | Guard::Schema => ErrorType::Request,
            Guard::Busy | Guard::Cel | Guard::GeoIp | Guard::IpFilter | Guard::Policy => {
                ErrorType::Policy
            }
            Guard::RateLimit => ErrorType::RateLimited,
            Guard::Script => ErrorType::Script,
        }
    }
}
