//! Every configuration in the documents passes `check`, and every link has a target.

use std::collections::{HashMap, HashSet};
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

/// A complete file as it is; a part of a file is put where it belongs.
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

/// Every configuration in the documents as a complete file, with the name of its location.
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
fn every_reason_of_a_rejection_is_explained() {
    let text = include_str!("../../docs/identity.md");
    for reason in portcullis::internals::jose::Reason::ALL {
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

/// The commands of this program in the shell blocks of the documents.
fn shown_commands() -> Vec<(PathBuf, Vec<String>)> {
    let mut found = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for block in blocks(&text, "sh") {
            for line in block.lines() {
                let line = line
                    .split(" #")
                    .next()
                    .unwrap()
                    .split(['>', '|'])
                    .next()
                    .unwrap();
                let mut words = line.split_whitespace().skip_while(|w| w.contains('='));
                if words.next() == Some("portcullis") {
                    found.push((document.clone(), words.map(str::to_owned).collect()));
                }
            }
        }
    }
    found
}

#[test]
fn every_command_a_document_shows_is_understood() {
    for (document, words) in shown_commands() {
        // Arguments are read from left to right: an unknown one is an error before the help is printed.
        let output = command().args(&words).arg("--help").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "{}: {words:?}: {said}",
            document.display()
        );
    }
}

#[test]
fn commands_without_a_running_gateway_work_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("krakend.json");
    fs::write(&file, r#"{"version": 3, "endpoints": []}"#).unwrap();
    let mut ran = 0;
    for (document, words) in shown_commands() {
        let name = words[0].as_str();
        if !["audit", "check", "completions", "man", "version"].contains(&name) {
            continue;
        }
        let mut is_file = false;
        let at_hand = words.iter().map(|word| {
            let given = if is_file || word.ends_with(".json") || word == "FILE" {
                file.to_str().unwrap()
            } else if word.starts_with('/') {
                folder.path().to_str().unwrap()
            } else {
                word
            };
            is_file = word == "-c";
            given
        });
        let output = command().args(at_hand).output().unwrap();
        let status = output.status.code().unwrap();
        // An audit of such a file has recommendations.
        let good = status == i32::from(name == "audit");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(good, "{}: {words:?}: {said}", document.display());
        ran += 1;
    }
    assert!(ran >= 8, "only {ran} commands were found");
}

#[test]
fn no_configuration_of_the_readme_gives_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let blocks = blocks(&readme.unwrap(), "json");
    assert!(!blocks.is_empty());
    for block in blocks {
        let path = folder.path().join("krakend.json");
        fs::write(&path, whole(&block)).unwrap();
        let output = command()
            .args(["check", "--strict", "-c"])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
    }
}

#[test]
fn every_page_is_in_the_book() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let summary = fs::read_to_string(root.join("docs/SUMMARY.md")).unwrap();
    for document in documents() {
        let name = document.file_name().unwrap().to_string_lossy().into_owned();
        let in_docs = document.parent().unwrap().ends_with("docs");
        if in_docs && name != "SUMMARY.md" {
            assert!(
                summary.contains(&format!("]({name})")),
                "SUMMARY.md lacks {name}"
            );
        }
    }
}

/// The anchor of a heading on a page, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars()
        .filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_')
        .collect()
}

/// The anchors of a page. The second heading with the same text gets a number.
fn anchors(page: &str) -> HashSet<String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let numbered = headings.map(|line| {
        let plain = anchor(line.trim_start_matches('#').trim());
        let before = counts.entry(plain.clone()).or_default();
        *before += 1;
        match *before {
            1 => plain,
            count => format!("{plain}-{}", count - 1),
        }
    });
    numbered.collect()
}

#[test]
fn every_link_to_a_heading_leads_to_one() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or("");
            let Some((file, name)) = target.split_once('#').filter(|_| !target.contains("://"))
            else {
                continue;
            };
            let page = match file {
                "" => document.clone(),
                file => document.parent().unwrap().join(file),
            };
            let page = fs::read_to_string(&page).unwrap_or_default();
            if !anchors(&page).contains(name) {
                wrong.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links to nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn every_compose_file_of_the_documents_names_an_image_and_a_command_that_exist() {
    let mut files = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for block in blocks(&text, "yaml") {
            let value: serde_json::Value = serde_saphyr::from_str(&block)
                .unwrap_or_else(|e| panic!("{}: {e}", document.display()));
            let Some(services) = value["services"].as_object() else {
                continue;
            };
            files += 1;
            let gateway = &services["gateway"];
            assert!(gateway["image"] == "portcullis" || gateway["build"] == ".");
            let words = gateway["command"].as_str().unwrap().split_whitespace();
            let output = command().args(words).arg("--help").output().unwrap();
            assert!(output.status.success(), "{block}");
        }
    }
    assert!(files >= 2);
}

#[test]
fn pictures_are_small_and_each_is_shown_somewhere() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures");
    let mut texts = String::new();
    for document in documents() {
        texts.push_str(&fs::read_to_string(document).unwrap());
    }
    for picture in fs::read_dir(&folder).unwrap() {
        let picture = picture.unwrap();
        let name = picture.file_name().to_string_lossy().into_owned();
        assert!(
            picture.metadata().unwrap().len() < 150_000,
            "{name} is too large"
        );
        assert!(
            texts.contains(&format!("pictures/{name}")),
            "{name} is shown nowhere"
        );
    }
    for (at, _) in texts.match_indices("=\"docs/pictures/") {
        let name = texts[at + 2..].split('"').next().unwrap();
        let name = name.trim_start_matches("docs/pictures/");
        assert!(folder.join(name).exists(), "{name} is missing");
    }
}

/// The pictures of commands show what the program prints now. `scripts/pictures` makes them.
#[test]
fn pictures_of_commands_show_what_the_program_prints() {
    let output =
        std::process::Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/pictures"))
            .args(["--check", env!("CARGO_BIN_EXE_portcullis")])
            .output()
            .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// `docs/index.md` names every page, so that a reader finds each without the table of contents.
#[test]
fn the_first_page_leads_to_every_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let index = fs::read_to_string(root.join("docs/index.md")).unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    assert!(readme.contains("](docs/index.md)"));
    for document in documents() {
        let name = document.file_name().unwrap().to_string_lossy().into_owned();
        let in_docs = document.parent().unwrap().ends_with("docs");
        let is_other = !["index.md", "SUMMARY.md"].contains(&name.as_str());
        if in_docs && is_other {
            assert!(
                index.contains(&format!("]({name})")),
                "index.md lacks {name}"
            );
        }
    }
}

/// The page of all keys is long: a link to it names the block.
#[test]
fn links_to_the_page_of_keys_name_the_block() {
    // These mean the whole page.
    let whole = [
        "index.md",
        "SUMMARY.md",
        "migrate-from-krakend.md",
        "README.md",
    ];
    for document in documents() {
        let name = document.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&document).unwrap();
        let is_bare = text.contains("configuration.md)");
        assert!(!is_bare || whole.contains(&name.as_str()), "{name}");
    }
}

/// The texts between backticks.
fn quoted(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_page_of_standards_names_files_and_tests_that_exist() {
    fn read(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, all);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for folder in ["src", "tests"] {
        read(&root.join(folder), &mut code);
    }
    let page = fs::read_to_string(root.join("docs/identity-standards.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let mut count = 0;
    for row in rows.filter(|row| !row.starts_with("| requirement")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [_, files, tests] = cells[..] else {
            panic!("three cells: {row}");
        };
        let (files, tests) = (quoted(files), quoted(tests));
        assert!(!files.is_empty() && !tests.is_empty(), "{row}");
        for file in files {
            assert!(root.join(file).is_file(), "{file}");
        }
        for test in tests {
            assert!(code.contains(&format!("fn {test}(")), "{test}");
        }
        count += 1;
    }
    assert!(count > 40, "{count}");
}
