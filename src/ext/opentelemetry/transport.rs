//! Sends OTLP to a collector: HTTP with protobuf, or gRPC.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::future::BoxFuture;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use crate::telemetry::mask::KnownSecrets;
use crate::telemetry::otlp::{Sent, Signal, Transport, retry_delay};
use crate::upstream::{GrpcClient, GrpcResponse, SideClient, SideError, SideResponse, retry_after};

/// The common parts of all requests to one collector.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) headers: HeaderMap,
    pub(super) gzip: bool,
    pub(super) timeout: Duration,
}

/// Over HTTP/1.1.
#[derive(Debug)]
pub(super) struct OverHttp {
    pub(super) client: SideClient,
    /// The addresses for traces and for metrics.
    pub(super) urls: [String; 2],
    pub(super) common: Common,
}

/// Over gRPC.
#[derive(Debug)]
pub(super) struct OverGrpc {
    pub(super) client: GrpcClient,
    pub(super) common: Common,
}

impl Transport for OverHttp {
    fn send(&self, signal: Signal, body: Bytes) -> BoxFuture<'_, Sent> {
        Box::pin(async move {
            let mut headers = self.common.headers.clone();
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-protobuf"),
            );
            let mut body = body;
            if self.common.gzip {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                body = gzip(&body).into();
            }
            let [traces, metrics] = &self.urls;
            let url = match signal {
                Signal::Traces => traces,
                Signal::Metrics => metrics,
            };
            let call = self
                .client
                .call(Method::POST, url, headers, body, self.common.timeout);
            match call.await {
                Ok(response) => of_http(&response),
                // The collector has the request: another one would be a duplicate.
                Err(error @ SideError::Size { .. }) => Sent::Rejected {
                    reason: error.to_string(),
                },
                Err(error) => Sent::Again {
                    after: None,
                    reason: error.to_string(),
                },
            }
        })
    }
}

/// OTLP/HTTP, "Failures": which requests may be sent again.
fn of_http(response: &SideResponse) -> Sent {
    let reason = format!("status {}", response.status.as_u16());
    match response.status {
        status if status.is_success() => Sent::Taken {
            response: response.body.clone(),
        },
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Sent::Again {
            after: retry_after(&response.headers),
            reason,
        },
        _ => Sent::Rejected { reason },
    }
}

impl Transport for OverGrpc {
    fn send(&self, signal: Signal, body: Bytes) -> BoxFuture<'_, Sent> {
        Box::pin(async move {
            let path = match signal {
                Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                Signal::Metrics => {
                    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
                }
            };
            let common = &self.common;
            let packed = common.gzip.then(|| gzip(&body));
            let message = packed.as_deref().unwrap_or(&body);
            let call =
                self.client
                    .call(path, &common.headers, message, common.gzip, common.timeout);
            match call.await {
                Ok(response) => of_grpc(response, &common.headers),
                Err(reason) => Sent::Again {
                    after: None,
                    reason,
                },
            }
        })
    }
}

/// OTLP/gRPC, "Failures": CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS, and
/// RESOURCE_EXHAUSTED if the server says when.
fn of_grpc(response: GrpcResponse, headers: &HeaderMap) -> Sent {
    let after = response
        .again_after
        .or_else(|| retry_delay(&response.details));
    let reason = || {
        // The collector got them, and may quote them.
        let mut known = KnownSecrets::default();
        for value in headers.values().filter_map(|value| value.to_str().ok()) {
            // Without a scheme such as `Bearer`.
            known.add(value.rsplit(' ').next().unwrap_or_default());
        }
        let message = known.shown_or_note(&response.message);
        format!("gRPC status {}: {message}", response.status)
    };
    match response.status {
        0 => Sent::Taken {
            response: response.body,
        },
        1 | 4 | 10 | 11 | 14 | 15 => Sent::Again {
            after,
            reason: reason(),
        },
        8 if after.is_some() => Sent::Again {
            after,
            reason: reason(),
        },
        _ => Sent::Rejected { reason: reason() },
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;
    use http::header::RETRY_AFTER;

    use super::*;

    fn http(status: u16) -> Sent {
        of_http(&SideResponse {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]),
            body: Bytes::new(),
        })
    }

    #[test]
    fn requests_are_sent_again_according_to_the_protocol() {
        assert!(matches!(http(200), Sent::Taken { .. }));
        for status in [429, 502, 503, 504] {
            let Sent::Again { after, .. } = http(status) else {
                panic!("{status}")
            };
            assert_eq!(after, Some(Duration::from_secs(7)));
        }
        for status in [400, 401, 404, 413, 500, 501] {
            assert!(matches!(http(status), Sent::Rejected { .. }), "{status}");
        }
    }

    #[test]
    fn a_full_server_is_called_again_only_if_it_says_when() {
        let grpc = |status, again_after| {
            let response = GrpcResponse {
                status,
                message: "no room for k3y-of-the-collector".to_owned(),
                again_after,
                details: Vec::new(),
                body: Bytes::new(),
            };
            let key = HeaderValue::from_static("Bearer k3y-of-the-collector");
            of_grpc(response, &HeaderMap::from_iter([(AUTHORIZATION, key)]))
        };
        assert!(matches!(grpc(0, None), Sent::Taken { .. }));
        assert!(matches!(grpc(14, None), Sent::Again { .. }));
        assert!(matches!(grpc(8, None), Sent::Rejected { .. }));
        let soon = Some(Duration::from_secs(1));
        assert!(matches!(grpc(8, soon), Sent::Again { .. }));
        let Sent::Rejected { reason } = grpc(16, None) else {
            panic!("not rejected")
        };
        assert!(reason.contains("is not shown"), "{reason}");
    }
}
