use serde_json::json;

use super::*;
use crate::ext::testing::File;

#[test]
fn an_invalid_table_of_hosts_is_an_error() {
    for block in [
        json!({}),
        json!({ "hosts": ["a"], "aliased_hosts": { "a": "a" } }),
        json!({ "hosts": ["https://a.example"] }),
        json!({ "hosts": ["a.example/x"] }),
        json!({ "hosts": ["*.example"] }),
        json!({ "hosts": [""] }),
        json!({ "hosts": ["a.example", "A.example:443"] }),
        json!({ "hosts": {} }),
        json!({ "hosts": [] }),
        json!({ "aliased_hosts": {} }),
        json!({ "hosts": ["a.example:99999"] }),
        json!({ "hosts": ["a.example:0"] }),
        json!({ "hosts": ["a.example:b"] }),
        json!({ "hosts": ["a.example:"] }),
        json!({ "aliased_hosts": { "A-b": "a.example" } }),
        json!({ "aliased_hosts": { "a": "x.example", "b": "x.example:80" } }),
        json!({ "aliased_hosts": [] }),
    ] {
        let mut file = File::new(&block.to_string());
        file.service(&SERVICE);
        assert!(file.config_errors() > 0, "{block}: {}", file.findings());
    }
    for block in [
        json!({ "hosts": ["a.example", "a.example:8080", "[::1]:81", "[::1]"] }),
        json!({ "aliased_hosts": { "user_api": "users.example:9000" } }),
    ] {
        let mut file = File::new(&block.to_string());
        file.service(&SERVICE);
        assert_eq!(file.config_errors(), 0, "{block}: {}", file.findings());
    }
}
