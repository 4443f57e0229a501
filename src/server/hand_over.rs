//! What a process passes to the one that takes over from it, besides its sockets.
//!
//! The new process requests it through the control socket after it has the sockets, and before it accepts connections.
//! Each end may be of another version: a line that the other one does not know is ignored.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::runtime::service::Service;
use crate::server::control;
use crate::server::gateway::Shared;
use crate::server::tickets::Tickets;

/// The timeout of a request. The old process may have stopped after it passed its sockets on.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The state that can be passed on.
#[derive(Default)]
pub(crate) struct HandOver {
    tickets: Option<Arc<Tickets>>,
    shared: Option<Arc<Shared>>,
}

impl fmt::Debug for HandOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandOver").finish_non_exhaustive()
    }
}

impl HandOver {
    /// The ticket keys of the listener, and the state of the service in use.
    pub(crate) fn new(tickets: Option<Arc<Tickets>>, shared: Arc<Shared>) -> HandOver {
        HandOver {
            tickets,
            shared: Some(shared),
        }
    }

    /// The reply to a line of the control socket. `None` if the line does not concern an upgrade.
    pub(super) fn reply(&self, line: &[u8]) -> Option<String> {
        match line {
            b"tickets" => Some(
                self.tickets
                    .as_deref()
                    .map(Tickets::to_hand_over)
                    .unwrap_or_default(),
            ),
            b"state" => {
                let active = self.shared.as_ref().map(|shared| shared.active.load());
                let states = active
                    .iter()
                    .flat_map(|active| &active.service.upgrade_states);
                Some(states.map(|state| state.give()).collect())
            }
            _ => None,
        }
    }
}

/// The ticket keys of the process that listens at `port`, from which this one takes over. `None` if there is no
/// reply, or the process belongs to another user.
pub(super) fn tickets(port: u16) -> Option<String> {
    control::ask(port, "tickets", TIMEOUT).ok()
}

/// Takes the state of that process into a service that no request has reached yet.
pub(super) fn take_state(port: u16, service: &Service) {
    if service.upgrade_states.is_empty() {
        return;
    }
    if let Ok(given) = control::ask(port, "state", TIMEOUT) {
        for state in &service.upgrade_states {
            state.take(&given);
        }
    }
}
