//! `luaTable`, `luaList`, `luaNil`.

use std::sync::atomic::{AtomicU32, Ordering};

use mlua::{
    AnyUserData, AppDataRefMut, Error, Lua, MultiValue, Result, UserData, UserDataMethods,
    UserDataRef, Value,
};

use super::failure::Stop;
use super::library::{lossy, lossy_length, need_arguments};
use super::objects::plain;
use super::run::{Run, run, run_for};
use super::tree::{Id, Node, Shown, Tree, TreeError, number_text};
use crate::runtime::json::{MAX_DEPTH, Value as Json};

/// `luaTable`: an object of the run's tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table(pub(super) Id);

/// `luaList`: a list of the run's tree. It refers to another list after it has grown.
#[derive(Debug)]
pub(super) struct List(AtomicU32);

/// `luaNil`: the `null` of JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Null;

impl List {
    pub(super) fn of(id: Id) -> List {
        List(AtomicU32::new(id.number()))
    }

    pub(super) fn id(&self) -> Id {
        Id::from_number(self.0.load(Ordering::Relaxed))
    }
}

impl UserData for Table {
    fn add_methods<M: UserDataMethods<Table>>(methods: &mut M) {
        methods.add_method("get", |lua, table, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let shown = run.tree.member(table.0, &key(&args, 0)?);
            values(lua, run, shown)
        });
        methods.add_method("set", |lua, table, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let key = key(&args, 0)?;
            let value = args.get(1).ok_or_else(need_arguments)?;
            let Some(node) = node(&mut run.tree, value, 0)? else {
                return Ok(());
            };
            run.tree
                .set_member(table.0, &key, node)
                .map_err(Error::external)
        });
        methods.add_method("len", |lua, table, ()| {
            Ok(run(lua)?.tree.members_len(table.0))
        });
        methods.add_method("del", |lua, table, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            run.tree.remove_member(table.0, &key(&args, 0)?);
            Ok(())
        });
        methods.add_method("keys", |lua, table, ()| {
            let id = run(lua)?.tree.keys(table.0).map_err(Error::external)?;
            lua.create_userdata(List::of(id))
        });
        methods.add_method("keyExists", |lua, table, args: MultiValue| {
            let run = run_for(lua, &args)?;
            Ok(run.tree.has(table.0, &key(&args, 0)?))
        });
    }
}

impl UserData for List {
    fn add_methods<M: UserDataMethods<List>>(methods: &mut M) {
        methods.add_method("get", |lua, list, args: MultiValue| {
            let Some(index) = index(&args)? else {
                return Ok(MultiValue::new());
            };
            let mut run = run(lua)?;
            let shown = run.tree.item(list.id(), index);
            values(lua, run, shown)
        });
        methods.add_method("set", |lua, list, args: MultiValue| {
            let index = index(&args)?;
            let value = args.get(1).ok_or_else(need_arguments)?;
            let mut run = run(lua)?;
            if let (Some(index), Some(node)) = (index, node(&mut run.tree, value, 0)?) {
                let id = run
                    .tree
                    .set_item(list.id(), index, node)
                    .map_err(Error::external)?;
                list.0.store(id.number(), Ordering::Relaxed);
            }
            Ok(())
        });
        methods.add_method("len", |lua, list, ()| {
            Ok(run(lua)?.tree.items_len(list.id()))
        });
        methods.add_method("del", |lua, list, args: MultiValue| {
            if let Some(index) = index(&args)? {
                run(lua)?.tree.remove_item(list.id(), index);
            }
            Ok(())
        });
    }
}

impl UserData for Null {}

/// `luaTable.new`, `luaList.new`, `luaNil.new`.
pub(super) fn constructors(lua: &Lua) -> Result<[mlua::Function; 3]> {
    let table = lua.create_function(|lua, _: MultiValue| {
        let id = run(lua)?.tree.object().map_err(Error::external)?;
        lua.create_userdata(Table(id))
    })?;
    let list = lua.create_function(|lua, _: MultiValue| {
        let id = run(lua)?.tree.list().map_err(Error::external)?;
        lua.create_userdata(List::of(id))
    })?;
    let nil = lua.create_function(|lua, _: MultiValue| lua.create_userdata(Null))?;
    Ok([table, list, nil])
}

/// A value for Lua. A missing one becomes no value at all, which is not the same as `nil`.
fn values(
    lua: &Lua,
    mut run: AppDataRefMut<'_, Run>,
    shown: std::result::Result<Option<Shown>, TreeError>,
) -> Result<MultiValue> {
    let shown = shown.map_err(Error::external)?;
    if let Some(Shown::Text(text)) = &shown {
        run.fund(lua, text.len()).map_err(Stop::raised)?;
    }
    drop(run);
    let value = match shown {
        None => return Ok(MultiValue::new()),
        Some(Shown::Null) => Value::UserData(lua.create_userdata(Null)?),
        Some(Shown::Bool(yes)) => Value::Boolean(yes),
        Some(Shown::Number(number)) => Value::Number(number),
        Some(Shown::Text(text)) => Value::String(lua.create_string(&*text)?),
        Some(Shown::Object(id)) => Value::UserData(lua.create_userdata(Table(id))?),
        Some(Shown::List(id)) => Value::UserData(lua.create_userdata(List::of(id))?),
    };
    Ok(MultiValue::from_vec(vec![value]))
}

/// A Lua value as data. `None` for values that data cannot represent: `nil` and functions.
///
/// At the outermost level a native table is an object, whatever its keys are. Within it, a sequence is a list.
///
/// The function calls itself for each level of the table, so what it needs for anything else is in functions of its
/// own.
fn node(tree: &mut Tree, value: &Value, depth: usize) -> Result<Option<Node>> {
    match value {
        Value::Table(_) if depth >= MAX_DEPTH => Err(Error::external(TreeError::TooDeep)),
        // As in KrakenD: an empty table within another one could be a list or an object, and becomes null.
        Value::Table(table) if depth > 0 && table.is_empty() => Ok(Some(Node::Leaf(Json::Null))),
        Value::Table(table) if depth > 0 && is_list(table)? => list(tree, table, depth),
        Value::Table(table) => object(tree, table, depth),
        Value::UserData(data) => Ok(userdata(data)),
        other => Ok(leaf(tree, other)?.map(Node::Leaf)),
    }
}

fn list(tree: &mut Tree, table: &mlua::Table, depth: usize) -> Result<Option<Node>> {
    let mut list = tree.list().map_err(Error::external)?;
    for (index, item) in items(tree, table)?.into_iter().enumerate() {
        if let Some(node) = node(tree, &item, depth + 1)? {
            list = tree.set_item(list, index, node).map_err(Error::external)?;
        }
    }
    Ok(Some(Node::List(list)))
}

fn object(tree: &mut Tree, table: &mlua::Table, depth: usize) -> Result<Option<Node>> {
    let object = tree.object().map_err(Error::external)?;
    table.for_each(|key: Value, item: Value| {
        if let Value::String(key) = &key {
            // Two copies, one of which is in the object. Each invalid byte becomes three.
            tree.prepare(6 * key.as_bytes().len())
                .map_err(Error::external)?;
        }
        let key = plain(&key)?;
        match node(tree, &item, depth + 1)? {
            Some(node) => tree.set_member(object, &key, node).map_err(Error::external),
            None => Ok(()),
        }
    })?;
    Ok(Some(Node::Object(object)))
}

fn leaf(tree: &mut Tree, value: &Value) -> Result<Option<Json>> {
    Ok(Some(match value {
        Value::Boolean(yes) => Json::Bool(*yes),
        Value::Integer(number) => Json::Number(number.to_string().into()),
        Value::Number(number) => match number_text(*number) {
            Some(text) => Json::Number(text.into()),
            None => return Err(Error::runtime("JSON cannot contain this number")),
        },
        Value::String(text) => {
            let text = text.as_bytes();
            match str::from_utf8(&text) {
                Ok(text) => {
                    tree.prepare(text.len()).map_err(Error::external)?;
                    Json::string(text)
                }
                Err(_) => {
                    let length = lossy_length(&text);
                    tree.prepare(length).map_err(Error::external)?;
                    Json::string(lossy(&text))
                }
            }
        }
        _ => return Ok(None),
    }))
}

fn userdata(data: &AnyUserData) -> Option<Node> {
    if let Ok(table) = data.borrow::<Table>() {
        return Some(Node::Object(table.0));
    }
    if let Ok(list) = data.borrow::<List>() {
        return Some(Node::List(list.id()));
    }
    data.is::<Null>().then_some(Node::Leaf(Json::Null))
}

/// Whether all keys are numbers from 1 on. Some may be missing.
fn is_list(table: &mlua::Table) -> Result<bool> {
    let mut all = true;
    table.for_each(|key: Value, _: Value| {
        all &= place(&key).is_some();
        Ok(())
    })?;
    Ok(all)
}

fn place(key: &Value) -> Option<i64> {
    match key {
        Value::Integer(number) if *number > 0 => Some(*number),
        Value::Number(number) if *number >= 1.0 && number.fract() == 0.0 => Some(*number as i64),
        _ => None,
    }
}

/// What an item takes until it is in the tree: its place in two vectors that grow, and what refers to it in Lua.
const ITEM: usize = 4 * size_of::<(i64, Value)>();

/// The items of a list, in the order of the keys.
fn items(tree: &mut Tree, table: &mlua::Table) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    table.for_each(|key: Value, item: Value| {
        tree.spend(ITEM).map_err(Error::external)?;
        items.extend(place(&key).map(|place| (place, item)));
        Ok(())
    })?;
    items.sort_by_key(|(place, _)| *place);
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

/// An argument that must be an object of this type.
pub(super) fn of_args<T: 'static>(value: &Value) -> Result<UserDataRef<T>> {
    match value {
        Value::UserData(data) => data.borrow::<T>(),
        other => Err(Error::runtime(format!(
            "a list was expected, not a {}",
            other.type_name()
        ))),
    }
}

fn key(args: &MultiValue, at: usize) -> Result<String> {
    plain(args.get(at).ok_or_else(need_arguments)?)
}

/// The index in a list, starting at 0. `None` before its beginning.
fn index(args: &MultiValue) -> Result<Option<usize>> {
    let number = match args.front().ok_or_else(need_arguments)? {
        Value::Integer(number) => *number as f64,
        Value::Number(number) => *number,
        Value::String(text) => str::from_utf8(&text.as_bytes())
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| not_a_number("string"))?,
        other => return Err(not_a_number(other.type_name())),
    };
    // A number that is too large becomes the largest index, which no list can contain.
    Ok((number >= 0.0).then_some(number as usize))
}

fn not_a_number(kind: &str) -> Error {
    Error::runtime(format!("a number was expected as index, not a {kind}"))
}
