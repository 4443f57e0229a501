//! What the calls of one backend may do.

use std::time::Duration;

/// What the calls to one set of hosts may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct HostRules {
    pub redirects: Redirects,
    /// Send the body of a 307 or 308 to another origin, too, where it may be sent again at all.
    pub body_to_other_origins: bool,
    /// How long a caller waits for an answer; the endpoint's timeout. `None`: not known.
    pub patience: Option<Duration>,
}

/// Which redirects of a backend are followed. The others are answers like any other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Redirects {
    #[default]
    Follow,
    /// Only to the same scheme, host and port.
    SameOrigin,
    None,
}

/// The longest wait for one of several addresses.
const LONGEST_DIAL: Duration = Duration::from_secs(3);

impl HostRules {
    /// How long one of several addresses may take for a connection: a third of the patience, so that two that swallow
    /// connections leave time for a third one.
    pub(super) fn dial_share(&self) -> Duration {
        self.patience
            .map_or(LONGEST_DIAL, |patience| (patience / 3).min(LONGEST_DIAL))
    }

    /// How long a request must have waited in vain until it tells something about the host. A client that leaves early
    /// does not.
    pub(super) fn long_wait(&self) -> Duration {
        self.patience
            .map_or(Duration::from_secs(1), |patience| patience / 2)
    }
}
