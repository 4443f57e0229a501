//! Path and method in, endpoint and parameters out.
#[derive(Debug)]
pub struct Router;
