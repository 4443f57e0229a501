//! A value in, a client's body out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding;
