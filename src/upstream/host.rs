//! One host of a list: its name, its URL, and a peer for each of its addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use pingora_core::upstreams::peer::HttpPeer;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::client::Client;
use super::dns::{Answer, DnsTable, Name};
use super::error::{CallError, CallErrorKind};

/// A host as it was written, taken apart once.
#[derive(Debug)]
pub(super) struct Host {
    /// As written, for URLs in texts: a path is appended by plain concatenation, as the reference does.
    pub(super) url: Arc<str>,
    pub(super) place: Result<Place, Box<str>>,
}

/// Where a host is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) secure: bool,
    /// Name or literal, without brackets.
    pub(super) name: Box<str>,
    pub(super) port: u16,
    /// Value of `Host`: the port only if it was written.
    pub(super) authority: HeaderValue,
    /// What follows the authority in the host string: `""`, `/`, `/base`.
    pub(super) base: Box<str>,
    pub(super) penalty: Penalty,
    entry: Arc<Name>,
    peers: ArcSwapOption<Peers>,
}

/// A peer for each address of a host, made once for each answer of the DNS.
#[derive(Debug)]
pub(super) struct Peers {
    of: Arc<Answer>,
    pub(super) list: Box<[Candidate]>,
    next: AtomicUsize,
}

/// One address, and whether it refused us lately.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) peer: HttpPeer,
    pub(super) penalty: Penalty,
}

impl Peers {
    /// The order in which to try the addresses: in turns, those that refused lately last.
    ///
    /// The two addresses of `localhost` are alternatives, not shares: the first that works is used.
    pub(super) fn order(&self) -> Order {
        let start = match self.list.len() {
            0 | 1 => 0,
            _ if self.of.fixed => 0,
            _ => self.next.fetch_add(1, Ordering::Relaxed),
        };
        order(self.list.len(), start, |index| {
            self.list.get(index).is_some_and(|c| c.penalty.holds())
        })
    }
}

/// Indexes in the order of trial.
pub(super) type Order = SmallVec<[usize; 8]>;

/// All of `0..count` in turns from `start`, with those that `late` names at the end.
pub(super) fn order(count: usize, start: usize, late: impl Fn(usize) -> bool) -> Order {
    if count <= 1 {
        return (0..count).collect();
    }
    let turn = |step: usize| start.wrapping_add(step) % count;
    let mut order: Order = (0..count).map(turn).filter(|index| !late(*index)).collect();
    if order.len() < count {
        order.extend((0..count).map(turn).filter(|index| late(*index)));
        // An index whose penalty ran out between the two looks would be missing or there twice.
        order.truncate(count);
    }
    order
}

/// How long an address or a host that refused a connection is tried after the others.
const PENALTY: Duration = Duration::from_secs(10);

/// A memory of a refused connection. Nothing is read but one number while there is none.
#[derive(Debug)]
pub(super) struct Penalty {
    since: Instant,
    /// Milliseconds after `since`; 0 = none.
    until: AtomicU64,
}

impl Penalty {
    fn new() -> Penalty {
        Penalty {
            since: Instant::now(),
            until: AtomicU64::new(0),
        }
    }

    pub(super) fn holds(&self) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != 0 && self.since.elapsed().as_millis() < u128::from(until)
    }

    pub(super) fn impose(&self) {
        let until = (self.since.elapsed() + PENALTY).as_millis();
        self.until
            .store(u64::try_from(until).unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn lift(&self) {
        if self.until.load(Ordering::Relaxed) != 0 {
            self.until.store(0, Ordering::Relaxed);
        }
    }
}

impl Host {
    /// Takes `url` apart: `scheme://authority`, and whatever follows as a base path.
    pub(super) fn new(url: &str, dns: &DnsTable) -> Host {
        Host {
            url: url.into(),
            place: Place::parse(url, dns),
        }
    }

    /// The place, or why a call to this host cannot be made.
    pub(super) fn place(&self) -> Result<&Place, CallError> {
        self.place
            .as_ref()
            .map_err(|reason| CallError::new(CallErrorKind::Request, reason.to_string()))
    }
}

impl Place {
    fn parse(url: &str, dns: &DnsTable) -> Result<Place, Box<str>> {
        let Some((scheme, rest)) = url.split_once("://") else {
            let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
            return Err(format!("unsupported protocol scheme \"{scheme}\"").into());
        };
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" | "h2c" => false,
            "https" => true,
            _ => return Err(format!("unsupported protocol scheme \"{scheme}\"").into()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, base) = rest.split_at(end);
        // Credentials in a URL would end up in log lines.
        let authority = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let (name, port) = split_authority(authority, secure)?;
        let value = HeaderValue::from_str(authority)
            .map_err(|_| Box::<str>::from("invalid character in host name"))?;
        Ok(Place {
            secure,
            entry: dns.name(name),
            name: name.into(),
            port,
            authority: value,
            base: base.into(),
            penalty: Penalty::new(),
            peers: ArcSwapOption::empty(),
        })
    }

    /// The peers of this host; waits only while no lookup has succeeded yet.
    pub(super) async fn peers(&self, client: &Client) -> Result<Arc<Peers>, CallError> {
        if let Some(peers) = self.known_peers(client) {
            return Ok(peers);
        }
        self.entry.ready().await;
        self.known_peers(client).ok_or_else(|| {
            CallError::new(
                CallErrorKind::Connect,
                format!("dial tcp: lookup {}: no such host", self.name),
            )
        })
    }

    /// `host:port` as the reference names it in dial errors.
    pub(super) fn address(&self) -> String {
        if self.name.contains(':') {
            format!("[{}]:{}", self.name, self.port)
        } else {
            format!("{}:{}", self.name, self.port)
        }
    }

    /// All addresses failed: have the name looked up again.
    pub(super) fn doubt(&self, client: &Client) {
        client.dns.doubt(&self.entry);
    }

    fn known_peers(&self, client: &Client) -> Option<Arc<Peers>> {
        let answer = self.entry.answer();
        if let Some(peers) = &*self.peers.load()
            && Arc::ptr_eq(&peers.of, &answer)
        {
            return Some(Arc::clone(peers));
        }
        if answer.addresses.is_empty() {
            return None;
        }
        let candidate = |address: &IpAddr| Candidate {
            peer: client.peer(
                SocketAddr::new(*address, self.port),
                self.secure,
                &self.name,
            ),
            penalty: Penalty::new(),
        };
        let peers = Arc::new(Peers {
            list: answer.addresses.iter().map(candidate).collect(),
            of: Arc::clone(&answer),
            next: AtomicUsize::new(0),
        });
        self.peers.store(Some(Arc::clone(&peers)));
        Some(peers)
    }
}

fn split_authority(authority: &str, secure: bool) -> Result<(&str, u16), Box<str>> {
    let usual = if secure { 443 } else { 80 };
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let Some((name, after)) = rest.split_once(']') else {
                return Err("missing ']' in host".into());
            };
            (name, after.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (authority, None),
        },
    };
    if name.is_empty() {
        return Err("no Host in request URL".into());
    }
    match port {
        None | Some("") => Ok((name, usual)),
        Some(port) => match port.parse() {
            Ok(port) => Ok((name, port)),
            Err(_) => Err(format!("invalid port \":{port}\" after host").into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Result<(bool, String, u16, String, String), String> {
        let host = Host::new(url, &DnsTable::with_resolver(None));
        match host.place {
            Ok(place) => Ok((
                place.secure,
                place.name.into(),
                place.port,
                place.authority.to_str().unwrap().to_owned(),
                place.base.into(),
            )),
            Err(reason) => Err(reason.into()),
        }
    }

    fn parts(
        secure: bool,
        name: &str,
        port: u16,
        authority: &str,
        base: &str,
    ) -> (bool, String, u16, String, String) {
        (secure, name.into(), port, authority.into(), base.into())
    }

    #[test]
    fn a_host_is_taken_apart() {
        assert_eq!(place("http://h:81"), Ok(parts(false, "h", 81, "h:81", "")));
        assert_eq!(place("https://h"), Ok(parts(true, "h", 443, "h", "")));
        assert_eq!(
            place("http://[::1]:9"),
            Ok(parts(false, "::1", 9, "[::1]:9", ""))
        );
    }

    #[test]
    fn a_host_written_verbatim_keeps_its_base() {
        assert_eq!(place("http://h:1/"), Ok(parts(false, "h", 1, "h:1", "/")));
        assert_eq!(
            place("http://u:p@h/a/b"),
            Ok(parts(false, "h", 80, "h", "/a/b"))
        );
    }

    #[test]
    fn a_host_without_a_scheme_is_refused_when_it_is_called() {
        assert_eq!(
            place("h:1"),
            Err("unsupported protocol scheme \"h\"".to_owned())
        );
        assert_eq!(
            place("ftp://h"),
            Err("unsupported protocol scheme \"ftp\"".to_owned())
        );
        assert!(place("http://h:x").is_err());
        assert!(place("http://").is_err());
    }
}
