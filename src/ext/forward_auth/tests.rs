//! Valid and invalid blocks. Requests are tested over sockets.

use super::ENDPOINT;
use crate::ext::extension::EndpointPart;
use crate::ext::testing::File;

fn config_errors(block: &str) -> usize {
    let mut file = File::new(block);
    let part = file.endpoint(&ENDPOINT, "/x");
    let errors = file.config_errors();
    assert_eq!(
        matches!(part, EndpointPart::Setting { .. }),
        errors == 0,
        "{block}"
    );
    errors
}

#[test]
fn a_block_that_could_let_anyone_pass_stops_the_start() {
    for good in [
        r#"{"url": "http://auth/verify"}"#,
        r#"{"url": "https://auth/verify?app=x", "request_headers": ["Cookie"], "response_headers": ["X-User"]}"#,
        r#"{"url": "http://auth/", "cache_duration": "5s", "cache_key": ["Authorization"]}"#,
    ] {
        assert_eq!(config_errors(good), 0, "{good}");
    }
    for wrong in [
        "{}",
        r#"{"url": ""}"#,
        r#"{"url": "auth/verify"}"#,
        r#"{"url": "ftp://auth/verify"}"#,
        r#"{"url": "http://auth", "request_headers": ["a b"]}"#,
        r#"{"url": "http://auth", "request_headers": ["Host"]}"#,
        r#"{"url": "http://auth", "response_headers": ["Transfer-Encoding"]}"#,
        r#"{"url": "http://auth", "cache_key": []}"#,
        r#"{"url": "http://auth", "cache_duration": "soon"}"#,
    ] {
        assert!(config_errors(wrong) > 0, "{wrong}");
    }
}
