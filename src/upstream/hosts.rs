//! Which address a call goes to; static lists, DNS, SRV.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderValue, Method};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1Session;
use tokio::sync::OwnedSemaphorePermit;

use super::client::Client;
use super::dns::{Service, SrvTarget};
use super::error::CallError;
use super::host::{Host, Peers, Place};
use super::peer::PooledPeer;
use super::turn::{Order, order};

/// Hosts tried for one call at most: a list of a hundred dead ones must not cost a hundred timeouts.
const MOST_HOSTS: usize = 4;

/// The hosts of one backend, and the client that calls them.
#[derive(Debug)]
pub struct HostSet {
    pub(super) client: Arc<Client>,
    hosts: Hosts,
    next: AtomicUsize,
    name: Box<str>,
}

#[derive(Debug)]
enum Hosts {
    Fixed(Arc<[Host]>),
    Service {
        entry: Arc<Service>,
        scheme: Box<str>,
        built: ArcSwapOption<Built>,
    },
}

/// Hosts made of one answer for an SRV name.
#[derive(Debug)]
struct Built {
    of: Arc<Vec<SrvTarget>>,
    list: Arc<[Host]>,
}

/// Where a call may go, borrowed from the set or kept alive by the call.
pub(super) enum HostList<'a> {
    Fixed(&'a [Host]),
    Shared(Arc<[Host]>),
}

impl Deref for HostList<'_> {
    type Target = [Host];

    fn deref(&self) -> &[Host] {
        match self {
            HostList::Fixed(list) => list,
            HostList::Shared(list) => list,
        }
    }
}

/// A chosen address.
#[derive(Debug)]
pub struct Target {
    pub(super) peer: PooledPeer,
    /// Value of `Host`.
    pub authority: HeaderValue,
    /// What the host string has behind its authority; goes in front of the path.
    pub base: String,
}

/// A connection, and where it leads.
pub(super) struct Connected {
    pub(super) session: Box<HttpSession>,
    pub(super) reused: bool,
    pub(super) host: usize,
    pub(super) peers: Arc<Peers>,
    pub(super) peer: usize,
    /// Its room at the host, given back when the exchange is over.
    pub(super) slot: Option<OwnedSemaphorePermit>,
}

impl HostSet {
    /// A fixed list, called in turns. Each entry is `scheme://authority`, or, with `disable_host_sanitize`, whatever
    /// the file says: a path is then appended to it as it is, and what is no URL fails when it is called.
    pub fn fixed<S: AsRef<str>>(client: &Arc<Client>, hosts: &[S]) -> HostSet {
        let name = hosts.first().map_or("", AsRef::as_ref).into();
        let hosts = hosts.iter().map(|url| Host::new(url.as_ref(), client));
        HostSet::new(client, Hosts::Fixed(hosts.collect()), name)
    }

    /// The targets of an SRV name (`sd: dns`), looked up every `refresh`.
    pub fn service(client: &Arc<Client>, name: &str, scheme: &str, refresh: Duration) -> HostSet {
        let hosts = Hosts::Service {
            entry: client.dns.service(name, refresh),
            scheme: scheme.into(),
            built: ArcSwapOption::empty(),
        };
        HostSet::new(client, hosts, format!("{scheme}://{name}").into())
    }

    /// What stands for all of these hosts where one URL is needed, as in the key of a cache: the first host as the
    /// file has it, or the SRV name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client that calls these hosts.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// `scheme://authority` of the only host, if there is just one and nothing stands behind its authority.
    pub fn only(&self) -> Option<&str> {
        let Hosts::Fixed(hosts) = &self.hosts else {
            return None;
        };
        match &**hosts {
            [one] if one.place.as_ref().is_ok_and(|place| place.base.is_empty()) => Some(&one.url),
            _ => None,
        }
    }

    /// `scheme://authority` of the host whose turn it is, and what its URL has behind that; for callers that must know
    /// the whole URL before they call [`HostSet::elsewhere`] with it. `None` when no host can be called.
    pub async fn next_place(&self) -> Option<(String, String)> {
        let hosts = self.list().await;
        let index = self.turn(&hosts).first().copied()?;
        let host = hosts.get(index)?;
        let base = &host.place.as_ref().ok()?.base;
        let origin = host.url.strip_suffix(&**base)?;
        Some((origin.to_owned(), base.to_string()))
    }

    /// A set whose next call goes to `scheme://authority`, called as the hosts of this set are.
    ///
    /// If that is one of them, the others still stand in for it, and what is known of it is not learnt anew.
    pub fn elsewhere(&self, origin: &str) -> HostSet {
        let own = self.known().and_then(|list| {
            let first = list.iter().position(|host| &*host.url == origin)?;
            // A path behind an authority is part of the target by now: only plain hosts can be exchanged.
            let is_plain = |host: &Host| host.place.as_ref().is_ok_and(|p| p.base.is_empty());
            list.iter().all(is_plain).then_some((list, first))
        });
        match own {
            Some((list, first)) => HostSet {
                next: AtomicUsize::new(first),
                ..HostSet::new(&self.client, Hosts::Fixed(list), self.name.clone())
            },
            None => HostSet::fixed(&self.client, &[origin]),
        }
    }

    /// The hosts as far as they are known without waiting.
    fn known(&self) -> Option<Arc<[Host]>> {
        match &self.hosts {
            Hosts::Fixed(list) => Some(Arc::clone(list)),
            Hosts::Service { built, .. } => built.load().as_ref().map(|b| Arc::clone(&b.list)),
        }
    }

    /// Chooses an address without connecting to it, for Pingora's own proxy path.
    ///
    /// # Errors
    /// No hosts, a host that is no URL, or a name without an address.
    pub async fn target(&self) -> Result<Target, CallError> {
        let hosts = self.list().await;
        let turn = self.turn(&hosts);
        let Some(host) = turn.first().and_then(|index| hosts.get(*index)) else {
            return Err(CallError::no_hosts());
        };
        let place = host.place()?;
        let peers = place.peers(&self.client).await?;
        let first = peers.order().first().copied().unwrap_or_default();
        let Some(candidate) = peers.list.get(first) else {
            return Err(CallError::no_hosts());
        };
        Ok(Target {
            peer: candidate.peer.clone(),
            authority: place.authority.clone(),
            base: place.base.to_string(),
        })
    }

    /// A new HTTP/1 connection to one of the hosts, for a caller that will speak another protocol over it.
    ///
    /// # Errors
    /// As [`HostSet::target`], or the host does not let us in.
    pub async fn dial(&self) -> Result<(Box<Http1Session>, Target), CallError> {
        let target = self.target().await?;
        // Certainly not a pooled connection, which may be dead.
        let mut peer = target.peer.apart();
        peer.speak_http1();
        match self.client.pool.session(&peer).await {
            Ok((session, _)) => match *session {
                HttpSession::H1(session) => Ok((Box::new(session), target)),
                _ => Err(CallError::truncated()),
            },
            Err(error) => {
                let address = target.authority.to_str().unwrap_or_default();
                Err(CallError::connect(&error, address))
            }
        }
    }

    /// Connects to the first host that lets us. A dead host costs an idempotent call nothing but time; any other
    /// call is tried on all addresses of its host.
    pub(super) async fn connect(
        &self,
        hosts: &HostList<'_>,
        method: &Method,
        target: &str,
    ) -> Result<Connected, CallError> {
        let most = if method.is_idempotent() {
            MOST_HOSTS
        } else {
            1
        };
        let mut failure = None;
        for index in self.turn(hosts).into_iter().take(most) {
            let Some(host) = hosts.get(index) else {
                continue;
            };
            let named = |error: CallError| error.of(method, format!("{}{target}", host.url));
            let place = host.place().map_err(named)?;
            match self.connect_to(place, index).await {
                Ok(connected) => return Ok(connected),
                Err(error) => failure = Some(named(error)),
            }
        }
        Err(failure.unwrap_or_else(CallError::no_hosts))
    }

    async fn connect_to(&self, place: &Place, host: usize) -> Result<Connected, CallError> {
        let slot = match &place.slots {
            // The semaphore is never closed, so that there is no error but a missing slot.
            Some(slots) => Arc::clone(slots).acquire_owned().await.ok(),
            None => None,
        };
        let mut failure = None;
        let peers = match place.peers(&self.client).await {
            Ok(peers) => peers,
            Err(error) => {
                place.penalty.impose();
                return Err(error);
            }
        };
        for index in peers.order() {
            let Some(candidate) = peers.list.get(index) else {
                continue;
            };
            match self.client.pool.session(&candidate.peer).await {
                Ok((session, reused)) => {
                    candidate.penalty.lift();
                    place.penalty.lift();
                    return Ok(Connected {
                        session,
                        reused,
                        host,
                        peers,
                        peer: index,
                        slot,
                    });
                }
                Err(error) => {
                    candidate.penalty.impose();
                    // The first failure tells most: the second address of `localhost` is often just not there.
                    failure.get_or_insert_with(|| CallError::connect(&error, &place.address()));
                }
            }
        }
        place.penalty.impose();
        place.doubt(&self.client);
        Err(failure.unwrap_or_else(CallError::no_hosts))
    }

    /// The hosts as they are now; waits only for the very first answer on an SRV name.
    pub(super) async fn list(&self) -> HostList<'_> {
        match &self.hosts {
            Hosts::Fixed(list) => HostList::Fixed(list),
            Hosts::Service {
                entry,
                scheme,
                built,
            } => {
                self.client.dns.ready_service(entry).await;
                let Some(targets) = entry.targets.load_full() else {
                    return HostList::Fixed(&[]);
                };
                if let Some(built) = &*built.load()
                    && Arc::ptr_eq(&built.of, &targets)
                {
                    return HostList::Shared(Arc::clone(&built.list));
                }
                let list = self.build(scheme, &targets);
                built.store(Some(Arc::new(Built {
                    of: targets,
                    list: Arc::clone(&list),
                })));
                HostList::Shared(list)
            }
        }
    }

    fn build(&self, scheme: &str, targets: &[SrvTarget]) -> Arc<[Host]> {
        let host = |target: &SrvTarget| {
            let url = format!("{scheme}://{}:{}", target.host, target.port);
            Host::new(&url, &self.client)
        };
        targets.iter().map(host).collect()
    }

    fn turn(&self, hosts: &[Host]) -> Order {
        let start = match hosts.len() {
            0 | 1 => 0,
            _ => self.next.fetch_add(1, Ordering::Relaxed),
        };
        order(hosts.len(), start, |index| {
            let place = hosts.get(index).and_then(|host| host.place.as_ref().ok());
            place.is_some_and(|place| place.penalty.holds())
        })
    }

    fn new(client: &Arc<Client>, hosts: Hosts, name: Box<str>) -> HostSet {
        HostSet {
            client: Arc::clone(client),
            hosts,
            next: AtomicUsize::new(0),
            name,
        }
    }
}
