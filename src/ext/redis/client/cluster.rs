//! A cluster: which server has which slots, and where commands go that were sent to the wrong one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::command::{Command, SLOTS};
use super::error::{CallError, ConnectionError};
use super::persistent::{PersistentConnections, pause};
use super::reply::Reply;
use super::server::{Address, Server, ServerKind};
use super::source::{Source, prepared};
use super::{ClientOptions, Status};
use crate::upstream::race::Turn;

/// How often a command is sent elsewhere.
const MAX_REDIRECTS: usize = 5;

/// How often the slots are read again without a reason.
const LOOK: Duration = Duration::from_secs(60);

/// The shortest time between two readings.
const LEAST: Duration = Duration::from_millis(100);

/// The most servers of a cluster.
const MAX_SERVERS: usize = 1_000;

/// The connections to all primaries of a cluster.
pub(super) struct Cluster {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    server: Arc<Server>,
    options: ClientOptions,
    status: Arc<Status>,
    runtime: Handle,
    /// In the order of their slots.
    ranges: ArcSwap<Vec<Range>>,
    /// The servers that are connected to, by host and port.
    nodes: Mutex<HashMap<(String, u16), Arc<Node>>>,
    /// Notified if the slots may have changed.
    stale: Arc<Notify>,
}

struct Node {
    address: Address,
    connections: PersistentConnections,
}

/// Slots, first and last included, of one server.
#[derive(Clone)]
struct Range {
    first: u16,
    last: u16,
    node: Arc<Node>,
}

/// Where a server sends a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Redirect {
    /// The slot has moved.
    Moved(Address),
    /// The slot is about to move: only this command goes there.
    Ask(Address),
}

impl Cluster {
    pub(super) fn new(
        server: Arc<Server>,
        options: ClientOptions,
        status: Arc<Status>,
        runtime: Handle,
    ) -> Cluster {
        let shared = Arc::new(Shared {
            server,
            options,
            status,
            runtime: runtime.clone(),
            ranges: ArcSwap::default(),
            nodes: Mutex::default(),
            stale: Arc::default(),
        });
        let task = runtime.spawn(keep(Arc::clone(&shared))).abort_handle();
        Cluster { shared, task }
    }

    pub(super) fn is_connected(&self) -> bool {
        let ranges = self.shared.ranges.load();
        ranges
            .iter()
            .any(|range| range.node.connections.is_connected())
    }

    /// Sends a command to the server that has this slot, and follows its redirects.
    ///
    /// # Errors
    /// There is no connection, or it was lost, or too many commands wait.
    pub(super) async fn call(&self, slot: u16, command: Command) -> Result<Reply, CallError> {
        let mut node = self.shared.node_of(slot).ok_or(CallError::NotConnected)?;
        let mut is_asking = false;
        let mut redirects = 0;
        loop {
            let reply = node.connections.call(command.clone(), is_asking).await?;
            let target = match &reply {
                Reply::Error(why) => redirect(why.raw(), &node.address),
                _ => None,
            };
            let address = match target {
                Some(_) if redirects == MAX_REDIRECTS => return Ok(reply),
                None => return Ok(reply),
                Some(Redirect::Moved(address)) => {
                    self.shared.stale.notify_one();
                    is_asking = false;
                    address
                }
                Some(Redirect::Ask(address)) => {
                    is_asking = true;
                    address
                }
            };
            redirects += 1;
            node = self.shared.node(&address).ok_or(CallError::NotConnected)?;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn node_of(&self, slot: u16) -> Option<Arc<Node>> {
        let ranges = self.ranges.load();
        let after = ranges.partition_point(|range| range.first <= slot);
        let range = ranges.get(after.checked_sub(1)?)?;
        (slot <= range.last).then(|| Arc::clone(&range.node))
    }

    /// The server at this address. A new one is connected to. `None` if there are too many.
    fn node(&self, address: &Address) -> Option<Arc<Node>> {
        // Every change is a single call, so a panic leaves no partial change.
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (address.host.clone(), address.port);
        if let Some(node) = nodes.get(&key) {
            return Some(Arc::clone(node));
        }
        if nodes.len() >= MAX_SERVERS {
            return None;
        }
        let node = Arc::new(Node {
            address: address.clone(),
            connections: PersistentConnections::new(
                Source::Address(address.clone()),
                &self.server,
                self.options,
                &self.status,
                &self.stale,
                &self.runtime,
            ),
        });
        nodes.insert(key, Arc::clone(&node));
        Some(node)
    }

    /// The addresses that may know the slots: those in the configuration, then those that were found.
    fn known(&self) -> Vec<Address> {
        let mut known = match &self.server.kind {
            ServerKind::Cluster(members) => members.clone(),
            ServerKind::One(_) | ServerKind::Sentinel(_) => Vec::new(),
        };
        for range in self.ranges.load().iter() {
            if !known.iter().any(|address| address.is(&range.node.address)) {
                known.push(range.node.address.clone());
            }
        }
        known
    }

    /// Reads the slots from the first server that knows them.
    async fn read(&self, turn: &Turn) -> Result<Vec<(u16, u16, Address)>, ConnectionError> {
        let mut last = ConnectionError::Connect("no members".to_owned());
        for address in self.known() {
            match self.read_from(&address, turn).await {
                Ok(found) => return Ok(found),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn read_from(
        &self,
        address: &Address,
        turn: &Turn,
    ) -> Result<Vec<(u16, u16, Address)>, ConnectionError> {
        let limit = self.options.dial_timeout;
        let mut connection = prepared(address, &self.server, limit, turn).await?;
        let command = Command::new(&[b"CLUSTER", b"SLOTS"]);
        let reply = connection.demand(&command).await?;
        let found = slots(reply, address).ok_or(ConnectionError::Malformed)?;
        if found.is_empty() {
            let empty = "the cluster has no slots".to_owned();
            return Err(ConnectionError::Setup(empty));
        }
        Ok(found)
    }

    /// Uses these slots, and closes the connections to servers that have none.
    fn apply(&self, found: Vec<(u16, u16, Address)>) {
        let mut ranges: Vec<Range> = found
            .into_iter()
            .filter_map(|(first, last, address)| {
                let node = self.node(&address)?;
                Some(Range { first, last, node })
            })
            .collect();
        ranges.sort_by_key(|range| range.first);
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|_, node| ranges.iter().any(|range| Arc::ptr_eq(&range.node, node)));
        drop(nodes);
        self.ranges.store(Arc::new(ranges));
    }
}

/// Keeps the slots up to date.
async fn keep(shared: Arc<Shared>) {
    let turn = Turn::default();
    let mut failures = 0;
    loop {
        match shared.read(&turn).await {
            Ok(found) => {
                shared.apply(found);
                failures = 0;
                // Either way it is time to look.
                let _ = timeout(LOOK, shared.stale.notified()).await;
                sleep(LEAST).await;
            }
            Err(error) => {
                shared.status.refused(error);
                turn.next();
                failures += 1;
                sleep(pause(shared.options.backoff, failures)).await;
            }
        }
    }
}

/// The redirect of an error reply: `MOVED 3999 127.0.0.1:6381`. Without a host it is that of the server that replied.
pub(super) fn redirect(text: &str, from: &Address) -> Option<Redirect> {
    let mut words = text.split(' ');
    let make = match words.next()? {
        "MOVED" => Redirect::Moved,
        "ASK" => Redirect::Ask,
        _ => return None,
    };
    words.next()?.parse::<u16>().ok()?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    Some(make(node_address(host, port.parse().ok()?, from)))
}

/// The address of a member that `from` has named.
fn node_address(host: &str, port: u16, from: &Address) -> Address {
    let host = if host.is_empty() || host == "?" {
        &from.host
    } else {
        host
    };
    // Members often have a certificate for the name of the whole cluster, and name each other by IP address.
    let is_ip = host.parse::<std::net::IpAddr>().is_ok();
    let name = from.certificate_name.as_ref().unwrap_or(&from.host);
    Address {
        host: host.to_owned(),
        port,
        certificate_name: is_ip.then(|| name.clone()),
    }
}

/// The slots and primaries in a reply to `CLUSTER SLOTS` from this server. `None` if it is not such a reply.
pub(super) fn slots(reply: Reply, from: &Address) -> Option<Vec<(u16, u16, Address)>> {
    let ranges = reply.into_elements()?.into_iter();
    ranges
        .map(|range| {
            let mut parts = range.into_elements()?.into_iter();
            let first = u16::try_from(parts.next()?.integer()?).ok()?;
            let last = u16::try_from(parts.next()?.integer()?).ok()?;
            let address = member(parts.next()?, from)?;
            (first <= last && last < SLOTS).then_some((first, last, address))
        })
        .collect()
}

/// A server in that reply: host or null, port, id, and since Redis 7 names and values, of which `hostname` is preferred to an
/// IP address.
fn member(reply: Reply, from: &Address) -> Option<Address> {
    let mut parts = reply.into_elements()?.into_iter();
    let host = parts.next()?.into_text().unwrap_or_default();
    let port = u16::try_from(parts.next()?.integer()?).ok()?;
    let more = parts.nth(1).and_then(Reply::into_elements);
    let more: Vec<String> = more
        .unwrap_or_default()
        .into_iter()
        .filter_map(Reply::into_text)
        .collect();
    let name = more
        .chunks_exact(2)
        .find(|pair| pair[0] == "hostname" && !pair[1].is_empty())
        .map(|pair| pair[1].as_str());
    Some(node_address(name.unwrap_or(&host), port, from))
}
