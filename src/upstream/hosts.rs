//! Selects the address of a call, from static lists, DNS or SRV.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1Session;
use tokio::sync::OwnedSemaphorePermit;

use super::client::Client;
use super::dial::{Handshake, Way};
use super::dns::{Service, SrvTarget};
use super::error::CallError;
use super::failover::{Order, order};
use super::host::{Host, Peers, Place};
use super::host_rules::HostRules;
use super::resilience::{AffinityKey, Pick, Resilience};
use super::session::{Connection, Session};
use super::usage::{HostStates, InUse};
use crate::per_worker::OwnArc;
use crate::telemetry::observe::RoundTrip;

/// The hosts of one backend, and the client that calls them.
#[derive(Debug)]
pub struct HostSet {
    pub(super) client: Arc<Client>,
    hosts: Hosts,
    next: AtomicUsize,
    name: Arc<str>,
    pub(super) rules: HostRules,
    /// What the file asks for beyond round robin.
    pub(super) resilience: Option<Arc<Resilience>>,
    /// The host that was chosen before the call was built.
    first: Option<usize>,
    pub(super) sticky: Option<u64>,
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

/// The hosts made from one SRV result.
#[derive(Debug)]
struct Built {
    of: Arc<Vec<SrvTarget>>,
    list: Arc<[Host]>,
}

/// The hosts of a call, borrowed from the set or owned by the call.
pub(super) enum HostList<'a> {
    Fixed(&'a Arc<[Host]>),
    Shared(Arc<[Host]>),
}

impl HostList<'_> {
    /// The list, shared by reference counting.
    pub(super) fn shared(self) -> Arc<[Host]> {
        match self {
            HostList::Fixed(list) => Arc::clone(list),
            HostList::Shared(list) => list,
        }
    }
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

/// A selected host.
#[derive(Debug)]
pub struct Target {
    /// The value of `Host`.
    pub authority: HeaderValue,
    /// The part of the host string after the authority, prepended to the path.
    pub base: String,
    /// `scheme://authority`, for traces and series.
    pub host: Arc<str>,
    /// Counts the connection as long as it is used.
    pub(super) in_use: InUse,
}

impl Host {
    fn target(&self, place: &Place) -> Target {
        Target {
            authority: place.authority.clone(),
            base: place.base.to_string(),
            host: Arc::clone(&self.url),
            in_use: InUse::begin(&place.usage),
        }
    }
}

/// A connection and its destination.
pub(super) struct Connected {
    pub(super) connection: Connection,
    pub(super) reused: bool,
    pub(super) host: usize,
    pub(super) peers: OwnArc<Peers>,
    pub(super) peer: usize,
    /// The permit that limits concurrent calls to the host, released after the exchange.
    pub(super) slot: Option<OwnedSemaphorePermit>,
}

impl HostSet {
    /// A fixed list with round-robin balancing. Each entry is `scheme://authority` or, with `disable_host_sanitize`,
    /// any string: a path is appended to it unchanged, and a call fails if the result is not a URL.
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

    /// The same hosts with these rules.
    pub fn ruled(self, rules: HostRules) -> HostSet {
        HostSet { rules, ..self }
    }

    /// The same hosts with this resilience. Set it before any call is made.
    pub(crate) fn with_resilience(mut self, mut resilience: Resilience) -> HostSet {
        if let Hosts::Fixed(list) = &mut self.hosts
            && let Some(list) = Arc::get_mut(list)
        {
            list.iter_mut().for_each(|host| resilience.adopt(host));
            resilience.balance.weigh(list);
        }
        self.resilience = Some(Arc::new(resilience));
        self
    }

    /// The number of hosts, as far as it is known without waiting.
    pub(super) fn len(&self) -> Option<usize> {
        self.known().map(|list| list.len())
    }

    /// The name of this set where one URL is needed, as in a cache key: the first host as configured, or the SRV
    /// name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client that calls these hosts.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// `scheme://authority` of the only host, if there is exactly one and it has no base path.
    pub fn only(&self) -> Option<&str> {
        let Hosts::Fixed(hosts) = &self.hosts else {
            return None;
        };
        match &**hosts {
            [one] if one.place.as_ref().is_ok_and(|place| place.base.is_empty()) => Some(&one.url),
            _ => None,
        }
    }

    /// `scheme://authority` and base path of the next host, for callers that must know the whole URL before they call
    /// [`HostSet::elsewhere`] with it. `None` if no host can be called.
    pub(crate) async fn next_place(
        &self,
        affinity: Option<AffinityKey>,
    ) -> Option<(String, String)> {
        let hosts = self.list().await;
        let pick = Pick {
            affinity,
            ..Pick::default()
        };
        let index = self.turn(&hosts, pick).first().copied()?;
        let host = hosts.get(index)?;
        let base = &host.place.as_ref().ok()?.base;
        let origin = host.url.strip_suffix(&**base)?;
        Some((origin.to_owned(), base.to_string()))
    }

    /// A set whose next call goes to `scheme://authority`, with the settings of this set.
    ///
    /// If that is one of its hosts, the others are still used for failover, and its failure history is kept.
    pub fn elsewhere(&self, origin: &str) -> HostSet {
        let own = self.known().and_then(|list| {
            let first = list.iter().position(|host| &*host.url == origin)?;
            // By now a base path is part of the target, so only hosts without one can be exchanged.
            let is_plain = |host: &Host| host.place.as_ref().is_ok_and(|p| p.base.is_empty());
            list.iter().all(is_plain).then_some((list, first))
        });
        match own {
            Some((list, first)) => HostSet {
                next: AtomicUsize::new(first),
                resilience: self.resilience.clone(),
                first: Some(first),
                ..HostSet::new(&self.client, Hosts::Fixed(list), self.name.clone())
            },
            None => HostSet::fixed(&self.client, &[origin]),
        }
        .ruled(self.rules)
    }

    /// Adds the hosts and the names of this set, for metrics. Hosts from SRV records count under the name of the set,
    /// because the labels of metrics come from the configuration.
    pub(crate) fn add_states(&self, states: &mut HostStates) {
        let list = self.known();
        let list = list.as_deref().unwrap_or_default();
        let service = match &self.hosts {
            Hosts::Fixed(_) => None,
            Hosts::Service { entry, .. } => {
                states.names.insert(entry.name().into(), entry.state());
                Some(&*self.name)
            }
        };
        if let Some(resilience) = &self.resilience {
            states.add_spent(&self.name, resilience);
        }
        for host in list {
            let Ok(place) = &host.place else { continue };
            states.add(service.unwrap_or(&host.url), &place.usage);
            if let Some(health) = host
                .resilience
                .as_ref()
                .and_then(|resilience| resilience.health.as_ref())
            {
                states.add_health(service.unwrap_or(&host.url), health.report());
            }
            if service.is_none() {
                place.add_name(states);
            }
        }
    }

    /// The hosts that are known without waiting.
    fn known(&self) -> Option<Arc<[Host]>> {
        match &self.hosts {
            Hosts::Fixed(list) => Some(Arc::clone(list)),
            Hosts::Service { built, .. } => built.load().as_ref().map(|b| Arc::clone(&b.list)),
        }
    }

    /// A new HTTP/1 connection to one of the hosts, for a caller that will use another protocol on it.
    ///
    /// # Errors
    /// There are no hosts, a host is not a URL, a name has no address, or no host accepts the connection.
    pub async fn dial(&self) -> Result<(Box<Http1Session>, Target), CallError> {
        let hosts = self.list().await;
        let (session, target, handshake) = self.dial_for(&hosts, None, &mut None).await?;
        handshake.answered();
        Ok((session, target))
    }

    /// A new HTTP/1 connection to one of `hosts` for a call with a key, which is reported to `trip`.
    pub(super) async fn dial_for<'h>(
        &'h self,
        hosts: &'h HostList<'_>,
        affinity: Option<AffinityKey>,
        trip: &mut Option<Box<RoundTrip>>,
    ) -> Result<(Box<Http1Session>, Target, Handshake<'h>), CallError> {
        let pick = Pick {
            affinity,
            ..Pick::default()
        };
        let found = self
            .connect_any(hosts, Way::Bare, (pick, trip), |error, _| error)
            .await?;
        let host = hosts.get(found.host).ok_or_else(CallError::no_hosts)?;
        let place = host.place()?;
        let target = host.target(place);
        let handshake = Handshake::begin(self, host, (found.peers, found.peer));
        match *Session::from(found.connection).into_pingora() {
            HttpSession::H1(session) => Ok((Box::new(session), target, handshake)),
            _ => Err(CallError::truncated()),
        }
    }

    /// The current hosts, for a round trip. Until there are hosts, the round trip has the name of their service.
    pub(super) async fn observed_list(&self, trip: &mut Option<Box<RoundTrip>>) -> HostList<'_> {
        if let (Some(trip), Hosts::Service { .. }) = (trip, &self.hosts) {
            trip.tries(&self.name);
        }
        self.list().await
    }

    /// The current hosts. Waits only for the first result of an SRV name.
    pub(super) async fn list(&self) -> HostList<'_> {
        match &self.hosts {
            Hosts::Fixed(list) => HostList::Fixed(list),
            Hosts::Service {
                entry,
                scheme,
                built,
            } => {
                let mut targets = entry.targets.load_full();
                if targets.is_none() {
                    // Boxed, because a call seldom waits for a lookup.
                    Box::pin(self.client.dns.ready_service(entry)).await;
                    targets = entry.targets.load_full();
                }
                let Some(targets) = targets else {
                    return HostList::Shared(Arc::from([]));
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
            let mut host = Host::new(&url, &self.client);
            if let Some(resilience) = &self.resilience {
                resilience.adopt(&mut host);
            }
            host
        };
        targets.iter().map(host).collect()
    }

    pub(super) fn turn(&self, hosts: &[Host], pick: Pick<'_>) -> Order {
        if let Some(resilience) = &self.resilience {
            let first = self.first;
            return resilience.balance.order(hosts, Pick { first, ..pick });
        }
        let start = match hosts.len() {
            0 | 1 => 0,
            _ => self.next.fetch_add(1, Ordering::Relaxed),
        };
        order(hosts.len(), start, |index| {
            let place = hosts.get(index).and_then(|host| host.place.as_ref().ok());
            place.map(|place| &place.failures)
        })
    }

    fn new(client: &Arc<Client>, hosts: Hosts, name: Arc<str>) -> HostSet {
        HostSet {
            client: Arc::clone(client),
            hosts,
            next: AtomicUsize::new(0),
            name,
            rules: HostRules::default(),
            resilience: None,
            first: None,
            sticky: None,
        }
    }
}
