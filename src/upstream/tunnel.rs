//! A connection through a proxy: `CONNECT` (RFC 9110 §9.3.6) or SOCKS 5 (RFC 1928, RFC 1929).

use std::fmt;
use std::io;
use std::net::SocketAddr as InetAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::l4::Connect;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::{Error, ErrorType};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::error::late;
use super::proxy::{ProxyScheme, ProxyUrl};
use crate::telemetry::observe::Wait;

/// The maximum size of the head of a response to `CONNECT`.
const MAX_HEAD: usize = 16 << 10;
/// How long one direction of a tunnel over TLS stays open after the other.
const LINGER: Duration = Duration::from_secs(5);

/// How to reach one host through a proxy. TLS and HTTP are then spoken with the host itself.
pub(super) struct Tunnel {
    pub(super) proxy: ProxyUrl,
    /// A name or an address literal, without brackets.
    pub(super) name: Box<str>,
    pub(super) port: u16,
    /// Applies to the connection and the proxy's response together.
    pub(super) timeout: Option<Duration>,
    /// For a proxy that is itself called over TLS: as for a backend, like in Go.
    pub(super) tls: Arc<ClientConfig>,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Tunnel");
        shown.field("proxy", &self.proxy);
        shown.field("name", &self.name).field("port", &self.port);
        shown.finish_non_exhaustive()
    }
}

#[async_trait]
impl Connect for Tunnel {
    async fn connect(&self, address: &SocketAddr) -> pingora_core::Result<Stream> {
        let SocketAddr::Inet(address) = address else {
            return Error::e_explain(ErrorType::InternalError, "a proxy has an IP address");
        };
        let opening = self.open(*address);
        match self.timeout {
            None => opening.await,
            Some(limit) => match Wait::limited(limit, opening).await {
                Ok(opened) => opened,
                Err(wait) => Error::e_explain(late(wait), "proxy"),
            },
        }
    }
}

impl Tunnel {
    async fn open(&self, address: InetAddr) -> pingora_core::Result<Stream> {
        let connected = TcpStream::connect(address).await;
        let mut stream = connected.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    ErrorType::ConnectNoRoute
                }
                io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, "proxy", error)
        })?;
        let opening = async {
            match self.proxy.scheme {
                ProxyScheme::Socks5 => self.socks(&mut stream).await.map(|()| stream.into()),
                ProxyScheme::Http => self.ask(&mut stream).await.map(|()| stream.into()),
                ProxyScheme::Https => self.open_tls(stream).await.map(Stream::from),
            }
        };
        let opened = Wait::Proxy.during(opening).await;
        // This text appears in the log. It contains the proxy's words, never ours.
        opened.map_err(|error| Error::because(ErrorType::ConnectProxyFailure, "proxy", error))
    }

    /// Opens a tunnel through a proxy that is called over TLS. Pingora adds a second layer of TLS only to a socket, so
    /// the data passes a pair of sockets.
    async fn open_tls(&self, stream: TcpStream) -> io::Result<UnixStream> {
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.proxy.name.to_string()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let mut proxy = connector.connect(name, stream).await?;
        self.ask(&mut proxy).await?;
        let (ours, theirs) = UnixStream::pair()?;
        tokio::spawn(pass(theirs, proxy));
        Ok(ours)
    }

    /// `host:port`, with brackets around an IPv6 literal.
    fn authority(&self) -> String {
        if self.name.contains(':') {
            format!("[{}]:{}", self.name, self.port)
        } else {
            format!("{}:{}", self.name, self.port)
        }
    }

    async fn ask(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
        let authority = self.authority();
        let mut head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some(authorization) = self.proxy.authorization() {
            head.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await?;
        let response = head_of(stream).await?;
        let line = response
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        verdict(&String::from_utf8_lossy(line))
    }

    async fn socks(&self, stream: &mut TcpStream) -> io::Result<()> {
        let methods: &[u8] = match self.proxy.user {
            Some(_) => &[5, 2, 0, 2],
            None => &[5, 1, 0],
        };
        stream.write_all(methods).await?;
        let mut chosen = [0; 2];
        stream.read_exact(&mut chosen).await?;
        match (chosen, &self.proxy.user) {
            ([5, 0], _) => {}
            ([5, 2], Some((user, password))) => log_in(stream, user, password).await?,
            _ => {
                return Err(io::Error::other(
                    "socks: no acceptable authentication methods",
                ));
            }
        }
        let mut request = vec![5, 1, 0, 3];
        append(&mut request, self.name.as_bytes())?;
        request.extend(self.port.to_be_bytes());
        stream.write_all(&request).await?;
        let mut response = [0; 4];
        stream.read_exact(&mut response).await?;
        if response[1] != 0 {
            return Err(io::Error::other(format!(
                "socks: refused with code {}",
                response[1]
            )));
        }
        let bound = match response[3] {
            1 => 4,
            4 => 16,
            _ => usize::from(stream.read_u8().await?),
        };
        let mut rest = vec![0; bound + 2];
        stream.read_exact(&mut rest).await?;
        Ok(())
    }
}

/// Authenticates with user and password (RFC 1929).
async fn log_in(stream: &mut TcpStream, user: &str, password: &str) -> io::Result<()> {
    let mut request = vec![1];
    append(&mut request, user.as_bytes())?;
    append(&mut request, password.as_bytes())?;
    stream.write_all(&request).await?;
    let mut response = [0; 2];
    stream.read_exact(&mut response).await?;
    match response[1] {
        0 => Ok(()),
        _ => Err(io::Error::other(
            "socks: username/password authentication failed",
        )),
    }
}

/// Appends a text with its length in one byte before it.
fn append(request: &mut Vec<u8>, text: &[u8]) -> io::Result<()> {
    let length = u8::try_from(text.len())
        .map_err(|_| io::Error::other("socks: a name, user or password is too long"))?;
    request.push(length);
    request.extend(text);
    Ok(())
}

/// Reads exactly up to the blank line: what follows comes from the host behind the proxy.
async fn head_of(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > MAX_HEAD {
            return Err(io::Error::other("the head of its response is too long"));
        }
        // Byte by byte, because TLS cannot be asked what it holds. It is a short text, once for each connection.
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

/// Copies in both directions until one ends.
async fn pass(ours: UnixStream, proxy: impl AsyncRead + AsyncWrite) {
    let (mut from_us, mut to_us) = split(ours);
    let (mut from_proxy, mut to_proxy) = split(proxy);
    let up = async {
        let _ = copy(&mut from_us, &mut to_proxy).await;
        let _ = to_proxy.shutdown().await;
    };
    let down = async {
        let _ = copy(&mut from_proxy, &mut to_us).await;
        let _ = to_us.shutdown().await;
    };
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    let _ = tokio::select! {
        () = &mut up => tokio::time::timeout(LINGER, down).await,
        () = &mut down => tokio::time::timeout(LINGER, up).await,
    };
}

/// A 2xx opens the tunnel. Any other status is reported as in KrakenD: without the HTTP version.
fn verdict(line: &str) -> io::Result<()> {
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split_once(' '));
    match status {
        Some((_, status)) if status.starts_with('2') => Ok(()),
        Some((_, status)) => {
            let shown: String = status
                .chars()
                .filter(|c| !c.is_control())
                .take(80)
                .collect();
            Err(io::Error::other(shown))
        }
        None => Err(io::Error::other("malformed HTTP response")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_2xx_opens_a_tunnel() {
        assert!(verdict("HTTP/1.1 200 Connection established").is_ok());
        assert!(verdict("HTTP/1.0 200").is_ok());
        let rejected = verdict("HTTP/1.1 407 Proxy Authentication Required").unwrap_err();
        assert_eq!(rejected.to_string(), "407 Proxy Authentication Required");
        assert!(verdict("SSH-2.0-x").is_err());
    }

    #[tokio::test]
    async fn bytes_after_the_response_of_a_proxy_stay_unread() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (mut proxy, _) = listener.accept().await.unwrap();
        let sending = tokio::spawn(async move {
            for piece in ["HTTP/1.1 200 OK\r", "\nA: b\r\n\r", "\nrest"] {
                proxy.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            proxy
        });
        let head = head_of(&mut stream).await.unwrap();
        assert_eq!(head, b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n");
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"rest");
        drop(sending.await.unwrap());
    }
}
