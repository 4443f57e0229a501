//! Whether a backend is called at all: `backend/conditional`.

use std::fmt;

use crate::runtime::heavy::Overload;
use crate::runtime::pipe::PipeRequest;

/// When a backend is called.
#[derive(Debug, Default)]
pub enum When {
    #[default]
    Always,
    If(Box<dyn Condition>),
    /// If no backend with a condition of the endpoint is called.
    Otherwise,
}

/// A condition on the request. Its parameters include the values of earlier responses in a sequence.
pub trait Condition: Send + Sync + fmt::Debug {
    /// Whether the backend is called. Must not block.
    ///
    /// # Errors
    /// The process has too much to do to find out. The request must not go another way for that.
    fn holds(&self, request: &PipeRequest) -> Result<bool, Overload>;

    /// The values of earlier responses that the condition reads, as in `sequential_propagated_params`: `resp0_id`.
    fn responses(&self) -> Vec<String> {
        Vec::new()
    }
}

impl When {
    pub fn is_conditional(&self) -> bool {
        !matches!(self, When::Always)
    }
}
