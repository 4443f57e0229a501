use std::process::ExitCode;
use crate::config::Finding;
pub fn refusal(name: &str, f: &[Finding]) -> String { format!("ERROR parsing the configuration file: '{name}': {f:?}\n") }
pub fn warnings(_n: &str, _f: &[Finding]) -> Vec<String> { Vec::new() }
pub(super) fn check(_a: super::CheckArgs) -> ExitCode { ExitCode::FAILURE }
