//! The dependencies between the folders of `src/`, which the compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders that each folder may use, besides itself.
const MAY_USE: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "server",
            "compile",
            "ext",
            "config",
            "runtime",
            "upstream",
            "jose",
            "telemetry",
        ],
    ),
    ("server", &["runtime", "upstream", "jose", "telemetry"]),
    (
        "compile",
        &["ext", "config", "runtime", "upstream", "jose", "telemetry"],
    ),
    (
        "ext",
        &["config", "runtime", "upstream", "jose", "telemetry"],
    ),
    ("runtime", &["upstream", "jose", "telemetry"]),
    // A key-set source contains parsed keys.
    ("upstream", &["jose", "telemetry"]),
    ("config", &[]),
    ("jose", &[]),
    ("telemetry", &[]),
];

/// The only folders that may name the HTTP library.
const NAMES_PINGORA: &[&str] = &["server", "upstream"];

struct Source {
    path: PathBuf,
    folder: String,
    code: String,
}

#[test]
fn no_folder_uses_one_that_the_map_does_not_allow() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == source.folder) else {
            wrong.push(format!(
                "{}: a folder that the map does not have",
                source.path.display()
            ));
            continue;
        };
        for used in used_folders(&source.code) {
            let known = MAY_USE.iter().any(|(name, _)| *name == used);
            if known && used != source.folder && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}: names crate::{used}", source.path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows drawn backwards:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn only_server_and_upstream_name_pingora() {
    let names_it = |code: &str| {
        code.match_indices("pingora").any(|(at, word)| {
            let rest = &code[at + word.len()..];
            let path = rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
            path.starts_with("::")
        })
    };
    let wrong: Vec<String> = sources()
        .filter(|s| !NAMES_PINGORA.contains(&s.folder.as_str()) && names_it(&s.code))
        .map(|s| s.path.display().to_string())
        .collect();
    assert!(
        wrong.is_empty(),
        "these name a Pingora crate:\n{}",
        wrong.join("\n")
    );
}

/// The maximum number of lines of a source file. `CONTRIBUTING.md` names it.
const MAX_LINES: usize = 500;

/// Files that are one long table, and may be longer.
const TABLES: &[&str] = &[];

#[test]
fn no_file_but_tables_is_longer_than_the_bound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        collect(&root.join(folder), &mut files);
    }
    let mut long = Vec::new();
    for path in files {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > MAX_LINES && !TABLES.contains(&name.as_str()) {
            long.push(format!("{name}: {lines} lines"));
        }
    }
    assert!(
        long.is_empty(),
        "longer than {MAX_LINES} lines; split them by what they say:\n{}",
        long.join("\n")
    );
}

#[test]
fn names_in_groups_and_in_line_are_found() {
    let code = "use crate::config;\nuse crate::{jose::{Key, parse}, runtime};\nlet x = crate::upstream::y();";
    assert_eq!(
        used_folders(code),
        ["config", "jose", "runtime", "upstream"]
    );
}

/// The files below `src/`'s folders, without comments and tests.
fn sources() -> impl Iterator<Item = Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.into_iter().filter_map(move |path| {
        let inside = path.strip_prefix(&root).unwrap().to_owned();
        let folder = inside.iter().next().unwrap().to_str().unwrap().to_owned();
        let is_test = inside.iter().any(|s| s == "tests" || s == "tests.rs");
        if folder.ends_with(".rs") || is_test {
            return None; // lib.rs and main.rs are in no folder; tests may use anything
        }
        let text = fs::read_to_string(&path).unwrap();
        Some(Source {
            path,
            folder,
            code: code_of(&text),
        })
    })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The text without line comments and without the test module at its end.
fn code_of(text: &str) -> String {
    let lines = text
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"));
    let code: Vec<&str> = lines
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    code.join("\n")
}

/// The folders named after `crate::`, sorted, without duplicates.
fn used_folders(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + word.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(first_names(group)),
            None => names.push(name(rest)),
        }
    }
    names.sort();
    names.dedup();
    names
}

/// The first names of the members of a `{…}` group.
fn first_names(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut names) = (0usize, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(name(group[start..at].trim()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

fn name(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}
