//! Values with the text of their numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Value;
