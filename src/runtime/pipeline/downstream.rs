//! The client side of a request, as the pipeline uses it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Version};
use tokio::time::timeout;

use crate::runtime::failure::Failure;
use crate::runtime::request::Head;
use crate::upstream::Source;

/// How long [`has_disconnected`] waits. The runtime learns of a closed connection from the system, perhaps on another thread, so a
/// single check could come before that.
const LOOK: Duration = Duration::from_millis(1);

/// The client side of one request. The server implements it for its sessions, tests implement it in memory.
///
/// As a [`Source`] it reads the body of the request piece by piece. After the body it ends only when the client closes
/// its connection.
pub(crate) trait Downstream: Source<Error = Failure> {
    /// The head of the request. `None` if its target is not text; no route matches such a target.
    fn head(&self) -> Option<Head<'_>>;

    /// The HTTP version of the client.
    fn version(&self) -> Version;

    /// Whether the request has no body.
    fn has_no_body(&mut self) -> bool;

    /// Reads the whole body.
    ///
    /// # Errors
    /// A body of more than `most` bytes is rejected before it is buffered, if it announces its length.
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

    /// Whether [`Downstream::write_slice`] has to make copies, which is done for small parts, one after the other.
    fn copies(&self) -> bool;

    /// Writes a piece of the body without a copy of the whole. The end is written with [`Downstream::end`].
    fn write_slice(&mut self, piece: &[u8]) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Ends the body.
    fn end(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Ends the body with trailers, which only HTTP/2 has.
    fn write_trailers(
        &mut self,
        trailers: HeaderMap,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Runs `work` as long as the client is connected. `work` is borrowed: a future that is passed by value would be stored
/// twice, as the argument and as the part that runs.
///
/// # Errors
/// The client closed its connection, or sent something that is not a body.
pub(super) async fn watched<D: Downstream, T>(
    client: &mut D,
    work: Pin<&mut impl Future<Output = Result<T, Failure>>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        result = work => result,
        failure = disconnected(client) => Err(failure),
    }
}

/// The failure, if the client has closed its connection by now.
pub(super) async fn has_disconnected<D: Downstream>(client: &mut D) -> Option<Failure> {
    timeout(LOOK, disconnected(client)).await.ok()
}

/// Resolves when the client closes its connection. The rest of its body is discarded.
async fn disconnected<D: Downstream>(client: &mut D) -> Failure {
    loop {
        if let Err(failure) = client.next().await {
            return failure;
        }
    }
}
