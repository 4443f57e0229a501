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

/// The text without line comments and without the items that only tests compile.
fn code_of(text: &str) -> String {
    let mut code = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            skip_item(&mut lines);
        } else if !line.trim_start().starts_with("//") {
            code.push(line);
        }
    }
    code.join("\n")
}

/// Skips one item of formatted code, with its other attributes and comments. It ends on its first line, or on the first
/// line with the same indentation that closes a bracket and opens none.
fn skip_item<'t>(lines: &mut impl Iterator<Item = &'t str>) {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let is_item = |line: &&str| !line.trim_start().starts_with(['#', '/']);
    let Some(first) = lines.find(is_item) else {
        return;
    };
    if first.ends_with([';', ',', '}']) {
        return;
    }
    let _ = lines.find(|line| {
        indentation(line) == indentation(first)
            && line.trim_start().starts_with(['}', ']', ')'])
            && !line.ends_with('{')
    });
}

#[test]
fn only_the_item_after_the_attribute_of_tests_is_skipped() {
    let code = "use a;\n#[cfg(test)]\nmod tests;\nuse b;\n#[cfg(test)]\n#[derive(Debug)]\nfn f(\n    x: u8,\n) -> u8 {\n    x\n}\nuse c;\nimpl T {\n    #[cfg(test)]\n    fn g() {\n        crate::cli::x();\n    }\n}";
    assert_eq!(code_of(code), "use a;\nuse b;\nuse c;\nimpl T {\n}");
}

/// The header of a table of modules.
const TABLE: &str = "//! | module | content |";

#[test]
fn tables_of_modules_name_every_module() {
    let mut wrong = Vec::new();
    for source in sources() {
        let text = fs::read_to_string(&source.path).unwrap();
        if !text.contains(TABLE) || source.path.ends_with("ext/mod.rs") {
            continue; // `ext/mod.rs` names no namespaces
        }
        let header: String = text.lines().filter(|l| l.starts_with("//!")).collect();
        for module in source.code.lines().filter_map(declared_module) {
            let named = [format!("`{module}`"), format!("`mod@{module}`")];
            if !named.iter().any(|name| header.contains(name.as_str())) {
                wrong.push(format!("{}: {module}", source.path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "modules that the table of their folder does not name:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_file_that_the_map_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let exists = |name: &str| {
        let path = root.join("src").join(name);
        path.exists() || path.with_extension("rs").exists()
    };
    let in_folder = |name: &&str| {
        let folder = name.split_once('/').map(|(folder, _)| folder);
        MAY_USE.iter().any(|(known, _)| Some(*known) == folder)
    };
    let wrong: Vec<&str> = map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(in_folder)
        .filter(|name| !name.contains("NAME") && !exists(name))
        .collect();
    assert!(wrong.is_empty(), "no such files: {wrong:#?}");
}

/// The name in a line such as `pub(crate) mod name;`.
fn declared_module(line: &str) -> Option<&str> {
    let name = match line.strip_prefix("pub") {
        Some(rest) => rest.split_once(" mod ")?.1,
        None => line.strip_prefix("mod ")?,
    };
    name.strip_suffix(';')
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
