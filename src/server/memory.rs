//! Returns unused memory to the system.
//!
//! mimalloc keeps freed pages for a while, and checks them only when a page is requested: an idle process would keep
//! the memory of its last large bodies. Also, pages that a thread has used stay with that thread as long as it lives.

use std::time::Duration;
#[cfg(feature = "mimalloc")]
use std::{os::unix::process::CommandExt, process::Command};

#[cfg(feature = "mimalloc")]
use crate::server::{new_process::this_program, signals};

/// How often freed pages are checked.
const EVERY: Duration = Duration::from_millis(250);
/// The setting of mimalloc for the time for which freed pages are kept, in milliseconds.
#[cfg(feature = "mimalloc")]
const DELAY: &str = "MIMALLOC_PURGE_DELAY";
/// mimalloc's own value is a second. Meanwhile, other requests take memory that the freed pages do not fit, and a small
/// container is killed. A tenth of that costs no time that can be measured (`benches/RESULTS.md`).
#[cfg(feature = "mimalloc")]
const DELAY_MILLIS: &str = "100";
/// Too large to be served from pages in use.
const PAGE: usize = 1 << 20;
/// The stack size of the main thread, for deeply nested configurations.
const STACK: usize = 8 << 20;

/// Declines transparent huge pages for this process. The allocator asks for them where the system grants them on
/// request (`madvise`, the default of most distributions). Each use of a few kilobytes may then take 2 MiB, which no
/// budget counts, and a container with 256 MiB is killed while its bodies take 100.
///
/// A system that rejects this (it is a Linux call) serves with the pages it has.
pub(super) fn decline_huge_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Makes the allocator keep freed pages for a short time only. It reads its settings from the environment before `main`
/// is called, so the program replaces itself, in the same process. A setting of the user has precedence.
///
/// Does not return unless there is nothing to do. If the system rejects it, the gateway serves with the usual delay.
#[cfg(feature = "mimalloc")]
pub(super) fn keep_pages_briefly() {
    if std::env::var_os(DELAY).is_some() {
        return;
    }
    if let Some(program) = this_program() {
        let mut again = Command::new(program);
        let mut arguments = std::env::args_os();
        if let Some(name) = arguments.next() {
            again.arg0(name);
        }
        again.args(arguments).env(DELAY, DELAY_MILLIS);
        let _ = signals::held::<()>(|| Err(again.exec()));
    }
}

/// Requests a page from time to time, which makes the allocator check the freed ones.
pub(super) async fn give_back() {
    loop {
        tokio::time::sleep(EVERY).await;
        drop(std::hint::black_box(Vec::<u8>::with_capacity(PAGE)));
    }
}

/// Runs `work` on a separate thread, whose memory is freed when it ends.
///
/// # Errors
/// The thread cannot be started, or the work panicked.
pub(super) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| format!("no thread can be started: {error}"))?;
        let done = thread.join();
        done.map_err(|_| "loading has panicked".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_declined() {
        decline_huge_pages();
        assert_eq!(
            rustix::thread::transparent_huge_pages_are_disabled(),
            Ok(true)
        );
    }

    #[test]
    fn work_that_panics_is_an_error() {
        assert_eq!(apart(|| 7), Ok(7));
        let ended: Result<(), String> = apart(|| panic!("on purpose"));
        assert!(ended.is_err());
    }
}
