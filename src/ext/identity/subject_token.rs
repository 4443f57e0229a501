//! Whether the verified token of a request is kept for its backends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::runtime::response::Response;

/// The value that the validator of an endpoint passes to the endpoint's backends. A backend that exchanges the token
/// asks for it.
#[derive(Debug)]
pub(crate) struct SubjectWanted {
    wanted: AtomicBool,
    /// Whether the endpoint accepts opaque tokens.
    pub opaque: bool,
    pub rejections: Arc<ExchangeRejections>,
}

/// The responses of the endpoint's validator, with its challenges, for a token that is not exchanged.
#[derive(Debug)]
pub(crate) struct ExchangeRejections {
    /// The response if there is no token.
    pub missing: Response,
    /// The response if the token server does not exchange the token.
    pub refused: Response,
    /// The response if the client may not have a token for the backend.
    pub forbidden: Response,
}

impl SubjectWanted {
    pub(crate) fn new(opaque: bool, rejections: Arc<ExchangeRejections>) -> SubjectWanted {
        SubjectWanted {
            opaque,
            wanted: AtomicBool::new(false),
            rejections,
        }
    }

    /// Asks the validator to keep the token.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }
}
