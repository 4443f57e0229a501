//! Valid and invalid blocks.

use super::SERVICE;
use super::config::statuses;
use crate::ext::extension::ServicePart;
use crate::ext::testing::File;

#[test]
fn names_of_templates() {
    assert_eq!(statuses("404"), Some((404, 404)));
    assert_eq!(statuses("5xx"), Some((500, 599)));
    assert_eq!(statuses("default"), Some((400, 599)));
    for name in ["200", "600", "0404", "+40", "4XX", ""] {
        assert_eq!(statuses(name), None, "{name}");
    }
}

#[test]
fn hosts_have_no_optional_features_by_default() {
    for text in ["{}", r#"{"format": "none"}"#, r#"{"templates": {}}"#] {
        let mut file = File::new(text);
        assert!(
            matches!(file.service(&SERVICE), ServicePart::Nothing),
            "{text}"
        );
        assert_eq!(file.config_errors(), 0, "{text}");
    }
    let mut file = File::new(r#"{"format": "problem+json"}"#);
    assert!(matches!(file.service(&SERVICE), ServicePart::Errors(_)));
}

#[test]
fn broken_templates_are_errors_of_the_file() {
    for template in [
        r#""200": {"body": ""}"#,
        r#""404": {}"#,
        r#""404": {"body": "a", "path": "b"}"#,
        r#""404": {"body": "{token}"}"#,
        r#""404": {"path": "no/such/file"}"#,
        r#""404": {"body": "a", "content_type": "a\nb"}"#,
        r#""404": "text""#,
    ] {
        let mut file = File::new(&format!(r#"{{"templates": {{{template}}}}}"#));
        file.service(&SERVICE);
        assert_eq!(file.config_errors(), 1, "{template}");
    }
}
