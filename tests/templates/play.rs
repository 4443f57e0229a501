//! Plays one recorded case: `check -c BASE` in a folder of its own; the exit code, `FC_OUT` and the output are compared.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::gateway::command;

struct Played {
    exit: Option<i32>,
    output: String,
    /// What stands in `FC_OUT`, if the run has written it.
    written: Option<String>,
}

/// Plays the case of a file; the first thing that is not as recorded.
pub fn play(path: &Path) -> Result<(), String> {
    let case: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    judge(&case["expect"], &run(&case))
}

fn run(case: &Value) -> Played {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("d");
    fs::create_dir(&folder).unwrap();
    lay_out(case, &folder);
    let mut program = command();
    program
        .env("HOME", work.path())
        .env("LANG", "C.UTF-8")
        .env("TZ", "UTC");
    let mut out = "fc_out.json".to_owned();
    for (name, value) in case["env"].as_object().unwrap() {
        let value = value
            .as_str()
            .unwrap()
            .replace("@DIR@", folder.to_str().unwrap());
        match name.as_str() {
            "FC_OUT" => out = value,
            _ => drop(program.env(name, value)),
        }
    }
    program.env("FC_OUT", &out);
    let out = (!out.is_empty()).then(|| folder.join(out));
    let before = content(out.as_ref());
    match case["args"].as_array() {
        Some(args) => program.args(args.iter().map(|arg| arg.as_str().unwrap())),
        None => program.args(["check", "-c", case["base"].as_str().unwrap()]),
    };
    let done = program.current_dir(&folder).output().unwrap();
    let after = content(out.as_ref());
    Played {
        exit: done.status.code(),
        output: String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned(),
        written: after
            .filter(|after| before.as_ref() != Some(after))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn content(path: Option<&PathBuf>) -> Option<Vec<u8>> {
    fs::read(path?).ok()
}

fn lay_out(case: &Value, folder: &Path) {
    for (name, content) in case["files"].as_object().unwrap() {
        let path = folder.join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content.as_str().unwrap()).unwrap();
    }
    for (name, target) in case["links"].as_object().into_iter().flatten() {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target.as_str().unwrap(), path).unwrap();
    }
}

fn judge(expect: &Value, played: &Played) -> Result<(), String> {
    let wants_text = expect["out"] != Value::Null || expect["text"] != Value::Null;
    match (&played.written, expect["written"].as_bool()) {
        (Some(_), Some(false)) => return Err("FC_OUT was written".to_owned()),
        (None, written) if wants_text || written == Some(true) => {
            return Err(format!("FC_OUT was not written: {}", played.output));
        }
        _ => {}
    }
    if let Some(text) = expect["text"].as_str()
        && played.written.as_deref() != Some(text)
    {
        return Err(format!("{:?}, expected {text:?}", played.written));
    }
    if !expect["out"].is_null() {
        let text = played.written.as_deref().unwrap_or_default();
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
        if !equal(&expect["out"], &value) {
            return Err(format!("{value}, expected {}", expect["out"]));
        }
    }
    if played.exit.map(i64::from) != expect["exit"].as_i64() {
        return Err(format!("exit code {:?}: {}", played.exit, played.output));
    }
    let words = ["error", "says"].map(|key| expect[key].as_array());
    for word in words.into_iter().flatten().flatten() {
        let word = word.as_str().unwrap();
        if !played.output.contains(word) {
            return Err(format!("the output lacks {word:?}: {}", played.output));
        }
    }
    Ok(())
}

/// 1 equals 1.0.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, value)| other.get(key).is_some_and(|other| equal(value, other)))
        }
        _ => one == other,
    }
}
