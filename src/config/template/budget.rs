//! How much one rendering may do.

use std::time::{Duration, Instant};

/// Steps of the evaluator, calls of functions included.
const STEPS: u64 = 20_000_000;

/// Time of one rendering.
const TIME: Duration = Duration::from_secs(10);

/// Elements and bytes that functions make, all together.
const MADE: usize = 256 << 20;

/// Counts down what a rendering may still do.
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

    /// Takes one step.
    ///
    /// # Errors
    /// The message for the operator, when nothing is left.
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

    /// Announces that `count` elements or bytes are about to be made.
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
