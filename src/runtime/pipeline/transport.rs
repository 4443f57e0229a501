//! Sends calls to backends.

use std::future::Future;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::runtime::failure::{Failure, Kind};
use crate::upstream::{
    Call, CallError, CallErrorKind, CallOptions, Exchange, HostSet, Incoming, Piece, Source,
    Unwatched,
};

/// Sends calls to backends. The tests of the pipeline use another implementation than [`Upstream`].
pub trait Transport: Clone + Send + Sync + 'static {
    type Response<'a>: OpenResponse;

    /// Makes one call and waits for the head of its response. There is no deadline: to stop waiting, drop the future.
    fn send<'a, S: Source<Error = Failure>>(
        &self,
        hosts: &'a HostSet,
        call: Call,
        options: &CallOptions,
        source: &mut S,
    ) -> impl Future<Output = Result<Self::Response<'a>, Failure>> + Send;

    /// Makes one call and waits for the whole response.
    fn call(
        &self,
        hosts: &HostSet,
        call: Call,
        options: &CallOptions,
    ) -> impl Future<Output = Result<Incoming, Failure>> + Send {
        async move {
            let mut nobody = Unwatched::<Failure>::default();
            let response = self.send(hosts, call, options, &mut nobody).await?;
            Ok(response.collect(options).await?)
        }
    }
}

/// A response whose head has arrived. Reads may be cancelled and repeated.
pub trait OpenResponse: Send {
    /// Its status and header fields.
    fn head(&self) -> Option<(StatusCode, &HeaderMap)>;

    /// Its status and headers, for a caller that does not need the headers again: they may be empty afterwards.
    fn take_head(&mut self) -> Option<(StatusCode, HeaderMap)> {
        let (status, headers) = self.head()?;
        Some((status, headers.clone()))
    }

    /// Whether the method of the call is HEAD, whose response has no body whatever its headers are.
    fn asked_by_head(&self) -> bool;

    /// Whether it is complete, so that no further read is needed.
    fn is_done(&mut self) -> bool;

    /// The next piece of the body. `None` after the last one.
    fn read(&mut self) -> impl Future<Output = Result<Option<Bytes>, CallError>> + Send;

    /// Whether [`OpenResponse::read_slice`] can be used.
    fn lends(&self) -> bool;

    /// Whether [`OpenResponse::read`] makes copies of what is lent.
    fn copies(&self) -> bool;

    /// The next piece of the body without a copy. An empty piece is not the end.
    fn read_slice(&mut self) -> impl Future<Output = Result<Option<&[u8]>, CallError>> + Send;

    /// The trailers that followed the body.
    fn trailers(&mut self) -> impl Future<Output = Result<Option<HeaderMap>, CallError>> + Send;

    /// Forwards a piece of the client's body, as long as [`OpenResponse::is_uploading`] is true.
    fn forward(&mut self, piece: Piece) -> impl Future<Output = ()> + Send;

    /// Whether the upstream still reads the client's body.
    fn is_uploading(&self) -> bool;

    /// Whether the upstream has not yet taken the last piece. Reading the response continues to send it.
    fn is_backed_up(&self) -> bool;

    /// Records that the upstream fell silent within the response.
    fn has_stalled(&mut self);

    /// Returns the connection to the pool.
    fn release(&mut self) -> impl Future<Output = ()> + Send;

    /// Reads it to its end.
    fn collect(
        self,
        options: &CallOptions,
    ) -> impl Future<Output = Result<Incoming, CallError>> + Send;
}

/// The upstream client.
#[derive(Debug, Clone, Copy, Default)]
pub struct Upstream;

impl Transport for Upstream {
    type Response<'a> = Box<Exchange<'a>>;

    fn send<'a, S: Source<Error = Failure>>(
        &self,
        hosts: &'a HostSet,
        call: Call,
        options: &CallOptions,
        source: &mut S,
    ) -> impl Future<Output = Result<Box<Exchange<'a>>, Failure>> + Send {
        hosts.send(call, options, source)
    }
}

impl OpenResponse for Box<Exchange<'_>> {
    fn head(&self) -> Option<(StatusCode, &HeaderMap)> {
        (**self).header()
    }

    fn take_head(&mut self) -> Option<(StatusCode, HeaderMap)> {
        (**self).take_header()
    }

    fn asked_by_head(&self) -> bool {
        (**self).asked_by_head()
    }

    fn is_done(&mut self) -> bool {
        (**self).is_done()
    }

    fn read(&mut self) -> impl Future<Output = Result<Option<Bytes>, CallError>> + Send {
        (**self).read_body()
    }

    fn lends(&self) -> bool {
        (**self).lends()
    }

    fn copies(&self) -> bool {
        (**self).copies()
    }

    fn read_slice(&mut self) -> impl Future<Output = Result<Option<&[u8]>, CallError>> + Send {
        (**self).read_slice()
    }

    fn trailers(&mut self) -> impl Future<Output = Result<Option<HeaderMap>, CallError>> + Send {
        (**self).trailers()
    }

    fn forward(&mut self, piece: Piece) -> impl Future<Output = ()> + Send {
        (**self).forward(piece)
    }

    fn is_uploading(&self) -> bool {
        (**self).is_uploading()
    }

    fn is_backed_up(&self) -> bool {
        (**self).is_backed_up()
    }

    fn has_stalled(&mut self) {
        (**self).has_broken_off();
    }

    fn release(&mut self) -> impl Future<Output = ()> + Send {
        (**self).release()
    }

    fn collect(
        self,
        options: &CallOptions,
    ) -> impl Future<Output = Result<Incoming, CallError>> + Send {
        Exchange::collect(self, options)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        let kind = match error.kind {
            CallErrorKind::NoHosts => Kind::NoHosts,
            CallErrorKind::Connect(failure) => Kind::Connect(failure),
            CallErrorKind::Broken | CallErrorKind::Redirects => Kind::Broken,
            CallErrorKind::TooLarge => Kind::TooLarge,
            CallErrorKind::Full => return Failure::full(),
            CallErrorKind::Late(wait) => Kind::Late(wait),
            CallErrorKind::Request => Kind::Request,
        };
        Failure::new(kind, error.to_string())
    }
}
