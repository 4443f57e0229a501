//! Who carries a call to its backend.

use std::future::Future;

use crate::runtime::failure::{Failure, Kind};
use crate::upstream::{CallError, CallErrorKind, CallOptions, HostSet, Incoming, Outgoing};

/// Carries calls to backends. The pipeline's own tests put another in the place of [`Upstream`].
pub trait Carrier: Clone + Send + Sync + 'static {
    /// Makes one call. There is no deadline: whoever waits drops the future.
    fn call(
        &self,
        hosts: &HostSet,
        out: Outgoing,
        options: &CallOptions,
    ) -> impl Future<Output = Result<Incoming, Failure>> + Send;
}

/// The upstream client.
#[derive(Debug, Clone, Copy, Default)]
pub struct Upstream;

impl Carrier for Upstream {
    async fn call(
        &self,
        hosts: &HostSet,
        out: Outgoing,
        options: &CallOptions,
    ) -> Result<Incoming, Failure> {
        hosts.call(out, options).await.map_err(Failure::from)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        let kind = match error.kind {
            CallErrorKind::NoHosts => Kind::NoHosts,
            CallErrorKind::Connect => Kind::Connect,
            CallErrorKind::Broken | CallErrorKind::Redirects => Kind::Broken,
            CallErrorKind::TooLarge => Kind::TooLarge,
            CallErrorKind::Full => return Failure::full(),
            CallErrorKind::HeaderTimeout => Kind::Deadline,
            CallErrorKind::Request => Kind::Request,
        };
        Failure::new(kind, error.to_string())
    }
}
