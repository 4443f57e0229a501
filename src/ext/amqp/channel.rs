//! What channels need.

use super::client::{Channel, ExchangeFlags};

/// The code of the broker for a declaration that differs from what exists (AMQP 0-9-1, 1.2).
pub(super) const DIFFERENT: &str = "406 ";

/// An exchange to declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) name: String,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) internal: bool,
    /// It must exist and is not declared.
    pub(super) passive: bool,
}

impl Exchange {
    pub(super) async fn declare(&self, channel: &Channel) -> Result<(), String> {
        let flags = ExchangeFlags {
            passive: self.passive,
            durable: self.durable,
            auto_delete: self.auto_delete,
            internal: self.internal,
        };
        channel.declare_exchange(&self.name, flags).await
    }
}
