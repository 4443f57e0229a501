//! Why a side call gave no response.

use super::client::SideError;
use crate::telemetry::mask::without_values;
use crate::telemetry::observe::Wait;
use crate::upstream::error::ConnectFailure;
use crate::upstream::handshake_signature;

/// Describes an error in KrakenD's words if it has any for it, else in those of the innermost cause.
pub(super) fn failure(error: &reqwest::Error, method: &'static str, url: &str) -> SideError {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let failure = connect_failure(cause);
    let url = without_values(url);
    if error.is_connect() {
        let reason = if failure == ConnectFailure::Refused {
            format!("dial tcp {}: connect: connection refused", authority(&url))
        } else {
            reason(cause)
        };
        return SideError::Connect {
            failure,
            method,
            url,
            reason,
        };
    }
    SideError::Broken {
        method,
        url,
        reason: cause.to_string(),
    }
}

fn connect_failure(cause: &(dyn std::error::Error + 'static)) -> ConnectFailure {
    if innermost(cause).is::<rustls::Error>() {
        return ConnectFailure::Tls;
    }
    match cause.downcast_ref().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => ConnectFailure::Refused,
        Some(std::io::ErrorKind::TimedOut) => ConnectFailure::Timeout(Wait::Connect),
        _ => ConnectFailure::Other,
    }
}

/// The text of our own verifier already uses KrakenD's words.
fn reason(cause: &(dyn std::error::Error + 'static)) -> String {
    match innermost(cause).downcast_ref::<rustls::Error>() {
        Some(rustls::Error::General(text)) => text.clone(),
        Some(rustls::Error::InvalidCertificate(why)) => {
            let why = why.to_string();
            format!(
                "invalid peer certificate: {}",
                handshake_signature::words(&why)
            )
        }
        _ => cause.to_string(),
    }
}

/// The error inside of those of the operating system.
fn innermost<'e>(
    cause: &'e (dyn std::error::Error + 'static),
) -> &'e (dyn std::error::Error + 'static) {
    let mut inner = cause;
    while let Some(wrapped) = inner
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref)
    {
        inner = wrapped;
    }
    inner
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}
