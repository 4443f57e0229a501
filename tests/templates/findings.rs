//! What warnings and errors say about a text that is rendered, or that should have been.

use crate::Folder;

#[test]
fn an_action_in_a_string_of_a_plain_file_causes_a_warning() {
    for (text, warns) in [
        (r#"{"version": 3, "name": "{{ .x }}"}"#, true),
        (r#"{"version": 3, "name": "{{- .x -}}"}"#, true),
        (
            r#"{"version": 3, "host": ["http://h"], "endpoints": [{"endpoint": "/a", "backend": [{"url_pattern": "/{{ .y }}"}]}]}"#,
            true,
        ),
        (
            r#"{"version": 3, "host": ["http://h"], "endpoints": [{"endpoint": "/a/{y}", "backend": [{"url_pattern": "/{{.Y}}"}]}]}"#,
            false,
        ),
    ] {
        let folder = Folder::with(&[("k.json", text)]);
        let (_, _, told) = folder.told(&["check", "-c", "k.json"], &[]);
        assert_eq!(told.contains("which is not run"), warns, "{text}: {told}");
    }
}

#[test]
fn no_finding_of_a_rendered_file_shows_the_environment() {
    const SECRET: &str = "topSecretValue99";
    let hole = "{{ env \"SECRETV\" }}";
    for text in [
        r#""endpoints":[{"endpoint":"/x","method":"HOLE","backend":[]}]"#,
        r#""host":["http://a"],"endpoints":[{"endpoint":"/x","backend":[{"method":"HOLE","url_pattern":"/"}]}]"#,
        r#""host":["http://u:HOLE@h/p"],"endpoints":[]"#,
        r#""timeout":"HOLE","HOLE":1,"HOLE":2"#,
        r#""extra_config":{"HOLE":{}}"#,
        r#""endpoints":[{"endpoint":"/x/HOLE","output_encoding":"HOLE","backend":[{"url_pattern":"/{b}","encoding":"HOLE"}]}]"#,
        r#""extra_config":{"security/cors":{"allow_origins":["HOLE"]}}"#,
        r#""host":["http://a"],"endpoints":[{"endpoint":"/x","backend":[{"url_pattern":"/"}],"extra_config":{"auth/validator":{"alg":"HOLE","jwk_url":"http://HOLE/x"}}}]"#,
        r#""host":["http://a"],"endpoints":[{"endpoint":"/x","backend":[{"url_pattern":"/"}],"extra_config":{"validation/cel":[{"check_expr":"req_HOLE"}]}}]"#,
    ] {
        let text = format!("{{\"version\":3,{text}}}").replace("HOLE", hole);
        let folder = Folder::with(&[("k.tmpl", &text)]);
        let variables = [("FC_ENABLE", "1"), ("SECRETV", SECRET)];
        let (_, _, told) = folder.told(&["check", "-c", "k.tmpl"], &variables);
        assert!(!told.is_empty(), "{text}");
        assert!(
            !told.to_lowercase().contains(&SECRET.to_lowercase()),
            "{text}: {told}"
        );
    }
}

#[test]
fn a_range_over_settings_that_do_not_exist_names_the_similar_ones() {
    let folder = Folder::with(&[
        (
            "k.tmpl",
            "{\"version\": 3, \"endpoints\": [{{ range $i, $e := .endpoints.list }}{{ $e }}{{ end }}]}",
        ),
        ("settings/endpoint.json", "{\"list\": []}"),
    ]);
    let on = [("FC_ENABLE", "1"), ("FC_SETTINGS", "settings")];
    let (code, _, told) = folder.told(&["check", "-c", "k.tmpl"], &on);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("did you mean .endpoint?"), "{told}");
}
