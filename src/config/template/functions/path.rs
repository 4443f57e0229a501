//! Paths, cleaned lexically as Go's `path` does.

use super::Kind::Text;
use super::{Call, Function, Outcome, fixed, string};
use crate::config::template::value::Value;

pub(super) static TABLE: &[Function] = &[
    fixed("base", &[Text], base),
    fixed("osBase", &[Text], base),
    fixed("dir", &[Text], dir),
    fixed("osDir", &[Text], dir),
    fixed("clean", &[Text], |_, arguments| {
        Ok(Value::text(clean(&string(&arguments, 0))))
    }),
    fixed("osClean", &[Text], |_, arguments| {
        Ok(Value::text(clean(&string(&arguments, 0))))
    }),
    fixed("ext", &[Text], ext),
    fixed("osExt", &[Text], ext),
    fixed("isAbs", &[Text], |_, arguments| {
        Ok(Value::Bool(string(&arguments, 0).starts_with('/')))
    }),
    fixed("osIsAbs", &[Text], |_, arguments| {
        Ok(Value::Bool(string(&arguments, 0).starts_with('/')))
    }),
];

fn base(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let path = string(&arguments, 0);
    if path.is_empty() {
        return Ok(Value::text("."));
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return Ok(Value::text("/"));
    }
    Ok(Value::text(trimmed.rsplit('/').next().unwrap_or(trimmed)))
}

fn dir(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let path = string(&arguments, 0);
    let end = path.rfind('/').map_or(0, |at| at + 1);
    Ok(Value::text(clean(&path[..end])))
}

fn ext(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let path = string(&arguments, 0);
    let name = path.rsplit('/').next().unwrap_or_default();
    Ok(Value::text(name.rfind('.').map_or("", |at| &name[at..])))
}

/// The shortest equivalent path: without `.`, doubled slashes, and `..` after a name.
pub(in crate::config) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}
