//! The URL of a backend call.
#[derive(Debug, Clone)]
pub struct Template;
