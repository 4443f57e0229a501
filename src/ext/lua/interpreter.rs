//! One Lua state: created once, with a new set of globals for each request.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::chunk::ChunkMode;
use mlua::thread::ThreadStatus;
use mlua::{
    Error, Function, HookTriggers, Lua, LuaOptions, LuaString, MultiValue, StdLib, Table, Thread,
    VmState,
};

use super::calls::{HttpCall, HttpResponse};
use super::failure::{CustomError, Stop, located};
use super::library;
use super::memory::{MAX_MEMORY, OwnCharge};
use super::pool::Outside;
use super::run::{Run, run};
use super::script::{Joined, Part, Script, placed};
use super::syntax;
use crate::upstream::budget::{Budget, FREE};
use crate::upstream::{HostRules, SideError};

/// Instructions between two checks of the clock: some microseconds, unless they copy long strings.
const INSTRUCTIONS_PER_LOOK: u32 = 250;
/// Instructions between two checks of the clock while a script copies long strings.
const SLOW_INSTRUCTIONS_PER_LOOK: u32 = 5;
/// Instructions between two checks of the clock that take longer than this copy long strings.
const SLOW: Duration = Duration::from_millis(1);
/// After this many quick checks in a row, the clock is checked less often again.
const QUICK_LOOKS: u32 = 100;
/// An interpreter that uses more memory is not kept.
const MAX_KEPT_MEMORY: usize = 4 << 20;
/// After this many requests an interpreter is replaced by a new one.
const MAX_USES: u32 = 100_000;

const PRELUDE: &str = include_str!("prelude.lua");

/// A Lua state. It has a single owner at any time.
#[derive(Debug)]
pub(super) struct Interpreter {
    lua: Lua,
    /// A function that fills a table with the globals of a request.
    builder: Function,
    /// `response.load`.
    load_response: Function,
    /// The globals between requests: an empty table.
    nothing: Table,
    /// The parts of scripts that were already loaded.
    loaded: Vec<Loaded>,
    outside: Arc<Outside>,
    has_string_methods: bool,
    uses: u32,
    own: OwnCharge,
}

/// A part of a script, loaded as a function.
#[derive(Debug)]
struct Loaded {
    script: usize,
    part: Part,
    /// Identifies the version of a source that may change.
    text: Arc<str>,
    function: Function,
}

impl Interpreter {
    /// A new state with only our own globals.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(super) fn new(outside: &Arc<Outside>) -> mlua::Result<Interpreter> {
        let mut own = OwnCharge::new().map_err(Error::external)?;
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::OS | StdLib::IO;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        let base = lua.globals();
        let raw = library::raw(&lua, outside)?;
        let load_response = raw.raw_get("load_response")?;
        let prelude = lua.load(PRELUDE).set_name("=prelude");
        let builder = prelude.call::<Function>((base, raw))?;
        let nothing = lua.create_table()?;
        lua.set_globals(nothing.clone())?;
        lua.set_type_metatable::<LuaString>(None);
        lua.set_app_data(Run::default());
        look_every(&lua, INSTRUCTIONS_PER_LOOK)?;
        lua.set_memory_limit(MAX_MEMORY)?;
        own.settle(lua.used_memory()).map_err(Error::external)?;
        Ok(Interpreter {
            lua,
            builder,
            load_response,
            nothing,
            loaded: Vec::new(),
            outside: Arc::clone(outside),
            has_string_methods: false,
            uses: 0,
            own,
        })
    }

    /// Checks that `text` is Lua.
    ///
    /// # Errors
    /// The syntax error and its line.
    pub(super) fn parse(&self, name: &str, text: &str) -> Result<(), (String, Option<usize>)> {
        match self.function(name, text, false) {
            Ok(_) => Ok(()),
            Err(error) => {
                let (message, place) = located(&error);
                Err((message, place.map(|place| place.line)))
            }
        }
    }

    /// Starts a request with its globals and the state that its scripts access.
    pub(super) fn begin(&mut self, script: &Script, mut state: Run) -> Result<Table, Stop> {
        self.uses += 1;
        state.begin_work();
        state.memory.begin(self.own.bytes());
        state.fund(&self.lua, 0)?;
        self.lua.set_app_data(state);
        self.globals(script)
            .map_err(|error| self.stop(&error, None))
    }

    fn globals(&mut self, script: &Script) -> mlua::Result<Table> {
        let env = self.lua.create_table_with_capacity(0, 64)?;
        self.builder.set_environment(env.clone())?;
        let level = script.level.name();
        let methods = self
            .builder
            .call::<Option<Table>>((env.clone(), level, script.open_libs))?;
        if self.has_string_methods || methods.is_some() {
            self.has_string_methods = methods.is_some();
            self.lua.set_type_metatable::<LuaString>(methods);
        }
        self.lua.set_globals(env.clone())?;
        Ok(env)
    }

    /// Runs a part of `script` to its end. A missing part succeeds immediately.
    ///
    /// # Errors
    /// The part ended early.
    pub(super) async fn run(
        &mut self,
        script: &Script,
        part: Part,
        joined: Option<&Joined>,
        env: &Table,
    ) -> Result<(), Stop> {
        let Some(text) = script.text(part, joined) else {
            return Ok(());
        };
        let thread = self
            .thread(script, part, &text, env)
            .map_err(|error| self.stop(&error, joined))?;
        loop {
            self.begin_work(|run| run.fund(&self.lua, 0))?;
            // A panic in one of our functions must affect only this request.
            let resumed = catch_unwind(AssertUnwindSafe(|| thread.resume::<MultiValue>(())));
            let settled = self.begin_work(|run| run.settle(&self.lua));
            match resumed {
                Err(_) => return Err(self.broken()),
                Ok(Err(error)) => return Err(self.stop(&error, joined)),
                Ok(Ok(_)) => settled?,
            }
            if thread.status() == ThreadStatus::Finished {
                return Ok(());
            }
            self.wait(&script.rules).await?;
        }
    }

    /// A script that waits must not occupy a lane or worker, and `account` charges its memory.
    fn begin_work(&self, account: impl FnOnce(&mut Run) -> Result<(), Stop>) -> Result<(), Stop> {
        match run(&self.lua) {
            Ok(mut run) => {
                run.begin_work();
                account(&mut run)
            }
            Err(_) => Ok(()),
        }
    }

    fn thread(
        &mut self,
        script: &Script,
        part: Part,
        text: &Arc<str>,
        env: &Table,
    ) -> mlua::Result<Thread> {
        let function = self.part(script, part, text)?;
        function.set_environment(env.clone())?;
        self.lua.create_thread(function)
    }

    /// The script is suspended and waits for a call that it made.
    async fn wait(&self, rules: &HostRules) -> Result<(), Stop> {
        let (call, deadline) = {
            let mut run = run(&self.lua).map_err(|error| self.stop(&error, None))?;
            (run.call.take(), run.deadline)
        };
        let Some(call) = call else {
            let text = "attempt to yield from outside a coroutine";
            return Err(Stop::Error(text.to_owned()));
        };
        let answered = self.fetch(call, deadline.into(), rules).await;
        let mut run = run(&self.lua).map_err(|error| self.stop(&error, None))?;
        run.collect |=
            matches!(&answered, Ok(HttpResponse(response)) if response.body.len() > FREE);
        run.answered = Some(answered);
        Ok(())
    }

    async fn fetch(
        &self,
        call: HttpCall,
        deadline: tokio::time::Instant,
        rules: &HostRules,
    ) -> mlua::Result<HttpResponse> {
        let HttpCall {
            method,
            url,
            headers,
            body,
        } = call;
        let limit = deadline.saturating_duration_since(tokio::time::Instant::now());
        let client = &self.outside.client;
        let calling = client.call_ruled(method, &url, headers, body, limit, rules);
        let response = calling.await.map(HttpResponse);
        response.map_err(|error| match error {
            SideError::Full(full) => Error::external(full),
            error => Error::runtime(error.to_string()),
        })
    }

    /// A part as a function, which is loaded once.
    fn part(&mut self, script: &Script, part: Part, text: &Arc<str>) -> mlua::Result<Function> {
        let known = |loaded: &Loaded| loaded.script == script.id && loaded.part == part;
        if let Some(at) = self.loaded.iter().position(known) {
            if let Some(loaded) = self.loaded.get(at)
                && (Arc::ptr_eq(&loaded.text, text) || loaded.text == *text)
            {
                return Ok(loaded.function.clone());
            }
            self.loaded.swap_remove(at);
        }
        let function = self.function(part.chunk(), text, script.lengths)?;
        self.loaded.push(Loaded {
            script: script.id,
            part,
            text: Arc::clone(text),
            function: function.clone(),
        });
        Ok(function)
    }

    /// Loads a text. Syntax that Lua 5.1 rejects is rewritten first, if possible.
    fn function(&self, name: &str, text: &str, lengths: bool) -> mlua::Result<Function> {
        let asking = (lengths || syntax::speaks_of_len(text))
            .then(|| syntax::with_lengths(text))
            .flatten();
        let text = asking.as_deref().unwrap_or(text);
        let error = match self.loaded(name, text) {
            Ok(function) => return Ok(function),
            Err(error) => error,
        };
        match syntax::rewritten(text) {
            Ok(Some(older)) => self.loaded(name, &older),
            Ok(None) => Err(error),
            Err(unfit) => Err(Error::SyntaxError {
                message: format!("{name}:{}: {}", unfit.line, unfit.text),
                incomplete_input: false,
            }),
        }
    }

    fn loaded(&self, name: &str, text: &str) -> mlua::Result<Function> {
        let chunk = self.lua.load(text).set_name(format!("={name}"));
        chunk.set_mode(ChunkMode::Text).into_function()
    }

    /// Ends the request and returns the state that the scripts left.
    pub(super) fn end(&mut self) -> Run {
        let state = self.lua.set_app_data(Run::default());
        let mut state = state.unwrap_or_default();
        if state.pace.slow.is_some() {
            state.tainted |= look_every(&self.lua, INSTRUCTIONS_PER_LOOK).is_err();
        }
        state
    }

    /// Adds `response` to the globals, for code that runs when there is a response.
    pub(super) fn offer_response(&self, env: &Table) -> Result<(), Stop> {
        let offer = || {
            let response = self.lua.create_table()?;
            response.raw_set("load", self.load_response.clone())?;
            env.raw_set("response", response)
        };
        offer().map_err(|error: Error| self.stop(&error, None))
    }

    /// The current state, which can be read or changed between two scripts.
    pub(super) fn state(&self) -> mlua::Result<mlua::AppDataRefMut<'_, Run>> {
        run(&self.lua)
    }

    /// Frees what scripts hold outside of Lua's own memory: Lua does not know its size, so it may keep it for long.
    pub(super) fn collect(&self) -> mlua::Result<()> {
        self.lua.gc_collect()
    }

    /// Removes the data of a request. `false` if the interpreter must not be reused.
    pub(super) fn clean(&mut self, tainted: bool) -> bool {
        !tainted
            && self.uses < MAX_USES
            && self.lua.used_memory() < MAX_KEPT_MEMORY
            && self.lua.set_globals(self.nothing.clone()).is_ok()
            && self.gives_memory_back()
    }

    /// An idle interpreter keeps its scripts, but not the data of a request.
    fn gives_memory_back(&mut self) -> bool {
        if !self.own.is_exceeded(self.lua.used_memory()) {
            return true;
        }
        // The functions still refer to the globals of the last request.
        let scripts = self.loaded.iter().map(|loaded| &loaded.function);
        let mut functions = scripts.chain([&self.builder]);
        functions.all(|function| function.set_environment(self.nothing.clone()).is_ok())
            && self.collect().is_ok()
            && self.own.settle(self.lua.used_memory()).is_ok()
    }

    /// Why a script ended early.
    fn stop(&self, error: &Error, joined: Option<&Joined>) -> Stop {
        let state = run(&self.lua);
        if let Ok(state) = &state
            && let Some(stop) = &state.stop
        {
            return stop.clone();
        }
        if let Some(custom) = error.downcast_ref::<CustomError>() {
            return Stop::Custom(custom.clone());
        }
        if Stop::is_full(error) {
            return Stop::Full;
        }
        if let Error::MemoryError(_) = innermost(error) {
            return match &state {
                Ok(state) if state.memory.is_lowered() => {
                    Budget::process().count_rejection();
                    Stop::Full
                }
                _ => Stop::Memory,
            };
        }
        let (message, place) = located(error);
        if let Ok(state) = &state
            && let Some(custom) = state.caught.iter().rfind(|c| c.is_again(&message))
        {
            return Stop::Custom(custom.clone());
        }
        Stop::Error(placed(&message, place.as_ref(), joined))
    }

    fn broken(&self) -> Stop {
        if let Ok(mut state) = run(&self.lua) {
            state.tainted = true;
        }
        Stop::Error("lua: a function of the gateway failed".to_owned())
    }
}

fn innermost(error: &Error) -> &Error {
    match error {
        Error::CallbackError { cause, .. } => innermost(cause),
        other => other,
    }
}

/// Checks the clock after each `number` of instructions.
fn look_every(lua: &Lua, number: u32) -> mlua::Result<()> {
    let triggers = HookTriggers::new().every_nth_instruction(number);
    lua.set_global_hook(triggers, |lua, _| look_at_the_clock(lua))
}

/// Ends a script at its deadline. A script that runs long leaves the worker here.
///
/// One instruction may copy a string of many megabytes (`..`), so the clock is checked more often while instructions
/// take long.
fn look_at_the_clock(lua: &Lua) -> mlua::Result<VmState> {
    let (looked, number) = {
        let mut run = run(lua)?;
        let took = run.looked.elapsed();
        // A script that waits for its turn has charged what it uses.
        let looked = run.fund(lua, 0).and_then(|()| run.look());
        run.looked = Instant::now();
        (looked, run.pace.next(took))
    };
    looked.map_err(Stop::raised)?;
    if let Some(number) = number {
        look_every(lua, number)?;
    }
    Ok(VmState::Continue)
}

/// How often the clock is checked.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The quick checks since the last slow one, while instructions take long.
    slow: Option<u32>,
}

impl Pace {
    /// The number of instructions until the next check, if it changes after one that came `took` after the last.
    fn next(&mut self, took: Duration) -> Option<u32> {
        let is_slow = took >= SLOW;
        match &mut self.slow {
            None if is_slow => {
                self.slow = Some(0);
                Some(SLOW_INSTRUCTIONS_PER_LOOK)
            }
            None => None,
            Some(quick) if is_slow => {
                *quick = 0;
                None
            }
            Some(quick) if *quick < QUICK_LOOKS => {
                *quick += 1;
                None
            }
            Some(_) => {
                self.slow = None;
                Some(INSTRUCTIONS_PER_LOOK)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_checked_more_often_while_instructions_take_long() {
        let (short, long) = (Duration::from_micros(5), Duration::from_millis(8));
        let mut pace = Pace::default();
        assert_eq!(pace.next(short), None);
        assert_eq!(pace.next(long), Some(SLOW_INSTRUCTIONS_PER_LOOK));
        assert_eq!(pace.next(long), None);
        let quick = (0..1000)
            .filter_map(|_| pace.next(short))
            .collect::<Vec<_>>();
        assert_eq!(quick, [INSTRUCTIONS_PER_LOOK]);
        assert_eq!(pace.next(long), Some(SLOW_INSTRUCTIONS_PER_LOOK));
    }
}
