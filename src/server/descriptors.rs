//! File descriptors: their number, and their distribution.
//!
//! Each client connection uses one, and so does each call to a backend. When none are left, nothing can be accepted
//! or called, and metrics and control socket do not respond either. So the process takes as many as the system
//! allows. Some are reserved for the process itself and for the operator, clients may use half of the others, and
//! connections to backends the rest.

use std::fs::{self, File};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, Rlimit, setrlimit};

/// The number used by runtimes, log files and the loading of a configuration.
const OWN: u64 = 32;
/// The number used by metrics, statistics and control.
const OPERATOR: u64 = 32;
/// Descriptors that are held open for the operator: enough to accept a few connections when no others are left.
const SPARE: usize = 4;
/// The least number of connections to backends.
const FEW: usize = 4;

/// Raises the soft limit to the hard one, and returns the result. `None` if the system does not report it.
pub(super) fn raise() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let (soft, hard) = parse(&limits)?;
    if soft >= hard {
        return Some(soft);
    }
    let wanted = Rlimit {
        current: Some(hard),
        maximum: Some(hard),
    };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => Some(hard),
        Err(error) => {
            log::warn!(
                "[SERVICE: Gateway] the limit of {soft} file descriptors cannot be raised to {hard}: {error}"
            );
            Some(soft)
        }
    }
}

/// Soft and hard limit in `/proc/self/limits`.
fn parse(limits: &str) -> Option<(u64, u64)> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_whitespace();
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

/// The descriptors of `limit` that are left for clients and backends.
pub(super) fn free(limit: u64) -> usize {
    let open = fs::read_dir("/proc/self/fd").map_or(OWN, |open| open.count() as u64);
    without_reserve(limit, open)
}

fn without_reserve(limit: u64, open: u64) -> usize {
    let free = limit.saturating_sub(open + OWN + OPERATOR);
    usize::try_from(free).unwrap_or(usize::MAX)
}

/// The number of client connections if so many descriptors are free.
pub(super) fn client_share(free: usize) -> usize {
    (free / 2).max(1)
}

/// The number of connections to backends if so many descriptors are free and there are at most so many clients.
pub(super) fn upstream_share(free: usize, clients: usize) -> usize {
    free.saturating_sub(clients).max(FEW)
}

/// Descriptors that are held open, so that one can be released when a connection of the operator finds none left.
#[derive(Debug)]
pub(crate) struct Spare(Mutex<Vec<File>>);

impl Spare {
    /// Opens them. There are fewer if the system has no more.
    pub(crate) fn take() -> Spare {
        let spare = Spare(Mutex::default());
        spare.refill();
        spare
    }

    /// Releases one. `false` if none is left.
    pub(crate) fn give(&self) -> bool {
        self.held().pop().is_some()
    }

    /// Opens the released ones again, as far as descriptors are available.
    pub(crate) fn refill(&self) {
        let mut held = self.held();
        while held.len() < SPARE {
            match File::open("/dev/null") {
                Ok(file) => held.push(file),
                Err(_) => return,
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<File>> {
        // Every change of the list is complete, so a poisoned lock is safe to use.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parsed_from_proc() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             15462                15462                processes \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(parse(text), Some((1024, 524_288)));
        assert_eq!(
            parse("Max open files            unlimited            unlimited            files"),
            None
        );
        assert!(raise().unwrap() > 0);
    }

    #[test]
    fn clients_leave_descriptors_for_backends_and_for_the_operator() {
        let shares = |limit, open| {
            let free = without_reserve(limit, open);
            let clients = client_share(free);
            (clients, upstream_share(free, clients))
        };
        assert_eq!(shares(256, 16), (88, 88));
        assert_eq!(shares(65_536, 36), (32_718, 32_718));
        assert_eq!(shares(20, 16), (1, FEW));
        assert_eq!(upstream_share(1000, 100), 900, "few clients are allowed");
    }

    #[test]
    fn spare_descriptors_are_released_and_reserved_again() {
        let spare = Spare::take();
        for _ in 0..SPARE {
            assert!(spare.give());
        }
        assert!(!spare.give());
        spare.refill();
        assert!(spare.give());
    }
}
