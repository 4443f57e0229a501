//! Every configuration in the documents passes `check`; every link leads somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::gateway::command;

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
        .iter()
        .map(|n| root.join(n))
        .collect();
    let docs = fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|e| e.unwrap().path());
    paths.extend(docs.filter(|p| p.extension().is_some_and(|e| e == "md")));
    paths
}

/// The fenced blocks of a document in this language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(name)) => open = Some((name.trim() == language, String::new())),
            (Some(_), Some(_)) => {
                let (wanted, block) = open.take().unwrap();
                if wanted {
                    found.push(block);
                }
            }
            (Some((_, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// A whole file as it stands; a part of one, put where it belongs.
fn whole(block: &str) -> String {
    let backend =
        r#""backend": [{ "host": ["http://localhost:8080"], "url_pattern": "/__health" }]"#;
    let value: serde_json::Value = serde_json::from_str(block)
        .or_else(|_| serde_json::from_str(&format!("{{{block}}}")))
        .unwrap_or_else(|e| panic!("not JSON ({e}):\n{block}"));
    let keys = value.as_object().unwrap();
    if keys.contains_key("version") {
        return block.to_owned();
    }
    if keys.contains_key("endpoint") {
        return format!(r#"{{ "version": 3, "endpoints": [{value}] }}"#);
    }
    let is_service = [
        "portcullis/metrics",
        "portcullis/compat",
        "security/cors",
        "router",
        "telemetry/logging",
    ];
    let of_service = is_service.iter().any(|n| keys.contains_key(*n));
    if keys.keys().all(|k| k.contains('/') || k == "router") {
        let place = format!(r#"{{ "endpoint": "/x", "extra_config": {value}, {backend} }}"#);
        return if of_service {
            format!(r#"{{ "version": 3, "extra_config": {value}, "endpoints": [] }}"#)
        } else {
            format!(r#"{{ "version": 3, "endpoints": [{place}] }}"#)
        };
    }
    // Members of the file's root.
    let mut root = value.clone();
    let members = root.as_object_mut().unwrap();
    members.entry("version").or_insert_with(|| 3.into());
    members
        .entry("endpoints")
        .or_insert_with(|| serde_json::Value::Array(Vec::new()));
    root.to_string()
}

/// Every configuration in the documents, as a whole file, with the name of its place.
pub(crate) fn configurations() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (i, block) in blocks(&text, "json").iter().enumerate() {
            all.push((
                format!("{} block {}", document.display(), i + 1),
                whole(block),
            ));
        }
    }
    all
}

#[test]
fn every_configuration_in_the_documents_passes_check() {
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap_or_else(|e| panic!("{document:?}: {e}"));
        for (i, block) in blocks(&text, "json").iter().enumerate() {
            let path = dir.path().join("krakend.json");
            fs::write(&path, whole(block)).unwrap();
            let output = command().args(["check", "-c"]).arg(&path).output().unwrap();
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                wrong.push(format!("{} block {}: {said}", document.display(), i + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_reason_of_a_refusal_is_explained() {
    let text = include_str!("../../docs/identity.md");
    for reason in portcullis::jose::Reason::ALL {
        let row = format!("| `{}` | {} |", reason.as_str(), reason.status());
        assert!(text.contains(&row), "docs/identity.md has no row {row}");
    }
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or("");
            let target = target.split('#').next().unwrap_or("");
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !document.parent().unwrap().join(target).exists() {
                wrong.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links to nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn every_program_a_readme_command_names_is_in_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    for block in blocks(&readme, "sh") {
        for line in block.lines() {
            let first = line.split_whitespace().next().unwrap_or("");
            if let Some(script) = first.strip_prefix("./") {
                let checked = std::process::Command::new("sh")
                    .arg("-n")
                    .arg(root.join(script))
                    .output();
                assert!(
                    checked.unwrap().status.success(),
                    "{line}: {script} is missing or broken"
                );
            }
        }
    }
}

#[test]
fn every_subcommand_a_document_shows_exists() {
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for block in blocks(&text, "sh") {
            for line in block.lines() {
                let mut words = line.split_whitespace().skip_while(|w| w.contains('='));
                if words.next() != Some("portcullis") {
                    continue;
                }
                let Some(subcommand) = words.find(|w| !w.starts_with('-')) else {
                    continue;
                };
                let output = command().args([subcommand, "--help"]).output().unwrap();
                assert!(output.status.success(), "{}: {line}", document.display());
            }
        }
    }
}
