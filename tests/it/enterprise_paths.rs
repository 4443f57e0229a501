//! Blocks of KrakenD's enterprise edition about paths, hosts, clients, files and plugins.

mod clients;
mod plugins;
mod routing;
mod static_files;

use serde_json::{Value, json};

use crate::support::gateway::command;
use crate::support::{Gateway, Stub};

/// An endpoint with one backend at `host`.
fn endpoint(path: &str, host: &str, to: &str, encoding: &str) -> Value {
    json!({ "endpoint": path, "timeout": "10s", "output_encoding": encoding,
        "backend": [{ "host": [host], "url_pattern": to }] })
}

/// A file with these endpoints and this `extra_config`.
fn file(endpoints: &[Value], extra: Value) -> Value {
    json!({ "version": 3, "endpoints": endpoints, "extra_config": extra })
}

/// The exit code and the messages of `check`, with these files beside the configuration.
fn checked(file: &Value, files: &[(&str, &str)]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("krakend.json");
    std::fs::write(&path, file.to_string()).unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let output = command()
        .args(["check", "-c"])
        .arg(&path)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[track_caller]
fn is_rejected(file: &Value, files: &[(&str, &str)], words: &str) {
    let (code, said) = checked(file, files);
    assert_eq!(code, Some(1), "{file} starts: {said}");
    assert!(said.contains(words), "{words:?} is not in: {said}");
}

#[track_caller]
fn starts(file: &Value, files: &[(&str, &str)], words: &str) {
    let (code, said) = checked(file, files);
    assert_eq!(code, Some(0), "{file} does not start: {said}");
    assert!(said.contains(words), "{words:?} is not in: {said}");
}
