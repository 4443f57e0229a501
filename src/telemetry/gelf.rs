//! Log lines to Graylog (GELF 1.1), over UDP or TCP.
//!
//! KrakenD blocks each request for seconds once a collector over TCP is unavailable. Here the thread of the sink writes, and
//! messages are dropped and counted while the collector is unreachable.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::backoff::Backoff;
use crate::telemetry::format::Level;
use crate::telemetry::sanitize::push_json;

/// The largest datagram that is sent whole.
const MAX_DATAGRAM: usize = 1420;
/// Data in one chunk of a larger message.
const MAX_CHUNK: usize = 1408;
/// Chunks of one message (GELF, "Chunking").
const MAX_CHUNKS: usize = 128;
/// How long connecting and writing may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The most addresses of the collector that are tried.
const MAX_ADDRESSES: usize = 8;
/// The first pause after a failure; each further one doubles, up to the longest.
const PAUSES: Backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(30));

/// The settings of `telemetry/gelf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `host:port`.
    pub address: String,
    pub tcp: bool,
}

/// What one message says besides its text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts<'a> {
    pub status: Option<u16>,
    pub route: Option<&'a str>,
    pub trace: Option<String>,
    pub request_id: Option<&'a str>,
}

/// The severity of a level (RFC 5424 §6.2.1).
pub(crate) fn severity(level: Level) -> u8 {
    match level {
        Level::Critical => 2,
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info => 6,
        Level::Debug => 7,
    }
}

/// One message. Only the first line of a longer text is the short message.
pub(crate) fn message(
    since_1970: Duration,
    severity: u8,
    text: &str,
    facts: &Facts<'_>,
) -> Vec<u8> {
    let text = text.trim_end_matches('\n');
    let mut out = Vec::with_capacity(160 + text.len());
    out.extend_from_slice(b"{\"version\":\"1.1\",\"host\":");
    push_json(&host(), &mut out);
    out.extend_from_slice(b",\"short_message\":");
    match text.split_once('\n') {
        None => push_json(text, &mut out),
        Some((first, _)) => {
            push_json(first, &mut out);
            out.extend_from_slice(b",\"full_message\":");
            push_json(text, &mut out);
        }
    }
    let time = since_1970.as_millis();
    let rest = format!(
        ",\"timestamp\":{}.{:03},\"level\":{severity},\"_facility\":\"krakend\"",
        time / 1000,
        time % 1000
    );
    out.extend_from_slice(rest.as_bytes());
    if let Some(status) = facts.status {
        out.extend_from_slice(format!(",\"_status\":{status}").as_bytes());
    }
    for (name, value) in [
        ("_route", facts.route),
        ("_trace_id", facts.trace.as_deref()),
        ("_request_id", facts.request_id),
    ] {
        if let Some(value) = value {
            out.extend_from_slice(format!(",\"{name}\":").as_bytes());
            push_json(value, &mut out);
        }
    }
    out.push(b'}');
    out
}

/// The name of this machine.
fn host() -> String {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let name = NAME.get_or_init(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim().to_owned()
    });
    name.clone()
}

/// A connection to the collector, made when it is needed.
#[derive(Debug)]
pub(crate) struct Gelf {
    settings: Settings,
    link: Option<Link>,
    /// In a row.
    failures: u32,
    again: Option<Instant>,
    chunked: u64,
}

#[derive(Debug)]
enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Gelf {
    pub(crate) fn new(settings: Settings) -> Gelf {
        Gelf {
            settings,
            link: None,
            failures: 0,
            again: None,
            chunked: 0,
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The collector is unreachable, or was within the last pause. The message is lost.
    pub(super) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if self.again.is_some_and(|again| Instant::now() < again) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let first = self.try_send(message);
        // A connection that the collector closed shows only now: once more on a new one.
        let sent = match first {
            Err(_) if self.link.take().is_some() => self.try_send(message),
            first => first,
        };
        match &sent {
            Ok(()) => {
                self.failures = 0;
                self.again = None;
            }
            Err(_) => {
                self.link = None;
                self.failures = self.failures.saturating_add(1);
                self.again = Some(Instant::now() + PAUSES.pause(self.failures));
            }
        }
        sent
    }

    fn try_send(&mut self, message: &[u8]) -> io::Result<()> {
        let link = match self.link.take() {
            Some(link) => link,
            None => connect(&self.settings)?,
        };
        let sent = match &link {
            Link::Tcp(stream) => send_tcp(stream, message),
            Link::Udp(socket) => {
                self.chunked += 1;
                send_udp(socket, message, self.chunked)
            }
        };
        self.link = Some(link);
        sent
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "runs on the thread of the sink, which may wait"
)]
fn connect(settings: &Settings) -> io::Result<Link> {
    let addresses = settings.address.to_socket_addrs()?.take(MAX_ADDRESSES);
    connect_to_one(&addresses.collect::<Vec<_>>(), settings.tcp)
}

/// Connects to the first of these addresses that accepts it, within [`TIMEOUT`].
fn connect_to_one(addresses: &[SocketAddr], tcp: bool) -> io::Result<Link> {
    // An address that drops packets must not use up the time of the others.
    let share = TIMEOUT / u32::try_from(addresses.len()).unwrap_or(1).max(1);
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match connect_to(*address, tcp, share) {
            Ok(link) => return Ok(link),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_to(address: SocketAddr, tcp: bool, limit: Duration) -> io::Result<Link> {
    if tcp {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        return Ok(Link::Tcp(stream));
    }
    let local = if address.is_ipv6() {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = UdpSocket::bind(local)?;
    socket.connect(address)?;
    Ok(Link::Udp(socket))
}

/// Over TCP a message ends with a zero byte.
fn send_tcp(mut stream: &TcpStream, message: &[u8]) -> io::Result<()> {
    // A collector that has closed its side reads nothing more.
    stream.set_nonblocking(true)?;
    let closed = matches!(stream.peek(&mut [0]), Ok(0));
    stream.set_nonblocking(false)?;
    if closed {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let mut framed = Vec::with_capacity(message.len() + 1);
    framed.extend_from_slice(message);
    framed.push(0);
    stream.write_all(&framed)
}

fn send_udp(socket: &UdpSocket, message: &[u8], number: u64) -> io::Result<()> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(message.len()), Compression::fast());
    encoder.write_all(message)?;
    let packed = encoder.finish()?;
    if packed.len() <= MAX_DATAGRAM {
        return socket.send(&packed).map(|_| ());
    }
    let chunks = packed.chunks(MAX_CHUNK);
    let count = chunks.len();
    if count > MAX_CHUNKS {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let id = u64::from(std::process::id()) << 32 ^ number;
    for (index, chunk) in chunks.enumerate() {
        let mut datagram = Vec::with_capacity(12 + chunk.len());
        datagram.extend_from_slice(&[0x1e, 0x0f]);
        datagram.extend_from_slice(&id.to_be_bytes());
        datagram.extend_from_slice(&[index as u8, count as u8]);
        datagram.extend_from_slice(chunk);
        socket.send(&datagram)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    fn made(text: &str) -> serde_json::Value {
        let facts = Facts {
            status: Some(503),
            route: Some("/a\"{id}"),
            trace: None,
            request_id: None,
        };
        let bytes = message(
            Duration::from_millis(1_500),
            severity(Level::Error),
            text,
            &facts,
        );
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_message_has_the_members_of_gelf() {
        let one = made("a \"text\"\n");
        assert_eq!(one["version"], "1.1");
        assert_eq!(one["short_message"], "a \"text\"");
        assert_eq!(one["timestamp"], 1.5);
        assert_eq!((&one["level"], &one["_status"]), (&3.into(), &503.into()));
        assert_eq!(one["_route"], "/a\"{id}");
        assert!(one.get("full_message").is_none());
        let two = made("first\nsecond");
        assert_eq!(two["short_message"], "first");
        assert_eq!(two["full_message"], "first\nsecond");
    }

    #[test]
    fn a_collector_that_comes_back_is_connected_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut gelf = Gelf::new(Settings {
            address: listener.local_addr().unwrap().to_string(),
            tcp: true,
        });
        let read = |stream: &mut TcpStream| {
            let mut text = [0; 4];
            stream.read_exact(&mut text).unwrap();
            text
        };
        gelf.send(b"one").unwrap();
        let (mut first, _) = listener.accept().unwrap();
        assert_eq!(read(&mut first), *b"one\0");
        drop(first);
        gelf.send(b"two").unwrap();
        let (mut second, _) = listener.accept().unwrap();
        assert_eq!(read(&mut second), *b"two\0");
    }

    #[test]
    fn an_unreachable_collector_costs_no_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let mut gelf = Gelf::new(Settings { address, tcp: true });
        let began = Instant::now();
        assert!((0..1000).all(|_| gelf.send(b"lost").is_err()));
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn an_address_that_drops_packets_does_not_hide_the_next_one() {
        // Nobody accepts its connections, and their queue is full.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let full = full.unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        full.listen(0).unwrap();
        let dead = full.local_addr().unwrap().as_socket().unwrap();
        let connect = || TcpStream::connect_timeout(&dead, Duration::from_millis(250));
        let _queue: Vec<TcpStream> = std::iter::from_fn(|| connect().ok()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let began = Instant::now();
        let link = connect_to_one(&[dead, good], true).unwrap();
        let Link::Tcp(stream) = link else {
            panic!("{link:?}")
        };
        assert_eq!(stream.peer_addr().unwrap(), good);
        // It had half of the time.
        assert!(began.elapsed() >= TIMEOUT / 2, "{:?}", began.elapsed());
        assert!(connect_to_one(&[], true).is_err());
    }

    #[test]
    fn a_large_message_goes_in_chunks() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut gelf = Gelf::new(Settings {
            address: receiver.local_addr().unwrap().to_string(),
            tcp: false,
        });
        // Random data, which does not compress.
        let text: String = (0..3000_u64)
            .map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        gelf.send(text.as_bytes()).unwrap();
        let mut whole = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            let read = receiver.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..2], [0x1e, 0x0f]);
            whole.extend_from_slice(&buffer[12..read]);
            if buffer[10] + 1 == buffer[11] {
                break;
            }
        }
        let mut plain = String::new();
        flate2::read::GzDecoder::new(&whole[..])
            .read_to_string(&mut plain)
            .unwrap();
        assert_eq!(plain, text);
    }
}
