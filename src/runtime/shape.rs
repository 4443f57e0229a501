//! target, allow, deny, mapping, group.
#[derive(Debug, Clone)]
pub struct Shape;
