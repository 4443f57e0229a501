use super::*;
use crate::config::{Report, Severity, json};

/// The new configuration, the errors and the warnings.
fn rewritten(text: &str) -> (String, Vec<String>, Vec<String>) {
    let report = Report::new();
    let value = json::parse(text, &report).unwrap();
    let new = rewrite(&Node::root(&value, &report));
    let json = new.map_or_else(String::new, |new| new.root.to_json());
    let findings = report.into_findings();
    let of = |severity| {
        let found = findings.iter().filter(move |f| f.severity == severity);
        found
            .map(|f| format!("{}: {}", f.pointer, f.config_error))
            .collect()
    };
    (json, of(Severity::ConfigError), of(Severity::Warning))
}

fn backend(block: &str) -> String {
    format!(r#"{{"endpoints":[{{"backend":[{{"extra_config":{{{block}}}}}]}}]}}"#)
}

#[test]
fn both_shapes_and_all_names_become_the_same_block() {
    let expected = backend(r#""backend/http/client":{"no_redirect":true}"#);
    for block in [
        r#""plugin/http-client": {"name": "no-redirect"}"#,
        r#""plugin/http-client": {"name": ["no-redirect"]}"#,
        r#""plugin/http-client": {"name": "krakend-no-redirect"}"#,
        r#""plugin/http-client": {"plugins": [{"name": "no-redirect"}]}"#,
        r#""github.com/devopsfaith/krakend/transport/http/client/executor": {"name": "no-redirect"}"#,
    ] {
        let (new, errors, warnings) = rewritten(&backend(block));
        assert_eq!(new, expected, "{block}");
        assert!(
            errors.is_empty() && warnings.is_empty(),
            "{block}: {errors:?} {warnings:?}"
        );
    }
}

#[test]
fn agents_and_their_backends_have_plugins_too() {
    let file = |own: &str, backend: &str| {
        format!(
            r#"{{"async_agent":[{{"backend":[{{"extra_config":{{{backend}}}}}],"extra_config":{{{own}}}}}]}}"#
        )
    };
    let plugin = r#""plugin/http-client": {"name": "no-redirect"}"#;
    let (new, errors, _) = rewritten(&file("", plugin));
    let moved = file("", r#""backend/http/client":{"no_redirect":true}"#);
    assert_eq!((new, errors.len()), (moved, 0));
    // Of the modifiers, those that look at a client are not for agents.
    let (_, errors, _) = rewritten(&file(
        r#""plugin/req-resp-modifier": {"name": ["ip-filter"], "ip-filter": {"CIDR": ["10.0.0.0/8"]}}"#,
        "",
    ));
    assert_eq!(errors.len(), 1, "{errors:?}");
}

#[test]
fn a_key_is_added_to_others_but_never_replaces_one() {
    let (new, errors, _) = rewritten(&backend(
        r#""backend/http/client": {"send_body_on_redirect": true},
           "plugin/http-client": {"name": "http-proxy", "proxy_address": "http://p:1"}"#,
    ));
    assert_eq!(
        new,
        backend(
            r#""backend/http/client":{"proxy_address":"http://p:1","send_body_on_redirect":true}"#
        )
    );
    assert!(errors.is_empty(), "{errors:?}");
    let (_, errors, _) = rewritten(&backend(
        r#""backend/http/client": {"no_redirect": false}, "plugin/http-client": {"name": "no-redirect"}"#,
    ));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("which is also configured"), "{errors:?}");
}

#[test]
fn an_unknown_plugin_stops_the_start_unless_the_file_ignores_it() {
    let service = |extra: &str| format!(r#"{{"extra_config":{{{extra}}}}}"#);
    let block = r#""plugin/http-server": {"name": ["my-auth"], "my-auth": {}}"#;
    let (_, errors, _) = rewritten(&service(block));
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].contains("the plugin \"my-auth\" is not built in"),
        "{errors:?}"
    );
    let (new, errors, warnings) = rewritten(&service(&format!(
        r#"{block}, "portcullis/compat": {{"ignore_plugins": ["my-auth"]}}"#
    )));
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(!new.contains("my-auth\":{}"), "{new}");
}

#[test]
fn a_block_that_is_not_in_the_list_is_reported() {
    let of = |name: &str| {
        rewritten(&format!(
            r#"{{"extra_config": {{"plugin/http-server": {{"name": [], "{name}": {{}}}}}}}}"#
        ))
    };
    let (_, errors, _) = of("ip-filter");
    assert_eq!(errors.len(), 1, "{errors:?}");
    let (_, errors, warnings) = of("virtualhost");
    assert!(errors.is_empty(), "{errors:?}");
    assert!(
        warnings.iter().any(|w| w.contains("would not run")),
        "{warnings:?}"
    );
}

#[test]
fn a_list_of_names_under_a_misspelt_key_stops_the_start() {
    for (key, meant) in [("plugin", "plugins"), ("names", "name"), ("Name", "name")] {
        let text = format!(
            r#"{{"extra_config": {{"plugin/http-server": {{"{key}": ["ip-filter"], "ip-filter": {{}}}}}}}}"#
        );
        let (_, errors, _) = rewritten(&text);
        assert!(
            errors.iter().any(|error| error.contains("names no plugin")),
            "{key}, which is {meant}: {errors:?}"
        );
    }
}

#[test]
fn an_invalid_plugin_block_is_an_error() {
    for block in [
        r#""plugin/http-client": null"#,
        r#""plugin/http-client": "no-redirect""#,
        r#""plugin/http-client": {"name": {}}"#,
        r#""plugin/http-client": {"name": ["no-redirect", "no-redirect"]}"#,
        r#""plugin/http-client": {"name": "x", "plugins": []}"#,
        r#""plugin/http-client": {"plugins": [{"config": {}}]}"#,
        r#""plugin/http-client": {"name": "http-proxy"}"#,
        r#""plugin/http-server": {"name": "virtualhost", "virtualhost": {}}"#,
        r#""plugin/middleware": {"name": "x"}"#,
    ] {
        let (_, errors, _) = rewritten(&backend(block));
        assert_eq!(errors.len(), 1, "{block}: {errors:?}");
    }
    let off = backend(r#""@plugin/http-client": {"name": "x"}"#);
    assert_eq!(rewritten(&off), (String::new(), vec![], vec![]));
}

#[test]
fn findings_point_to_the_place_in_the_file() {
    let text = backend(
        r#""plugin/http-client": {"name": "http-proxy", "http-proxy": {"address": "http://p:1"}}"#,
    );
    let report = Report::new();
    let value = json::parse(&text, &report).unwrap();
    let new = rewrite(&Node::root(&value, &report)).unwrap();
    let mut finding = Finding {
        severity: Severity::Warning,
        pointer: "/endpoints/0/backend/0/extra_config/backend~1http~1client/proxy_address"
            .to_owned(),
        at: Default::default(),
        config_error: ConfigError::invalid(""),
        hint: None,
    };
    new.locate(&mut finding);
    assert_eq!(
        finding.pointer,
        "/endpoints/0/backend/0/extra_config/plugin~1http-client/http-proxy/proxy_address"
    );
}
