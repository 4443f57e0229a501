//! One host of a list: its name, its URL, and a peer for each of its addresses.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora_core::upstreams::peer::Peer;
use pingora_core::{Error, ErrorType};
use tokio::sync::Semaphore;

use super::client::{Client, HttpVersion, Settings};
use super::dns::{DnsTable, Name, Response};
use super::error::{CallError, CallErrorKind, ConnectFailure};
use super::failover::{Availability, FailureRecord, Order, order};
use super::peer::PooledPeer;
use super::proxy::{ProxyScheme, ProxyUrl};
use super::resilience::{HostHealth, HostResilience};
use super::usage::{HostStates, Usage};
use crate::per_worker::{OwnArc, Spread};
use crate::telemetry::observe::Wait;

/// A host string, parsed once.
#[derive(Debug)]
pub(super) struct Host {
    /// As written, for URLs in messages. As in KrakenD, a path is appended by concatenation.
    pub(super) url: Arc<str>,
    pub(super) place: Result<Place, Box<str>>,
    /// What the file asks for beyond round robin.
    pub(super) resilience: Option<Box<HostResilience>>,
}

/// The location of a host.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) secure: bool,
    /// A name or an address literal, without brackets.
    pub(super) name: Box<str>,
    pub(super) port: u16,
    /// The value of `Host`, with a port only if one was written.
    pub(super) authority: HeaderValue,
    /// The part of the host string after the authority: `""`, `/`, `/base`.
    pub(super) base: Box<str>,
    pub(super) failures: FailureRecord,
    /// The limit of concurrent calls, if there is one.
    pub(super) slots: Option<Arc<Semaphore>>,
    /// The connections.
    pub(super) usage: Arc<Usage>,
    pub(super) route: Route,
    /// The name to connect to: the host, or its proxy.
    entry: Arc<Name>,
    peers: ArcSwapOption<Spread<Peers>>,
}

/// How calls reach a host.
#[derive(Debug)]
pub(super) enum Route {
    Direct,
    /// The proxy receives absolute URLs (RFC 9112 §3.2.2).
    Forward(Forward),
    /// The proxy opens a tunnel to the host.
    Tunnel(ProxyUrl),
}

/// What a request to a proxy contains besides the request itself.
#[derive(Debug)]
pub(super) struct Forward {
    proxy: ProxyUrl,
    /// `http://authority`, prepended to the path.
    pub(super) origin: Box<str>,
    /// The value of `Proxy-Authorization`.
    pub(super) authorization: Option<HeaderValue>,
}

/// A peer for each address of a host, created once for each DNS result.
#[derive(Debug)]
pub(super) struct Peers {
    of: Arc<Response>,
    pub(super) list: Box<[Candidate]>,
    next: AtomicUsize,
}

/// One address, and whether it failed recently.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) peer: PooledPeer,
    pub(super) failures: FailureRecord,
}

impl Peers {
    /// The order in which to try the addresses: round-robin, with recently failed ones last.
    ///
    /// The two addresses of `localhost` are alternatives and are not balanced: the first that works is used.
    pub(super) fn order(&self) -> Order {
        let start = match self.list.len() {
            0 | 1 => 0,
            _ if self.of.fixed => 0,
            _ => self.next.fetch_add(1, Ordering::Relaxed),
        };
        order(self.list.len(), start, |index| {
            self.list.get(index).map(|candidate| &candidate.failures)
        })
    }

    /// Whether every address has failed.
    pub(super) fn all_failed(&self) -> bool {
        let good = |candidate: &Candidate| candidate.failures.availability() == Availability::Good;
        !self.list.iter().any(good)
    }
}

impl Host {
    /// Parses `url`: `scheme://authority`, followed by a base path.
    pub(super) fn new(url: &str, client: &Client) -> Host {
        let mut place = Place::parse(url, &client.dns, &client.settings);
        if let Ok(place) = &mut place {
            let origin = format!("{}:{}", place.secure, place.address());
            place.usage = client.usage(origin.clone());
            place.slots = client.slots(origin);
        }
        Host {
            url: url.into(),
            place,
            resilience: None,
        }
    }

    pub(super) fn health(&self) -> Option<&HostHealth> {
        self.resilience.as_ref()?.health.as_deref()
    }

    /// Whether its statuses leave it out.
    pub(super) fn is_ejected(&self) -> bool {
        self.health().is_some_and(HostHealth::is_ejected)
    }

    /// The place, or why this host cannot be called.
    pub(super) fn place(&self) -> Result<&Place, CallError> {
        self.place
            .as_ref()
            .map_err(|reason| CallError::new(CallErrorKind::Request, reason.to_string()))
    }
}

impl Place {
    pub(super) fn parse(url: &str, dns: &DnsTable, settings: &Settings) -> Result<Place, Box<str>> {
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
        // Credentials in a URL would appear in log lines.
        let authority = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let (name, port) = split_authority(authority, secure)?;
        let value = HeaderValue::from_str(authority)
            .ok()
            .filter(|_| authority.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or("invalid character in host name")?;
        let route = Route::of(settings, (secure, name, port), authority);
        let entry = match route.proxy() {
            Some(proxy) => dns.name(&proxy.name),
            None => dns.name(name),
        };
        Ok(Place {
            secure,
            entry,
            route,
            name: name.into(),
            port,
            authority: value,
            base: base.into(),
            failures: FailureRecord::new(),
            slots: None,
            usage: Arc::default(),
            peers: ArcSwapOption::empty(),
        })
    }

    /// The peers of this host. Waits only until the first lookup has succeeded.
    pub(super) async fn peers(&self, client: &Client) -> Result<OwnArc<Peers>, CallError> {
        if let Some(peers) = self.known_peers(client) {
            return Ok(peers);
        }
        // Boxed, because a call seldom waits for a lookup.
        Box::pin(Wait::Dns.during(client.dns.ready(&self.entry))).await;
        self.known_peers(client).ok_or_else(|| {
            let name = self.route.proxy().map_or(&self.name, |proxy| &proxy.name);
            let text = format!("dial tcp: lookup {name}: no such host");
            CallError::no_connection(ConnectFailure::Dns, text)
                .through(self.route.proxy().is_some())
        })
    }

    /// Why connecting failed.
    pub(super) fn dial_error(&self, error: &Error) -> CallError {
        // Through a tunnel, the TLS peer is the host itself.
        let of_tls = matches!(
            error.root_etype(),
            ErrorType::TLSHandshakeFailure
                | ErrorType::TLSHandshakeTimedout
                | ErrorType::InvalidCert
                | ErrorType::HandshakeError
        );
        match &self.route {
            Route::Tunnel(_) if of_tls => CallError::connect(error, &self.address()),
            Route::Direct => CallError::connect(error, &self.address()),
            Route::Forward(Forward { proxy, .. }) | Route::Tunnel(proxy) => {
                CallError::connect(error, &joined(&proxy.name, proxy.port)).through(true)
            }
        }
    }

    /// The peer at the address of `peer`, for a connection that will carry a protocol other than HTTP.
    pub(super) fn bare_peer(&self, client: &Client, peer: &PooledPeer) -> PooledPeer {
        let mut bare = match (&self.route, peer.address()) {
            (Route::Forward(forward), PeerAddress::Inet(address)) => {
                let host = (self.secure, &*self.name, self.port);
                client.tunnel_peer(*address, &forward.proxy, host)
            }
            _ => peer.clone(),
        };
        bare.count(&self.usage);
        bare.speak_http1();
        bare
    }

    /// Path and query on the wire. If the base has a query, the query of the target is appended to it.
    pub(super) fn target<'t>(&self, target: &'t str) -> Cow<'t, str> {
        if self.base.is_empty() {
            return Cow::Borrowed(target);
        }
        let slash = if self.base.starts_with('/') { "" } else { "/" };
        match (self.base.contains('?'), target.split_once('?')) {
            (true, Some((path, query))) => format!("{slash}{}{path}&{query}", self.base).into(),
            _ => format!("{slash}{}{target}", self.base).into(),
        }
    }

    /// `host:port`, as in KrakenD's dial errors.
    pub(super) fn address(&self) -> String {
        joined(&self.name, self.port)
    }

    /// Records a failure of the host.
    pub(super) fn impose(&self, reason: &str) {
        self.failures.impose();
        self.fails(reason);
    }

    /// Records a request that got no response. The second in a row counts as a failure.
    pub(super) fn unanswered(&self) {
        if self.failures.unanswered() {
            self.fails("two requests in a row got no response");
        }
    }

    fn fails(&self, reason: &str) {
        if self.usage.fails() {
            let text = "Fails, and is left out while another host responds";
            log::warn!("[HOST: {}] {text}: {reason}", self.origin());
        }
    }

    fn origin(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// Records a response, which clears all failures. Returns whether there was a pause.
    pub(super) fn lift(&self) -> bool {
        let was_out = self.failures.lift();
        if was_out && self.usage.comes_back() {
            log::info!("[HOST: {}] Responds again", self.origin());
        }
        was_out
    }

    /// All addresses failed, so the name is looked up again.
    pub(super) fn doubt(&self, client: &Client) {
        client.dns.doubt(&self.entry);
    }

    /// Adds the name that is looked up, for metrics.
    pub(super) fn add_name(&self, states: &mut HostStates) {
        if let Some(state) = self.entry.state() {
            states.names.insert(self.entry.host().into(), state);
        }
    }

    fn known_peers(&self, client: &Client) -> Option<OwnArc<Peers>> {
        let response = self.entry.response();
        if let Some(peers) = &*self.peers.load()
            && Arc::ptr_eq(&peers.of, &response)
        {
            return Some(peers.share());
        }
        if response.addresses.is_empty() {
            return None;
        }
        let candidate = |address: &IpAddr| Candidate {
            peer: self.peer(client, *address),
            failures: self.failures.like(),
        };
        let peers = Spread::new(Peers {
            list: response.addresses.iter().map(candidate).collect(),
            of: Arc::clone(&response),
            next: AtomicUsize::new(0),
        });
        let own = peers.share();
        self.peers.store(Some(Arc::new(peers)));
        Some(own)
    }

    /// The peer at an address of this host, or of its proxy.
    fn peer(&self, client: &Client, address: IpAddr) -> PooledPeer {
        let at = |port| SocketAddr::new(address, port);
        let mut peer = match &self.route {
            Route::Direct => client.peer(at(self.port), self.secure, &self.name),
            Route::Forward(forward) => client.forward_peer(at(forward.proxy.port), &forward.proxy),
            Route::Tunnel(proxy) => {
                let host = (self.secure, &*self.name, self.port);
                client.tunnel_peer(at(proxy.port), proxy, host)
            }
        };
        peer.count(&self.usage);
        peer
    }
}

impl Route {
    fn of(settings: &Settings, (secure, name, port): (bool, &str, u16), authority: &str) -> Route {
        let Some(proxy) = settings.proxies.find(secure, name, port) else {
            return Route::Direct;
        };
        // A proxy cannot be expected to forward HTTP/2 with prior knowledge.
        let forwards = !secure && settings.http_version != HttpVersion::H2;
        match proxy.scheme {
            ProxyScheme::Http | ProxyScheme::Https if forwards => Route::Forward(Forward {
                origin: format!("http://{authority}").into(),
                authorization: proxy.authorization().and_then(|value| secret(&value)),
                proxy: proxy.clone(),
            }),
            _ => Route::Tunnel(proxy.clone()),
        }
    }

    fn proxy(&self) -> Option<&ProxyUrl> {
        match self {
            Route::Direct => None,
            Route::Forward(forward) => Some(&forward.proxy),
            Route::Tunnel(proxy) => Some(proxy),
        }
    }

    /// The additions to a request that goes to a proxy.
    pub(super) fn forward(&self) -> Option<&Forward> {
        match self {
            Route::Forward(forward) => Some(forward),
            Route::Direct | Route::Tunnel(_) => None,
        }
    }
}

fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `host:port`, with brackets around an IPv6 literal.
fn joined(name: &str, port: u16) -> String {
    if name.contains(':') {
        format!("[{name}]:{port}")
    } else {
        format!("{name}:{port}")
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
    use proptest::prelude::*;

    use super::*;

    fn place(url: &str) -> Result<(bool, String, u16, String, String), String> {
        match Place::parse(url, &DnsTable::with_resolver(None), &Settings::default()) {
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
    fn a_host_is_parsed() {
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
    fn a_base_and_a_target_are_joined() {
        for (url, target, joined) in [
            ("http://h", "/x?q=1", "/x?q=1"),
            ("http://h/b", "/x?q=1", "/b/x?q=1"),
            ("http://h/fetch?url=", "/x?q=1", "/fetch?url=/x&q=1"),
            ("http://h/fetch?url=", "/x", "/fetch?url=/x"),
            ("http://h?x=", "/y", "/?x=/y"),
        ] {
            let dns = DnsTable::with_resolver(None);
            let place = Place::parse(url, &dns, &Settings::default()).unwrap();
            assert_eq!(place.target(target), joined, "{url} and {target}");
        }
    }

    #[test]
    fn a_host_without_a_scheme_is_rejected_when_it_is_called() {
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

    proptest! {
        #[test]
        fn an_arbitrary_string_is_a_place_or_rejected(url: String, rest in ".{0,20}") {
            let _ = place(&url);
            let _ = place(&format!("http://{rest}"));
        }
    }
}
