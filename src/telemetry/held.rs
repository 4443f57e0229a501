//! Lines of a configuration that is being loaded wait until it is known how it wants them: level, format, prefix.

use std::cell::RefCell;

use log::Record;

thread_local! {
    static HELD: RefCell<Option<Vec<Held>>> = const { RefCell::new(None) };
}

/// A line that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    pub level: log::Level,
    pub target: String,
    pub message: String,
    pub file: String,
    pub line: u32,
}

/// Runs `work` and returns the lines that it logged on this thread, also those that the log in use would leave out.
pub fn hold<T>(work: impl FnOnce() -> T) -> (T, Vec<Held>) {
    let before = log::max_level();
    HELD.with_borrow_mut(|held| *held = Some(Vec::new()));
    log::set_max_level(before.max(log::LevelFilter::Debug));
    let done = work();
    log::set_max_level(before);
    let lines = HELD.with_borrow_mut(Option::take);
    (done, lines.unwrap_or_default())
}

/// Whether this line waits.
pub(super) fn keep(record: &Record<'_>) -> bool {
    // `try_with`: a thread that ends may still log.
    let kept = HELD.try_with(|held| {
        let Ok(mut held) = held.try_borrow_mut() else {
            return false;
        };
        let Some(lines) = held.as_mut() else {
            return false;
        };
        lines.push(Held {
            level: record.level(),
            target: record.target().to_owned(),
            message: record.args().to_string(),
            file: record.file().unwrap_or("?").to_owned(),
            line: record.line().unwrap_or(0),
        });
        true
    });
    kept.unwrap_or(false)
}
