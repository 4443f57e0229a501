//! The listening sockets that parts of the service serve themselves, such as the RPC port of the revoker: bound here, or
//! taken over from the previous process.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::backoff::Backoff;
use crate::runtime::own_listener::OwnListener;
use crate::runtime::service::Service;
use crate::runtime::upgrade_state::UpgradeState;
use crate::server::gateway::Shared;
use crate::server::listeners::{self, Listeners};
use crate::server::process::RunError;

/// The pauses between attempts to bind an address that the previous process still has.
const RETRY: Backoff = Backoff::doubling(Duration::from_millis(50), Duration::from_secs(1));

fn of(service: &Service) -> impl Iterator<Item = &OwnListener> {
    let states = service.upgrade_states.iter();
    states.filter_map(|state| state.listener())
}

/// Opens those of a service that starts, which are among its states. After an upgrade (`later` runs tasks) an address that
/// is still in use is bound as soon as it is free: a process of an older version does not pass it on, and closes it when it
/// drains.
///
/// # Errors
/// An address cannot be bound.
pub(super) fn start(
    states: &[Arc<dyn UpgradeState>],
    listeners: &mut Listeners,
    later: Option<&Runtime>,
) -> Result<(), RunError> {
    for state in states {
        let Some(own) = state.listener() else {
            continue;
        };
        match (listeners.take(own.address), later) {
            (Ok(socket), _) => own.open(socket),
            (Err(error), Some(runtime)) if error.kind() == io::ErrorKind::AddrInUse => {
                own.wait();
                log::warn!(
                    "[SERVICE: Gateway] {}: {} is still in use: it is bound as soon as the old process has closed it",
                    own.block,
                    own.address
                );
                runtime.spawn(bind_later(Arc::downgrade(state)));
            }
            (Err(source), _) => {
                return Err(RunError::Bind {
                    address: own.address,
                    source,
                    key: own.block,
                });
            }
        }
    }
    Ok(())
}

async fn bind_later(state: Weak<dyn UpgradeState>) {
    for failures in 1.. {
        tokio::time::sleep(RETRY.pause(failures)).await;
        let Some(state) = state.upgrade() else { return };
        let Some(own) = state.listener().filter(|own| own.is_waiting()) else {
            return;
        };
        if let Ok(socket) = listeners::bind(own.address) {
            own.open(socket);
            log::info!(
                "[SERVICE: Gateway] {}: listening at {}",
                own.block,
                own.address
            );
            return;
        }
    }
}

/// Binds those that a reload adds, before anything else of it is used.
///
/// # Errors
/// An address cannot be bound.
pub(super) fn add(service: &Service) -> Result<(), String> {
    for own in of(service).filter(|own| own.is_new()) {
        let socket = listeners::bind(own.address)
            .map_err(|error| format!("{}: {}: {error}", own.block, own.address))?;
        own.open(socket);
    }
    Ok(())
}

/// Closes those of `old` that the service in use does not have.
pub(super) fn close_unused(old: &Service, shared: &Shared) {
    let active = shared.active.load();
    for own in of(old) {
        if !of(&active.service).any(|kept| std::ptr::eq(kept, own)) {
            own.close();
        }
    }
}

/// Closes these sockets and those of the service.
pub(super) fn close(listeners: &mut Listeners, shared: &Shared) {
    listeners.close();
    of(&shared.active.load().service).for_each(OwnListener::close);
}

/// Handles of these sockets and of those of the service, for the process that takes over.
///
/// # Errors
/// No file descriptor is left.
pub(super) fn all(listeners: &Listeners, shared: &Shared) -> io::Result<Listeners> {
    let mut all = Vec::new();
    for (address, listener) in listeners.iter() {
        all.push((address, listener.try_clone()?));
    }
    for own in of(&shared.active.load().service) {
        if let Some(socket) = own.socket() {
            all.push((own.address, socket?));
        }
    }
    Ok(Listeners::given(all))
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    fn own(address: SocketAddr) -> Arc<dyn UpgradeState> {
        Arc::new(OwnListener::new("auth/revoker", address))
    }

    fn taken() -> (TcpListener, SocketAddr) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[test]
    fn a_socket_that_was_passed_on_is_used() {
        let (socket, address) = taken();
        let mut listeners = Listeners::given(vec![(address, socket)]);
        let states = [own(address)];
        start(&states, &mut listeners, None).unwrap();
        assert!(TcpStream::connect(address).is_ok());
        assert_eq!(listeners.iter().count(), 0);
        states[0].listener().unwrap().close();
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn an_address_in_use_stops_a_start_but_not_an_upgrade() {
        let (socket, address) = taken();
        let states = [own(address)];
        let error = start(&states, &mut Listeners::default(), None).unwrap_err();
        let expected = format!("listen tcp {address}: bind: ");
        assert!(error.to_string().starts_with(&expected), "{error}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        start(&states, &mut Listeners::default(), Some(&runtime)).unwrap();
        let mut turn = states[0].listener().unwrap().turn();
        drop(socket);
        let opened = runtime.block_on(turn.opened());
        assert_eq!(opened.unwrap().unwrap().local_addr().unwrap(), address);
    }
}
