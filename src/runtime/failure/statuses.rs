//! The statuses that follow from a failure.

use http::StatusCode;

/// The statuses of a kind of failure.
pub(super) struct Statuses {
    pub(super) usual: StatusCode,
    /// If the configuration asks for the statuses of a gateway (RFC 9110 §15.6). `None`: the usual one.
    pub(super) gateway: Option<StatusCode>,
    /// The status whose gRPC code a gRPC client gets, because gRPC distinguishes failures of the call from those of
    /// the gateway. `None`: the status of the failure.
    pub(super) grpc: Option<StatusCode>,
}

impl Statuses {
    pub(super) fn of(usual: StatusCode) -> Statuses {
        Statuses {
            usual,
            gateway: None,
            grpc: None,
        }
    }

    pub(super) fn gateway(mut self, status: StatusCode) -> Statuses {
        self.gateway = Some(status);
        self
    }

    pub(super) fn grpc(mut self, status: StatusCode) -> Statuses {
        self.grpc = Some(status);
        self
    }
}
