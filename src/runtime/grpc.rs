//! gRPC clients evaluate `grpc-status`, whatever the HTTP status is, so rejections are translated for them.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::runtime::response::Response;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a message is gRPC: `application/grpc`, alone or with `+proto` or the like. gRPC-Web is treated as plain
/// HTTP.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    const NAME: &[u8] = b"application/grpc";
    let Some(value) = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) else {
        return false;
    };
    value
        .split_at_checked(NAME.len())
        .is_some_and(|(name, rest)| {
            name.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';'))
        })
}

/// The same rejection for gRPC: HTTP 200, with its status as the only trailer (a "Trailers-Only" response).
pub(crate) fn rejection(mut response: Response) -> Response {
    let (code, message) = status(response.status);
    response.fields.retain(|(name, _)| *name != CONTENT_TYPE);
    response.body = Bytes::new();
    response.status = StatusCode::OK;
    response
        .with(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .with(GRPC_STATUS, HeaderValue::from_static(code))
        .with(GRPC_MESSAGE, HeaderValue::from_static(message))
}

/// Code and message of a rejection. Where gRPC's own table for proxies (its `http-grpc-status-mapping`) leaves a
/// choice, the code describes what happened: a rate limit is `RESOURCE_EXHAUSTED` and not another `UNAVAILABLE`,
/// which would be retried immediately.
fn status(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        400 | 500 => ("13", "the gateway failed"),
        401 => ("16", "no valid credentials"),
        403 => ("7", "not permitted"),
        404 | 405 => ("12", "no such method here"),
        408 | 504 => ("4", "too late"),
        413 | 429 => ("8", "too much"),
        502 | 503 => ("14", "unavailable"),
        _ => ("2", "refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_distinguished_from_similar_types() {
        let is = |value| {
            is_grpc(&HeaderMap::from_iter([(
                CONTENT_TYPE,
                HeaderValue::from_static(value),
            )]))
        };
        for value in [
            "application/grpc",
            "application/grpc+proto",
            "Application/gRPC;x=1",
        ] {
            assert!(is(value), "{value}");
        }
        for value in [
            "application/grpc-web",
            "application/json",
            "application/grp",
        ] {
            assert!(!is(value), "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_rejection_keeps_its_headers_and_loses_its_body() {
        let mut response = Response::empty(StatusCode::UNAUTHORIZED).with(
            http::header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer"),
        );
        response.body = Bytes::from_static(b"{}");
        let told = rejection(response);
        assert_eq!((told.status, told.body.len()), (StatusCode::OK, 0));
        let value = |name: &HeaderName| {
            let found = told.fields.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| value.to_str().unwrap())
        };
        assert_eq!(value(&GRPC_STATUS), Some("16"));
        assert_eq!(value(&http::header::WWW_AUTHENTICATE), Some("Bearer"));
    }
}
