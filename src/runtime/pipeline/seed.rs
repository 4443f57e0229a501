//! What the steps around a call see of the request.

use std::net::IpAddr;
use std::sync::Arc;

use super::backend::{Context, Earlier};
use super::client::Sources;
use crate::jose::Claims;
use crate::runtime::pipe::{Peer, UnconfirmedMessages};
use crate::runtime::request::Params;
use crate::runtime::service::Backend;
use crate::runtime::template::Values as _;

/// What the steps around a call see of the request, in addition to the call itself.
#[derive(Debug, Clone)]
pub(super) struct Seed {
    pub(super) params: Params,
    pub(super) claims: Option<Arc<Claims>>,
    pub(super) client: IpAddr,
    pub(super) peer: Option<Arc<Peer>>,
    pub(super) kept: Option<Arc<UnconfirmedMessages>>,
}

impl Seed {
    /// The value for a call without steps, which no one reads.
    pub(super) fn empty() -> Seed {
        Seed {
            params: Params::default(),
            claims: None,
            client: IpAddr::from([0, 0, 0, 0]),
            peer: None,
            kept: None,
        }
    }
}

/// The parameters of the request, the claims in the URL of the backend, and the values that its sequence propagates.
pub(super) fn seed<C>(cx: &Context<'_, C>, backend: &Backend, earlier: Earlier<'_>) -> Seed {
    let mut params = cx.call.params.clone();
    let sources = Sources {
        call: cx.call,
        earlier: earlier.responses,
    };
    for (name, _) in backend.url.claims() {
        if let Ok(Some(value)) = sources.claim(name) {
            let name = format!("JWT.{name}");
            params.0.push((Arc::from(name), value.into_owned()));
        }
    }
    for name in cx.propagated {
        let Some(rest) = name.strip_prefix("resp") else {
            continue;
        };
        let (number, path) = rest.split_once('_').unwrap_or((rest, ""));
        let Ok(index) = number.parse::<usize>() else {
            continue;
        };
        let value = match path {
            "" => (earlier.texts.get(index).and_then(Option::as_ref))
                .map(|body| String::from_utf8_lossy(body)),
            path => earlier.responses.get(index).and_then(|r| r.text_at(path)),
        };
        let value = value.map(|value| (Arc::from(&**name), value.into_owned()));
        params.0.extend(value);
    }
    Seed {
        params,
        claims: cx.call.claims.clone(),
        client: cx.call.client,
        peer: cx.call.peer.clone(),
        kept: cx.call.kept.clone(),
    }
}
