use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

use proptest::prelude::*;

use super::super::files::below;
use super::*;

/// A folder `root` with files, next to one that must not be served.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    fs::write(root.join("a.json"), "{\"a\":1}").unwrap();
    fs::write(root.join("sub/b c.txt"), "0123456789").unwrap();
    fs::write(root.join("..data"), "dots").unwrap();
    symlink("sub/b c.txt", root.join("inner")).unwrap();
    symlink("../secret", root.join("outer")).unwrap();
    symlink(dir.path(), root.join("up")).unwrap();
    symlink("circle", root.join("circle")).unwrap();
    symlink("/dev/zero", root.join("zero")).unwrap();
    dir
}

async fn served(step: &dyn CallStep, path: &str, pairs: &[(&'static str, &str)]) -> Reply {
    let mut request = request(pairs);
    request.path = path.into();
    match step.request(&mut request).unwrap() {
        CallDecision::Wait(reply) => reply.await.unwrap(),
        _ => panic!("it is sent"),
    }
}

fn serving(dir: &Path) -> Box<dyn CallStep> {
    let root = dir.join("root").display().to_string();
    step(&format!(
        r#"{{"static.Modifier": {{"rootPath": "{root}", "explicitPaths": {{"/": "a.json", "/x y": "/sub/b c.txt"}}}}}}"#
    ))
}

#[tokio::test]
async fn files_below_the_folder_are_served() {
    let dir = folder();
    let step = serving(dir.path());
    for (path, media, body) in [
        ("/a.json", "application/json", "{\"a\":1}"),
        ("/sub/b%20c.txt", "text/plain; charset=utf-8", "0123456789"),
        ("//sub//b c.txt", "text/plain; charset=utf-8", "0123456789"),
        ("/..data", "application/octet-stream", "dots"),
        ("/inner", "application/octet-stream", "0123456789"),
        ("/", "application/json", "{\"a\":1}"),
        ("/x%20y", "text/plain; charset=utf-8", "0123456789"),
    ] {
        let reply = served(&*step, path, &[]).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}");
        assert_eq!(reply.body.unwrap(), body, "{path}");
        assert_eq!(values(&reply.headers, "content-type"), [media], "{path}");
    }
}

#[tokio::test]
async fn other_files_are_not_served() {
    let dir = folder();
    let step = serving(dir.path());
    for path in [
        "/none",
        "/sub",
        "/a.json/x",
        "/../secret",
        "/sub/../../secret",
        "/%2e%2e/secret",
        "/%2E./secret",
        "/.%2e/secret",
        "/..%2fsecret",
        "/sub%2f..%2f..%2fsecret",
        "/..%5csecret",
        "/%00",
        "/a.json%00",
        "/./a.json",
        "/outer",
        "/up/secret",
        "/up/root/a.json/..",
        "/circle",
        "/zero",
        "/%2e%2e",
        "/%252e%252e/secret",
        "/%zz",
    ] {
        let reply = served(&*step, path, &[]).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(reply.body.unwrap(), "", "{path}");
    }
    let long = format!("/{}", "a".repeat(5000));
    assert_eq!(
        served(&*step, &long, &[]).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_link_into_the_folder_is_followed() {
    let dir = folder();
    let step = serving(dir.path());
    let reply = served(&*step, "/up/root/a.json", &[]).await;
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn an_unreadable_file_is_401_and_one_that_is_too_large_500() {
    let dir = folder();
    let step = serving(dir.path());
    let large = fs::File::create(dir.path().join("root/large")).unwrap();
    large.set_len((64 << 20) + 1).unwrap();
    let reply = served(&*step, "/large", &[]).await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    let reply = served(&*step, "/large", &[("range", "bytes=-3")]).await;
    assert_eq!(
        (reply.status.as_u16(), &*reply.body.unwrap()),
        (206, &[0; 3][..])
    );
    let closed = dir.path().join("root/a.json");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    // A user that may read everything (root) is not rejected.
    if fs::read(&closed).is_err() {
        let reply = served(&*step, "/a.json", &[]).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_requested_part_of_a_file_is_sent() {
    let dir = folder();
    let step = serving(dir.path());
    for (range, status, body, part) in [
        ("bytes=3-5", 206, "345", Some("bytes 3-5/10")),
        ("bytes=20-", 416, "", Some("bytes */10")),
        ("bytes=0-0,2-2", 200, "0123456789", None),
    ] {
        let reply = served(&*step, "/inner", &[("range", range)]).await;
        assert_eq!(
            (reply.status.as_u16(), &*reply.body.unwrap()),
            (status, body.as_bytes())
        );
        let found = reply.headers.get("content-range");
        assert_eq!(found.map(|v| v.to_str().unwrap()), part);
    }
}

#[tokio::test]
async fn a_folder_that_is_a_link_may_be_replaced() {
    let dir = folder();
    let current = dir.path().join("current");
    symlink("root", &current).unwrap();
    let step = step(&format!(
        r#"{{"static.Modifier": {{"rootPath": "{}"}}}}"#,
        current.display()
    ));
    assert_eq!(
        served(&*step, "/a.json", &[]).await.body.unwrap(),
        "{\"a\":1}"
    );
    let next = dir.path().join("next");
    fs::create_dir(&next).unwrap();
    fs::write(next.join("a.json"), "2").unwrap();
    fs::remove_file(&current).unwrap();
    symlink("next", &current).unwrap();
    assert_eq!(served(&*step, "/a.json", &[]).await.body.unwrap(), "2");
}

#[tokio::test]
async fn the_path_is_the_one_that_the_last_modifier_set() {
    let dir = folder();
    let root = dir.path().join("root").display().to_string();
    let step = step(&format!(
        r#"{{"fifo.Group": {{"modifiers": [
            {{"static.Modifier": {{"rootPath": "{root}"}}}},
            {{"url.Modifier": {{"path": "/sub/b c.txt"}}}},
            {{"header.Modifier": {{"scope": ["response"], "name": "X-A", "value": "1"}}}}]}}}}"#
    ));
    let mut reply = served(&*step, "/a.json", &[]).await;
    assert_eq!(reply.body.clone().unwrap(), "0123456789");
    step.response(&request(&[]), &mut reply).unwrap();
    assert_eq!(values(&reply.headers, "x-a"), ["1"]);
}

proptest! {
    #[test]
    fn no_path_leads_out_of_the_folder(path in "(/|%2f|%2F|\\.|%2e|%2E|\\\\|%5c|%00|a|é|%ff|%zz){0,20}") {
        if let Some(found) = below(&path) {
            prop_assert!(found.components().all(|part| matches!(part, Component::Normal(_))));
        }
    }
}
