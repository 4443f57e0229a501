//! Memory that is no longer needed goes back to the system.
//!
//! mimalloc keeps freed pages for a second, and looks at them only when somebody asks it for a page: an idle process
//! would keep whatever its last large bodies took. And pages that a thread has filled stay with it as long as it lives.

use std::time::Duration;

/// How often freed pages are looked at; mimalloc's own delay is a second.
const EVERY: Duration = Duration::from_secs(1);
/// Too large to come from pages in use.
const PAGE: usize = 1 << 20;
/// As much as the main thread has, for files that nest deeply.
const STACK: usize = 8 << 20;

/// Asks for a page now and then, which makes the allocator look at those that were freed.
pub async fn give_back() {
    loop {
        tokio::time::sleep(EVERY).await;
        drop(std::hint::black_box(Vec::<u8>::with_capacity(PAGE)));
    }
}

/// Runs `work` on a thread of its own, with which everything goes that it leaves behind.
///
/// # Errors
/// There can be no thread, or the work has panicked.
pub fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| format!("no thread can be started: {error}"))?;
        let done = thread.join();
        done.map_err(|_| "loading ended by a defect".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_panics_is_an_error() {
        assert_eq!(apart(|| 7), Ok(7));
        let ended: Result<(), String> = apart(|| panic!("on purpose"));
        assert!(ended.is_err());
    }
}
