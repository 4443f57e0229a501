//! Decides by the client's address.

use std::net::IpAddr;

use async_trait::async_trait;
use http::StatusCode;

use super::networks::Networks;
use crate::runtime::failure::{Failure, Kind};
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
}

impl Filter {
    fn admits_address(&self, address: IpAddr) -> bool {
        self.networks.contains(address) == self.allow
    }

    /// A proxy that names no address leaves the client unknown, and an unknown client is rejected in both modes.
    fn admits(&self, head: &Head<'_>) -> bool {
        self.address
            .named(head.peer, head.headers)
            .is_some_and(|address| self.admits_address(address))
    }

    fn reject(&self, head: &Head<'_>, notes: &mut Notes) -> Option<Response> {
        if self.admits(head) {
            return None;
        }
        notes.rejected = Some("ip_filter");
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

/// Around a call, where the client's address is the one of the request.
#[async_trait]
impl PipeStep for Filter {
    async fn before(&self, request: &mut PipeRequest) -> Result<Passed, Failure> {
        if self.admits_address(request.client) {
            return Ok(Passed::default());
        }
        Err(Failure {
            status: StatusCode::FORBIDDEN,
            ..Failure::new(Kind::Rejected, REJECTED)
        })
    }
}
