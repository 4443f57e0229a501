//! Compiles the block. KrakenD continues without revocation if the block is invalid; here it stops the start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::api::Api;
use super::config::Block;
use super::earlier;
use super::fleet::{Fleet, share};
use super::logout::Logout;
use super::revocation_list::{RevocationAccess, RevocationList, TokenRevocation};
use super::rpc_server::{RpcAddress, serve};
use crate::config::{ConfigError, Node};
use crate::ext::auth_validator::standalone;
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::ext::identity::Revoker;
use crate::ext::redis::SharedStore;
use crate::ext::reload_state::Task;
use crate::jose::bloom::{BloomError, BloomHash, BloomShape};
use crate::runtime::clock::Clock;
use crate::runtime::own_listener::OwnListener;

/// Shorter secrets can be guessed.
const MIN_SECRET: usize = 16;

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let before = cx.report.config_errors();
    let Some(block) = Block::read(node) else {
        return ServicePart::Nothing;
    };
    let rpc = rpc(node, &block);
    let http = http(&block);
    secret(node, &block, rpc, http);
    for ignored in &block.ignored {
        ignored.warn(ConfigError::invalid(
            "there is no revoke server here: ignored",
        ));
    }
    if cx.report.config_errors() > before {
        return ServicePart::Nothing;
    }
    let revocations = revocations(cx);
    let Some(list) = list(node, &block, &revocations, cx) else {
        return ServicePart::Nothing;
    };
    if block.token_keys.is_empty() && block.logout.is_empty() {
        node.warn_hint(
            ConfigError::invalid("without \"token_keys\" no token is ever rejected"),
            "\"token_keys\": [\"jti\"]",
        );
    }
    let fleet = fleet(&block, &revocations, cx);
    let logout = logout(node, &block, cx);
    if cx.report.config_errors() > before {
        return ServicePart::Nothing;
    }
    if let Some(address) = rpc {
        cx.set_fact(Arc::new(RpcAddress(address)));
        port(address, &revocations, cx);
    }
    if let Some(address) = http {
        cx.set_fact(Arc::new(Api {
            address,
            revocations: Arc::clone(&revocations),
            logout: logout.clone(),
        }));
    }
    cx.set_fact(Arc::new(Revoker(Arc::new(TokenRevocation::new(
        Arc::clone(&list),
        &block.token_keys,
        logout.is_some(),
        fleet.clone(),
    )))));
    let secret = block.secret.clone();
    cx.push(Task::replacing("revoker", move || {
        let opened = revocations.open(&list, &secret, fleet.as_ref());
        opened.map_err(|error| format!("auth/revoker: {error}"))
    }));
    ServicePart::Nothing
}

/// The providers that may say that a session has ended.
fn logout(node: &Node<'_>, block: &Block<'_>, cx: &mut Compile<'_>) -> Option<Arc<Logout>> {
    if block.logout.is_empty() {
        return None;
    }
    if block.http_listen.is_none() {
        node.config_error_hint(
            ConfigError::Missing("http_listen"),
            "logout tokens are sent to POST /logout at this address",
        );
    }
    let blocks = block.logout.iter().cloned();
    let providers: Vec<_> = blocks.filter_map(|one| standalone(one, cx)).collect();
    Some(Arc::new(Logout {
        providers: providers.into(),
        clock: Clock::system(),
    }))
}

/// The other gateways, if the list is shared with them.
fn fleet(
    block: &Block<'_>,
    revocations: &Arc<RevocationAccess>,
    cx: &mut Compile<'_>,
) -> Option<Arc<Fleet>> {
    let at = block.redis.as_ref()?;
    let Some(shared) = cx.fact::<SharedStore>() else {
        at.config_error_hint(
            ConfigError::invalid("there is no Redis to share revocations through"),
            "\"portcullis/redis\": {\"url\": \"redis://host:6379\"} in the service",
        );
        return None;
    };
    let key = shared.revoked();
    // An entry counts for two to three times the TTL.
    let keep = Duration::from_secs(block.ttl_seconds?).saturating_mul(2);
    let store = Arc::clone(&shared.store);
    let name = format!(
        "auth/revoker fleet {key} {keep:?} {:p}",
        Arc::as_ptr(&store)
    );
    let fleet = cx.carry_over(name, |tasks| {
        let fleet = Arc::new(Fleet::new(store, key, keep));
        let sharing = share(Arc::downgrade(&fleet), Arc::downgrade(revocations));
        tasks.push(Task::new("revocations of the fleet", sharing));
        fleet
    });
    let state = Arc::clone(&fleet);
    cx.pass_on(state);
    Some(fleet)
}

/// The access to the revocation lists. There is one per process.
pub(super) fn revocations(cx: &mut Compile<'_>) -> Arc<RevocationAccess> {
    cx.carry_over("auth/revoker desk", |_| {
        Arc::new(RevocationAccess::default())
    })
}

/// The list. Its key contains its dimensions, so a reload that changes them makes a new list, which reads the one in use
/// when it is opened.
fn list(
    node: &Node<'_>,
    block: &Block<'_>,
    revocations: &Arc<RevocationAccess>,
    cx: &mut Compile<'_>,
) -> Option<Arc<RevocationList>> {
    let (elements, false_positives) = (block.elements?, block.false_positives?);
    let hash_name = block.hash_name.as_deref()?;
    let Some(hash) = BloomHash::parse(hash_name) else {
        let at = block.hash_name_at.as_ref().unwrap_or(node);
        at.config_error(ConfigError::NotOneOf {
            found: format!("{hash_name:?}"),
            allowed: "optimal, default".to_owned(),
        });
        return None;
    };
    let period = Duration::from_secs(block.ttl_seconds?);
    let shape = match BloomShape::new(elements, false_positives, hash) {
        Ok(shape) => shape,
        Err(error) => {
            node.invalid(error.to_string());
            return None;
        }
    };
    let name = format!("auth/revoker {shape:?} {period:?}");
    let made = cx.try_carry_over(name.clone(), |tasks| {
        let list = RevocationList::new(&name, (shape, elements), period, revocations)?;
        let list = Arc::new(list);
        let sweeping = earlier::sweep(Arc::downgrade(&list));
        tasks.push(Task::new("earlier lists of revoked tokens", sweeping));
        Ok::<_, BloomError>(list)
    });
    let list = made.map_err(|error| node.invalid(error.to_string())).ok()?;
    let upgrade_state = Arc::clone(&list);
    cx.pass_on(upgrade_state);
    Some(list)
}

fn rpc(node: &Node<'_>, block: &Block<'_>) -> Option<SocketAddr> {
    let ip = match &block.listen {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(text) => match text.trim_matches(['[', ']']).parse() {
            Ok(ip) => ip,
            Err(_) => {
                let at = block.listen_at.as_ref().unwrap_or(node);
                at.config_error_hint(
                    ConfigError::Address(text.clone()),
                    "an address without a port: \"10.0.0.5\"",
                );
                return None;
            }
        },
    };
    block.port.map(|port| SocketAddr::new(ip, port))
}

fn http(block: &Block<'_>) -> Option<SocketAddr> {
    let text = block.http_listen.as_deref()?;
    let address = text.parse().ok();
    if let (None, Some(at)) = (address, &block.http_listen_at) {
        at.config_error_hint(
            ConfigError::invalid(format!("{text:?} is not an address")),
            "address and port: \"127.0.0.1:8081\"",
        );
    }
    address
}

/// A client that can revoke tokens can lock out all users, so clients from elsewhere need a secret.
fn secret(node: &Node<'_>, block: &Block<'_>, rpc: Option<SocketAddr>, http: Option<SocketAddr>) {
    let exposed = rpc.is_some_and(|address| !address.ip().is_loopback());
    if block.secret.is_empty() && (exposed || http.is_some()) {
        node.config_error_hint(
            ConfigError::Missing("secret"),
            "required for \"http_listen\", and for \"listen\" on an address that is not loopback",
        );
    }
    if (1..MIN_SECRET).contains(&block.secret.len()) {
        node.invalid(format!(
            "a \"secret\" must have at least {MIN_SECRET} characters"
        ));
    }
}

/// The server binds the port, and an upgrade passes it on.
fn port(address: SocketAddr, revocations: &Arc<RevocationAccess>, cx: &mut Compile<'_>) {
    let port = cx.carry_over(format!("auth/revoker rpc {address}"), |tasks| {
        let port = Arc::new(OwnListener::new("auth/revoker", address));
        let guarded = !address.ip().is_loopback();
        let serving = serve(port.turn(), Arc::clone(revocations), guarded);
        tasks.push(Task::new("revoker", serving));
        port
    });
    cx.pass_on(port);
}
