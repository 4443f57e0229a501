//! Flexible configuration from outside: the recorded cases, `FC_OUT`, messages, strictness, reload and watching.
//!
//! `cases/AREA-NAME.json` were recorded from KrakenD-CE 2.13.8: `files` and `links` are laid out, `check -c BASE` (or
//! `args`) runs there with `env`, and `expect` tells the exit code, what `FC_OUT` holds and words of the output.

// A panic is how a test fails, in its helpers too.
#![allow(clippy::unwrap_used)]

#[path = "../it/support/mod.rs"]
mod support;

mod findings;
mod play;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Mutex;
use std::time::Duration;

use support::gateway::command;
use support::{Gateway, eventually, ports};

/// Until a change must be seen. Generous: it bounds a broken build, not a slow machine.
const SEEN: Duration = Duration::from_secs(30);

#[test]
fn recorded_cases_are_rendered_and_rejected_alike() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates/cases");
    let entries = fs::read_dir(folder).unwrap();
    let paths: Mutex<Vec<PathBuf>> =
        Mutex::new(entries.map(|entry| entry.unwrap().path()).collect());
    let failed = Mutex::new(Vec::new());
    let all = paths.lock().unwrap().len();
    assert!(all >= 249, "{all} cases");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(path) = paths.lock().unwrap().pop() else {
                        return;
                    };
                    if let Err(reason) = play::play(&path) {
                        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                        failed.lock().unwrap().push(format!("{name}: {reason}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{} of {all}:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

/// A folder with files, in which the program runs.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        for (name, content) in files {
            folder.write(name, content);
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        command()
            .args(arguments)
            .envs(variables.iter().copied())
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    /// Exit code, standard output, standard error.
    fn told(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
        let done = self.run(arguments, variables);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            done.status.code().unwrap(),
            text(done.stdout),
            text(done.stderr),
        )
    }
}

const CHECK: &[&str] = &["check", "-c", "krakend.tmpl"];
const ON: (&str, &str) = ("FC_ENABLE", "1");
const SETTINGS: (&str, &str) = ("FC_SETTINGS", "settings");
const PARTIALS: (&str, &str) = ("FC_PARTIALS", "partials");
const TEMPLATES: (&str, &str) = ("FC_TEMPLATES", "templates");

#[test]
fn an_error_names_the_place_the_call_and_the_setting() {
    let folder = Folder::with(&[
        (
            "krakend.tmpl",
            "{\n \"version\": 3,\n {{ template \"port.tmpl\" . }}\n}\n",
        ),
        (
            "templates/port.tmpl",
            "\"é\": 1, \"port\": {{ .svc.port.x }}",
        ),
        ("settings/svc.json", "{\n  \"port\": 8080\n}"),
    ]);
    let (code, _, told) = folder.told(CHECK, &[ON, SETTINGS, TEMPLATES]);
    assert_eq!(code, 1);
    for want in [
        "ERROR parsing the configuration file: 'krakend.tmpl': template: port.tmpl:1:24: executing \"port.tmpl\" at \
         <.svc.port.x>: can't evaluate field x in type interface {}",
        "templates/port.tmpl:1:24: can't evaluate field x",
        "        1 | \"é\": 1, \"port\": {{ .svc.port.x }}",
        "          |                        ^",
        "called from krakend.tmpl:3:5",
        ".svc.port is the number 8080: settings/svc.json:2:11",
    ] {
        assert!(told.contains(want), "lacks {want}:\n{told}");
    }
    assert!(!told.contains("hint: "), "{told}");
}

#[test]
fn all_errors_of_settings_and_templates_are_reported_at_once() {
    let folder = Folder::with(&[
        ("krakend.tmpl", "{{ nope }}"),
        ("templates/b.tmpl", "{{ if }}"),
        ("settings/a.json", "{\"a\": 1e999}"),
        ("settings/b.json", "{,}"),
        ("settings/c.yaml", "a: 1"),
    ]);
    let (code, _, told) = folder.told(CHECK, &[ON, SETTINGS, TEMPLATES, ("FC_OUT", "out.json")]);
    assert_eq!(code, 1);
    for want in [
        "settings/a.json:1:7: json: cannot unmarshal number 1e999",
        "settings/b.json:1:2: invalid character ','",
        "settings/c.yaml: warning: this file is ignored",
        "krakend.tmpl:1:4: function \"nope\" not defined",
        "templates/b.tmpl:1:7: missing value for if",
        "4 errors, 1 warning",
    ] {
        assert!(told.contains(want), "lacks {want}:\n{told}");
    }
    assert!(!folder.path("out.json").exists());
}

#[test]
fn a_configuration_error_names_the_template_and_the_rendered_place() {
    let folder = Folder::with(&[
        (
            "krakend.tmpl",
            "{\"version\": 3,\n{{ template \"rest.tmpl\" }}\n}",
        ),
        (
            "templates/rest.tmpl",
            "\"name\": \"a\",\n  \"timeout\": \"2 sec\"",
        ),
    ]);
    let (code, _, told) = folder.told(CHECK, &[ON, TEMPLATES, ("FC_OUT", "out.json")]);
    assert_eq!(code, 1);
    let want = "templates/rest.tmpl:2:14: /timeout: \"2 sec\" is not a duration: unknown unit (out.json:3:14)";
    assert!(told.contains(want), "{told}");
    let json = &["check", "-c", "krakend.tmpl", "--format", "json"];
    let (_, told, _) = folder.told(json, &[ON, TEMPLATES]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let found = told["findings"].as_array().unwrap();
    let found = found.iter().find(|it| it["pointer"] == "/timeout").unwrap();
    assert_eq!(found["line"], 3);
    assert_eq!(found["template"]["file"], "templates/rest.tmpl");
    assert_eq!(found["template"]["line"], 2);
    assert_eq!(found["template"]["column"], 14);
}

#[test]
fn the_output_file_is_private_and_replaced_atomically() {
    let folder = Folder::with(&[(
        "krakend.tmpl",
        "{\"version\": 3, \"name\": \"{{ upper \"a\" }}\"}",
    )]);
    let on = &[ON, ("FC_OUT", "kept/out.json")];
    let (code, _, told) = folder.told(CHECK, on);
    assert_eq!(code, 1);
    assert!(
        told.contains("FC_OUT cannot be written: kept/out.json: "),
        "{told}"
    );
    folder.write("kept/out.json", "{\"version\": 3, \"old\": 1}");
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(folder.path("kept/out.json"), open).unwrap();
    let before = fs::File::open(folder.path("kept/out.json")).unwrap();
    assert_eq!(folder.told(CHECK, on).0, 0);
    let kept = fs::read_to_string(folder.path("kept/out.json")).unwrap();
    assert_eq!(kept, "{\"version\": 3, \"name\": \"A\"}");
    let mode = fs::metadata(folder.path("kept/out.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // Whoever reads the old file still does, and nothing else is left in the folder.
    assert_eq!(before.metadata().unwrap().len(), 24);
    assert_eq!(fs::read_dir(folder.path("kept")).unwrap().count(), 1);
    // What cannot be rendered leaves it as it is.
    folder.write("krakend.tmpl", "{{ fail \"no\" }}");
    assert_eq!(folder.told(CHECK, on).0, 1);
    assert_eq!(
        fs::read_to_string(folder.path("kept/out.json")).unwrap(),
        kept
    );
}

#[test]
fn a_stream_of_the_process_is_written_to_and_not_replaced() {
    let folder = Folder::with(&[("krakend.tmpl", "{\"version\": {{ 3 }}}")]);
    let mut log = fs::OpenOptions::new();
    let log = log.append(true).create(true).open(folder.path("log"));
    let status = command()
        .args(CHECK)
        .envs([ON, ("FC_OUT", "/dev/stderr")])
        .current_dir(folder.0.path())
        .stderr(log.unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    let log = fs::read_to_string(folder.path("log")).unwrap();
    assert!(log.contains("{\"version\": 3}"), "{log}");
}

#[test]
fn warnings_of_templates_stop_a_strict_start() {
    let folder = Folder::with(&[
        (
            "krakend.tmpl",
            "{\"version\": 3, {{ include \"auth.json\" }} \"name\": \"{{ .svc.hots }} {{ .svc.big }}\"}",
        ),
        ("settings/svc.json", "{\"hosts\": 1, \"big\": 2000000}"),
        ("partials/other.json", ""),
    ]);
    let out = ("FC_OUT", "out.json");
    let (code, _, told) = folder.told(CHECK, &[ON, SETTINGS, PARTIALS, out]);
    assert_eq!(code, 0, "{told}");
    for want in [
        "krakend.tmpl:1:19: warning: the partial \"auth.json\" cannot be read",
        "krakend.tmpl:1:54: warning: .svc.hots has no value",
        ".svc has no key \"hots\" (did you mean \"hosts\"?): settings/svc.json:1:1",
        "warning: .svc.big prints as 2e+06 inside a string",
    ] {
        assert!(told.contains(want), "lacks {want}:\n{told}");
    }
    fs::remove_file(folder.path("out.json")).unwrap();
    let flag = &["check", "--strict", "-c", "krakend.tmpl"];
    let variable = ("PORTCULLIS_STRICT", "1");
    assert_eq!(folder.told(flag, &[ON, SETTINGS, PARTIALS, out]).0, 1);
    assert_eq!(
        folder
            .told(CHECK, &[ON, SETTINGS, PARTIALS, out, variable])
            .0,
        1
    );
    let run = &["run", "--strict", "-c", "krakend.tmpl"];
    let (code, _, told) = folder.told(run, &[ON, SETTINGS, PARTIALS, out]);
    assert_eq!(code, 1, "{told}");
    assert!(!folder.path("out.json").exists());
}

#[test]
fn strictness_rejects_any_warning() {
    let folder = Folder::with(&[("a.json", "{\"version\": 3, \"nmae\": \"a\"}")]);
    assert_eq!(folder.told(&["check", "-c", "a.json"], &[]).0, 0);
    let (code, _, told) = folder.told(&["check", "--strict", "-c", "a.json"], &[]);
    assert_eq!(code, 1, "{told}");
}

#[test]
fn a_template_that_is_not_rendered_gets_a_hint() {
    let folder = Folder::with(&[
        (
            "krakend.tmpl",
            "{ \"version\": 3, \"port\": {{ .service.port }} }",
        ),
        (
            "strings.json",
            "{ \"version\": 3, \"name\": \"{{ .service.name }}\" }",
        ),
        (
            "lua.json",
            "{ \"version\": 3, \"endpoints\": [{ \"endpoint\": \"/a/{id}\", \"backend\": [{ \"host\": [\"http://a\"], \
             \"url_pattern\": \"/{{.Id}}\" }], \"extra_config\": { \"modifier/lua-proxy\": { \"pre\": \"x = {{1, 2}, {3}}\" } } }] }",
        ),
    ]);
    let (code, _, told) = folder.told(CHECK, &[]);
    assert_eq!(code, 1);
    assert!(
        told.contains("this looks like a template: set FC_ENABLE=1"),
        "{told}"
    );
    let (code, _, told) = folder.told(&["check", "-c", "strings.json"], &[SETTINGS]);
    assert_eq!(code, 0);
    assert!(
        told.contains("strings.json:1:25: warning: /name: this string contains"),
        "{told}"
    );
    assert!(told.contains("FC_SETTINGS has no effect"), "{told}");
    let (_, _, told) = folder.told(&["check", "-c", "lua.json"], &[]);
    assert!(!told.contains("template"), "{told}");
}

#[test]
fn check_prints_the_rendered_text_and_messages_hide_the_environment() {
    let text =
        "{\"version\": 3, \"name\": \"{{ env \"TOKEN\" }}\", \"timeout\": \"{{ env \"TOKEN\" }}\"}";
    let folder = Folder::with(&[("krakend.tmpl", text)]);
    let secret = ("TOKEN", "s3cr3t-value");
    let (code, out, told) =
        folder.told(&["check", "--render", "-c", "krakend.tmpl"], &[ON, secret]);
    assert_eq!(code, 1);
    // Into a pipe the text is exact.
    assert_eq!(out, text.replace("{{ env \"TOKEN\" }}", "s3cr3t-value"));
    assert!(told.contains("/timeout: "), "{told}");
    assert!(!told.contains("s3cr3t"), "{told}");
    folder.write("krakend.tmpl", "{{ fail (env \"TOKEN\") }}");
    let (_, _, told) = folder.told(CHECK, &[ON, secret]);
    assert!(told.contains("error calling fail: ***"), "{told}");
}

#[test]
fn the_extension_decides_the_format_unless_the_output_is_kept() {
    let folder = Folder::with(&[
        ("gateway.yaml", "version: 3\nname: {{ upper \"a\" }}\n"),
        ("gateway.tmpl", "version: 3\nname: {{ upper \"a\" }}\n"),
    ]);
    let check = |base: &str, more: &[(&str, &str)]| {
        let variables = [&[ON], more].concat();
        folder.told(&["check", "-c", base], &variables).0
    };
    assert_eq!(check("gateway.yaml", &[]), 0);
    assert_eq!(check("gateway.tmpl", &[]), 1);
    assert_eq!(check("gateway.tmpl", &[("FC_OUT", "out.yml")]), 0);
    assert_eq!(check("gateway.yaml", &[("FC_OUT", "out.YML")]), 1);
}

/// Endpoints that answer by themselves.
const BASE: &str = r#"{"version": 3, "endpoints": [
  {{ range $i, $path := .svc.paths }}{{ if $i }},{{ end }}
  { "endpoint": "{{ $path }}", "backend": [{ "host": ["http://127.0.0.1:1"], "url_pattern": "/" }],
    "extra_config": { "proxy": { "static": { "strategy": "always", "data": { {{ include "data.txt" }} } } } } }
  {{ end }}]}"#;

fn serve(files: &[(&str, &str)], more: &[&str]) -> Gateway {
    let port = ports::free();
    let mut program = command();
    program.envs([ON, SETTINGS, PARTIALS, ("FC_OUT", "out.json")]);
    let port_text = port.to_string();
    let more = [&["-p", &port_text], more].concat();
    let gateway = Gateway::spawn_command(program, port, BASE, files, &more);
    assert!(gateway.listens(SEEN), "{}", gateway.output());
    gateway
}

fn write(gateway: &Gateway, name: &str, content: &str) {
    fs::write(gateway.dir().join(name), content).unwrap();
}

#[test]
fn a_reload_renders_again_and_a_failing_template_changes_nothing() {
    let files = [
        ("settings/svc.json", "{\"paths\": [\"/a\"]}"),
        ("partials/data.txt", "\"one\": 1"),
    ];
    let gateway = serve(&files, &[]);
    assert_eq!(gateway.get("/b").status, 404);
    write(&gateway, "settings/svc.json", "{\"paths\": 7.5}");
    gateway.signal("HUP");
    eventually("the refusal is told", SEEN, || {
        gateway.output().contains("Reload rejected")
    });
    assert!(gateway.output().contains("range can't iterate over 7.5"));
    assert!(gateway.get("/a").text().contains("\"one\":1"));
    write(
        &gateway,
        "settings/svc.json",
        "{\"paths\": [\"/a\", \"/b\"]}",
    );
    gateway.signal("HUP");
    eventually("the new endpoint is there", SEEN, || {
        gateway.get("/b").status != 404
    });
}

#[test]
fn a_watched_template_follows_settings_and_partials_but_not_its_output() {
    let files = [
        ("settings/svc.json", "{\"paths\": [\"/a\"]}"),
        ("partials/other.txt", ""),
    ];
    let gateway = serve(&files, &["--watch"]);
    let reloads = || gateway.output().matches("Configuration reloaded").count();
    // A partial that was missing.
    write(&gateway, "partials/data.txt", "\"one\": 1");
    eventually("the partial is read", SEEN, || {
        gateway.get("/a").text().contains("\"one\":1")
    });
    write(
        &gateway,
        "settings/svc.json",
        "{\"paths\": [\"/a\", \"/b\"]}",
    );
    eventually("the setting is read", SEEN, || {
        gateway.get("/b").status != 404
    });
    // A file that is new in the folder.
    let before = reloads();
    write(&gateway, "settings/more.json", "{}");
    eventually("the new file is read", SEEN, || reloads() > before);
    support::pause(Duration::from_secs(3));
    let settled = reloads();
    write(&gateway, "out.json", "{}");
    support::pause(Duration::from_secs(1));
    assert_eq!(reloads(), settled, "{}", gateway.output());
}

/// Each example of the page as (expression, result).
fn examples(page: &str) -> Vec<(&str, &str)> {
    let blocks = page.split("```functions\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    lines
        .map(|line| {
            let (expression, result) = line.split_once(" → ").unwrap_or_else(|| panic!("{line}"));
            (expression.trim_end(), result)
        })
        .collect()
}

#[test]
fn every_function_has_an_example_on_the_page_and_each_example_is_true() {
    let page = include_str!("../../docs/templates.md");
    let examples = examples(page);
    let actions: Vec<String> = examples
        .iter()
        .map(|(it, _)| format!("{{{{ {it} }}}}"))
        .collect();
    let settings = page.split("```json settings\n").nth(1).unwrap();
    let folder = Folder::with(&[
        ("krakend.tmpl", &actions.join("\u{1}")),
        ("settings/svc.json", settings.split("```").next().unwrap()),
        ("partials/note.txt", "a note"),
    ]);
    let on = &[ON, SETTINGS, PARTIALS, ("STAGE", "prod"), ("TZ", "UTC")];
    let (_, text, told) = folder.told(&["check", "--render", "-c", "krakend.tmpl"], on);
    let results: Vec<&str> = text.split('\u{1}').collect();
    assert_eq!(results.len(), examples.len(), "{told}");
    for ((expression, want), result) in examples.iter().zip(results) {
        assert_eq!(result, *want, "{expression}");
    }
    let words: Vec<&str> = examples
        .iter()
        .flat_map(|(it, _)| it.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .collect();
    for name in portcullis::internals::config::template::function_names() {
        assert!(
            name == "call" || name == "fail" || words.contains(&name),
            "{name}"
        );
    }
}
