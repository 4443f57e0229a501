//! The stream to a broker, with or without TLS.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::telemetry::sanitize::printable;
use crate::upstream::race::{self, Turn};

/// A TCP connection, with or without TLS.
pub(in crate::ext) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(in crate::ext) type Stream = Box<dyn Duplex>;

/// Connects to `host`, without the brackets of an IPv6 address. `turn` says with which of its addresses it begins.
///
/// # Errors
/// There is no connection. The text says why.
pub(in crate::ext) async fn dial(host: &str, port: u16, turn: &Turn) -> Result<Stream, String> {
    let stream = race::connect(host, port, turn).await;
    let stream = stream.map_err(|error| failed(&error))?;
    let _ = stream.set_nodelay(true);
    Ok(Box::new(stream))
}

/// Begins TLS with the server of this name.
///
/// # Errors
/// The certificate is not accepted, or the server does not speak TLS. The text says why.
pub(in crate::ext) async fn secured(
    stream: Stream,
    name: &str,
    tls: Arc<ClientConfig>,
) -> Result<Stream, String> {
    let name = ServerName::try_from(name.to_owned());
    let name = name.map_err(|_| "the host is no name of a certificate".to_owned())?;
    let stream = TlsConnector::from(tls).connect(name, stream).await;
    Ok(Box::new(stream.map_err(|error| failed(&error))?))
}

/// What was read from a stream and not used yet.
pub(in crate::ext) struct Input<S> {
    stream: S,
    pub(in crate::ext) buffer: BytesMut,
}

impl<S> Input<S> {
    pub(in crate::ext) fn new(stream: S) -> Input<S> {
        Input {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The stream, for writing.
    pub(in crate::ext) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The stream, without what was read.
    #[cfg(feature = "nats")]
    pub(in crate::ext) fn into_stream(self) -> S {
        self.stream
    }

    /// Divides the stream into a half that is read and one that is written.
    pub(in crate::ext) fn split<R, W>(self, divide: impl FnOnce(S) -> (R, W)) -> (Input<R>, W) {
        let (stream, write) = divide(self.stream);
        let buffer = self.buffer;
        (Input { stream, buffer }, write)
    }
}

impl<S: AsyncRead + Unpin> Input<S> {
    /// Reads once, with space for at least this many bytes. If the caller stops waiting, nothing is lost.
    ///
    /// # Errors
    /// The connection is closed. The text names the `peer`.
    pub(in crate::ext) async fn read(&mut self, space: usize, peer: &str) -> Result<(), String> {
        self.buffer.reserve(space);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(format!("{peer} closed the connection")),
            Ok(_) => Ok(()),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// The text of an I/O error.
pub(in crate::ext) fn failed(error: &io::Error) -> String {
    printable(&error.to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::race::tests::full_and_listener;

    #[tokio::test]
    async fn an_address_that_drops_packets_does_not_hide_the_next_one() {
        let (name, _full, second) = full_and_listener();
        let port = second.local_addr().unwrap().port();
        let turn = Turn::default();
        let dialled = tokio::time::timeout(Duration::from_secs(20), dial(name, port, &turn)).await;
        assert!(dialled.expect("no connection in time").is_ok());
        second.accept().unwrap();
    }
}
