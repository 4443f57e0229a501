//! Tokens, key sets, signatures: functions over bytes that know nothing of HTTP.
#[derive(Debug, Clone)]
pub struct Claims;
