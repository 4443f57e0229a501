//! Which headers and query strings pass.
#[derive(Debug, Clone)]
pub struct HeaderRules;
#[derive(Debug, Clone)]
pub struct QueryRules;
