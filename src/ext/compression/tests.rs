//! Valid and invalid blocks.

use super::{Setting, endpoint, service};
use crate::config::{Block, Extra, Key, Kind, Node, Report, Typing, json, key};
use crate::runtime::compression::{Coding, Compression};

const ROOT: &[Key] = &[key("extra_config", Kind::Object, "", "")];

/// Reads `{"extra_config": …}` and returns the result with the texts of the errors.
fn read<T>(block: &str, read: impl FnOnce(&Extra<'_>) -> T) -> (T, Vec<String>) {
    let report = Report::new();
    let text = format!(r#"{{"extra_config": {block}}}"#);
    let value = json::parse(&text, &report).unwrap();
    let root = Block::open(Node::root(&value, &report), ROOT, Typing::Weak).unwrap();
    let result = read(&Extra::read(&root));
    (result, report.shown_config_errors())
}

fn compiled(block: &str, disable_gzip: Option<bool>) -> Option<Compression> {
    let (setting, errors) = read(block, |extra| service(extra, disable_gzip));
    assert!(errors.is_empty(), "{block}: {errors:?}");
    setting.compiled()
}

fn names(compression: &Compression) -> Vec<(&'static str, u32)> {
    let codings = compression.codings.iter();
    codings.map(|s| (s.coding.name(), s.level)).collect()
}

#[test]
fn compression_is_off_by_default() {
    assert_eq!(compiled("{}", None), None);
    assert_eq!(compiled("{}", Some(true)), None);
    let on = r#"{"portcullis/compression": {}}"#;
    let all = compiled(on, None).unwrap();
    assert_eq!(names(&all), [("zstd", 3), ("br", 4), ("gzip", 5)]);
    assert_eq!(all.min_size, 1024);
    assert_eq!(compiled(on, Some(true)), None);
    assert_eq!(compiled(on, Some(false)), Some(all));
    let off = r#"{"portcullis/compression": {"enabled": false}}"#;
    assert_eq!(compiled(off, Some(false)), None);
    let none = r#"{"portcullis/compression": {"algorithms": []}}"#;
    assert_eq!(compiled(none, None), None);
    let gzip = compiled("{}", Some(false)).unwrap();
    assert_eq!(names(&gzip), [("gzip", 5)]);
}

#[test]
fn an_endpoint_changes_only_the_headers_that_it_names() {
    let (service, _) = read(
        r#"{"portcullis/compression": {"level": {"br": 9}, "min_size": "2KiB"}}"#,
        |extra| service(extra, None),
    );
    let own = |block: &str| {
        let block = format!(r#"{{"portcullis/compression": {block}}}"#);
        let (own, errors) = read(&block, |extra| endpoint(extra, &service));
        assert!(errors.is_empty(), "{errors:?}");
        own.unwrap().compiled()
    };
    let changed = own(r#"{"algorithms": ["br"], "types": ["text/*"]}"#).unwrap();
    assert_eq!(names(&changed), [("br", 9)]);
    assert_eq!((changed.min_size, changed.types.len()), (2048, 1));
    assert_eq!(own(r#"{"enabled": false}"#), None);
    let (none, _) = read("{}", |extra| endpoint(extra, &service));
    assert_eq!(none, None);
    let (alone, _) = read(r#"{"portcullis/compression": {"min_size": 0}}"#, |extra| {
        endpoint(extra, &Setting::default())
    });
    assert_eq!(alone.unwrap().compiled().unwrap().min_size, 0);
}

#[test]
fn wrong_values_stop_the_start() {
    for (block, error) in [
        (r#"{"enabled": "maybe"}"#, "/enabled"),
        (
            r#"{"algorithms": ["gzip", "deflate"]}"#,
            "none of gzip, br, zstd",
        ),
        (r#"{"algorithms": ["gzip", "gzip"]}"#, "twice"),
        (r#"{"min_size": "big"}"#, "not a size"),
        (r#"{"min_size": -1}"#, "not a size"),
        (r#"{"level": {"gzip": 10}}"#, "1 to 9"),
        (r#"{"level": {"gzip": 0}}"#, "1 to 9"),
        (r#"{"level": {"zstd": 20}}"#, "1 to 19"),
        (r#"{"level": {"br": 12}}"#, "0 to 11"),
        (r#"{"types": ["*/*"]}"#, "not a media type"),
        ("7", "an object"),
    ] {
        let block = format!(r#"{{"portcullis/compression": {block}}}"#);
        let (_, errors) = read(&block, |extra| service(extra, None));
        assert_eq!(errors.len(), 1, "{block}: {errors:?}");
        assert!(errors[0].contains(error), "{block}: {errors:?}");
    }
    assert_eq!(Coding::named("deflate"), None);
}
