use std::os::unix::fs::symlink;
use std::path::Path;

use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;

use super::*;

/// A folder with a site in it, beside a secret.
fn site() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("site");
    let write = |name: &str, text: &str| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(dir.path().join("secret"), "secret").unwrap();
    write("a.txt", "0123456789");
    write("a b:c.txt", "blank");
    write("index.html", "home");
    write("docs/index.html", "docs");
    write("empty/x.css", "x");
    write(".git/config", "hidden");
    write(".well-known/security.txt", "known");
    write("app.js", "plain");
    write("app.js.gz", "zipped");
    write("app.js.br", "brotli");
    let folder = Folder::new(root);
    (dir, folder)
}

fn asked(path: &str, headers: &[(HeaderName, &str)]) -> Asked {
    let (rest, query) = match path.split_once('?') {
        Some((rest, query)) => (rest, Some(query.into())),
        None => (path, None),
    };
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        all.append(name, HeaderValue::from_str(value).unwrap());
    }
    Asked {
        method: Method::GET,
        rest: rest.into(),
        last: rest.rsplit('/').next().unwrap_or_default().into(),
        query,
        headers: all,
    }
}

fn body(served: Served) -> String {
    match served.body {
        Body::Whole(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Body::Part(mut file, length) => {
            let bytes = read_small(&mut file, length).unwrap();
            String::from_utf8(bytes.unwrap().to_vec()).unwrap()
        }
    }
}

fn header(served: &Served, name: &HeaderName) -> Option<String> {
    let found = served.headers.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.to_str().unwrap().to_owned())
}

fn get(folder: &Folder, path: &str) -> (u16, String) {
    let served = folder.serve(&asked(path, &[]));
    (served.status.as_u16(), body(served))
}

#[test]
fn files_and_folders_are_found_as_with_go() {
    let (_dir, folder) = site();
    assert_eq!(get(&folder, "/a.txt"), (200, "0123456789".into()));
    assert_eq!(get(&folder, "/a%20b%3Ac.txt"), (200, "blank".into()));
    assert_eq!(get(&folder, "/"), (200, "home".into()));
    assert_eq!(get(&folder, "").0, 301, "the folder has a slash");
    assert_eq!(get(&folder, "/docs/"), (200, "docs".into()));
    assert_eq!(get(&folder, "/.well-known/security.txt").0, 200);
    assert_eq!(get(&folder, "/empty/").0, 404);
    assert_eq!(get(&folder, "/a.txt/").0, 404);
    assert_eq!(get(&folder, "/missing").0, 404);
    for (path, location) in [
        ("/docs", "./docs/"),
        ("/docs?x=1", "./docs/?x=1"),
        ("/index.html", "./"),
        ("/docs/index.html?y", "./?y"),
    ] {
        let served = folder.serve(&asked(path, &[]));
        assert_eq!(served.status, StatusCode::MOVED_PERMANENTLY, "{path}");
        assert_eq!(header(&served, &LOCATION).as_deref(), Some(location));
    }
}

#[test]
fn files_outside_and_hidden_files_are_not_served() {
    let (dir, folder) = site();
    let root = folder.root().to_owned();
    let at = |name: &str| root.join(name);
    symlink(dir.path().join("secret"), at("out-absolute")).unwrap();
    symlink("../secret", at("out-relative")).unwrap();
    symlink("..", at("up")).unwrap();
    symlink("loop", at("loop")).unwrap();
    symlink("/proc/self/root/etc/passwd", at("magic")).unwrap();
    let pipe = std::process::Command::new("mkfifo")
        .arg(at("pipe"))
        .status();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for path in [
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/docs/../../secret",
        "/docs/..%5c..%5csecret",
        "/a.txt%00",
        "/%00",
        "//a.txt",
        "/docs//index.html",
        "/.",
        "/./a.txt",
        "/.git/config",
        "/.git/",
        "/%2egit/config",
        "/docs/.hidden",
        "/a.txt%0a",
        "/%zz",
        "/%2",
        "/out-absolute",
        "/out-relative",
        "/up/secret",
        "/up/site/a.txt",
        "/loop",
        "/magic",
        "/pipe",
        "/socket",
        "/\\a.txt",
        "/etc/passwd",
    ] {
        if path == "/pipe" && pipe.as_ref().is_ok_and(|status| !status.success()) {
            continue;
        }
        let (status, said) = get(&folder, path);
        assert_eq!(status, 404, "{path}: {said}");
        assert!(
            !said.contains("secret") && !said.contains("hidden"),
            "{path}"
        );
    }
}

#[test]
fn links_within_the_folder_work_where_the_kernel_can_tell() {
    let (_dir, folder) = site();
    // As in a volume of Kubernetes.
    let root = folder.root().to_owned();
    std::fs::create_dir(root.join("..2026")).unwrap();
    std::fs::write(root.join("..2026/x.txt"), "mounted").unwrap();
    symlink("..2026", root.join("..data")).unwrap();
    symlink("..data/x.txt", root.join("x.txt")).unwrap();
    let (status, said) = get(&folder, "/x.txt");
    assert!(
        (status, &*said) == (200, "mounted") || status == 404 && !cfg!(target_os = "linux"),
        "{status} {said}"
    );
    // A link does not lead to a hidden name.
    std::fs::create_dir(root.join(".private")).unwrap();
    std::fs::write(root.join(".private/config"), "hidden").unwrap();
    std::fs::write(root.join("..2026/.env"), "hidden").unwrap();
    symlink(".private", root.join("folder")).unwrap();
    symlink("docs/../.private/config", root.join("file")).unwrap();
    symlink("file", root.join("again")).unwrap();
    symlink("..data/.env", root.join("mounted")).unwrap();
    for path in ["/folder/config", "/folder/", "/file", "/again", "/mounted"] {
        assert_eq!(get(&folder, path).0, 404, "{path}");
    }
    // The way of old kernels follows no link at all, and still finds files.
    let root = open::root(&root).unwrap();
    assert!(open::step_by_step(&root, b"x.txt").is_err());
    assert!(open::step_by_step(&root, b"..data/x.txt").is_err());
    assert!(open::step_by_step(&root, b"docs/index.html").is_ok());
}

#[test]
fn other_methods_are_not_allowed() {
    let (_dir, folder) = site();
    for method in [Method::POST, Method::OPTIONS, Method::DELETE] {
        let mut asked = asked("/a.txt", &[]);
        asked.method = method;
        let served = folder.serve(&asked);
        assert_eq!(served.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(
            header(&served, &http::header::ALLOW).as_deref(),
            Some("GET, HEAD")
        );
    }
}

#[test]
fn ranges_and_conditions_follow_the_rfc() {
    let (_dir, folder) = site();
    let first = folder.serve(&asked("/a.txt", &[]));
    let tag = header(&first, &ETAG).unwrap();
    let date = header(&first, &LAST_MODIFIED).unwrap();
    assert!(tag.starts_with('"'), "it is strong: {tag}");
    let weak = format!("W/{tag}");
    let both = format!("\"x\", {tag}");
    let old = "Thu, 01 Jan 1970 00:00:00 GMT";
    for (headers, status, range, said) in [
        (vec![(RANGE, "bytes=2-4")], 206, Some("bytes 2-4/10"), "234"),
        (vec![(RANGE, "bytes=-3")], 206, Some("bytes 7-9/10"), "789"),
        (vec![(RANGE, "bytes=20-")], 416, Some("bytes */10"), ""),
        (vec![(RANGE, "bytes=0-1,3-4")], 200, None, "0123456789"),
        (
            vec![(RANGE, "bytes=0-0"), (IF_RANGE, &tag)],
            206,
            Some("bytes 0-0/10"),
            "0",
        ),
        (
            vec![(RANGE, "bytes=0-0"), (IF_RANGE, &weak)],
            200,
            None,
            "0123456789",
        ),
        (
            vec![(RANGE, "bytes=0-0"), (IF_RANGE, &date)],
            206,
            Some("bytes 0-0/10"),
            "0",
        ),
        (
            vec![(RANGE, "bytes=0-0"), (IF_RANGE, old)],
            200,
            None,
            "0123456789",
        ),
        (vec![(IF_NONE_MATCH, &tag)], 304, None, ""),
        (vec![(IF_NONE_MATCH, &weak)], 304, None, ""),
        (vec![(IF_NONE_MATCH, &both)], 304, None, ""),
        (vec![(IF_NONE_MATCH, "*")], 304, None, ""),
        (vec![(IF_NONE_MATCH, "\"x\"")], 200, None, "0123456789"),
        // The tag counts, not the date beside it.
        (
            vec![(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, &date)],
            200,
            None,
            "0123456789",
        ),
        (vec![(IF_MODIFIED_SINCE, &date)], 304, None, ""),
        (vec![(IF_MODIFIED_SINCE, old)], 200, None, "0123456789"),
        (
            vec![(IF_MODIFIED_SINCE, "yesterday")],
            200,
            None,
            "0123456789",
        ),
        (vec![(IF_MATCH, &tag)], 200, None, "0123456789"),
        (vec![(IF_MATCH, &weak)], 412, None, ""),
    ] {
        let served = folder.serve(&asked("/a.txt", &headers));
        assert_eq!(served.status.as_u16(), status, "{headers:?}");
        assert_eq!(
            header(&served, &CONTENT_RANGE).as_deref(),
            range,
            "{headers:?}"
        );
        assert_eq!(body(served), said, "{headers:?}");
    }
}

#[test]
fn precompressed_files_are_chosen_by_accept_encoding() {
    let (_dir, mut folder) = site();
    for (accepted, encoding, said) in [
        ("", None, "plain"),
        ("gzip", Some("gzip"), "zipped"),
        ("gzip, br", Some("br"), "brotli"),
        ("gzip, br;q=0.5", Some("gzip"), "zipped"),
        ("br;q=0, gzip;q=0", None, "plain"),
        ("*", Some("br"), "brotli"),
        ("*, br;q=0", Some("gzip"), "zipped"),
        ("zstd", None, "plain"),
    ] {
        let served = folder.serve(&asked("/app.js", &[(ACCEPT_ENCODING, accepted)]));
        assert_eq!(
            header(&served, &CONTENT_ENCODING).as_deref(),
            encoding,
            "{accepted}"
        );
        assert_eq!(header(&served, &VARY).as_deref(), Some("Accept-Encoding"));
        let media = header(&served, &CONTENT_TYPE).unwrap();
        assert!(media.starts_with("text/javascript"), "{media}");
        assert_eq!(body(served), said, "{accepted}");
    }
    folder.encoded = false;
    let served = folder.serve(&asked("/app.js", &[(ACCEPT_ENCODING, "br")]));
    assert_eq!(header(&served, &VARY), None);
    assert_eq!(body(served), "plain");
}

#[test]
fn a_listing_shows_visible_names_and_no_markup() {
    let (_dir, mut folder) = site();
    let root = folder.root().to_owned();
    std::fs::write(root.join("empty/<b>.txt"), "").unwrap();
    std::fs::write(root.join("empty/.env"), "").unwrap();
    std::fs::create_dir(root.join("empty/inner")).unwrap();
    folder.listing = true;
    let (status, page) = get(&folder, "/empty/");
    assert_eq!(status, 200);
    assert!(
        page.contains("<a href=\"./%3Cb%3E.txt\">&lt;b&gt;.txt</a>"),
        "{page}"
    );
    assert!(page.contains("<a href=\"./inner/\">inner/</a>"), "{page}");
    assert!(page.contains("x.css") && !page.contains(".env"), "{page}");
    assert_eq!(
        get(&folder, "/docs/"),
        (200, "docs".into()),
        "the index comes first"
    );
}

#[test]
fn a_site_of_one_page_has_a_file_for_every_path() {
    let (_dir, mut folder) = site();
    folder.fallback = Some("index.html".into());
    assert_eq!(get(&folder, "/users/7"), (200, "home".into()));
    assert_eq!(get(&folder, "/empty/"), (200, "home".into()));
    assert_eq!(get(&folder, "/a.txt").1, "0123456789");
    assert_eq!(get(&folder, "/.git/config").0, 404);
    assert_eq!(get(&folder, "/%2e%2e/secret").0, 404);
}

#[test]
fn a_folder_may_be_replaced_while_it_is_served() {
    let dir = tempfile::tempdir().unwrap();
    for version in ["1", "2"] {
        std::fs::create_dir(dir.path().join(version)).unwrap();
        std::fs::write(dir.path().join(version).join("v.txt"), version).unwrap();
    }
    let link = dir.path().join("current");
    symlink("1", &link).unwrap();
    let folder = Folder::new(link.clone());
    assert_eq!(get(&folder, "/v.txt").1, "1");
    std::fs::remove_file(&link).unwrap();
    symlink("2", &link).unwrap();
    assert_eq!(get(&folder, "/v.txt").1, "2");
    assert!(Path::new(folder.root()).exists());
}

proptest! {
    #[test]
    fn a_name_never_leaves_the_folder(path in "(/|\\.|%2e|%2f|%5c|%00|a|\\\\|\\.\\.){0,12}") {
        if let Some(name) = names(&path) {
            for part in name.relative.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
                prop_assert!(!part.starts_with(b"."), "{path}");
                prop_assert!(!part.contains(&b'\\') && !part.contains(&0), "{path}");
            }
            prop_assert!(!name.relative.starts_with(b"/"), "{path}");
        }
    }
}

/// A read that hangs keeps its turn, so that no more threads hang than there are turns.
#[tokio::test]
async fn few_files_are_read_at_a_time() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Condvar, Mutex};
    let running = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let reads: Vec<_> = (0..100)
        .map(|_| {
            let (running, gate) = (Arc::clone(&running), Arc::clone(&gate));
            tokio::spawn(in_turn(move || {
                let before = running.fetch_add(1, Ordering::SeqCst);
                let open = gate.0.lock().unwrap();
                drop(gate.1.wait_while(open, |open| !*open).unwrap());
                running.fetch_sub(1, Ordering::SeqCst);
                before
            }))
        })
        .collect();
    while running.load(Ordering::SeqCst) < 4 {
        tokio::task::yield_now().await;
    }
    // Those that nobody waits for any more take no turn.
    let (given_up, rest) = reads.split_at(50);
    for read in given_up {
        read.abort();
    }
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    for read in rest {
        while !read.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    let mut most = 0;
    for read in reads {
        if let Ok(before) = read.await {
            most = most.max(before.unwrap() + 1);
        }
    }
    assert!(most <= 32, "{most} at a time");
}

#[tokio::test]
async fn a_file_is_read_in_pieces_that_are_charged() {
    let (dir, _) = site();
    let path = dir.path().join("large");
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&path, &content).unwrap();
    let file = || std::fs::File::open(&path).unwrap();
    let whole = read_whole(file(), content.len() as u64).await.unwrap();
    assert!(whole == content);
    assert!(read_whole(file(), content.len() as u64 + 1).await.is_err());
    let (mut file, mut left, mut read) = (file(), content.len() as u64, Vec::new());
    while left > 0 {
        let piece = read_piece(&mut file, left).unwrap();
        assert!(piece.len() <= 64 * 1024);
        left -= piece.len() as u64;
        read.extend_from_slice(&piece);
    }
    assert!(read == content);
    assert!(read_piece(&mut file, 1).is_err());
}
