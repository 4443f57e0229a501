use super::*;
use crate::ext::extension::{BackendPart, ServicePart};
use crate::ext::testing::File;
use crate::runtime::prerouting::PreroutingPart;

/// A folder with one file.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.txt"), "a").unwrap();
    dir
}

fn errors(block: &serde_json::Value) -> Vec<String> {
    let mut file = File::new(&block.to_string());
    file.service(&SERVICE);
    file.config_error_lines()
}

#[test]
fn a_block_or_a_list_of_blocks_gives_sites_with_the_longest_prefix_first() {
    let dir = folder();
    let path = dir.path().to_str().unwrap();
    for (prefix, expected) in [
        ("/media", "/media"),
        ("/media/", "/media"),
        ("/doc/*", "/doc"),
    ] {
        let block = serde_json::json!({ "prefix": prefix, "path": path, "skip": ["/media/api/"] });
        let mut file = File::new(&block.to_string());
        let ServicePart::Ahead(PreroutingPart::Sites(sites)) = file.service(&SERVICE) else {
            panic!("{}", file.findings());
        };
        assert_eq!(&*sites[0].prefix, expected);
        assert_eq!(&*sites[0].skip[0], "/media/api");
    }
    let list = serde_json::json!([
        { "prefix": "/a", "path": path }, { "prefix": "/a/b", "path": path }
    ]);
    let mut file = File::new(&list.to_string());
    let ServicePart::Ahead(PreroutingPart::Sites(sites)) = file.service(&SERVICE) else {
        panic!("{}", file.findings());
    };
    let prefixes: Vec<&str> = sites.iter().map(|site| &*site.prefix).collect();
    assert_eq!(prefixes, ["/a/b", "/a"]);
}

#[test]
fn an_invalid_static_site_is_an_error() {
    let dir = folder();
    let path = dir.path().to_str().unwrap();
    let file = dir.path().join("a.txt");
    for (block, words) in [
        (serde_json::json!({ "path": path }), "prefix"),
        (serde_json::json!({ "prefix": "/a" }), "path"),
        (serde_json::json!({ "prefix": "", "path": path }), "empty"),
        (
            serde_json::json!({ "prefix": "a", "path": path }),
            "beginning of a path",
        ),
        (
            serde_json::json!({ "prefix": "/a/../b", "path": path }),
            "beginning of a path",
        ),
        (
            serde_json::json!({ "prefix": "/a//b", "path": path }),
            "beginning of a path",
        ),
        (
            serde_json::json!({ "prefix": "/a", "path": "/no/such/folder" }),
            "/no/such/folder",
        ),
        (serde_json::json!({ "prefix": "/a", "path": file }), "a.txt"),
        (
            serde_json::json!({ "prefix": "/a", "path": "." }),
            "every client could read",
        ),
        (
            serde_json::json!({ "prefix": "/a", "path": "/" }),
            "every client could read",
        ),
        (
            serde_json::json!({ "prefix": "/a", "path": path, "fallback": "../x" }),
            "not the name of a file",
        ),
        (
            serde_json::json!({ "prefix": "/a", "path": path, "cache_control": "a\nb" }),
            "cache_control",
        ),
        (
            serde_json::json!({ "prefix": "/a", "path": path, "directory_listing": 7 }),
            "directory_listing",
        ),
        (
            serde_json::json!([{ "prefix": "/a", "path": path }, { "prefix": "/a/", "path": path }]),
            "twice",
        ),
    ] {
        let found = errors(&block);
        assert_eq!(found.len(), 1, "{block}: {found:?}");
        assert!(found[0].contains(words), "{block}: {found:?}");
    }
    let insisting = serde_json::json!({ "prefix": "/a", "path": ".", "allow_config_dir": true });
    assert!(errors(&insisting).is_empty());
}

#[test]
fn a_folder_with_a_secret_of_the_file_is_not_served() {
    let dir = folder();
    let block = serde_json::json!({ "prefix": "/a", "path": dir.path() });
    let mut file = File::new(&block.to_string());
    file.set_fact(SecretFiles(vec![dir.path().join("a.txt")]));
    file.service(&SERVICE);
    assert_eq!(file.config_errors(), 1, "{}", file.findings());
}

#[test]
fn a_backend_takes_its_path_from_the_call() {
    let dir = folder();
    let block = serde_json::json!({ "path": dir.path() });
    let mut file = File::new(&block.to_string());
    assert!(matches!(
        file.backend(&BACKEND, "{}"),
        BackendPart::OnWire(_)
    ));
    assert_eq!(file.config_errors(), 0, "{}", file.findings());
}
