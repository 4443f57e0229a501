//! The resource limits of one rendering.

use std::time::{Duration, Instant};

/// Steps of the evaluator, including function calls.
const STEPS: u64 = 20_000_000;

/// The maximum duration of a rendering.
const TIME: Duration = Duration::from_secs(10);

/// The maximum number of elements and bytes that all functions create together.
const MADE: usize = 256 << 20;

/// The remaining resources of a rendering.
#[derive(Debug)]
pub(super) struct Budget {
    steps: u64,
    until: Instant,
    made: usize,
}

impl Budget {
    pub(super) fn new() -> Budget {
        Budget::of(STEPS, TIME)
    }

    pub(super) fn of(steps: u64, time: Duration) -> Budget {
        Budget {
            steps,
            until: Instant::now() + time,
            made: MADE,
        }
    }

    /// Uses one step.
    ///
    /// # Errors
    /// Nothing is left. The text is the message for the operator.
    pub(super) fn step(&mut self) -> Result<(), String> {
        self.steps = self.steps.saturating_sub(1);
        if self.steps == 0 {
            return Err("the rendering takes too many steps".to_owned());
        }
        if self.steps.is_multiple_of(1024) && Instant::now() > self.until {
            return Err("the rendering takes too long".to_owned());
        }
        Ok(())
    }

    /// Announces that `count` elements or bytes are about to be created.
    ///
    /// # Errors
    /// As [`Budget::step`].
    pub(super) fn make(&mut self, count: usize) -> Result<(), String> {
        match self.made.checked_sub(count) {
            Some(left) => {
                self.made = left;
                Ok(())
            }
            None => Err(format!(
                "the rendering makes values of more than {} MiB",
                MADE >> 20
            )),
        }
    }
}
