//! The state of a request that scripts can access, and their limits. There is one per request, inside its
//! interpreter.

use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use mlua::{AppDataRefMut, Error, Lua, MultiValue, Value};

use super::calls::{HttpCall, HttpResponse};
use super::failure::{CustomError, Stop};
use super::interpreter::Pace;
use super::memory::Memory;
use super::tree::{Id, Tree};
use crate::runtime::forward::alike;
use crate::runtime::heavy::{Cut, Heavy};
use crate::runtime::pipe::PipeRequest;
use crate::runtime::request::Params;
use crate::upstream::budget::Full;

/// The state of a run.
#[derive(Debug)]
pub(super) struct Run {
    /// The data of `ctx`.
    pub(super) client: Option<Box<ClientView>>,
    /// The data of `request`.
    pub(super) request: Option<Box<RequestView>>,
    /// The data of `response`.
    pub(super) response: Option<Box<ResponseView>>,
    pub(super) tree: Tree,
    /// For the memory of the interpreter.
    pub(super) memory: Memory,
    /// The call of `http_response.new`, and its result.
    pub(super) call: Option<HttpCall>,
    pub(super) answered: Option<Result<HttpResponse, Error>>,
    /// A call has had a large response, which the interpreter must let go of.
    pub(super) collect: bool,
    /// Custom errors that the script caught. If it raises one of them again, it is still a custom error.
    pub(super) caught: Vec<CustomError>,
    /// The script must end, whatever it catches.
    pub(super) stop: Option<Stop>,
    pub(super) deadline: Instant,
    /// The work between two waits, as one piece of heavy work.
    pub(super) heavy: Heavy,
    /// When the clock was last checked after a number of instructions.
    pub(super) looked: Instant,
    pub(super) pace: Pace,
    /// The interpreter must not be reused.
    pub(super) tainted: bool,
    /// The number of nested calls from Rust back into Lua.
    pub(super) depth: u32,
    /// The state of `math.random`.
    pub(super) random: u64,
}

impl Default for Run {
    fn default() -> Run {
        Run {
            client: None,
            request: None,
            response: None,
            tree: Tree::default(),
            memory: Memory::default(),
            call: None,
            answered: None,
            collect: false,
            caught: Vec::new(),
            stop: None,
            deadline: Instant::now(),
            heavy: Heavy::until(Instant::now()),
            looked: Instant::now(),
            pace: Pace::default(),
            tainted: false,
            depth: 0,
            random: RandomState::new().hash_one(0),
        }
    }
}

impl Run {
    /// The script continues or waits: its work on a thread starts anew, and its lane is released.
    pub(super) fn begin_work(&mut self) {
        self.heavy = Heavy::until(self.deadline);
        self.looked = Instant::now();
    }

    /// Checks the clock. After the deadline the script must end, whatever it catches.
    ///
    /// # Errors
    /// The script must end.
    pub(super) fn look(&mut self) -> Result<(), Stop> {
        let looked = self.heavy.look();
        self.checked(looked)
    }

    /// Checks the clock before a function works on a string of `length` bytes, which takes the time of many
    /// instructions but counts as one. A very long one is worked on outside the worker.
    ///
    /// # Errors
    /// The script must end.
    pub(super) fn look_before(&mut self, length: usize) -> Result<(), Stop> {
        const LONG: usize = 4 << 10;
        if length < LONG {
            return Ok(());
        }
        let looked = self.heavy.look_before(length);
        self.checked(looked)
    }

    /// The same before a function makes a string of this length.
    ///
    /// # Errors
    /// The script must end.
    pub(super) fn prepare(&mut self, lua: &Lua, length: usize) -> Result<(), Stop> {
        // What a script waits with is charged.
        self.fund(lua, 0)?;
        self.look_before(length)?;
        // The string exists twice while it is handed over to Lua.
        self.fund(lua, length.saturating_mul(2))
    }

    /// Charges what the interpreter uses, and `more` bytes that are about to be used. Beyond the limit of the process
    /// the script must end, whatever it catches.
    ///
    /// # Errors
    /// The script must end.
    pub(super) fn fund(&mut self, lua: &Lua, more: usize) -> Result<(), Stop> {
        let funded = self.memory.fund(lua, more);
        self.within(funded)
    }

    /// Keeps what the interpreter uses charged, while the script waits or after it.
    ///
    /// # Errors
    /// The script must end.
    pub(super) fn settle(&mut self, lua: &Lua) -> Result<(), Stop> {
        let settled = self.memory.settle(lua);
        self.within(settled)
    }

    fn within(&mut self, charged: Result<(), Full>) -> Result<(), Stop> {
        charged.map_err(|Full| {
            self.stop = Some(Stop::Full);
            Stop::Full
        })
    }

    fn checked(&mut self, looked: Result<(), Cut>) -> Result<(), Stop> {
        looked.map_err(|cut| {
            let stop = match cut {
                Cut::Deadline => Stop::Deadline,
                Cut::Busy => Stop::Busy,
            };
            self.stop = Some(stop.clone());
            stop
        })
    }

    /// A body as a string of Lua. Beyond the limit of the process there is none.
    pub(super) fn body(&mut self, lua: &Lua, body: &[u8]) -> mlua::Result<Value> {
        self.fund(lua, body.len()).map_err(Stop::raised)?;
        lua.create_string(body).map(Value::String)
    }

    /// Counts memory that a script uses outside of Lua against its limit.
    pub(super) fn spend(&mut self, bytes: usize) -> mlua::Result<()> {
        self.tree.spend(bytes).map_err(Error::external)
    }
}

/// Headers, and the names of those that a script set.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) map: HeaderMap,
    pub(super) changed: Vec<HeaderName>,
    /// The names before the first change.
    given: Option<Box<[HeaderName]>>,
}

impl Fields {
    pub(super) fn new(map: HeaderMap) -> Fields {
        Fields {
            map,
            changed: Vec::new(),
            given: None,
        }
    }

    /// Replaces the header `name` by `values`. No values remove it. Other spellings of the name (`X_User`), which a
    /// backend may confuse with it, are removed, unless the script has set them.
    ///
    /// # Errors
    /// A script has set [`MAX_FIELDS`].
    pub(super) fn set(
        &mut self,
        name: HeaderName,
        values: impl IntoIterator<Item = HeaderValue>,
    ) -> mlua::Result<()> {
        let is_known = self.changed.contains(&name);
        if !is_known && self.changed.len() >= MAX_FIELDS {
            return Err(too_many_fields());
        }
        let given = || self.map.keys().cloned().collect();
        let given = self.given.get_or_insert_with(given);
        let twins = given
            .iter()
            .filter(|known| **known != name && alike(known, &name));
        for twin in twins {
            if !self.changed.contains(twin) {
                self.map.remove(twin);
                self.changed.push(twin.clone());
            }
        }
        self.map.remove(&name);
        for value in values {
            add_field(&mut self.map, &name, value)?;
        }
        if !is_known {
            self.changed.push(name);
        }
        Ok(())
    }
}

/// The maximum number of headers that a script sets, and of their lines, because lookups are linear.
pub(super) const MAX_FIELDS: usize = 1000;

/// The error beyond [`MAX_FIELDS`].
pub(super) fn too_many_fields() -> Error {
    Error::runtime("too many header fields")
}

/// Adds a line to the headers, which have a capacity of several ten thousand.
///
/// # Errors
/// The capacity is exhausted.
pub(super) fn add_field(
    map: &mut HeaderMap,
    name: &HeaderName,
    value: HeaderValue,
) -> mlua::Result<()> {
    match map.try_append(name, value) {
        Ok(_) => Ok(()),
        Err(_) => Err(too_many_fields()),
    }
}

/// A place in the map of headers, which doubles when it grows, in its copy for the call, and in the list of changes.
const FIELD: usize = 640;

/// What a header takes. Its name is stored twice.
pub(super) fn field_bytes(name: &HeaderName, value: usize) -> usize {
    FIELD + 2 * name.as_str().len() + value
}

/// `ctx`: the request as the client sent it, with the changes of earlier steps.
#[derive(Debug)]
pub(super) struct ClientView {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) host: String,
    pub(super) headers: Fields,
    pub(super) params: Params,
    /// `None` if it was not read because no script uses it.
    pub(super) body: Option<Bytes>,
    pub(super) changed: Changed,
}

/// The parts that a script changed, except headers.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Changed {
    pub(super) method: bool,
    pub(super) url: bool,
    pub(super) host: bool,
    pub(super) params: bool,
    pub(super) body: bool,
}

/// `request`: the request to backends.
#[derive(Debug)]
pub(super) struct RequestView {
    pub(super) request: PipeRequest,
    pub(super) headers: Fields,
    /// Values that a backend's script wrote to parts that no longer affect the URL. They can only be read back.
    pub(super) shadow: Option<Shadow>,
}

/// Parts of a request without an effect.
#[derive(Debug, Clone)]
pub(super) struct Shadow {
    pub(super) path: String,
    pub(super) query: Option<Box<str>>,
    pub(super) params: Params,
}

/// `response`: the result of the inner work.
#[derive(Debug)]
pub(super) struct ResponseView {
    pub(super) complete: bool,
    pub(super) data: Id,
    /// 0 unless the response is passed on unchanged.
    pub(super) status: u16,
    pub(super) new_status: Option<StatusCode>,
    pub(super) headers: Fields,
    pub(super) body: Option<Bytes>,
    pub(super) new_body: bool,
}

/// An argument that is copied is charged first, unless it is shorter.
const SHORT: usize = 4 << 10;
/// The copies that are made of an argument: of its bytes, as UTF-8, and as a part of the request.
const COPIES: usize = 3;

/// The state of the current run, for a function that copies its arguments: long ones are charged before.
///
/// # Errors
/// As [`run`], or the process holds too much.
pub(super) fn run_for<'l>(lua: &'l Lua, args: &MultiValue) -> mlua::Result<AppDataRefMut<'l, Run>> {
    let mut run = run(lua)?;
    let lengths = args.iter().map(text_length);
    let long = lengths.filter(|length| *length > SHORT).sum::<usize>();
    if long > 0 {
        let copied = long.saturating_mul(COPIES);
        run.fund(lua, copied).map_err(Stop::raised)?;
    }
    Ok(run)
}

/// The bytes of a string. Other values are short.
pub(super) fn text_length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.as_bytes().len(),
        _ => 0,
    }
}

/// The state of the current run of `lua`.
///
/// # Errors
/// It is in use: a finalizer runs during one of our functions.
pub(super) fn run(lua: &Lua) -> mlua::Result<AppDataRefMut<'_, Run>> {
    match lua.try_app_data_mut::<Run>() {
        Ok(Some(run)) => Ok(run),
        _ => Err(Error::runtime("not possible from here")),
    }
}
