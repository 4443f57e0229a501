//! Decides by the client's address.

use std::net::IpAddr;

use async_trait::async_trait;
use http::StatusCode;

use super::networks::Networks;
use crate::runtime::failure::{Failure, Guard, Kind};
use crate::runtime::pipe::{Passed, PipeRequest, PipeStep};
use crate::runtime::request::{Head, Notes};
use crate::runtime::response::Response;
use crate::runtime::service::ClientAddress;
use crate::runtime::step::{EndpointStep, Gate, ServiceStep};

const REJECTED: &str = "the client's address is rejected";

/// Lets clients pass, or rejects them with 403, by their address.
#[derive(Debug)]
pub(crate) struct Filter {
    pub networks: Networks,
    /// Whether only addresses in these networks pass. Otherwise only addresses outside of them do.
    pub allow: bool,
    /// The proxies that are trusted, and the headers in which they name the client.
    pub address: ClientAddress,
    /// The health endpoint, where a proxy without a header asks for itself. Only for the filter of the service.
    pub health: Option<Box<str>>,
}

impl Filter {
    fn admits_address(&self, address: IpAddr) -> bool {
        self.networks.contains(address) == self.allow
    }

    /// A proxy that names no address leaves the client unknown, and an unknown client is rejected in both modes.
    fn admits(&self, head: &Head<'_>) -> bool {
        let named = self.address.named(head.peer, head.headers);
        let is_probe =
            || self.health.as_deref() == Some(head.path) && self.address.is_silent(head.headers);
        match named {
            Some(address) => self.admits_address(address),
            None => is_probe() && self.admits_address(head.peer.to_canonical()),
        }
    }

    fn reject(&self, head: &Head<'_>, notes: &mut Notes) -> Option<Response> {
        if self.admits(head) {
            return None;
        }
        notes.rejected = Some(Guard::IpFilter.reason());
        notes.errors.push(REJECTED.into());
        Some(Response::empty(StatusCode::FORBIDDEN))
    }
}

impl ServiceStep for Filter {
    fn covers_health(&self) -> bool {
        true
    }

    fn request(&self, head: &Head<'_>, notes: &mut Notes) -> Option<Response> {
        self.reject(head, notes)
    }
}

impl EndpointStep for Filter {
    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        match self.reject(head, notes) {
            Some(response) => Gate::Reject(response),
            None => Gate::Pass,
        }
    }
}

/// Around a call.
#[async_trait]
impl PipeStep for Filter {
    fn reads_peer(&self) -> bool {
        true
    }

    async fn before(&self, request: &mut PipeRequest) -> Result<Passed, Failure> {
        let client = match &request.peer {
            Some(peer) => self.address.named(peer.address, &peer.headers),
            None => Some(request.client),
        };
        if client.is_some_and(|client| self.admits_address(client)) {
            return Ok(Passed::default());
        }
        Err(Failure {
            status: StatusCode::FORBIDDEN,
            ..Failure::new(Kind::Guarded(Guard::IpFilter), REJECTED)
        })
    }
}
