//! Reports an exchange to traces and series.

use std::time::Duration;

use http::HeaderValue;
use pingora_core::protocols::{Digest, TimingDigest};
use pingora_http::RequestHeader;

use super::stream::{Exchange, RequestBody};
use crate::telemetry::observe::{RoundTrip, Unseen};
use crate::telemetry::trace::context::Outbound;
use crate::upstream::error::CallError;
use crate::upstream::head_writer::{content_length, user_agent};
use crate::upstream::session::Session;

/// The trace context for the host. `None` if it gets none.
pub(crate) fn context<'t>(
    trip: &'t Option<Box<RoundTrip>>,
    unseen: &'t Option<Unseen>,
) -> Option<Outbound<'t>> {
    match (trip, unseen) {
        (Some(trip), _) => trip.context(),
        (None, Some(unseen)) => Some(unseen.context()),
        (None, None) => None,
    }
}

/// Writes the context of the trace into the head of a request, in place of what a client sent. `h1`: names are in title
/// case.
pub(crate) fn write_context(context: &Outbound<'_>, header: &mut RequestHeader, h1: bool) {
    context.each(|name, titled, value| {
        // A value of ours can always be written.
        let value = value.and_then(|value| HeaderValue::from_bytes(value).ok());
        let _ = match value {
            Some(value) if h1 => header.insert_header(titled, value),
            Some(value) => header.insert_header(name, value),
            None => {
                header.remove_header(&name);
                Ok(())
            }
        };
    });
}

/// The duration of the TLS handshake of a connection.
pub(crate) fn handshake(digest: &Digest) -> Option<Duration> {
    of_tls(&digest.timing_digest)
}

/// The times of a connection begin with TCP. The layer above it is TLS.
fn of_tls(layers: &[Option<TimingDigest>]) -> Option<Duration> {
    layers.get(1)?.as_ref()?.establishment_duration
}

impl Exchange<'_> {
    /// Records the connection.
    pub(super) fn observe_connection(&mut self) {
        let Some(mut trip) = self.trip.take() else {
            return;
        };
        let http2 = self.is_http2();
        let handshake = (!self.reused).then(|| self.handshake().unwrap_or_default());
        trip.connected(handshake, http2);
        self.trip = Some(trip);
    }

    /// The duration of the TLS handshake on this connection.
    fn handshake(&self) -> Option<Duration> {
        match &self.session {
            Some(Session::FastPath(session)) => of_tls(&session.times()),
            Some(Session::Pingora(session)) => handshake(session.digest()?),
            None => None,
        }
    }

    /// Adds the trace context to the head, in place of the client's.
    pub(super) fn observe_head(&mut self, header: &mut RequestHeader, h1: bool) {
        self.observe_request();
        if let Some(trip) = &mut self.trip {
            trip.sends_headers(&header.headers);
        }
        if let Some(context) = context(&self.trip, &self.unseen) {
            write_context(&context, header, h1);
        }
    }

    /// Records the length of the body, and the user agent.
    pub(super) fn observe_request(&mut self) {
        let Some(trip) = &mut self.trip else {
            return;
        };
        trip.sends_agent(|| user_agent(&self.head.headers));
        if let RequestBody::Length(length) = self.body {
            trip.sends(length);
        }
    }

    /// Records the head of the response.
    pub(super) fn observe_response(&mut self) {
        let Some(mut trip) = self.trip.take() else {
            return;
        };
        if let Some((status, headers)) = self.header() {
            trip.answered(status.as_u16(), headers, || content_length(headers));
        }
        self.trip = Some(trip);
    }

    /// Returns the result unchanged. An error is recorded as the reason why there is no response.
    pub(super) fn observe<T>(&mut self, result: Result<T, CallError>) -> Result<T, CallError> {
        if let (Err(error), Some(trip)) = (&result, &mut self.trip) {
            trip.failed(error.observed());
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use http::{HeaderMap, Method};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::telemetry::observe::{
        Call, EndpointFacts, Observer, Outcome, Request, RequestStart, Settings, within,
    };
    use crate::upstream::client::{self, Client};
    use crate::upstream::dns::DnsTable;
    use crate::upstream::hosts::HostSet;
    use crate::upstream::message::Outgoing;

    /// A call as part of a request without a trace, which the access log shows or nothing does.
    async fn observed<T>(is_logged: bool, work: impl AsyncFnOnce(Arc<Client>) -> T) -> T {
        let settings = Settings {
            writes: true,
            ..Settings::default()
        };
        let observer = Arc::new(Observer::new(settings, None, Box::default(), None));
        let endpoint = Arc::new(observer.endpoint(EndpointFacts {
            pattern: &"/a".into(),
            method: &Method::GET,
            proxy: None,
            metric_attributes: Vec::new(),
            trace_attributes: Vec::new(),
        }));
        let backend = observer.backend(&endpoint, "/b", &Method::GET, None, (false, false));
        let start = RequestStart {
            path: "/a",
            headers: &HeaderMap::new(),
            by_trusted_proxy: false,
            is_logged,
            at: Instant::now(),
        };
        let request = Request::begin(&observer, &start);
        let call = Call::of(&Arc::new(backend), Arc::clone(&request), Instant::now());
        let dns = DnsTable::with_resolver(None);
        let client = Client::new(client::Settings::default(), Arc::new(dns)).unwrap();
        let done = within(&request, call.run(work(client))).await;
        call.end(Outcome::Answered(true));
        done
    }

    /// An upstream that responds to each request on one connection, and returns the heads that it got.
    async fn upstream(listener: TcpListener, requests: usize) -> String {
        let mut peer = listener.accept().await.unwrap().0;
        let mut read = Vec::new();
        for request in 1..=requests {
            while read.windows(4).filter(|end| end == b"\r\n\r\n").count() < request {
                assert!(peer.read_buf(&mut read).await.unwrap() > 0);
            }
            peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                .await
                .unwrap();
        }
        String::from_utf8(read).unwrap()
    }

    #[tokio::test]
    async fn an_observed_call_takes_the_fast_path() {
        takes_the_fast_path(true).await;
    }

    #[tokio::test]
    async fn a_call_that_nothing_shows_passes_the_trace_on() {
        takes_the_fast_path(false).await;
    }

    async fn takes_the_fast_path(is_logged: bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(upstream(listener, 2));
        observed(is_logged, async |client| {
            let set = HostSet::fixed(&client, &[&origin]);
            for _ in 0..2 {
                let head = Outgoing {
                    target: "/b".into(),
                    ..Outgoing::default()
                };
                let mut exchange = set.open(head, RequestBody::Empty).await.unwrap();
                exchange.read_header().await.unwrap();
                assert_eq!(exchange.trip.is_some(), is_logged);
                assert!(matches!(exchange.session, Some(Session::FastPath(_))));
                assert_eq!(exchange.read_body().await.unwrap().unwrap(), "{}");
                assert_eq!(exchange.read_body().await.unwrap(), None);
                exchange.release().await;
            }
        })
        .await;
        let heads = served.await.unwrap();
        assert_eq!(heads.matches("\r\nTraceparent: 00-").count(), 2, "{heads}");
        assert_eq!(heads.matches("-00\r\n").count(), 2, "{heads}");
    }
}
