//! The address with which a call to a server that has several ones begins.
//!
//! The library that makes side calls tries the addresses of a name in their order, each for a share of the time to
//! connect, and always begins with the first one. If that one does not respond, each call would be late, or fail if the
//! address still accepts connections. So after a failed call the next call begins with the next address. An address that
//! responded in place of the first one is the first one for a while.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// How long an address is the first one that responded in place of another.
const PREFERRED: Duration = Duration::from_secs(60);
/// Names come from the configuration and from documents of providers. Beyond this number, the order is that of the system.
const MAX_NAMES: usize = 1024;

static PROCESS: LazyLock<Arc<Addresses>> = LazyLock::new(Arc::default);

/// What is known about names with several addresses.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    names: Mutex<HashMap<Box<str>, Known>>,
}

#[derive(Debug)]
struct Known {
    /// The first one of the last lookup.
    first: IpAddr,
    preferred: Option<(IpAddr, Instant)>,
    /// How many addresses are passed over.
    turn: usize,
    turned: Option<Instant>,
}

impl Addresses {
    /// Those of the process, which all clients share.
    pub(super) fn process() -> &'static Arc<Addresses> {
        &PROCESS
    }

    fn names(&self) -> MutexGuard<'_, HashMap<Box<str>, Known>> {
        // Every change is one assignment, so a panic leaves no partial change.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the addresses of a name into the order in which they are tried.
    fn order(&self, name: &str, mut found: Vec<SocketAddr>, now: Instant) -> Vec<SocketAddr> {
        let [first, _, ..] = found.as_slice() else {
            return found;
        };
        let first = first.ip();
        let mut names = self.names();
        if names.len() >= MAX_NAMES && !names.contains_key(name) {
            return found;
        }
        let known = names.entry(name.into()).or_insert(Known {
            first,
            preferred: None,
            turn: 0,
            turned: None,
        });
        let preferred = known.preferred.filter(|(_, until)| now < *until);
        let at = preferred.and_then(|(ip, _)| found.iter().position(|one| one.ip() == ip));
        let length = found.len();
        found.rotate_left(at.unwrap_or(known.turn % length));
        known.first = found.first().map_or(first, SocketAddr::ip);
        found
    }

    fn worked(&self, name: &str, remote: Option<IpAddr>, now: Instant) {
        if let Some(known) = self.names().get_mut(name)
            && let Some(remote) = remote.filter(|remote| *remote != known.first)
        {
            known.preferred = Some((remote, now + PREFERRED));
        }
    }

    fn failed(&self, name: &str, began: Instant, now: Instant) {
        // Calls that began before another one failed have tried the same address.
        if let Some(known) = self.names().get_mut(name)
            && known.turned.is_none_or(|turned| turned <= began)
        {
            known.turn = known.turn.wrapping_add(1);
            known.turned = Some(now);
            known.preferred = None;
        }
    }
}

/// The resolver of the system, whose addresses are brought into order.
#[derive(Debug)]
pub(super) struct Ordered;

impl Resolve for Ordered {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str();
            let found = tokio::net::lookup_host((name, 0)).await?.collect();
            let ordered = Addresses::process().order(name, found, Instant::now());
            Ok(Box::new(ordered.into_iter()) as Addrs)
        })
    }
}

/// A call in progress. If it is dropped before it has ended, its server has not responded.
#[derive(Debug)]
pub(super) struct Attempt {
    name: Option<Box<str>>,
    began: Instant,
}

impl Attempt {
    /// No call yet.
    pub(super) fn new() -> Attempt {
        Attempt {
            name: None,
            began: Instant::now(),
        }
    }

    /// The call goes to this server.
    pub(super) fn begin(&mut self, name: Option<&str>) {
        self.name = name.map(Box::from);
        self.began = Instant::now();
    }

    /// The server has responded from this address.
    pub(super) fn responded(&self, remote: Option<SocketAddr>) {
        if let Some(name) = &self.name {
            let remote = remote.map(|remote| remote.ip());
            Addresses::process().worked(name, remote, Instant::now());
        }
    }

    /// The server is not to blame for what follows.
    pub(super) fn end(&mut self) {
        self.name = None;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            Addresses::process().failed(name, self.began, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(last: &[u8]) -> Vec<SocketAddr> {
        let address = |last: &u8| SocketAddr::from(([127, 0, 0, *last], 0));
        last.iter().map(address).collect()
    }

    #[test]
    fn after_a_failure_the_next_address_is_first() {
        let (known, now) = (Addresses::default(), Instant::now());
        let order = |now| known.order("a", addresses(&[1, 2, 3]), now);
        let later = now + Duration::from_millis(1);
        // A call begins before its lookup.
        assert_eq!(order(later), addresses(&[1, 2, 3]));
        known.failed("a", now, later);
        // It has begun before.
        known.failed("a", now, later);
        assert_eq!(order(later), addresses(&[2, 3, 1]));
        known.failed("a", later, later);
        known.failed("a", later, later + Duration::from_millis(1));
        assert_eq!(order(later), addresses(&[1, 2, 3]));
    }

    #[test]
    fn an_address_that_responded_in_place_of_the_first_one_is_first_for_a_while() {
        let (known, now) = (Addresses::default(), Instant::now());
        let order = |now| known.order("a", addresses(&[1, 2, 3]), now);
        let remote = |last| Some(IpAddr::from([127, 0, 0, last]));
        order(now);
        known.worked("a", remote(1), now);
        assert_eq!(order(now), addresses(&[1, 2, 3]));
        known.worked("a", remote(3), now);
        assert_eq!(order(now), addresses(&[3, 1, 2]));
        assert_eq!(order(now + PREFERRED), addresses(&[1, 2, 3]));
        // The address of a proxy is none of them.
        known.worked("a", remote(9), now);
        assert_eq!(order(now), addresses(&[1, 2, 3]));
        // Names with one address need no order.
        assert_eq!(known.order("b", addresses(&[7]), now), addresses(&[7]));
        assert!(!known.names().contains_key("b"));
    }

    #[test]
    fn the_number_of_names_is_limited() {
        let (known, now) = (Addresses::default(), Instant::now());
        for number in 0..MAX_NAMES + 10 {
            known.order(&number.to_string(), addresses(&[1, 2]), now);
        }
        assert_eq!(known.names().len(), MAX_NAMES);
    }
}
