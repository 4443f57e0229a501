//! Where a connection leads: to a fixed address, or to the server that a sentinel names.

use std::time::Duration;

use super::command::Command;
use super::connection::Connection;
use super::error::ConnectionError;
use super::reply::Reply;
use super::server::{Address, Credentials, Sentinels, Server, ServerKind};
use crate::upstream::race::Turn;

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Address(Address),
    /// The current primary, by the sentinels of the server.
    Sentinel,
}

impl Source {
    /// A connection that is ready for commands. `turn` says with which address of each host it begins.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn open(
        &self,
        server: &Server,
        limit: Duration,
        turn: &Turn,
    ) -> Result<Connection, ConnectionError> {
        match (self, &server.kind) {
            (Source::Sentinel, ServerKind::Sentinel(sentinels)) => {
                let address = primary(sentinels, server, limit, turn).await?;
                let mut connection = prepared(&address, server, limit, turn).await?;
                is_primary(&mut connection).await?;
                Ok(connection)
            }
            (Source::Sentinel, _) => Err(ConnectionError::Sentinel("no sentinels".to_owned())),
            (Source::Address(address), _) => prepared(address, server, limit, turn).await,
        }
    }
}

/// A connection to this address with the credentials and the database of the server.
pub(super) async fn prepared(
    address: &Address,
    server: &Server,
    limit: Duration,
    turn: &Turn,
) -> Result<Connection, ConnectionError> {
    let mut connection = Connection::open(address, server, limit, turn).await?;
    connection
        .prepare(server.credentials.as_ref(), server.database)
        .await?;
    Ok(connection)
}

/// The address of the primary, from the first sentinel that knows it.
async fn primary(
    sentinels: &Sentinels,
    server: &Server,
    limit: Duration,
    turn: &Turn,
) -> Result<Address, ConnectionError> {
    let own = sentinels.credentials.as_ref();
    let credentials = own.or(server.credentials.as_ref());
    let mut last = ConnectionError::Sentinel("no sentinels".to_owned());
    for address in &sentinels.addresses {
        match ask(address, sentinels, credentials, server, limit, turn).await {
            Ok(address) => return Ok(address),
            Err(error) => {
                last = ConnectionError::Sentinel(format!(
                    "sentinel {}:{}: {error}",
                    address.host, address.port
                ));
            }
        }
    }
    Err(last)
}

async fn ask(
    address: &Address,
    sentinels: &Sentinels,
    credentials: Option<&Credentials>,
    server: &Server,
    limit: Duration,
    turn: &Turn,
) -> Result<Address, ConnectionError> {
    let mut connection = Connection::open(address, server, limit, turn).await?;
    match connection.prepare(credentials, None).await {
        // These are the credentials of the server. Many sentinels need none, so a rejection is ignored.
        Err(ConnectionError::Setup(_)) if sentinels.credentials.is_none() => {}
        prepared => prepared?,
    }
    let name = sentinels.service.as_bytes();
    let words: [&[u8]; 3] = [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name];
    let reply = connection.demand(&Command::new(&words)).await?;
    if reply == Reply::Nil {
        let unknown = format!("the sentinel does not know {:?}", sentinels.service);
        return Err(ConnectionError::Setup(unknown));
    }
    let parts: Option<[Reply; 2]> = reply.into_elements().and_then(|all| all.try_into().ok());
    let found = parts.and_then(|[host, port]| {
        let port = u16::try_from(port.integer()?).ok()?;
        Some(Address::new(host.into_text()?, port))
    });
    found.ok_or(ConnectionError::Malformed)
}

/// A server that a sentinel names may have become a replica meanwhile.
async fn is_primary(connection: &mut Connection) -> Result<(), ConnectionError> {
    let reply = connection.demand(&Command::new(&[b"ROLE"])).await?;
    let role = reply.into_elements().and_then(|all| all.into_iter().next());
    match role.and_then(Reply::into_text).as_deref() {
        Some("master") => Ok(()),
        Some(_) => Err(ConnectionError::ReadOnly),
        None => Err(ConnectionError::Malformed),
    }
}
