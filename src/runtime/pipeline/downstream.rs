//! The client's side of a request, as far as the pipeline needs it.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Version};

use crate::runtime::failure::Failure;
use crate::runtime::request::Head;
use crate::upstream::Source;

/// The client's side of one request: the server implements it for its sessions, tests for memory.
///
/// As a [`Source`] it reads the request's body piece by piece, and once that is complete it only ends when the client
/// closes its connection.
pub trait Downstream: Source<Error = Failure> {
    /// The request's head; `None` when its target is not text, which no route matches.
    fn head(&self) -> Option<Head<'_>>;

    /// The version of HTTP that the client speaks.
    fn version(&self) -> Version;

    /// Whether the request has no body.
    fn has_no_body(&mut self) -> bool;

    /// Reads the whole body.
    ///
    /// # Errors
    /// A body above `most` bytes is refused before it is buffered, by its announced length where it has one.
    fn read_whole(&mut self, most: u64) -> impl Future<Output = Result<Bytes, Failure>> + Send;

    /// Whether the head of a final response has been written.
    fn has_head(&self) -> bool;

    /// Writes the head of the response, which may be all of it (`alone`).
    fn write_head(
        &mut self,
        head: Parts,
        alone: bool,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Writes a piece of the body, which may be the last one (`end`).
    fn write(
        &mut self,
        piece: Bytes,
        end: bool,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Whether [`Downstream::write_slice`] can be used.
    fn borrows(&self) -> bool;

    /// Writes a piece of the body without a copy. The end is written with [`Downstream::end`].
    fn write_slice(&mut self, piece: &[u8]) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Ends the body.
    fn end(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Ends the body with trailers, which HTTP/2 alone has.
    fn write_trailers(
        &mut self,
        trailers: HeaderMap,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Does `work` as long as the client is there. `work` is borrowed: a future handed over would be kept twice, once as
/// the argument and once as the part that runs.
///
/// # Errors
/// The client has closed its connection, or what it sends is not a body.
pub(super) async fn watched<D: Downstream, T>(
    client: &mut D,
    work: Pin<&mut impl Future<Output = Result<T, Failure>>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        result = work => result,
        left = left(client) => Err(left),
    }
}

/// Ends when the client leaves. What it still sends of its body is thrown away.
async fn left<D: Downstream>(client: &mut D) -> Failure {
    loop {
        if let Err(failure) = client.next().await {
            return failure;
        }
    }
}
