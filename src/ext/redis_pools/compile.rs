//! Compiles the block. The connections themselves are made for the blocks that name them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::config::Entry;
use super::tls;
use crate::config::{ConfigError, Node};
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::ext::redis::{
    Address, Credentials, OnFailure, Server, ServerKind, SharedStore, Store, StoreOptions,
};
use crate::ext::reload_state::Task;
use crate::runtime::clock::Clock;

/// The name of the Redis of `portcullis/redis`.
const OURS: &str = "portcullis";

const POOL_SIZE: i64 = 10;
const TIMEOUT: Duration = Duration::from_millis(5);
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
const PORT: u16 = 6379;

/// The connections of `redis`, by name.
#[derive(Debug, Default)]
pub(crate) struct Pools(HashMap<String, Definition>);

/// How a connection is made.
#[derive(Clone)]
pub(in crate::ext) struct Definition {
    pub(in crate::ext) server: Server,
    pub(in crate::ext) options: StoreOptions,
    /// The whole definition, which names the state.
    pub(in crate::ext) identity: String,
}

impl std::fmt::Debug for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The server contains a password.
        f.debug_struct("Definition").finish_non_exhaustive()
    }
}

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let mut pools = Pools::default();
    for entry in Entry::all(node) {
        let ours = entry.name == OURS && cx.fact::<SharedStore>().is_some();
        if ours || pools.0.contains_key(&entry.name) {
            let at = entry.block.get("name");
            at.unwrap_or_else(|| node.clone()).invalid(format!(
                "there is another connection with the name {:?}",
                entry.name
            ));
            continue;
        }
        if let Some(definition) = definition(&entry, cx) {
            pools.0.insert(entry.name, definition);
        }
    }
    cx.set_fact(Arc::new(pools));
    ServicePart::Nothing
}

fn definition(entry: &Entry<'_>, cx: &Compile<'_>) -> Option<Definition> {
    let mut hosts = Vec::with_capacity(entry.addresses.len());
    for (text, node) in &entry.addresses {
        let (host, port) = address(text, node)?;
        hosts.push(Address::new(host, port));
    }
    let tls = match &entry.tls {
        Some(node) => Some(Arc::new(tls::config(node, cx)?)),
        None => None,
    };
    if let (Some(_), None, Some(first)) = (&entry.password, &tls, hosts.first())
        && !is_here(&first.host)
    {
        let at = entry.block.get("password");
        at.unwrap_or_else(|| entry.block.node().clone()).warn_hint(
            ConfigError::invalid("the password is sent over the network in plain text"),
            "\"tls\": {}",
        );
    }
    let kind = if entry.is_cluster {
        ServerKind::Cluster(hosts)
    } else {
        ServerKind::One(hosts.into_iter().next()?)
    };
    let database = match entry.database {
        Some(number) => match u8::try_from(number) {
            Ok(number) => Some(number),
            Err(_) => {
                entry
                    .block
                    .node()
                    .invalid("the number of a database is 255 at most");
                return None;
            }
        },
        None => None,
    };
    let user = entry.user_name.clone().unwrap_or_default();
    let password = entry.password.clone().unwrap_or_default();
    Some(Definition {
        server: Server {
            kind,
            credentials: Credentials::new(user, password),
            database,
            tls,
        },
        options: StoreOptions {
            connections: usize::try_from(entry.pool_size.unwrap_or(POOL_SIZE)).unwrap_or(1),
            timeout: entry.timeout.unwrap_or(TIMEOUT),
            dial_timeout: entry.dial_timeout.unwrap_or(DIAL_TIMEOUT),
            backoff: (
                entry.min_backoff.unwrap_or(MIN_BACKOFF),
                entry.max_backoff.unwrap_or(MAX_BACKOFF),
            ),
        },
        identity: entry.block.node().value().to_json(),
    })
}

/// `host:port`, `[v6]:port`, or a host alone.
fn address(text: &str, node: &Node<'_>) -> Option<(String, u16)> {
    let parsed = split(text);
    if parsed.is_none() {
        node.config_error_hint(
            ConfigError::invalid(format!(
                "{} is not the address of a Redis server",
                node.shown()
            )),
            "such as \"redis:6379\"",
        );
    }
    parsed
}

/// Host and port. The port of Redis is the default.
pub(in crate::ext) fn split(text: &str) -> Option<(String, u16)> {
    if text.is_empty() || text.contains("://") || text.contains(['/', '@', ' ']) {
        return None;
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        let host = host.parse::<std::net::Ipv6Addr>().ok()?.to_string();
        return match after.strip_prefix(':') {
            Some(port) => Some((host, port.parse().ok()?)),
            None if after.is_empty() => Some((host, PORT)),
            None => None,
        };
    }
    match text.rsplit_once(':') {
        None => Some((text.to_owned(), PORT)),
        Some((host, port)) if !host.is_empty() && !host.contains(':') => {
            Some((host.to_owned(), port.parse().ok().filter(|port| *port > 0)?))
        }
        Some(_) => None,
    }
}

fn is_here(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The connection with this name, for a block that counts there. `on_failure` is what the block does without Redis.
/// An unknown name is reported at `node`.
pub(in crate::ext) fn connection(
    name: &str,
    on_failure: OnFailure,
    node: &Node<'_>,
    cx: &mut Compile<'_>,
) -> Option<SharedStore> {
    if name == OURS
        && let Some(shared) = cx.fact::<SharedStore>()
    {
        return Some(shared.with(on_failure));
    }
    let pools = cx.fact::<Pools>();
    let definition = pools.as_ref().and_then(|pools| pools.0.get(name)).cloned();
    let Some(definition) = definition else {
        let mut known: Vec<String> = pools
            .iter()
            .flat_map(|pools| pools.0.keys())
            .map(|name| format!("\"{name}\""))
            .collect();
        known.sort();
        let hint = if known.is_empty() {
            "define it in \"redis\" of the service: {\"connection_pools\": [{\"name\": …, \"address\": \"redis:6379\"}]}".to_owned()
        } else {
            format!("\"redis\" of the service has {}", known.join(", "))
        };
        node.config_error_hint(
            ConfigError::invalid(format!("there is no connection {name:?}")),
            hint,
        );
        return None;
    };
    Some(open(&definition, on_failure, cx))
}

/// A connection for this definition. Equal definitions share one.
pub(in crate::ext) fn open(
    definition: &Definition,
    on_failure: OnFailure,
    cx: &mut Compile<'_>,
) -> SharedStore {
    let key = format!("redis {}", definition.identity);
    let store = cx.carry_over(key, |tasks| {
        let (server, options) = (definition.server.clone(), definition.options);
        let store = Arc::new(Store::new(server, options, Clock::system()));
        let connecting = Arc::clone(&store);
        tasks.push(Task::new(
            "redis",
            async move { connecting.connect().await },
        ));
        store
    });
    SharedStore::new(store, on_failure)
}
