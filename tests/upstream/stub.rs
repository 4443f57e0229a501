//! An upstream that answers with the bytes it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use portcullis::internals::upstream::{CallOptions, Client, DnsTable, HostSet, Outgoing, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What to do with a request.
pub enum Reply {
    /// Send this and wait for the next request.
    Keep(Vec<u8>),
    /// Send this and close.
    Close(Vec<u8>),
    /// Never answer.
    Hang,
    /// Send the first part, and then the second byte by byte with this pause before each.
    Trickle(Vec<u8>, Vec<u8>, Duration),
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// 1 for the first connection.
    pub connection: usize,
    /// Request line and header lines, without the blank line.
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    pub fn has(&self, line: &str) -> bool {
        self.head.lines().any(|its| its == line)
    }
}

/// A stub upstream on a port of its own.
pub struct Stub {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Stub {
    /// Answers each request with what `reply` makes of it.
    pub async fn start(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Stub::on(listener, reply)
    }

    /// Answers everything that comes to `address` with `200` and this body.
    pub async fn at(address: String, body: &'static str) -> Stub {
        let listener = TcpListener::bind(address).await.unwrap();
        Stub::on(listener, move |_| Reply::Keep(ok(body)))
    }

    fn on(listener: TcpListener, reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Stub {
        let stub = Stub {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            connections: Arc::default(),
        };
        let (seen, connections) = (Arc::clone(&stub.seen), Arc::clone(&stub.connections));
        let reply = Arc::new(reply);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::spawn(serve(stream, number, Arc::clone(&reply), Arc::clone(&seen)));
            }
        });
        stub
    }

    /// Answers everything with `200` and this body.
    pub async fn saying(body: &'static str) -> Stub {
        Stub::start(move |_| Reply::Keep(ok(body))).await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn hosts(&self) -> HostSet {
        HostSet::fixed(&client(Settings::default()), &[self.url()])
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    reply: Arc<impl Fn(&Seen) -> Reply>,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer, connection).await {
        let response = reply(&request);
        seen.lock().unwrap().push(request);
        match response {
            Reply::Keep(bytes) => stream.write_all(&bytes).await.unwrap_or_default(),
            Reply::Close(bytes) => {
                stream.write_all(&bytes).await.unwrap_or_default();
                return;
            }
            Reply::Hang => std::future::pending().await,
            Reply::Trickle(head, body, pause) => {
                stream.write_all(&head).await.unwrap_or_default();
                for byte in body {
                    tokio::time::sleep(pause).await;
                    stream.write_all(&[byte]).await.unwrap_or_default();
                }
            }
        }
    }
}

async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    connection: usize,
) -> Option<Seen> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        more(stream, buffer).await?;
    };
    let head = String::from_utf8(buffer.drain(..end + 4).collect()).unwrap();
    let head = head.trim_end().to_owned();
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(its, value)| its.eq_ignore_ascii_case(name).then(|| value.to_owned()))
    };
    let mut body = Vec::new();
    if let Some(length) = field("Content-Length") {
        let length: usize = length.parse().unwrap();
        while buffer.len() < length {
            more(stream, buffer).await?;
        }
        body = buffer.drain(..length).collect();
    } else if field("Transfer-Encoding").is_some() {
        loop {
            let end = loop {
                if let Some(end) = buffer.windows(2).position(|two| two == b"\r\n") {
                    break end;
                }
                more(stream, buffer).await?;
            };
            let size = std::str::from_utf8(&buffer[..end]).unwrap().to_owned();
            let size = usize::from_str_radix(&size, 16).unwrap();
            while buffer.len() < end + 2 + size + 2 {
                more(stream, buffer).await?;
            }
            body.extend_from_slice(&buffer[end + 2..end + 2 + size]);
            buffer.drain(..end + 2 + size + 2);
            if size == 0 {
                break;
            }
        }
    }
    Some(Seen {
        connection,
        head,
        body,
    })
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    match stream.read_buf(buffer).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(()),
    }
}

/// A `200` with this body and its length.
pub fn ok(body: &str) -> Vec<u8> {
    response(200, "", body)
}

/// An answer with this status, these header lines (each ended by CRLF), and this body.
pub fn response(status: u16, lines: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} Whatever\r\n{lines}Content-Length: {length}\r\n\r\n{body}").into()
}

pub fn client(settings: Settings) -> Arc<Client> {
    Client::new(settings, Arc::new(DnsTable::default())).unwrap()
}

pub fn call(
    method: Method,
    target: &str,
    headers: &[(&'static str, &'static str)],
    body: &str,
) -> Outgoing {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    Outgoing {
        method,
        target: target.into(),
        headers: headers.iter().map(pair).collect::<HeaderMap>(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        subject: None,
        affinity: None,
    }
}

pub fn get(target: &str) -> Outgoing {
    call(Method::GET, target, &[], "")
}

pub const OPTIONS: CallOptions = CallOptions {
    max_body_bytes: 1 << 20,
    send_body_on_redirect: false,
    gunzip: true,
    follows: true,
};

/// A port on which nobody listens.
pub async fn dead_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
