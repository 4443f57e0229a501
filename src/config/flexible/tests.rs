//! Renderings in a folder. The recorded cases are in `tests/templates`.

use super::*;

struct Files(tempfile::TempDir);

impl Files {
    fn with(files: &[(&str, &str)]) -> Files {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        Files(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn environment(&self) -> Environment {
        Environment::of([("FC_ENABLE", "1"), ("SECRET", "a\"long secret")])
            .with("FC_SETTINGS", &self.path("settings"))
            .with("FC_PARTIALS", &self.path("partials"))
            .with("FC_TEMPLATES", &self.path("templates"))
    }

    fn render(&self, report: &Report) -> Option<Arc<Rendering>> {
        let base = self.path("base.tmpl");
        render(Path::new(&base), &self.environment(), report)
    }
}

fn files(base: &str) -> Files {
    Files::with(&[
        ("base.tmpl", base),
        ("settings/s.json", r#"{"n": 3, "list": ["a", "b"]}"#),
        ("partials/p.txt", "one\ntwo"),
        ("templates/t.tmpl", "é{{ . }}\n{{ . }}!"),
    ])
}

#[test]
fn every_position_of_the_result_maps_to_the_template() {
    let files = files("[\n  {{ template \"t.tmpl\" .s.n }},\n {{ include \"p.txt\" }}]");
    let rendering = files.render(&Report::new()).unwrap();
    assert_eq!(rendering.text, "[\n  é3\n3!,\n one\ntwo]");
    for (at, file, place) in [
        ((1, 1), "base.tmpl", (1, 1)),
        ((2, 3), "templates/t.tmpl", (1, 1)),
        ((2, 4), "templates/t.tmpl", (1, 5)),
        ((3, 1), "templates/t.tmpl", (2, 4)),
        ((3, 2), "templates/t.tmpl", (2, 8)),
        ((3, 3), "base.tmpl", (2, 31)),
        // The text of a partial belongs to the action that printed it.
        ((5, 2), "base.tmpl", (3, 5)),
        ((5, 4), "base.tmpl", (3, 23)),
    ] {
        let found = rendering.origin(Position::new(at.0, at.1)).unwrap();
        assert_eq!(found.file, files.path(file), "{at:?}");
        assert_eq!(found.at, Position::new(place.0, place.1), "{at:?}");
    }
    assert_eq!(rendering.origin(Position::new(9, 1)), None);
    assert_eq!(rendering.origin(Position::UNKNOWN), None);
}

#[test]
fn all_files_of_a_rendering_are_watched_even_if_it_fails() {
    for end in ["", "{{ fail \"no\" }}"] {
        let files = files(&format!(
            "{{{{ include \"p.txt\" }}}}{{{{ include \"gone/q\" }}}}{end}"
        ));
        let report = Report::new();
        assert_eq!(files.render(&report).is_some(), end.is_empty());
        let path = |name: &str| PathBuf::from(files.path(name));
        let mut watched = report.watched();
        watched.sort();
        assert_eq!(
            watched,
            [
                Watched::File(path("base.tmpl")),
                Watched::File(path("partials/gone/q")),
                Watched::File(path("partials/p.txt")),
                Watched::Folder(path("settings"), ".json"),
                Watched::Folder(path("templates"), ".tmpl"),
            ]
        );
    }
}

#[test]
fn values_of_the_environment_are_masked_in_every_spelling() {
    let files = files(
        r#"{"a": {{ env "SECRET" | toJson }}, "b": "{{ env "SECRET" | b64enc }}", "c": "x"}"#,
    );
    let report = Report::new();
    let rendering = files.render(&report).unwrap();
    assert!(rendering.text.contains("long secret"));
    assert_eq!(
        rendering.masked_text(),
        r#"{"a": "***", "b": "***", "c": "x"}"#
    );
    let mut tree = crate::config::json::parse(&rendering.text, &report).unwrap();
    rendering.hide_secrets(&mut tree);
    let shown: Vec<String> = tree.members().iter().map(|it| it.value.shown()).collect();
    assert_eq!(shown, ["[redacted]", "[redacted]", "\"x\""]);
}

#[test]
fn outside_partials_and_switches_without_effect_are_reported() {
    let files = files(r#"{{ include "../settings/s.json" }}{{ include "sub/../p.txt" }}"#);
    let environment = files
        .environment()
        .with("FC_ENABLE", "false")
        .with("FC_CONFIG", "x");
    let report = Report::new();
    let base = files.path("base.tmpl");
    assert!(render(Path::new(&base), &environment, &report).is_some());
    let told: Vec<String> = report
        .into_findings()
        .iter()
        .map(|it| it.config_error.to_string())
        .collect();
    assert_eq!(
        told,
        [
            "FC_ENABLE is \"false\", but any value switches templates on: unset it",
            "FC_CONFIG is ignored: use FC_SETTINGS, FC_PARTIALS and FC_TEMPLATES",
            "the partial \"../settings/s.json\" lies outside the folder of the partials",
        ]
    );
}

#[test]
fn a_file_that_is_not_utf_8_is_rejected_with_its_position() {
    let files = files("{{ template \"t.tmpl\" }}");
    std::fs::write(files.path("templates/t.tmpl"), b"a\nb\xff").unwrap();
    let report = Report::new();
    assert!(files.render(&report).is_none());
    assert_eq!(
        report.into_findings()[0].config_error.to_string(),
        "the file is not UTF-8: see line 2, byte 3 of the file"
    );
}

#[test]
fn a_pipe_in_a_folder_is_an_error_and_is_not_waited_for() {
    for name in ["settings/pipe.json", "templates/pipe.tmpl"] {
        let files = files("{}");
        let path = files.path(name);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, 0o600.into(), 0).unwrap();
        let report = Report::new();
        files.render(&report);
        let errors = report.shown_config_errors().join("\n");
        assert!(errors.contains("it is a pipe"), "{name}: {errors}");
    }
}

#[test]
fn only_real_actions_are_recognised() {
    for (text, want) in [
        ("{{ .svc.port }}", true),
        ("{{- env \"A\" }}", true),
        ("a {{if .x}}b{{end}}", true),
        ("{{ $x }}", true),
        ("{{ marshal .a }}", true),
        ("/a/{{.Id}}", false),
        ("x = {{1, 2}, {3}}", false),
        ("{{ .svc.port", false),
        ("{a}", false),
        ("", false),
    ] {
        assert_eq!(holds_action(text), want, "{text}");
    }
}
