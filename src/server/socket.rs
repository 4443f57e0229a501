//! A client's TCP connection as a Pingora stream.
//!
//! Pingora's own stream can be created from a socket, but not with custom buffers: it would use 64 KiB for each
//! connection, even if idle.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::TcpStream;

use crate::server::write_buffer::WriteBuffer;

/// TLS reads a record in small pieces.
const TLS_READ_BUFFER: usize = 4 * 1024;

/// A client's connection for HTTP in plain text. Heads and bodies are read into separate buffers.
pub(super) fn plain(tcp: TcpStream, peer: SocketAddr) -> Stream {
    let fd = tcp.as_raw_fd();
    wrap(WriteBuffer::new(tcp), fd, peer)
}

/// A client's connection for TLS.
pub(super) fn below_tls(tcp: TcpStream, peer: SocketAddr) -> Stream {
    let fd = tcp.as_raw_fd();
    let reader = BufReader::with_capacity(TLS_READ_BUFFER, WriteBuffer::new(tcp));
    wrap(reader, fd, peer)
}

fn wrap<T>(stream: T, fd: RawFd, peer: SocketAddr) -> Stream
where
    T: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Sync + Unpin + 'static,
{
    let digest = SocketDigest::from_raw_fd(fd);
    // The digest is new, so its cell is empty.
    let _ = digest.peer_addr.set(Some(peer.into()));
    Box::new(Socket {
        stream,
        fd,
        digest: Arc::new(digest),
    })
}

#[derive(Debug)]
struct Socket<T: AsyncWrite + Unpin> {
    stream: T,
    fd: RawFd,
    digest: Arc<SocketDigest>,
}

/// Sends data that was written but not flushed, if the system accepts it immediately.
impl<T: AsyncWrite + Unpin> Drop for Socket<T> {
    fn drop(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut self.stream).poll_flush(&mut cx);
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[async_trait]
impl<T: AsyncWrite + Send + Unpin> Shutdown for Socket<T> {
    async fn shutdown(&mut self) {
        // The peer may have closed the connection already, so an error is ignored.
        let _ = AsyncWriteExt::shutdown(&mut self.stream).await;
    }
}

impl<T: AsyncWrite + Unpin> UniqueID for Socket<T> {
    fn id(&self) -> UniqueIDType {
        self.fd
    }
}

impl<T: AsyncWrite + Unpin> Ssl for Socket<T> {}

impl<T: AsyncWrite + Unpin> GetTimingDigest for Socket<T> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl<T: AsyncWrite + Unpin> GetProxyDigest for Socket<T> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl<T: AsyncWrite + Unpin> GetSocketDigest for Socket<T> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

#[async_trait]
impl<T: AsyncWrite + Send + Unpin> Peek for Socket<T> {}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn unflushed_data_is_sent_when_the_connection_is_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        let mut stream = plain(tcp, peer);
        let digest = stream.get_socket_digest().unwrap();
        assert_eq!(
            digest.peer_addr().and_then(|peer| peer.as_inet()).copied(),
            client.local_addr().ok()
        );
        stream.write_all(b"last words").await.unwrap();
        drop(stream);
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "last words");
    }
}
