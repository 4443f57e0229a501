//! What the calls of one backend may do.

use std::time::Duration;

/// What the calls to one set of hosts may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct HostRules {
    pub redirects: Redirects,
    /// Sends the body of a 307 or 308 to another origin too, if it can be sent again at all.
    pub body_to_other_origins: bool,
    /// The timeout of the endpoint, which is how long a caller waits for a response. `None` if unknown.
    pub timeout: Option<Duration>,
}

/// Which redirects of a backend are followed. The others are ordinary responses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Redirects {
    #[default]
    Follow,
    /// Only redirects to the same scheme, host and port.
    SameOrigin,
    None,
}

/// The maximum time to connect to one of several addresses.
const MAX_DIAL: Duration = Duration::from_secs(3);

impl HostRules {
    /// The time to connect to one of several addresses: a third of the timeout, so that two unresponsive addresses
    /// leave time for a third one.
    pub(super) fn dial_share(&self) -> Duration {
        self.timeout
            .map_or(MAX_DIAL, |timeout| (timeout / 3).min(MAX_DIAL))
    }

    /// How long a request must have waited without a response before this counts against the host. A client that
    /// closes its connection earlier does not count.
    pub(super) fn long_wait(&self) -> Duration {
        self.timeout
            .map_or(Duration::from_secs(1), |timeout| timeout / 2)
    }
}
