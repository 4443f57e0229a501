//! The log lines of rejected tokens.

use crate::jose::{Reason, Rejection};

/// The log lines of a validator.
#[derive(Debug)]
pub(super) struct Log {
    /// `[ENDPOINT: /x][JWTValidator]`
    pub(super) prefix: Box<str>,
    /// `operation_debug`
    pub(super) debug: bool,
}

impl Log {
    /// A missing token is logged even without `operation_debug`, because it is a common error. The level is WARNING,
    /// at which the log limits how often one statement is written.
    pub(super) fn rejected(&self, rejection: &Rejection) {
        let Log { prefix, debug } = self;
        match (rejection.reason, debug) {
            (
                Reason::MissingRole
                | Reason::MissingScope
                | Reason::GroupsOverage
                | Reason::Revoked
                | Reason::Rejected,
                true,
            ) => {
                log::error!("{prefix} {rejection}");
            }
            (_, true) => log::error!("{prefix} Unable to validate the token: {rejection}"),
            (Reason::Missing, false) => {
                log::warn!("{prefix} Unable to validate the token: {rejection}");
            }
            (Reason::BadClaim | Reason::GroupsOverage, false) => {
                log::warn!("{prefix} Token rejected: {rejection}");
            }
            (_, false) => {}
        }
    }
}
