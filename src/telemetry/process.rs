//! What the system says about this process (proc_pid_status(5)).

/// The resident memory in bytes. 0 if it is unknown.
pub(crate) fn resident_bytes() -> u64 {
    number("VmRSS:").saturating_mul(1024)
}

/// The part of it that belongs to this process alone, in bytes: without the program and other mapped files, which several
/// processes share. 0 if it is unknown.
pub(crate) fn anonymous_bytes() -> u64 {
    number("RssAnon:").saturating_mul(1024)
}

/// The number of threads. 0 if it is unknown.
pub(crate) fn threads() -> u64 {
    number("Threads:")
}

fn number(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_this_process() {
        assert!(resident_bytes() > anonymous_bytes() && threads() > 0);
        assert!(anonymous_bytes() > 1 << 17);
        assert_eq!(number("Nothing:"), 0);
    }
}
