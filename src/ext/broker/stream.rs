//! The stream to a broker, with or without TLS.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::telemetry::sanitize::printable;

/// A TCP connection, with or without TLS.
pub(in crate::ext) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(in crate::ext) type Stream = Box<dyn Duplex>;

/// Connects to `host`, without the brackets of an IPv6 address.
///
/// # Errors
/// There is no connection. The text says why.
pub(in crate::ext) async fn dial(host: &str, port: u16) -> Result<Stream, String> {
    let stream = TcpStream::connect((host, port)).await;
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

/// The text of an I/O error.
pub(in crate::ext) fn failed(error: &io::Error) -> String {
    printable(&error.to_string()).into_owned()
}
