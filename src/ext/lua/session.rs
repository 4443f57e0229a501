//! One request's use of an interpreter. Dropped on the way, because the client left or the time was over, it takes the
//! interpreter with it.

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
    /// The request's globals.
    env: Table,
    joined: Option<Joined>,
}

impl Session {
    /// Begins with the sources, if there are any.
    ///
    /// # Errors
    /// They cannot be read, or do not reach their end.
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

    /// Runs a part; one that the script has not is passed over.
    ///
    /// # Errors
    /// It does not reach its end. The interpreter went back.
    pub(super) async fn run(mut self, part: Part) -> Result<Session, Stop> {
        let joined = self.joined.as_ref();
        let ran = self
            .interpreter
            .run(&self.script, part, joined, &self.env)
            .await;
        match ran {
            Ok(()) => Ok(self),
            Err(stop) => {
                self.script.pool.give_back(self.interpreter, stop.spoils());
                Err(stop)
            }
        }
    }

    /// Adds `response` to the globals of what is yet to run.
    ///
    /// # Errors
    /// There is no memory.
    pub(super) fn offer_response(&mut self) -> Result<(), Stop> {
        self.interpreter.offer_response(&self.env)
    }

    /// What the scripts left so far.
    ///
    /// # Errors
    /// Never between two parts.
    pub(super) fn state(&self) -> Result<AppDataRefMut<'_, Run>, Stop> {
        self.interpreter
            .state()
            .map_err(|error| Stop::Error(error.to_string()))
    }

    /// Gives the interpreter back, and what the scripts left out.
    pub(super) fn end(self) -> Run {
        self.script.pool.give_back(self.interpreter, false)
    }
}
