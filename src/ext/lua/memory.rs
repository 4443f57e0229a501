//! The memory of interpreters, which counts in the budgets of the process.
//!
//! What an interpreter needs to exist is charged as long as it exists, like a call. What a script uses beyond this is
//! charged to the budget of bodies: before a function makes a long string, after each few hundred instructions, and
//! before the script waits. Between two charges one instruction can allocate much (`..`, a table that doubles). So the
//! limit that Lua itself checks is never far above what the interpreter uses: a share of what the process has left.
//!
//! A script that makes long strings frees them as fast, and the allocator keeps freed pages for a while: the process
//! then holds several times what its interpreters use. So while much is charged, an interpreter grows only as far as
//! the resident memory of the process allows. And what scripts have freed stays charged until the system has it back.

use mlua::Lua;
use once_cell::sync::Lazy;

use crate::upstream::budget::{Budget, Charge, Full, MUCH, Memory as Process};
use crate::upstream::processors;

/// The memory limit of one interpreter, whatever it runs.
pub(super) const MAX_MEMORY: usize = 64 << 20;
/// A new interpreter takes less than this.
const NEW: usize = 128 << 10;
/// What an interpreter is charged in addition to what it uses when no script runs: the globals of a request.
const ROOM: usize = 48 << 10;
/// What is charged at once while a script uses more and more.
const STEP: usize = 64 << 10;
/// What an interpreter may allocate without a charge, however little the process has left.
const MIN_HEADROOM: usize = 128 << 10;

/// The number of scripts that may run at the same moment: on all workers, and outside of them.
static RUNNING: Lazy<u64> = Lazy::new(|| (2 * processors::granted() as u64).max(8));

/// The charge for an interpreter without the data of a request.
#[derive(Debug)]
pub(super) struct OwnCharge(Charge);

impl OwnCharge {
    /// For a new interpreter.
    pub(super) fn new() -> Result<OwnCharge, Full> {
        let mut charge = Budget::calls().charge();
        charge.cover(NEW)?;
        Ok(OwnCharge(charge))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Whether `used` is more than garbage of a few requests.
    pub(super) fn is_exceeded(&self, used: usize) -> bool {
        used > 2 * self.bytes()
    }

    /// Charges what the interpreter uses while it is idle.
    pub(super) fn settle(&mut self, used: usize) -> Result<(), Full> {
        self.0.follow(used + ROOM, 0)
    }
}

/// The memory that a script uses, beyond the own charge of its interpreter.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What is charged elsewhere.
    own: usize,
    charge: Charge,
    /// Up to here nothing needs to be charged, and the limit is far enough.
    mark: usize,
    limit: usize,
    /// What the interpreter used after its garbage was collected because memory was short.
    collected: usize,
}

impl Memory {
    /// A request begins in an interpreter with this charge.
    pub(super) fn begin(&mut self, own: usize) {
        self.own = own;
    }

    /// Charges what the interpreter uses and `more` bytes, and sets its limit.
    ///
    /// # Errors
    /// The process holds too much.
    pub(super) fn fund(&mut self, lua: &Lua, more: usize) -> Result<(), Full> {
        if more < MUCH as usize && lua.used_memory().saturating_add(more) <= self.mark {
            return Ok(());
        }
        self.raise(lua, more).or_else(|full| {
            // Garbage counts until it is collected, which is not worth it if there is little new.
            let is_worth_it = lua.used_memory() >= self.collected + self.collected / 4;
            if !is_worth_it || lua.gc_collect().is_err() {
                return Err(full);
            }
            self.collected = lua.used_memory();
            self.raise(lua, more)
        })
    }

    fn raise(&mut self, lua: &Lua, more: usize) -> Result<(), Full> {
        let used = lua.used_memory().saturating_add(more);
        let beyond = used.saturating_sub(self.own);
        let growth = beyond.saturating_sub(self.charge.bytes());
        // What was freed and is still charged may be in pages that do not fit a long string.
        let needed = if more < MUCH as usize {
            growth
        } else {
            growth.max(more)
        };
        let room = Process::process().room(beyond as u64, needed > 0);
        let room = room.unwrap_or(u64::MAX);
        if needed as u64 > room {
            Budget::process().count_rejection();
            return Err(Full);
        }
        if growth > 0 {
            self.charge.cover(beyond + STEP.max(beyond / 8))?;
        }
        let left = room.min(Budget::process().left());
        let headroom = usize::try_from(left / *RUNNING).unwrap_or(usize::MAX);
        let headroom = headroom.clamp(MIN_HEADROOM, MAX_MEMORY);
        self.limit = used.saturating_add(headroom).min(MAX_MEMORY);
        let charged = self.own + self.charge.bytes();
        self.mark = if self.limit < MAX_MEMORY {
            charged.min(used + headroom / 2)
        } else {
            charged
        };
        lua.set_memory_limit(self.limit).map_err(|_| Full)?;
        Ok(())
    }

    /// The script waits or has ended: only what the interpreter uses stays charged.
    ///
    /// # Errors
    /// The process holds too much.
    pub(super) fn settle(&mut self, lua: &Lua) -> Result<(), Full> {
        self.mark = 0;
        let beyond = lua.used_memory().saturating_sub(self.own);
        self.charge.lower_later(beyond as u64);
        self.charge.follow(beyond, 0)
    }

    /// Whether Lua's own limit is below the maximum, because the process has little memory left.
    pub(super) fn is_lowered(&self) -> bool {
        self.limit < MAX_MEMORY
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.charge.lower_later(0);
    }
}
