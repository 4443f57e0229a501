//! The use of an interpreter by one request. If it is dropped early, because the client closed its connection or the
//! deadline passed, the interpreter is dropped too.

use std::sync::Arc;

use mlua::{AppDataRefMut, Table};

use super::failure::Stop;
use super::interpreter::Interpreter;
use super::run::Run;
use super::script::{Joined, Part, Script};

#[derive(Debug)]
pub(super) struct Session {
    script: Arc<Script>,
    interpreter: Interpreter,
    /// The globals of the request.
    env: Table,
    joined: Option<Joined>,
}

impl Session {
    /// Starts by running the sources, if there are any.
    ///
    /// # Errors
    /// They cannot be read, or end early.
    pub(super) async fn begin(script: &Arc<Script>, state: Run) -> Result<Session, Stop> {
        let joined = script.joined().await?;
        let mut interpreter = script.pool.take()?;
        let session = match interpreter.begin(script, state) {
            Ok(env) => Session {
                script: Arc::clone(script),
                interpreter,
                env,
                joined,
            },
            Err(stop) => {
                script.pool.give_back(interpreter, true);
                return Err(stop);
            }
        };
        session.run(Part::Sources).await
    }

    /// Runs a part. A missing part is skipped.
    ///
    /// # Errors
    /// It ends early. The interpreter was returned to the pool.
    pub(super) async fn run(mut self, part: Part) -> Result<Session, Stop> {
        let joined = self.joined.as_ref();
        let ran = self
            .interpreter
            .run(&self.script, part, joined, &self.env)
            .await;
        match ran {
            Ok(()) => Ok(self),
            Err(stop) => {
                // What the globals refer to can be freed then.
                drop(self.env);
                self.script.pool.give_back(self.interpreter, stop.spoils());
                Err(stop)
            }
        }
    }

    /// Adds `response` to the globals of the following parts.
    ///
    /// # Errors
    /// There is no memory.
    pub(super) fn offer_response(&mut self) -> Result<(), Stop> {
        self.interpreter.offer_response(&self.env)
    }

    /// The current state.
    ///
    /// # Errors
    /// Does not happen between two parts.
    pub(super) fn state(&self) -> Result<AppDataRefMut<'_, Run>, Stop> {
        self.interpreter
            .state()
            .map_err(|error| Stop::Error(error.to_string()))
    }

    /// Returns the interpreter to the pool, and returns the state that the scripts left.
    pub(super) fn end(self) -> Run {
        // What the globals refer to can be freed then.
        drop(self.env);
        self.script.pool.give_back(self.interpreter, false)
    }
}
