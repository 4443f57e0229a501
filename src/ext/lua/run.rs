//! What a script can reach of the request it runs for, and how far it may go. One per request, inside its interpreter.

use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use mlua::{AppDataRefMut, Error, Lua};

use super::calls::{HttpAnswer, HttpCall};
use super::failure::{CustomError, Stop};
use super::tree::{Id, Tree};
use crate::runtime::heavy::{Cut, Heavy};
use crate::runtime::pipe::PipeRequest;
use crate::runtime::request::Params;

/// The state of a run.
#[derive(Debug)]
pub(super) struct Run {
    /// For `ctx`.
    pub(super) client: Option<Box<ClientView>>,
    /// For `request`.
    pub(super) request: Option<Box<RequestView>>,
    /// For `response`.
    pub(super) response: Option<Box<ResponseView>>,
    pub(super) tree: Tree,
    /// What `http_response.new` wants, and what came of it.
    pub(super) call: Option<HttpCall>,
    pub(super) answered: Option<Result<HttpAnswer, String>>,
    /// Custom errors that the script caught: if it raises one of them again, they count.
    pub(super) caught: Vec<CustomError>,
    /// The script is over, whatever it catches.
    pub(super) stop: Option<Stop>,
    pub(super) deadline: Instant,
    /// What runs between two waits, as one piece of work.
    pub(super) heavy: Heavy,
    /// The interpreter is not to be used again.
    pub(super) tainted: bool,
    /// Calls from Rust back into Lua that are under way.
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
            call: None,
            answered: None,
            caught: Vec::new(),
            stop: None,
            deadline: Instant::now(),
            heavy: Heavy::until(Instant::now()),
            tainted: false,
            depth: 0,
            random: RandomState::new().hash_one(0),
        }
    }
}

impl Run {
    /// The script goes on, or waits: its work on a thread begins anew, and what it held of one is given back.
    pub(super) fn begin_work(&mut self) {
        self.heavy = Heavy::until(self.deadline);
    }

    /// Looks at the clock. Once the time is over the script is, too, whatever it catches.
    ///
    /// # Errors
    /// The script has to end.
    pub(super) fn look(&mut self) -> Result<(), Stop> {
        self.heavy.look().map_err(|cut| {
            let stop = match cut {
                Cut::Deadline => Stop::Deadline,
                Cut::Busy => Stop::Busy,
            };
            self.stop = Some(stop.clone());
            stop
        })
    }

    /// Counts what a script keeps with us against its bound.
    pub(super) fn spend(&mut self, bytes: usize) -> mlua::Result<()> {
        self.tree.spend(bytes).map_err(Error::external)
    }
}

/// Header fields, and which of them a script set.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) map: HeaderMap,
    pub(super) changed: Vec<HeaderName>,
}

impl Fields {
    pub(super) fn new(map: HeaderMap) -> Fields {
        Fields {
            map,
            changed: Vec::new(),
        }
    }

    /// Puts `values` in the place of what was called `name`; none of them takes the field away.
    ///
    /// # Errors
    /// A head has no room for more names.
    pub(super) fn set(
        &mut self,
        name: HeaderName,
        values: impl IntoIterator<Item = HeaderValue>,
    ) -> mlua::Result<()> {
        self.map.remove(&name);
        for value in values {
            add_field(&mut self.map, &name, value)?;
        }
        self.changed.push(name);
        Ok(())
    }
}

/// One more line of a head, which has room for some ten thousands.
///
/// # Errors
/// There is none left.
pub(super) fn add_field(
    map: &mut HeaderMap,
    name: &HeaderName,
    value: HeaderValue,
) -> mlua::Result<()> {
    match map.try_append(name, value) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::runtime("too many header fields")),
    }
}

/// What a line of a head takes, by a rough count: its name is kept twice.
pub(super) fn field_bytes(name: &HeaderName, value: usize) -> usize {
    128 + 2 * name.as_str().len() + value
}

/// `ctx`: the request as the client sent it, with what steps before made of it.
#[derive(Debug)]
pub(super) struct ClientView {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) host: String,
    pub(super) headers: Fields,
    pub(super) params: Params,
    /// `None`: not read, because no script mentions it.
    pub(super) body: Option<Bytes>,
    pub(super) changed: Changed,
}

/// What of it a script set, header fields aside.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Changed {
    pub(super) method: bool,
    pub(super) url: bool,
    pub(super) host: bool,
    pub(super) params: bool,
    pub(super) body: bool,
}

/// `request`: what goes to backends.
#[derive(Debug)]
pub(super) struct RequestView {
    pub(super) request: PipeRequest,
    pub(super) headers: Fields,
    /// What a script of a backend wrote over parts whose URL is made already; it reads them back, no more.
    pub(super) shadow: Option<Shadow>,
}

/// Parts of a request without an effect.
#[derive(Debug, Clone)]
pub(super) struct Shadow {
    pub(super) path: String,
    pub(super) query: Option<Box<str>>,
    pub(super) params: Params,
}

/// `response`: what came of the work within.
#[derive(Debug)]
pub(super) struct ResponseView {
    pub(super) complete: bool,
    pub(super) data: Id,
    /// 0 unless the answer is passed on as it came.
    pub(super) status: u16,
    pub(super) new_status: Option<StatusCode>,
    pub(super) headers: Fields,
    pub(super) body: Option<Bytes>,
    pub(super) new_body: bool,
}

/// The state of the run that `lua` is in.
///
/// # Errors
/// It is in use: a finalizer runs in the middle of a function of ours.
pub(super) fn run(lua: &Lua) -> mlua::Result<AppDataRefMut<'_, Run>> {
    match lua.try_app_data_mut::<Run>() {
        Ok(Some(run)) => Ok(run),
        _ => Err(Error::runtime("not possible from here")),
    }
}
