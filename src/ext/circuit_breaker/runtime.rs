//! The state machine of a circuit breaker, as in KrakenD.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::runtime::clock::Clock;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::step::{BackendStep, Breaker, Circuit, Outcome, Ticket};

/// The settings of a circuit breaker, with defaults applied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// How long failures are counted together while the circuit is closed. `None` means forever.
    pub interval: Option<Duration>,
    /// How long the circuit stays open before one call may try again.
    pub timeout: Duration,
    /// The number of consecutive failures that are tolerated. The next one opens the circuit.
    pub max_errors: u64,
    /// The name for the log.
    pub name: String,
    pub log_status_change: bool,
    /// Whether a streamed response with status 500 and above counts as a failure. In KrakenD it never does.
    pub stream_errors: bool,
}

/// KrakenD's default for a timeout of 0.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

impl Settings {
    /// Settings with these numbers as configured: seconds, and a count. Zero means the default.
    pub(crate) fn counting(
        interval: Option<u64>,
        timeout: Option<u64>,
        max_errors: Option<u64>,
    ) -> Settings {
        let seconds = |number: Option<u64>| number.filter(|n| *n > 0).map(Duration::from_secs);
        Settings {
            interval: seconds(interval),
            timeout: seconds(timeout).unwrap_or(DEFAULT_TIMEOUT),
            max_errors: max_errors.unwrap_or(0),
            name: String::new(),
            log_status_change: false,
            stream_errors: false,
        }
    }
}

/// Stops calling an upstream that keeps failing.
///
/// Each change of state, and each window of the closed state, starts a new generation. Results of calls that started
/// in an older one are ignored.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    settings: Settings,
    clock: Clock,
    machine: Mutex<Machine>,
    calm: Calm,
}

/// What successful calls read instead of taking the lock: whether the circuit is closed and has no failures.
///
/// Two calls at the end of a window may read one number of the old window and one of the new. Then a result is ignored, as
/// one that arrives after the window.
#[derive(Debug, Default)]
struct Calm {
    /// The generation and one more, or 0 if the lock must be taken.
    generation: AtomicU64,
    /// The end of the window in nanoseconds.
    until: AtomicU64,
}

impl Calm {
    fn publish(&self, machine: &Machine) {
        let is_calm = machine.state == State::Closed && machine.failures_in_a_row == 0;
        let generation = if is_calm { machine.generation + 1 } else { 0 };
        if self.generation.load(Ordering::Relaxed) != generation {
            self.until
                .store(machine.ends.map_or(u64::MAX, nanos), Ordering::Relaxed);
            self.generation.store(generation, Ordering::Release);
        }
    }

    fn generation(&self, now: Duration) -> Option<u64> {
        let generation = self.generation.load(Ordering::Acquire).checked_sub(1)?;
        (nanos(now) <= self.until.load(Ordering::Relaxed)).then_some(generation)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Debug)]
struct Machine {
    state: State,
    generation: u64,
    failures_in_a_row: u64,
    /// When the window, the pause, or the wait for the trial call ends.
    ends: Option<Duration>,
    /// Whether the trial call of the half-open state is in progress.
    trial: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    HalfOpen,
    Open,
}

impl CircuitBreaker {
    /// A closed circuit.
    pub(crate) fn new(settings: Settings, clock: Clock) -> CircuitBreaker {
        let ends = settings.interval.map(|interval| clock.now() + interval);
        let machine = Machine {
            state: State::Closed,
            generation: 0,
            failures_in_a_row: 0,
            ends,
            trial: false,
        };
        let calm = Calm::default();
        calm.publish(&machine);
        CircuitBreaker {
            settings,
            clock,
            machine: Mutex::new(machine),
            calm,
        }
    }

    fn locked(&self) -> MutexGuard<'_, Machine> {
        // Every change is complete before the next line that could panic.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies the passage of time: an expired window is restarted, and after an expired pause one call may try.
    fn catch_up(&self, machine: &mut Machine, now: Duration) {
        if machine.ends.is_none_or(|ends| now <= ends) {
            return;
        }
        match machine.state {
            State::Closed => self.begin(machine, State::Closed, now),
            State::Open => self.change(machine, State::HalfOpen, now),
            // The trial call has no result because its client closed the connection, so another call may try. KrakenD
            // would wait forever.
            State::HalfOpen if machine.trial => self.begin(machine, State::HalfOpen, now),
            State::HalfOpen => {}
        }
    }

    fn change(&self, machine: &mut Machine, to: State, now: Duration) {
        let from = machine.state;
        self.begin(machine, to, now);
        if self.settings.log_status_change {
            log::warn!(
                "[CB] Circuit breaker named '{}' went from '{}' to '{}'",
                self.settings.name,
                from.word(),
                to.word()
            );
        }
    }

    fn begin(&self, machine: &mut Machine, state: State, now: Duration) {
        machine.state = state;
        machine.generation += 1;
        machine.failures_in_a_row = 0;
        machine.trial = false;
        machine.ends = match state {
            State::Closed => self.settings.interval.map(|interval| now + interval),
            State::Open => Some(now + self.settings.timeout),
            State::HalfOpen => None,
        };
    }

    fn counts_as_failure(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Success | Outcome::Incomplete | Outcome::Rejected => false,
            Outcome::Failure => true,
            Outcome::Streamed { status } => self.settings.stream_errors && status >= 500,
        }
    }
}

impl BackendStep for CircuitBreaker {
    fn breaker(&self) -> Option<Breaker<'_>> {
        let machine = self.locked();
        let is_over = machine.ends.is_some_and(|ends| self.clock.now() > ends);
        Some(Breaker {
            name: &self.settings.name,
            circuit: match machine.state {
                State::Closed => Circuit::Closed,
                // The next call finds it half open.
                State::Open if is_over => Circuit::HalfOpen,
                State::Open => Circuit::Open,
                State::HalfOpen => Circuit::HalfOpen,
            },
        })
    }

    fn before(&self) -> Result<Ticket, Failure> {
        let now = self.clock.now();
        if let Some(generation) = self.calm.generation(now) {
            return Ok(Ticket(generation));
        }
        let mut machine = self.locked();
        self.catch_up(&mut machine, now);
        self.calm.publish(&machine);
        match machine.state {
            State::Closed => {}
            State::Open => {
                return Err(Failure::new(Kind::Busy, "circuit breaker is open"));
            }
            State::HalfOpen if machine.trial => {
                return Err(Failure::new(Kind::Busy, "too many requests"));
            }
            State::HalfOpen => {
                machine.trial = true;
                machine.ends = Some(now + self.settings.timeout);
            }
        }
        Ok(Ticket(machine.generation))
    }

    fn after(&self, ticket: Ticket, outcome: Outcome) {
        match outcome {
            Outcome::Rejected => self.release(ticket),
            _ => self.record(ticket, self.counts_as_failure(outcome)),
        }
    }

    /// If the call was the trial, another call may try.
    fn release(&self, ticket: Ticket) {
        let mut machine = self.locked();
        if machine.generation == ticket.0 && machine.state == State::HalfOpen {
            machine.trial = false;
        }
    }
}

impl CircuitBreaker {
    /// Counts the result of a call.
    pub(crate) fn record(&self, ticket: Ticket, failed: bool) {
        let now = self.clock.now();
        if !failed && self.calm.generation(now) == Some(ticket.0) {
            return;
        }
        let mut machine = self.locked();
        self.catch_up(&mut machine, now);
        if machine.generation == ticket.0 {
            self.count(&mut machine, failed, now);
        }
        self.calm.publish(&machine);
    }

    fn count(&self, machine: &mut Machine, failed: bool, now: Duration) {
        match (machine.state, failed) {
            (State::Closed, false) => machine.failures_in_a_row = 0,
            (State::Closed, true) => {
                machine.failures_in_a_row += 1;
                if machine.failures_in_a_row > self.settings.max_errors {
                    self.change(machine, State::Open, now);
                }
            }
            (State::HalfOpen, false) => self.change(machine, State::Closed, now),
            (State::HalfOpen, true) => self.change(machine, State::Open, now),
            // No ticket belongs to this state.
            (State::Open, _) => {}
        }
    }
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::HalfOpen => "half-open",
            State::Open => "open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_without_failures_do_not_wait_for_the_lock() {
        let clock = Clock::manual();
        let breaker = CircuitBreaker::new(Settings::counting(Some(60), None, None), clock.clone());
        let succeed = || {
            let ticket = breaker.before().ok().unwrap();
            breaker.after(ticket, Outcome::Success);
            ticket.0
        };
        let held = breaker.locked();
        assert_eq!((succeed(), succeed()), (0, 0));
        drop(held);
        clock.advance(Duration::from_secs(61));
        assert_eq!(succeed(), 1, "a new window");
        let held = breaker.locked();
        assert_eq!(succeed(), 1);
        drop(held);
    }
}
