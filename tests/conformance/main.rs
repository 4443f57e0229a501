//! Plays the recorded cases: one JSON file each under `cases/AREA/NAME.json`, as README.md tells.
//!
//! `cargo test --test conformance` plays all, `cargo test --test conformance -- jwt/ cors/` those whose name
//! contains one of the words. `PORTCULLIS_JOBS` says how many at once.

// A panic is how a test fails, in its helpers too.
#![allow(clippy::unwrap_used)]

#[path = "../it/support/mod.rs"]
mod support;

mod compare;
mod exceptions;
mod play;
mod signed;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use exceptions::{Exceptions, Expectation};
use support::{Json, Stub};

struct Case {
    name: String,
    content: Json,
}

#[derive(Default)]
struct Tally {
    passed: usize,
    ignored: usize,
    failed: Vec<(String, String)>,
    /// Failed while the machine was busy with others; played again alone.
    doubtful: Vec<Case>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    if std::env::args().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let exceptions = Exceptions::read(&folder);
    let (cases, all) = load(&folder.join("cases"), &words);
    let stale = exceptions.without_case(&all);
    println!("\nrunning {} cases", cases.len());
    let (start, filtered) = (Instant::now(), all.len() - cases.len());
    let mut tally = play_all(cases, &exceptions);
    for name in stale {
        tally.failed.push((
            name,
            "an exception names it, but there is no such case".to_owned(),
        ));
    }
    report(&tally);
    let verdict = if tally.failed.is_empty() {
        "ok"
    } else {
        "FAILED"
    };
    println!(
        "\ntest result: {verdict}. {} passed; {} failed; {} ignored; 0 measured; {filtered} filtered out; \
         finished in {:.2}s\n",
        tally.passed,
        tally.failed.len(),
        tally.ignored,
        start.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(!tally.failed.is_empty()))
}

fn report(tally: &Tally) {
    for (name, why) in &tally.failed {
        println!("FAIL {name}: {why}");
    }
}

/// The cases whose names fit, and the names of all.
fn load(root: &Path, words: &[String]) -> (Vec<Case>, Vec<String>) {
    let mut paths = Vec::new();
    for area in folder_entries(root) {
        paths.extend(folder_entries(&area));
    }
    let mut cases = Vec::new();
    let mut names = Vec::new();
    for path in paths {
        let name = path.strip_prefix(root).unwrap().with_extension("");
        let name = name.to_string_lossy().into_owned();
        names.push(name.clone());
        if words.is_empty() || words.iter().any(|w| name.contains(w.as_str())) {
            let text = std::fs::read_to_string(&path).unwrap();
            let content = Json::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            cases.push(Case { name, content });
        }
    }
    (cases, names)
}

fn folder_entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

fn play_all(cases: Vec<Case>, exceptions: &Exceptions) -> Tally {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let jobs = std::env::var("PORTCULLIS_JOBS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(cores * 3);
    let (queue, tally) = (
        Mutex::new(VecDeque::from(cases)),
        Mutex::new(Tally::default()),
    );
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                let stub = Stub::start();
                while let Some(case) = { queue.lock().unwrap().pop_front() } {
                    judge(case, &stub, exceptions, &tally, true);
                }
            });
        }
    });
    // Recorded time limits are those of an idle machine, and some are a few milliseconds: what failed among others may be
    // right alone, when the machine does not stall.
    let stub = Stub::start();
    for turn in 1..=5 {
        let doubtful = std::mem::take(&mut tally.lock().unwrap().doubtful);
        for case in doubtful {
            judge(case, &stub, exceptions, &tally, turn < 5);
        }
    }
    tally.into_inner().unwrap()
}

fn judge(case: Case, stub: &Stub, exceptions: &Exceptions, tally: &Mutex<Tally>, may_repeat: bool) {
    let difference = play::play(&case.content, stub);
    let mut tally = tally.lock().unwrap();
    let expected = exceptions.expectation(&case.name);
    let fault = match (expected, difference) {
        (Expectation::Same, None) => None,
        (Expectation::Same, Some(why)) => Some(why),
        (Expectation::Pending, Some(_)) => {
            tally.ignored += 1;
            return;
        }
        (Expectation::Pending, None) => Some(
            "passes, though pending.toml says that it is not built: take it off the list"
                .to_owned(),
        ),
        (Expectation::Differs(want), Some(why)) if why.contains(want) => {
            tally.ignored += 1;
            return;
        }
        (Expectation::Differs(want), Some(why)) => Some(format!(
            "differs, but not in {want:?} as deviations.toml says: {why}"
        )),
        (Expectation::Differs(_), None) => Some(
            "passes, though deviations.toml says that it differs: take it off the list".to_owned(),
        ),
    };
    match fault {
        None => tally.passed += 1,
        Some(_) if may_repeat && tally.doubtful.len() < 40 => tally.doubtful.push(case),
        Some(why) => tally.failed.push((case.name, why)),
    }
}
