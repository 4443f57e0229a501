//! Evaluates expressions.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::facts::{Moment, Part, RESP_DATA, Request, Response, variables};
use super::language::{Budget, Facts, Path, Program, Value, compile};
use super::policy::open_reads;
use crate::ext::identity::Requirement;
use crate::jose::Claims;
use crate::runtime::clock::Clock;
use crate::runtime::failure::{Failure, Guard, Kind};
use crate::runtime::heavy::Overload;
use crate::runtime::pipe::{Passed, PipeRequest, PipeResponse, PipeStep, ResponseAccess, State};

/// The maximum cost of one run, in steps: about ten milliseconds, whatever a body contains. Runs that take longer
/// than two milliseconds leave the worker.
const BUDGET: u64 = 1_000_000;

/// The maximum time of the expressions on a token.
pub(super) const TOKEN_TIME: Duration = Duration::from_secs(2);

/// The expressions of one place that are evaluated at one moment, in the configured order.
#[derive(Debug)]
pub(super) struct Stage {
    /// `[ENDPOINT: /x][CEL][pre] Evaluator`
    pub(super) log: Box<str>,
    pub(super) programs: Box<[Program]>,
}

impl Stage {
    /// The index of the first expression that is not `true`.
    ///
    /// # Errors
    /// The process holds too much.
    fn rejected_by(
        &self,
        moment: &Moment<'_>,
        deadline: Instant,
    ) -> Result<Option<usize>, Overload> {
        for (index, program) in self.programs.iter().enumerate() {
            if !self.holds(index, program, moment, deadline)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn holds(
        &self,
        index: usize,
        program: &Program,
        moment: &Moment<'_>,
        deadline: Instant,
    ) -> Result<bool, Overload> {
        let log = &self.log;
        match verdict(program, moment, deadline) {
            Verdict::True => {
                log::debug!("{log} #{index} result: true");
                return Ok(true);
            }
            Verdict::False => log::info!("{log} #{index} result: false"),
            Verdict::Failed(why) => log::info!("{log} #{index} failed: {why}"),
            Verdict::Overload(overload) => {
                log::info!("{log} #{index} failed: {overload}");
                return Err(overload);
            }
        }
        Ok(false)
    }

    fn judge(&self, moment: &Moment<'_>, deadline: Instant, kind: Kind) -> Result<(), Failure> {
        match self.rejected_by(moment, deadline) {
            Err(overload) => Err(overload.into()),
            Ok(None) => Ok(()),
            Ok(Some(index)) => Err(Failure::new(
                kind,
                format!("request aborted by evaluator #{index}"),
            )),
        }
    }
}

/// The result of one run.
pub(super) enum Verdict {
    True,
    False,
    Overload(Overload),
    Failed(Cow<'static, str>),
}

/// Why an expression does not let something pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It is false, or it failed for this reason.
    For(String),
    /// It was not evaluated to its end.
    Overload(Overload),
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Denied::For(why) => f.write_str(why),
            Denied::Overload(overload) => write!(f, "failed: {overload}"),
        }
    }
}

/// Runs an expression. It should not panic; if it does, only this request is rejected.
pub(super) fn verdict(program: &Program, facts: &dyn Facts, deadline: Instant) -> Verdict {
    let run = || {
        let budget = Budget::new(BUDGET, deadline);
        let result = program.run(facts, &budget);
        if let Some(overload) = budget.overload() {
            return Verdict::Overload(overload);
        }
        match result {
            Ok(Value::Bool(true)) => Verdict::True,
            Ok(Value::Bool(false)) => Verdict::False,
            Ok(_) => Verdict::Failed("the result is not a bool".into()),
            Err(failed) => Verdict::Failed(failed.to_string().into()),
        }
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(Verdict::Failed("it panicked".into()))
}

/// A step around an endpoint's work or around a call.
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) before: Stage,
    pub(super) after: Stage,
    /// The parts of `resp_data` that the later expressions read.
    reads: Box<[Path]>,
    clock: Clock,
}

impl Checks {
    pub(super) fn new(before: Stage, after: Stage, clock: Clock) -> Checks {
        let reads = after
            .programs
            .iter()
            .flat_map(|program| program.reads(RESP_DATA))
            .collect();
        Checks {
            before,
            after,
            reads,
            clock,
        }
    }
}

#[async_trait]
impl PipeStep for Checks {
    fn response_access(&self) -> ResponseAccess {
        if self.after.programs.is_empty() {
            ResponseAccess::Nothing
        } else {
            ResponseAccess::Head
        }
    }

    async fn before(&self, request: &mut PipeRequest) -> Result<Passed, Failure> {
        if !self.before.programs.is_empty() {
            let part = Part::Request(Request::new(request));
            let now = self.clock.wall();
            let deadline = request.deadline.into_std();
            self.before
                .judge(&Moment { now, part }, deadline, Kind::Guarded(Guard::Cel))?;
        }
        Ok(Passed::default())
    }

    async fn after(
        &self,
        _state: State,
        request: &PipeRequest,
        response: &mut PipeResponse,
    ) -> Result<(), Failure> {
        if self.after.programs.is_empty() {
            return Ok(());
        }
        let _held = open_reads(&self.reads, response)?;
        let part = Part::Response(Response::new(response));
        let now = self.clock.wall();
        let deadline = request.deadline.into_std();
        self.after
            .judge(&Moment { now, part }, deadline, Kind::Rejected)
    }
}

/// The expressions on a token, in addition to the checks of the validator.
#[derive(Debug)]
pub(super) struct Rejecters {
    pub(super) stage: Stage,
    pub(super) clock: Clock,
}

impl Rejecters {
    fn moment<'c>(&self, claims: &'c Claims) -> Moment<'c> {
        Moment {
            now: self.clock.wall(),
            part: Part::Token(claims),
        }
    }
}

impl Requirement for Rejecters {
    fn admits(&self, claims: &Claims) -> Result<bool, Overload> {
        let deadline = Instant::now() + TOKEN_TIME;
        let rejected = self.stage.rejected_by(&self.moment(claims), deadline);
        Ok(rejected?.is_none())
    }

    fn refusal(&self, claims: &Claims) -> Option<String> {
        let (moment, deadline) = (self.moment(claims), Instant::now() + TOKEN_TIME);
        let mut programs = self.stage.programs.iter().enumerate();
        programs.find_map(|(index, program)| {
            let why = match verdict(program, &moment, deadline) {
                Verdict::True => return None,
                Verdict::False => "false".into(),
                Verdict::Overload(overload) => overload.to_string().into(),
                Verdict::Failed(why) => why,
            };
            Some(format!(
                "validation/cel #{index}  {}: {why}",
                program.text()
            ))
        })
    }
}

/// For fuzzing: compiles any text and, if it is an expression, runs it on any claims.
pub fn judge_anything(text: &str, claims: &[u8]) {
    let Ok(program) = compile(text, &variables()) else {
        return;
    };
    let Ok(claims) = Claims::parse(claims) else {
        return;
    };
    let moment = Moment {
        now: Clock::manual().wall(),
        part: Part::Token(&claims),
    };
    let budget = Budget::new(BUDGET, Instant::now() + TOKEN_TIME);
    let given = program.run(&moment, &budget);
    drop(given);
}
