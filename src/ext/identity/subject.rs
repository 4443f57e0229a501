//! Whether the verified token of a request is kept for its backends.

use std::sync::atomic::{AtomicBool, Ordering};

/// The value that the validator of an endpoint passes to the endpoint's backends. A backend that exchanges the token
/// asks for it.
#[derive(Debug, Default)]
pub(crate) struct SubjectWanted(AtomicBool);

impl SubjectWanted {
    /// Asks the validator to keep the token.
    pub(crate) fn want(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
