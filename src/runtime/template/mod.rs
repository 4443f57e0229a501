//! The URL of a backend call.

pub(crate) mod escape;

#[derive(Debug, Clone)]
pub struct Template;
