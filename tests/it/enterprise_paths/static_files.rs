//! `server/static-filesystem` and `backend/static-filesystem`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;
use crate::support::http::request;

/// The files of the site, beside the configuration.
const SITE: [(&str, &str); 6] = [
    ("site/index.html", "<p>home"),
    ("site/a.json", "{\"file\": true}"),
    ("site/sub/b.txt", "below"),
    ("site/.env", "hidden"),
    ("site/app.js", "plain"),
    ("site/app.js.gz", "zipped"),
];

fn serving(block: Value) -> Value {
    let stub = "http://127.0.0.1:1";
    let mut one = endpoint("/api/a", stub, "/", "json");
    one["extra_config"] =
        json!({ "proxy": { "static": { "strategy": "always", "data": { "ok": true } } } });
    file(&[one], json!({ "server/static-filesystem": block }))
}

#[test]
fn a_prefix_serves_files_and_everything_else_goes_to_the_router() {
    let text = serving(json!({ "prefix": "/media", "path": "site" }));
    let gateway = Gateway::start_with(&text.to_string(), &SITE);
    for (path, status, body) in [
        ("/media/", 200, "<p>home"),
        ("/media/a.json", 200, "{\"file\": true}"),
        ("/media/sub/b.txt", 200, "below"),
        ("/media/missing", 404, "404 page not found"),
        ("/media/.env", 404, "404 page not found"),
        ("/media/../krakend.json", 404, "404 page not found"),
        ("/media/%2e%2e/krakend.json", 404, "404 page not found"),
        ("/media/..%2fkrakend.json", 404, "404 page not found"),
        ("/media/%2e%2e%2fkrakend.json", 404, "404 page not found"),
        ("/mediators", 404, "404 page not found"),
        ("/api/a", 200, "{\"ok\":true}"),
    ] {
        let response = gateway.get(path);
        assert_eq!(
            (response.status, &*response.text()),
            (status, body),
            "{path}"
        );
    }
    let folder = gateway.get("/media?x=1");
    assert_eq!(folder.status, 301);
    assert_eq!(folder.header("location"), Some("./media/?x=1"));
    let file = gateway.get("/media/a.json");
    assert_eq!(file.header("content-type"), Some("application/json"));
    assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(file.header("x-krakend"), None, "it is before the router");
    let post = gateway.send("POST", request("POST", "/media/a.json", &[]));
    assert_eq!(
        (post.status, post.header("allow")),
        (405, Some("GET, HEAD"))
    );
}

#[test]
fn head_ranges_and_conditions_work_for_small_and_large_files() {
    let large: String = (0..60_000).map(|number| format!("{number:09}\n")).collect();
    let files = [
        ("site/large.txt", &*large),
        ("site/small.txt", "0123456789"),
    ];
    let text = serving(json!({ "prefix": "/", "path": "site", "skip": ["/api"] }));
    let gateway = Gateway::start_with(&text.to_string(), &files);
    for (path, content) in [("/large.txt", &*large), ("/small.txt", "0123456789")] {
        let whole = gateway.get(path);
        assert_eq!((whole.status, &*whole.text()), (200, content));
        let length = content.len().to_string();
        let head = gateway.send("HEAD", request("HEAD", path, &[]));
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-length"), Some(&*length), "{path}");
        let part = gateway.get_with(path, &[("Range", "bytes=3-6")]);
        assert_eq!((part.status, &*part.text()), (206, &content[3..7]));
        let beyond = gateway.get_with(path, &[("Range", "bytes=9999999-")]);
        assert_eq!(beyond.status, 416);
        let tag = whole.header("etag").unwrap();
        assert_eq!(
            gateway.get_with(path, &[("If-None-Match", tag)]).status,
            304
        );
        assert_eq!(gateway.get_with(path, &[("If-Match", "\"x\"")]).status, 412);
    }
    // The connection is kept after a large file.
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send(request("GET", "/large.txt", &[])).unwrap();
        assert_eq!(client.response("GET").unwrap().text(), large);
    }
    assert_eq!(gateway.get("/__health").status, 200);
    assert_eq!(gateway.get("/api/a").status, 200);
}

#[test]
fn encoded_siblings_and_an_application_of_one_page() {
    let text = serving(json!({ "prefix": "/", "path": "site", "skip": ["/api"],
        "fallback": "index.html", "cache_control": "public, max-age=60" }));
    let gateway = Gateway::start_with(&text.to_string(), &SITE);
    let plain = gateway.get("/app.js");
    assert_eq!(
        (&*plain.text(), plain.header("vary")),
        ("plain", Some("Accept-Encoding"))
    );
    let zipped = gateway.get_with("/app.js", &[("Accept-Encoding", "gzip")]);
    assert_eq!(
        (&*zipped.text(), zipped.header("content-encoding")),
        ("zipped", Some("gzip"))
    );
    assert_ne!(plain.header("etag"), zipped.header("etag"));
    let page = gateway.get("/users/7");
    assert_eq!((page.status, &*page.text()), (200, "<p>home"));
    assert_eq!(page.header("cache-control"), Some("public, max-age=60"));
}

#[test]
fn security_headers_and_the_bot_detector_of_the_service_apply() {
    let mut text = serving(json!({ "prefix": "/media", "path": "site" }));
    text["extra_config"]["security/http"] = json!({ "frame_deny": true });
    text["extra_config"]["security/bot-detector"] = json!({ "deny": ["bad-bot"] });
    text["extra_config"]["security/cors"] = json!({ "allow_origins": ["https://a.example"] });
    let gateway = Gateway::start_with(&text.to_string(), &SITE);
    let file = gateway.get_with("/media/a.json", &[("Origin", "https://a.example")]);
    assert_eq!(file.header("x-frame-options"), Some("DENY"));
    assert_eq!(
        file.header("access-control-allow-origin"),
        Some("https://a.example")
    );
    let bot = gateway.get_with("/media/a.json", &[("User-Agent", "bad-bot")]);
    assert_eq!(bot.status, 403);
}

#[test]
fn a_folder_that_must_not_be_public_stops_the_start() {
    let key = ("site/tls.key", "-----BEGIN PRIVATE KEY-----");
    let with = |block: Value| serving(block);
    for (path, words) in [
        (".", "every client could read"),
        ("./", "every client could read"),
        ("/", "every client could read"),
        ("missing", "missing"),
    ] {
        is_rejected(
            &with(json!({ "prefix": "/media", "path": path })),
            &SITE,
            words,
        );
    }
    let mut text = with(json!({ "prefix": "/media", "path": "site" }));
    text["tls"] =
        json!({ "disabled": true, "keys": [{ "public_key": "x", "private_key": "site/tls.key" }] });
    is_rejected(&text, &[SITE[0], key], "every client could read");
    is_rejected(
        &with(json!({ "prefix": "/", "path": "site" })),
        &SITE,
        "no endpoint can be reached",
    );
    starts(
        &with(json!({ "prefix": "/api", "path": "site" })),
        &SITE,
        "/api/a",
    );
    is_rejected(&with(json!("site")), &SITE, "static-filesystem");
    is_rejected(&with(json!(null)), &SITE, "static-filesystem");
}

/// `check` of the file at `etc/krakend.json`, which may be a link, with these variables.
fn checked_in(folder: &std::path::Path, variables: &[(&str, &str)]) -> (bool, String) {
    let output = command()
        .args(["check", "-c"])
        .arg(folder.join("etc/krakend.json"))
        .envs(variables.iter().copied())
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said)
}

#[test]
fn no_file_that_the_configuration_consists_of_is_public() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["etc", "www/fc", "www/sub", "settings"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    let text = serving(json!({ "prefix": "/s", "path": at("www") }));
    fs::write(at("www/sub/krakend.json"), text.to_string()).unwrap();
    std::os::unix::fs::symlink("../www/sub/krakend.json", at("etc/krakend.json")).unwrap();
    let (good, said) = checked_in(folder.path(), &[]);
    assert!(!good && said.contains("every client could read"), "{said}");
    fs::remove_file(at("www/sub/krakend.json")).unwrap();
    fs::remove_file(at("etc/krakend.json")).unwrap();
    fs::write(at("etc/krakend.json"), text.to_string()).unwrap();
    assert!(checked_in(folder.path(), &[]).0);
    fs::write(at("www/fc/secrets.json"), "{\"key\": \"x\"}").unwrap();
    fs::write(at("www/fc/part.tmpl"), "x").unwrap();
    std::os::unix::fs::symlink("../www/fc/secrets.json", at("settings/s.json")).unwrap();
    let (inside, out) = (at("www/fc"), at("www/out.json"));
    let (inside, out) = (inside.to_str().unwrap(), out.to_str().unwrap());
    let linked = at("settings");
    for (name, value) in [
        ("FC_SETTINGS", inside),
        ("FC_TEMPLATES", inside),
        ("FC_PARTIALS", inside),
        ("FC_OUT", out),
        ("FC_SETTINGS", linked.to_str().unwrap()),
    ] {
        let (good, said) = checked_in(folder.path(), &[("FC_ENABLE", "1"), (name, value)]);
        assert!(
            !good && said.contains("every client could read"),
            "{name}: {said}"
        );
    }
    // A value that the file takes from another one.
    let mut text = text;
    fs::remove_file(at("www/out.json")).unwrap();
    text["extra_config"]["portcullis/secrets"] = json!({ "expand": true });
    text["name"] = json!(format!("${{file:{inside}/part.tmpl}}"));
    fs::write(at("etc/krakend.json"), text.to_string()).unwrap();
    let (good, said) = checked_in(folder.path(), &[]);
    assert!(!good && said.contains("every client could read"), "{said}");
}

#[test]
fn martian_publishes_no_configuration_either() {
    let martian = |path: &str| {
        let mut one = endpoint("/{x}", "http://127.0.0.1:1", "/{x}", "no-op");
        one["backend"][0]["extra_config"] = json!({ "modifier/martian": {
            "static.Modifier": { "scope": ["request", "response"], "rootPath": path } } });
        file(&[one], json!({}))
    };
    is_rejected(&martian("."), &SITE, "every client could read");
    starts(&martian("site"), &SITE, "Syntax OK!");
}

#[test]
fn a_backend_gives_an_encoded_file_only_to_clients_that_asked_for_it() {
    let of = |path: &str, headers: Value| {
        json!({ "endpoint": path, "output_encoding": "no-op", "input_headers": headers,
            "backend": [{ "url_pattern": "/*", "extra_config": { "backend/static-filesystem": { "path": "site" } } }] })
    };
    let endpoints = [
        of("/plain/*", json!(["Range"])),
        of("/asked/*", json!(["Accept-Encoding"])),
    ];
    let gateway = Gateway::start_with(&file(&endpoints, json!({})).to_string(), &SITE);
    for (path, accept, body) in [
        ("/plain/app.js", "gzip", "plain"),
        ("/plain/app.js", "identity", "plain"),
        ("/plain/app.js", "gzip;q=0", "plain"),
        ("/asked/app.js", "gzip", "zipped"),
        ("/asked/app.js", "br", "plain"),
        ("/asked/app.js", "gzip;q=0", "plain"),
    ] {
        let response = gateway.get_with(path, &[("Accept-Encoding", accept)]);
        assert_eq!(response.text(), body, "{path} {accept}");
        let coding = (body == "zipped").then_some("gzip");
        assert_eq!(response.header("content-encoding"), coding);
    }
    assert_eq!(gateway.get("/asked/app.js").text(), "plain");
}

#[test]
fn the_plugin_is_the_same_block() {
    let text = file(
        &[],
        json!({ "plugin/http-server": { "name": ["static-filesystem"],
            "static-filesystem": { "prefix": "/media/*", "path": "site" } } }),
    );
    let gateway = Gateway::start_with(&text.to_string(), &SITE);
    assert_eq!(gateway.get("/media/sub/b.txt").text(), "below");
    gateway.tells("the * is removed");
}

#[test]
fn a_file_may_be_the_response_of_a_backend() {
    let of = |path: &str, to: &str, encoding: &str, block: Value| {
        json!({ "endpoint": path, "output_encoding": encoding,
            "backend": [{ "url_pattern": to, "extra_config": { "backend/static-filesystem": block } }] })
    };
    let block = json!({ "path": "site" });
    let mut grouped = of("/grouped", "/a.json", "json", block.clone());
    grouped["backend"][0]["group"] = json!("inner");
    let mut headers = of("/files/*", "/*", "no-op", block.clone());
    headers["input_headers"] = json!(["Range", "If-None-Match", "Accept-Encoding"]);
    let endpoints = [
        grouped,
        headers,
        of("/missing", "/missing.json", "json", block.clone()),
        of("/{name}", "/{name}.json", "json", block.clone()),
        of(
            "/old/*",
            "/cut/",
            "no-op",
            json!({ "path": "site", "prefix": "/cut" }),
        ),
    ];
    let gateway = Gateway::start_with(&file(&endpoints, json!({})).to_string(), &SITE);
    assert_eq!(gateway.get("/grouped").text(), r#"{"inner":{"file":true}}"#);
    assert_eq!(gateway.get("/a").text(), r#"{"file":true}"#);
    assert_eq!(gateway.get("/missing").status, 500);
    for (path, status, body) in [
        ("/files/sub/b.txt", 200, "below"),
        ("/files/", 200, "<p>home"),
        ("/files/missing", 404, "404 page not found"),
        ("/files/.env", 404, "404 page not found"),
        ("/old/sub/b.txt", 200, "below"),
    ] {
        let response = gateway.get(path);
        assert_eq!(
            (response.status, &*response.text()),
            (status, body),
            "{path}"
        );
    }
    let part = gateway.get_with("/files/sub/b.txt", &[("Range", "bytes=0-1")]);
    assert_eq!((part.status, &*part.text()), (206, "be"));
    let tag = gateway
        .get("/files/a.json")
        .header("etag")
        .unwrap()
        .to_owned();
    let known = gateway.get_with("/files/a.json", &[("If-None-Match", &tag)]);
    assert_eq!(known.status, 304);
    for path in ["/files/%2e%2e/krakend.json", "/files/..%2fkrakend.json"] {
        assert_eq!(gateway.get(path).status, 404, "{path}");
    }
    let mut posted = of("/post", "/a.json", "json", block);
    posted["method"] = json!("POST");
    is_rejected(
        &file(&[posted.clone()], json!({})),
        &SITE,
        "cannot be the response to POST",
    );
    posted["backend"][0]["method"] = json!("GET");
    starts(&file(&[posted], json!({})), &SITE, "Syntax OK!");
}

#[test]
fn files_change_while_the_gateway_runs() {
    let text = serving(json!({ "prefix": "/media", "path": "site", "directory_listing": true }));
    let gateway = Gateway::start_with(&text.to_string(), &SITE);
    let site = gateway.dir().join("site");
    fs::write(site.join("sub/new.txt"), "new").unwrap();
    assert_eq!(gateway.get("/media/sub/new.txt").text(), "new");
    let page = gateway.get("/media/sub/").text();
    assert!(page.contains("new.txt") && page.contains("b.txt"), "{page}");
    std::os::unix::fs::symlink("../../krakend.json", site.join("sub/link")).unwrap();
    assert_eq!(gateway.get("/media/sub/link").status, 404);
}

#[test]
fn response_headers_of_the_service_are_on_every_file() {
    let large = "x".repeat(300_000);
    let files = [("site/large.txt", &*large), ("site/small.txt", "small")];
    let mut text = serving(json!({ "prefix": "/media", "path": "site" }));
    text["extra_config"]["modifier/response-headers"] = json!({ "add": { "X-Site": ["yes"] } });
    let gateway = Gateway::start_with(&text.to_string(), &files);
    for path in ["/media/large.txt", "/media/small.txt", "/media/missing"] {
        assert_eq!(gateway.get(path).header("x-site"), Some("yes"), "{path}");
    }
    let head = gateway.send("HEAD", request("HEAD", "/media/small.txt", &[]));
    assert_eq!(head.header("x-site"), Some("yes"));
}

/// Each thread keeps memory that nothing charges, and a slow client may take minutes.
#[test]
fn clients_that_read_a_large_file_slowly_have_no_thread_each() {
    let large = "x".repeat(30_000_000);
    let files = [("site/large.txt", &*large), ("site/small.txt", "small")];
    let mut text = serving(json!({ "prefix": "/media", "path": "site" }));
    let mut called = endpoint("/called", "", "/small.txt", "no-op");
    called["backend"] = json!([{ "url_pattern": "/small.txt", "encoding": "no-op",
        "extra_config": { "backend/static-filesystem": { "path": "site" } } }]);
    text["endpoints"].as_array_mut().unwrap().push(called);
    let gateway = Gateway::start_with(&text.to_string(), &files);
    let folder = format!("/proc/{}/task", gateway.pid());
    let threads = || fs::read_dir(&folder).unwrap().count();
    let before = threads();
    let mut clients: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut client = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
            let head = request("GET", "/media/large.txt", &[]);
            client.write_all(head.as_bytes()).unwrap();
            client
        })
        .collect();
    let mut piece = vec![0; 300_000];
    for client in &mut clients {
        client.read_exact(&mut piece).unwrap();
        assert!(piece.starts_with(b"HTTP/1.1 200") && piece.ends_with(b"xxx"));
    }
    // Threads that have nothing to do end only after ten seconds. A few more than there are turns are made, because a turn
    // ends shortly before its thread is free.
    let more = threads() - before;
    assert!(more < 80, "{more} more threads");
    // They hold nothing that another request waits for.
    for path in ["/media/small.txt", "/called"] {
        assert_eq!(gateway.get(path).text(), "small", "{path}");
    }
    // A client that reads on gets the file.
    let mut rest = vec![0; large.len() - piece.len()];
    clients[0].read_exact(&mut rest).unwrap();
    assert!(rest.iter().all(|byte| *byte == b'x'));
}
