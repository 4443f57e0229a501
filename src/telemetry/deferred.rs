//! Holds the log lines of a configuration that is being loaded until its own log settings are known: level, format,
//! prefix.

use std::cell::RefCell;

use log::Record;

use crate::telemetry::sanitize::{MAX_MESSAGE, cut_arguments};

thread_local! {
    static HELD: RefCell<Option<Vec<DeferredLine>>> = const { RefCell::new(None) };
}

/// A held line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeferredLine {
    pub level: log::Level,
    pub target: String,
    pub message: String,
    pub file: String,
    pub line: u32,
}

/// Runs `work` and returns the lines that it logged on this thread, including those below the level of the current
/// log.
pub(crate) fn hold<T>(work: impl FnOnce() -> T) -> (T, Vec<DeferredLine>) {
    let before = log::max_level();
    HELD.with_borrow_mut(|held| *held = Some(Vec::new()));
    log::set_max_level(before.max(log::LevelFilter::Debug));
    let done = work();
    log::set_max_level(before);
    let lines = HELD.with_borrow_mut(Option::take);
    (done, lines.unwrap_or_default())
}

/// Whether this line is held.
pub(super) fn keep(record: &Record<'_>) -> bool {
    // `try_with`, because a thread that is ending may still log.
    let kept = HELD.try_with(|held| {
        let Ok(mut held) = held.try_borrow_mut() else {
            return false;
        };
        let Some(lines) = held.as_mut() else {
            return false;
        };
        lines.push(DeferredLine {
            level: record.level(),
            target: record.target().to_owned(),
            message: cut_arguments(*record.args(), MAX_MESSAGE),
            file: record.file().unwrap_or("?").to_owned(),
            line: record.line().unwrap_or(0),
        });
        true
    });
    kept.unwrap_or(false)
}
