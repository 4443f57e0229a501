//! Connects to a host, and draws conclusions about it from each attempt.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use pingora_core::Error;
use tokio::time::Instant;

use super::client::Client;
use super::error::CallError;
use super::host::{Candidate, Host, Peers, Place};
use super::hosts::{Connected, HostList, HostSet};
use super::idle::Idle;
use super::resilience::Pick;
use super::session::Connection;
use super::sockets::{Socket, Sockets};
use crate::per_worker::OwnArc;
use crate::telemetry::observe::RoundTrip;

/// The maximum number of hosts tried for one call: a hundred closed hosts must not cost a hundred timeouts.
const MAX_HOSTS: usize = 4;

/// How a connection is obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the pool, or a new one.
    Pooled,
    /// A new one, for another protocol.
    Bare,
}

impl HostSet {
    /// Connects to the first host that accepts, with any method: nothing was sent to the others. Each host that does not
    /// accept is reported as a round trip of its own.
    pub(super) async fn connect(
        &self,
        hosts: &HostList<'_>,
        (method, target): (&Method, &str),
        (pick, trip): (Pick<'_>, &mut Option<Box<RoundTrip>>),
    ) -> Result<Connected, CallError> {
        let named = |error: CallError, host: &Host| error.of(method, (&host.url, target));
        self.connect_any(hosts, Way::Pooled, (pick, trip), named)
            .await
    }

    pub(super) async fn connect_any(
        &self,
        hosts: &HostList<'_>,
        way: Way,
        (pick, trip): (Pick<'_>, &mut Option<Box<RoundTrip>>),
        named: impl Fn(CallError, &Host) -> CallError,
    ) -> Result<Connected, CallError> {
        let mut failure: Option<CallError> = None;
        let turn = self.turn(hosts, pick);
        let most = turn.len().min(MAX_HOSTS);
        for (trial, index) in turn.into_iter().take(most).enumerate() {
            let Some(host) = hosts.get(index) else {
                continue;
            };
            if let Some(trip) = trip {
                if let Some(failure) = &failure {
                    trip.moves_on(failure.observed());
                }
                trip.tries(&host.url);
            }
            let place = host.place().map_err(|error| named(error, host))?;
            if let Some(tried) = pick.tried {
                tried.add(index);
            }
            let is_last = trial + 1 == most;
            match self.connect_to(place, index, way, is_last).await {
                Ok(connected) => return Ok(connected),
                Err(error) => failure = Some(named(error, host)),
            }
        }
        Err(failure.unwrap_or_else(CallError::no_hosts))
    }

    async fn connect_to(
        &self,
        place: &Place,
        host: usize,
        way: Way,
        is_last_host: bool,
    ) -> Result<Connected, CallError> {
        let slot = match &place.slots {
            // The semaphore is never closed, so acquiring cannot fail.
            Some(slots) => Arc::clone(slots).acquire_owned().await.ok(),
            None => None,
        };
        let mut failure = None;
        let peers = match place.peers(&self.client).await {
            Ok(peers) => peers,
            Err(error) => {
                place.impose(&error.text);
                return Err(error);
            }
        };
        let order = peers.order();
        let addresses = order.len();
        for (trial, index) in order.into_iter().enumerate() {
            let Some(candidate) = peers.list.get(index) else {
                continue;
            };
            let connected = |(connection, reused), slot| Connected {
                connection,
                reused,
                host,
                peers: Arc::clone(&peers),
                peer: index,
                slot,
            };
            if way == Way::Pooled
                && let pool = &self.client.pool
                && let is_scarce = Sockets::process().is_scarce()
                && let Some(connection) = pool.reuse_unless(is_scarce, &candidate.peer).await
            {
                return Ok(connected((connection, true), slot));
            }
            let _socket = match Sockets::process().take() {
                Some(socket) => socket,
                // Boxed, because descriptors are seldom scarce.
                None => match Box::pin(self.socket(candidate, way)).await {
                    Free::Connection(connection) => {
                        return Ok(connected((connection, true), slot));
                    }
                    Free::Socket(socket) => socket,
                },
            };
            let is_last = is_last_host && trial + 1 == addresses;
            let dial = Dial::begin(self, &peers, index, place);
            // Boxed: dialing is rare, and calls that reuse a connection should not carry its state.
            match Box::pin(self.reach(place, candidate, way, is_last)).await {
                Ok(connection) => {
                    dial.succeeded();
                    return Ok(connected((connection, false), slot));
                }
                Err(error) => {
                    dial.failed();
                    // The first failure is the most informative: often the second address of `localhost` is just not
                    // in use.
                    failure.get_or_insert_with(|| place.dial_error(&error));
                }
            }
        }
        let failure = failure.unwrap_or_else(CallError::no_hosts);
        place.impose(&failure.text);
        place.doubt(&self.client);
        Err(failure)
    }

    /// Waits in the line for a descriptor, or for a connection that another call no longer needs.
    async fn socket(&self, candidate: &Candidate, way: Way) -> Free {
        let turn = Sockets::process().turn().await;
        loop {
            if way == Way::Pooled
                && let Some(connection) = self.client.pool.reuse(&candidate.peer).await
            {
                return Free::Connection(connection);
            }
            if let Some(socket) = turn.take() {
                return Free::Socket(socket);
            }
            if !Idle::close_one_of_all() {
                turn.change().await;
            }
        }
    }

    /// Opens a new connection to one address. The last address may use all the remaining time.
    async fn reach(
        &self,
        place: &Place,
        candidate: &Candidate,
        way: Way,
        is_last: bool,
    ) -> Result<Connection, Box<Error>> {
        let shared = !is_last && self.client.settings.dialer_timeout.is_none();
        let limit = shared.then(|| self.rules.dial_share());
        let pool = &self.client.pool;
        match way {
            Way::Pooled => pool.fresh(&candidate.peer, limit).await,
            Way::Bare => {
                let bare = place.bare_peer(&self.client, &candidate.peer);
                pool.fresh(&bare, limit).await
            }
        }
    }
}

/// The end of a wait in the line.
enum Free {
    Connection(Connection),
    Socket(Socket<'static>),
}

/// An attempt to connect. If it is dropped without a result, it was cancelled by the caller's deadline or because the
/// client closed its connection. After a long wait this counts as a failure.
pub(super) struct Dial<'a> {
    client: &'a Client,
    peers: &'a Peers,
    peer: usize,
    place: &'a Place,
    since: Instant,
    long_wait: Duration,
    has_verdict: bool,
}

impl<'a> Dial<'a> {
    pub(super) fn begin(
        set: &'a HostSet,
        peers: &'a Peers,
        peer: usize,
        place: &'a Place,
    ) -> Dial<'a> {
        Dial {
            client: &set.client,
            peers,
            peer,
            place,
            since: Instant::now(),
            long_wait: set.rules.long_wait() / 2,
            has_verdict: false,
        }
    }

    pub(super) fn succeeded(mut self) {
        self.has_verdict = true;
    }

    pub(super) fn failed(mut self) {
        self.has_verdict = true;
        self.impose();
    }

    fn impose(&self) {
        if let Some(candidate) = self.peers.list.get(self.peer) {
            candidate.failures.impose();
        }
    }
}

impl Drop for Dial<'_> {
    fn drop(&mut self) {
        if self.has_verdict || self.since.elapsed() < self.long_wait {
            return;
        }
        self.impose();
        if self.peers.all_failed() {
            let waited = self.since.elapsed();
            self.place
                .impose(&format!("no connection within {waited:.1?}"));
            self.place.doubt(self.client);
        }
    }
}

impl Peers {
    /// Records a response of this address, which proves that the host works.
    pub(super) fn answered(&self, peer: usize, host: Option<&Host>) {
        if let Some(candidate) = self.list.get(peer) {
            candidate.failures.lift();
        }
        if let Some(host) = host
            && let Ok(place) = &host.place
            && place.lift()
            && let Some(health) = host.health()
        {
            health.has_come_back();
        }
    }

    /// Records a request to this address that got no response. If all addresses failed, the name is looked up again.
    pub(super) fn unanswered(&self, peer: usize, place: &Place, client: &Client) {
        if let Some(candidate) = self.list.get(peer) {
            candidate.failures.unanswered();
        }
        let all_failed = self.all_failed();
        if self.list.len() == 1 || all_failed {
            place.unanswered();
        }
        if all_failed {
            place.doubt(client);
        }
    }
}

/// The wait for the response to a handshake on a new connection. It says the same about the host as the wait for the
/// response to a call.
pub(super) struct Handshake<'a> {
    set: &'a HostSet,
    host: &'a Host,
    peers: OwnArc<Peers>,
    peer: usize,
    since: Instant,
    has_verdict: bool,
}

impl<'a> Handshake<'a> {
    /// The connection to this address is open.
    pub(super) fn begin(
        set: &'a HostSet,
        host: &'a Host,
        (peers, peer): (OwnArc<Peers>, usize),
    ) -> Handshake<'a> {
        Handshake {
            set,
            host,
            peers,
            peer,
            since: Instant::now(),
            has_verdict: false,
        }
    }

    /// The host responded in any way.
    pub(super) fn answered(mut self) {
        self.has_verdict = true;
        self.peers.answered(self.peer, Some(self.host));
    }

    /// The connection ended without a response.
    pub(super) fn failed(mut self) {
        self.has_verdict = true;
        self.unanswered();
    }

    fn unanswered(&self) {
        if let Ok(place) = &self.host.place {
            self.peers.unanswered(self.peer, place, &self.set.client);
        }
    }
}

/// A cancelled wait says something about the host only if it was long.
impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        if !self.has_verdict && self.since.elapsed() >= self.set.rules.long_wait() {
            self.unanswered();
        }
    }
}
