//! The resource limits of one rendering.

use std::time::{Duration, Instant};

/// Steps of the evaluator, including function calls.
const STEPS: u64 = 20_000_000;

/// The maximum duration of a rendering.
const TIME: Duration = Duration::from_secs(10);

/// The maximum number of elements and bytes that all functions create together.
pub(super) const MADE: usize = 256 << 20;

/// The maximum nesting of template calls.
const CALLS: usize = 1_000;

/// What a rendering may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) steps: u64,
    pub(super) time: Duration,
    /// Elements and bytes that functions create.
    pub(super) made: usize,
    /// The nesting of template calls.
    pub(super) calls: usize,
}

/// The remaining resources of a rendering.
#[derive(Debug)]
pub(super) struct Budget {
    steps: u64,
    until: Instant,
    made: usize,
    most: usize,
    /// The memory of what was made and printed, roughly. What is dropped meanwhile is included.
    held: usize,
    pub(super) calls: usize,
}

impl Budget {
    pub(super) fn new() -> Budget {
        Budget::of(Limits {
            steps: STEPS,
            time: TIME,
            made: MADE,
            calls: CALLS,
        })
    }

    pub(super) fn of(limits: Limits) -> Budget {
        Budget {
            steps: limits.steps,
            until: Instant::now() + limits.time,
            made: limits.made,
            most: limits.made,
            held: 0,
            calls: limits.calls,
        }
    }

    /// Uses one step. Returns true if the caller should check whether the rendering must stop.
    ///
    /// # Errors
    /// Nothing is left. The text is the message for the operator.
    pub(super) fn step(&mut self) -> Result<bool, String> {
        self.steps = self.steps.saturating_sub(1);
        if self.steps == 0 {
            return Err("the rendering takes too many steps".to_owned());
        }
        let is_due = self.steps.is_multiple_of(1024);
        if is_due {
            self.in_time()?;
        }
        Ok(is_due)
    }

    /// # Errors
    /// The time is over.
    pub(super) fn in_time(&self) -> Result<(), String> {
        if Instant::now() > self.until {
            return Err("the rendering takes too long".to_owned());
        }
        Ok(())
    }

    /// The number of elements and bytes that may still be created.
    pub(super) fn left(&self) -> usize {
        self.made
    }

    /// Counts memory besides that of [`Budget::make`], and returns all of it.
    pub(super) fn hold(&mut self, bytes: usize) -> usize {
        self.held = self.held.saturating_add(bytes);
        self.held
    }

    /// Announces that `count` elements or bytes are about to be created.
    ///
    /// # Errors
    /// As [`Budget::step`].
    pub(super) fn make(&mut self, count: usize) -> Result<(), String> {
        match self.made.checked_sub(count) {
            Some(left) => {
                self.made = left;
                self.hold(count);
                Ok(())
            }
            None => Err(format!(
                "the rendering makes values of more than {} MiB",
                self.most >> 20
            )),
        }
    }
}
