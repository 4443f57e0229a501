//! `ctx`: the script's access to the client's request.

use mlua::{Error, MultiValue, Result, UserData, UserDataMethods, Value};

use super::failure::Stop;
use super::headers::{Spelling, header_list, headers};
use super::library::need_arguments;
use super::objects::{
    MAX_PART, bytes, method, not_here, pairs_bytes, param_bytes, params_table, part, plain,
    set_param, string, target, too_long, unread, url_part,
};
use super::run::{ClientView, Fields, Run, run_for, text_length};
use crate::runtime::forward::{Pair, QueryRules};
use crate::runtime::template::{self, escape};

/// The result of `ctx.load()`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client;

impl UserData for Client {
    fn add_methods<M: UserDataMethods<Client>>(methods: &mut M) {
        methods.add_method("method", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let view = client(&mut run)?;
            let Some(value) = args.front() else {
                return string(lua, view.method.as_str());
            };
            view.method = method(value)?;
            view.changed.method = true;
            Ok(Value::Nil)
        });
        methods.add_method("url", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let view = client(&mut run)?;
            let Some(value) = args.front() else {
                return match &view.query {
                    Some(query) => string(lua, format!("{}?{query}", view.path)),
                    None => string(lua, &view.path),
                };
            };
            let target = target(value)?;
            (view.path, view.query) = match target.split_once('?') {
                Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
                None => (target, None),
            };
            view.changed.url = true;
            Ok(Value::Nil)
        });
        methods.add_method("host", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let view = client(&mut run)?;
            let Some(value) = args.front() else {
                return string(lua, &view.host);
            };
            view.host = url_part(value)?;
            view.changed.host = true;
            Ok(Value::Nil)
        });
        methods.add_method("query", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let name = part(args.front().ok_or_else(need_arguments)?)?;
            let added = args
                .get(1)
                .map_or(0, |value| text_length(value) + name.len());
            let bytes = pairs_bytes(client(&mut run)?.query.as_deref());
            run.fund(lua, bytes).map_err(Stop::raised)?;
            let run = &mut *run;
            let view = run.client.as_deref_mut().ok_or_else(|| not_here("ctx"))?;
            let Some(value) = args.get(1) else {
                let pairs = QueryRules::All.pairs(view.query.as_deref(), None);
                let found = pairs.iter().find(|pair| *pair.name == *name);
                return string(lua, found.map(|pair| &*pair.value).unwrap_or_default());
            };
            let value = match value {
                Value::Nil => None,
                value => Some(part(value)?),
            };
            if added > 0 && view.query.as_deref().map_or(0, str::len) > MAX_PART {
                return Err(too_long());
            }
            // Each byte may become three.
            run.tree.spend(3 * added).map_err(Error::external)?;
            view.query = with_pair(view.query.as_deref(), &name, value.as_deref());
            view.changed.url = true;
            Ok(Value::Nil)
        });
        methods.add_method("params", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let run = &mut *run;
            let view = run.client.as_deref_mut().ok_or_else(|| not_here("ctx"))?;
            match (args.front(), args.get(1)) {
                (None, _) => params_table(lua, &mut run.tree, &view.params, |name| name.to_owned()),
                (Some(name), None) => {
                    let found = view.params.get(&plain(name)?).unwrap_or("");
                    string(lua, escape::bytes(found))
                }
                (Some(name), Some(value)) => {
                    let bytes = param_bytes(name, value);
                    run.tree.spend(bytes).map_err(Error::external)?;
                    let (name, value) = (url_part(name)?, escape::kept(&part(value)?));
                    set_param(&mut view.params, |known| known == name, &name, value)?;
                    view.changed.params = true;
                    Ok(Value::Nil)
                }
            }
        });
        methods.add_method("headers", |lua, _, args: MultiValue| {
            headers(lua, client_fields, Spelling::Any, &args)
        });
        methods.add_method("headerList", |lua, _, args: MultiValue| {
            header_list(lua, client_fields, Spelling::Any, &args)
        });
        methods.add_method("body", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let view = client(&mut run)?;
            let Some(value) = args.front() else {
                return match view.body.clone() {
                    Some(body) => run.body(lua, &body),
                    None => Err(unread("request")),
                };
            };
            view.body = Some(bytes(value)?);
            view.changed.body = true;
            Ok(Value::Nil)
        });
    }
}

fn client(run: &mut Run) -> Result<&mut ClientView> {
    run.client.as_deref_mut().ok_or_else(|| not_here("ctx"))
}

fn client_fields(run: &mut Run) -> Result<&mut Fields> {
    client(run).map(|view| &mut view.headers)
}

/// The query with one pair replaced, sorted by name. `None` removes the pair.
fn with_pair(query: Option<&str>, name: &[u8], value: Option<&[u8]>) -> Option<String> {
    let mut pairs = QueryRules::All.pairs(query, None);
    pairs.retain(|pair| *pair.name != *name);
    if let Some(value) = value {
        let pair = Pair {
            name: name.into(),
            value: value.into(),
        };
        let at = pairs.partition_point(|other| other.name < pair.name);
        pairs.insert(at, pair);
    }
    template::query(&pairs).map(String::from)
}
